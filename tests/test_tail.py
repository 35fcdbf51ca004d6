"""The long tail: unlikely in its group, good, and not beyond all likelihood."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.curriculum.tail import long_tail
from curate.errors import InputError, UsageError

U = np.array([-2.0, -9.0, -4.0, -3.0])
ALL = np.ones(4, bool)
DOCUMENTS = st.lists(st.tuples(st.integers(-5, 0), st.booleans(), st.integers(0, 2)), min_size=1, max_size=30)


def test_the_least_likely_are_selected_and_a_floor_does_not_make_room_for_others():
    assert long_tail(U, ALL, share=0.25).tolist() == [False, True, False, False]
    assert not long_tail(U, ALL, share=0.25, floor=-8).any()


def test_what_does_not_pass_the_gate_is_not_replaced():
    assert not long_tail(U, np.array([True, False, True, True]), share=0.25).any()


def test_each_group_has_a_tail_of_its_own():
    found = long_tail(U, ALL, np.array(["a", "b", "a", "b"]), share=0.25)
    assert found.tolist() == [False, True, True, False]


@given(DOCUMENTS, st.floats(0.01, 1))
def test_the_tail_passes_the_gate_is_above_the_floor_and_at_most_its_share(documents, share):
    u, passes, group = (np.array(column) for column in zip(*documents, strict=True))
    found = long_tail(u.astype(float), passes, group, share=share, floor=-4)
    assert not (found & ~passes).any()
    assert not (found & (u < -4)).any()
    for one in range(3):
        own = group == one
        assert found[own].sum() <= 2 * share * own.sum()  # twice: documents that are all the same are in the middle


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="a tail of 0"):
        long_tail(U, ALL, share=0)
    with pytest.raises(InputError, match="gates"):
        long_tail(U, ALL[:2])
    with pytest.raises(InputError, match="not numbers"):
        long_tail(np.array([np.nan]), np.array([True]))
