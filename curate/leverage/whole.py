"""Vectors in whole numbers, whose products are exact, so that sums do not depend on their order.

A product of floats comes out otherwise in its last bit when a matrix is cut otherwise. Vectors rounded to multiples of
2**-14 are whole numbers in these units; so are sums of their products, and floats hold them exactly up to 2**53.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from curate.errors import InputError

UNIT = 2.0**14


def whole_numbers(x: np.ndarray, dim: int) -> np.ndarray:
    """float64[n, dim]: vectors in units of 2**-14, rounded.

    Raises
    ------
    InputError : of another dimension, not finite, or longer than 1.
    """
    if x.ndim != 2 or x.shape[1] != dim:
        raise InputError(f"want vectors of {dim} dimensions, one a row; got {x.shape}")
    whole = np.multiply(x, UNIT, dtype=np.float64)
    squares = np.einsum("ij,ij->i", whole, whole)
    wrong = np.flatnonzero(~(squares <= 1.001 * UNIT**2))
    if len(wrong):
        length = np.sqrt(squares[wrong[0]]) / UNIT
        raise InputError(f"vector {wrong[0]:,} of {len(x):,} has length {length:.6g}: want finite ones of at most 1")
    return np.rint(whole, out=whole)


def floats_of(arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether arrays of a file are finite floats of these shapes."""
    return all(
        a.dtype == np.float64 and a.shape == shape and bool(np.isfinite(a).all())
        for a, shape in zip(arrays, shapes, strict=True)
    )


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices of ``size`` that cover n rows."""
    yield from (slice(first, min(first + size, n)) for first in range(0, n, size))
