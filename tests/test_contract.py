"""What every method promises, whatever it scores by; a new scorer is tested by being in `SCORERS`."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from corpora import FORMATS, kept_ids, ledger, rows, scores, select, sharded, target_rows, tree, write
from killing import killed_at_every_commit

import curate
from curate.engines.resources import Resources
from curate.errors import InputError, UsageError
from curate.scorers import SCORERS, load_scorer, scorer

METHODS = [*SCORERS, "dsir+primed"]
# Small, and with samples of raw that are a part of it, so that what is in them must not depend on the way.
SETTINGS = {
    "dsir": {"num_tokens_to_fit": 600},
    "zipfit": {"max_target_texts": 5},
    "primed": {},
    "classifier": {"n_buckets": 4096, "max_documents": 30},
    "bytegrams": {"sample_bytes": 4_000},
    "leverage": {"dim": 32},
    "all": {"min_tokens": 20},
    "dsir+primed": {"dsir.num_tokens_to_fit": 600},
}
ROWS = rows(120)
TEXTS = [row["text"] for row in ROWS]
ODD = [
    "",
    " ",
    "\x00",
    "a\x00b" * 30,
    "\ufeff" + TEXTS[0],
    "é" * 200,
    "日本語のテキスト。" * 30,
    "🙂" * 90,
    "x" * 300_000,
]


@pytest.fixture(autouse=True)
def small_raw_samples(monkeypatch):
    monkeypatch.setattr("curate.scorers.primed.RAW_DOCUMENTS", 30)


@pytest.fixture(params=METHODS)
def method(request):
    if "classifier" in request.param:
        pytest.importorskip("sklearn")
    return request.param


@pytest.fixture
def options(method):
    return {"method": method, "settings": SETTINGS[method], "name": "x", "budget": 25}


@pytest.fixture
def model(method):
    made = scorer(method, **SETTINGS[method])
    for member in made.members.values():
        member.fit(target=[row["text"] for row in target_rows()], raw=TEXTS)
    return made


def test_what_is_like_the_target_is_selected(tmp_path, options):
    if not scorer(options["method"]).needs_target:
        pytest.skip("a target plays no part")
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    select(tmp_path / "raw", tmp_path / "out", **options)
    source = {row["id"]: row["source"] for row in ROWS}
    kept = [source[i] for i in kept_ids(tmp_path / "out")]
    assert len(kept) == 25
    assert kept.count("maths") > 20


@pytest.mark.parametrize("n_files", [3, 50])
def test_files_and_their_order_do_not_matter(tmp_path, options, n_files):
    write(tmp_path / "one" / "a.jsonl", ROWS)
    select(tmp_path / "one", tmp_path / "wanted", workers=1, **options)
    raw = sharded(tmp_path / "raw", random.Random(n_files).sample(ROWS, len(ROWS)), n_files, "parquet")
    select(raw, tmp_path / "out", **options)
    assert kept_ids(tmp_path / "out") == kept_ids(tmp_path / "wanted")


def test_formats_do_not_matter(tmp_path, options):
    found = []
    for form in FORMATS:
        select(sharded(tmp_path / form, ROWS, 2, form), tmp_path / f"out-{form}", **options)
        found.append(kept_ids(tmp_path / f"out-{form}"))
    assert all(ids == found[0] for ids in found)


def test_every_byte_is_the_same_with_any_workers_and_batches(tmp_path, monkeypatch, options):
    raw = sharded(tmp_path / "raw", ROWS, 6)
    select(raw, tmp_path / "wanted", workers=1, **options)
    for workers in (1, 2, 4):
        for batch_bytes in (150, 3_000, 500_000):
            monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine, n=batch_bytes: n)
            out = tmp_path / f"{workers}-{batch_bytes}"
            select(raw, out, workers=workers, **options)
            assert tree(out) == tree(tmp_path / "wanted")


def test_a_run_killed_at_any_commit_resumes_to_the_same_bytes(tmp_path, method):
    first = 1 + sorted(SETTINGS).index(method) % 5  # so that methods share the commit points among them
    killed_at_every_commit(tmp_path, method=method, settings=SETTINGS[method], first=first, every=5)


def test_a_second_draw_scores_nothing_and_equals_a_run_of_its_own(tmp_path, options):
    raw = sharded(tmp_path / "raw", ROWS, 3)
    select(raw, tmp_path / "first", **options)
    before = {p: p.stat().st_ino for p in (tmp_path / "first" / "scores").iterdir()}
    curate.draw(tmp_path / "first", out=tmp_path / "again", budget="300-tokens", name="x")
    select(raw, tmp_path / "own", **{**options, "budget": "300-tokens"})
    assert tree(tmp_path / "again" / "shards") == tree(tmp_path / "own" / "shards")
    assert {p: p.stat().st_ino for p in (tmp_path / "first" / "scores").iterdir()} == before


@pytest.mark.parametrize("budget", [1, "100%", 10_000])
def test_budgets_from_one_document_to_more_than_there_are(tmp_path, options, budget):
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    found = select(tmp_path / "raw", tmp_path / "out", **{**options, "budget": budget})
    assert found.n_selected == min(len(ROWS), 1 if budget == 1 else len(ROWS))


def test_every_document_has_a_row_with_a_score_or_a_reason(tmp_path, options):
    of = [*ROWS, *({"id": f"odd{i}", "text": text} for i, text in enumerate(ODD)), {"id": "none", "text": None}]
    write(tmp_path / "raw" / "a.jsonl", of)
    select(tmp_path / "raw", tmp_path / "out", **options)
    table = scores(tmp_path / "out")
    assert sorted(table["doc_id"].to_pylist()) == sorted(row["id"] for row in of)
    for score, reason in zip(table["score"].to_pylist(), table["reason"].to_pylist(), strict=True):
        assert (score is None) == (reason is not None)
        assert score is None or np.isfinite(score)
    assert {row["doc_id"]: row["reason"] for row in ledger(tmp_path / "out")}["none"] == "no_text"


def test_documents_that_are_all_the_same_or_all_short_are_no_trouble(tmp_path, options):
    write(tmp_path / "same" / "a.jsonl", [{"id": f"d{i}", "text": TEXTS[0]} for i in range(40)])
    if "classifier" in options["method"]:
        with pytest.raises(InputError, match="too few for"):
            select(tmp_path / "same", tmp_path / "out", **options)
    else:
        assert select(tmp_path / "same", tmp_path / "out", **options).n_selected == 25
    write(tmp_path / "short" / "a.jsonl", [{"id": f"d{i}", "text": f"word {i}"} for i in range(40)])
    with pytest.raises(InputError, match=r"nothing selected: none of 40 documents has a score \(40 too short\)"):
        select(tmp_path / "short", tmp_path / "out-short", **options)


def test_a_score_does_not_depend_on_the_other_documents(model):
    texts = [*TEXTS[:20], *ODD]
    together = model.score_documents(pa.array(texts))[0]
    alone = np.concatenate([model.score_documents(pa.array([text]))[0] for text in texts])
    assert np.array_equal(together, alone, equal_nan=True)
    chunked = model.score_documents(pa.chunked_array([texts[:5], texts[5:]], pa.string()))[0]
    assert np.array_equal(together, chunked, equal_nan=True)


def test_the_order_of_texts_does_not_matter_to_a_fit(method, model):
    again = scorer(method, **SETTINGS[method])
    target = [row["text"] for row in target_rows()]
    for member in again.members.values():
        member.fit(
            target=[pa.array(target[30:]), pa.array(target[:30])], raw=random.Random(0).sample(TEXTS, len(TEXTS))
        )
    texts = pa.array(TEXTS[:30])
    assert again.score_documents(texts)[0] == pytest.approx(model.score_documents(texts)[0], rel=1e-12, nan_ok=True)


def test_what_is_saved_scores_the_same_and_holds_no_code(tmp_path, model):
    model.save(tmp_path)
    loaded = load_scorer(tmp_path)
    texts = pa.array([*TEXTS[:20], *ODD])
    assert np.array_equal(loaded.score_documents(texts)[0], model.score_documents(texts)[0], equal_nan=True)
    assert loaded.settings() == model.settings()
    json.dumps(loaded.identity())
    for path in tmp_path.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays)


def test_every_setting_can_be_given_and_an_unknown_one_suggests_the_near_name(method):
    made = scorer(method, **SETTINGS[method])
    assert scorer(method, **made.settings()).settings() == made.settings()
    with pytest.raises(UsageError, match=r"did you mean '.*min_tokens'"):
        scorer(method, min_token=3)


def test_settings_of_the_wrong_kind_are_refused(method):
    for name in scorer(method).settings():
        if name.rpartition(".")[2] not in ("tokenizer", "group", "hash", "vectors", "encoder"):
            with pytest.raises(UsageError, match="nonsense"):
                scorer(method, **{name: "nonsense"})


def test_a_draw_by_weight_needs_log_weights(tmp_path, options):
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    made = scorer(options["method"])
    found = select(tmp_path / "raw", tmp_path / "out", **options)
    assert found.manifest["recipe"]["draw"]["draw"] == made.default_draw
    if made.log_weights or made.scores_are_weights:
        assert select(tmp_path / "raw", tmp_path / "out-gumbel", draw="gumbel", **options).n_selected == 25
    else:
        with pytest.raises(UsageError, match="no log weights"):
            select(tmp_path / "raw", tmp_path / "out-gumbel", draw="gumbel", **options)


def test_a_saved_scorer_whose_arrays_are_not_its_own_is_refused(tmp_path, method, model):
    model.save(tmp_path)
    for path in tmp_path.rglob("arrays.npz"):
        good = path.read_bytes()
        with np.load(path) as arrays:
            kept = dict(arrays)
        for name, array in kept.items():
            if array.dtype == np.uint8:
                continue  # texts may be any bytes
            for bad in (array[:-1], array.astype(np.float32), np.concatenate([array, array + 10**12])):
                np.savez(path, **{**kept, name: bad})
                with pytest.raises(InputError, match="not a saved scorer"):
                    load_scorer(tmp_path)
        path.write_bytes(good)
    load_scorer(tmp_path)


def test_a_fit_that_was_left_is_not_used_for_another_corpus(tmp_path, monkeypatch, options):
    chosen = {**options, "workers": 1}
    raw = sharded(tmp_path / "raw", ROWS, 4)
    stopped = RuntimeError("stopped after the fit")

    def stop(*args):
        raise stopped

    with monkeypatch.context() as patch:
        patch.setattr("curate.selection.session.score_partition", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            select(raw, tmp_path / "out", **chosen)
    for path in sorted(raw.iterdir())[2:]:
        path.unlink()
    select(raw, tmp_path / "out", **chosen)
    select(raw, tmp_path / "fresh", **chosen)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
