"""Draws by chance through the pipeline: what arrays say, whatever the files, workers and kills."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import reference
from click.testing import CliRunner
from corpora import kept_ids, ledger, rows, scores, select, sharded, shards, target_rows, tree, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killing import killed_at_every_commit

from curate.cli import main
from curate.errors import UsageError
from curate.metrics.calibration import mid_ranks, tilt
from curate.metrics.spending import n_ngrams, spent
from curate.metrics.weights import LengthHistogram
from curate.sampling.draws import BY_CHANCE
from curate.sampling.inclusion import inclusion
from curate.sampling.transforms import WeightSpec, sums_over, weighting
from curate.selection import draw
from curate.steps.sorting import read_rows
from curate.verification import verify

ROWS = rows(90)
SOFT = {"max_kl": 0.8}  # chances of many sizes: by score alone the best are certain and the others out


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A scored corpus of three files and three sources; some documents are too short for a score."""
    folder = tmp_path_factory.mktemp("scored")
    short = [{"id": f"short{i}", "text": "a", "source": "news"} for i in range(4)]
    raw = sharded(folder / "raw", ROWS[:50] + short + ROWS[50:], 3)
    select(raw, folder / "run", per="source", settings={"min_tokens": 5})
    return folder / "run"


def drawn(run: Path, out: Path, **options):
    return draw(run, out=out, name="x", per=options.pop("per", None), **options)


def table(out: Path):
    """(id, score, bytes, tokens, source) of the documents with a score."""
    names = ("doc_id", "score", "n_bytes", "n_tokens", "source")
    found = zip(*(scores(out)[name].to_pylist() for name in names), strict=True)
    return [row for row in found if row[1] is not None]


# ---- equal to the definition


