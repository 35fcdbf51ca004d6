"""The ECDF of several attributes: as defined at points with equal values too, on grids that add up, and densities."""

import itertools
import math

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import gaussian_kde

from curate.errors import InputError, UsageError
from curate.metrics import ecdf as module
from curate.metrics.ecdf import GridSums, ecdf, grid_distance, laplace_density, percentile_dominance, quantile_knots
from curate.metrics.ks import ks_distance

POINTS = np.array([(0.1, 0.9), (0.4, 0.2), (0.4, 0.6), (0.8, 0.5), (0.9, 0.9)])
KNOTS = (np.array([0.25, 0.5, 1]), np.array([0.5, 0.75, 1]))


def test_the_ecdf_of_the_worked_example() -> None:
    assert ecdf(POINTS) == pytest.approx([0.2, 0.2, 0.4, 0.4, 1])
    assert percentile_dominance(POINTS) == pytest.approx([0.2, 0.2, 0.4, 0.4, 1])


def test_the_grid_of_the_worked_example() -> None:
    found = GridSums.of(POINTS, KNOTS)
    expected = np.array([[0, 0, 0.2], [0.2, 0.2, 0], [0.2, 0, 0.2]])
    assert found.shares[:-1, :-1] == pytest.approx(expected)
    assert found.shares[-1].sum() + found.shares[:, -1].sum() == 0
    assert found.cdf == pytest.approx(np.array([[0, 0, 0.2], [0.2, 0.4, 0.6], [0.4, 0.6, 1]]))


def test_the_densities_of_the_worked_examples() -> None:
    line = laplace_density(np.array([0.0, 1, 3]), 1.0)
    assert line == pytest.approx([0.236277752, 0.250535787, 0.197520392], abs=1e-9)
    plane = laplace_density(np.array([[0.0, 0], [1, 2], [2, 1]]), 1.0)
    assert plane == pytest.approx([0.091631178, 0.098760196, 0.098760196], abs=1e-9)


values = st.integers(-3, 3).map(float) | st.sampled_from([-math.inf, math.inf])
clouds = st.tuples(st.integers(1, 14), st.integers(1, 9), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        arrays(np.float64, (shape[0], shape[2]), elements=values),
        arrays(np.float64, (shape[1], shape[2]), elements=values),
        arrays(np.float64, shape[0], elements=st.integers(0, 5)).filter(np.any),
    )
)


@given(clouds)
def test_the_ecdf_equals_its_definition_with_equal_values_too_whichever_way_it_is_computed(case) -> None:
    points, at, weights = case
    expected = [reference.ecdf(points, z, weights) for z in at]
    assert ecdf(points, at, weights) == pytest.approx(expected, abs=1e-12)
    bits = (len(points) + len(at) - 1).bit_length()
    for counted in (module._by_ranks(points, weights, at, bits), module._all_pairs(points, weights, at)):
        assert counted / weights.sum() == pytest.approx(expected, abs=1e-12)
    themselves = [reference.ecdf(points, z, np.ones(len(points))) for z in points]
    assert percentile_dominance(points) == pytest.approx(themselves, abs=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_many_points_on_few_values_are_counted_as_all_pairs_are(dim) -> None:
    x = np.round(np.random.default_rng(dim).random((3000, dim)), 1)
    assert module._by_ranks(x, np.ones(3000), x, 13).tolist() == module._all_pairs(x, np.ones(3000), x).tolist()


@given(clouds, st.randoms(use_true_random=False))
def test_the_ecdf_sees_only_the_order_of_values_and_not_that_of_points_or_attributes(case, random) -> None:
    points, at, weights = case
    found = ecdf(points, at, weights)
    order, axes = list(range(len(points))), list(range(points.shape[1]))
    random.shuffle(order)
    random.shuffle(axes)
    turned = ecdf(np.arctan(points[order][:, axes]), np.arctan(at[:, axes]), weights[order])
    assert turned == pytest.approx(found, abs=1e-12)


def test_blocks_do_not_matter(monkeypatch) -> None:
    x = np.random.default_rng(0).normal(size=(50, 5))
    whole, density = ecdf(x), laplace_density(x, 0.5)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 130)
    assert ecdf(x).tolist() == whole.tolist()
    assert laplace_density(x, 0.5) == pytest.approx(density, rel=1e-12)


# ---- on a grid

knots = st.lists(st.integers(-3, 3), min_size=1, max_size=4, unique=True).map(lambda k: np.array(sorted(k), float))


@given(clouds, st.data())
def test_the_cdf_of_a_grid_is_the_ecdf_at_its_knots_whatever_the_parts(case, data) -> None:
    points, at, weights = case
    grid = [data.draw(knots) for _ in range(points.shape[1])]
    border = data.draw(st.integers(0, len(points)))
    parts = [GridSums.of(points[s], grid, weights[s]) for s in (slice(border), slice(border, None))]
    found = parts[0].merge(parts[1])
    assert found.sums.sum() == weights.sum()
    corners = np.array(list(itertools.product(*grid)))
    assert found.cdf.reshape(-1) == pytest.approx(ecdf(points, corners, weights), abs=1e-12)
    for place, share in zip(at, found.at(at), strict=True):
        corner = [k[k <= v].max() if (k <= v).any() else None for k, v in zip(grid, place, strict=True)]
        expected = 0 if None in corner else reference.ecdf(points, corner, weights)
        assert share == pytest.approx(expected, abs=1e-12)
        assert share <= reference.ecdf(points, place, weights) + 1e-12


