"""A dictionary of points that are all there: recursive sampling by ridge leverage scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from curate.errors import UsageError
from curate.leverage.dictionary import Dictionary
from curate.leverage.similarity import Similarity
from curate.sampling.inclusion import inclusion
from curate.sampling.pivotal import systematic


def recursive(
    x: np.ndarray,
    n_samples: int,
    similarity: Similarity,
    rng: np.random.Generator,
    *,
    ridge: float | None = None,
) -> Dictionary:
    """Recursive RLS (Musco and Musco, NeurIPS 2017, arXiv:1605.07583): halve, sample, and score the double by it.

    About ``n n_samples`` similarities. As in their code but for the last draw, which has exactly ``n_samples`` points
    with known chances ``min(1, c score)`` by systematic sampling, so that the points have weights.

    Parameters
    ----------
    x : float64[n, dim]. n_samples : points to keep, at most n.
    ridge : absolute; by default what the tail of the spectrum is worth, see `tail_ridge`.

    Raises
    ------
    UsageError : more points than there are, or none.
    """
    x = np.asarray(x, np.float64)
    n = len(x)
    if not 0 < n_samples <= n:
        raise UsageError(f"n_samples={n_samples}: must be 1 to {n:,}, as many as there are points")
    oversampling = max(1.0, float(np.log(n_samples)))
    rank = max(1, int(np.ceil(n_samples / (4 * oversampling))))
    order = rng.permutation(n)
    sizes = [n]
    while sizes[-1] > n_samples:
        sizes.append((sizes[-1] + 1) // 2)
    rows, weights = order[: sizes[-1]], np.ones(sizes[-1])
    level_ridge = tail_ridge(similarity, x[rows], weights, rank)
    for size in reversed(sizes[:-1]):
        level, top = order[:size], size == n
        scores = _dictionary(x, rows, 1 / weights, similarity, level_ridge, size).estimate(
            x[level], ridge=ridge if top else None
        )
        if top:
            chances = capped(scores, n_samples)
            kept = systematic(chances, rng.random())  # in an order that is random
        else:
            chances = np.minimum(1, oversampling * scores)
            kept = np.flatnonzero(rng.random(size) < chances)
            if not len(kept):
                chances = np.full(size, min(1.0, n_samples / size))
                kept = np.arange(min(size, n_samples))  # a random part, for the same reason
        rows, weights = level[kept], 1 / chances[kept]
        if not top:
            level_ridge = tail_ridge(similarity, x[rows], weights, rank)
    return _dictionary(x, rows, 1 / weights, similarity, level_ridge if ridge is None else ridge, n)


def tail_ridge(similarity: Similarity, points: np.ndarray, weights: np.ndarray, rank: int) -> float:
    """What the spectrum of weighted points has beyond its ``rank`` largest values, a ``rank``-th of it; at least 1e-7.

    Parameters
    ----------
    points : float64[m, dim]. weights : float64[m], of squares.
    """
    roots = np.sqrt(weights)
    inside = similarity.between(points, points) * roots[:, None] * roots
    if rank >= len(inside):
        return 1e-5
    largest = np.linalg.eigvalsh(inside)[-rank:]
    return max(1e-7, float(np.trace(inside) - largest.sum()) / rank)


def capped(scores: np.ndarray, n: int) -> np.ndarray:
    """Chances ``min(1, c score)`` with the sum n; where too few scores are above 0 the others share what is left."""
    if np.count_nonzero(scores > 0) <= n:
        scores = scores + 1e-12 + 1e-9 * scores.max()
    with np.errstate(divide="ignore"):
        return inclusion(np.log(scores), n)


def _dictionary(
    x: np.ndarray, rows: np.ndarray, chances: np.ndarray, similarity: Similarity, ridge: float, n: int
) -> Dictionary:
    """Points drawn once, with these chances."""
    empty = Dictionary.empty(x.shape[1], similarity, ridge, max_copies=1)
    by = np.argsort(rows, kind="stable")
    added = empty.with_points(x[rows[by]], rows[by])
    return replace(added, probabilities=chances[by], n_points=n)
