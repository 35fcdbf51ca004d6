"""Regression from mixtures to losses: it is the Gaussian process that it says, and finds mixtures that are good."""

import json
import math

import numpy as np
import polars as pl
import pytest
import reference
import scipy.stats
from click.testing import CliRunner
from conftest import ROOT
from corpora import write
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curate.cli import main
from curate.curriculum import regression
from curate.curriculum.mixing import mix
from curate.curriculum.regression import (
    LossModel,
    best_mixture,
    column_called,
    design,
    minimised,
    read_proxies,
    spearman,
)
from curate.errors import InputError, UsageError

NATURAL = np.array([0.4, 0.3, 0.2, 0.1])
SOURCES = ("books", "code", "web", "wiki")
WANTED = np.array([0.1, 0.2, 0.1, 0.6])


def loss_of(p: np.ndarray) -> np.ndarray:
    """Least where the mixture is WANTED: the KL divergence of each mixture from it, and a constant."""
    return 3 + (WANTED * np.log(WANTED / (p + 0.01))).sum(axis=-1)


@pytest.fixture(scope="module")
def fitted():
    p = design(NATURAL, 120, seed=3)
    noise = np.random.default_rng(0).normal(scale=0.01, size=len(p))
    return p, LossModel.fit(p, loss_of(p) + noise, SOURCES)


# ---- the fit


def test_slopes_of_the_marginal_likelihood_are_those_of_differences():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    theta = rng.normal(size=5) * 0.5
    _, slopes = regression._cost(theta, x, y)
    for i in range(5):
        step = 1e-6 * np.eye(5)[i]
        difference = regression._cost(theta + step, x, y)[0] - regression._cost(theta - step, x, y)[0]
        assert slopes[i] == pytest.approx(difference / 2e-6, rel=1e-5, abs=1e-6)


def test_the_cost_is_minus_the_log_likelihood_and_a_prior():
    rng = np.random.default_rng(1)
    x, y, theta = rng.normal(size=(6, 2)), rng.normal(size=6), np.array([0.3, -0.2, 0.1, -1.0])
    scaled = x / np.exp(theta[:2])
    k = (
        math.exp(0.1) * np.exp(-0.5 * ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2))
        + 100
        + math.exp(-1) * np.eye(6)
    )
    density = scipy.stats.multivariate_normal(np.zeros(6), k).logpdf(y)
    expected = -density - 3 * math.log(2 * math.pi) + 0.02 * float(theta @ theta)
    assert regression._cost(theta, x, y)[0] == pytest.approx(expected)


@given(arrays(np.float64, 3, elements=st.floats(-3, 3)), arrays(np.float64, (3, 3), elements=st.floats(-2, 2)))
def test_a_quadratic_is_least_where_its_slope_is_0(at, a):
    curve = a @ a.T + np.eye(3)
    found = minimised(lambda x: (float((x - at) @ curve @ (x - at)) / 2, curve @ (x - at)), np.zeros(3), steps=100)
    np.testing.assert_allclose(found, at, atol=0.02)


def test_the_valley_of_rosenbrock_is_followed_to_its_end():
    def valley(x):
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return a * a + 100 * b * b, np.array([-2 * a - 400 * x[0] * b, 200 * b])

    np.testing.assert_allclose(minimised(valley, np.array([-1.2, 1.0]), steps=200), [1, 1], atol=0.01)


def test_predictions_are_those_of_the_gaussian_process(fitted):
    p, model = fitted
    p, new = p[:40], p[40:50]
    model = LossModel.fit(p, loss_of(p), SOURCES)
    lengths = model.scale

    def kernel(a, b):
        return model.variance * math.exp(-0.5 * (((a - b) / lengths) ** 2).sum()) + 100

    y = (loss_of(p) - loss_of(p).mean()) / loss_of(p).std()
    means, variances = reference.gaussian_process(np.log(p + 1e-3), y, np.log(new + 1e-3), kernel, model.noise)
    mean, std = model.predict(new)
    np.testing.assert_allclose(mean, np.array(means) * loss_of(p).std() + loss_of(p).mean(), rtol=1e-6)
    np.testing.assert_allclose(std, np.sqrt(variances) * loss_of(p).std(), rtol=1e-3)


