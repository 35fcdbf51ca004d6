"""Handing a curriculum over: every document is in the files of its group or counted, and other loaders read them."""

import json
import os
import re
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from corpora import FORMATS, rows, sharded, target_rows, tree, write
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.cli import main
from curate.curriculum import handover
from curate.curriculum.handover import export, folder_names
from curate.curriculum.split import NONE, UNNAMED, ByTable, by_bytes
from curate.errors import InputError, RunError, UsageError
from curate.io.corpus import scan
from curate.io.curriculum import Curriculum, write_curriculum
from curate.io.formats import read
from curate.steps.documents import documents

WEIGHTS = {"maths": 3.0, "cooking": 1.0, "news": 0.0}


@pytest.fixture
def raw(tmp_path):
    return sharded(tmp_path / "raw", [r | {"n": i} for i, r in enumerate(rows(60))], 3, "jsonl")


@pytest.fixture
def weights(tmp_path):
    return curriculum(tmp_path / "curriculum", WEIGHTS)


def curriculum(folder, of, column="source", **about):
    folder.mkdir(exist_ok=True)
    write_curriculum(folder, Curriculum.of(of, method="hand", **({"column": column} if column else {}), **about))
    return folder


def read_back(made, name) -> list[dict]:
    """The documents of a group, from Parquet or JSON Lines."""
    of = made.groups[name]
    corpus = scan([made.out / of.folder / file for file in of.files])
    return [row for p in corpus.partitions for batch in read(corpus, p, None) for row in batch.table.to_pylist()]


def proportions(made, stage=0) -> dict:
    found = json.loads(made.mixes[stage].read_text())
    return dict(zip(found["names"], found["probabilities"], strict=True))


@pytest.mark.parametrize("form", [f for f in FORMATS if not f.endswith(".gz")])
@pytest.mark.parametrize("split", ["parquet", "jsonl.zst"])
def test_each_document_of_a_weighty_group_is_in_its_files_in_the_order_of_the_corpus(tmp_path, weights, form, split):
    given = [{k: str(v) if "csv" in form else v for k, v in r.items()} | {"more": "x"} for r in rows(60)]
    made = export(weights, sharded(tmp_path / "raw", given, 3, form), to="hf", out=tmp_path / "out", split_format=split)
    assert proportions(made) == {"maths": 0.75, "cooking": 0.25}
    assert made.left_out == {"no_group": 0, "unnamed": 0, "weight_0": 20, "no_text": 0, "bad_row": 0}
    for name in ("maths", "cooking"):
        found = read_back(made, name)
        assert found == [row for row in given if row["source"] == name]
        assert made.groups[name].documents == len(found) == 20
        assert made.groups[name].bytes == sum(len(row["text"].encode()) for row in found)


def test_documents_that_are_left_out_are_counted_by_why(tmp_path, weights):
    given = [*rows(6), {"id": "a", "text": "x", "source": None}, {"id": "b", "text": "x", "source": "Maths"},
             {"id": "c", "text": "", "source": "maths"}, {"id": "d", "text": None, "source": "maths"}]  # fmt: skip
    raw = write(tmp_path / "raw.jsonl", "".join(json.dumps(r) + "\n" for r in given).encode() + b"{bad\n")
    made = export(weights, raw, to="hf", out=tmp_path / "out", on_bad_row="quarantine")
    assert made.left_out == {"no_group": 1, "unnamed": 1, "weight_0": 2, "no_text": 2, "bad_row": 1}
    assert made.unnamed == ("Maths",)
    assert pq.read_table(tmp_path / "out" / "quarantine.parquet").num_rows == 1
    with pytest.raises(InputError, match="line 11: not JSON"):
        export(weights, raw, to="hf", out=tmp_path / "out2")


def test_columns_that_only_some_files_have_are_null_elsewhere(tmp_path, weights):
    folder = tmp_path / "raw"
    folder.mkdir()
    first, second = rows(6), [r | {"id": f"e{i}", "score": 0.5} for i, r in enumerate(rows(6))]
    write(folder / "a.jsonl", first)
    write(folder / "b.parquet", second)
    made = export(weights, folder, to="hf", out=tmp_path / "out")
    assert [row["score"] for row in read_back(made, "maths")] == [None, None, 0.5, 0.5]
    assert export(weights, folder, to="mds", out=tmp_path / "mds").groups["maths"].documents == 4
    index = json.loads((tmp_path / "mds" / "mds" / "maths" / "index.json").read_text())
    assert index["shards"][0]["column_names"] == ["id", "score", "source", "text"]
    assert index["shards"][0]["column_encodings"] == ["str", "json", "str", "str"]


