"""How far two groupings of the same documents agree: adjusted Rand, normalised mutual information, purity."""

from __future__ import annotations

import numpy as np


def contingency(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """int64[groups of a, groups of b]: documents by both labels (int64[n], 0 and up)."""
    shape = int(a.max(initial=-1)) + 1, int(b.max(initial=-1)) + 1
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """The share of pairs on which two groupings agree, less what chance gives (Hubert and Arabie, 1985).

    1: the same groups; 0 is expected of groups of these sizes at random. Two groupings of one group each are the same.
    """
    table = contingency(a, b)
    both, of_a, of_b = (_pairs(t) for t in (table, table.sum(axis=1), table.sum(axis=0)))
    n = len(a)
    expected = of_a * of_b / (n * (n - 1) / 2) if n > 1 else 0.0
    most = (of_a + of_b) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _pairs(sizes: np.ndarray) -> float:
    return float((sizes * (sizes - 1.0) / 2).sum())


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) over the mean of the entropies, in 0..1; 1 for two groupings of one group each."""
    table = contingency(a, b) / max(1, len(a))
    of_a, of_b = table.sum(axis=1), table.sum(axis=0)
    mean = (_entropy(of_a) + _entropy(of_b)) / 2
    return 1.0 if mean == 0 else (2 * mean - _entropy(table.ravel())) / mean


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def purity(labels: np.ndarray, truth: np.ndarray) -> float:
    """The share of documents whose true group is the commonest of their label's."""
    return float(contingency(labels, truth).max(axis=1).sum() / max(1, len(labels)))
