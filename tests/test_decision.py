"""Decisions that list their documents, with a weight for each."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from corpora import rows, sharded, target_rows, write
from hypothesis import given
from hypothesis import strategies as st

from curate.sampling import draws
from curate.selection import select
from curate.steps import decide, decision
from curate.steps.decision import Listed

WEIGHTS = (1.0, 2.0, 5.0)


def every_third(job):
    """Lists every third document that has a score; their weights take turns."""

    def parts():
        for part, file in enumerate(job.table.parts):
            scores = pl.read_parquet(file)["score"].to_numpy()
            places = np.flatnonzero(~np.isnan(scores))[::3]
            yield part, places, np.zeros(len(places), np.int64), np.resize(WEIGHTS, len(places))

    return Listed.write(job.table, job.spec, job.scratch, job.key, parts())


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(decision, "LISTED", ("third",))
    monkeypatch.setattr(draws, "LISTED", ("third",))
    monkeypatch.setitem(decide.LISTERS, "third", every_third)
    raw = sharded(tmp_path / "raw", rows(60), 3)
    target = write(tmp_path / "target.jsonl", target_rows())
    return lambda name, **more: select(
        raw, target=target, out=tmp_path / name, draw="third", settings={"n_buckets": 500}, **more
    )


def listed(out):
    """What should be kept: (path, row) and weights, as the ledger has them."""
    ledger = pl.read_parquet(out / "ledger.parquet").with_columns(pl.col("score").is_not_null().alias("eligible"))
    parts = [of.filter("eligible").gather_every(3) for of in ledger.partition_by("path", maintain_order=True)]
    return pl.concat([of.with_columns(w=pl.Series(np.resize(WEIGHTS, len(of)))) for of in parts])


@pytest.mark.parametrize("format", ["parquet", "jsonl.zst"])
def test_what_is_listed_is_kept_with_its_weight(run, tmp_path, format):
    found = run("out", format=format)
    expected = listed(tmp_path / "out")
    assert 0 < found.n_selected == len(expected)
    total = expected["w"].sum()
    ledger = pl.read_parquet(tmp_path / "out" / "ledger.parquet")
    kept = ledger.filter("kept")
    assert kept.select("path", "row").rows() == expected.select("path", "row").rows()
    assert np.allclose(kept["weight"], expected["w"] / total, rtol=1e-15)
    assert ledger.filter(~pl.col("kept"))["weight"].sum() == 0
    if format == "parquet":
        shard = pl.read_parquet(tmp_path / "out" / "shards" / "*.parquet")
        assert shard["curate_weight"].to_list() == kept["weight"].to_list()
    else:
        text = b"".join(pl.read_ndjson(path).write_ndjson().encode() for path in found.shards).decode()
        assert [json.loads(line)["curate_weight"] for line in text.splitlines()] == kept["weight"].to_list()


def test_weights_of_what_is_listed_do_not_depend_on_how_files_are_worked_on(run, tmp_path):
    for workers in (1, 3):
        run(f"out{workers}", workers=workers)
    one, three = ((tmp_path / f"out{n}" / "ledger.parquet").read_bytes() for n in (1, 3))
    assert one == three


@given(st.sets(st.integers(0, 40)), st.integers(0, 40), st.integers(0, 40))
def test_any_rows_of_a_part_are_found_in_what_is_listed(tmp_path_factory, places, first, count):
    folder = tmp_path_factory.mktemp("listed")
    where = np.array(sorted(places), np.int64)
    parts = [(2, where, where % 3, where + 0.5)] if places else []
    of = Listed.write(None, None, folder, "key", parts)
    chosen = of.targets(2, pa.table({"doc_id": ["x"] * count}), first)
    assert chosen.tolist() == [i % 3 if i in places else -1 for i in range(first, first + count)]
    weights = of.weights(2, chosen, first)
    assert weights.tolist() == [i + 0.5 if i in places else 0.0 for i in range(first, first + count)]
    assert (of.targets(1, pa.table({"doc_id": ["x"] * count}), first) == -1).all()


def test_a_list_of_other_work_or_without_its_end_is_not_used(tmp_path):
    Listed.write(None, None, tmp_path, "one", [])
    assert Listed.done(None, None, tmp_path, "one")
    assert Listed.done(None, None, tmp_path, "two") is None
    (tmp_path / "listed.json").unlink()
    assert Listed.done(None, None, tmp_path, "one") is None
