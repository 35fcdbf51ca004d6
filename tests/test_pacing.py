"""Pacing: how much is open when, and that what is open is drawn from uniformly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.curriculum.pacing import PACINGS, competence, stage_weights
from curate.errors import InputError, UsageError

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)
STARTS = st.floats(0.01, 1)


@given(st.integers(1, 12), st.sampled_from(sorted(PACINGS)), STARTS)
def test_the_share_that_is_open_grows_from_the_start_to_everything(n_stages, pacing, start):
    found = competence(n_stages, pacing, start)
    assert found.shape == (n_stages,)
    assert found[-1] == 1
    assert (np.diff(found) >= 0).all()
    if n_stages > 1:
        assert found[0] == pytest.approx(start)


def test_the_shares_are_those_of_the_formulas():
    np.testing.assert_allclose(competence(3, "linear", 0.2), [0.2, 0.6, 1])
    np.testing.assert_allclose(competence(3, "root", 0.2), [0.2, np.sqrt(0.52), 1])
    np.testing.assert_allclose(competence(3, "geometric", 0.25), [0.25, 0.5, 1])
    np.testing.assert_allclose(competence(3, "step", 0.25), [0.25, 0.25, 1])


def test_bins_open_one_after_another_and_the_one_at_the_border_in_part():
    weights = stage_weights(np.array([10, 10, 20, 0]), np.array([0.125, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(weights, [[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.5, 0]])


@given(SIZES, st.integers(1, 6), st.sampled_from(sorted(PACINGS)), STARTS, st.booleans())
def test_weights_are_a_distribution_that_ends_at_natural_proportions(sizes, n_stages, pacing, start, reverse):
    sizes = np.array(sizes)
    weights = stage_weights(sizes, competence(n_stages, pacing, start), reverse=reverse)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights[-1], sizes / sizes.sum(), atol=1e-12)
    assert (weights[:, sizes == 0] == 0).all()


@given(SIZES, STARTS)
def test_a_document_has_the_same_chance_in_every_bin_that_is_open_whole(sizes, start):
    sizes = np.array(sizes)
    weights = stage_weights(sizes, np.array([start]))[0]
    opened = np.flatnonzero(weights > 0)
    chance = weights[opened] / sizes[opened]
    np.testing.assert_allclose(chance[:-1], chance[0])
    assert chance[-1] <= chance[0] * (1 + 1e-9)


@given(SIZES, STARTS)
def test_the_reverse_is_the_mirror_image(sizes, start):
    sizes, opened = np.array(sizes), np.array([start])
    np.testing.assert_array_equal(
        stage_weights(sizes, opened, reverse=True)[0], stage_weights(sizes[::-1], opened)[0][::-1]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "0 stages"),
        ((3, "rot"), "did you mean 'root'"),
        ((3, "root", 0.0), "start 0.0"),
        ((3, "root", 2), "start 2"),
    ],
)
def test_pacing_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        competence(*arguments)


def test_no_documents_cannot_be_paced():
    with pytest.raises(InputError, match="no documents"):
        stage_weights(np.array([0, 0]), np.array([1.0]))
