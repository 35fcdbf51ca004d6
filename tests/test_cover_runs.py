"""Selections by coverage: the same whatever the files, the workers and the kills; candidates in slices."""

import json
import random

import numpy as np
import polars as pl
import pytest
import reference
from corpora import FORMATS, kept_ids, ledger, rows, select, sharded, target_rows, tree, write
from killing import killed_at_every_commit

from curate.engines.resources import Resources
from curate.errors import InputError, UsageError
from curate.sampling.noise import TIE
from curate.scorers.base import texts_within
from curate.selection import draw
from curate.steps import cover as step

ROWS = rows(120)
COVER = {"draw": "cover", "budget": "3kB", "method": "bytegrams", "settings": {}}


@pytest.fixture(params=[1, 4], ids=["one slice", "several slices"])
def slices(request, monkeypatch):
    """Candidates in one slice, or so that there are several of them."""
    if request.param > 1:
        monkeypatch.setattr(step, "SLICE_BYTES", 4_000)
    return request.param


@pytest.fixture
def wanted(tmp_path, slices):
    write(tmp_path / "wanted" / "a.jsonl", ROWS)
    select(tmp_path / "wanted", tmp_path / "wanted-out", workers=1, **COVER)
    return kept_ids(tmp_path / "wanted-out")


def test_what_is_kept_is_what_the_definition_takes_of_the_best(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    result = select(tmp_path / "raw", tmp_path / "out", **COVER)
    wider = select(tmp_path / "raw", tmp_path / "wider", **COVER | {"draw": "topk", "budget": "24kB"})
    texts = {row["id"]: row["text"].encode() for row in ROWS}
    candidates = kept_ids(wider.out)
    target, _ = texts_within([row["text"].encode() for row in target_rows()], 10**9)
    sizes = [len(texts[ident]) for ident in candidates]
    taken = reference.greedy_cover(
        [texts[ident] for ident in candidates],
        target,
        sizes=sizes,
        ties=[reference.keyed_hash(ident, 0, TIE) for ident in candidates],
        budget=3_000,
        room=3_000,
        rounds=40,
        taken_before=0.3 * 3_000 / sum(sizes),
    )
    assert kept_ids(result.out) == sorted(candidates[doc] for doc in taken)
    assert 0 < result.n_bytes_selected <= 3_000


@pytest.mark.parametrize("n_files", [1, 3, 50])
def test_the_order_of_rows_and_the_number_of_files_do_not_matter(tmp_path, wanted, n_files):
    raw = sharded(tmp_path / "raw", random.Random(n_files).sample(ROWS, len(ROWS)), n_files)
    select(raw, tmp_path / "out", **COVER)
    assert kept_ids(tmp_path / "out") == wanted


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_does_not_matter(tmp_path, wanted, form):
    select(sharded(tmp_path / "raw", ROWS, 2, form), tmp_path / "out", **COVER)
    assert kept_ids(tmp_path / "out") == wanted


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("batch_bytes", [100, 500_000])
def test_workers_batches_and_how_candidates_are_dealt_do_not_matter(
    tmp_path, monkeypatch, wanted, workers, batch_bytes
):
    monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine: batch_bytes)
    monkeypatch.setattr(step, "GROUP_BYTES", 20 * batch_bytes)
    select(sharded(tmp_path / "raw", ROWS, 5), tmp_path / "out", workers=workers, **COVER)
    assert kept_ids(tmp_path / "out") == wanted


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path):
    killed_at_every_commit(tmp_path, first=2, every=6, **COVER)


@pytest.mark.parametrize(
    ("budget", "unit"), [(20, "documents"), ("10%", "documents"), ("3kB", "bytes"), ("400-tokens", "tokens")]
)
def test_every_kind_of_budget_is_kept(tmp_path, slices, budget, unit):
    raw = sharded(tmp_path / "raw", ROWS, 3)
    result = select(raw, tmp_path / "out", **COVER | {"budget": budget})
    found = {"documents": result.n_selected, "bytes": result.n_bytes_selected, "tokens": result.n_tokens_selected}
    most = {"documents": 20 if budget == 20 else 12, "bytes": 3_000, "tokens": 400}[unit]
    assert 0.8 * most < found[unit] <= most


