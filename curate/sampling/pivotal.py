"""Samples with given inclusion probabilities: pivotal, systematic and Poisson, as streams and on arrays.

Each document is kept with exactly the chance it is given. Pivotal (Deville and Tille 1998, in the order of the
documents) and systematic samples have a fixed size when the chances add up to a whole number; a Poisson sample has
that size on average. In a pivotal sample neighbours in the order push each other out, so that documents that are
sorted by source are kept in each source as often as its chances add up to, within two.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from curate.errors import InputError
from curate.kernels.calls import pivotal_winners, systematic_winners
from curate.sampling.noise import PAIR, stream

ROUNDING = 1e-9  # how far from 0 or 1 rounding may leave the chance of the last document, or the sum of all


class Pivotal:
    """One live document, which meets one after another; chances come in any number of pieces.

    Of two with chances a and b that add up to less than 1, one gets the sum and the other is out; else one is kept
    and the other goes on with what is above 1. The winner is such that each one's chance stays what it was.
    """

    def __init__(self, seed: int, number: int = 0) -> None:
        self._stream = partial(stream, seed, PAIR + number)
        self._carry, self._at = np.zeros(1), np.array([-1, 0])
        self._n_seen = self._n_pairs = 0

    def add(self, chances: np.ndarray, uniforms: np.ndarray | None = None) -> np.ndarray:
        """Meet the next documents; returns int64[...], the places of those that are kept for certain by now.

        Parameters
        ----------
        chances : float64[n_docs] in [0, 1]; places count from the first document that was ever added.
        uniforms : float64[n_docs] in [0, 1), one is used for each pair of which none is sure to be kept or not;
            None: a stream of random numbers that depends on the seed, the sampler's number, and the pairs before.
        """
        if uniforms is None:
            uniforms = self._stream(self._n_pairs, len(chances))
        winners = pivotal_winners(chances, self._n_seen, uniforms, self._carry, self._at)
        self._n_seen += len(chances)
        self._n_pairs += int(self._at[1])
        return winners

    @property
    def live(self) -> int:
        """The place of the live document, -1 when there is none."""
        return int(self._at[0])

    def finish(self, uniform: float | None = None, *, whole: bool = False) -> np.ndarray:
        """The place of the live document if it is kept; afterwards there is none.

        It is kept by chance when all chances do not add up to a whole number; where they do (``whole``: are known
        to) rounding is all that its own chance is away from 0 or 1.
        """
        live, p = self.live, float(self._carry[0])
        self._at[0] = -1
        if live < 0:
            return np.zeros(0, np.int64)
        if whole or not ROUNDING < p < 1 - ROUNDING:
            kept = p > 0.5
        else:
            u = float(self._stream(self._n_pairs, 1)[0]) if uniform is None else uniform
            self._n_pairs += 1
            kept = u < p
        return np.array([live] if kept else [], np.int64)


class Systematic:
    """The documents at which the running sum of chances passes u, 1 + u, 2 + u, ..., for one random u.

    Documents that are far apart are kept together or not by the order alone: some pairs never are.
    """

    def __init__(self, seed: int, number: int = 0, start: float | None = None) -> None:
        u = float(stream(seed, PAIR + number, 0, 1)[0]) if start is None else start
        self._carry = np.array([1 - min(max(u, ROUNDING), 1 - ROUNDING)])  # else rounding could change the size
        self._n_seen = 0

    def add(self, chances: np.ndarray) -> np.ndarray:
        """int64[...], the places of the documents that are kept among the next ones."""
        winners = systematic_winners(chances, self._n_seen, self._carry)
        self._n_seen += len(chances)
        return winners

    live = -1  # what is passed by is out

    def finish(self, *, whole: bool = False) -> np.ndarray:
        """As `Pivotal.finish`: nothing is left."""
        return np.zeros(0, np.int64)


def pivotal(chances: np.ndarray, uniforms: np.ndarray | None = None, *, seed: int = 0) -> np.ndarray:
    """A sample in which document i is with chance ``chances[i]``, of a fixed size where they add up to one.

    No two documents are kept together more often than if they were kept independently, so that any total is
    estimated at least as well as from a Poisson sample with the same chances.

    Parameters
    ----------
    chances : float64[n_docs] in [0, 1]; their order says which documents are kept in place of each other.
    uniforms : float64[n_docs] in [0, 1), or None: by ``seed``.

    Returns
    -------
    rows : int64[...], ascending.
    """
    p = _checked(chances)
    sampler = Pivotal(seed)
    return np.sort(np.concatenate([sampler.add(p, uniforms), sampler.finish()]))


def systematic(chances: np.ndarray, start: float | None = None, *, seed: int = 0) -> np.ndarray:
    """As `pivotal`, with one random number ``start`` in (0, 1) for all, and some pairs that are never kept together."""
    return Systematic(seed, start=start).add(_checked(chances))


def poisson(chances: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Each document by itself: kept where its number in [0, 1) is below its chance. Returns int64[...] rows."""
    return np.flatnonzero(uniforms < _checked(chances))


def horvitz_thompson(chances: np.ndarray) -> np.ndarray:
    """float64[n_docs] of kept documents, 1 / chance: weighed so, any sum over them estimates that over all, unbiased.

    Of documents that can be kept at all, that is: those with chance 0 are not spoken for.
    """
    return 1 / np.asarray(chances, np.float64)


def _checked(chances: np.ndarray) -> np.ndarray:
    p = np.ascontiguousarray(chances, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("chances of being kept are numbers from 0 to 1")
    return p
