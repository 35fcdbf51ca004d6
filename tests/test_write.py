"""Write: shards, the dataset card, the Croissant description."""

import itertools
import json
import re

import pyarrow.parquet as pq
import pytest
from corpora import jsonl_shards, rows, select, sharded, shards, write

import curate.steps.write as write_module
from curate.report.card import croissant, dataset_card, plain, size_category

LONG = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture
def raw(tmp_path):
    return sharded(tmp_path / "raw", rows(90), 4)


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
@pytest.mark.parametrize("shard_size", [1, 400, 1_000, 5_000, "1MB"])
def test_shards_are_cut_by_bytes_of_text_and_hold_every_document_once_in_order(raw, tmp_path, form, shard_size):
    result = select(raw, tmp_path / "out", budget=40, shard_size=shard_size, format=form)
    found, sizes = [], []
    for path in result.shards:
        only = tmp_path / "one" / path.name / "shards"
        only.mkdir(parents=True)
        (only / path.name).symlink_to(path)
        part = pq.read_table(path).to_pylist() if form == "parquet" else jsonl_shards(only.parent)
        sizes.append([len(row["text"].encode()) for row in part])
        found += part
    limit = 10**6 if shard_size == "1MB" else shard_size
    assert all(sum(of) <= limit or len(of) == 1 for of in sizes)
    assert all(sum(a) + b[0] > limit for a, b in itertools.pairwise(sizes))
    places = {row["id"]: i for i, row in enumerate(rows(90))}
    order = [places[row["id"]] for row in found]
    assert order == sorted(set(order))
    assert len(order) == 40
    assert [row["text"] for row in found] == [rows(90)[i]["text"] for i in order]


def test_the_manifest_counts_what_the_shards_hold(raw, tmp_path):
    manifest = select(raw, tmp_path / "out", budget=40, shard_size=1_000).manifest
    for shard in manifest["shards"]:
        path = tmp_path / "out" / shard["path"]
        assert (shard["rows"], shard["bytes"]) == (pq.read_metadata(path).num_rows, path.stat().st_size)
    assert sum(shard["tokens"] for shard in manifest["shards"]) == manifest["stats"]["n_tokens_selected"]
    assert sum(shard["rows"] for shard in manifest["shards"]) == manifest["stats"]["n_selected"] == 40


def test_row_groups_hold_no_more_text_than_they_may(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(write_module, "ROW_GROUP_BYTES", 900)
    select(raw, tmp_path / "out", budget=40)
    file = pq.ParquetFile(tmp_path / "out" / "shards" / "part-00000.parquet")
    sizes = [
        sum(len(text.encode()) for text in file.read_row_group(i)["text"].to_pylist())
        for i in range(file.num_row_groups)
    ]
    assert len(sizes) > 5
    assert max(sizes) <= 900
    assert file.metadata.num_rows == 40


@pytest.mark.parametrize("of", ["parquet", "jsonl", "csv"])
def test_json_lines_and_parquet_shards_hold_the_same(tmp_path, of):
    sharded(tmp_path / "raw", rows(30), 2, of)
    select(tmp_path / "raw", tmp_path / "p", budget=10)
    select(tmp_path / "raw", tmp_path / "j", budget=10, format="jsonl.zst")
    assert shards(tmp_path / "p").to_pylist() == jsonl_shards(tmp_path / "j")


def test_scores_in_the_shards_are_those_of_the_score_table(raw, tmp_path):
    from corpora import ledger

    select(raw, tmp_path / "out", budget=40)
    wanted = {row["doc_id"]: row["score"] for row in ledger(tmp_path / "out") if row["kept"]}
    assert {row["id"]: row["curate_score"] for row in shards(tmp_path / "out").to_pylist()} == wanted


# ---- the dataset card


def front_matter(text):
    yaml = pytest.importorskip("yaml")
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
def test_the_card_has_front_matter_that_says_where_the_data_is(raw, tmp_path, form):
    select(raw, tmp_path / "out", format=form)
    head = front_matter((tmp_path / "out" / "README.md").read_text())
    (config,) = head["configs"]
    (split,) = config["data_files"]
    assert split["split"] == "train"
    assert sorted((tmp_path / "out").glob(split["path"])) == sorted((tmp_path / "out" / "shards").iterdir())
    assert head["size_categories"] == ["n<1K"]


@pytest.mark.parametrize(
    ("n", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**8, "100M<n<1B"), (10**13, "n>1T")],
)
def test_size_categories_are_those_of_hugging_face(n, name):
    assert size_category(n) == name


