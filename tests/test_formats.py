"""Formats: the same documents whatever they are stored in, and every column carried through."""

import base64
import datetime as dt
import gzip
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpora import FORMATS, encoded, jsonl_shards, kept_ids, read_all, rows, scores, select, shards, table_bytes, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.engines.resources import Resources
from curate.errors import InputError
from curate.io.corpus import scan

LONG = "one two three four five six seven eight nine ten eleven twelve"
ANY = {"budget": "100%", "settings": {"min_tokens": 0}}
TEXTS = st.lists(st.text(max_size=20), min_size=1, max_size=8)


def carried(out):
    return shards(out).drop_columns(["curate_score", "curate_weight"])


# ---- the same documents


@given(TEXTS)
@example(["", "\0", "\r", "\r\n", "\n", '"', '""', "\\", ",", "\u2028", "\x85", "\U0001f600", "\ufeff", " ", "\x1f"])
@settings(max_examples=40)
def test_every_format_gives_the_same_texts(tmp_path_factory, texts):
    of = [{"id": f"i{i}", "text": t} for i, t in enumerate(texts)]
    wanted = [(i, row) for i, row in enumerate(of)]
    for form in FORMATS:
        folder = tmp_path_factory.mktemp("raw")
        write(folder / f"a.{form}", of)
        assert [(i, row) for _, i, row in read_all(scan([folder]), ["id", "text"])] == wanted, form


@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=20), min_size=1, max_size=8
    )
)
@settings(max_examples=30)
def test_a_line_of_plain_text_is_a_document_and_blank_ones_are_not(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("raw")
    write(folder / "a.txt", [{"text": t} for t in texts])
    wanted = [(i, {"text": t, "id": None}) for i, t in enumerate(texts) if t.encode().strip()]
    assert [(i, row) for _, i, row in read_all(scan([folder]), ["text", "id"])] == wanted


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt"])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_all_members_of_a_compressed_file_are_read(tmp_path, form, compress):
    data = encoded(form, [{"text": t} for t in ("a", "b", "c", "d")])
    ending = "gz" if compress is gzip.compress else "zst"
    write(tmp_path / f"a.{form}.{ending}", compress(data[:6]) + compress(data[6:9]) + compress(data[9:]))
    assert [row["text"] for *_, row in read_all(scan([tmp_path]), ["text"])] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("batch_bytes", [3, 7, 40, 10_000])
@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "json", "csv", "csv.zst", "txt", "parquet", "arrow"])
def test_batch_boundaries_do_not_matter(tmp_path, form, batch_bytes):
    write(tmp_path / f"a.{form}", rows(20))
    found = [(i, row["text"]) for _, i, row in read_all(scan([tmp_path]), ["text"], batch_bytes=batch_bytes)]
    assert found == [(i, row["text"]) for i, row in enumerate(rows(20))]


def test_csv_values_may_hold_newlines_quotes_and_commas_across_any_boundary(tmp_path):
    of = [{"id": str(i), "text": 'a "b"\n\n,c\r\n' * i} for i in range(12)]
    write(tmp_path / "a.csv", of)
    for batch_bytes in (20, 50, 200):
        assert [row for *_, row in read_all(scan([tmp_path]), ["id", "text"], batch_bytes=batch_bytes)] == of


def test_a_csv_row_may_be_longer_than_a_batch(tmp_path):
    of = [{"text": "short"}, {"text": "long " * 100}, {"text": "short again"}, {"text": "longer " * 1000}]
    write(tmp_path / "a.csv", of)
    found = read_all(scan([tmp_path]), ["text"], batch_bytes=32)
    assert [(i, row) for _, i, row in found] == list(enumerate(of))


def test_json_lines_in_a_json_file_are_read_as_lines(tmp_path):
    write(tmp_path / "a.json", encoded("jsonl", rows(3)))
    assert [row["id"] for *_, row in read_all(scan([tmp_path]), ["id"])] == ["d0", "d1", "d2"]


# ---- ids


