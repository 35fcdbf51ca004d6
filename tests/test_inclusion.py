"""Samples hold each document with the chance it was given, and the chances are those that the weights ask for."""

import itertools
import math

import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st

from curate.errors import InputError
from curate.sampling.inclusion import inclusion
from curate.sampling.noise import PAIR, stream
from curate.sampling.pivotal import Pivotal, Systematic, horvitz_thompson, pivotal, poisson, systematic

N_DRAWS = 100_000
WORKED = [0.3, 0.5, 0.7, 0.5]

# ---- chances


def test_the_chances_of_the_worked_example() -> None:
    found = inclusion(np.log([10, 5, 1, 1, 1, 1, 1]), 3)
    assert found == pytest.approx([1, 1, 0.2, 0.2, 0.2, 0.2, 0.2], abs=1e-12)


weighted = st.lists(
    st.tuples(st.sampled_from([0.25, 1.0, 1.0, 7.0, 400.0]) | st.floats(1e-6, 1e6), st.integers(1, 50)),
    min_size=1,
    max_size=25,
)


@given(weighted, st.floats(0, 1))
@example([(1.0, 1)] * 4, 1.0)
@example([(3.0, 1), (1.0, 1), (1.0, 1)], 1 / 3)
@example([(3.0, 1), (1.0, 1), (1.0, 1)], 0.0)
def test_chances_equal_the_definition_and_add_up_to_the_budget(documents, share) -> None:
    weights, sizes = (list(column) for column in zip(*documents, strict=True))
    budget = share * sum(sizes)
    found = inclusion(np.log(weights), budget, np.array(sizes))
    assert found == pytest.approx(reference.inclusion(weights, budget, sizes), abs=1e-9)
    assert found @ np.array(sizes) == pytest.approx(budget, abs=1e-9 * sum(sizes))
    assert found.min() >= 0
    assert found.max() <= 1


@given(weighted, st.floats(-1e3, 1e3), st.randoms())
def test_neither_the_scale_of_weights_nor_their_order_matters_to_the_chances(documents, shift, random) -> None:
    log_w = np.log([w for w, _ in documents])
    budget = len(documents) / 2
    order = list(range(len(documents)))
    random.shuffle(order)
    assert inclusion(log_w[order] + shift, budget) == pytest.approx(inclusion(log_w, budget)[order], abs=1e-9)


def test_weights_hundreds_of_nats_apart_leave_the_chances_exact() -> None:
    log_w = np.array([800.0, 0.0, -700.0, -np.inf, 0.0])
    assert inclusion(log_w, 2) == pytest.approx([1, 0.5, 0, 0, 0.5])
    assert inclusion(log_w, 4).tolist() == [1, 1, 1, 0, 1]
    for budget in (4.5, -1, math.nan):
        with pytest.raises(InputError, match=r"out of 4 .* is none"):
            inclusion(log_w, budget)


# ---- samples


@pytest.mark.parametrize(
    ("chances", "uniforms", "kept"),
    [
        (WORKED, [0.2, 0.9, 0.4], [0, 2]),
        ([0.2, 0.4, 0.6, 0.8], [0.5, 0.4, 0.5], [1, 3]),
        ([0.5] * 4, [0.2, 0.7], [0, 3]),
    ],
)
def test_the_pivotal_samples_of_the_worked_examples(chances, uniforms, kept) -> None:
    assert pivotal(np.array(chances), np.array([*uniforms, math.nan])).tolist() == kept


def test_the_systematic_sample_of_the_worked_example() -> None:
    assert systematic(np.array(WORKED), 0.35).tolist() == [1, 2]


chances_of = st.lists(
    st.sampled_from([0.0, 1.0, 0.5, 0.25, 1e-13, 1 - 1e-13, 0.1, 0.2, 0.3, 0.7]) | st.floats(0, 1), max_size=30
)


@given(chances_of, st.data())
def test_pivotal_equals_the_definition(chances, data) -> None:
    uniforms = data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=30, max_size=30))
    sampler = Pivotal(0)
    kept = sampler.add(np.array(chances), np.array(uniforms))
    certain, live, used = reference.pivotal(chances, uniforms)
    assert sorted(kept.tolist()) == certain
    assert sampler._n_pairs == used
    end = sampler.finish(0.4).tolist()
    assert end == ([live[0]] if live and (live[1] > 0.4 or live[1] > 1 - 1e-9) else [])


@given(chances_of, st.lists(st.integers(0, 30), max_size=4), st.integers(0, 5))
def test_how_a_stream_is_cut_does_not_matter(chances, cuts, seed) -> None:
    p = np.array(chances)
    for whole, of in ((pivotal(p, seed=seed), Pivotal(seed)), (systematic(p, seed=seed), Systematic(seed))):
        pieces = [of.add(piece) for piece in np.split(p, sorted(min(c, len(p)) for c in cuts))]
        assert sorted(np.concatenate([*pieces, of.finish()]).tolist()) == whole.tolist()


