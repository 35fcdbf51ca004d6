"""Divergences equal their definitions, are what their names promise, and add up over parts of a corpus."""

import itertools
import math

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from curate.errors import InputError, UsageError
from curate.metrics.divergences import (
    DIVERGENCES,
    KL,
    REVERSE_KL,
    alpha_divergence,
    divergence,
    divergences,
    kl_mix,
    probabilities,
    renyi_divergence,
)

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.25, 0.25, 0.5])
names = st.sampled_from([*DIVERGENCES, "alpha=0.5", "alpha=-1", "alpha=3"])
two_counts = st.integers(2, 12).flatmap(
    lambda b: st.tuples(*[st.lists(st.integers(0, 50), min_size=b, max_size=b).filter(any)] * 2)
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kl", 0.218011911),
        ("reverse_kl", 0.239278182),
        ("jensen_shannon", 0.055582471),
        ("chi_square", 0.44),
        ("neyman", 0.583333333),
        ("squared_hellinger", 0.112715129),
        ("total_variation", 0.3),
        ("jeffreys", 0.457290093),
        ("alpha=0.5", 0.225430259),
        ("alpha=2", 0.22),
    ],
)
def test_divergences_of_the_worked_example(name, expected) -> None:
    assert divergence(name)(P, Q) == pytest.approx(expected, abs=1e-9)
    assert reference.f_divergence(name, P, Q) == pytest.approx(expected, abs=1e-9)


@given(names, two_counts)
def test_a_divergence_equals_its_definition_with_all_its_conventions_for_zeros(name, counts) -> None:
    p, q = (np.array(c) / sum(c) for c in counts)
    assert divergence(name)(p, q) == pytest.approx(reference.f_divergence(name, p, q), rel=1e-9, abs=1e-12)


@given(names, two_counts, st.floats(0, 2))
def test_a_divergence_is_never_negative_and_zero_only_of_equal_distributions(name, counts, pseudo_count) -> None:
    p, q = (probabilities(np.array(c), pseudo_count) for c in counts)
    assert divergence(name)(p, p) == 0
    found = divergence(name)(p, q)
    assert found >= 0
    if np.abs(p - q).max() > 1e-6:
        assert found > 0


@given(two_counts)
def test_symmetric_divergences_are_symmetric_and_the_others_come_in_pairs(counts) -> None:
    p, q = (probabilities(np.array(c)) for c in counts)
    for of in DIVERGENCES.values():
        if of.symmetric:
            assert of(p, q) == pytest.approx(of(q, p), rel=1e-9, abs=1e-12)
    for one, other in (("kl", "reverse_kl"), ("chi_square", "neyman"), ("alpha=0.25", "alpha=0.75")):
        assert divergence(one)(p, q) == pytest.approx(divergence(other)(q, p), rel=1e-9, abs=1e-12)
    assert DIVERGENCES["jeffreys"](p, q) == pytest.approx(KL(p, q) + REVERSE_KL(p, q), rel=1e-9, abs=1e-12)


@given(two_counts)
def test_divergences_equal_those_of_scipy(counts) -> None:
    p, q = (probabilities(np.array(c)) for c in counts)
    assert KL(p, q) == pytest.approx(entropy(p, q), rel=1e-9, abs=1e-12)
    assert DIVERGENCES["jensen_shannon"](p, q) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-6, abs=1e-12)


@given(two_counts, st.randoms(use_true_random=False))
def test_the_order_of_the_buckets_does_not_matter_and_merging_buckets_never_adds(counts, random) -> None:
    p, q = (np.array(c) / sum(c) for c in counts)
    order = list(range(len(p)))
    random.shuffle(order)
    for of in [*DIVERGENCES.values(), alpha_divergence(0.5)]:
        assert of(p[order], q[order]) == pytest.approx(of(p, q), rel=1e-9, abs=1e-12)
        merged = of(np.append(p[:-2], p[-2:].sum()), np.append(q[:-2], q[-2:].sum()))
        assert merged <= of(p, q) * (1 + 1e-9) + 1e-12


@given(names, st.floats(-5, 5))
def test_the_log_weight_is_the_second_derivative_times_the_squared_ratio(name, u) -> None:
    of = divergence(name)
    if of.log_weight is None or of.curvature is None:
        return
    h = 1e-3

    def f(log_r):
        r = np.exp(np.array([log_r]))
        return float(of.terms(r, np.ones(1), np.log(r))[0])

    # in u = log r: f_uu - f_u = f''(r) r**2
    second = (f(u + h) - 2 * f(u) + f(u - h)) / h**2 - (f(u + h) - f(u - h)) / (2 * h)
    relative = second / of.curvature
    expected = math.exp(float(of.log_weight(np.array([u]))[0] - of.log_weight(np.zeros(1))[0]))
    assert relative == pytest.approx(expected, rel=1e-4, abs=1e-4 * math.exp(abs(u) * 3))


@given(two_counts)
def test_log_weights_rank_documents_as_their_log_ratios_do(counts) -> None:
    u = np.linspace(-30, 30, 61)
    for of in DIVERGENCES.values():
        if of.log_weight is not None:
            assert (np.diff(of.log_weight(u)) >= 0).all()


def test_bounded_divergences_reach_their_bounds_and_the_others_are_infinite_on_disjoint_distributions() -> None:
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    found = {name: of(p, q) for name, of in DIVERGENCES.items()}
    assert found["jensen_shannon"] == pytest.approx(math.log(2))
    assert (found["total_variation"], found["squared_hellinger"]) == (1, 2)
    assert all(found[name] == math.inf for name in ("kl", "reverse_kl", "jeffreys", "chi_square", "neyman"))
    assert alpha_divergence(0.5)(p, q) == pytest.approx(4)


