"""Ridge leverage scores by their definition: for as many points as fit a square matrix."""

from __future__ import annotations

import numpy as np

from curate.errors import UsageError

SMALL = 64  # rows of a triangle that is inverted at once


def leverage_scores(similarities: np.ndarray, ridge: float) -> np.ndarray:
    """How far each point is from being explained by the others: ``diag(K (K + ridge I)^-1)``.

    Parameters
    ----------
    similarities : float64[n, n], positive semi-definite.
    ridge : above 0, absolute: not divided by n.

    Returns
    -------
    float64[n], each from 0 to ``k_ii / (k_ii + ridge)``.
    """
    check_ridge(ridge)
    factor = inverse_factor(similarities + ridge * np.eye(len(similarities)))
    own = np.diag(similarities)
    return np.clip(1 - ridge * np.einsum("ij,ij->j", factor, factor), 0, own / (own + ridge))


def effective_dimension(similarities: np.ndarray, ridge: float) -> float:
    """The sum of the leverage scores: how many directions the points have that rise above the ridge."""
    return float(leverage_scores(similarities, ridge).sum())


def absolute_ridge(n_points: int, ridge: float | None = None, per_document: float | None = None) -> float:
    """The ridge, given as it is or for each document.

    Raises
    ------
    UsageError : neither or both are given, or it is not above 0.
    """
    if (ridge is None) == (per_document is None):
        raise UsageError(f"ridge={ridge}, ridge_per_document={per_document}: name one of them")
    if ridge is None:
        assert per_document is not None
        return check_ridge(per_document, "ridge_per_document") * n_points
    return check_ridge(ridge)


def check_ridge(ridge: float, name: str = "ridge") -> float:
    """Refuse a ridge that is none.

    Raises
    ------
    UsageError : it is not a finite number above 0.
    """
    if not 0 < ridge < float("inf"):
        raise UsageError(f"{name}={ridge!r}: must be above 0")
    return ridge


def inverse_factor(matrix: np.ndarray) -> np.ndarray:
    """The inverse of the Cholesky factor: ``|L^-1 b|**2`` is ``b^T matrix^-1 b``, by one product for many b.

    Only the factor is inverted, whose condition is the square root of the matrix's.
    """
    return _triangular_inverse(np.linalg.cholesky(matrix))


def _triangular_inverse(low: np.ndarray) -> np.ndarray:
    """The inverse of a lower triangular matrix, by halves: nearly all of it products of matrices."""
    n = len(low)
    if n <= SMALL:
        return np.linalg.inv(low)
    half = n // 2
    found = np.zeros_like(low)
    found[:half, :half] = _triangular_inverse(low[:half, :half])
    found[half:, half:] = _triangular_inverse(low[half:, half:])
    found[half:, :half] = -found[half:, half:] @ (low[half:, :half] @ found[:half, :half])
    return found
