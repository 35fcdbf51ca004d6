"""Scores by an RBF dictionary that do not depend on what else is scored, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from curate.errors import UsageError
from curate.leverage.dictionary import Dictionary
from curate.leverage.exact import inverse_factor
from curate.leverage.similarity import Rbf
from curate.leverage.whole import UNIT, blocks, floats_of, whole_numbers

SIMILARITY_UNIT = 2.0**24
AT_ONCE = 4_096  # vectors


@dataclass(frozen=True)
class FixedDictionary:
    """A dictionary that is done, for vectors of length at most 1, in whole numbers (see `curate.leverage.whole`).

    Similarities are rounded to multiples of 2**-24 and the inverse factor so that their products stay below 2**53. At a
    ridge of 1 or more, scores are those of the dictionary to about 1e-6.

    ``points``: float64[m, dim], in units of 2**-14. ``factor``: float64[m, m], in units of 1 / ``unit``.
    """

    points: np.ndarray
    factor: np.ndarray
    unit: float
    bandwidth: float
    ridge: float
    n_points: int
    effective_dimension: float

    @classmethod
    def of(cls, dictionary: Dictionary) -> FixedDictionary:
        """From a dictionary of vectors of length at most 1.

        Raises
        ------
        UsageError : its kernel is linear, for which `Gram` is exact.
        """
        similarity = dictionary.similarity
        if not isinstance(similarity, Rbf):
            raise UsageError("a dictionary with the linear kernel: take Gram, which is exact")
        points = whole_numbers(dictionary.points, dictionary.points.shape[1])
        rounded = replace(dictionary, points=points / UNIT)
        inside = similarity.between(rounded.points, rounded.points)
        inside[np.diag_indices(len(inside))] += dictionary.ridge / dictionary.weights
        factor = inverse_factor(inside) if len(inside) else inside
        largest = np.abs(factor).sum(axis=1).max(initial=1.0)
        unit = 2.0 ** np.floor(52 - np.log2(SIMILARITY_UNIT * largest))
        return cls(
            points,
            np.rint(factor * unit),
            float(unit),
            similarity.bandwidth,
            dictionary.ridge,
            dictionary.n_points,
            rounded.effective_dimension,
        )

    def estimate(self, x: np.ndarray) -> np.ndarray:
        """Ridge leverage scores, as of `Dictionary.estimate`."""
        found = np.empty(len(x))
        squares = np.square(self.points).sum(axis=1)
        for some in blocks(len(x), AT_ONCE):
            whole = whole_numbers(x[some], self.points.shape[1])
            distances = np.square(whole).sum(axis=1)[:, None] + squares - 2 * (whole @ self.points.T)  # exact
            similar = np.rint(np.exp(distances * (-0.5 / (UNIT * self.bandwidth) ** 2)) * SIMILARITY_UNIT)
            along = similar @ self.factor.T  # exact
            along /= self.unit * SIMILARITY_UNIT
            found[some] = (1 - np.square(along).sum(axis=1)) / self.ridge
        return np.clip(found, 0, 1 / (1 + self.ridge))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name."""
        constants = [self.unit, self.bandwidth, self.ridge, float(self.n_points), self.effective_dimension]
        return {"points": self.points, "factor": self.factor, "constants": np.array(constants)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> FixedDictionary:
        """What `arrays` gave.

        Raises
        ------
        ValueError, KeyError : they are something else.
        """
        points, factor, constants = (arrays[name] for name in ("points", "factor", "constants"))
        shapes = [(len(points), *points.shape[1:2]), (len(points), len(points)), (5,)]
        if points.ndim != 2 or not floats_of([points, factor, constants], shapes):
            raise ValueError("arrays are not those of a dictionary")
        unit, bandwidth, ridge, n_points, dimension = (float(c) for c in constants)
        if min(unit, bandwidth, ridge) <= 0:
            raise ValueError("arrays are not those of a dictionary")
        return cls(points, factor, unit, bandwidth, ridge, int(n_points), dimension)
