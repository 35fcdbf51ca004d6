"""Characteristic functions: the worked example, the kernel they estimate, the parts, the null."""

import itertools
import math

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.metrics.characteristic import (
    CharacteristicSums,
    amplitude_and_phase,
    characteristic_discrepancy,
    discrepancy_of_sums,
    gaussian_frequencies,
    median_distance,
    ncfd_loss,
)

T = np.array([[1.0, 0], [0, 2], [1, 1]])
A, B = np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[0.5, 0], [0, 0.5]])


def test_the_parts_and_the_loss_of_the_worked_example() -> None:
    of_a, of_b = CharacteristicSums.of(A, T).function, CharacteristicSums.of(B, T).function
    amplitude, phase = amplitude_and_phase(of_a, of_b)
    assert amplitude == pytest.approx([0.005913286, 0.072259976, 0.011660863], abs=1e-9)
    assert phase == pytest.approx([0.004217911, 0.000239223, 0.028863927], abs=1e-9)
    assert ncfd_loss(of_a, of_b) == pytest.approx(0.134637445, abs=1e-9)
    assert np.mean(np.abs(of_a - of_b) ** 2) == pytest.approx(0.041051729, abs=1e-9)


def test_gaussian_frequencies_estimate_the_kernels_discrepancy() -> None:
    assert reference.gaussian_mmd(A, B, 1.0) == pytest.approx(0.040550405, abs=1e-9)
    found = characteristic_discrepancy(
        A, B, rng=np.random.default_rng(0), scale=1.0, n_frequencies=400_000, n_permutations=0
    )
    assert found.squared == pytest.approx(0.040550405, rel=0.01)
    assert math.isnan(found.p_value)
    assert math.isnan(found.null_high)


def clouds(seed):
    rng = np.random.default_rng(seed)
    dim = rng.integers(1, 4)
    return rng.normal(size=(rng.integers(1, 9), dim)), 2 * rng.normal(size=(rng.integers(1, 9), dim)) + 1


def of(x, y, **more):
    return characteristic_discrepancy(x, y, rng=np.random.default_rng(0), n_frequencies=64, **more)


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_the_parts_add_up_and_are_symmetric_and_zero_of_equal_clouds(seed) -> None:
    x, y = clouds(seed)
    one, other = of(x, y, n_permutations=9, scale=1), of(y, x, n_permutations=9, scale=1)
    assert one.amplitude + one.phase == pytest.approx(one.squared, abs=1e-12)
    assert (one.squared, one.amplitude) == pytest.approx((other.squared, other.amplitude), abs=1e-9)
    assert 0 < one.squared <= 4
    assert 0.1 <= one.p_value <= 1
    same = of(x, x[::-1], n_permutations=9)
    assert same.squared == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_moving_and_scaling_both_clouds_does_not_matter(seed) -> None:
    x, y = clouds(seed)
    found, moved = of(x, y, n_permutations=0), of(5 * x + 3, 5 * y + 3, n_permutations=0)
    assert moved.scale == pytest.approx(5 * found.scale)
    assert (moved.squared, moved.phase) == pytest.approx((found.squared, found.phase), abs=1e-9)


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=50)
def test_sums_of_parts_merge_to_those_of_the_whole(seed, data) -> None:
    x, _ = clouds(seed)
    t = gaussian_frequencies(7, x.shape[1], 2.0, np.random.default_rng(seed))
    whole = CharacteristicSums.of(x, t)
    border = data.draw(st.integers(0, len(x)))
    merged = CharacteristicSums.of(x[:border], t).merge(CharacteristicSums.of(x[border:], t))
    assert merged.n == whole.n
    assert merged.function == pytest.approx(whole.function, abs=1e-12)
    assert whole.function == pytest.approx(np.exp(1j * (x @ t.T)).mean(axis=0), abs=1e-12)


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_sums_alone_give_the_discrepancy_and_the_mean_of_its_null(seed) -> None:
    x, y = clouds(seed)
    t = gaussian_frequencies(64, x.shape[1], 1.5, np.random.default_rng(0))
    found = discrepancy_of_sums(CharacteristicSums.of(x, t), CharacteristicSums.of(y, t), 1.5)
    held = of(x, y, scale=1.5, n_permutations=0)
    parts = (found.squared, found.amplitude, found.phase, found.null_mean)
    assert parts == pytest.approx((held.squared, held.amplitude, held.phase, held.null_mean), abs=1e-9)
    assert math.isnan(found.p_value)


def test_the_mean_of_the_null_is_that_of_all_exchanges() -> None:
    x, y = np.array([[0.0], [1], [4]]), np.array([[2.0], [3]])
    t, pooled = np.array([[0.3], [1.0], [2.0]]), np.vstack([x, y])
    every = []
    for chosen in itertools.combinations(range(5), 3):
        rest = [i for i in range(5) if i not in chosen]
        one, other = (CharacteristicSums.of(pooled[list(rows)], t) for rows in (chosen, rest))
        every.append(discrepancy_of_sums(one, other, 1.0))
    assert every[0].null_mean == pytest.approx(np.mean([e.squared for e in every]), rel=1e-12)


def test_a_shift_shows_in_the_phase_and_a_spread_in_the_amplitude() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    shifted = of(x, rng.normal(size=(2000, 2)) + 1, n_permutations=0)
    spread = of(x, rng.normal(size=(2000, 2)) * 2, n_permutations=0)
    assert shifted.phase > 10 * shifted.amplitude
    assert spread.amplitude > 10 * spread.phase


def test_equal_distributions_look_like_the_null_and_different_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    p_values = [
        characteristic_discrepancy(
            rng.normal(size=(40, 2)), rng.normal(size=(60, 2)), rng=rng, n_frequencies=64, n_permutations=39
        ).p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.045)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.08)
    found = of(rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 0.7)
    assert found.p_value == pytest.approx(1 / 201)
    assert found.squared > 3 * found.null_high > 3 * found.null_mean > 0


def test_the_median_distance_is_of_all_pairs_or_of_a_sample_of_them() -> None:
    rng = np.random.default_rng(0)
    assert median_distance(np.array([[0.0], [1]]), np.array([[3.0]]), rng) == 2
    assert median_distance(np.ones((3, 2)), np.ones((3, 2)), rng) == 1
    assert median_distance(np.zeros((9, 1)), np.ones((1, 1)), rng) == pytest.approx(9 / 45)
    many = rng.normal(size=(3000, 3))
    assert median_distance(many, many, rng) == pytest.approx(2.18, rel=0.05)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: of(A, B[:, :1]), InputError, "2 dimensions and y has 1"),
        (lambda: of(A[:0], B), InputError, "x: want finite vectors"),
        (lambda: of(A, B * math.nan), InputError, "y: want finite vectors"),
        (lambda: of(A, B, scale=0), UsageError, "a scale above 0"),
        (lambda: CharacteristicSums.of(A[:, :1], T), InputError, "1 dimensions and the frequencies 2"),
        (lambda: CharacteristicSums.of(A[:0], T).function, InputError, "no vectors"),
        (lambda: CharacteristicSums.of(A, T).merge(CharacteristicSums.of(A, T[:2])), InputError, "do not add up"),
        (lambda: gaussian_frequencies(0, 2, 1.0, np.random.default_rng(0)), UsageError, "1 frequency or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
