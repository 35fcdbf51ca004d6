"""The exact place where a budget ends in the ranking of any number of documents, in flat memory.

A ranking is by key (descending), then by a hash of the document's id, then by place. Each pass over the
documents counts them in bins of what range is left, and keeps the bin in which the budget ends; once few
enough are left they are collected and sorted. Two or three passes do, and one for up to `COLLECT` documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

COLLECT = 500_000  # documents that are sorted in memory, 25 MB
_BIN_BITS = 12
_TOP = (1 << 64) - 1


@dataclass(frozen=True)
class Ranked:
    """Documents of one partition that take part, as arrays of equal length.

    ``order``: uint64, smaller wins, see `descending`. ``tie``: uint64, decides between equal orders.
    ``place``: int64, unique. ``size``: int64, what the budget counts. ``group``: int64, index of the group
    whose budget it draws on.
    """

    order: np.ndarray
    tie: np.ndarray
    place: np.ndarray
    size: np.ndarray
    group: np.ndarray

    def where(self, mask: np.ndarray) -> Ranked:
        return Ranked(self.order[mask], self.tie[mask], self.place[mask], self.size[mask], self.group[mask])


@dataclass(frozen=True)
class Cut:
    """The last document that is kept, by ``(order, tie, place)``; every one up to it is kept too."""

    order: int
    tie: int
    place: int

    def keeps(self, ranked: Ranked) -> np.ndarray:
        """bool[n]: which documents are at or before the cut."""
        order, tie = np.uint64(self.order), np.uint64(self.tie)
        same = ranked.order == order
        before_tie = (ranked.tie < tie) | ((ranked.tie == tie) & (ranked.place <= self.place))
        return (ranked.order < order) | (same & before_tie)


ALL = Cut(_TOP, _TOP, np.iinfo(np.int64).max)
NONE = Cut(0, 0, -1)


def descending(keys: np.ndarray) -> np.ndarray:
    """uint64 that sort ascending as finite or infinite float64 keys sort descending."""
    bits = (keys + 0.0).view(np.uint64)  # + 0.0: a negative zero is a zero
    negative = bits >> np.uint64(63) == 1
    ascending = np.where(negative, ~bits, bits | np.uint64(1 << 63))
    return ~ascending


Wanted = Callable[[Iterable[Ranked]], Any]
Passes = Callable[[Wanted], Iterable[Any]]


def find_cuts(documents: Passes, budgets: Mapping[int, int], *, collect: int = COLLECT) -> dict[int, Cut]:
    """Where each group's budget ends: the longest prefix of its ranking whose sizes add up to at most it.

    Parameters
    ----------
    documents : called for every pass, with what is wanted of some batches of documents; yields that for all of them,
        in any runs and order, so that it can be found where the documents are.
    budgets : by group; groups that are not named keep nothing.

    Returns
    -------
    Cut of each group, one that keeps all when its documents do not fill the budget, `NONE` when its first is
    too large.
    """
    searches = {group: _Search(budget) for group, budget in budgets.items()}
    while (left := {group: s for group, s in searches.items() if s.cut is None}) and not _settle(
        documents, left, collect
    ):
        _narrow(documents, left)
    return {group: search.cut or NONE for group, search in searches.items()}


class _Search:
    """What is known of one group's cut: it lies in ``[low, high]`` of one field, and what goes before it."""

    def __init__(self, budget: int) -> None:
        self.left, self.any_before = budget, False
        self.field, self.low, self.high = "order", 0, _TOP
        self.order: int | None = None  # fixed once the field is "tie"
        self.cut: Cut | None = None

    def inside(self, ranked: Ranked, group: int) -> np.ndarray:
        mask = ranked.group == group
        if self.order is not None:
            mask &= ranked.order == np.uint64(self.order)
        values = getattr(ranked, self.field)
        return mask & (values >= np.uint64(self.low)) & (values <= np.uint64(self.high))

    @property
    def shift(self) -> int:
        return max(0, (self.high - self.low).bit_length() - _BIN_BITS)

    def narrow(self, sizes: np.ndarray, occupied: np.ndarray) -> None:
        """Keep the bin in which the budget ends, given what each bin's documents add up to, and if it has any."""
        total = np.cumsum(sizes)
        bin_ = int(np.searchsorted(total, self.left, "right"))
        if bin_ >= len(sizes):  # only at first: a bin that is gone into did not fit
            self.cut = ALL
            return
        self.left -= int(total[bin_ - 1]) if bin_ else 0
        self.any_before |= bool(occupied[:bin_].any())
        shift, low = self.shift, self.low
        self.low, self.high = low + (bin_ << shift), min(self.high, low + ((bin_ + 1) << shift) - 1)
        if self.low == self.high and self.order is None:
            self.order, self.field, self.low, self.high = self.low, "tie", 0, _TOP

    @property
    def exhausted(self) -> bool:
        """Whether only documents of one id are left, which no pass can tell apart."""
        return self.order is not None and self.low == self.high

    def settle(self, ranked: Ranked) -> None:
        """Find the cut among the documents that are left, in the order of the ranking."""
        kept = int(np.searchsorted(np.cumsum(ranked.size), self.left, "right"))
        if kept:
            last = kept - 1
            self.cut = Cut(int(ranked.order[last]), int(ranked.tie[last]), int(ranked.place[last]))
        elif not self.any_before:
            self.cut = NONE
        elif self.order is None:
            self.cut = Cut(self.low, 0, -1)
        else:
            self.cut = Cut(self.order, self.low, -1)