@pytest.mark.parametrize("to", ["hf", "megatron", "mds"])
def test_columns_of_mixed_kinds_are_carried_as_text(tmp_path, to):
    weights = curriculum(tmp_path / "curriculum", {"x": 1.0})
    metas = [{"a": 1, "z": [{"k": 1}]}, {"b": "q", "c": {"d": None}}, "flat", None]
    given = [{"id": f"d{i}", "text": "t", "source": "x", "meta": meta} for i, meta in enumerate(metas)]
    folder = tmp_path / "raw"
    folder.mkdir()
    for i, row in enumerate(given):
        write(folder / f"{i}.jsonl", [row])
    made = export(weights, folder, to=to, out=tmp_path / "out")
    assert made.groups["x"].documents == 4
    if to != "mds":
        found = [row["meta"] for row in read_back(made, "x")]
        assert [json.loads(m) for m in found[:2]] == metas[:2]
        assert found[2:] == metas[2:]


@pytest.mark.parametrize("to", ["hf", "megatron", "mds"])
def test_bytes_depend_on_neither_workers_nor_memory(tmp_path, raw, weights, to, monkeypatch):
    monkeypatch.setattr(handover, "ROW_GROUP_BYTES", 1_000)
    monkeypatch.chdir(tmp_path)
    for name, workers, memory in (("a", 1, "700MB"), ("b", 3, "4GB")):
        made = export(weights, raw, to=to, out=name, workers=workers, memory_limit=memory, shard_size=3_000)
        assert all(len(of.files) > 1 for of in made.groups.values())
    a, b = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == (["blend.txt"] if to == "megatron" else [])  # it names out


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 60), st.data())
def test_tables_of_so_many_bytes_are_the_same_wherever_they_were_cut_before(lengths, limit, data):
    whole = pa.table({"text": ["x" * n for n in lengths]})
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(lengths)), max_size=4))), len(lengths)]
    parts = (whole.slice(a, b - a) for a, b in pairwise(cuts))
    found = [([len(t) for t in table["text"].to_pylist()], size) for table, size in by_bytes(parts, "text", limit)]
    assert [n for some, _ in found for n in some] == lengths
    assert all(sum(some) == size and (size <= limit or len(some) == 1) for some, size in found)
    assert all(size + following[0] > limit for (_, size), (following, _) in pairwise(found))


# ---- which group


@given(st.dictionaries(st.text(max_size=6), st.sampled_from(["a", "b", "other", None]), max_size=40))
@settings(max_examples=30)
def test_a_looked_up_group_is_that_of_the_table(tmp_path_factory, groups):
    folder = tmp_path_factory.mktemp("groups")
    twice = [*groups.items()] * 2
    table = {"doc_id": pa.array([i for i, _ in twice], pa.string()), "group": pa.array([g for _, g in twice])}
    pq.write_table(pa.table(table).cast(pa.schema([("doc_id", pa.string()), ("group", pa.string())])),
                   folder / "groups.parquet", row_group_size=7)  # fmt: skip
    names = pa.array(["a", "b"], pa.large_string())
    asked = [*groups, "not there"]
    corpus = scan([write(folder / "raw.jsonl", [{"id": i or "-", "text": "x"} for i in asked])])
    (batch,) = read(corpus, corpus.partitions[0], None)
    docs = documents(corpus, corpus.partitions[0], batch, ())
    found, _ = ByTable.read(folder / "groups.parquet", names).groups(docs)
    places = {"a": 0, "b": 1, "other": UNNAMED, None: NONE}
    expected = [places[groups.get(i or "-")] if (i or "-") in groups else NONE for i in asked]
    assert found.tolist() == expected


def test_groups_beside_the_curriculum_are_used_where_there_is_no_column(tmp_path, raw):
    folder = curriculum(tmp_path / "curriculum", {"even": 1, "odd": 1}, column=None)
    ids = [f"d{i}" for i in range(50)][::-1]
    groups = ["odd" if int(i[1:]) % 2 else "even" for i in ids]
    pq.write_table(pa.table({"doc_id": ids, "group": groups, "z": range(50)}), folder / "groups.parquet")
    made = export(folder, raw, to="hf", out=tmp_path / "out")
    assert {row["id"] for row in read_back(made, "odd")} == {f"d{i}" for i in range(1, 50, 2)}
    assert made.left_out["no_group"] == 10
    pq.write_table(pa.table({"doc_id": ["d1", "d2", "d1"], "group": ["odd", "odd", "even"]}), folder / "groups.parquet")
    with pytest.raises(InputError, match="a doc_id occurs twice"):
        export(folder, raw, to="hf", out=tmp_path / "out2")
    pq.write_table(pa.table({"doc_id": ["d1"], "domain": ["odd"]}), folder / "groups.parquet")
    with pytest.raises(InputError, match="must have the columns doc_id and group"):
        export(folder, raw, to="hf", out=tmp_path / "out2", overwrite=True)