def test_what_is_left_out_is_predicted_as_by_the_others_alone():
    p = design(NATURAL, 12, seed=1)
    model = LossModel.fit(p, loss_of(p), SOURCES)
    y = (loss_of(p) - loss_of(p).mean()) / loss_of(p).std()

    def kernel(a, b):
        return model.variance * math.exp(-0.5 * (((a - b) / model.scale) ** 2).sum()) + 100

    x = np.log(p + 1e-3)
    left_out = [
        reference.gaussian_process(np.delete(x, i, 0), np.delete(y, i), x[i : i + 1], kernel, model.noise)[0][0]
        for i in range(12)
    ]
    assert model.rmse == pytest.approx(np.sqrt(np.mean((left_out - y) ** 2)) * loss_of(p).std(), rel=1e-5)
    assert model.spearman == pytest.approx(scipy.stats.spearmanr(left_out, y).statistic)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20))
def test_rank_correlation_is_that_of_scipy(pairs):
    a, b = np.array(pairs, float).T
    expected = scipy.stats.spearmanr(a, b).statistic if np.ptp(a) and np.ptp(b) else math.nan
    assert spearman(a, b) == pytest.approx(expected, nan_ok=True)


def test_mixtures_that_were_not_trained_on_are_ranked_right_and_as_surely_as_it_says(fitted):
    _, model = fitted
    new = design(NATURAL, 200, seed=4)
    mean, std = model.predict(new)
    assert spearman(mean, loss_of(new)) > 0.99
    assert (np.abs(mean - loss_of(new)) < 2 * std).mean() > 0.9


def test_the_order_of_proxies_and_of_sources_does_not_matter(fitted):
    p, _ = fitted
    rows, columns = np.random.default_rng(0).permutation(60), np.array([2, 0, 3, 1])
    a = LossModel.fit(p[:60], loss_of(p[:60]), SOURCES).predict(p[60:])[0]
    b = LossModel.fit(p[:60][rows][:, columns], loss_of(p[:60][rows]), SOURCES).predict(p[60:][:, columns])[0]
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_a_fit_is_the_same_every_time(fitted):
    p, _ = fitted
    a, b = (LossModel.fit(p[:30], loss_of(p[:30]), SOURCES) for _ in range(2))
    assert a.alpha.tobytes() == b.alpha.tobytes()


def test_a_source_that_no_proxy_has_is_left_alone():
    p = np.column_stack([design(NATURAL[:3] / 0.9, 40, seed=0), np.zeros(40)])
    model = LossModel.fit(p, loss_of(p), SOURCES)
    assert np.isfinite(model.predict(NATURAL)[0]).all()


def test_losses_that_tell_nothing_are_refused(fitted):
    p, _ = fitted
    for losses, words in ((np.ones(120), "must be numbers that differ"), (np.full(120, np.nan), "must be numbers")):
        with pytest.raises(InputError, match=words):
            LossModel.fit(p, losses, SOURCES)
    with pytest.raises(InputError, match="needs at least 8"):
        LossModel.fit(p[:5], loss_of(p[:5]), SOURCES)


# ---- the design


@given(st.integers(0, 99), arrays(np.float64, 5, elements=st.floats(1e-6, 1)), st.booleans())
def test_mixtures_of_a_design_add_up_to_1_and_are_within_their_caps(seed, sizes, cap):
    natural = sizes / sizes.sum()
    caps = np.minimum(1, 3 * natural + 0.05) if cap else None
    found = design(natural, 8, seed=seed, caps=caps)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    assert cap is False or (found <= caps + 1e-12).all()


def test_a_design_lies_around_the_smoothed_natural_proportions():
    found = design(NATURAL, 3_000, seed=0)
    np.testing.assert_allclose(found.mean(axis=0), np.sqrt(NATURAL) / np.sqrt(NATURAL).sum(), atol=0.02)
    used = (found > 0).sum(axis=1)
    assert used.min() == 1
    assert used.max() == 4


def test_a_source_without_text_is_in_no_mixture_of_a_design():
    assert (design(np.array([0.5, 0.5, 0.0]), 50)[:, 2] == 0).all()


# ---- the best mixture


def test_the_best_mixture_is_near_the_true_one_and_better_than_any_proxy(fitted):
    p, model = fitted
    best = best_mixture([(model, 1.0)], p, NATURAL, n_candidates=2_000)
    assert loss_of(best.mixture) < loss_of(p).min()
    assert loss_of(best.mixture) - loss_of(WANTED) < 0.02
    assert abs(best.loss - loss_of(best.mixture)) < 3 * best.uncertainty
    assert best.mixture.sum() == pytest.approx(1)
    assert best.natural_loss == pytest.approx(loss_of(NATURAL), abs=0.05)


