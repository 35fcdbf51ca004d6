"""Passages: nothing of a text is lost, and a corpus of them is one like any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import polars as pl
import pyarrow as pa
import pytest
import reference
from click.testing import CliRunner
from corpora import rows, sharded, tree, write
from hypothesis import given
from hypothesis import strategies as st

from curate.cli import main
from curate.cutting import passages
from curate.errors import RunError, UsageError
from curate.features.passages import cut_passages
from curate.selection import select

texts = st.lists(st.text(st.sampled_from("ab \n\r\0é日😀"), max_size=200), max_size=5)


@given(texts, st.integers(16, 40))
def test_cuts_are_those_of_the_definition(some, size):
    cut = cut_passages(pa.array(some, pa.large_string()), size)
    expected = [(doc, piece) for doc, text in enumerate(some) for piece in reference.passages(text, size)]
    assert [(int(d), t.encode()) for d, t in zip(cut.document, cut.texts.to_pylist(), strict=True)] == expected


@given(texts, st.integers(16, 40))
def test_passages_put_together_are_the_text(some, size):
    cut = cut_passages(pa.array(some, pa.string()), size)
    cut.texts.validate(full=True)  # characters are whole
    for doc, text in enumerate(some):
        of = [i for i, d in enumerate(cut.document) if d == doc]
        assert "".join(cut.texts[i].as_py() for i in of) == text
        assert [text.encode()[cut.start[i] : cut.stop[i]].decode() for i in of] == [cut.texts[i].as_py() for i in of]
        assert all(len(cut.texts[i].as_py().encode()) <= size * 5 // 2 for i in of)


def test_passages_of_a_slice_of_an_array_are_of_that_slice():
    whole = pa.array(["a" * 50, "b" * 50 + " c", "d"])
    assert "".join(cut_passages(whole.slice(1, 1), 16).texts.to_pylist()) == "b" * 50 + " c"


def test_a_size_that_is_too_small_is_refused(tmp_path):
    with pytest.raises(UsageError, match="16 or more"):
        passages(write(tmp_path / "raw.jsonl", rows(3)), out=tmp_path / "out", size=15)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["jsonl", "parquet", "jsonl.zst"])
def test_documents_come_back_whole_and_other_columns_go_with_their_passages(tmp_path, form):
    documents = rows(30, extra=1)
    made = passages(sharded(tmp_path / "raw", documents, 3, form), out=tmp_path / "out", size=50)
    found = pl.read_parquet(tmp_path / "out" / "passages" / "*.parquet")
    assert (made.n_documents, made.n_passages) == (30, len(found))
    assert made.n_passages > 30
    by_id = {row["id"]: row for row in documents}
    for (name,), pieces in found.group_by("passage_of", maintain_order=True):
        assert "".join(pieces["text"]) == by_id[name]["text"]
        others = set(by_id[name]) - {"id", "text"}
        assert all(row[key] == by_id[name][key] for row in pieces.iter_rows(named=True) for key in others)
    names = found["passage_of"] + "#" + found["passage_start"].cast(str) + "-" + found["passage_stop"].cast(str)
    assert found["id"].to_list() == names.to_list()
    assert found["id"].n_unique() == len(found)


def test_a_document_without_text_is_a_passage_without_text(tmp_path):
    raw = write(tmp_path / "raw.jsonl", [{"id": "a", "text": ""}, {"id": "b", "text": None}, {"id": "c", "text": "x"}])
    passages(raw, out=tmp_path / "out")
    found = pl.read_parquet(tmp_path / "out" / "passages" / "*.parquet")
    assert found["id"].to_list() == ["a#0-0", "b#0-0", "c#0-1"]


def test_rows_that_cannot_be_read_are_set_aside(tmp_path):
    raw = tmp_path / "raw.jsonl"
    raw.write_text('{"id": "a", "text": "fine"}\n{"id": broken\n')
    made = passages(raw, out=tmp_path / "out", on_bad_row="quarantine")
    assert (made.n_documents, made.n_bad_rows) == (1, 1)
    assert pl.read_parquet(tmp_path / "out" / "quarantine.parquet")["row"].to_list() == [1]


def test_the_workers_do_not_matter(tmp_path):
    raw = sharded(tmp_path / "raw", rows(50), 4)
    for workers in (1, 3):
        passages(raw, out=tmp_path / f"out{workers}", size=40, workers=workers)
    one, three = (tree(tmp_path / f"out{n}" / "passages") for n in (1, 3))
    assert one == three


KILLED = """
import os, signal, sys
from curate.cutting import passages
left, real = int(sys.argv[1]), os.replace
def replace(*args, **kwargs):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **kwargs)
os.replace = replace
passages(sys.argv[2], out=sys.argv[3], size=40, workers=2)
"""


def test_a_run_that_was_killed_at_any_rename_goes_on_to_the_same_bytes(tmp_path):
    raw = sharded(tmp_path / "raw", rows(30), 2)
    passages(raw, out=tmp_path / "whole", size=40)
    kills = 0
    while kills < 20:
        out = tmp_path / f"out{kills}"
        done = subprocess.run([sys.executable, "-c", KILLED, str(kills + 1), raw, out], env=os.environ)
        if done.returncode == 0:
            break
        kills += 1
        passages(raw, out=out, size=40)
        assert tree(out) == tree(tmp_path / "whole")
    assert kills >= 6  # two files, two markers, and the beginning and the end of all


def test_another_size_is_refused_and_the_same_is_found_again(tmp_path):
    raw = sharded(tmp_path / "raw", rows(20), 2)
    first = passages(raw, out=tmp_path / "out", size=50)
    assert passages(raw, out=tmp_path / "out", size=50) == first
    with pytest.raises(RunError, match="--overwrite"):
        passages(raw, out=tmp_path / "out", size=60)
    again = passages(raw, out=tmp_path / "out", size=60, overwrite=True)
    assert again.n_passages < first.n_passages
    foreign = tmp_path / "foreign"
    write(foreign / "note.txt", b"mine")
    with pytest.raises(RunError, match="not passages"):
        passages(raw, out=foreign, size=60)


def test_a_column_of_a_name_that_passages_need_is_an_error(tmp_path):
    raw = write(tmp_path / "raw.jsonl", rows(3, passage_of="x"))
    with pytest.raises(UsageError, match="'passage_of' is taken"):
        passages(raw, out=tmp_path / "out")


def test_passages_can_be_selected_and_know_their_documents(tmp_path):
    documents = rows(40)
    passages(sharded(tmp_path / "raw", documents, 2), out=tmp_path / "cut", size=60)
    target = write(tmp_path / "target.jsonl", rows(20, seed=1))
    settings = {"n_buckets": 500, "min_tokens": 3}
    found = select(tmp_path / "cut" / "passages", target=target, out=tmp_path / "out", settings=settings)
    kept = pl.read_parquet(found.shards)
    by_id = {row["id"]: row["text"].encode() for row in documents}
    for row in kept.iter_rows(named=True):
        assert by_id[row["passage_of"]][row["passage_start"] : row["passage_stop"]].decode() == row["text"]


def test_the_command_prints_what_to_do_next(tmp_path):
    raw = sharded(tmp_path / "raw", rows(20), 2)
    done = CliRunner().invoke(main, ["passages", str(raw), "--out", str(tmp_path / "out"), "--size", "60"])
    assert done.exit_code == 0, done.output
    assert f"curate select {tmp_path / 'out'}/passages" in done.stdout
    as_json = CliRunner().invoke(main, ["passages", str(raw), "--out", str(tmp_path / "out"), "--size", "60", "--json"])
    assert json.loads(as_json.stdout)["n_documents"] == 20
