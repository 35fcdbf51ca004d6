"""Scan: which files there are, what they are called, and where they are cut."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from corpora import encoded, read_all, rows, table_bytes, write
from hypothesis import given
from hypothesis import strategies as st

import curate.io.corpus as corpus_module
from curate.engines import LocalEngine
from curate.errors import InputError, UsageError
from curate.io.columns import columns_of
from curate.io.corpus import Corpus, scan
from curate.io.paths import find, kind


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a/x.jsonl.gz", "a/deep/y.csv", "z.parquet"):
        write(tmp_path / "raw" / name, rows(4))
    return tmp_path / "raw"


def names(*paths: object) -> list[str]:
    return [source.name for source in find(list(paths))[0]]  # type: ignore[arg-type]


def test_a_folder_is_searched_to_any_depth_and_names_are_relative_to_it(tree):
    assert names(tree) == ["a/deep/y.csv", "a/x.jsonl.gz", "b.jsonl", "z.parquet"]


def test_a_trailing_slash_and_a_relative_path_give_the_same_names(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert names("raw/") == names("raw") == names("./raw") == names(tree)


def test_names_in_a_glob_are_relative_to_its_last_fixed_folder(tree):
    assert names(f"{tree}/*.jsonl") == ["b.jsonl"]
    assert names(f"{tree}/a/**/*.csv") == ["deep/y.csv"]
    assert names(f"{tree}/*/x.jsonl*") == ["a/x.jsonl.gz"]


def test_a_file_named_outright_is_called_by_its_own_name(tree):
    assert names(tree / "a" / "x.jsonl.gz") == ["x.jsonl.gz"]


def test_several_roots_are_taken_together_and_sorted_by_name(tree):
    assert names(tree / "z.parquet", tree / "a") == ["deep/y.csv", "x.jsonl.gz", "z.parquet"]


def test_the_same_file_named_twice_is_read_once(tree):
    assert names(tree / "b.jsonl", f"{tree}/*.jsonl", tree / "b.jsonl") == ["b.jsonl"]


def test_two_files_of_one_name_are_an_error_that_names_both(tmp_path):
    one, two = (write(tmp_path / folder / "x.jsonl", rows(1)) for folder in ("one", "two"))
    with pytest.raises(InputError, match="has the same name") as error:
        find([tmp_path / "one", tmp_path / "two"])
    assert str(one) in str(error.value)
    assert str(two) in str(error.value)


def test_unknown_endings_are_passed_over_in_a_folder_and_listed(tree):
    for name in ("notes.md", "a/model.bin", "c.parquet.gz"):
        (tree / name).write_bytes(b"?")
    sources, passed_over = find([tree])
    assert len(sources) == 4
    assert [Path(p).name for p in passed_over] == ["model.bin", "c.parquet.gz", "notes.md"]


def test_an_unknown_ending_named_outright_is_an_error(tmp_path):
    (tmp_path / "notes.md").write_text("?")
    with pytest.raises(InputError, match=r"notes\.md: unknown kind of file \(known: \.parquet"):
        find([tmp_path / "notes.md"])


def test_hidden_files_and_those_with_an_underscore_are_not_data(tree):
    for name in (".hidden.jsonl", "_SUCCESS.jsonl", ".git/x.jsonl", "_work/y.jsonl"):
        write(tree / name, rows(1))
    assert len(names(tree)) == 4


@pytest.mark.parametrize("what", ["nothing", "nothing/*.jsonl", "nothing.jsonl"])
def test_what_is_not_there_is_an_error_that_names_it(tmp_path, what):
    with pytest.raises(InputError, match="nothing"):
        find([tmp_path / what])


def test_a_folder_without_data_is_an_error(tmp_path):
    (tmp_path / "notes.md").write_text("?")
    with pytest.raises(InputError, match="no input files there"):
        find([tmp_path])


def test_no_input_at_all_is_a_usage_error():
    with pytest.raises(UsageError, match="no input"):
        find([])


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path):
    path = write(tmp_path / "a[1].jsonl", rows(1))
    assert names(path) == ["a[1].jsonl"]


def test_a_dangling_link_is_an_error_that_names_it(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", rows(1))
    os.symlink(tmp_path / "gone.jsonl", tmp_path / "raw" / "b.jsonl")
    with pytest.raises(InputError, match=r"b\.jsonl"):
        scan([tmp_path / "raw"])


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x.jsonl", ("jsonl", None)),
        ("x.NDJSON.GZ", ("jsonl", "gzip")),
        ("x.y.json.zst", ("json", "zstd")),
        ("x.txt.gz", ("txt", "gzip")),
        ("x.arrow.gz", None),
        ("jsonl", None),
        (".jsonl", ("jsonl", None)),
        ("x.gz", None),
    ],
)
def test_format_and_compression_are_told_by_the_name(name, what):
    assert kind(name) == what


def test_the_plan_does_not_depend_on_the_workers(tree, monkeypatch):
    monkeypatch.setattr(corpus_module, "PARTITION_BYTES", 200)
    plans = []
    for workers in (1, 2, 4):
        with LocalEngine(workers) as engine:
            plans.append(scan([tree], over=engine.map))
    assert plans[0] == plans[1] == plans[2]


def test_a_corpus_survives_being_written_down(tree):
    corpus = scan([tree])
    assert Corpus.from_dict(json.loads(json.dumps(corpus.as_dict()))) == corpus


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_large_tables_are_cut_at_row_groups_and_every_row_is_read_once(tmp_path, monkeypatch, form):
    monkeypatch.setattr(corpus_module, "PARTITION_BYTES", 3_000)
    of = rows(100)
    size = {"row_group_size": 7} if form == "parquet" else {"max_chunksize": 7}
    write(tmp_path / f"a.{form}", table_bytes(form, pa.Table.from_pylist(of), **size))
    corpus = scan([tmp_path])
    assert len(corpus.partitions) > 3
    assert [p.first_row % 7 for p in corpus.partitions] == [0] * len(corpus.partitions)
    found = read_all(corpus, ["text", "id"])
    assert [i for _, i, _ in found] == list(range(100))
    assert [row["id"] for *_, row in found] == [row["id"] for row in of]


LINES = st.lists(st.text(alphabet="ab\u00e9 ", max_size=12), min_size=1, max_size=30)


@given(LINES, st.integers(1, 60), st.integers(1, 50), st.booleans())
def test_lines_are_cut_at_their_ends_and_every_row_is_read_once(tmp_path_factory, texts, size, batch_bytes, newline):
    folder = tmp_path_factory.mktemp("raw")
    data = encoded("jsonl", [{"text": t, "id": str(i)} for i, t in enumerate(texts)])
    write(folder / "a.jsonl", data if newline else data.removesuffix(b"\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "PARTITION_BYTES", size)
        patch.setattr(corpus_module, "_CHUNK", 16)
        corpus = scan([folder])
    assert all(a.stop == b.start for a, b in zip(corpus.partitions[:-1], corpus.partitions[1:], strict=True))
    found = read_all(corpus, ["text", "id"], batch_bytes=max(3, batch_bytes))
    assert [(i, row) for _, i, row in found] == [(i, {"text": t, "id": str(i)}) for i, t in enumerate(texts)]


def test_no_line_is_lost_or_read_twice_at_any_size_of_the_blocks_scanned(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", rows(80))
    monkeypatch.setattr(corpus_module, "PARTITION_BYTES", 700)
    plans = []
    for chunk in (64, 300, 1000):
        monkeypatch.setattr(corpus_module, "_CHUNK", chunk)
        corpus = scan([tmp_path])
        assert [i for _, i, _ in read_all(corpus, ["text"])] == list(range(80))
        plans.append(len(corpus.partitions))
    assert min(plans) > 3


def test_compressed_lines_are_one_partition(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "PARTITION_BYTES", 100)
    write(tmp_path / "a.jsonl.gz", rows(50))
    assert len(scan([tmp_path]).partitions) == 1


def test_columns_are_those_of_every_table_and_of_the_first_rows_of_the_others(tmp_path):
    write(tmp_path / "a.parquet", [{"text": "x", "one": 1}])
    write(tmp_path / "b.parquet", [{"text": "x", "two": 1}])
    write(tmp_path / "c.jsonl", [{"text": "x", "three": 1}])
    write(tmp_path / "d.csv", [{"text": "x", "four": 1}])
    assert columns_of(scan([tmp_path])) == ["text", "one", "two", "three", "four"]


def test_a_table_without_the_text_column_is_an_error_that_names_the_likely_one(tmp_path):
    write(tmp_path / "a.parquet", [{"id": 1, "content": "x"}])
    with pytest.raises(InputError, match=r"a\.parquet: no column 'text' .*pass --text-column content"):
        scan([tmp_path])


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_two_columns_of_one_name_are_an_error(tmp_path, form):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "x", "x"])
    write(tmp_path / f"a.{form}", table_bytes(form, table) if form == "parquet" else b"text,x,x\na,b,c\n")
    with pytest.raises(InputError, match=rf"a\.{form}: more than one column is called 'x'"):
        read_all(scan([tmp_path]), None)
