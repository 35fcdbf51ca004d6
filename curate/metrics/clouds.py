"""Clouds of vectors, checked before they are compared."""

from __future__ import annotations

import numpy as np

from curate.errors import InputError


def cloud(vectors: np.ndarray, name: str) -> np.ndarray:
    """float64[n, dim], finite, with at least one row.

    Raises
    ------
    InputError : any other array, with the name that the caller has for it.
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise InputError(f"{name}: want finite vectors, one per row, and at least one")
    return x


def two_clouds(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both checked, of as many dimensions."""
    x, y = cloud(x, "x"), cloud(y, "y")
    if x.shape[1] != y.shape[1]:
        raise InputError(f"x has {x.shape[1]} dimensions and y has {y.shape[1]}: embed both the same way")
    return x, y
