"""Calibrated scores and weights within a budget of nats."""

import math

import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import quad

from curate.errors import InputError, UsageError
from curate.metrics.calibration import (
    best_of_n_kl,
    best_of_n_mean,
    best_of_n_transform,
    kl_from_uniform,
    mid_ranks,
    selection_bound,
    tilt,
    uniform_tilt,
    uniform_tilt_kl,
    uniform_tilt_mean,
)

scores = st.lists(st.integers(-5, 5).map(float) | st.floats(-100, 100), min_size=1, max_size=30)

# ---- calibration


def test_mid_ranks_of_the_worked_example() -> None:
    assert mid_ranks(np.array([3, 1, 2, 2])) == pytest.approx([0.875, 0.125, 0.5, 0.5])


@given(scores, st.data())
def test_mid_ranks_equal_the_definition_within_each_group(s, data) -> None:
    groups = data.draw(st.lists(st.sampled_from("abc"), min_size=len(s), max_size=len(s)))
    found = mid_ranks(np.array(s), np.array(groups))
    for name in set(groups):
        rows = [i for i, g in enumerate(groups) if g == name]
        assert found[rows] == pytest.approx(reference.quantiles([s[i] for i in rows]))
        assert found[rows].mean() == pytest.approx(0.5)
    assert mid_ranks(np.array(s)) == pytest.approx(reference.quantiles(s))


@given(scores, st.sampled_from([np.exp, lambda x: 3 * x - 1, np.cbrt]))
def test_mid_ranks_depend_on_the_order_of_scores_only(s, growing) -> None:
    rounded = np.round(np.array(s), 3)
    assert mid_ranks(growing(rounded)).tolist() == mid_ranks(rounded).tolist()


def test_mid_ranks_of_infinite_scores_and_of_none() -> None:
    assert mid_ranks(np.array([-np.inf, np.inf, -np.inf, 0])) == pytest.approx([0.25, 0.875, 0.25, 0.625])
    assert len(mid_ranks(np.array([]))) == 0
    with pytest.raises(InputError, match="1 scores are not numbers"):
        mid_ranks(np.array([1, math.nan]))
    with pytest.raises(InputError, match="groups"):
        mid_ranks(np.array([1.0, 2.0]), np.array(["a"]))


@given(st.floats(-20, 20), st.floats(0.05, 2))
def test_transforms_keep_the_order_and_weigh_the_end_that_they_are_for(strength, budget) -> None:
    c = mid_ranks(np.arange(50.0))
    transformed = best_of_n_transform(c, strength)
    assert (np.diff(transformed) >= 0).all()
    weights = tilt(transformed, budget).weights
    if strength > 1:
        assert weights[-1] > tilt(c, budget).weights[-1]
    if strength < -1:
        assert weights[0] < tilt(c, budget).weights[0]
    assert best_of_n_transform(c, 0).tolist() == c.tolist()


def test_a_transform_of_no_strength_that_is_a_number_is_refused() -> None:
    with pytest.raises(UsageError, match="finite number"):
        best_of_n_transform(np.array([0.5]), math.inf)


# ---- tilting


def test_the_tilt_of_the_worked_example() -> None:
    found = tilt(np.array([0, 1, 2, 5]), 0.5)
    assert found.strength == pytest.approx(0.527078093, abs=1e-9)
    assert found.weights == pytest.approx([0.051249761, 0.086815836, 0.147063893, 0.714870509], abs=1e-9)
    assert found.kl == pytest.approx(0.5, abs=1e-10)


@given(scores, st.floats(0, 4))
def test_a_tilt_spends_its_budget_or_puts_all_weight_on_the_best(s, budget) -> None:
    values = np.round(np.array(s), 3)
    found = tilt(values, budget)
    most = math.log(len(s) / (values == values.max()).sum())
    assert found.weights.sum() == pytest.approx(1)
    assert found.kl == pytest.approx(min(budget, most), abs=1e-8)
    assert found.kl == pytest.approx(kl_from_uniform(found.weights))
    assert found.mean == pytest.approx(found.weights @ values, abs=1e-9)
    if budget >= most:
        assert found.strength == math.inf
        assert found.mean == pytest.approx(values.max())
    else:
        logs = found.strength * (values - values.max())
        assert found.weights == pytest.approx(np.exp(logs) / np.exp(logs).sum(), abs=1e-9)


@given(scores, st.floats(0.01, 2), st.data())
def test_no_other_weights_with_the_same_budget_have_a_better_mean_score(s, budget, data) -> None:
    values = np.round(np.array(s), 3)
    other = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=len(s), max_size=len(s))))
    other /= other.sum()
    if kl_from_uniform(other) <= budget:
        assert other @ values <= tilt(values, budget).mean + 1e-6


