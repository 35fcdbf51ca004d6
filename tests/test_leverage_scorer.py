"""Method leverage: exact scores of a corpus in one pass, by hashed vectors, a column or an encoder; no target."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from corpora import FORMATS, kept_ids, ledger, rows, scores, select, sharded, tree, write
from killing import killed_at_every_commit

from curate.cli import main
from curate.engines.resources import Resources
from curate.errors import InputError, UsageError
from curate.features.vectors import HashedVectors
from curate.leverage import leverage_scores
from curate.plan import estimate
from curate.sampling.inclusion import inclusion
from curate.scorers import Leverage, load_scorer, scorer

ROWS = rows(120)
TEXTS = [row["text"] for row in ROWS]
RBF = {"kernel": "rbf", "dim": 32, "max_documents": 60}


def with_vectors(of, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    return [{**row, "embedding": [float(v) for v in rng.normal(size=dim)]} for row in of]


def by_id(out):
    table = scores(out)
    return dict(zip(table["doc_id"].to_pylist(), table["score"].to_pylist(), strict=True))


def test_scores_are_the_exact_leverage_scores_and_sum_to_the_effective_dimension(tmp_path) -> None:
    raw = sharded(tmp_path / "raw", ROWS, 7)
    select(raw, tmp_path / "out", method="leverage", settings={"dim": 64, "ridge": 0.5})
    x = np.rint(HashedVectors(dim=64)(pa.array(TEXTS)).astype(float) * 2**14) / 2**14
    expected = leverage_scores(x @ x.T, 0.5)
    found = by_id(tmp_path / "out")
    assert [found[row["id"]] for row in ROWS] == pytest.approx(expected, abs=1e-9)
    model = load_scorer(tmp_path / "out" / "scorer")
    assert isinstance(model, Leverage)
    assert sum(found.values()) == pytest.approx(model.effective_dimension_)
    fit = json.loads((tmp_path / "out" / "manifest.json").read_text())["stats"]["fit"]
    assert fit["effective_dimension"] == pytest.approx(model.effective_dimension_, abs=0.01)
    assert fit["n_documents_fitted"] == 120


def test_documents_are_kept_with_chances_in_proportion_to_their_scores(tmp_path) -> None:
    raw = sharded(tmp_path / "raw", ROWS, 3)
    select(raw, tmp_path / "out", method="leverage", settings={"dim": 64}, budget=30)
    kept = [row for row in ledger(tmp_path / "out") if row["kept"]]
    chances = {row["doc_id"]: row["inclusion"] for row in ledger(tmp_path / "out")}
    found = by_id(tmp_path / "out")
    expected = inclusion(np.log([found[row["id"]] for row in ROWS]), 30)
    assert [chances[row["id"]] for row in ROWS] == pytest.approx(expected)
    assert len(kept) == 30
    weights = 1 / np.array([row["inclusion"] for row in kept])
    assert [row["weight"] for row in kept] == pytest.approx(weights / weights.sum())


def test_scores_that_are_no_weights_are_not_sampled_in_proportion_to(tmp_path) -> None:
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    with pytest.raises(UsageError, match="take method leverage"):
        select(tmp_path / "raw", tmp_path / "out", weights={"transform": "proportional"})


def test_what_there_is_a_lot_of_scores_low_and_what_is_alone_high() -> None:
    many, alone = [" ".join([TEXTS[0], f"word{i}"]) for i in range(50)], " ".join(f"other{i}" for i in range(30))
    model = Leverage(ridge=0.1).fit(raw=[*many, alone])
    assert model.score([alone])[0] > 0.9
    assert model.score(many).max() < 0.5


def test_a_sum_of_a_corpus_leaves_out_documents_that_are_too_short() -> None:
    model = Leverage(dim=32).fit(raw=[*TEXTS, "too short", ""])
    assert model.n_documents_ == 120
    assert np.isnan(model.score(["too short"])[0])


def test_a_target_plays_no_part() -> None:
    alone, beside = Leverage(dim=32).fit(raw=TEXTS), Leverage(dim=32).fit(target={"maths": TEXTS[:9]}, raw=TEXTS)
    assert (alone.score(TEXTS) == beside.score(TEXTS)).all()
    assert beside.target_names_ == ["maths"]


def test_scores_lie_between_0_and_1() -> None:
    for settings in ({"dim": 32}, RBF):
        found = scorer("leverage", **settings).fit(raw=TEXTS).score(TEXTS)
        assert ((found >= 0) & (found <= 1)).all()


# ---- vectors of a column


@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])
def test_a_column_of_vectors_is_scored_instead_of_the_text(tmp_path, form) -> None:
    of = with_vectors(ROWS)
    raw = sharded(tmp_path / "raw", of, 3, form)
    select(raw, tmp_path / "out", method="leverage", settings={"vectors": "embedding", "ridge": 0.5})
    x = np.array([row["embedding"] for row in of], np.float32).astype(float)
    x = np.rint(x / np.linalg.norm(x, axis=1, keepdims=True) * 2**14) / 2**14
    found = by_id(tmp_path / "out")
    assert [found[row["id"]] for row in of] == pytest.approx(leverage_scores(x @ x.T, 0.5), abs=1e-6)


def test_a_column_that_is_not_there_or_holds_no_vectors_is_an_error_with_its_place(tmp_path) -> None:
    write(tmp_path / "raw" / "a.jsonl", with_vectors(ROWS))
    for column, error, message in (
        ("embeding", UsageError, "did you mean 'embedding'"),
        ("text", InputError, r"a.jsonl column 'text': .*not lists of numbers"),
    ):
        with pytest.raises(error, match=message):
            select(tmp_path / "raw", tmp_path / "out", method="leverage", settings={"vectors": column})
    write(tmp_path / "raw" / "a.jsonl", [*with_vectors(ROWS), {"id": "x", "text": TEXTS[0], "embedding": None}])
    with pytest.raises(InputError, match=r"a.jsonl column 'embedding' row 120: no vector"):
        select(tmp_path / "raw", tmp_path / "out", method="leverage", settings={"vectors": "embedding"}, overwrite=True)


def test_vectors_of_two_lengths_in_two_files_are_an_error(tmp_path) -> None:
    write(tmp_path / "raw" / "a.parquet", with_vectors(ROWS[:60]))
    write(tmp_path / "raw" / "b.parquet", with_vectors(ROWS[60:], dim=9))
    with pytest.raises(InputError, match="8 dimensions in one part and 9 in another"):
        select(tmp_path / "raw", tmp_path / "out", method="leverage", settings={"vectors": "embedding"})


def test_vectors_of_too_many_dimensions_are_refused_with_the_way_out() -> None:
    texts, vectors = pa.array(TEXTS[:2]), np.ones((2, 2_049), np.float32)
    with pytest.raises(UsageError, match="kernel=rbf"):
        Leverage(vectors="embedding").fit(raw=[(texts, vectors)])
    assert Leverage(vectors="embedding", kernel="rbf").fit(raw=[(texts, vectors)]).n_documents_ == 2


def test_texts_alone_cannot_be_scored_by_a_column() -> None:
    with pytest.raises(UsageError, match="only texts"):
        Leverage(vectors="embedding").fit(raw=TEXTS)


def test_one_source_of_vectors_and_one_ridge_may_be_named() -> None:
    for wrong in (
        {"vectors": "a", "encoder": "b"},
        {"ridge": 1.0, "ridge_per_document": 0.1},
        {"kernel": "cubic"},
        {"ridge": 0},
        {"bandwidth": -1.0},
        {"dim": 5_000},
    ):
        with pytest.raises(UsageError):
            Leverage(**wrong)


@pytest.mark.parametrize("settings", [{}, {"kernel": "rbf"}])
def test_a_plan_can_be_made_for_a_column_of_vectors(tmp_path, settings) -> None:
    write(tmp_path / "raw" / "a.jsonl", with_vectors(ROWS))
    found = estimate(
        [tmp_path / "raw"],
        target=None,
        out=tmp_path / "out",
        method="leverage",
        settings={"vectors": "embedding", **settings},
    )
    assert [step.name for step in found.steps] == ["scan", "fit", "score", "draw", "keep", "write"]


def test_another_method_beside_a_column_of_vectors_gets_its_texts(tmp_path) -> None:
    write(tmp_path / "raw" / "a.jsonl", with_vectors(ROWS))
    for method in ("dsir+leverage", "primed+leverage"):
        for kernel in ("linear", "rbf"):
            settings = {"leverage.vectors": "embedding", "leverage.kernel": kernel}
            if "dsir" in method:
                settings["dsir.n_buckets"] = 500
            select(tmp_path / "raw", tmp_path / method / kernel, method=method, settings=settings)
            assert all(0 <= score <= 1 for score in by_id(tmp_path / method / kernel).values())


# ---- without a target


def test_no_target_is_needed_from_the_command_to_the_report(tmp_path) -> None:
    write(tmp_path / "raw" / "a.jsonl", ROWS)
    out = str(tmp_path / "out")
    words = ["select", str(tmp_path / "raw"), "--method", "leverage", "--budget", "20", "--out", out, "-q"]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0, shown.output
    assert "effective dimension" in shown.output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["targets"] == []
    assert "--target" not in manifest["command"]
    for command in (
        ["verify", out],
        ["report", out, "-q"],
        ["draw", out, "--budget", "5", "-q", "--overwrite"],
        [*words, "--dry-run"],
    ):
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 0, found.output


# ---- the RBF kernel


def test_scores_by_the_rbf_kernel_are_near_the_exact_ones_and_their_error_is_known(tmp_path) -> None:
    x = HashedVectors(dim=32)(pa.array(TEXTS)).astype(float)
    model = Leverage(kernel="rbf", dim=32, copies=400, ridge=1.0, bandwidth=0.8).fit(raw=TEXTS)
    k = np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / (2 * 0.8**2))
    exact = leverage_scores(k, 1.0)
    assert model.score(TEXTS) == pytest.approx(exact, rel=0.25)
    assert model.effective_dimension_ == pytest.approx(exact.sum(), rel=0.2)
    assert model.error_["size"] <= 120
    assert 0.75 < model.error_["lowest"] <= model.error_["median"] <= model.error_["highest"] < 1.3
    model.save(tmp_path)
    assert load_scorer(tmp_path).error_ == model.error_


def test_an_rbf_selection_depends_on_no_way_of_cutting_the_corpus(tmp_path, monkeypatch) -> None:
    options = {"method": "leverage", "settings": RBF, "budget": 25, "name": "x"}
    raw = sharded(tmp_path / "raw", ROWS, 3)
    select(raw, tmp_path / "wanted", workers=1, **options)
    for n_files in (1, 50):
        mixed = sharded(tmp_path / f"raw-{n_files}", random.Random(n_files).sample(ROWS, len(ROWS)), n_files)
        select(mixed, tmp_path / f"out-{n_files}", **options)
        assert by_id(tmp_path / f"out-{n_files}") == by_id(tmp_path / "wanted")
        assert kept_ids(tmp_path / f"out-{n_files}") == kept_ids(tmp_path / "wanted")
    monkeypatch.setattr(Resources, "batch_bytes", lambda self, engine: 300)
    select(raw, tmp_path / "small", workers=4, **options)
    assert tree(tmp_path / "small") == tree(tmp_path / "wanted")


def test_an_rbf_run_killed_at_any_commit_resumes_to_the_same_bytes(tmp_path) -> None:
    killed_at_every_commit(tmp_path, first=3, every=7, method="leverage", settings=RBF)


@pytest.mark.parametrize(
    "settings", [{"dim": 32}, RBF, {"vectors": "embedding"}, {"vectors": "embedding", "kernel": "rbf"}]
)
def test_leverage_scores_do_not_depend_on_the_format(tmp_path, settings) -> None:
    of = with_vectors(ROWS) if "vectors" in settings else ROWS
    forms = [f for f in FORMATS if "csv" not in f] if "vectors" in settings else FORMATS
    found = []
    for form in forms:
        select(sharded(tmp_path / form, of, 2, form), tmp_path / f"o-{form}", method="leverage", settings=settings)
        found.append(by_id(tmp_path / f"o-{form}"))
    assert all(one == found[0] for one in found)


ON_THREADS = """
import sys
from pathlib import Path
from corpora import select
select(sys.argv[1], Path(sys.argv[2]), method="leverage", budget=20, settings={"dim": 256}, name="x")
"""


def test_the_threads_of_linear_algebra_change_no_byte(tmp_path) -> None:
    raw = sharded(tmp_path / "raw", ROWS, 2)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    for threads in "12":
        of = os.environ | {"OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": path}
        subprocess.run([sys.executable, "-c", ON_THREADS, raw, tmp_path / threads], env=of, check=True)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


@pytest.mark.parametrize("weights", [{"max_kl": 1.0}, {"regularise": "chi2:1"}, {"min_ess": 0.97}, {"min_ess": 1.0}])
def test_documents_with_a_score_of_0_are_weighed_like_others(tmp_path, weights) -> None:
    made = [row | {"embedding": [0.0, 0.0] if i % 5 == 0 else [1.0, float(i)]} for i, row in enumerate(ROWS)]
    raw = sharded(tmp_path / "raw", made, 2, "parquet")
    settings = {"vectors": "embedding"}
    found = select(raw, tmp_path / "out", method="leverage", settings=settings, weights=weights, budget=20)
    assert found.n_selected == 20


def test_leverage_chooses_no_candidates_to_cover_a_target(tmp_path) -> None:
    raw = sharded(tmp_path / "raw", ROWS, 2)
    with pytest.raises(UsageError, match="not: take a method that looks at the target"):
        select(raw, tmp_path / "out", method="leverage", draw="cover", budget=20)