def test_the_best_mixture_is_the_same_every_time_and_within_its_caps(fitted):
    p, model = fitted
    caps = np.array([1, 1, 1, 0.3])
    a, b = (best_mixture([(model, 1.0)], p, NATURAL, caps=caps, n_candidates=500) for _ in range(2))
    assert a.mixture.tobytes() == b.mixture.tobytes()
    assert a.mixture[3] == pytest.approx(0.3, abs=0.01)
    assert (a.mixture <= caps + 1e-12).all()


def test_small_changes_make_it_no_worse(fitted):
    p, model = fitted
    few, many = (best_mixture([(model, 1.0)], p, NATURAL, n_candidates=300, rounds=n) for n in (0, 40))
    assert many.loss + many.uncertainty <= few.loss + few.uncertainty + 1e-9


def test_risk_keeps_the_mixture_where_proxies_have_been(fitted):
    p, model = fitted
    careless, careful = (best_mixture([(model, 1.0)], p, NATURAL, n_candidates=500, risk=r) for r in (0, 5))
    assert careful.uncertainty <= careless.uncertainty + 1e-9
    assert careful.loss >= careless.loss - 1e-3


def test_of_several_losses_the_weighted_mean_is_made_small():
    p = design(NATURAL, 80, seed=3)
    one, other = (LossModel.fit(p, -np.log(p[:, i] + 0.02), SOURCES) for i in (0, 3))
    best = best_mixture([(one, 3.0), (other, 1.0)], p, NATURAL, n_candidates=1_000)
    assert best.mixture[0] == pytest.approx(0.75, abs=0.07)
    assert best.mixture[3] == pytest.approx(0.25, abs=0.07)


# ---- tables and the command


def tables(folder, p, losses, key="index"):
    n = np.arange(len(p))
    order = np.random.default_rng(0).permutation(len(p))
    pl.DataFrame({key: n, **{s: p[:, i] for i, s in enumerate(SOURCES)}}).write_csv(folder / "mixtures.csv")
    pl.DataFrame({key: n[order], "valid/wiki_loss": losses[order], "valid/code_loss": -losses[order]}).write_csv(
        folder / "losses.csv"
    )
    return folder / "mixtures.csv", folder / "losses.csv"


def test_rows_go_together_by_the_column_that_both_have(tmp_path, fitted):
    p, _ = fitted
    found = read_proxies(*tables(tmp_path, p, loss_of(p)))
    assert found.sources == SOURCES
    np.testing.assert_allclose(found.losses["valid/wiki_loss"], loss_of(found.mixtures), atol=1e-6)
    pl.DataFrame(found.mixtures, schema=SOURCES).write_parquet(tmp_path / "m.parquet")
    pl.DataFrame({"loss": np.arange(len(p))}).write_parquet(tmp_path / "l.parquet")
    assert read_proxies(tmp_path / "m.parquet", tmp_path / "l.parquet").losses["loss"].tolist() == list(range(len(p)))


