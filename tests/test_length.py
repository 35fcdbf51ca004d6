"""The length ladder: when it grows, that every decision is on record, and that it goes on from a saved state."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.curriculum.length import LengthLadder, fraction_of_first
from curate.errors import UsageError

LENGTHS = (512, 1024, 2048)
ENTROPIES = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=8)


def walked(ladder, entropies):
    return [ladder.length, *(ladder.advance(entropy) for entropy in entropies)]


@pytest.mark.parametrize("retry", [False, True])
def test_it_climbs_while_the_entropy_is_high(retry):
    ladder = LengthLadder(LENGTHS, 0.3, retry)
    assert walked(ladder, [0.5, 0.4, 0.2]) == [512, 1024, 2048, 2048]
    assert [d.move for d in ladder.log] == ["advance", "advance", "stop"]
    assert ladder.stopped


def test_below_the_gate_it_stops_or_with_retry_asks_again():
    assert walked(LengthLadder(LENGTHS, 0.3), [0.5, 0.2, 0.4]) == [512, 1024, 1024, 1024]
    again = LengthLadder(LENGTHS, 0.3, retry=True)
    assert walked(again, [0.5, 0.2, 0.4]) == [512, 1024, 1024, 2048]
    assert [(d.length, d.move) for d in again.log] == [(512, "advance"), (1024, "hold"), (1024, "advance")]


@pytest.mark.parametrize("entropy", [math.nan, math.inf])
def test_what_is_no_number_holds_and_is_on_record(entropy):
    ladder = LengthLadder(LENGTHS, 0.3)
    assert walked(ladder, [entropy, 0.4]) == [512, 512, 1024]
    assert ladder.log[0].move == "hold"
    assert str(entropy) in ladder.log[0].reason


def test_with_hysteresis_it_takes_more_to_climb_after_a_stage_that_was_below():
    ladder = LengthLadder(LENGTHS, 0.3, retry=True, hysteresis=0.1)
    assert walked(ladder, [0.2, 0.35, 0.4, 0.3]) == [512, 512, 512, 1024, 2048]


def test_the_gate_can_be_a_fraction_of_the_first_entropy():
    ladder = LengthLadder(LENGTHS, fraction_of_first(0.5))
    assert walked(ladder, [math.nan, 0.8, 0.39]) == [512, 512, 1024, 1024]
    assert ladder.min_entropy == 0.4


@given(ENTROPIES, ENTROPIES, st.booleans(), st.sampled_from([0.5, fraction_of_first(0.6)]))
def test_a_saved_ladder_goes_on_as_if_it_had_not_been(before, after, retry, gate):
    ladder = LengthLadder(LENGTHS, gate, retry, 0.1)
    walked(ladder, before)
    restored = LengthLadder.from_state_dict(json.loads(json.dumps(ladder.state_dict(), allow_nan=False)))
    assert walked(restored, after) == walked(ladder, after)
    assert repr(restored.log) == repr(ladder.log)
    assert restored.state_dict() == ladder.state_dict()


@given(ENTROPIES, st.booleans())
def test_lengths_never_shrink_and_every_decision_is_on_record(entropies, retry):
    ladder = LengthLadder(LENGTHS, 0.5, retry)
    lengths = walked(ladder, entropies)
    assert lengths == sorted(lengths)
    assert [d.length for d in ladder.log] == lengths[:-1]
    assert all((b > a) == (d.move == "advance") for a, b, d in zip(lengths, lengths[1:], ladder.log, strict=False))


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ((), {"min_entropy": 1}, "ascending"),
        ((512, 512), {"min_entropy": 1}, "ascending"),
        ((0, 5), {"min_entropy": 1}, "from 1 on"),
        ((5,), {"min_entropy": math.nan}, "min_entropy nan"),
        ((5,), {"min_entropy": 1, "hysteresis": -1}, "hysteresis -1"),
    ],
)
def test_ladders_that_make_no_sense_are_refused(lengths, options, message):
    with pytest.raises(UsageError, match=message):
        LengthLadder(lengths, **options)


def test_there_is_no_default_threshold():
    with pytest.raises(TypeError):
        LengthLadder(LENGTHS)
    with pytest.raises(UsageError, match="a fraction of 0"):
        fraction_of_first(0)
