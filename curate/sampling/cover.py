"""Greedy coverage: documents that have the n-grams of a target, each worth less the oftener it was taken before.

A score of each document by itself takes what is most like the target over and over. Here a document is worth what
it adds to those taken before. With t the count of an n-gram in the target, n that in what was taken and w the
weight of its order, one more is worth ``w t**0.75 (log(n + 2) - log(n + 1))``: what it adds to the sum over all
n-grams of ``w t**0.75 log(n + 1)``, which is submodular, so that taking the best next one is within 1 - 1/e of the
best there is (Nemhauser, Wolsey and Fisher 1978). A model that goes on learning from the text that it is used on
learns there soonest what is frequent, so that t itself is too much (by 0.02 of the reference DSIR's gain); for one
that does not, its root is too little. With a discount for n-grams that are rare in the target, as leaving out one of
its texts after another tells it, the gain is 0.04 less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from curate.kernels.bytematch import Matcher, Vocabulary
from curate.kernels.native import Kernel

ORDER_WEIGHTS = (0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0)  # of n-grams of 1 to 8 bytes
ROUNDS = 40
PRIOR = 0.3  # budgets of raw that count as taken before anything is
BLOCKS = 16  # that documents are evaluated in

_arrange, _sums, _add, _add_parents = (Kernel("cover", name) for name in ("arrange", "sums", "add", "add_parents"))


@dataclass(frozen=True)
class Matches:
    """Which n-grams of a vocabulary are in some documents: at each byte the longest, if it is long enough to count.

    ``entries``: int32[n], a document's first occurrences before its repeats. ``starts``: int64[n_docs + 1], where
    documents begin. ``repeats``: int64[n_docs], where their repeats do.
    """

    entries: np.ndarray
    starts: np.ndarray
    repeats: np.ndarray

    def __len__(self) -> int:
        return len(self.repeats)

    @classmethod
    def concatenated(cls, parts: Sequence[Matches]) -> Matches:
        """Documents of several, in order."""
        before = np.cumsum([0, *(len(part.entries) for part in parts)])
        starts = [part.starts[:-1] + first for part, first in zip(parts, before, strict=False)]
        repeats = [part.repeats + first for part, first in zip(parts, before, strict=False)]
        none = np.zeros(0, np.int64)
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(part.entries for part in parts)]),
            np.concatenate([none, *starts, before[-1:]]),
            np.concatenate([none, *repeats]),
        )


class Coverage:
    """How often each n-gram of a target was taken, and what one more is worth.

    Parameters
    ----------
    vocabulary : the target's n-grams. worth : float64[n_entries], ``w t**0.75``; by default with `ORDER_WEIGHTS`.

    Attributes
    ----------
    counts : float64[n_entries], how often each was taken; those below ``lowest``, which are worth nothing, are 0.
    """

    def __init__(self, vocabulary: Vocabulary, worth: np.ndarray | None = None) -> None:
        self.vocabulary = vocabulary
        self.worth = default_worth(vocabulary) if worth is None else worth
        self.lowest = int(np.flatnonzero(self.worth)[0]) if self.worth.any() else len(vocabulary)
        orders = range(1, vocabulary.max_order + 1)
        self.parents = np.concatenate([[0], *(vocabulary.parents(order) for order in orders)]).astype(np.int32)
        self.counts = np.zeros(len(vocabulary))
        self._matcher = Matcher(vocabulary)
        self._matcher.set_values(np.arange(len(vocabulary)))

    def matches(self, data: np.ndarray, offsets: np.ndarray) -> Matches:
        """The n-grams of texts (uint8[...], UTF-8, and int64[n_docs + 1]); called by many threads."""
        found = self._matcher.numbers(data, offsets)
        n_docs = len(offsets) - 1
        out, starts, repeats = np.empty_like(found), np.empty(n_docs + 1, np.int64), np.empty(n_docs, np.int64)
        seen = np.zeros(len(self.vocabulary), np.int64)
        _arrange(found, offsets - offsets[0], self.lowest, seen, out, starts, repeats)
        return Matches(out[: starts[-1]].copy(), starts, repeats)

    def gains(self) -> np.ndarray:
        """float64[n_entries]: what one more of an n-gram is worth, with all that it ends in."""
        gains = self.worth * np.log((self.counts + 2) / (self.counts + 1))
        _add_parents(self.parents, self.lowest, gains)
        return gains

    def add(self, matches: Matches, doc: int) -> None:
        """Take a document: every occurrence counts."""
        start, stop = int(matches.starts[doc]), int(matches.starts[doc + 1])
        _add(matches.entries, start, stop, self.parents, self.lowest, self.counts)

    def expect(self, matches: Matches, share: float) -> None:
        """Count ``share`` of documents as taken before, as a random choice among them would be on average."""
        _add(matches.entries, 0, len(matches.entries), self.parents, self.lowest, self.counts)
        self.counts *= share


def default_worth(vocabulary: Vocabulary) -> np.ndarray:
    """float64[n_entries]: counts in the target to the power of 3/4, times the weight of the order."""
    worth = np.zeros(len(vocabulary))
    for order in range(1, vocabulary.max_order + 1):
        entries = vocabulary.entries(order)
        counts = vocabulary.counts[entries]
        worth[entries] = ORDER_WEIGHTS[order - 1] * np.sqrt(counts * np.sqrt(counts))  # to the last bit anywhere
    return worth


def greedy_cover(
    coverage: Coverage,
    matches: Matches,
    *,
    n_bytes: np.ndarray,
    sizes: np.ndarray,
    ties: np.ndarray,
    budget: int,
    room: int | None = None,
    rounds: int = ROUNDS,
    workers: int = 1,
) -> np.ndarray:
    """Take documents by what a byte of them adds to those taken before.

    A round finds what n-grams are worth by then, and takes documents, best first, until its part of the budget is
    spent. A document for which there is no room is passed over.

    Parameters
    ----------
    coverage : what is covered before; afterwards with what was taken.
    matches : of n_docs documents. n_bytes : int64[n_docs], of their text.
    sizes : int64[n_docs], what the budget counts. ties : uint64[n_docs], the smaller one goes first.
    budget : of all documents together, in the unit of sizes; none is taken once it is spent.
    room : what they may take at most, by default the budget.

    Returns
    -------
    docs : int64[n], in the order in which they were taken.
    """
    live, bounds = np.arange(len(matches)), np.full(len(matches), np.inf)
    taken: list[int] = []
    spent, room = 0, budget if room is None else room
    with ThreadPoolExecutor(workers) as pool:
        for done in range(1, rounds + 1):
            gains = coverage.gains()

            def score(docs: np.ndarray, gains: np.ndarray = gains) -> np.ndarray:
                parts = pool.map(lambda some: _summed(matches, some, gains), np.array_split(docs, workers))
                return np.concatenate(list(parts)) / np.maximum(n_bytes[docs], 1)

            before, gone = len(taken), np.zeros(len(matches), bool)
            for doc in _best_first(live, bounds, ties, score):
                if spent * rounds >= budget * done:
                    break
                gone[doc] = True
                if spent + sizes[doc] <= room:
                    taken.append(doc)
                    spent += int(sizes[doc])
            for doc in taken[before:]:
                coverage.add(matches, doc)
            live = live[~gone[live]]
    return np.array(taken, np.int64)


def _summed(matches: Matches, docs: np.ndarray, gains: np.ndarray) -> np.ndarray:
    out = np.empty(len(docs))
    _sums(matches.entries, matches.starts, matches.repeats, docs, gains, out)
    return out


def _best_first(
    live: np.ndarray, bounds: np.ndarray, ties: np.ndarray, score: Callable[[np.ndarray], np.ndarray]
) -> Iterator[int]:
    """Documents by score; ``bounds`` has those of earlier rounds, and gets the new ones.

    A score only falls from round to round, so a document need not be scored while others are above its old one.
    """
    queue = _ranked(live, bounds, ties)
    waiting = queue[:0]
    step = max(1, -(-len(queue) // BLOCKS))
    for start in range(0, len(queue), step):
        block = queue[start : start + step]
        bounds[block] = score(block)
        waiting = _ranked(np.concatenate([waiting, block]), bounds, ties)
        limit = bounds[queue[start + step]] if start + step < len(queue) else -np.inf
        sure = int(np.count_nonzero(bounds[waiting] > limit))
        yield from waiting[:sure].tolist()
        waiting = waiting[sure:]


def _ranked(docs: np.ndarray, scores: np.ndarray, ties: np.ndarray) -> np.ndarray:
    return docs[np.lexsort((docs, ties[docs], -scores[docs]))]
