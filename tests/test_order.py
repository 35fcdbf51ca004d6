"""The order of training: shares, passes and permutations."""

from collections import Counter

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from curate.curriculum.order import Order, _shared, permuted, whole_parts

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=9).filter(lambda w: sum(w) > 0)


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permuted_is_a_permutation(n, key):
    found = permuted(np.arange(n), np.full(n, n), np.full(n, key, np.uint64))
    assert sorted(found.tolist()) == list(range(n))


def test_small_permutations_are_all_alike_likely():
    n, times = 4, 24_000
    keys = np.arange(times, dtype=np.uint64)
    found = permuted(np.tile(np.arange(n), times), np.full(n * times, n), keys.repeat(n)).reshape(times, n)
    counts = Counter(map(tuple, found.tolist()))
    assert len(counts) == 24
    assert sum((c - 1000) ** 2 / 1000 for c in counts.values()) < 49.7  # chi-squared, 23 degrees, 0.1%


@given(WEIGHTS)
def test_weights_in_whole_parts_add_up_and_none_is_lost(weights):
    weights = np.array(weights)
    parts = whole_parts(weights)
    assert parts.sum() == 2**32
    assert ((parts > 0) == (weights > 0)).all()
    assert np.abs(parts / 2**32 - weights / weights.sum()).max() < 1e-8


@given(WEIGHTS, st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_shares_equal_the_definition(weights, sizes):
    parts = whole_parts(np.array(weights))
    owed, slow = np.zeros(len(parts), np.int64), [0] * len(parts)
    for size in sizes:
        owed, count = _shared(owed, parts, size)
        slow, slow_count = reference.shared(slow, parts.tolist(), size)
        assert (owed.tolist(), count.tolist()) == (slow, slow_count)


@given(WEIGHTS, st.integers(1, 300))
def test_proportions_are_never_far_off(weights, round_size):
    parts = whole_parts(np.array(weights))
    order = Order(np.full(len(parts), 1000), 1000, seed=3, round_size=round_size)
    place = order.start
    for _ in range(30):
        place = order.advance(place, parts, 1)
        wanted = order.first(place.round) * (parts / 2**32)
        assert np.abs(place.taken - wanted).max() < 2


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 64), st.data())
def test_blocks_of_any_length_give_one_row(sizes, round_size, data):
    sizes = np.array(sizes)
    parts = whole_parts(np.arange(1, len(sizes) + 1.0))
    order = Order(sizes, int(sizes.sum()), seed=1, round_size=round_size)
    whole, places = order.block(order.start, parts, 24)
    place, got = order.start, []
    while place.round < 24:
        n = data.draw(st.integers(1, 24 - place.round))
        items, after = order.block(place, parts, n)
        got.append(items)
        assert order.advance(place, parts, n).taken.tolist() == after[-1].taken.tolist()
        place = after[-1]
    for name in ("positions", "groups", "taken"):
        np.testing.assert_array_equal(np.concatenate([getattr(i, name) for i in got]), getattr(whole, name))
    assert place.owed.tolist() == places[-1].owed.tolist()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 5))
def test_a_group_has_each_document_once_in_a_pass(sizes, seed):
    sizes = np.array(sizes)
    order = Order(sizes, int(sizes.sum()), seed=seed)
    for group, size in enumerate(sizes.tolist()):
        taken = np.arange(3 * size)
        slots, shifts = order.documents(np.full(3 * size, group), taken)
        for i in range(3):
            assert sorted(slots[i * size : (i + 1) * size].tolist()) == list(range(size))
            assert len(set(shifts[i * size : (i + 1) * size].tolist())) == 1
        if size > 20:
            assert slots[:size].tolist() != slots[size : 2 * size].tolist()


def test_rounds_do_not_straddle_epochs():
    order = Order(np.array([10]), 10, round_size=4)
    assert [order.first(r) for r in range(7)] == [0, 4, 8, 10, 14, 18, 20]
    assert [order.round_of(p) for p in (0, 3, 4, 9, 10, 13, 20)] == [0, 0, 1, 2, 3, 3, 6]
    assert [order.round_from(p) for p in (0, 1, 8, 9, 10)] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("seed", [0, 2**31, -5])
def test_any_seed_will_do(seed):
    order = Order(np.array([5, 5]), 10, seed=seed)
    items, _ = order.block(order.start, whole_parts(np.ones(2)), 3)
    assert len(items.positions) == 30