def test_all_eligible_are_kept_when_there_are_fewer_than_the_budget(tmp_path, slices):
    raw = sharded(tmp_path / "raw", ROWS, 3)
    result = select(raw, tmp_path / "out", **COVER | {"budget": 10_000})
    assert result.n_selected == sum(row["score"] is not None for row in ledger(tmp_path / "out"))


def test_copies_do_not_take_the_budget_but_after_what_is_new(tmp_path):
    copies = [{**ROWS[0], "text": target_rows()[0]["text"], "id": f"copy-{i}"} for i in range(10)]
    raw = sharded(tmp_path / "raw", [*ROWS, *copies], 3)
    taken = {}
    for how in ("topk", "cover"):
        select(raw, tmp_path / how, **COVER | {"draw": how, "budget": 20})
        taken[how] = sum(ident.startswith("copy-") for ident in kept_ids(tmp_path / how))
    assert taken["topk"] == 10
    assert 0 < taken["cover"] <= 5


def test_scores_of_any_method_and_fused_ones_choose_the_candidates(tmp_path):
    raw = sharded(tmp_path / "raw", ROWS, 3)
    for method, settings in (("dsir", {"n_buckets": 500}), ("dsir+bytegrams", {"dsir.n_buckets": 500})):
        result = select(raw, tmp_path / method, **COVER | {"method": method, "settings": settings})
        assert 0 < result.n_bytes_selected <= 3_000


def test_scores_are_used_again_by_a_draw_and_the_weights_are_equal(tmp_path):
    raw = sharded(tmp_path / "raw", ROWS, 3)
    select(raw, tmp_path / "out", **COVER | {"draw": "topk"})
    again = draw(tmp_path / "out", out=tmp_path / "again", draw="cover", budget="3kB")
    select(raw, tmp_path / "straight", **COVER)
    assert kept_ids(tmp_path / "again") == kept_ids(tmp_path / "straight")
    weights = pl.read_parquet(again.shards)["curate_weight"]
    assert np.allclose(weights, 1 / again.n_selected)


def test_what_is_held_out_of_the_target_is_not_covered(tmp_path):
    raw = sharded(tmp_path / "raw", ROWS, 3)
    target = [{"id": str(i), "text": f"{row['text']} {i}"} for i, row in enumerate(target_rows())]
    write(tmp_path / "all.jsonl", target)
    seen = []
    real = step.target_texts
    for holdout in (None, 0.5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step, "target_texts", lambda *args: seen.append(args[2]) or real(*args))
            select(raw, tmp_path / str(holdout), target=tmp_path / "all.jsonl", holdout=holdout, **COVER)
    assert seen == [None, 0.5]


def test_a_large_target_is_covered_in_part_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "TARGET_BYTES", 100)
    result = select(sharded(tmp_path / "raw", ROWS, 3), tmp_path / "out", **COVER)
    assert any("draw 'cover' looked at" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"per": "source"}, "leave out --per"),
        ({"settings": {"separate_targets": True}}, "covers all targets together: leave out separate_targets"),
    ],
)
def test_what_cannot_be_covered_is_refused_before_anything_is_read(tmp_path, options, why):
    with pytest.raises(UsageError, match=why):
        select(sharded(tmp_path / "raw", ROWS, 3), tmp_path / "out", **COVER | options)
    assert not (tmp_path / "out" / "scores").exists()


def test_a_budget_smaller_than_every_document_is_an_error(tmp_path):
    with pytest.raises(InputError, match="nothing selected"):
        select(sharded(tmp_path / "raw", ROWS, 3), tmp_path / "out", **COVER | {"budget": "2B"})


def test_nothing_of_the_candidates_is_left_behind(tmp_path):
    result = select(sharded(tmp_path / "raw", ROWS, 3), tmp_path / "out", **COVER)
    assert not (tmp_path / "out" / "_work").exists()
    assert "cover" in json.dumps(result.manifest["recipe"]["draw"])
    assert tree(tmp_path / "out")