EVIL = '</td><script>alert("x")</script> | [a](http://b) ![c](d) `e` *f*\n---\n# g'


def test_names_and_values_cannot_do_harm_in_the_card(tmp_path):
    of = [row | {"source": EVIL if i % 2 else "a|b"} for i, row in enumerate(rows(40))]
    write(tmp_path / "raw" / "a.jsonl", of)
    select(tmp_path / "raw", tmp_path / "out", name=EVIL, target={EVIL: write(tmp_path / "t.jsonl", rows(40))})
    text = (tmp_path / "out" / "README.md").read_text()
    assert front_matter(text)["tags"] == ["curate"]
    body = text.split("---\n", 2)[2].replace("<!-- curate: measured -->\n<!-- /curate -->", "", 1)
    assert "alert" in body
    for harmful in (r"(?<!\\)<", r"(?<!\\)>", r"(?<!\\)!\[", r"(?<!\\)\[(?!curate)", r"\n---\n", r"\n# g"):
        assert not re.search(harmful, body), harmful
    rows_of_sources = body.split("| source | raw | selected |\n")[1].split("\n\n")[0].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows_of_sources} == {4}
    json.loads((tmp_path / "out" / "croissant.json").read_text())


def test_what_is_cut_off_never_ends_in_half_an_escape():
    for n in range(195, 203):
        cut = plain("x" * n + "|" * 9)
        assert len(re.search(r"\\*$", cut)[0]) % 2 == 0


def test_the_card_tells_the_warnings(raw, tmp_path):
    result = select(raw, tmp_path / "out", budget=1_000)
    text = (tmp_path / "out" / "README.md").read_text()
    assert len(re.findall(r"^- ", text.split("## Warnings\n\n")[1], re.MULTILINE)) == len(result.warnings) > 0
    assert "all 90 documents" in text


# ---- Croissant


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
def test_the_croissant_description_is_valid_and_its_records_are_the_shards(raw, tmp_path, form):
    mlcroissant = pytest.importorskip("mlcroissant")
    select(raw, tmp_path / "out", budget=10, shard_size=700, format=form)
    dataset = mlcroissant.Dataset(str(tmp_path / "out" / "croissant.json"))
    assert dataset.metadata.issues.errors == set()
    if form == "parquet":
        found = {record["documents/id"].decode(): record for record in dataset.records("documents")}
        wanted = {row["id"]: row for row in shards(tmp_path / "out").to_pylist()}
        assert found.keys() == wanted.keys()
        for key, row in wanted.items():
            assert found[key]["documents/text"].decode() == row["text"]
            assert found[key]["documents/curate_score"] == row["curate_score"]


def test_columns_of_odd_names_get_distinct_names_in_croissant(tmp_path):
    write(tmp_path / "raw" / "a.parquet", [{"text": LONG, "a b": 1, "a-b": 2, "a/b": 3, "\u00e9": 4, "n": [1]}])
    result = select(tmp_path / "raw", tmp_path / "out", budget=1, settings={"min_tokens": 0})
    found = croissant(result.manifest, pq.read_schema(result.shards[0]))
    fields = found["recordSet"][0]["field"]
    ids = [field["@id"] for field in fields]
    assert len(set(ids)) == len(ids)
    columns = [field["source"]["extract"]["column"] for field in fields]
    assert columns == ["text", "a b", "a-b", "a/b", "\u00e9", "curate_score", "curate_weight"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", field["name"]) for field in fields)


def test_the_same_manifest_gives_the_same_card(raw, tmp_path):
    result = select(raw, tmp_path / "out")
    assert dataset_card(result.manifest) == (tmp_path / "out" / "README.md").read_text()
