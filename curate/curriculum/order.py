"""The order of training: which document of which group stands at each position of an endless row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curate.sampling.noise import TRAIN, TRAIN_ROUND, centred, mix, stream

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = 1 << 32  # weights are whole parts of it, so that all machines count alike
_TURNS = 10  # of the permutation: with 6 those of less than ten documents are not all alike likely


def permuted(index: np.ndarray, n: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Where a pseudo-random permutation of ``0 .. n-1`` sends ``index``, without making the whole of it.

    A Feistel network over a grid of a by b places (Black and Rogaway 2002, generalised Feistel cipher), which is
    gone through again by the few numbers that fall outside ``n``.

    Parameters
    ----------
    index : int64[m], from 0 to n - 1. n : int64[m], at least 1. key : uint64[m], names the permutation.

    Returns
    -------
    int64[m]
    """
    a = np.ceil(np.sqrt(n.astype(np.float64))).astype(np.uint64)
    b = (n.astype(np.uint64) + a - np.uint64(1)) // a
    keys = [mix(key + steps) for steps in _GOLDEN * np.arange(1, _TURNS + 1, dtype=np.uint64)]
    found = index.astype(np.uint64)
    todo = np.arange(len(index))
    while len(todo):
        left, right = found[todo] // b[todo], found[todo] % b[todo]
        for turn in range(0, _TURNS, 2):
            left = (left + mix(right ^ keys[turn][todo])) % a[todo]
            right = (right + mix(left ^ keys[turn + 1][todo])) % b[todo]
        found[todo] = left * b[todo] + right
        todo = todo[found[todo] >= n[todo].astype(np.uint64)]
    return found.astype(np.int64)


@dataclass(frozen=True)
class Place:
    """Where an order stands at the start of a round.

    ``owed``: int64[n_groups], how many documents a group should have had more, in parts of 2**-32; ``taken``:
    int64[n_groups], how many it has had.
    """

    round: int
    owed: np.ndarray
    taken: np.ndarray


@dataclass(frozen=True)
class Items:
    """Documents at some positions: the group of each, and its how manyth document since the beginning it is."""

    positions: np.ndarray
    groups: np.ndarray
    taken: np.ndarray


class Order:
    """Groups in proportion to their weights, in rounds; each group's documents one pass after another.

    In every round a group gets its share, rounded so that what it is owed is never lost; the row of groups within
    a round is shuffled by (seed, round). A group's documents come in an order that (seed, group, pass) names: each
    once in a pass, then all again in another order. Rounds do not straddle epochs.

    Parameters
    ----------
    epoch : int, positions in an epoch. sizes : int64[n_groups], documents in each.
    round_size : positions in a round; weights change between rounds.
    """

    def __init__(self, sizes: np.ndarray, epoch: int, *, seed: int = 0, round_size: int = 128) -> None:
        self.sizes, self.epoch, self.seed, self.round_size = sizes.astype(np.int64), epoch, seed, round_size
        self.rounds_an_epoch = -(-epoch // round_size)
        self._names = mix(np.arange(len(sizes), dtype=np.uint64) + np.uint64(seed * _ONE % 2**64))

    @cached_property
    def start(self) -> Place:
        """The beginning."""
        nothing = np.zeros(len(self.sizes), np.int64)
        return Place(0, nothing, nothing)

    def first(self, round: int) -> int:
        """The first position of a round."""
        epochs, rest = divmod(round, self.rounds_an_epoch)
        return epochs * self.epoch + rest * self.round_size

    def round_of(self, position: int) -> int:
        """The round that a position is in."""
        epochs, rest = divmod(position, self.epoch)
        return epochs * self.rounds_an_epoch + rest // self.round_size

    def round_from(self, position: int) -> int:
        """The first round that starts at a position or after it."""
        round = self.round_of(position)
        return round if self.first(round) == position else round + 1

    def advance(self, place: Place, weights: np.ndarray, n_rounds: int) -> Place:
        """Where the order stands so many rounds later, under one set of weights."""
        owed, taken = place.owed, place.taken
        for round in range(place.round, place.round + n_rounds):
            owed, count = _shared(owed, weights, self.first(round + 1) - self.first(round))
            taken = taken + count
        return Place(place.round + n_rounds, owed, taken)

    def block(self, place: Place, weights: np.ndarray, n_rounds: int) -> tuple[Items, list[Place]]:
        """The next rounds under one set of weights, and where the order stands after each of them.

        Parameters
        ----------
        weights : int64[n_groups] that add up to 2**32, see `whole_parts`.
        """
        places, counts = [place], []
        for round in range(place.round, place.round + n_rounds):
            size = self.first(round + 1) - self.first(round)
            owed, count = _shared(places[-1].owed, weights, size)
            counts.append(count)
            places.append(Place(round + 1, owed, places[-1].taken + count))
        first, last = self.first(place.round), self.first(place.round + n_rounds)
        count = np.array(counts)
        starts = np.cumsum(count.ravel()) - count.ravel()
        groups = np.tile(np.arange(len(self.sizes)), n_rounds).repeat(count.ravel())
        before = np.array([p.taken for p in places[:-1]]).ravel() - starts
        taken = np.arange(last - first) + before.repeat(count.ravel())
        rounds = np.arange(n_rounds).repeat(count.sum(1))
        groups = groups[np.lexsort((stream(self.seed, TRAIN_ROUND, first, last - first), rounds))]
        in_order = np.empty_like(taken)  # a group's documents stay in their order
        in_order[np.argsort(rounds * len(self.sizes) + groups, kind="stable")] = taken
        return Items(np.arange(first, last), groups, in_order), places[1:]

    def documents(self, groups: np.ndarray, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(slot, shift)`` of items: which of its group's documents each is, and a number in (0, 1) of the pass."""
        sizes = self.sizes[groups]
        passes, index = np.divmod(taken, sizes)
        key = mix(self._names[groups] + mix(passes.astype(np.uint64) + np.uint64(TRAIN)))
        return permuted(index, sizes, key), centred(mix(~key))


def _shared(owed: np.ndarray, weights: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Share ``size`` positions between groups by what each is owed; ``(what they are owed then, positions)``."""
    owed = np.where(weights > 0, owed + size * weights, 0)
    count = np.maximum(owed // _ONE, 0)
    while missing := size - int(count.sum()):
        step = 1 if missing > 0 else -1
        able = np.flatnonzero(weights > 0 if step > 0 else count > 0)[::step]
        by = np.argsort(step * (count[able] * _ONE - owed[able]), kind="stable")
        count[able[by[: abs(missing)]]] += step
    return owed - count * _ONE, count


def whole_parts(weights: np.ndarray) -> np.ndarray:
    """Weights that add up to 1 as int64 parts that add up to 2**32; what has a weight has a part."""
    exact = weights / weights.sum() * _ONE
    parts = np.maximum(np.floor(exact), weights > 0).astype(np.int64)
    by = np.argsort(parts - exact, kind="stable")
    by = by[weights[by] > 0]
    missing = _ONE - int(parts.sum())
    while missing > 0:
        parts[by[:missing]] += 1
        missing -= len(by[:missing])
    if missing:
        parts[np.argmax(parts)] += missing
    return parts
