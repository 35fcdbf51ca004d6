"""How alike vectors are: the linear and the RBF kernel, and vectors of unit length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

MEDIAN_OF = 1_000  # points whose distances give the bandwidth


@dataclass(frozen=True)
class Linear:
    """The inner product."""

    name: ClassVar[str] = "linear"

    def between(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """float64[n, m] of float64[n, dim] and float64[m, dim]."""
        return x @ y.T

    def own(self, x: np.ndarray) -> np.ndarray:
        """float64[n]: of each vector with itself."""
        return np.einsum("ij,ij->i", x, x)


@dataclass(frozen=True)
class Rbf:
    """``exp(-|x - y|**2 / (2 bandwidth**2))``."""

    bandwidth: float
    name: ClassVar[str] = "rbf"

    def between(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """float64[n, m] of float64[n, dim] and float64[m, dim]."""
        return np.exp(squared_distances(x, y) * (-0.5 / self.bandwidth**2))

    def own(self, x: np.ndarray) -> np.ndarray:
        """float64[n]: of each vector with itself."""
        return np.ones(len(x))


Similarity = Linear | Rbf


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64[n, m], not below 0."""
    found = x @ y.T
    found *= -2
    found += np.einsum("ij,ij->i", x, x)[:, None]
    found += np.einsum("ij,ij->i", y, y)
    return np.maximum(found, 0, out=found)


def median_bandwidth(x: np.ndarray) -> float:
    """The median distance of different points among the first `MEDIAN_OF`: a bandwidth for `Rbf`.

    1 when all are the same, since any will do then.
    """
    some = np.asarray(x[:MEDIAN_OF], np.float64)
    distances = np.sqrt(squared_distances(some, some)[np.triu_indices(len(some), 1)])
    different = distances[distances > 1e-7]  # rounding of squares near 1 leaves about 1e-8 of no distance
    return float(np.median(different)) if len(different) else 1.0


def unit_rows(x: np.ndarray) -> np.ndarray:
    """float64[n, dim]: vectors brought to length 1; one of zeros stays."""
    x = np.asarray(x, np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", x, x))
    return x / np.where(lengths > 0, lengths, 1.0)[:, None]
