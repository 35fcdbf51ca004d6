"""Whether a target is large enough for the number of buckets (p-n criterion, cluster form)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from curate.errors import UsageError

MIN_DOCUMENTS = 30
MIN_SIGNAL_TO_NOISE = 3.0
PASS, WARN = 0.05, 0.1  # limits of `delta`


@dataclass(frozen=True)
class Adequacy:
    """How much of a target's bucket distribution is noise.

    ``risk`` (nats): the expected KL divergence of the estimate from the truth. ``design_effect``: how many
    times more than with independent n-grams. ``n_effective``: as many independent n-grams would be as
    good. ``delta``: bound on how far the error rate of telling truth from estimate is below one half.
    ``signal_to_noise``: KL(target || raw) / risk.
    """

    n_documents: int
    n_ngrams: int
    n_buckets: int
    risk: float
    design_effect: float
    n_effective: float
    delta: float
    n_buckets_supported: int
    kl_from_raw: float
    signal_to_noise: float

    @property
    def verdict(self) -> str:
        """ "pass", "warn" or "fail"."""
        return "pass" if self.delta <= PASS else "warn" if self.delta <= WARN else "fail"


def adequacy(
    counts: np.ndarray, squares: np.ndarray, products: np.ndarray, total_square: float, n_documents: int, kl: float
) -> Adequacy:
    """Adequacy of a target from sums over its documents, m, and buckets, b.

    Parameters
    ----------
    counts, squares, products : int64[n_buckets]; sums over documents of c_mb, c_mb**2 and c_mb * l_m, where
        l_m is the n-grams of document m.
    total_square : sum of l_m**2.
    kl : KL(target || raw), nats.

    Notes
    -----
    V_b = M/(M-1) * sum_m (c_mb - l_m p_b)**2 / N**2 and risk = sum_b V_b / (2 p_b): the cluster variance of a
    proportion, since the tokens of a document depend on each other. With independent n-grams the risk is
    (B - 1)/(2N), the leading term for a well-specified family (Sheena).
    """
    n = int(counts.sum())
    n_buckets = len(counts)
    occupied = int((counts > 0).sum())
    if n == 0 or n_documents < 2 or occupied < 2:
        return Adequacy(n_documents, n, n_buckets, np.inf, np.inf, 0.0, np.inf, 1, kl, 0.0)
    p = counts / n
    variance = cluster_variances(counts, squares, products, total_square, n_documents)
    risk = float(0.5 * np.sum(variance[p > 0] / p[p > 0]))
    design_effect = risk / ((occupied - 1) / (2 * n))
    n_effective = n / design_effect if design_effect > 0 else float(n)
    delta = float(np.sqrt((n_buckets - 1) / (16 * n_effective)))
    supported = int(1 + 16 * PASS**2 * n_effective)
    signal = kl / risk if risk > 0 else np.inf
    return Adequacy(n_documents, n, n_buckets, risk, design_effect, n_effective, delta, supported, kl, float(signal))


def cluster_variances(
    counts: np.ndarray, squares: np.ndarray, products: np.ndarray, total_square: float, n_documents: int
) -> np.ndarray:
    """float64[n_buckets]: variance of the share of each bucket, from the sums that `adequacy` takes."""
    n = counts.sum()
    p = counts / n
    spread = squares - 2 * p * products + p**2 * total_square
    return n_documents / (n_documents - 1) * np.maximum(spread, 0) / n**2


def n_min(n_buckets: int, delta: float = PASS) -> int:
    """Independent n-grams that a target needs for `n_buckets`: (B - 1)/(16 delta**2), rounded up.

    With so many, truth and estimate are told apart with an error rate of at least 1/2 - delta (Pinsker's bound on the
    leading term of the risk). Compare it with ``Adequacy.n_effective``.

    Raises
    ------
    UsageError : no buckets, or a delta that is not above 0 and at most 1/2.
    """
    if n_buckets < 1 or not 0 < delta <= 0.5:
        raise UsageError(f"want 1 bucket or more and a delta above 0 and up to 0.5, not {n_buckets} and {delta}")
    exact = (n_buckets - 1) / (16 * delta**2)
    return math.ceil(exact * (1 - 1e-12))  # 999/(16 0.05**2) is 24,975 and not one more


def smoothed(counts: np.ndarray, alpha: float) -> np.ndarray:
    """Bucket probabilities with a pseudo-count: (c + alpha) / (N + alpha B)."""
    return (counts + alpha) / (counts.sum(axis=-1, keepdims=True) + alpha * counts.shape[-1])


def kl_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) in nats, for strictly positive q where p is positive."""
    positive = p > 0
    return float(np.sum(p[positive] * (np.log(p[positive]) - np.log(q[positive]))))
