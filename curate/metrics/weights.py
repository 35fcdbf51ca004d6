"""What a set of log weights is like: spread, effective sample size, relation to length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

_EXACT = 1 << 16  # lengths below it have a bin each; beyond, 1% wide


@dataclass
class ScoreMoments:
    """Running sums over documents with a score; merged over partitions in any grouping, read in order.

    ``score`` in nats, ``length`` in tokens.
    """

    n: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf
    sums: np.ndarray = field(default_factory=lambda: np.zeros(5))  # s, s*s, l, l*l, s*l
    shift: float = -np.inf
    weights: np.ndarray = field(default_factory=lambda: np.zeros(2))  # sum w, sum w*w, at exp(-shift)

    @classmethod
    def of(cls, scores: np.ndarray, lengths: np.ndarray) -> ScoreMoments:
        if not len(scores):
            return cls()
        s, length = scores, lengths.astype(float)
        top = float(s.max())
        w = np.exp(s - top)
        sums = np.array([s.sum(), (s * s).sum(), length.sum(), (length * length).sum(), (s * length).sum()])
        return cls(len(s), float(s.min()), top, sums, top, np.array([w.sum(), (w * w).sum()]))

    def merge(self, other: ScoreMoments) -> ScoreMoments:
        if not other.n:
            return self
        if not self.n:
            return other
        shift = max(self.shift, other.shift)
        a, b = np.exp(self.shift - shift), np.exp(other.shift - shift)
        weights = self.weights * [a, a * a] + other.weights * [b, b * b]
        return ScoreMoments(
            self.n + other.n,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.sums + other.sums,
            shift,
            weights,
        )

    @property
    def mean(self) -> float:
        return float(self.sums[0] / self.n) if self.n else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation of the scores, nats."""
        if not self.n:
            return float("nan")
        if self.minimum == self.maximum:  # of equal scores the difference below is rounding
            return 0.0
        return float(np.sqrt(max(0.0, self.sums[1] / self.n - self.mean**2)))

    @property
    def effective_sample_size(self) -> float:
        """Kish's (sum w)**2 / sum w**2 of the weights exp(score), in documents."""
        return float(self.weights[0] ** 2 / self.weights[1]) if self.n else 0.0

    @property
    def length_correlation(self) -> float:
        """Pearson correlation of score and length; nan when one of them does not vary."""
        if self.n < 2 or self.minimum == self.maximum:
            return float("nan")
        s, ss, x, xx, sx = self.sums / self.n
        spread = (ss - s * s) * (xx - x * x)
        return float((sx - s * x) / np.sqrt(spread)) if spread > 0 else float("nan")


def effective_sample_size(weights: np.ndarray) -> float:
    """Kish's effective sample size of non-negative weights, (sum w)**2 / sum w**2."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


class LengthHistogram:
    """Counts of lengths: exact below 65,536, then in bins 1% wide; for quantiles of any corpus in 0.6 MB."""

    def __init__(self) -> None:
        self.counts = np.zeros(_EXACT + 2_000, np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        there = np.flatnonzero(self.counts)  # of a partition's lengths few are: a fiftieth of the bytes to send
        return _histogram, (there, self.counts[there])

    def add(self, lengths: np.ndarray) -> None:
        bins = lengths.astype(np.int64)
        long = bins >= _EXACT
        bins = np.where(long, _EXACT + (np.log(np.maximum(bins, 1) / _EXACT) / np.log(1.01)).astype(np.int64), bins)
        self.counts += np.bincount(np.minimum(bins, len(self.counts) - 1), minlength=len(self.counts))

    def merge(self, other: LengthHistogram) -> None:
        self.counts += other.counts

    @property
    def shares(self) -> np.ndarray:
        """float64[n_bins]: the share of lengths up to each bin."""
        return np.cumsum(self.counts) / max(1, self.counts.sum())

    @staticmethod
    def lengths(bins: np.ndarray) -> np.ndarray:
        """float64[...]: where bins begin."""
        return np.where(bins < _EXACT, bins, _EXACT * 1.01 ** (bins - _EXACT))

    def quantiles(self, at: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> dict[str, int]:
        """Tokens at each quantile, the lower one where it falls between two."""
        total = int(self.counts.sum())
        if not total:
            return {}
        ranks = np.maximum(1, np.ceil(np.array(at) * total))
        bins = np.searchsorted(np.cumsum(self.counts), ranks)
        return {f"{100 * q:g}%": int(x) for q, x in zip(at, self.lengths(bins), strict=True)}


def _histogram(bins: np.ndarray, counts: np.ndarray) -> LengthHistogram:
    made = LengthHistogram()
    made.counts[bins] = counts
    return made
