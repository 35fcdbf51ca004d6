"""Some points with weights that stand for all: ridge leverage scores of any point from these alone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import InputError, UsageError
from curate.leverage.exact import check_ridge, inverse_factor
from curate.leverage.similarity import Linear, Rbf, Similarity

AT_ONCE = 4_096  # points whose similarities to the dictionary are held together


@dataclass(frozen=True)
class Dictionary:
    """Points of a corpus, how often each was drawn, and with which chance.

    It is epsilon-accurate when ``(1 - e) (M + ridge) <= sum w**2 x x^T + ridge <= (1 + e) (M + ridge)`` as matrices,
    M being the sum of ``x x^T`` over all points in the kernel's space. Then leverage scores by it are right up to
    factors 1 - e and 1 + e, whatever the point.

    Attributes
    ----------
    points : float64[m, dim]. names : int64[m], the numbers of their documents.
    copies : int64[m], of ``max_copies``. probabilities : float64[m], of keeping one.
    ridge : absolute, the same for all parts of a corpus. epsilon : accuracy that was aimed at.
    n_points : that it stands for.
    """

    points: np.ndarray
    names: np.ndarray
    copies: np.ndarray
    probabilities: np.ndarray
    max_copies: int
    ridge: float
    similarity: Similarity
    epsilon: float
    n_points: int

    def __len__(self) -> int:
        return len(self.points)

    @property
    def weights(self) -> np.ndarray:
        """float64[m]: of the squares of points, so that sums over the dictionary estimate sums over all."""
        return self.copies / (self.max_copies * self.probabilities)

    @cached_property
    def _factors(self) -> dict[float, np.ndarray]:
        return {}

    def _factor(self, ridge: float) -> np.ndarray:
        """float64[m, m]: the Cholesky factor of the similarities with ``ridge / weights`` on the diagonal."""
        if ridge not in self._factors:
            inside = self.similarity.between(self.points, self.points)
            inside[np.diag_indices(len(self))] += ridge / self.weights
            self._factors[ridge] = np.linalg.cholesky(inside)
        return self._factors[ridge]

    def estimate(self, x: np.ndarray, *, ridge: float | None = None) -> np.ndarray:
        """Ridge leverage scores of points, in the dictionary or not.

        By Woodbury's identity ``(k_xx - k_xI (K_II + ridge / w**2)^-1 k_Ix) / ridge``, and cut at
        ``k_xx / (k_xx + ridge)``, which no score of a point exceeds that is in the data. The difference loses digits
        when the ridge is small, so the Cholesky factor is solved with, which is right to 1e-8 at k_xx / ridge = 3e5;
        multiplying by its inverse would be to 1e-7.

        Parameters
        ----------
        x : float64[n, dim]. ridge : another than the dictionary's own.

        Returns
        -------
        float64[n].
        """
        return self._estimate(np.asarray(x, np.float64), self.ridge if ridge is None else check_ridge(ridge))

    def _estimate(self, x: np.ndarray, ridge: float) -> np.ndarray:
        own = self.similarity.own(x)
        explained = np.zeros(len(x))
        if len(self):
            factor = self._factor(ridge)
            for first in range(0, len(x), AT_ONCE):
                some = slice(first, first + AT_ONCE)
                part = np.linalg.solve(factor, self.similarity.between(self.points, x[some]))
                explained[some] = np.einsum("ij,ij->j", part, part)
        return np.clip((own - explained) / ridge, 0, own / (own + ridge))

    def own_scores(self, ridge: float | None = None) -> np.ndarray:
        """float64[m]: `estimate` of the dictionary's own points, for which the diagonal of an inverse is enough.

        With D = 1 / w**2 and A = K_II + ridge D it is ``D_i (1 - ridge D_i (A^-1)_ii)``.
        """
        ridge = self.ridge if ridge is None else check_ridge(ridge)
        if not len(self):
            return np.zeros(0)
        inside = self.similarity.between(self.points, self.points)
        own = inside.diagonal().copy()
        damping = 1 / self.weights
        inside[np.diag_indices(len(self))] += ridge * damping
        factor = inverse_factor(inside)
        found = damping * (1 - ridge * damping * np.einsum("ij,ij->j", factor, factor))
        return np.clip(found, 0, own / (own + ridge))

    @property
    def effective_dimension(self) -> float:
        """The sum of leverage scores over the corpus, estimated from the dictionary."""
        return float(self.weights @ self.own_scores())

    # ---- growing and shrinking

    @classmethod
    def empty(
        cls, dim: int, similarity: Similarity, ridge: float, *, max_copies: int = 50, epsilon: float = 0.5
    ) -> Dictionary:
        """One that stands for nothing yet.

        Raises
        ------
        UsageError : numbers that make no sense.
        """
        check_ridge(ridge)
        if not 0 < epsilon < 1:
            raise UsageError(f"epsilon={epsilon}: must be between 0 and 1")
        if max_copies < 1:
            raise UsageError(f"max_copies={max_copies}: must be 1 or more")
        no = np.zeros(0, np.int64)
        return cls(np.zeros((0, dim)), no, no, np.zeros(0), max_copies, ridge, similarity, epsilon, 0)

    def with_points(self, x: np.ndarray, names: np.ndarray) -> Dictionary:
        """Points added with weight 1, which keeps the accuracy.

        Raises
        ------
        InputError : points of another dimension, or not finite ones.
        """
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self.points.shape[1] or not np.isfinite(x).all():
            raise InputError(f"want finite vectors of {self.points.shape[1]} dimensions, one a row; got {x.shape}")
        new = replace(
            self,
            points=x,
            names=np.asarray(names, np.int64),
            copies=np.full(len(x), self.max_copies),
            probabilities=np.ones(len(x)),
            n_points=len(x),
        )
        return union([self, new])

    def shrunk(self, chances: np.ndarray, rng: np.random.Generator) -> Dictionary:
        """Keep each copy with a chance that has come down to ``chances``, where it was above.

        Parameters
        ----------
        chances : float64[m]: what the probability of keeping a copy of each point should be from here on.
        """
        lower = np.minimum(self.probabilities, np.maximum(chances, 1e-300))
        copies = rng.binomial(self.copies, lower / self.probabilities)
        return replace(self, copies=copies, probabilities=lower)._where(copies > 0)

    def _where(self, mask: np.ndarray) -> Dictionary:
        found = {name: getattr(self, name)[mask] for name in ("points", "names", "copies", "probabilities")}
        return replace(self, **found)

    # ---- files

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name."""
        bandwidth = self.similarity.bandwidth if isinstance(self.similarity, Rbf) else 0.0
        return {
            "points": self.points,
            "names": self.names,
            "copies": self.copies,
            "probabilities": self.probabilities,
            "numbers": np.array([self.max_copies, self.n_points], np.int64),
            "constants": np.array([self.ridge, self.epsilon, bandwidth]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Dictionary:
        """What `arrays` gave.

        Raises
        ------
        ValueError, KeyError : they are not a dictionary's.
        """
        points, copies, probabilities = arrays["points"], arrays["copies"], arrays["probabilities"]
        names, numbers, constants = arrays["names"], arrays["numbers"], arrays["constants"]
        columns = (names, copies, probabilities)
        whole = all(a.dtype == np.int64 for a in (names, copies, numbers))
        if points.ndim != 2 or {len(c) for c in columns} != {len(points)} or not whole:
            raise ValueError("arrays are not a dictionary's")
        if numbers.shape != (2,) or constants.shape != (3,) or not np.isfinite(points).all():
            raise ValueError("arrays are not a dictionary's")
        if not ((copies >= 1) & (copies <= numbers[0]) & (probabilities > 0) & (probabilities <= 1)).all():
            raise ValueError("copies or probabilities are out of range")
        ridge, epsilon, bandwidth = (float(c) for c in constants)
        similarity = Rbf(bandwidth) if bandwidth else Linear()
        empty = cls.empty(points.shape[1], similarity, ridge, max_copies=int(numbers[0]), epsilon=epsilon)
        return replace(
            empty,
            points=np.asarray(points, np.float64),
            names=names,
            copies=copies,
            probabilities=np.asarray(probabilities, np.float64),
            n_points=int(numbers[1]),
        )

    def save(self, path: str | Path) -> None:
        """Write an npz file of arrays, no code in it."""
        from curate.io.paths import atomic

        with atomic(Path(path)) as part, open(part, "wb") as stream:
            np.savez(stream, **self.arrays())  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Dictionary:
        """Read what `save` wrote.

        Raises
        ------
        InputError : it is not there, or is something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls.from_arrays(arrays)
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a saved dictionary ({error})") from error


def union(dictionaries: Sequence[Dictionary]) -> Dictionary:
    """All points of dictionaries of disjoint data, with the weights that they have.

    If each is epsilon-accurate for its data, sums of all lie within ``(1 - e) (M + ridge) <= . + (1 + e) ridge <=
    (1 + 3e) (M + ridge)`` when there are two, since each brings a ridge of its own.

    Raises
    ------
    UsageError : none, or with different settings.
    """
    if not dictionaries:
        raise UsageError("no dictionaries to unite")
    first = dictionaries[0]
    for other in dictionaries:
        for name in ("max_copies", "ridge", "similarity", "epsilon"):
            if getattr(other, name) != getattr(first, name):
                raise UsageError(f"{name} of dictionaries differs: {getattr(first, name)}, {getattr(other, name)}")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(d, name) for d in dictionaries])
        for name in ("points", "names", "copies", "probabilities")
    }
    return replace(first, **columns, n_points=sum(d.n_points for d in dictionaries))
