"""Sums that are exact in any order, and roots of functions that take a pass over the documents to evaluate."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

_LOWEST, _HIGHEST = -160, 96  # exponents that are kept apart
_HALF = 26  # bits; halves of mantissas are whole numbers, of which float64 adds up 2**26 without rounding
_AT_ONCE = 1 << 25
_STEPS = 400


class ExactSums:
    """Sums by group, correctly rounded: mantissas are added up as whole numbers, by exponent.

    So a sum depends neither on the order of the documents nor on how they are cut into parts. Values are below
    2**96; such as are nearer to 0 than 2**-160 count as 0.
    """

    def __init__(self, n_groups: int = 1) -> None:
        self._halves = np.zeros((2, n_groups * (_HIGHEST - _LOWEST)), np.int64)
        self._n_groups = n_groups

    def add(self, values: np.ndarray, groups: np.ndarray | None = None) -> ExactSums:
        """Add values, each to its group (0 without ``groups``)."""
        for start in range(0, len(values), _AT_ONCE):
            here = slice(start, start + _AT_ONCE)
            self._add(values[here], None if groups is None else groups[here])
        return self

    def _add(self, values: np.ndarray, groups: np.ndarray | None) -> None:
        assert np.isfinite(values).all(), "only finite numbers can be added up"
        mantissas, exponents = np.frexp(values)
        whole = np.ldexp(np.where(exponents >= _LOWEST, mantissas, 0.0), 53)
        assert exponents.max(initial=0) < _HIGHEST, "too large to be added up"
        high = np.floor(np.ldexp(whole, -_HALF))
        low = whole - np.ldexp(high, _HALF)
        bins = np.maximum(exponents, _LOWEST) - _LOWEST
        if groups is not None:
            bins = bins + groups * (_HIGHEST - _LOWEST)
        for half, of in zip(self._halves, (high, low), strict=True):
            half += np.bincount(bins, of, len(half)).astype(np.int64)

    def merge(self, other: ExactSums) -> ExactSums:
        self._halves += other._halves
        return self

    def totals(self) -> np.ndarray:
        """float64[n_groups]."""
        high, low = (half.reshape(self._n_groups, -1) for half in self._halves)
        found = np.zeros(self._n_groups)
        for group in np.flatnonzero(high.any(axis=1) | low.any(axis=1)):
            whole = 0
            for place in np.flatnonzero((high[group] != 0) | (low[group] != 0)).tolist():
                whole += ((int(high[group, place]) << _HALF) + int(low[group, place])) << place
            found[group] = whole / (1 << (53 - _LOWEST))  # of whole numbers, correctly rounded
        return found


def merged(parts: Iterable[list[ExactSums]]) -> list[ExactSums]:
    """Lists of sums of the same things, added up; an empty one adds nothing."""
    total: list[ExactSums] = []
    for sums in parts:
        total = [a.merge(b) for a, b in zip(total, sums, strict=True)] if total and sums else total or sums
    return total


Function = Callable[[np.ndarray], np.ndarray]


def roots(function: Function, low: np.ndarray, high: np.ndarray, *, tolerance: float = 0.0) -> np.ndarray:
    """Where decreasing functions pass 0: one for each place of an array, all evaluated at once.

    Chandrupatla's method (1997): inverse quadratic interpolation where that is safe, else halving.

    Parameters
    ----------
    function : float64[n] to float64[n], finite; function(low) is 0 or more, function(high) 0 or less.
    low, high : float64[n].
    tolerance : how near is near enough; at least some rounding errors of the place itself.

    Returns
    -------
    float64[n], the last places seen at which the functions are 0 or more.
    """
    a, b = np.array(high, float), np.array(low, float)
    fa, fb = function(a), function(b)
    best = np.where(fa >= 0, a, b)
    c, fc, t = a, fa, np.full(len(a), 0.5)
    for _ in range(_STEPS):
        near = 4 * np.finfo(float).eps * np.maximum(np.abs(a), np.abs(b)) + tolerance
        width = np.abs(b - a)
        done = (width <= 2 * near) | (fa == 0) | (fb == 0)
        if done.all():
            break
        with np.errstate(all="ignore"):
            x = np.where(done, a, a + np.clip(t, near / width, 1 - near / width) * (b - a))
            fx = function(x)
            best = np.where(~done & (fx >= 0) & (x > best), x, best)
            same = np.sign(fx) == np.sign(fa)
            c, fc = np.where(done, c, np.where(same, a, b)), np.where(done, fc, np.where(same, fa, fb))
            b, fb = np.where(done | same, b, a), np.where(done | same, fb, fa)
            a, fa = np.where(done, a, x), np.where(done, fa, fx)
            xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
            safe = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi)
            inverse = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
            t = np.where(safe & np.isfinite(inverse), inverse, 0.5)
    return best