def test_knots_at_quantiles_end_with_the_largest_value() -> None:
    found = quantile_knots(np.array([[1.0, 5], [2, 5], [3, 5], [4, 5]]), 2)
    assert [k.tolist() for k in found] == [[2, 4], [5]]
    with pytest.raises(UsageError, match="1 knot"):
        quantile_knots(POINTS, 0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_with_one_attribute_and_all_values_as_knots_the_distance_is_that_of_kolmogorov_and_smirnov(a, b) -> None:
    one, other = (GridSums.of(np.array(x), [np.arange(10)]) for x in (a, b))
    assert grid_distance(one, other) == pytest.approx(ks_distance(np.array(a), np.array(b)), abs=1e-12)


@given(clouds, st.data())
@settings(max_examples=50)
def test_the_distance_of_grids_is_the_largest_of_any_orthant_and_turns_with_the_attributes(case, data) -> None:
    a, b, _ = case
    grid = [data.draw(knots) for _ in range(a.shape[1])]
    one, other = GridSums.of(a, grid), GridSums.of(b, grid)
    found = grid_distance(one, other)
    assert found == pytest.approx(grid_distance(other, one))
    assert grid_distance(one, one) == 0
    orthants = [0.0]
    for corner in itertools.product(*[[*k, math.inf] for k in grid]):
        for sides in itertools.product([False, True], repeat=len(grid)):
            share = [((x <= corner) != sides).all(axis=1).mean() for x in (a, b)]
            orthants.append(abs(share[0] - share[1]))
    assert found == pytest.approx(max(orthants), abs=1e-12)


def test_distributions_that_differ_only_together_are_told_apart() -> None:
    x = np.random.default_rng(0).normal(size=2000)
    same, opposite = np.column_stack([x, x]), np.column_stack([x, -x])
    grid = quantile_knots(np.vstack([same, opposite]), 20)
    assert grid_distance(GridSums.of(same, grid), GridSums.of(opposite, grid)) > 0.45
    assert ks_distance(same[:, 1], opposite[:, 1]) < 0.05


# ---- density


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=9), st.floats(0.3, 3))
def test_a_density_equals_its_definition_and_the_ecdfs_that_it_is_made_of(points, h) -> None:
    x = np.array(points)
    found = laplace_density(x, h)
    assert found == pytest.approx([reference.laplace_density(points, z, h) for z in points], rel=1e-9)
    total = np.zeros(len(x))
    for signs in itertools.product([1, -1], repeat=2):
        s = np.array(signs)
        at = np.where(s > 0, x, np.nextafter(-x, -math.inf))  # beyond, but not at: each point counts once
        weights = np.exp(x @ s / h)
        total += np.exp(-x @ s / h) * ecdf(x * s, at, weights) * weights.sum()
    assert found == pytest.approx(total / len(x) / (2 * h) ** 2, rel=1e-9)


def test_a_density_of_far_points_is_finite_and_one_of_many_is_near_that_of_another_kernel() -> None:
    assert laplace_density(np.array([0.0, 1e6]), 1e-3) == pytest.approx([250, 250])
    x = np.random.default_rng(0).normal(size=5000)
    other = gaussian_kde(x)(np.array([0.0, 1.0]))
    assert laplace_density(x, 0.15, np.array([0.0, 1.0])) == pytest.approx(other, rel=0.1)


# ---- refusals

ONE_GRID = GridSums.of(POINTS, KNOTS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ecdf(POINTS[:0]), InputError, "points: want at least one"),
        (lambda: ecdf(POINTS * math.nan), InputError, "points: want"),
        (lambda: ecdf(POINTS, POINTS[:, :1]), InputError, "2 attributes and the places 1"),
        (lambda: ecdf(POINTS, weights=np.ones(4)), InputError, "want 5 from 0 up"),
        (lambda: ecdf(POINTS, weights=-np.ones(5)), InputError, "want 5 from 0 up"),
        (lambda: ecdf(POINTS, weights=np.zeros(5)), InputError, "all zero"),
        (lambda: GridSums.of(POINTS, KNOTS[:1]), InputError, "2 attributes and there are knots for 1"),
        (lambda: GridSums.of(POINTS, [[1, 0], [1]]), InputError, "ascending"),
        (lambda: GridSums.of(POINTS[:0], KNOTS).cdf, InputError, "nothing was counted"),
        (lambda: ONE_GRID.merge(GridSums.of(POINTS, KNOTS[::-1])), InputError, "do not add up"),
        (lambda: ONE_GRID.at(POINTS[:, :1]), InputError, "1 attributes and the grid 2"),
        (lambda: grid_distance(ONE_GRID, GridSums.of(POINTS, KNOTS[::-1])), InputError, "cannot be compared"),
        (lambda: laplace_density(POINTS, 0), UsageError, "bandwidth is above 0"),
        (lambda: laplace_density(POINTS, 1, POINTS[:, :1]), InputError, "2 attributes and the places 1"),
        (lambda: laplace_density(POINTS * math.inf, 1), InputError, "finite points"),
    ],
)
def test_what_cannot_be_counted_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
