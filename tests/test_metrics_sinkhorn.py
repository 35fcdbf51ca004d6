"""Sinkhorn divergence equals its worked examples, POT, and what it tends to at both ends of epsilon."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from curate.errors import InputError, UsageError
from curate.metrics import sinkhorn as module
from curate.metrics.sinkhorn import sinkd_loss, sinkhorn, sinkhorn_divergence

X, Y = np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[0.0, 0], [2, 0]])
COST = cdist(X, Y, "sqeuclidean")


def plan_of(found, a, b, cost):
    return np.exp((found.f[:, None] + found.g - cost) / found.epsilon) * np.outer(a, b)


def test_sinkhorn_of_the_worked_example() -> None:
    found = sinkhorn(np.ones(3), np.ones(2), COST, 1.0)
    assert found.converged
    assert found.value == pytest.approx(1.634811480, abs=1e-8)
    assert found.cost == pytest.approx(1.395273930, abs=1e-8)
    expected = [[0.242257425, 0.091075908], [0.015485149, 0.317848184], [0.242257425, 0.091075908]]
    assert plan_of(found, np.full(3, 1 / 3), np.full(2, 1 / 2), COST) == pytest.approx(np.array(expected), abs=1e-8)
    debiased = sinkhorn_divergence(X, Y, epsilon=1.0)
    assert debiased.between == pytest.approx(1.634811480, abs=1e-8)
    assert debiased.within_x == pytest.approx(0.644238252, abs=1e-8)
    assert debiased.within_y == pytest.approx(0.674997253, abs=1e-8)
    assert debiased.value == pytest.approx(0.975193728, abs=1e-8)


def test_sinkhorn_of_the_worked_example_at_a_small_epsilon() -> None:
    found = sinkhorn(np.ones(3), np.ones(2), COST, 0.05)
    assert found.value == pytest.approx(1.349246188, abs=1e-8)
    assert found.cost == pytest.approx(1.333333333, abs=1e-6)
    assert sinkhorn_divergence(X, Y, epsilon=0.05).value == pytest.approx(1.304452201, abs=1e-8)


def test_the_sinkd_loss_of_the_worked_example() -> None:
    student, teacher = np.array([[2.0, 0], [0, 1]]), np.array([[1.0, 0], [0, 2]])
    assert sinkd_loss(student, teacher) == pytest.approx(0.441606918, abs=1e-9)
    with pytest.raises(InputError, match="shapes"):
        sinkd_loss(student, teacher[:1])


def clouds(seed, n=None, dim=None):
    rng = np.random.default_rng(seed)
    dim = dim or rng.integers(1, 4)
    n, m = (n, n) if n else rng.integers(1, 12, 2)
    return rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) * 2 + 1, rng.random(n) + 0.1, rng.random(m) + 0.1


@pytest.mark.reference
@given(st.integers(0, 2**32), st.sampled_from([2.0, 20.0]))
@settings(max_examples=25)
def test_sinkhorn_equals_pot(seed, epsilon) -> None:
    ot = pytest.importorskip("ot")
    x, y, a, b = clouds(seed)
    a, b, cost = a / a.sum(), b / b.sum(), cdist(x, y, "sqeuclidean")
    found = sinkhorn(a, b, cost, epsilon)
    expected = ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", stopThr=1e-12, numItermax=20_000)
    assert plan_of(found, a, b, cost) == pytest.approx(expected, abs=1e-6)
    assert found.cost == pytest.approx((expected * cost).sum(), abs=1e-5)
    assert found.value == pytest.approx(
        found.cost + epsilon * (expected * np.log(np.maximum(expected, 1e-300) / np.outer(a, b))).sum(), abs=1e-5
    )


@given(st.integers(0, 2**32), st.sampled_from([1.0, 10.0]))
@settings(max_examples=30)
def test_the_divergence_is_symmetric_never_negative_and_zero_of_equal_clouds(seed, epsilon) -> None:
    x, y, a, b = clouds(seed)
    one, other = (
        sinkhorn_divergence(x, y, a=a, b=b, epsilon=epsilon),
        sinkhorn_divergence(y, x, a=b, b=a, epsilon=epsilon),
    )
    unit = 1e-6 * max(cdist(u, v, "sqeuclidean").max() for u in (x, y) for v in (x, y)) + 1e-9
    assert one.value == pytest.approx(other.value, abs=unit)
    assert one.value > -unit
    order = np.random.default_rng(seed).permutation(len(x))
    assert sinkhorn_divergence(x, x[order], a=a, b=a[order], epsilon=epsilon).value == pytest.approx(0, abs=unit)
    if np.linalg.norm(a @ x / a.sum() - b @ y / b.sum()) > 0.1:
        assert one.value > 1e-4


@given(st.integers(0, 2**32))
@settings(max_examples=25)
def test_moving_turning_and_scaling_both_clouds_changes_only_the_unit(seed) -> None:
    x, y, a, b = clouds(seed, dim=2)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    found = sinkhorn_divergence(x, y, a=a, b=b)
    moved = sinkhorn_divergence(3 * x @ turn + 5, 3 * y @ turn + 5, a=a, b=b)
    assert moved.epsilon == pytest.approx(9 * found.epsilon)
    assert moved.value == pytest.approx(9 * found.value, rel=1e-5, abs=1e-6)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_two_half_points_are_one_and_points_of_no_weight_are_none(seed) -> None:
    x, y, a, b = clouds(seed)
    found = sinkhorn_divergence(x, y, a=a, b=b, epsilon=1.0).value
    halves = sinkhorn_divergence(np.vstack([x, x]), y, a=np.append(a, a), b=b, epsilon=1.0).value
    more = sinkhorn_divergence(np.vstack([x, x + 99]), y, a=np.append(a, 0 * a), b=b, epsilon=1.0).value
    assert halves == pytest.approx(found, abs=1e-6)
    assert more == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_small_epsilon_gives_the_wasserstein_distance_and_a_large_one_that_of_the_means(seed) -> None:
    x, y, *_ = clouds(seed, n=8, dim=2)
    cost = cdist(x, y, "sqeuclidean")
    best = cost[linear_sum_assignment(cost)].mean()
    assert sinkhorn_divergence(x, y, epsilon=1e-3, max_iterations=20_000).value == pytest.approx(best, rel=1e-2)
    of_means = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    assert sinkhorn_divergence(x, y, epsilon=1e6).value == pytest.approx(of_means, rel=1e-4)


def test_blocks_do_not_matter(monkeypatch) -> None:
    x, y, a, b = clouds(7, n=40, dim=3)
    whole = sinkhorn_divergence(x, y, a=a, b=b)
    monkeypatch.setattr(module, "_KEPT_CELLS", 0)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 130)
    assert sinkhorn_divergence(x, y, a=a, b=b).value == pytest.approx(whole.value, rel=1e-9)


def test_rows_without_weight_move_nothing() -> None:
    found = sinkhorn(np.array([1, 0, 1]), np.array([0, 1]), COST, 1.0)
    assert (found.f[1], found.g[0]) == (-np.inf, -np.inf)
    assert found.cost == pytest.approx((COST[0, 1] + COST[2, 1]) / 2)
    assert found.marginal_error == pytest.approx(0, abs=1e-9)


def test_too_few_iterations_are_told() -> None:
    x, y, *_ = clouds(3, n=30, dim=2)
    short, long = (sinkhorn_divergence(x, y, epsilon=1.0, max_iterations=most) for most in (1, 5000))
    assert (short.converged, long.converged) == (False, True)
    assert short.marginal_error > 1e-3 > 1e-6 > long.marginal_error


def test_clouds_of_one_point() -> None:
    assert sinkhorn_divergence(np.ones((3, 2)), np.ones((2, 2))).value == pytest.approx(0, abs=1e-12)
    assert sinkhorn_divergence(np.zeros((1, 2)), np.array([[3.0, 4.0]])).value == pytest.approx(25)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sinkhorn_divergence(X, Y[:, :1]), InputError, "x has 2 dimensions and y has 1"),
        (lambda: sinkhorn_divergence(X[:0], Y), InputError, "x: want finite vectors"),
        (lambda: sinkhorn_divergence(X, Y * math.nan), InputError, "y: want finite vectors"),
        (lambda: sinkhorn_divergence(X, Y, a=np.ones(2)), InputError, "a: want 3 weights"),
        (lambda: sinkhorn_divergence(X, Y, b=np.array([1, -1])), InputError, "b: want 2 weights"),
        (lambda: sinkhorn_divergence(X, Y, epsilon=0), UsageError, "epsilon is above 0"),
        (lambda: sinkhorn(np.ones(3), np.ones(2), COST * math.inf, 1), InputError, "finite matrix"),
        (lambda: sinkhorn(np.ones(3), np.ones(2), COST, -1), UsageError, "epsilon is above 0"),
    ],
)
def test_what_cannot_be_moved_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message), np.errstate(invalid="ignore"):
        call()
