"""How accurate a dictionary is: exactly where all points fit, and by another dictionary where they do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.leverage.dictionary import Dictionary
from curate.leverage.exact import check_ridge, inverse_factor


def measured_epsilon(similarities: np.ndarray, rows: np.ndarray, weights: np.ndarray, ridge: float) -> float:
    """The exact epsilon of a dictionary: the spectral norm of its error, whitened by ``M + ridge``.

    Parameters
    ----------
    similarities : float64[n, n], of all points. rows : int64[m], of those in the dictionary.
    weights : float64[m], of their squares.
    """
    check_ridge(ridge)
    values, vectors = np.linalg.eigh(similarities)
    values = np.maximum(values, 0)
    error = np.full(len(similarities), -1.0)
    np.add.at(error, rows, weights)
    whitened = np.sqrt(values / (values + ridge))[:, None] * vectors.T
    return spectral_norm((whitened * error) @ whitened.T)


def linear_epsilon(gram: np.ndarray, dictionary: Dictionary) -> float:
    """The exact epsilon of a dictionary with the linear kernel, whatever the number of points.

    Parameters
    ----------
    gram : float64[dim, dim], the sum of ``x x^T`` over all points.
    """
    factor = inverse_factor(gram + dictionary.ridge * np.eye(len(gram)))
    found = (dictionary.points.T * dictionary.weights) @ dictionary.points
    return spectral_norm(factor @ (found - gram) @ factor.T)


def spectral_norm(matrix: np.ndarray) -> float:
    """The largest eigenvalue of a symmetric matrix, by size."""
    return float(np.abs(np.linalg.eigvalsh((matrix + matrix.T) / 2)).max(initial=0.0))


@dataclass(frozen=True)
class EstimatedError:
    """How leverage scores by a dictionary differ from those by a larger, independent one at some points.

    ``lowest``, ``median``, ``highest``: of the ratio of the scores, 1 being right; 5 % of the points are below
    ``low`` and 5 % above ``high``. ``typical``: root mean square of the ratio less 1. ``n_points`` looked at,
    ``size`` and ``reference_size`` in points.

    It is no bound. The reference errs too, by less; and of the epsilon, which holds for all directions, it only
    sees those of the points looked at: epsilon is at least about ``max(1 - 1 / highest, 1 / lowest - 1)``.
    """

    n_points: int
    size: int
    reference_size: int
    lowest: float
    low: float
    median: float
    high: float
    highest: float
    typical: float


def estimated_error(dictionary: Dictionary, reference: Dictionary, x: np.ndarray) -> EstimatedError:
    """Compare a dictionary with a larger one of the same data, drawn with another seed, at points that neither holds.

    Parameters
    ----------
    x : float64[n, dim], at least one: held-out points, or a random sample.
    """
    scores, right = dictionary.estimate(x), reference.estimate(x, ridge=dictionary.ridge)
    ratios = (scores + 1e-12) / (right + 1e-12)
    lowest, low, median, high, highest = (float(q) for q in np.quantile(ratios, [0, 0.05, 0.5, 0.95, 1]))
    typical = float(np.sqrt(np.mean((ratios - 1) ** 2)))
    return EstimatedError(len(x), len(dictionary), len(reference), lowest, low, median, high, highest, typical)