@pytest.mark.parametrize("near", [1e-4, 1e-8, 1e-12])
def test_near_its_ends_an_alpha_divergence_is_nearly_that_of_the_end(near) -> None:
    for sign in (1, -1):
        assert alpha_divergence(1 + sign * near)(P, Q) == pytest.approx(KL(P, Q), rel=2 * near + 1e-14)
        assert alpha_divergence(sign * near)(P, Q) == pytest.approx(REVERSE_KL(P, Q), rel=2 * near + 1e-14)


def test_a_ratio_too_large_for_a_number_still_has_its_alpha_divergence() -> None:
    p, q = np.array([1e-4, 1 - 1e-4]), np.array([1e-180, 1.0])
    assert alpha_divergence(2)(p, q) == pytest.approx(1e-8 / 1e-180 / 2)
    assert alpha_divergence(3)(p, q) == math.inf


# ---- Renyi


@given(two_counts, st.floats(0.05, 0.95))
def test_renyi_is_a_function_of_the_alpha_divergence_and_grows_with_the_order(counts, order) -> None:
    p, q = (probabilities(np.array(c)) for c in counts)
    power_sum = 1 + order * (order - 1) * alpha_divergence(order)(p, q)
    assert renyi_divergence(p, q, order) == pytest.approx(math.log(power_sum) / (order - 1), rel=1e-6, abs=1e-9)
    grid = [renyi_divergence(p, q, a) for a in (0, order, 1, 2, 7, math.inf)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(grid))


def test_renyi_at_the_ends_of_its_range() -> None:
    assert renyi_divergence(P, Q, 1) == KL(P, Q)
    assert renyi_divergence(P, Q, math.inf) == pytest.approx(math.log(2))
    assert renyi_divergence(np.array([1.0, 0]), Q[:2] / Q[:2].sum(), 0) == pytest.approx(math.log(2))
    apart = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert [renyi_divergence(*apart, a) for a in (0, 0.5, 2, math.inf)] == [math.inf] * 4
    assert renyi_divergence(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 2) == math.inf
    with pytest.raises(UsageError, match="0 or more"):
        renyi_divergence(P, Q, -1)


# ---- corpora


@given(two_counts, st.data())
def test_the_counts_of_parts_add_up_to_the_divergences_of_the_whole(counts, data) -> None:
    target, other = map(np.array, counts)
    part = np.array([data.draw(st.integers(0, int(c))) for c in other])
    assert divergences(target, part + (other - part)) == divergences(target, other)


def test_the_floor_is_what_two_samples_of_one_distribution_give() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(50, 20.0))
    found = [divergences(rng.multinomial(20_000, p), rng.multinomial(30_000, p), pseudo_count=0) for _ in range(200)]
    for name in DIVERGENCES:
        mean = np.mean([f[name].value for f in found])
        assert mean == pytest.approx(found[0][name].floor, rel=0.05), name
    halved = divergences(rng.multinomial(20_000, p), rng.multinomial(30_000, p), worth=(0.5, 0.5))
    assert halved["kl"].floor == pytest.approx(2 * found[0]["kl"].floor)
    assert KL.floor(0, 10, 5) == math.inf


@pytest.mark.parametrize(
    ("counts", "pseudo_count", "error", "message"),
    [
        ([0, 0], 0, InputError, "nothing was counted"),
        ([1, -1], 0.5, InputError, "from 0 up"),
        ([[1, 2]], 0.5, InputError, "one row"),
        ([1, math.nan], 0.5, InputError, "from 0 up"),
        ([1, 2], -0.1, UsageError, "0 or more"),
    ],
)
def test_counts_that_give_no_distribution_are_refused(counts, pseudo_count, error, message) -> None:
    with pytest.raises(error, match=message):
        probabilities(np.array(counts), pseudo_count)


@pytest.mark.parametrize("p", [[0.5, 0.6], [1.5, -0.5], [math.nan, 1], [[1.0]], []])
def test_what_is_no_distribution_is_refused(p) -> None:
    with pytest.raises(InputError, match="p is no distribution"):
        KL(np.array(p), Q)


def test_distributions_over_different_buckets_are_refused() -> None:
    with pytest.raises(InputError, match="p has 3 buckets and q has 2"):
        KL(P, np.array([0.5, 0.5]))
    with pytest.raises(InputError, match="p has 3 buckets and q has 2"):
        renyi_divergence(P, np.array([0.5, 0.5]), 2)


@pytest.mark.parametrize(
    ("name", "message"), [("helinger", "no divergence called"), ("alpha=x", "alpha=0.5"), ("alpha=inf", "finite")]
)
def test_a_name_without_a_divergence_is_refused(name, message) -> None:
    with pytest.raises(UsageError, match=message):
        divergence(name)


# ---- a mix of both


def test_the_mix_of_both_divergences_of_the_worked_example() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.4, 0.2])
    assert kl_mix(p, q, 0) == pytest.approx(0.183786897, abs=5e-10)
    assert kl_mix(p, q, 1) == pytest.approx(0.192041993, abs=5e-10)
    assert kl_mix(p, q, 0.2) == pytest.approx(0.185437917, abs=5e-10)


@given(two_counts, st.floats(0, 1))
def test_a_mix_of_divergences_is_that_of_the_exchanged_with_the_other_share(counts, share) -> None:
    p, q = (np.array(c, float) / sum(c) for c in counts)
    assert kl_mix(p, q, share) == pytest.approx(kl_mix(q, p, 1 - share))


def test_a_direction_without_a_share_is_not_infinite() -> None:
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert kl_mix(p, q, 1) == pytest.approx(math.log(2))
    assert kl_mix(p, q, 0.5) == math.inf
    with pytest.raises(UsageError, match="0 to 1"):
        kl_mix(p, q, 1.5)
