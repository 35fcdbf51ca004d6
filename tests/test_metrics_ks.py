"""Kolmogorov-Smirnov: exact with equal values too, corrected for many attributes, with sizes of effects."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import kolmogorov
from scipy.stats import ks_2samp, mannwhitneyu, norm

from curate.errors import InputError, UsageError
from curate.metrics import ks as module
from curate.metrics.attributes import compare_attributes
from curate.metrics.ks import (
    asymptotic_p_value,
    effective_size,
    exact_p_value,
    holm,
    ks,
    ks_at_n,
    ks_distance,
)

A, TIED, UNTIED = [1, 2, 3, 4, 5], [2, 3, 4, 8, 9, 10], [2.5, 3.5, 4.5, 8, 9, 10]


def compared(a, b, **more):
    return ks(np.array(a), np.array(b), rng=np.random.default_rng(0), **more)


@pytest.mark.parametrize(("b", "p_value"), [(TIED, 156 / 462), (UNTIED, 0.357142857)])
def test_ks_of_the_worked_examples(b, p_value) -> None:
    found = compared(A, b)
    assert found.distance == 0.5
    assert found.p_value == pytest.approx(p_value, abs=1e-9)
    assert reference.ks_p_value(A, b) == pytest.approx(p_value, abs=1e-9)
    assert (found.method, found.n_a, found.n_b, found.a_is_smaller) == ("exact", 5, 6, True)


samples = st.lists(st.integers(0, 6), min_size=1, max_size=5)


@given(samples, samples)
@settings(max_examples=60)
def test_the_exact_p_value_is_the_share_of_all_exchanges_with_equal_values_too(a, b) -> None:
    assert exact_p_value(np.array(a), np.array(b)) == pytest.approx(reference.ks_p_value(a, b), abs=1e-12)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 3), st.integers(0, 2**32))
def test_distance_and_p_value_equal_those_of_scipy_where_values_differ(n, m, shift, seed) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=m) + shift
    found, expected = compared(a, b, n_resamples=0), ks_2samp(a, b, method="exact")
    assert found.distance == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert abs((a <= found.location).mean() - (b <= found.location).mean()) == pytest.approx(found.distance)
    assert found.superiority == pytest.approx(mannwhitneyu(a, b).statistic / (n * m))


def test_small_p_values_are_exact_too() -> None:
    a = np.arange(40.0)
    assert exact_p_value(a, a + 100) == pytest.approx(2 / math.comb(80, 40), rel=1e-9)


many = st.lists(st.integers(-20, 20), min_size=1, max_size=30)


@given(many, many, st.integers(-5, 5), st.integers(1, 9))
def test_ks_is_symmetric_and_sees_only_the_order_of_values(a, b, shift, scale) -> None:
    one, other = compared(a, b, n_resamples=0), compared(b, a, n_resamples=0)
    assert one.distance == other.distance == pytest.approx(reference.ks_distance(a, b))
    assert one.p_value == pytest.approx(other.p_value, rel=1e-9)
    assert one.superiority == pytest.approx(1 - other.superiority)
    moved = compared([scale * x + shift for x in a], [scale * x + shift for x in b], n_resamples=0)
    assert (moved.distance, moved.p_value, moved.location) == (one.distance, one.p_value, scale * one.location + shift)
    assert 0 < one.p_value <= 1 + 1e-12


@given(many)
def test_a_sample_is_at_no_distance_of_itself_and_all_of_what_lies_beyond_it(a) -> None:
    same, apart = compared(a, a), compared(a, [x + 100 for x in a])
    assert (same.distance, same.p_value, same.low, same.superiority) == (0, 1, 0, 0.5)
    assert (apart.distance, apart.superiority, apart.a_is_smaller, apart.high) == (1, 0, True, 1)


def test_beyond_the_exact_limit_the_p_value_is_that_of_kolmogorov(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=900), rng.normal(0.1, size=1100)
    exact = compared(a, b, n_resamples=0)
    monkeypatch.setattr(module, "EXACT_CELLS", 900 * 1100 - 1)
    found = compared(a, b, n_resamples=0)
    assert (exact.method, found.method) == ("exact", "asymptotic")
    assert found.p_value == pytest.approx(kolmogorov(found.distance * math.sqrt(900 * 1100 / 2000)), rel=1e-9)
    assert found.p_value == pytest.approx(exact.p_value, rel=0.1)


@given(st.floats(0, 1), st.floats(1, 1e7), st.floats(1, 1e7))
def test_kolmogorovs_limit_equals_that_of_scipy(distance, n, m) -> None:
    z = distance * math.sqrt(n * m / (n + m))
    assert asymptotic_p_value(distance, n, m) == pytest.approx(kolmogorov(z), rel=1e-8, abs=1e-4)


def test_beyond_the_exact_limit_equal_values_are_exchanged_unless_the_limit_leaves_no_doubt(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 400), rng.integers(0, 3, 500)
    exact = compared(a, b, n_resamples=0)
    monkeypatch.setattr(module, "EXACT_STEPS", 899)
    found, far = compared(a, b, n_resamples=0), compared(a, b + 1, n_resamples=0)
    assert (exact.method, found.method, far.method) == ("exact", "permutation", "asymptotic")
    assert found.p_value == pytest.approx(exact.p_value, abs=0.05)
    assert far.p_value < 1e-3
    limit = asymptotic_p_value(found.distance, 400, 500)
    assert found.p_value < limit  # which is too large


def test_p_values_of_exchanges_are_uniform_at_most_when_nothing_differs(monkeypatch) -> None:
    monkeypatch.setattr(module, "EXACT_CELLS", 0)
    monkeypatch.setattr(module, "GRID_CELLS", 16)
    rng = np.random.default_rng(0)
    p = [
        ks(rng.integers(0, 90, 200), rng.integers(0, 90, 300), rng=rng, n_resamples=0, n_permutations=99).p_value
        for _ in range(300)
    ]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("shift", "n"), [(0, 100), (0, 500), (0.3, 100), (0.3, 500), (1, 100)])
def test_the_interval_holds_the_true_distance_at_least_as_often_as_it_says(shift, n) -> None:
    rng = np.random.default_rng(n)
    true = math.erf(shift / 2 / math.sqrt(2))
    found = [ks(rng.normal(size=n), rng.normal(shift, size=n), rng=rng, n_resamples=100) for _ in range(60)]
    assert np.mean([f.low <= true <= f.high for f in found]) >= 0.9


def test_the_interval_on_a_grid_is_that_of_all_values_nearly(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=3000), rng.normal(0.1, size=3000)
    fine = compared(a, b, n_resamples=600)
    monkeypatch.setattr(module, "GRID_CELLS", 200)
    coarse = compared(a, b, n_resamples=600)
    assert coarse.high - coarse.low == pytest.approx(fine.high - fine.low, rel=0.1)


def test_documents_of_few_sources_are_worth_fewer() -> None:
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(20), 50)
    a = rng.normal(size=20)[sources] + 0.1 * rng.normal(size=1000)
    b = rng.normal(size=1000)
    alone, together = ks(a, b, rng=rng), ks(a, b, rng=rng, clusters_a=sources)
    assert together.high - together.low > 1.3 * (alone.high - alone.low)
    assert together.p_value > 100 * alone.p_value
    assert (alone.n_effective_a, alone.n_effective_b, together.n_effective_b) == (1000, 1000, 1000)
    assert 15 < together.n_effective_a < 40


@pytest.mark.parametrize(
    ("values", "clusters", "worth"),
    [
        ([1, 2, 3, 4], [0, 0, 0, 0], 1),  # one source
        ([5, 5, 5, 5, 5, 5], [0, 0, 1, 1, 2, 2], 3),  # nothing varies: as many as sources
        (list(range(90)), list(range(90)), 89),  # (M - 1)/M of independent ones
    ],
)
def test_the_effective_size_of_worked_examples(values, clusters, worth) -> None:
    assert effective_size(np.array(values), np.array(clusters)) == pytest.approx(worth)


def test_copies_of_documents_are_worth_what_one_of_each_is() -> None:
    values = np.random.default_rng(0).normal(size=200)
    assert effective_size(np.repeat(values, 7), np.repeat(np.arange(200), 7)) == pytest.approx(199)


def test_p_values_with_clusters_reject_no_more_than_they_say() -> None:
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(60), 10)
    p_values = []
    for _ in range(150):
        a, b = (rng.normal(size=60)[sources] + rng.normal(size=600) for _ in range(2))
        p_values.append(ks(a, b, rng=rng, clusters_a=sources, clusters_b=sources, n_resamples=0).p_value)
    assert np.mean(np.array(p_values) <= 0.1) <= 0.18  # 0.5 without
    assert np.mean(p_values) > 0.4


# ---- many attributes


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.5, 0.9], [1, 1]), ([], []), ([0.02], [0.02])],
)
def test_holm_of_worked_examples(p_values, adjusted) -> None:
    assert holm(np.array(p_values)) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_rejects(p_values, alpha) -> None:
    rejected, n = set(), len(p_values)
    for place, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        if p_values[i] * (n - place) > alpha:
            break
        rejected.add(i)
    adjusted = holm(np.array(p_values))
    assert {i for i in range(n) if adjusted[i] <= alpha} == rejected
    assert (adjusted >= p_values).all()


def test_attributes_are_compared_with_their_quantiles_and_corrected_for_their_number() -> None:
    rng = np.random.default_rng(0)
    a = {"length": rng.integers(1, 100, 300), "score": rng.normal(size=300), "rate": rng.random(300)}
    b = {"rate": rng.random(150), "length": rng.integers(1, 150, 150), "score": rng.normal(2, size=150)}
    found = compare_attributes(a, b)
    assert list(found) == list(a)
    p_values = np.array([attribute.ks.p_value for attribute in found.values()])
    assert [attribute.adjusted_p for attribute in found.values()] == holm(p_values).tolist()
    ordered = sorted(b["length"].tolist())
    assert found["length"].quantiles_b["50%"] == ordered[74]
    assert list(found["length"].quantiles_a) == ["5%", "25%", "50%", "75%", "95%"]
    assert found["score"].ks_at_100 < 0.1
    assert found["rate"].ks_at_100 == 1
    alone = compare_attributes({"score": a["score"]}, {"score": b["score"]})
    assert alone["score"].ks == found["score"].ks  # whatever else is compared
    assert compare_attributes({}, {}) == {}


def test_small_corpora_have_no_ks_at_100_and_attributes_that_cannot_be_compared_are_named() -> None:
    few = {"x": np.arange(9.0)}
    assert math.isnan(compare_attributes(few, few)["x"].ks_at_100)
    with pytest.raises(InputError, match="y in one corpus only"):
        compare_attributes(few, {"y": few["x"]})
    with pytest.raises(InputError, match="attribute 'x': b: want at least one"):
        compare_attributes(few, {"x": few["x"] * math.nan})


# ---- KS@N


@pytest.mark.parametrize(("alpha", "failing"), [(1e-4, 0.2211), (0.05, 0.1348)])
def test_the_least_failing_distance_of_100_and_10_000_values(alpha, failing) -> None:
    truth = np.arange(10_000) + 0.5

    def moved(distance):  # 100 values whose distance is just that
        return np.linspace(10_000 * distance, 10_000, 100, endpoint=False).astype(int) // 1

    by_distance = {}
    for d in np.arange(failing - 0.002, failing + 0.002, 0.0005):
        found = compared(moved(d), truth, n_resamples=0)
        by_distance[found.distance] = found.p_value
    fails = [d for d, p in by_distance.items() if p <= alpha]
    passes = [d for d, p in by_distance.items() if p > alpha]
    assert max(passes) < failing + 1e-3
    assert min(fails) > failing - 1e-3


def test_ks_at_one_always_passes_and_ks_at_two_can_fail() -> None:
    rng = np.random.default_rng(0)
    truth, far = np.arange(10_000.0), np.full(5, 1e6)
    assert ks_at_n(truth, far, n=1, rng=rng, n_repeats=3) == 1
    assert ks_at_n(truth, far, n=2, rng=rng, n_repeats=3) == 0
    assert compared([1e6, 1e6], truth, n_resamples=0).p_value == pytest.approx(2 * 2 / (10_002 * 10_001), rel=1)


@given(st.integers(1, 20), st.integers(20, 60), st.booleans(), st.sampled_from([0.01, 0.2]), st.integers(0, 99))
@settings(max_examples=40)
def test_ks_at_n_is_the_share_of_subsamples_that_pass(n, n_truth, tied, alpha, seed) -> None:
    rng = np.random.default_rng(seed)
    truth, sample = rng.normal(size=n_truth) * 3, rng.normal(1, size=20) * 3
    if tied:
        truth, sample = np.round(truth), np.round(sample)
    found = ks_at_n(truth, sample, n=n, alpha=alpha, n_repeats=8, rng=np.random.default_rng(1))
    again = np.random.default_rng(1)
    passes = [exact_p_value(truth, again.choice(sample, n, replace=False)) > alpha for _ in range(8)]
    assert found == pytest.approx(np.mean(passes))


def test_ks_at_n_does_not_depend_on_the_size_of_the_corpus() -> None:
    rng = np.random.default_rng(0)
    truth, *samples = (norm.ppf((np.arange(size) + 0.5) / size) for size in (2000, 1000, 20_000))
    found = [ks_at_n(truth, sample + 0.5, rng=rng, n_repeats=100) for sample in samples]
    assert found[0] == pytest.approx(found[1], abs=0.2)


# ---- refusals


@pytest.mark.parametrize("a", [[], [1, math.nan], [[1, 2]]])
def test_samples_that_cannot_be_compared_are_refused(a) -> None:
    for of in (lambda: compared(a, A), lambda: ks_distance(np.array(a), np.array(A)), lambda: compared(A, a)):
        with pytest.raises(InputError, match="at least one value"):
            of()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: compared(A, A, clusters_a=[1]), InputError, "1 clusters for 5 values"),
        (lambda: compared(A, A, level=1), UsageError, "between 0 and 1"),
        (lambda: holm(np.array([0.1, 1.1])), InputError, "from 0 to 1"),
        (lambda: ks_at_n(np.ones(9), np.ones(9), rng=np.random.default_rng(0)), InputError, "needs 100 values"),
        (lambda: ks_at_n(np.ones(9), np.ones(9), n=0, rng=np.random.default_rng(0)), UsageError, "1 or more"),
        (
            lambda: ks_at_n(np.ones(9), np.ones(9), n=3, alpha=0, rng=np.random.default_rng(0)),
            UsageError,
            "alpha is between",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