@pytest.mark.parametrize("form", ["parquet", "jsonl", "json", "arrow", "txt"])
def test_a_missing_id_becomes_the_name_of_the_file_and_the_row(tmp_path, form):
    write(tmp_path / "raw" / "sub" / f"a.{form}", [{"text": LONG}, {"text": LONG}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert scores(tmp_path / "out")["doc_id"].to_pylist() == [f"sub/a.{form}#0", f"sub/a.{form}#1"]


def test_an_id_that_is_null_in_some_rows_is_made_only_there(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", [{"text": LONG, "id": "x"}, {"text": LONG, "id": None}, {"text": LONG}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert scores(tmp_path / "out")["doc_id"].to_pylist() == ["x", "a.jsonl#1", "a.jsonl#2"]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "json", "arrow", "csv"])
def test_a_number_as_id_is_its_digits(tmp_path, form):
    write(tmp_path / "raw" / f"a.{form}", [{"text": LONG, "id": 7}, {"text": LONG, "id": 2**62 + 1}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert scores(tmp_path / "out")["doc_id"].to_pylist() == ["7", str(2**62 + 1)]


def test_other_names_of_the_columns_are_passed_through(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", [{"body": LONG, "key": "k", "text": "no", "id": "no"}])
    select(tmp_path / "raw", tmp_path / "out", text_column="body", id_column="key", target_text_column="text", **ANY)
    row = scores(tmp_path / "out").to_pylist()[0]
    assert (row["doc_id"], row["n_bytes"]) == ("k", len(LONG))


# ---- text


@pytest.mark.parametrize("form", ["parquet", "jsonl", "json", "arrow"])
def test_a_document_without_text_has_a_row_no_score_and_a_reason(tmp_path, form):
    write(tmp_path / "raw" / f"a.{form}", [{"text": LONG}, {"text": None}, {"text": ""}])
    select(tmp_path / "raw", tmp_path / "out", budget="100%", settings={"min_tokens": 1})
    found = scores(tmp_path / "out")
    assert found["reason"].to_pylist() == [None, "no_text", "too_short"]
    assert [s is None for s in found["score"].to_pylist()] == [False, True, True]


STORED = {
    "plain": lambda a: a,
    "large": lambda a: a.cast(pa.large_string()),
    "dictionary": lambda a: a.dictionary_encode(),
    "view": lambda a: a.cast(pa.string_view()),
    "sliced": lambda a: pa.concat_arrays([pa.array(["x", None]), a, pa.array(["y"])]).slice(2, len(a)),
}


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("stored", STORED)
def test_text_and_ids_are_read_however_arrow_stores_them(tmp_path, form, stored):
    texts = pa.array([LONG, None, LONG + " thirteen", LONG])
    ids = pa.array(["a", "b", None, "an id of more than twelve bytes"])
    table = pa.table({"text": STORED[stored](texts), "id": STORED[stored](ids)})
    write(tmp_path / "raw" / f"a.{form}", table_bytes(form, table))
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    found = scores(tmp_path / "out").to_pylist()
    assert [row["doc_id"] for row in found] == ["a", "b", f"a.{form}#2", "an id of more than twelve bytes"]
    assert [row["n_bytes"] for row in found] == [len(LONG), 0, len(LONG) + 9, len(LONG)]
    assert shards(tmp_path / "out")["text"].to_pylist() == [LONG, LONG + " thirteen", LONG]


def test_text_that_is_not_text_is_an_error_that_names_column_and_kind(tmp_path):
    write(tmp_path / "raw" / "a.parquet", [{"text": 1}])
    with pytest.raises(InputError, match=r"a\.parquet: column 'text' is int64, not text"):
        select(tmp_path / "raw", tmp_path / "out")


# ---- other columns

WHEN = dt.datetime(2020, 1, 2, 3, 4, 5, 678901)
RICH = pa.table(
    {
        "text": [LONG, LONG],
        "nested": [[[1, 2], []], None],
        "struct": [{"a": {"b": ["x"]}, "c": 1.5}, None],
        "when": pa.array([WHEN, None], pa.timestamp("us")),
        "zoned": pa.array([WHEN, None], pa.timestamp("us", "UTC")),
        "day": [WHEN.date(), None],
        "small": pa.array([1, -2], pa.int8()),
        "big": pa.array([2**64 - 1, 0], pa.uint64()),
        "flag": [True, None],
        "kind": pa.array(["p", "q"]).dictionary_encode(),
        "view": pa.array(["p", None], pa.string_view()),
        "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        "nothing": pa.nulls(2),
    }
)
BINARY = RICH.append_column("bytes", pa.array([b"\xff\x00", None]))


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_other_columns_are_carried_through_to_parquet(tmp_path, form):
    write(tmp_path / "raw" / f"a.{form}", table_bytes(form, BINARY))
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    found = carried(tmp_path / "out")
    assert found.to_pylist() == BINARY.to_pylist()
    for field in BINARY.schema:
        if field.name not in ("view", "nothing", "kind", "text"):
            assert found.schema.field(field.name).type.equals(field.type), field.name


def test_other_columns_are_carried_through_to_json_lines(tmp_path):
    write(tmp_path / "raw" / "a.parquet", table_bytes("parquet", RICH))
    select(tmp_path / "raw", tmp_path / "out", format="jsonl.zst", **ANY)
    first, second = jsonl_shards(tmp_path / "out")
    assert (first["nested"], first["struct"]) == ([[1, 2], []], {"a": {"b": ["x"]}, "c": 1.5})
    assert (first["small"], first["big"], first["flag"]) == (1, 2**64 - 1, True)
    assert (first["kind"], first["view"], first["vector"]) == ("p", "p", [1.0, 2.0])
    assert dt.datetime.fromisoformat(first["when"]) == WHEN
    assert first["day"] == "2020-01-02"
    assert all(second[name] is None for name in ("nested", "struct", "when", "view", "vector", "nothing"))


def test_bytes_are_written_to_json_lines_in_base64(tmp_path):
    write(tmp_path / "raw" / "a.parquet", [{"text": LONG, "bytes": b"\xff\x00"}])
    select(tmp_path / "raw", tmp_path / "out", format="jsonl.zst", **ANY)
    assert base64.b64decode(jsonl_shards(tmp_path / "out")[0]["bytes"]) == b"\xff\x00"


def test_json_rows_keep_every_byte_in_json_lines(tmp_path):
    row = b'{"x" : 1.50, "text":"caf\\u00e9 \\ud83d\\ude00 }" ,"y":[1e3 ,{}], "n":12345678901234567890123}'
    write(tmp_path / "raw" / "a.jsonl", b"\n  " + row + b" \r\n")
    select(tmp_path / "raw", tmp_path / "out", format="jsonl.zst", **ANY)
    shard = (
        zstandard.ZstdDecompressor()
        .decompressobj()
        .decompress(next((tmp_path / "out" / "shards").iterdir()).read_bytes())
    )
    assert shard.startswith(row[:-1] + b',"curate_score": ')
    assert json.loads(shard)["y"] == [1000.0, {}]


MIXED = [1, "s", {"b": [1, 2]}, [1, "q"], None, 1.5, True]


def as_text(value):
    return value if value is None or isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("n_files", [1, len(MIXED)])
def test_a_json_column_of_several_kinds_becomes_text(tmp_path, n_files):
    for i, value in enumerate(MIXED):
        name = f"{i if n_files > 1 else 0}.jsonl"
        path = tmp_path / "raw" / name
        before = path.read_bytes() if path.exists() else b""
        write(path, before + encoded("jsonl", [{"text": LONG, "x": value}]))
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert shards(tmp_path / "out")["x"].to_pylist() == [as_text(value) for value in MIXED]


def test_whole_numbers_and_fractions_in_different_files_become_fractions(tmp_path):
    for i, value in enumerate([1, 2.5, None]):
        write(tmp_path / "raw" / f"{i}.jsonl", [{"text": LONG, "x": value}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert shards(tmp_path / "out")["x"].to_pylist() == [1.0, 2.5, None]


def test_objects_with_different_keys_become_one_with_all_of_them(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", [{"text": LONG, "m": {"a": 1}}, {"text": LONG, "m": {"b": "x"}}])
    write(tmp_path / "raw" / "b.jsonl", [{"text": LONG, "m": {"c": [1]}}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    nothing = {"a": None, "b": None, "c": None}
    wanted = [nothing | {"a": 1}, nothing | {"b": "x"}, nothing | {"c": [1]}]
    assert shards(tmp_path / "out")["m"].to_pylist() == wanted


@pytest.mark.parametrize("value", [{}, [{}], {"a": {}}, [], None, [None]])
def test_json_values_that_hold_nothing_can_be_written(tmp_path, value):
    write(tmp_path / "raw" / "a.jsonl", [{"text": LONG, "m": value}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    found = shards(tmp_path / "out")["m"].to_pylist()[0]
    assert found == value or json.loads(found) == value


def test_columns_missing_in_some_files_are_null_there(tmp_path):
    write(tmp_path / "raw" / "a.parquet", [{"text": LONG, "one": 1}])
    write(tmp_path / "raw" / "b.jsonl", [{"text": LONG, "two": [2]}])
    write(tmp_path / "raw" / "c.csv", [{"text": LONG, "three": "3"}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    found = carried(tmp_path / "out").to_pylist()
    assert [(row["one"], row["two"], row["three"]) for row in found] == [
        (1, None, None),
        (None, [2], None),
        (None, None, "3"),
    ]


def test_a_column_of_different_kinds_in_parquet_json_and_csv_becomes_text(tmp_path):
    write(tmp_path / "raw" / "a.parquet", [{"text": LONG, "x": 5}])
    write(tmp_path / "raw" / "b.jsonl", [{"text": LONG, "x": {"a": 1}}])
    write(tmp_path / "raw" / "c.csv", [{"text": LONG, "x": "7"}])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert shards(tmp_path / "out")["x"].to_pylist() == ["5", '{"a": 1}', "7"]


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
@pytest.mark.parametrize("of", ["parquet", "jsonl"])
def test_an_input_column_that_curate_writes_too_is_replaced(tmp_path, form, of):
    old = {"curate_score": 5000.0, "curate_weight": 7.0, "y": '"curate_'}
    write(tmp_path / "raw" / f"a.{of}", [{"text": LONG, **old}, {"text": LONG, "id": "x", **old}])
    select(tmp_path / "raw", tmp_path / "out", format=form, **ANY)
    found = shards(tmp_path / "out").to_pylist() if form == "parquet" else jsonl_shards(tmp_path / "out")
    assert [row["curate_weight"] for row in found] == [0.5, 0.5]
    assert all(math.isfinite(row["curate_score"]) and row["curate_score"] != 5000 for row in found)
    assert [row["y"] for row in found] == ['"curate_'] * 2


def test_a_selection_can_be_selected_from_and_names_its_parent(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", rows(30))
    first = select(tmp_path / "raw", tmp_path / "first", budget=20)
    second = select(tmp_path / "first" / "shards", tmp_path / "second", budget=5)
    assert second.manifest["parents"] == [
        {"uuid": first.manifest["uuid"], "recipe_sha256": first.manifest["recipe_sha256"]}
    ]
    assert shards(tmp_path / "second").column_names.count("curate_score") == 1


def test_an_arrow_stream_reads_like_an_arrow_file(tmp_path):
    of = pa.table({"id": [f"d{i}" for i in range(10)], "text": [f"{LONG} {i}" for i in range(10)]})
    (tmp_path / "raw").mkdir()
    with pa.OSFile(str(tmp_path / "raw" / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, of.schema) as writer:
        writer.write_table(of, max_chunksize=3)
    found = read_all(scan([tmp_path / "raw"]), ["id", "text"])
    assert [row["id"] for _, _, row in found] == of["id"].to_pylist()
    assert [row for _, row, _ in found] == list(range(10))


def test_an_empty_id_is_a_missing_one(tmp_path):
    write(tmp_path / "raw" / "a.csv", b"id,text\n," + LONG.encode() + b"\nx," + LONG.encode() + b"\n")
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert kept_ids(tmp_path / "out") == ["a.csv#0", "x"]


def test_categories_and_nested_sources_are_carried_through(tmp_path):
    rows_of = pa.table(
        {
            "id": [f"d{i}" for i in range(9)],
            "text": [LONG] * 9,
            "kind": pa.array(list("aabbccddd")).dictionary_encode(),
            "source": [{"url": f"u{i % 2}"} for i in range(9)],
        }
    )
    (tmp_path / "raw").mkdir()
    pq.write_table(rows_of, tmp_path / "raw" / "a.parquet", row_group_size=2)
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    assert sorted(shards(tmp_path / "out")["kind"].to_pylist()) == list("aabbccddd")
    assert set(scores(tmp_path / "out")["source"].to_pylist()) == {'{"url": "u0"}', '{"url": "u1"}'}


@pytest.mark.parametrize("batch_bytes", [400, 4_000_000])
def test_the_columns_of_json_rows_do_not_depend_on_batches(tmp_path, monkeypatch, batch_bytes):
    monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine: batch_bytes)
    values = [[1], ["x"], {"b": 1}, {"b": "x"}, [{"a": 1}], [{"a": "x"}]] * 3
    write(tmp_path / "raw" / "a.jsonl", [{"text": LONG, f"c{i % 3}": v} for i, v in enumerate(values)])
    select(tmp_path / "raw", tmp_path / "out", **ANY)
    kinds = {f.name: str(f.type) for f in shards(tmp_path / "out").schema if f.name.startswith("c")}
    monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine: 8_000_000)
    select(tmp_path / "raw", tmp_path / "whole", **ANY)
    assert kinds == {f.name: str(f.type) for f in shards(tmp_path / "whole").schema if f.name.startswith("c")}


@pytest.mark.parametrize("batch_bytes", [24, 8_000_000])
def test_a_json_row_without_any_column_is_a_row_without_text(tmp_path, batch_bytes):
    path = write(tmp_path / "a.jsonl", b'{"text": "some words"}\n{}\n{}\n{"text": "others"}\n')
    found = read_all(scan([path]), None, batch_bytes=batch_bytes)
    assert [(row, of["text"]) for _, row, of in found] == [(0, "some words"), (1, None), (2, None), (3, "others")]
    with pytest.raises(InputError, match="line 1: no column 'text'"):
        read_all(scan([write(tmp_path / "b.jsonl", b"{}\n")]), None)