@pytest.mark.parametrize("draw_by", BY_CHANCE)
@pytest.mark.parametrize("budget", [20, "20%", "3kB", "500-tokens"])
@pytest.mark.parametrize("per", [None, "source"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_draw_equals_the_definition(run, tmp_path, draw_by, budget, per, seed) -> None:
    drawn(run, tmp_path / "out", draw=draw_by, budget=budget, per=per, seed=seed, weights=SOFT)
    documents = table(run)
    column = {"3kB": 2, "500-tokens": 3}.get(budget)
    w = tilt(np.array([d[1] for d in documents]), SOFT["max_kl"]).weights
    of = [
        (d[0], float(np.log(w[i])), d[column] if column else 1, d[4] if per else "", d[4])
        for i, d in enumerate(documents)
    ]
    total = {20: 20, "20%": 18, "3kB": 3000, "500-tokens": 500}[budget]
    budgets = {"": total}
    if per:
        sizes = scores(run)
        each = {"cooking": 0, "maths": 0, "news": 0}
        for source, n_bytes, n_tokens in zip(
            *(sizes[c].to_pylist() for c in ("source", "n_bytes", "n_tokens")), strict=True
        ):
            each[source] += {2: n_bytes, 3: n_tokens}.get(column, 1)
        assert len(sizes) == 94  # all documents of raw count, those without a score too
        ends = np.floor(np.cumsum([each[s] for s in sorted(each)]) / sum(each.values()) * total + 1e-6)
        budgets = dict(zip(sorted(each), np.diff(ends, prepend=0).tolist(), strict=True))
    kept, chance = reference.sampled(of, draw_by, seed, budgets, by_size=column is not None)
    found = {row["doc_id"]: row for row in ledger(tmp_path / "out")}
    assert {d for d, row in found.items() if row["kept"]} == {of[i][0] for i in kept}
    for i, one in enumerate(of):
        assert found[one[0]]["inclusion"] == pytest.approx(chance[i], abs=1e-9)
    assert sum(chance[i] * one[2] for i, one in enumerate(of)) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(
    "weights",
    [
        {"transform": "js"},
        {"transform": "alpha=0.05"},
        {"min_ess": 0.3},
        {"regularise": "chi2:20"},
        {"regularise": "mixed:20"},
        {"transform": "hellinger", "max_kl": 0.5},
        {"max_kl": 50},
    ],
)
def test_chances_are_those_of_the_weights_on_arrays(run, tmp_path, weights) -> None:
    documents = table(run)
    s = np.array([d[1] for d in documents])
    w = weighting(WeightSpec(**weights), sums_over(s), len(s), s.min(), s.max()).log_weights(s)
    budget = min(20, int((w > -np.inf).sum()))
    result = drawn(run, tmp_path / "out", draw="pivotal", budget=20, weights=weights)
    assert result.n_selected == budget
    found = {row["doc_id"]: row["inclusion"] for row in ledger(tmp_path / "out")}
    assert [found[d[0]] for d in documents] == pytest.approx(inclusion(w, budget), abs=1e-9)


@pytest.mark.parametrize("by", ["source", "all"])
def test_calibrated_chances_are_those_of_quantiles_within_groups(run, tmp_path, by) -> None:
    documents = table(run)
    s = np.array([d[1] for d in documents])
    quantiles = mid_ranks(s, np.array([d[4] for d in documents]) if by == "source" else None)
    w = np.log(tilt(quantiles, 0.5).weights)
    result = drawn(run, tmp_path / "out", budget=20, weights={"calibrate": by, "max_kl": 0.5})
    assert result.manifest["recipe"]["draw"]["draw"] == "pivotal"
    found = {row["doc_id"]: row["inclusion"] for row in ledger(tmp_path / "out")}
    assert [found[d[0]] for d in documents] == pytest.approx(inclusion(w, 20), abs=1e-9)


def test_a_gumbel_draw_goes_by_the_transformed_scores(run, tmp_path) -> None:
    drawn(run, tmp_path / "out", draw="gumbel", budget=20, seed=2, weights=SOFT)
    documents = table(run)
    w = np.log(tilt(np.array([d[1] for d in documents]), SOFT["max_kl"]).weights)
    keys = [w[i] + reference.gumbel(d[0], 2) for i, d in enumerate(documents)]
    best = sorted(range(len(keys)), key=lambda i: -keys[i])[:20]
    assert kept_ids(tmp_path / "out") == sorted(documents[i][0] for i in best)
    assert "inclusion" not in ledger(tmp_path / "out")[0]
    strength = tilt(np.array([d[1] for d in documents]), SOFT["max_kl"]).strength
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["stats"]["spent"]["weights"] == {"max_kl": 0.8, "strength": pytest.approx(strength)}
    assert "chances" not in manifest["stats"]["spent"]


# ---- the same answer, whoever computes it


def by_id(out: Path) -> dict:
    return {row["doc_id"]: (row["kept"], row["inclusion"], row["weight"]) for row in ledger(out)}


@pytest.mark.parametrize("draw_by", BY_CHANCE)
@pytest.mark.parametrize(
    ("budget", "per", "weights"),
    [(25, None, SOFT), ("3kB", "source", {"regularise": "chi2:30"}), ("20%", None, SOFT | {"calibrate": "source"})],
)
def test_neither_files_nor_workers_change_a_bit_of_any_chance(tmp_path, draw_by, budget, per, weights) -> None:
    found = []
    for n_files, workers in ((1, 1), (7, 4)):
        of = random.Random(n_files).sample(ROWS, len(ROWS))
        raw = sharded(tmp_path / f"raw{n_files}", of, n_files, "parquet" if n_files == 7 else "jsonl")
        options = {"draw": draw_by, "budget": budget, "per": per, "weights": weights, "workers": workers}
        select(raw, tmp_path / f"out{n_files}", **options)
        found.append({i: row[:2] for i, row in by_id(tmp_path / f"out{n_files}").items()})
    assert found[0] == found[1]
    assert 0 < sum(kept for kept, _ in found[0].values()) < len(ROWS)


def test_where_batches_end_does_not_matter(run, tmp_path, monkeypatch) -> None:
    found = []
    for n in (1, 7, 1000):

        def pieces(path: Path, n: int = n):
            for rows_of in read_rows(path):
                yield from (rows_of.slice(start, n) for start in range(0, rows_of.num_rows, n))

        monkeypatch.setattr("curate.steps.chances.read_rows", pieces)
        for draw_by in ("pivotal", "systematic"):
            out = tmp_path / f"{draw_by}{n}"
            drawn(run, out, draw=draw_by, budget="4kB", per="source", weights=SOFT)
            found.append(tree(out))
    assert found[0] == found[2] == found[4]
    assert found[1] == found[3] == found[5]


def test_a_run_killed_at_any_commit_resumes_to_the_same_bytes(tmp_path) -> None:
    killed_at_every_commit(tmp_path, every=7, draw="pivotal", weights=SOFT | {"calibrate": "source"})


def test_another_seed_is_another_sample_of_the_same_chances(run, tmp_path) -> None:
    for seed in (0, 1):
        drawn(run, tmp_path / str(seed), draw="pivotal", budget=20, seed=seed, weights=SOFT)
    a, b = by_id(tmp_path / "0"), by_id(tmp_path / "1")
    assert {i: row[1] for i, row in a.items()} == {i: row[1] for i, row in b.items()}
    assert {i: row[0] for i, row in a.items()} != {i: row[0] for i, row in b.items()}


def test_documents_of_one_id_have_a_chance_each(tmp_path) -> None:
    write(tmp_path / "raw" / "a.jsonl", [row | {"id": f"d{i % 5}"} for i, row in enumerate(ROWS)])
    for draw_by in BY_CHANCE:
        result = select(tmp_path / "raw", tmp_path / draw_by, draw=draw_by, budget=40, weights=SOFT)
        assert draw_by == "poisson" or result.n_selected == 40


# ---- what comes out


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_of_documents_is_kept_exactly(run, tmp_path, seed) -> None:
    for draw_by in ("pivotal", "systematic"):
        for budget in (1, 7, 89):
            out = tmp_path / f"{draw_by}{budget}"
            assert drawn(run, out, draw=draw_by, budget=budget, seed=seed, weights=SOFT).n_selected == budget
    result = drawn(run, tmp_path / "per", draw="pivotal", budget=30, per="source", seed=seed,
                   proportions={"maths": 0.5, "news": 0.5}, weights=SOFT)  # fmt: skip
    kept = [row["source"] for row in shards(tmp_path / "per").to_pylist()]
    assert (result.n_selected, kept.count("maths"), kept.count("news")) == (30, 15, 15)


def test_more_than_there_is_keeps_all_and_says_so(run, tmp_path) -> None:
    result = drawn(run, tmp_path / "out", draw="pivotal", budget=1000)
    assert result.n_selected == 90
    assert any("more than there is" in warning for warning in result.warnings)
    found = ledger(tmp_path / "out")
    assert {row["inclusion"] for row in found if row["kept"]} == {1.0}
    assert {row["reason"]: row["inclusion"] for row in found if not row["kept"]} == {"too_short": None}


@pytest.mark.parametrize("draw_by", BY_CHANCE)
def test_weights_are_one_over_the_chance_and_add_up_to_one(run, tmp_path, draw_by) -> None:
    result = drawn(run, tmp_path / "out", draw=draw_by, budget="4kB", weights=SOFT)
    found = ledger(tmp_path / "out")
    kept = [row for row in found if row["kept"]]
    assert len(kept) == result.n_selected
    whole = math.fsum(1 / row["inclusion"] for row in kept)
    assert [row["weight"] for row in kept] == pytest.approx([1 / row["inclusion"] / whole for row in kept])
    assert {row["weight"] for row in found if not row["kept"]} == {0}
    assert math.fsum(row["weight"] for row in kept) == pytest.approx(1)
    of = {row["id"]: row["curate_weight"] for row in shards(tmp_path / "out").to_pylist()}
    assert of == {row["doc_id"]: row["weight"] for row in kept}
    assert all(0 <= row["inclusion"] <= 1 for row in found if row["reason"] != "too_short")
    assert verify(tmp_path / "out").ok


def test_over_many_seeds_weighted_totals_are_those_of_raw(run, tmp_path) -> None:
    """Of the documents with a score: their number, and their bytes."""
    documents = {d[0]: d[2] for d in table(run)}
    estimates = []
    for seed in range(24):
        drawn(run, tmp_path / str(seed), draw="pivotal", budget=30, seed=seed, weights={"max_kl": 0.3})
        kept = [row for row in ledger(tmp_path / str(seed)) if row["kept"]]
        estimates.append(
            [sum(1 / r["inclusion"] for r in kept), sum(documents[r["doc_id"]] / r["inclusion"] for r in kept)]
        )
    error = np.std(estimates, axis=0) / math.sqrt(len(estimates))
    assert (np.abs(np.mean(estimates, axis=0) - [90, sum(documents.values())]) < 4 * error).all()


def test_sizes_of_a_pivotal_sample_are_near_the_budget(run, tmp_path) -> None:
    largest = max(d[2] for d in table(run))
    for seed in range(6):
        result = drawn(run, tmp_path / str(seed), draw="pivotal", budget="5kB", seed=seed, weights=SOFT)
        assert abs(result.n_bytes_selected - 5000) < 3 * largest


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draw": "topk", "weights": {"max_kl": 1}}, "--draw topk .*--max-kl 1.* gumbel, pivotal"),
        ({"draw": "uniform", "weights": {"transform": "js"}}, "take one of --draw gumbel"),
        ({"draw": "gumbel", "weights": SOFT | {"calibrate": "all"}}, "take one of --draw pivotal"),
        (
            {"weights": SOFT | {"calibrate": "colour"}},
            "not a column of the scores .*source.*score with --per colour first",
        ),
        ({"draw": "pivotal", "threshold": 1.0}, "--threshold go together"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_way_out(run, tmp_path, options, message) -> None:
    with pytest.raises(UsageError, match=message):
        drawn(run, tmp_path / "out", **options)


def test_separate_targets_are_refused_before_anything_is_scored(tmp_path) -> None:
    target = {name: write(tmp_path / f"{name}.jsonl", target_rows()) for name in ("a", "b")}
    raw = sharded(tmp_path / "raw", ROWS, 1)
    with pytest.raises(UsageError, match="pool the targets"):
        select(raw, tmp_path / "out", target=target, draw="pivotal", settings={"separate_targets": True})
    assert not (tmp_path / "out").exists()


def test_scores_that_are_no_log_weights_can_be_tilted_but_not_taken_as_odds(tmp_path) -> None:
    raw = sharded(tmp_path / "raw", ROWS, 1)
    with pytest.raises(UsageError, match=r"no log weights: .*--max-kl 1, which tilts by any score"):
        select(raw, tmp_path / "out", method="primed", draw="pivotal")
    result = select(raw, tmp_path / "out", method="primed", weights={"max_kl": 1.0}, budget=20)
    assert result.manifest["recipe"]["draw"]["draw"] == "pivotal"
    assert result.n_selected == 20


# ---- what was spent


def test_a_tilt_spends_its_nats_and_a_little_less_after_capping(run, tmp_path) -> None:
    result = drawn(run, tmp_path / "out", draw="pivotal", budget=5, weights={"max_kl": 0.5})
    found = result.manifest["stats"]["spent"]
    p = np.array([row["inclusion"] for row in ledger(tmp_path / "out") if row["inclusion"] is not None])
    q = p / p.sum()
    assert found["documents"] == pytest.approx(q @ np.log(q * len(q)), abs=1e-9)
    assert found["documents"] == pytest.approx(0.5, abs=1e-9 if p.max() < 1 else 0.5)
    assert found["chances"]["expected"] == pytest.approx(5, abs=1e-9)
    assert found["chances"]["n_certain"] == (p >= 1).sum()
    assert found["chances"]["n_never"] == 0
    assert found["chances"]["effective_sample_size"] == pytest.approx(p.sum() ** 2 / (p @ p))
    capped = drawn(run, tmp_path / "capped", draw="pivotal", budget=40, weights={"max_kl": 1.5})
    assert capped.manifest["stats"]["spent"]["documents"] < 1


def test_scores_taken_as_odds_leave_documents_that_no_weight_speaks_for(run, tmp_path) -> None:
    result = drawn(run, tmp_path / "out", draw="pivotal", budget=20)
    p = [row["inclusion"] for row in ledger(tmp_path / "out") if row["inclusion"] is not None]
    assert result.manifest["stats"]["spent"]["chances"]["n_never"] == sum(x <= 1e-12 for x in p) > 0
    assert "one over the chance" in (tmp_path / "out" / "README.md").read_text()


def test_a_top_k_is_read_as_the_best_of_n(run, tmp_path) -> None:
    found = drawn(run, tmp_path / "out", draw="topk", budget=9).manifest["stats"]["spent"]
    assert found["documents"] == pytest.approx(math.log(10))
    assert (found["mean_rank"], found["best_of"]) == (pytest.approx(0.95), 19)
    assert found["best_of_nats"] == pytest.approx(math.log(19) - 18 / 19)
    tokens = dict(zip(scores(run)["doc_id"].to_pylist(), scores(run)["n_tokens"].to_pylist(), strict=True))
    grams = {i: n + max(0, n - 1) for i, n in tokens.items()}
    kept = kept_ids(tmp_path / "out")
    assert found["ngrams_at_most"] == pytest.approx(math.log(sum(grams.values()) / sum(grams[i] for i in kept)))


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=20), st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_n_grams_are_counted_from_lengths(lengths, n) -> None:
    histogram = LengthHistogram()
    histogram.add(np.array(lengths))
    expected = sum(max(0, length - order) for length in lengths for order in range(n))
    assert len(reference.ngrams(range(9), n)) == sum(9 - order for order in range(n))
    assert n_ngrams(histogram, n) == pytest.approx(expected, rel=0.01)
    if max(lengths) < 65_536:
        assert n_ngrams(histogram, n) == expected


def test_a_selection_without_n_grams_has_no_bound() -> None:
    assert "ngrams_at_most" not in spent(4, 2, LengthHistogram(), LengthHistogram(), 2).as_dict()


# ---- the command line


def test_the_command_says_what_was_spent_and_can_be_repeated(run, tmp_path) -> None:
    args = ["draw", str(run), "--out", str(tmp_path / "out"), "--draw", "pivotal", "--budget", "20", "--max-kl", "0.5"]
    found = CliRunner().invoke(main, [*args, "-q"])
    assert found.exit_code == 0, found.output
    assert "spent    0.4" in found.output or "spent    0.5" in found.output
    assert "chances add up to 20.0 documents" in found.output
    assert "weights max kl 0.5, strength 0.0" in found.output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "--draw pivotal" in manifest["command"]
    assert "--max-kl 0.5" in manifest["command"]
    assert manifest["recipe"]["draw"]["weights"] == {"max_kl": 0.5}
    refused = CliRunner().invoke(main, [*args, "--min-ess", "0.5"])
    assert refused.exit_code == 2
    assert "give one of them" in refused.output


def test_a_recipe_without_weights_is_what_it_was_before_there_were_any(run, tmp_path) -> None:
    assert "weights" not in drawn(run, tmp_path / "out", draw="topk").manifest["recipe"]["draw"]