def _settle(documents: Passes, searches: dict[int, _Search], limit: int) -> bool:
    """Settle all searches from one pass, unless too many documents are left."""
    parts: list[Ranked] = []
    count = 0
    last = all(search.exhausted for search in searches.values())

    def of(some: Iterable[Ranked]) -> Ranked | None:
        found: list[Ranked] = []
        count = 0
        for ranked in some:
            found.append(ranked.where(_inside(ranked, searches)))
            count += len(found[-1].order)
            if count > limit and not last:
                return None
        return _concatenate(found)

    for inside in documents(of):
        if inside is None:
            return False
        parts.append(inside)
        count += len(inside.order)
        if count > limit and not last:
            return False
    left = _concatenate(parts)
    for group, search in searches.items():
        search.settle(_sorted(left if len(searches) == 1 else left.where(left.group == group)))
    return True


def _sorted(ranked: Ranked) -> Ranked:
    """In the order of the ranking; most often no two orders are equal, and one sort does."""
    by = np.argsort(ranked.order)
    order = ranked.order[by]
    if (order[1:] == order[:-1]).any():
        by = np.lexsort((ranked.place, ranked.tie, ranked.order))
    return ranked.where(by)


def _inside(ranked: Ranked, searches: dict[int, _Search]) -> np.ndarray:
    """Which documents are still in question."""
    if all(search.low == 0 and search.high == _TOP and search.order is None for search in searches.values()):
        return np.isin(ranked.group, list(searches))
    mask = np.zeros(len(ranked.order), bool)
    for group, search in searches.items():
        mask |= search.inside(ranked, group)
    return mask


def _concatenate(parts: list[Ranked]) -> Ranked:
    empty = Ranked(*(np.zeros(0, t) for t in (np.uint64, np.uint64, np.int64, np.int64, np.int64)))
    columns = zip(*((p.order, p.tie, p.place, p.size, p.group) for p in [empty, *parts]), strict=True)
    return Ranked(*(np.concatenate(column) for column in columns))


def _narrow(documents: Passes, searches: dict[int, _Search]) -> None:
    """One pass that leaves one bin of each search's range."""
    sizes = {group: np.zeros((1 << _BIN_BITS) + 1, np.int64) for group in searches}
    occupied = {group: np.zeros((1 << _BIN_BITS) + 1, bool) for group in searches}

    def of(some: Iterable[Ranked]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for ranked in some:
            for group, search in searches.items():
                inside = ranked.where(search.inside(ranked, group))
                if not len(inside.order):
                    continue
                if group not in found:
                    found[group] = np.zeros((1 << _BIN_BITS) + 1, np.int64), np.zeros((1 << _BIN_BITS) + 1, bool)
                offset = getattr(inside, search.field) - np.uint64(search.low)
                bins = (offset >> np.uint64(search.shift)).astype(np.int64)
                np.add.at(found[group][0], bins, inside.size)
                found[group][1][bins] = True
        return found

    for part in documents(of):
        for group, (total, there) in part.items():
            sizes[group] += total
            occupied[group] |= there
    for group, search in searches.items():
        search.narrow(sizes[group], occupied[group])
