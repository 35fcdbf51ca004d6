"""The same answer, whoever computes it: neither files nor workers nor memory decide what is selected."""

import random

import pytest
from corpora import FORMATS, kept_ids, rows, select, sharded, tree, write
from hypothesis import given, settings
from hypothesis import strategies as st

import curate.io.corpus as corpus_module
from curate.engines.resources import Resources

ROWS = rows(120)
# A fit sample of a few documents: what is in it must not depend on the way either.
SMALL_FIT = {"num_tokens_to_fit": 600}
WANTED: dict[str, list[str]] = {}


@pytest.fixture(params=["everything fitted", "a sample fitted"])
def fit(request):
    return {} if request.param == "everything fitted" else SMALL_FIT


@pytest.fixture
def wanted(fit, tmp_path_factory) -> list[str]:
    """Ids selected from one file, with one worker."""
    key = str(fit)
    if key not in WANTED:
        folder = tmp_path_factory.mktemp("wanted")
        write(folder / "raw" / "a.jsonl", ROWS)
        select(folder / "raw", folder / "out", workers=1, settings=fit, budget=25)
        WANTED[key] = kept_ids(folder / "out")
    return WANTED[key]


def test_the_sample_that_is_fitted_matters_here(tmp_path):
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    all_of_it = select(tmp_path / "raw", tmp_path / "all", budget=25, settings={"num_tokens_to_fit": "all"})
    part = select(tmp_path / "raw", tmp_path / "part", budget=25, settings=SMALL_FIT)
    n_fitted = [r.manifest["stats"]["fit"]["n_ngrams"] for r in (all_of_it, part)]
    assert 600 <= n_fitted[1] < n_fitted[0] / 2
    assert kept_ids(tmp_path / "all") != kept_ids(tmp_path / "part")


@given(st.randoms(use_true_random=False))
@settings(max_examples=5)
def test_the_order_of_the_rows_does_not_matter(tmp_path_factory, chance):
    folder = tmp_path_factory.mktemp("run")
    shuffled = list(ROWS)
    chance.shuffle(shuffled)
    for name, of in (("a", ROWS), ("b", shuffled)):
        write(folder / name / "a.jsonl", of)
        select(folder / name, folder / f"out-{name}", settings=SMALL_FIT, budget=25)
    assert kept_ids(folder / "out-a") == kept_ids(folder / "out-b")


@pytest.mark.parametrize("n_files", [1, 3, 50])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_number_of_files_does_not_matter(tmp_path, fit, wanted, n_files, form):
    raw = sharded(tmp_path / "raw", random.Random(n_files).sample(ROWS, len(ROWS)), n_files, form)
    select(raw, tmp_path / "out", settings=fit, budget=25)
    assert kept_ids(tmp_path / "out") == wanted


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_does_not_matter(tmp_path, fit, wanted, form):
    select(sharded(tmp_path / "raw", ROWS, 2, form), tmp_path / "out", settings=fit, budget=25)
    assert kept_ids(tmp_path / "out") == wanted


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("spill", [True, False])
@pytest.mark.parametrize("batch_bytes", [100, 3_000, 500_000])
def test_workers_spilling_and_batches_do_not_matter(tmp_path, monkeypatch, fit, wanted, workers, spill, batch_bytes):
    monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine: batch_bytes)
    raw = sharded(tmp_path / "raw", ROWS, 5)
    select(raw, tmp_path / "out", settings=fit, budget=25, workers=workers, spill=spill)
    assert kept_ids(tmp_path / "out") == wanted


def test_where_files_are_cut_does_not_matter(tmp_path, monkeypatch, fit, wanted):
    monkeypatch.setattr(corpus_module, "PARTITION_BYTES", 2_000)
    monkeypatch.setattr(corpus_module, "_CHUNK", 512)
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    result = select(tmp_path / "raw", tmp_path / "out", settings=fit, budget=25)
    assert len(list((tmp_path / "out" / "scores").glob("part-*"))) > 5
    assert kept_ids(result.out) == wanted


@pytest.mark.parametrize("draw", ["topk", "uniform", "threshold"])
def test_no_draw_depends_on_the_files(tmp_path, draw):
    options = {"threshold": -20.0, "budget": None} if draw == "threshold" else {"budget": 25}
    for n_files in (1, 7):
        raw = sharded(tmp_path / f"raw{n_files}", ROWS[::-1] if n_files == 7 else ROWS, n_files)
        select(raw, tmp_path / f"out{n_files}", draw=draw, **options)
    found = kept_ids(tmp_path / "out1")
    assert found == kept_ids(tmp_path / "out7")
    assert 0 < len(found) < len(ROWS)


@pytest.mark.parametrize("budget", ["3kB", "400-tokens", "12%"])
@pytest.mark.parametrize("per", [None, "source"])
def test_no_budget_depends_on_the_files(tmp_path, budget, per):
    for n_files in (1, 7):
        raw = sharded(tmp_path / f"raw{n_files}", ROWS[::-1] if n_files == 7 else ROWS, n_files)
        select(raw, tmp_path / f"out{n_files}", budget=budget, per=per)
    assert kept_ids(tmp_path / "out1") == kept_ids(tmp_path / "out7")


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
def test_every_byte_is_the_same_with_any_workers_and_spilling_and_after_overwriting(tmp_path, form):
    raw = sharded(tmp_path / "raw", ROWS, 6)
    common = {"name": "x", "format": form, "shard_size": 2_000, "settings": SMALL_FIT, "budget": 40}
    first = select(raw, tmp_path / "first", workers=1, spill=True, **common)
    assert len(first.shards) > 2
    wanted = tree(tmp_path / "first")
    for workers in (1, 2, 4):
        for spill in (True, False):
            out = tmp_path / f"{workers}{spill}"
            select(raw, out, workers=workers, spill=spill, **common)
            assert tree(out) == wanted
    select(raw, tmp_path / "first", seed=7, overwrite=True, **common)
    assert tree(tmp_path / "first") != wanted
    select(raw, tmp_path / "first", workers=2, overwrite=True, **common)
    assert tree(tmp_path / "first") == wanted


@pytest.mark.parametrize("spill", [True, False])
def test_every_byte_is_the_same_with_any_batches(tmp_path, monkeypatch, spill):
    raw = sharded(tmp_path / "raw", ROWS, 3)
    found = []
    for batch_bytes in (150, 2_500, 500_000):
        monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine, n=batch_bytes: n)
        select(raw, tmp_path / str(batch_bytes), name="x", spill=spill, shard_size=2_000, budget=40)
        found.append(tree(tmp_path / str(batch_bytes)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("enough", [1, 40, 10_000])
def test_rows_that_were_set_aside_are_those_that_raw_has(tmp_path, monkeypatch, form, enough):
    raw = sharded(tmp_path / "raw", ROWS, 3, form)
    select(raw, tmp_path / "read-again", spill=True, budget=25)  # nothing is set aside then
    monkeypatch.setattr("curate.steps.early.ENOUGH", enough)
    monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine: 2_000)
    select(raw, tmp_path / "set-aside", spill=False, budget=25)
    shards = [(tmp_path / run / "shards" / "part-00000.parquet").read_bytes() for run in ("read-again", "set-aside")]
    assert shards[0] == shards[1]