@pytest.mark.parametrize(
    ("mixtures", "losses", "words"),
    [
        ("i,a,b\n1,.5,.5\n2,1,0\n", "i,l\n1,2\n3,4\n", "proxy '2' is in only one of"),
        ("i,a,b\n1,.5,.5\n1,1,0\n", "i,l\n1,2\n3,4\n", "proxy '1' occurs more than once"),
        ("i,a,b\n1,.5,.5\n2,1,.5\n", "i,l\n1,2\n2,4\n", "row 1: no mixture.*not 1.5"),
        ("i,a,b\n1,1.5,-.5\n", "i,l\n1,2\n", "row 0: no mixture"),
        ("i,a,b\n1,.5,x\n", "i,l\n1,2\n", "column 'b' is not of numbers"),
        ("i,a,b\n1,.5,.5\n", "i,l\n1,\n", "column 'l'"),
        ("i,a,b\n1,.5,.5\n2,1,0\n", "i,l\n1,5\n2,\n", "row 1: column 'l' holds no number"),
        ("i,a,b\n", "i,l\n", "no rows"),
        ("i,a,b\n1,.5,.5\n", "i\n1\n", "no columns but"),
        ("i,a,a\n1,.5,.5\n", "i,l\n1,2\n", "more than one column is called 'a'"),
        ("a,b\n.5,.5\n", "l\n1\n2\n", "has 1 rows, .* has 2"),
        ("i,a\n1,1\n", "i,a\n1,2\n", "shares 'i', 'a'"),
        ("", "i,l\n1,2\n", "cannot be read as a table"),
        ("i,a,b\n1,2\n1\n", "i,l\n1,2\n", "cannot be read as a table"),
        (None, "i,l\n1,2\n", "no such file"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(tmp_path, mixtures, losses, words):
    for name, text in (("m.csv", mixtures), ("l.csv", losses)):
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_proxies(tmp_path / "m.csv", tmp_path / "l.csv")


def test_a_loss_is_called_by_a_part_of_its_name():
    columns = ["pile/cc", "pile/pubmed_a", "pile/pubmed_b", "cc"]
    assert column_called("pubmed_a", columns) == "pile/pubmed_a"
    assert column_called("cc", columns) == "cc"
    with pytest.raises(UsageError, match="could be any of pile/pubmed_a, pile/pubmed_b"):
        column_called("pubmed", columns)
    with pytest.raises(UsageError, match="no loss called 'arxiv'"):
        column_called("arxiv", columns)


def test_the_command_finds_the_mixture_and_says_what_it_is_worth(tmp_path):
    p = design(NATURAL, 60, seed=3)
    mixtures, losses = tables(tmp_path, p, loss_of(p))
    words = [
        "curriculum",
        "mix",
        "--proxies",
        mixtures,
        "--losses",
        losses,
        "--loss",
        "wiki",
        "--out",
        tmp_path / "out",
    ]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    assert "valid/wiki_loss: 60 proxies, each predicted from the others: rank correlation" in result.stdout
    found = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert loss_of(np.array([found[s] for s in SOURCES])) - loss_of(WANTED) < 0.05


def test_epochs_and_natural_proportions_are_those_of_raw_and_other_sources_get_nothing(tmp_path, fitted):
    p, _ = fitted
    mixtures, losses = tables(tmp_path, p[:60], loss_of(p[:60]))
    sizes = {"wiki": 100, "web": 200, "code": 300, "books": 400, "none": 50}
    raw = write(tmp_path / "raw.jsonl", [{"text": "a" * n, "source": name} for name, n in sizes.items()])
    found = mix(raw, proxies=mixtures, losses=losses, loss={"wiki_loss": 1}, budget="1kB", max_epochs=3)
    weights = dict(zip(found.names, found.weights, strict=True))
    assert weights["none"] == 0
    assert weights["wiki"] == pytest.approx(0.3, abs=0.01)
    assert found.epochs.max() <= 3 + 1e-9
    with pytest.raises(UsageError, match=r"no source of .*mixtures.csv called 'books'"):
        mix(write(tmp_path / "other.jsonl", [{"text": "a", "source": "x"}]), proxies=mixtures, losses=losses,
            loss={"wiki_loss": 1})  # fmt: skip
    del sizes["books"]
    none = [{"text": "a" * n, "source": name} for name, n in [*sizes.items(), ("books", 0)]]
    without = mix(write(tmp_path / "none.jsonl", none), proxies=mixtures, losses=losses, loss={"wiki_loss": 1})
    assert without.weights[without.names.index("books")] == 0
    with pytest.raises(InputError, match="less than --budget"):
        mix(raw, proxies=mixtures, losses=losses, loss={"wiki_loss": 1}, budget="5kB", max_epochs=3)


# ---- the published tables


def test_losses_of_the_published_mixtures_are_ranked_as_well_as_by_trees():
    """Trees: 0.990, 0.986 and 0.962 (LightGBM); a linear fit 0.902, 0.893 and 0.877."""
    folder = ROOT.parent / "shared" / "regmix"
    if not folder.is_dir():
        pytest.skip(f"no tables of RegMix at {folder.relative_to(ROOT.parent)} beside the repository")
    train = read_proxies(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    column = column_called("pile_cc", list(train.losses))
    model = LossModel.fit(train.mixtures, train.losses[column], train.sources, column)
    for size, least in (("1m", 0.98), ("60m", 0.98), ("1B", 0.95)):
        test = read_proxies(folder / f"test_mixture_{size}.csv", folder / f"test_pile_loss_{size}.csv")
        assert spearman(model.predict(test.mixtures)[0], test.losses[column]) >= least