@given(st.lists(st.integers(0, 64), max_size=30), st.floats(0.001, 0.999))
def test_systematic_equals_the_definition(parts, start) -> None:
    p = np.array(parts) / 64  # sums are exact
    assert systematic(p, start).tolist() == reference.systematic(p.tolist(), start)


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**12))
def test_streams_of_numbers_equal_the_definition(seed, first) -> None:
    assert stream(seed, PAIR, first, 3).tolist() == [reference.pair_number(seed, PAIR, first + i) for i in range(3)]


@given(weighted, st.integers(0, 10))
def test_samples_of_a_whole_number_have_that_size(documents, seed) -> None:
    k = len(documents) // 2
    p = inclusion(np.log([w for w, _ in documents]), k)
    for draw in (pivotal, systematic):
        rows = draw(p, seed=seed)
        assert len(set(rows.tolist())) == k
        assert (p[rows] > 0).all()
        assert set(np.flatnonzero(p >= 1 - 1e-12)) <= set(rows.tolist())


@pytest.mark.parametrize("chances", [[1.1], [-0.1], [math.nan]])
def test_chances_that_are_none_are_refused(chances) -> None:
    for draw in (pivotal, systematic, lambda p: poisson(p, np.zeros(1))):
        with pytest.raises(InputError, match="from 0 to 1"):
            draw(np.array(chances))


# ---- 100,000 draws. Chances are such that those of one draw add up to a whole number exactly: then no document is
# left over, and one stream over many copies is as many independent draws.


def many(chances, draw) -> np.ndarray:
    """float64[N_DRAWS, n_docs]: 1 where a document was kept."""
    kept = np.zeros(N_DRAWS * len(chances))
    kept[draw(np.tile(chances, N_DRAWS))] = 1
    return kept.reshape(N_DRAWS, -1)


LIKELY = [np.array(WORKED), np.array([1, 5, 9, 13, 2, 16, 0, 3, 8, 7]) / 16, np.array([0.5] * 4)]


@pytest.mark.parametrize("chances", LIKELY, ids=["worked", "many", "halves"])
def test_in_100_000_pivotal_draws_chances_and_size_are_right_and_no_pair_is_kept_more_often(chances) -> None:
    kept = many(chances, lambda p: pivotal(p, seed=1))
    assert (kept.sum(axis=1) == round(chances.sum())).all()
    spread = np.sqrt(chances * (1 - chances) / N_DRAWS)
    assert (np.abs(kept.mean(axis=0) - chances) <= 4.5 * spread).all()
    for i, j in itertools.combinations(range(len(chances)), 2):
        both = (kept[:, i] * kept[:, j]).mean()
        together = chances[i] * chances[j]
        assert both <= together + 4.5 * math.sqrt(max(together * (1 - together), 1e-12) / N_DRAWS)


def test_the_pair_covariances_of_the_worked_example() -> None:
    found = np.cov(many(np.array(WORKED), lambda p: pivotal(p, seed=2)).T)
    off = found[~np.eye(4, dtype=bool)]
    assert off.min() == pytest.approx(-0.15, abs=0.005)
    assert off.max() == pytest.approx(-0.0225, abs=0.005)


@pytest.mark.parametrize("draw", ["pivotal", "systematic", "poisson"])
def test_totals_weighted_by_one_over_the_chance_are_unbiased_in_100_000_draws(draw) -> None:
    chances = np.array([1, 5, 9, 13, 2, 15, 3, 8, 8]) / 16
    values = np.array([10.0, -3, 4, 5, 1, 0, 2, 7, 100])
    rng = np.random.default_rng(3)
    if draw == "systematic":
        kept = np.zeros((N_DRAWS, len(chances)))
        starts = rng.uniform(1e-6, 1, N_DRAWS)
        for i, start in enumerate(starts):
            kept[i, systematic(chances, start)] = 1
    else:
        draws = {"pivotal": lambda p: pivotal(p, seed=4), "poisson": lambda p: poisson(p, rng.uniform(size=len(p)))}
        kept = many(chances, draws[draw])
    estimates = kept @ (values * horvitz_thompson(chances))
    assert estimates.mean() == pytest.approx(values.sum(), abs=4.5 * estimates.std() / math.sqrt(N_DRAWS))
    assert estimates.std() > 1


def test_sorted_by_source_each_source_is_kept_as_often_as_its_chances_add_up_to_within_two() -> None:
    rng = np.random.default_rng(5)
    source = np.repeat(np.arange(8), 500)
    p = inclusion(rng.normal(size=4000) + source / 3, 400)
    expected = np.bincount(source, p)
    for seed in range(50):
        found = np.bincount(source[pivotal(p, seed=seed)], minlength=8)
        assert (np.abs(found - expected) < 2).all()
        assert np.abs(np.cumsum(found - expected)).max() < 1 + 1e-6
