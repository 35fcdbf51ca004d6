"""Exact leverage scores for the linear kernel: one pass, a square of the dimension in memory, mergeable.

The scores need nothing but the sum of ``x x^T``, which is as large as the dimension squared, whatever the number of
documents: with 256 to some thousand dimensions no dictionary is smaller or better. Vectors are rounded to multiples of
2**-14, so sums of products are whole numbers: they are the same to the last bit in any order and by any number of
workers, and 2**35 documents fit. Scores are exact leverage scores of the rounded vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from curate.errors import InputError
from curate.leverage.exact import check_ridge
from curate.leverage.whole import UNIT, blocks, floats_of, whole_numbers

AXIS_UNIT = 2.0**36  # of eigenvectors: UNIT * AXIS_UNIT is below 2**53, so projections are exact too
AT_ONCE = 8_192  # vectors


@dataclass
class Gram:
    """The sum of ``x x^T`` over vectors of length at most 1, in whole numbers.

    ``sums``: int64[dim, dim], in units of 2**-28. ``n_points`` : how many, those of zeros among them.
    """

    dim: int
    sums: np.ndarray = field(init=False)
    n_points: int = 0

    def __post_init__(self) -> None:
        self.sums = np.zeros((self.dim, self.dim), np.int64)

    def add(self, x: np.ndarray) -> None:
        """Take in float[n, dim] vectors.

        Raises
        ------
        InputError : of another dimension, not finite, or longer than 1.
        """
        for some in blocks(len(x), AT_ONCE):
            whole = whole_numbers(x[some], self.dim)
            self.sums += (whole.T @ whole).astype(np.int64)  # exact: a block's sums are below 2**53
        self.n_points += len(x)

    @classmethod
    def of_sums(cls, sums: np.ndarray, n_points: int) -> Gram:
        """From sums that were made before, int64[dim, dim]."""
        found = cls(len(sums))
        found.sums += sums
        found.n_points = n_points
        return found

    def merge(self, other: Gram) -> None:
        """Take in what another has summed.

        Raises
        ------
        InputError : of vectors of another dimension.
        """
        if other.dim != self.dim:
            raise InputError(f"vectors have {self.dim} dimensions in one part and {other.dim} in another")
        self.sums += other.sums
        self.n_points += other.n_points

    @property
    def matrix(self) -> np.ndarray:
        """float64[dim, dim]."""
        return self.sums / UNIT**2

    def directions(self, ridge: float) -> Directions:
        """Ready to score: ``ridge`` is absolute."""
        from threadpoolctl import threadpool_limits

        check_ridge(ridge)
        with threadpool_limits(1):  # several threads find other last bits
            values, vectors = np.linalg.eigh(self.matrix)
        axes = np.rint(vectors * AXIS_UNIT)
        return Directions(axes, np.maximum(values, 0.0), ridge, self.n_points)


@dataclass(frozen=True)
class Directions:
    """The directions of a corpus and how much of it is in each.

    ``axes``: float64[dim, dim], a column each, in units of 2**-36. ``values``: float64[dim], sums of squares along
    them. ``ridge``: absolute. ``n_points`` in the corpus.
    """

    axes: np.ndarray
    values: np.ndarray
    ridge: float
    n_points: int

    def estimate(self, x: np.ndarray, *, ridge: float | None = None) -> np.ndarray:
        """Ridge leverage scores ``x^T (sum + ridge)^-1 x``, cut at ``|x|**2 / (|x|**2 + ridge)``.

        For a vector of the corpus no cut is ever needed. A score does not depend on what else is in ``x``, to the
        last bit.

        Parameters
        ----------
        x : float[n, dim], of length at most 1. ridge : another than the corpus's own.

        Returns
        -------
        float64[n].
        """
        ridge = self.ridge if ridge is None else check_ridge(ridge)
        scores, own = self._scores(x, ridge)
        return np.minimum(scores, own / (own + ridge))

    def missed(self, x: np.ndarray) -> np.ndarray:
        """The share of each vector that lies in directions the corpus hardly has.

        That is ``ridge x^T (sum + ridge)^-1 x / |x|**2``: 1 for a vector at right angles to all of the corpus, near 0
        where the corpus has far more than the ridge; 0 for a vector of zeros.

        Returns
        -------
        float64[n], 0 to 1.
        """
        scores, own = self._scores(x, self.ridge)
        return np.minimum(self.ridge * scores / np.where(own > 0, own, 1.0), 1.0)

    def _scores(self, x: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
        """``(scores, squares of lengths)`` of vectors, not cut."""
        scale = 1 / ((self.values + ridge) * (UNIT * AXIS_UNIT) ** 2)
        found, own = np.empty(len(x)), np.empty(len(x))
        for some in blocks(len(x), AT_ONCE):
            whole = whole_numbers(x[some], len(self.axes))
            along = whole @ self.axes  # exact
            along *= along
            along *= scale
            found[some] = along.sum(axis=1)
            own[some] = np.square(whole).sum(axis=1) / UNIT**2
        return found, own

    @property
    def effective_dimension(self) -> float:
        """The sum of the leverage scores of the whole corpus."""
        return self.effective_dimension_at(self.ridge)

    def effective_dimension_at(self, ridge: float) -> float:
        """The same for another ridge."""
        return float((self.values / (self.values + ridge)).sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name."""
        return {"axes": self.axes, "values": self.values, "constants": np.array([self.ridge, float(self.n_points)])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Directions:
        """What `arrays` gave.

        Raises
        ------
        ValueError, KeyError : they are something else.
        """
        axes, values, constants = (arrays[name] for name in ("axes", "values", "constants"))
        shapes = [(len(values), len(values)), (len(values),), (2,)]
        if not floats_of([axes, values, constants], shapes) or (values < 0).any():
            raise ValueError("arrays are not those of directions")
        return cls(axes, values, check_ridge(float(constants[0])), int(constants[1]))