@given(scores.filter(lambda s: max(s) > min(s)), st.floats(0.01, 2), st.floats(1e-6, 1e6), st.floats(-10, 10))
def test_the_scale_of_the_scores_does_not_matter_to_the_weights(s, budget, scale, shift) -> None:
    values = np.round(np.array(s), 1)
    assert tilt(values * scale, budget).weights == pytest.approx(tilt(values, budget).weights, abs=1e-6)
    assert tilt(values + shift, budget).weights == pytest.approx(tilt(values, budget).weights, abs=1e-6)


@pytest.mark.parametrize(("s", "budget", "error"), [([], 1, InputError), ([1, math.inf], 1, InputError)])
def test_scores_that_cannot_be_tilted_are_refused(s, budget, error) -> None:
    with pytest.raises(error, match="finite score"):
        tilt(np.array(s), budget)


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="0 or more nats, not -1"):
        tilt(np.array([1, 2]), -1)
    with pytest.raises(UsageError, match="0 to 600"):
        uniform_tilt(-1)


def test_kl_of_a_uniform_selection_is_the_log_of_its_inverse_share() -> None:
    assert kl_from_uniform(np.array([2, 2, 0, 0, 0, 0, 0, 0])) == pytest.approx(math.log(4))
    assert kl_from_uniform(np.array([3.0, 3.0])) == 0
    for weights in ([0, 0], [1, -1], [1, math.inf], [1, math.nan]):
        with pytest.raises(InputError, match="from 0 up"):
            kl_from_uniform(np.array(weights))


# ---- closed forms


@pytest.mark.parametrize(
    ("n", "kl"), [(1, 0), (2, 0.193147181), (4, 0.636294361), (8, 1.204441542), (100, 3.615170186)]
)
def test_best_of_n_of_the_worked_examples(n, kl) -> None:
    assert best_of_n_kl(n) == pytest.approx(kl, abs=1e-9)
    density = quad(lambda u: n * u ** (n - 1) * math.log(n * u ** (n - 1)) if u else 0.0, 0, 1)[0]
    assert best_of_n_kl(n) == pytest.approx(density, abs=1e-6)
    assert best_of_n_mean(n) == pytest.approx(quad(lambda u: n * u**n, 0, 1)[0])


@pytest.mark.parametrize(
    ("budget", "strength", "mean"),
    [(0.1, 1.597680621, 0.627799475), (0.5, 4.118481141, 0.773730312), (2, 20.085536122, 0.950212932)],
)
def test_the_uniform_tilts_of_the_worked_examples(budget, strength, mean) -> None:
    assert uniform_tilt(budget) == pytest.approx(strength, abs=1e-8)
    assert uniform_tilt_mean(strength) == pytest.approx(mean, abs=1e-9)


@given(st.floats(-30, 30))
def test_the_closed_forms_equal_the_integrals(t) -> None:
    whole = quad(lambda u: math.exp(t * u), 0, 1)[0]
    mean = quad(lambda u: u * math.exp(t * u), 0, 1)[0] / whole
    assert uniform_tilt_mean(t) == pytest.approx(mean, rel=1e-9)
    assert uniform_tilt_kl(t) == pytest.approx(t * mean - math.log(whole), abs=1e-9)


@given(st.floats(0, 600))
@example(22.0)
def test_the_uniform_tilt_spends_its_budget(budget) -> None:
    assert uniform_tilt_kl(uniform_tilt(budget)) == pytest.approx(budget, rel=1e-8, abs=1e-12)


def test_best_of_four_and_a_tilt_of_as_many_nats_nearly_coincide() -> None:
    assert best_of_n_mean(4) == 0.8
    assert uniform_tilt_mean(uniform_tilt(best_of_n_kl(4))) == pytest.approx(0.8040, abs=5e-5)


def test_a_tilt_of_many_calibrated_scores_is_that_of_the_closed_form() -> None:
    found = tilt(mid_ranks(np.random.default_rng(0).normal(size=5000)), 0.5)
    assert found.strength == pytest.approx(4.118481141, rel=1e-3)


def test_a_selection_of_one_percent_can_move_a_distribution_by_4_6_nats() -> None:
    assert selection_bound(100, 1) == pytest.approx(4.605, abs=1e-3)
    with pytest.raises(InputError, match="is none"):
        selection_bound(1, 2)
    for closed in (best_of_n_kl, best_of_n_mean):
        with pytest.raises(UsageError, match="1 or more"):
            closed(0)
