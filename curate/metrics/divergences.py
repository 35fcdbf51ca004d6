"""How far apart two distributions over buckets are: the f-divergences, each with the weights that it implies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curate.errors import InputError, UsageError, unknown
from curate.metrics.adequacy import smoothed

PSEUDO_COUNT = 0.5
_SUMS_TO_ONE = 1e-6


@dataclass(frozen=True)
class Divergence:
    """D(P || Q) = sum_b q_b f(p_b / q_b) of a convex f with f(1) = 0 (P target, Q comparison; nats).

    ``terms``: q f(p / q) from p, q > 0 and u = log(p / q), with the f whose slope at 1 is zero, so that no term is
    negative. ``at_zero``: f(0), the price of a bucket that P lacks; ``at_infinity``: the limit of f(r) / r, the price
    of one that Q lacks. ``curvature``: f''(1), None where there is none. ``log_weight``: log weights for selection
    from log-ratios, log(f''(r) r**2) up to a constant (f-distill's weighting); None where more weight would go to
    what the target lacks.
    """

    title: str
    terms: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    at_zero: float
    at_infinity: float
    curvature: float | None
    log_weight: Callable[[np.ndarray], np.ndarray] | None
    symmetric: bool = False

    def __call__(self, p: np.ndarray, q: np.ndarray) -> float:
        """Of two distributions.

        Parameters
        ----------
        p, q : float64[n_buckets], probabilities that add up to 1. Zeros are as the definition has them: where only
            one of them is zero, KL and its like can be infinite; where both are, the bucket counts for nothing.

        Raises
        ------
        InputError : different shapes, negative values, or sums that are not 1.
        """
        p, q = _distributions(p, q)
        both = (p > 0) & (q > 0)
        inside = self.terms(p[both], q[both], np.log(p[both]) - np.log(q[both]))
        only_q, only_p = float(q[p == 0].sum()), float(p[q == 0].sum())
        total = float(np.maximum(inside, 0).sum())
        total += self.at_zero * only_q if only_q else 0.0
        return total + (self.at_infinity * only_p if only_p else 0.0)

    def floor(self, n_target: float, n_other: float, n_buckets: int) -> float:
        """What to expect of two samples of the same distribution, in the units of the divergence.

        Leading term: f''(1) (B - 1)/2 (1/n + 1/m); for total variation, which has no curvature, an upper bound,
        sqrt((B - 1)/(2 pi) (1/n + 1/m)).

        Parameters
        ----------
        n_target, n_other : n-grams, or as many independent ones as they are worth (``Adequacy.n_effective``).
        n_buckets : buckets that occur.
        """
        if n_target <= 0 or n_other <= 0:
            return math.inf
        spread = max(n_buckets - 1, 0) * (1 / n_target + 1 / n_other)
        return math.sqrt(spread / (2 * math.pi)) if self.curvature is None else self.curvature * spread / 2


def _kl_terms(p: np.ndarray, q: np.ndarray, u: np.ndarray) -> np.ndarray:
    return p * u - (p - q)


def _js_terms(p: np.ndarray, q: np.ndarray, u: np.ndarray) -> np.ndarray:
    return 0.5 * (p * (math.log(2) - np.logaddexp(0, -u)) + q * (math.log(2) - np.logaddexp(0, u)))


KL = Divergence("KL divergence", _kl_terms, 1.0, math.inf, 1.0, lambda u: u)
REVERSE_KL = Divergence(
    "reverse KL divergence", lambda p, q, u: _kl_terms(q, p, -u), math.inf, 1.0, 1.0, lambda u: np.zeros_like(u)
)


def _power_gain(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """q (exp(v) - 1), finite wherever that is; inf where it is too large for a number."""
    with np.errstate(over="ignore"):
        return np.where(v < 700, q * np.expm1(np.minimum(v, 700)), np.exp(v + np.log(q)))


def alpha_divergence(order: float) -> Divergence:
    """The Amari (Cressie-Read) divergence of an order: 1 is KL, 0 reverse KL, 2 half of Pearson's chi-square.

    f(r) = (r**a - a r - (1 - a)) / (a (a - 1)). Its log weights are a times the log-ratio: the order is the inverse
    of a temperature.
    """
    if not math.isfinite(order):
        raise UsageError(f"the order of an alpha divergence is a finite number, not {order}")
    if order in (0, 1):
        return KL if order == 1 else REVERSE_KL

    def terms(p: np.ndarray, q: np.ndarray, u: np.ndarray) -> np.ndarray:
        if order > 0.5:  # that of order 1 - a with p and q exchanged: near order 1 nothing cancels
            return (_power_gain(p, (order - 1) * u) - (1 - order) * (q - p)) / (order * (order - 1))
        return (_power_gain(q, order * u) - order * (p - q)) / (order * (order - 1))

    return Divergence(
        f"alpha divergence of order {order:g}",
        terms,
        1 / order if order > 0 else math.inf,
        1 / (1 - order) if order < 1 else math.inf,
        1.0,
        (lambda u: order * u) if order > 0 else None,
    )


DIVERGENCES = {
    "kl": KL,
    "reverse_kl": REVERSE_KL,
    "jensen_shannon": Divergence(
        "Jensen-Shannon",
        _js_terms,
        math.log(2) / 2,
        math.log(2) / 2,
        0.25,
        lambda u: -np.logaddexp(0, -u),
        symmetric=True,
    ),
    "jeffreys": Divergence(
        "Jeffreys",
        lambda p, q, u: (p - q) * u,
        math.inf,
        math.inf,
        2.0,
        lambda u: np.logaddexp(0, u),
        symmetric=True,
    ),
    "chi_square": Divergence(
        "Pearson chi-squared", lambda p, q, u: (p - q) ** 2 / q, 1.0, math.inf, 2.0, lambda u: 2 * u
    ),
    "neyman": Divergence("Neyman chi-squared", lambda p, q, u: (p - q) ** 2 / p, math.inf, 1.0, 2.0, None),
    "squared_hellinger": Divergence(
        "squared Hellinger",
        lambda p, q, u: (np.sqrt(p) - np.sqrt(q)) ** 2,
        1.0,
        1.0,
        0.5,
        lambda u: u / 2,
        symmetric=True,
    ),
    "total_variation": Divergence(
        "total variation",
        lambda p, q, u: np.abs(p - q) / 2,
        0.5,
        0.5,
        None,
        lambda u: np.minimum(u, 0),  # f'' is a point mass at 1: a surrogate that stops rewarding beyond it
        symmetric=True,
    ),
}


def renyi_divergence(p: np.ndarray, q: np.ndarray, order: float) -> float:
    """log(sum p**a q**(1 - a)) / (a - 1), nats: increasing in the order, KL at 1, log(max p / q) at infinity.

    Raises
    ------
    UsageError : a negative order.
    InputError : as for `Divergence`.
    """
    if not order >= 0:
        raise UsageError(f"the order of a Renyi divergence is 0 or more, not {order}")
    if order == 1:
        return KL(p, q)
    p, q = _distributions(p, q)
    if order > 1 and (p[q == 0] > 0).any():
        return math.inf
    both = (p > 0) & (q > 0)
    if not both.any():
        return math.inf
    u, log_q = np.log(p[both]) - np.log(q[both]), np.log(q[both])
    if order == math.inf:
        return float(u.max())
    return float(np.logaddexp.reduce(order * u + log_q)) / (order - 1)


def kl_mix(p: np.ndarray, q: np.ndarray, reverse_share: float) -> float:
    """reverse_share KL(q || p) + (1 - reverse_share) KL(p || q), nats; p of a teacher or target, q of a student.

    The loss of distillation over growing lengths: forward KL, which covers all that p does, counts most for long ones.

    Raises
    ------
    UsageError : a share that is not from 0 to 1. InputError : as for `Divergence`.
    """
    if not 0 <= reverse_share <= 1:
        raise UsageError(f"the share of the reverse KL is 0 to 1, not {reverse_share}")
    forward = KL(p, q) if reverse_share < 1 else 0.0  # 0 times infinity is nothing
    reverse = KL(q, p) if reverse_share > 0 else 0.0
    return reverse_share * reverse + (1 - reverse_share) * forward


@dataclass(frozen=True)
class Measured:
    """A divergence between samples beside its ``floor``, what two samples of one distribution would give."""

    value: float
    floor: float


def divergence(name: str) -> Divergence:
    """The divergence of a name of `DIVERGENCES`, or "alpha=0.5" for one of an order.

    Raises
    ------
    UsageError : no such divergence.
    """
    if name.startswith("alpha="):
        try:
            return alpha_divergence(float(name.removeprefix("alpha=")))
        except ValueError as error:
            raise UsageError(
                f"{name}: the order of an alpha divergence is a finite number, such as alpha=0.5"
            ) from error
    if name not in DIVERGENCES:
        raise unknown("divergence", name, [*DIVERGENCES, "alpha=0.5"])
    return DIVERGENCES[name]


def divergences(
    target: np.ndarray, other: np.ndarray, *, pseudo_count: float = PSEUDO_COUNT, worth: tuple[float, float] = (1, 1)
) -> dict[str, Measured]:
    """Every divergence of the table between two corpora, from their bucket counts.

    Counts of the parts of a corpus add up to those of the whole, so the parts can be counted anywhere.

    Parameters
    ----------
    target, other : int64[n_buckets], n-grams.
    pseudo_count : added to every bucket of both, (c + a) / (N + a B); with 0 some divergences are infinite as soon as
        one corpus lacks a bucket of the other.
    worth : independent n-grams that one n-gram of each is worth, 1 / ``Adequacy.design_effect``; for the floor.

    Raises
    ------
    InputError : different shapes, negative counts, or nothing counted and no pseudo-count.
    """
    p, q = probabilities(target, pseudo_count), probabilities(other, pseudo_count)
    occupied = int(((np.asarray(target) > 0) | (np.asarray(other) > 0)).sum())
    sizes = (float(np.sum(target)) * worth[0], float(np.sum(other)) * worth[1])
    return {name: Measured(d(p, q), d.floor(*sizes, occupied)) for name, d in DIVERGENCES.items()}


def probabilities(counts: np.ndarray, pseudo_count: float = PSEUDO_COUNT) -> np.ndarray:
    """float64[n_buckets]: (c + a) / (N + a B).

    Raises
    ------
    InputError : not one row of counts, negative or not finite, or nothing to divide by.
    UsageError : a negative pseudo-count.
    """
    counts = np.asarray(counts)
    if not pseudo_count >= 0:
        raise UsageError(f"a pseudo-count is 0 or more, not {pseudo_count}")
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise InputError(f"counts are one row of numbers from 0 up, not an array of shape {counts.shape} with others")
    if counts.sum() + pseudo_count * len(counts) <= 0:
        raise InputError("nothing was counted: give a corpus with n-grams, or a pseudo-count")
    return smoothed(counts, pseudo_count)


def _distributions(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = _distribution(p, "p"), _distribution(q, "q")
    if p.shape != q.shape:
        raise InputError(f"p has {len(p):,} buckets and q has {len(q):,}: count both with the same n_buckets")
    return p, q


def _distribution(values: np.ndarray, name: str) -> np.ndarray:
    p = np.asarray(values, np.float64)
    if p.ndim != 1 or (p < 0).any() or not abs(p.sum() - 1) <= _SUMS_TO_ONE:
        raise InputError(f"{name} is no distribution: want one row of values from 0 up that add up to 1")
    return p
