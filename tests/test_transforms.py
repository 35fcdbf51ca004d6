"""Log weights are what the divergence, the nats, the worth or the regulariser ask for, however they are added up."""

import math

import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import lambertw

from curate.errors import UsageError
from curate.metrics.calibration import tilt
from curate.metrics.weights import effective_sample_size
from curate.sampling.solving import ExactSums, roots
from curate.sampling.transforms import (
    TRANSFORMS,
    WeightSpec,
    log_lambert,
    sums_over,
    transform,
    weighting,
)

scores = st.lists(st.integers(-5, 5).map(float) | st.floats(-30, 30), min_size=1, max_size=30)
WORKED = [0.0, 1.0, 2.0, 5.0]


def solved(s, **spec):
    s = np.asarray(s, float)
    return weighting(WeightSpec(**spec), sums_over(s), len(s), s.min(), s.max())


def weights(s, **spec) -> np.ndarray:
    """Weights with a mean of 1."""
    log_w = solved(s, **spec).log_weights(np.asarray(s, float))
    w = np.exp(log_w - log_w.max())
    return w / w.mean()


# ---- sums and roots

numbers = st.floats(-1e20, 1e20).filter(lambda x: x == 0 or abs(x) > 1e-40)


@given(st.lists(st.tuples(numbers, st.integers(0, 2)), max_size=40), st.randoms(), st.integers(0, 40))
def test_sums_are_those_of_fsum_in_any_order_and_however_they_are_cut(values, random, cut) -> None:
    expected = [math.fsum(v for v, group in values if group == g) for g in range(3)]
    random.shuffle(values)
    parts = []
    for piece in (values[:cut], values[cut:]):
        of = np.array([v for v, _ in piece], float), np.array([g for _, g in piece], np.int64)
        parts.append(ExactSums(3).add(*of))
    assert parts[0].merge(parts[1]).totals().tolist() == expected


def test_sums_leave_out_what_is_next_to_nothing_and_refuse_what_is_too_much() -> None:
    assert ExactSums().add(np.array([2.0**-180, 1.0, 0.0])).totals().tolist() == [1.0]
    with pytest.raises(AssertionError, match="too large"):
        ExactSums().add(np.array([2.0**100]))


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.01, 10)), min_size=1, max_size=6))
def test_roots_are_found_all_at_once(curves) -> None:
    at, slope = np.array(curves).T

    def function(x):
        return np.sinh(np.clip((at - x) * slope, -300, 300))

    assert roots(function, np.full(len(at), -60.0), np.full(len(at), 70.0)) == pytest.approx(at, abs=1e-9)


# ---- transforms


@pytest.mark.parametrize("name", [*TRANSFORMS, "alpha=0.3", "alpha=2"])
@given(s=scores)
def test_transforms_equal_the_definition_and_never_turn_two_documents_around(name, s) -> None:
    found = transform(np.array(s), name)
    assert found == pytest.approx([reference.transformed(x, name) for x in s], abs=1e-9)
    assert (np.diff(found[np.argsort(s)]) >= 0).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_transform_overflows(name) -> None:
    assert np.isfinite(transform(np.array([-1e5, 1e5]), name)).all()


