"""Dictionaries in one pass: INK-ESTIMATE, SQUEAK in blocks, and their merging in a tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curate.errors import UsageError
from curate.leverage.dictionary import Dictionary, union

BLOCK = 256  # points at least that SQUEAK takes in at once


def ink_estimate(start: Dictionary, x: np.ndarray, rng: np.random.Generator, *, first_name: int = 0) -> Dictionary:
    """INK-ESTIMATE (Calandriello et al., UAI 2016): point by point, chances by share of the effective dimension.

    A copy of point i stays with chance ``score_i / effective dimension``, so that about ``max_copies`` copies are
    kept in all: the space is fixed, and the accuracy falls when the effective dimension grows. No point is seen
    again. Scores are those of the dictionary with the new point, lowered by 1 - epsilon, where the paper has a
    bound by whole columns of similarities, which would have to be kept; the effective dimension is the
    Horvitz-Thompson sum of the same scores.

    Parameters
    ----------
    start : to go on from, most often `Dictionary.empty`. x : float64[n, dim], in the order in which they come.
    rng : of the draws. first_name : number of the first point's document.
    """
    found = start
    for i, point in enumerate(x):
        found = found.with_points(point[None], np.array([first_name + i]))
        scores = (1 - found.epsilon) * found.own_scores()
        found = found.shrunk(scores / max(float(found.weights @ scores), 1.0), rng)
    return found


def squeak(
    start: Dictionary, x: np.ndarray, rng: np.random.Generator, *, first_name: int = 0, block: int | None = None
) -> Dictionary:
    """SQUEAK (Calandriello et al., AISTATS 2017): a copy of point i stays with the chance of its own score.

    The dictionary grows with the effective dimension, not with the number of points, and the accuracy stays.
    Points come in by blocks with weight 1, which keeps the accuracy, before one shrinking.

    Parameters
    ----------
    block : points to take in at once; by default as many as the dictionary has, for shrinking costs the cube of both.
    """
    found, at = start, 0
    while at < len(x):
        some = slice(at, min(len(x), at + (block or max(BLOCK, len(found)))))
        at = some.stop
        found = found.with_points(x[some], np.arange(some.start, some.stop) + first_name)
        found = found.shrunk((1 - found.epsilon) * found.own_scores(), rng)
    return found


def merge(a: Dictionary, b: Dictionary, rng: np.random.Generator) -> Dictionary:
    """One dictionary of two of disjoint data: DISQUEAK's step, scores by the union at ``(1 + epsilon) ridge``."""
    both = union([a, b])
    scores = (1 - both.epsilon) * both.own_scores((1 + both.epsilon) * both.ridge)
    return both.shrunk(scores, rng)


def merge_tree(dictionaries: Sequence[Dictionary], seed: int = 0) -> Dictionary:
    """One dictionary of many, by pairs: the same whoever merges, since each node has a seed of its own.

    Raises
    ------
    UsageError : there are none, or their settings differ.
    """
    if not dictionaries:
        raise UsageError("no dictionaries to merge")
    level, height = list(dictionaries), 0
    while len(level) > 1:
        height += 1
        pairs = range(len(level) // 2)
        merged = [merge(level[2 * i], level[2 * i + 1], node_rng(seed, height, i)) for i in pairs]
        level = merged + level[2 * len(merged) :]
    return level[0]


def node_rng(seed: int, height: int, index: int) -> np.random.Generator:
    """The generator of a node of the tree; leaves, which are partitions, have height 0."""
    return np.random.default_rng([seed, height, index])
