"""What finding duplicates takes, as functions of arrays; nothing here needs the compiler."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curate.kernels.native import Kernel

Arrays = tuple[np.ndarray, np.ndarray]

_mark, _marked, _clear = Kernel("clusters", "mark"), Kernel("clusters", "marked"), Kernel("clusters", "clear")
_jaccard_between, _keep_centres = Kernel("clusters", "jaccard_between"), Kernel("clusters", "keep_centres")


class Repeats:
    """Finds, in two passes over keys, those that occur more than once, and a few that do not.

    Two bits a slot and 8 to 16 slots a key, so that 6% to 12% of those that occur once are found too; with fewer
    slots, where they would take more than ``n_bytes``, more of them.
    """

    def __init__(self, n_keys: int, n_bytes: int) -> None:
        bits = max(6, min((n_keys * 8).bit_length(), (n_bytes * 4).bit_length() - 1))
        self._shift = np.uint64(64 - bits)
        self._once, self._again = (np.zeros(1 << (bits - 6), np.uint64) for _ in range(2))

    def add(self, keys: np.ndarray) -> None:
        """The first pass, over keys (uint64[n])."""
        _mark(keys, self._shift, self._once, self._again)

    def among(self, keys: np.ndarray) -> np.ndarray:
        """bool[n]: which of keys (uint64[n]) may occur more than once; all that do are among them."""
        out = np.zeros(len(keys), np.bool_)
        _marked(keys, self._shift, self._again, out)
        return out


class Bits:
    """A bit for each document, all of them set at first."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.words = np.full((n + 7) // 8, 0xFF, np.uint8)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """bool[n]: whether they are set, at places (integers[n])."""
        return ((self.words[places >> 3] >> (places & 7).astype(np.uint8)) & 1).astype(np.bool_)

    def clear(self, places: np.ndarray) -> None:
        """Clear them at places (integers[n])."""
        _clear(self.words, np.ascontiguousarray(places, np.uint64))

    def count(self) -> int:
        """How many are set."""
        return int(np.bitwise_count(self.words).sum(dtype=np.int64)) - (8 * len(self.words) - self.n)

    def copy(self) -> Bits:
        """The same bits, to be changed."""
        other = Bits(0)
        other.n = self.n
        other.words = self.words.copy()
        return other


def jaccard_between(a: Arrays, b: Arrays, pairs: np.ndarray, threshold: float) -> np.ndarray:
    """float64[n]: Jaccard similarities of pairs of sets, 0 where the sizes alone say that it is under the threshold.

    Parameters
    ----------
    a, b : ``(offsets, hashes)``, sets ``hashes[offsets[i]:offsets[i + 1]]`` (uint64, ascending; int64[n + 1]).
    pairs : int64[n, 2], of which set of ``a`` with which of ``b``.
    """
    out = np.empty(len(pairs))
    _jaccard_between(*a, *b, np.ascontiguousarray(pairs, np.int64), float(threshold), out)
    return out


class Removed(NamedTuple):
    """Documents that have a kept neighbour: their ranks, those of the most similar ones, the similarities."""

    ranks: np.ndarray
    centres: np.ndarray
    similarities: np.ndarray


class Centres:
    """Decides who stays: going by rank, who has no earlier kept neighbour.

    This is the lexicographically first maximal independent set: one pass over the edges in the order of
    (later, earlier), as all that an edge needs to know is decided when it comes.

    Parameters
    ----------
    kept : who takes part; those that are removed are cleared.
    """

    def __init__(self, kept: Bits) -> None:
        self.kept = kept
        self._group, self._similarity = np.full(2, -1, np.int64), np.full(1, -1.0)

    def take(self, later: np.ndarray, earlier: np.ndarray, similarities: np.ndarray) -> Removed:
        """Decide by some edges (int64[n] twice, float64[n]); the last document is told by the next call or `end`."""
        ranks, centres, found = np.empty(len(later), np.int64), np.empty(len(later), np.int64), np.empty(len(later))
        state = (self._group, self._similarity)
        n = _keep_centres(later, earlier, similarities, self.kept.words, *state, ranks, centres, found)
        return Removed(ranks[:n], centres[:n], found[:n])

    def end(self) -> Removed:
        """What the last edges say."""
        group, best = self._group
        n = int(best >= 0)
        return Removed(np.full(n, group), np.full(n, best), np.full(n, self._similarity[0]))