def test_alpha_of_one_two_and_a_half_are_kl_chi2_and_hellinger() -> None:
    for alpha, name in ((1, "kl"), (2, "chi2"), (0.5, "hellinger")):
        assert transform(np.array(WORKED), f"alpha={alpha}").tolist() == transform(np.array(WORKED), name).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "jss"}, "did you mean 'js'"),
        ({"transform": "alpha"}, "no transform called 'alpha'"),
        ({"transform": "alpha=-1"}, "above 0"),
        ({"transform": "alpha=x"}, "above 0"),
        ({"max_kl": 0}, "above 0"),
        ({"max_kl": math.nan}, "above 0"),
        ({"min_ess": 0}, "up to 1"),
        ({"min_ess": 1.5}, "up to 1"),
        ({"regularise": "chi2"}, "chi2:BETA"),
        ({"regularise": "l1:3"}, "chi2:BETA"),
        ({"regularise": "mixed:0"}, "above 0"),
        ({"max_kl": 1, "min_ess": 0.1}, "give one of them"),
        ({"max_kl": 1, "regularise": "chi2:1"}, "give one of them"),
        ({"calibrate": "all"}, "--max-kl 1"),
        ({"calibrate": "all", "min_ess": 0.5}, "--max-kl 1"),
        ({"calibrate": "all", "transform": "js", "max_kl": 1}, "give one"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_way_out(options, message) -> None:
    with pytest.raises(UsageError, match=message):
        WeightSpec(**options)


# ---- tilts


def test_the_tilt_of_the_worked_example() -> None:
    assert solved(WORKED, max_kl=0.5).parameter == pytest.approx(0.527078093, abs=1e-9)
    assert weights(WORKED, max_kl=0.5) / 4 == pytest.approx(
        [0.051249761, 0.086815836, 0.147063893, 0.714870509], abs=1e-9
    )


@given(scores, st.floats(0.001, 4))
@example([1.0, 1.0], 1.0)
@example([0.0, 1.0], math.log(2))
def test_tilts_by_passes_equal_those_on_arrays_and_spend_their_nats(s, budget) -> None:
    values = np.round(np.array(s), 3)
    found = weights(values, max_kl=budget) / len(s)
    wanted = tilt(values, budget)
    assert found == pytest.approx(wanted.weights, abs=1e-8)
    with np.errstate(divide="ignore", invalid="ignore"):
        spent = np.nansum(found * np.log(found * len(s)))
    most = math.log(len(s) / (values == values.max()).sum())
    assert spent == pytest.approx(min(budget, most), abs=1e-9)


@given(scores, st.randoms(), st.sampled_from([{"max_kl": 0.7}, {"min_ess": 0.4}, {"regularise": "chi2:1"}]))
def test_parameters_are_the_same_to_the_last_bit_in_any_order(s, random, spec) -> None:
    shuffled = list(s)
    random.shuffle(shuffled)
    assert solved(s, **spec) == solved(shuffled, **spec)


# ---- clipping


def test_the_clipping_of_the_worked_example() -> None:
    log_ratio = np.log([0.01, 0.5, 1, 4, 50])
    assert effective_sample_size(np.exp(log_ratio)) == pytest.approx(1.224098, abs=1e-6)
    assert effective_sample_size(np.minimum(np.exp(log_ratio), 5)) == pytest.approx(2.614434, abs=1e-6)
    found = solved(log_ratio, min_ess=2.614434 / 5)
    assert math.exp(found.parameter) == pytest.approx(5, abs=1e-5)
    assert found.removed_fraction == pytest.approx(45 / 55.51, abs=1e-5)


@given(scores, st.floats(0.05, 1))
def test_clipped_weights_are_worth_what_was_asked_and_not_clipped_more_than_that(s, share) -> None:
    values = np.round(np.array(s), 3)
    found = solved(values, min_ess=share)
    assert effective_sample_size(np.exp(found.log_weights(values))) >= share * len(s) * (1 - 1e-9)
    if found.parameter < values.max():
        higher = np.minimum(values, found.parameter + 1e-3)
        assert effective_sample_size(np.exp(higher - higher.max())) < share * len(s) * (1 + 1e-9)
        kept = np.exp(np.minimum(values, found.parameter)).sum() / np.exp(values).sum()
        assert found.removed_fraction == pytest.approx(1 - kept, abs=1e-9)
    else:
        assert found.removed_fraction == 0


# ---- regularisation


def test_the_regularised_weights_of_the_worked_example() -> None:
    assert weights(WORKED, regularise="chi2:1") == pytest.approx([0, 0.5, 1, 2.5], abs=1e-9)
    assert solved(WORKED, regularise="chi2:1").parameter == pytest.approx(2, abs=1e-9)
    assert weights(WORKED, regularise="mixed:1") == pytest.approx(
        [0.193661550, 0.419857715, 0.789003209, 2.597477526], abs=1e-8
    )
    assert solved(WORKED, regularise="mixed:1").parameter == pytest.approx(2.447981682, abs=1e-8)
    assert np.exp(WORKED) / np.mean(np.exp(WORKED)) == pytest.approx([0.025075, 0.068161, 0.185282, 3.721482], abs=1e-6)


@given(st.floats(-600, 600))
@example(math.log(2) + 2)
@example(3.0)
def test_the_log_of_lamberts_w_equals_the_definition(y) -> None:
    found = float(log_lambert(np.array([y]))[0])
    assert math.exp(found) + found == pytest.approx(y, rel=1e-12, abs=1e-12)
    assert math.exp(found) == pytest.approx(lambertw(math.exp(y)).real, rel=1e-9)


def test_the_link_of_the_worked_example() -> None:
    assert np.exp(log_lambert(np.array([1.0, 2.693147181, 3.0, 1e9]))) == pytest.approx(
        [1, 2, 2.207940032, 999999979.2767], abs=1e-3
    )


@pytest.mark.parametrize("kind", ["chi2", "mixed"])
@given(s=scores, beta=st.floats(0.1, 10))
def test_regularised_weights_equal_the_definition(kind, s, beta) -> None:
    found = weights(np.round(s, 3), regularise=f"{kind}:{beta}")
    assert found == pytest.approx(reference.best_weights(np.round(s, 3).tolist(), kind, beta), abs=1e-6)


@pytest.mark.parametrize("kind", ["chi2", "mixed"])
@given(s=scores, beta=st.floats(0.2, 5), data=st.data())
def test_no_other_weights_do_better_at_the_price_of_the_penalty(kind, s, beta, data) -> None:
    values = np.array(s)
    other = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=len(s), max_size=len(s))))

    def worth(w):
        with np.errstate(divide="ignore", invalid="ignore"):
            mixed = (w - 1) ** 2 / 2 + np.where(w > 0, w * np.log(w), 0) - w + 1
        return (w * values).mean() - beta * ((w - 1) ** 2 if kind == "chi2" else mixed).mean()

    best = worth(weights(s, regularise=f"{kind}:{beta}"))
    assert worth(other / other.mean()) <= best + 1e-8 * (1 + abs(best))


def test_scores_of_any_scale_are_solved_for() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-9, 1.0, 300.0, 1e6):
        s = rng.normal(size=3000) * scale
        w = weights(s, max_kl=1.0)
        assert np.mean(w * np.log(np.maximum(w, 1e-300))) == pytest.approx(1, abs=1e-9)
        w = weights(s, min_ess=0.3)
        assert effective_sample_size(w) >= 0.3 * 3000 * (1 - 1e-9)
        for kind in ("chi2", "mixed"):
            raw = np.exp(solved(s, regularise=f"{kind}:{scale}").log_weights(s))
            assert raw.mean() == pytest.approx(1, abs=1e-9)