HOSTILE = ["../../etc/passwd", "/", "..", ".", "", " ", "a\0b", "A", "a", "con/x", "\u202e", "\u00e9", "e\u0301",
           "x" * 5_000, "\U0001f600", "groups", "-rf", "a\nb", "$(id)", "'; rm", "a" * 40, "a" * 41, "_x",
           ".x"]  # fmt: skip


@given(st.lists(st.one_of(st.text(), st.sampled_from(HOSTILE)), unique=True))
def test_folder_names_are_plain_and_differ_even_without_case(names):
    found = folder_names(names)
    assert len({name.lower() for name in found.values()}) == len(names)
    for name in found.values():
        assert re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,58}[a-z0-9])?", name), name
        assert name == folder_names([name])[name] or re.search("-[0-9a-f]{16}$", name)


def test_hostile_groups_stay_in_the_folder(tmp_path):
    given = [{"id": str(i), "text": f"text {i}", "source": name} for i, name in enumerate(HOSTILE)]
    weights = curriculum(tmp_path / "curriculum", dict.fromkeys(HOSTILE, 1.0))
    before = {p.name for p in tmp_path.iterdir()}
    made = export(weights, write(tmp_path / "raw.parquet", given), to="mds", out=tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {*before, "raw.parquet", "out"}
    assert len({of.folder for of in made.groups.values()}) == len(HOSTILE)
    assert list(made.groups) == HOSTILE
    assert sum(of.documents for of in made.groups.values()) == len(HOSTILE)
    assert len(list((tmp_path / "out" / "mds").iterdir())) == len(HOSTILE)


# ---- again, and after a kill


def test_other_weights_write_only_the_proportions(tmp_path, raw, weights):
    export(weights, raw, to="hf", out=tmp_path / "out")
    shard = tmp_path / "out" / "groups" / "maths" / "part-00000.parquet"
    before = shard.stat().st_mtime_ns
    curriculum(weights, {"maths": 1.0, "cooking": 1.0, "news": 0.0})
    made = export(weights, raw, to="hf", out=tmp_path / "out")
    assert proportions(made) == {"maths": 0.5, "cooking": 0.5}
    assert shard.stat().st_mtime_ns == before
    shard.unlink()
    export(weights, raw, to="hf", out=tmp_path / "out")
    assert shard.exists()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("to", ["hf", "mds"])
def test_an_export_stopped_at_any_file_goes_on_to_the_same_bytes(tmp_path, raw, weights, to, after, monkeypatch):
    """At its k-th file, before or after it has its name, for every k."""
    monkeypatch.chdir(tmp_path)
    export(weights, raw, to=to, out="whole")
    whole, real, left = tree(tmp_path / "whole"), os.replace, 0

    def replace(*of):
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise KeyboardInterrupt
        real(*of)
        if left == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    for k in range(1, 100):
        out, left = Path(f"out-{k}"), k
        try:
            export(weights, raw, to=to, out=out, workers=1)
        except KeyboardInterrupt:
            left = 0
            export(weights, raw, to=to, out=out)
        if left > 0:
            break
        assert tree(tmp_path / out) == whole
    assert k > len(whole)


def test_an_export_that_was_killed_while_it_cleared_leaves_nothing_of_the_other(tmp_path, raw, weights, monkeypatch):
    export(weights, raw, to="hf", out=tmp_path / "out", split_format="jsonl.zst")
    monkeypatch.setattr(handover.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(weights, raw, to="hf", out=tmp_path / "out", overwrite=True)
    monkeypatch.undo()
    export(weights, raw, to="hf", out=tmp_path / "out")
    assert {p.suffix for p in (tmp_path / "out" / "groups").rglob("part-*")} == {".parquet"}


def test_other_documents_are_not_mixed_with_those_there(tmp_path, raw, weights):
    export(weights, raw, to="hf", out=tmp_path / "out")
    other = write(tmp_path / "other.jsonl", rows(9))
    with pytest.raises(RunError, match="--overwrite"):
        export(weights, other, to="hf", out=tmp_path / "out")
    made = export(weights, other, to="mds", out=tmp_path / "out", overwrite=True)
    assert made.groups["maths"].documents == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["export.json", "mds", "streams.json"]
    (tmp_path / "mine").mkdir()
    for name, text in (("notes.txt", "mine"), ("export.json", '{"mine": 1}'), ("export.json", "[]")):
        (tmp_path / "mine" / name).write_text(text)
        with pytest.raises(RunError, match="not an export"):
            export(weights, raw, to="hf", out=tmp_path / "mine", overwrite=True)
    with pytest.raises(UsageError, match="an input below --out"):
        export(weights, raw, to="hf", out=tmp_path / "raw")


# ---- what makes no sense


def test_weights_of_documents_are_refused_with_the_way_out(tmp_path, raw):
    write_curriculum(tmp_path, Curriculum("doc_id", pa.array(["d1"]), np.array([0]), np.array([1.0])))
    with pytest.raises(UsageError, match=r"weights of documents.*curate\.torch"):
        export(tmp_path, raw, to="hf", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"to": "hff"}, "did you mean 'hf'"),
        ({"stage": 1}, "stages 0 to 0"),
        ({"column": "sources"}, "did you mean 'source'"),
        ({"to": "megatron", "out": "a b"}, "spaces"),
        ({"to": "megatron", "split_format": "parquet"}, r"pass jsonl\.zst"),
        ({"to": "mds", "split_format": "parquet"}, "leave it out"),
        ({"to": "mds", "compression": "lz4"}, "none, zstd"),
        ({"to": "mds", "shard_size": "8GB"}, "4,294,967,295"),
        ({"compression": "zstd"}, "is of mds"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_before_anything_is_written(tmp_path, raw, weights, words, message):
    words = {"to": "hf"} | words | {"out": tmp_path / words.get("out", "out")}
    with pytest.raises(UsageError, match=message):
        export(weights, raw, **words)
    assert not words["out"].exists()


def test_a_curriculum_that_does_not_say_its_column_asks_for_it(tmp_path, raw):
    weights = curriculum(tmp_path / "curriculum", WEIGHTS, column=None)
    with pytest.raises(UsageError, match=r"--column.*groups\.parquet"):
        export(weights, raw, to="hf", out=tmp_path / "out")
    assert export(weights, raw, to="hf", out=tmp_path / "out", column="source").groups["maths"].documents == 20


def test_a_group_without_documents_is_told_with_the_nearest_and_left_out_when_asked(tmp_path, raw):
    weights = curriculum(tmp_path / "curriculum", {"mathss": 0.5, "cooking": 0.25, "news": 0.25})
    with pytest.raises(InputError, match=r"1 of 3 groups.*'mathss'; did you mean 'maths'\?.*--skip-empty"):
        export(weights, raw, to="hf", out=tmp_path / "out")
    made = export(weights, raw, to="hf", out=tmp_path / "out", skip_empty=True)
    assert proportions(made) == {"cooking": 0.5, "news": 0.5}
    assert made.without_documents == ("mathss",)
    with pytest.raises(InputError, match="--skip-empty"):
        export(weights, raw, to="hf", out=tmp_path / "out")
    nothing = curriculum(tmp_path / "nothing", {"x": 1.0})
    with pytest.raises(InputError, match="name the groups as the documents do"):
        export(nothing, raw, to="hf", out=tmp_path / "out2", skip_empty=True)


# ---- stages, runs, the command


def test_stages_share_the_files_of_groups_and_have_proportions_of_their_own(tmp_path, raw):
    weights = curriculum(tmp_path / "curriculum", [{"maths": 1.0}, {"maths": 0.25, "cooking": 0.75}])
    made = export(weights, raw, to="hf", out=tmp_path / "out")
    assert [path.name for path in made.mixes] == ["interleave-stage-0.json", "interleave-stage-1.json"]
    assert [proportions(made, stage) for stage in (0, 1)] == [{"maths": 1.0}, {"maths": 0.25, "cooking": 0.75}]
    assert made.left_out["unnamed"] == 20
    made = export(weights, raw, to="hf", out=tmp_path / "out", stage=1)
    assert [path.name for path in made.mixes] == ["interleave.json"]
    assert not list((tmp_path / "out").glob("interleave-stage-*"))
    with pytest.raises(RunError, match="--overwrite"):
        export(weights, raw, to="hf", out=tmp_path / "out", stage=0)  # cooking is not in its files


def test_a_run_is_handed_over_with_its_columns(tmp_path, weights):
    given = [{"name": r["id"], "body": r["text"], "source": r["source"]} for r in rows(60)]
    raw, target = write(tmp_path / "raw.jsonl", given), write(tmp_path / "target.jsonl", target_rows())
    curate.select(raw, target=target, budget=30, out=tmp_path / "run", text_column="body", id_column="name",
                  target_text_column="text", draw="uniform", settings={"n_buckets": 500})  # fmt: skip
    made = export(weights, tmp_path / "run", to="megatron", out=tmp_path / "out")
    assert sum(of.documents for of in made.groups.values()) + made.left_out["weight_0"] == 30
    assert "tokens_body_document" in made.mixes[0].read_text()
    assert "--json-keys body" in made.how
    curriculum(tmp_path / "run", WEIGHTS)  # and the curriculum in its own folder
    again = export(tmp_path / "run", tmp_path / "run", to="megatron", out=tmp_path / "out")
    assert again.groups == made.groups


def test_megatron_gets_a_normalised_list_of_weights_and_prefixes(tmp_path, raw, weights):
    made = export(weights, raw, to="megatron", out=tmp_path / "out")
    words = made.mixes[0].read_text().split()
    each = {name: of.bytes / of.documents for name, of in made.groups.items()}  # Megatron counts tokens
    wanted = np.array([0.75 * each["maths"], 0.25 * each["cooking"]])
    np.testing.assert_allclose(list(map(float, words[::2])), wanted / wanted.sum())
    assert [Path(prefix).parent for prefix in words[1::2]] == [
        tmp_path / "out" / "groups" / n for n in ("maths", "cooking")
    ]
    assert all(list(Path(prefix).parent.glob("*.jsonl.zst")) for prefix in words[1::2])


def curate_(*words):
    return CliRunner().invoke(main, ["curriculum", "export", *map(str, words)])


def test_the_command_prints_what_was_written_and_warns_of_what_was_not(tmp_path, raw, weights):
    done = curate_(weights, raw, "--to", "hf", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "40 documents in 2 groups" in done.stdout
    assert "interleave_datasets(" in done.stdout
    assert "warning: 20 documents are in groups of weight 0" in done.stderr
    found = json.loads(curate_(weights, raw, "--to", "hf", "--out", tmp_path / "out", "--json").stdout)
    assert found["groups"]["maths"]["documents"] == 20
    assert curate_(weights, raw, "--to", "hf", "--out", tmp_path / "o", "--column", "sorce").exit_code == 2


def test_the_command_takes_the_folder_of_a_run(tmp_path, raw, weights):
    target = write(tmp_path / "t.jsonl", target_rows())
    curate.select(raw, target=target, budget=30, out=tmp_path / "run", settings={"n_buckets": 500})
    done = curate_(weights, tmp_path / "run", "--to", "hf", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    kept = [row["source"] for row in pq.read_table(tmp_path / "run" / "shards").to_pylist()]
    assert json.loads(done.stdout)["groups"]["maths"]["documents"] == kept.count("maths")


# ---- with the packages that read them


@pytest.mark.reference
@pytest.mark.parametrize("split", ["parquet", "jsonl.zst"])
def test_datasets_mixes_the_groups_in_proportion(tmp_path, raw, weights, split, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    made = export(weights, raw, to="hf", out=tmp_path / "o'ut", split_format=split)
    there: dict = {}
    exec(made.how, there)
    drawn = list(islice(there["data"], 60))
    share = Counter(row["source"] for row in drawn)["maths"] / len(drawn)
    assert abs(share - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 60)
    given = {row["id"]: row for name in ("maths", "cooking") for row in read_back(made, name)}
    assert all(given[row["id"]] == row for row in drawn)


@pytest.mark.reference
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_streaming_mixes_the_groups_in_proportion(tmp_path, raw, weights, compression, monkeypatch):
    """`tests/test_mds.py` says how to get the package."""
    streaming = pytest.importorskip("streaming", reason="mosaicml-streaming is not installed", exc_type=ImportError)
    streaming.base.util.clean_stale_shared_memory()
    made = export(weights, raw, to="mds", out=tmp_path / "o'ut", compression=compression)
    there: dict = {}
    exec(made.how, there)
    drawn = list(there["data"])
    assert Counter(row["source"] for row in drawn) == {"maths": 30, "cooking": 10}
    given = {row["id"]: row for row in (r | {"n": i} for i, r in enumerate(rows(60)))}
    assert all(given[row["id"]] == dict(row) for row in drawn)
