"""Scores made comparable between groups, and weights that stay within a budget of KL divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curate.errors import InputError, UsageError

_TOLERANCE = 1e-13  # of a strength, relative


def mid_ranks(scores: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Chance that another document of the group scores lower, plus half of one that it scores the same.

    Uniform on (0, 1) whatever the scale of a source's scores, so that sources or lengths can be ranked together.

    Parameters
    ----------
    scores : float64[n_docs]; -inf and inf are values like others.
    groups : [n_docs], any values that compare, such as a source or a bin of length; None for one group.

    Returns
    -------
    quantiles : float64[n_docs]; the mean of each group is 1/2.

    Raises
    ------
    InputError : a score that is not a number, or arrays of different lengths.
    """
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise InputError(
            f"{int(np.isnan(scores).sum()):,} scores are not numbers: drop them or give them a value first"
        )
    names = np.zeros(len(scores), np.int64) if groups is None else np.asarray(groups)
    if names.shape != scores.shape:
        raise InputError(f"there are {scores.shape} scores and groups for {names.shape}")
    group = np.unique(names, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((scores, group))
    g, s = group[order], scores[order]
    place = np.arange(len(s))
    new_group = np.append(True, g[1:] != g[:-1])[: len(s)]
    new_value = new_group | np.append(True, s[1:] != s[:-1])[: len(s)]
    group_start = place[new_group]
    group_size = np.diff(np.append(group_start, len(s)))
    value_start = place[new_value]
    value_size = np.diff(np.append(value_start, len(s)))
    middle = np.repeat(value_start + value_size / 2, value_size) - np.repeat(group_start, group_size)
    quantiles = np.empty(len(s))
    quantiles[order] = middle / np.repeat(group_size, group_size)
    return quantiles


def best_of_n_transform(calibrated: np.ndarray, strength: float = 10.0) -> np.ndarray:
    """Scores whose tilt favours what wins as the best of n (strength above 0) or does not lose as the worst of n.

    exp(t c) for t above 0, -exp(-|t| c) for t below, c itself for 0, which is the win rate (InfAlign,
    arXiv:2412.19792; its exact transforms are solved for numerically).

    Parameters
    ----------
    calibrated : float64[n_docs], `mid_ranks`.
    """
    if not math.isfinite(strength):
        raise UsageError(f"the strength of a transform is a finite number, not {strength}")
    c = np.asarray(calibrated, np.float64)
    return math.copysign(1, strength) * np.exp(strength * c) if strength else c


# ---- tilting


@dataclass(frozen=True)
class Tilt:
    """Weights proportional to exp(strength * score). ``kl``: of the weights from uniform, nats; ``mean``: score."""

    weights: np.ndarray
    strength: float
    kl: float
    mean: float


def tilt(scores: np.ndarray, budget: float) -> Tilt:
    """The weights with the best mean score at `budget` nats from uniform: exponential in the score.

    Parameters
    ----------
    scores : float64[n_docs], finite.
    budget : nats from 0 up. From log(n_docs / number of best scores) on, all weight is on the best.

    Returns
    -------
    Tilt, its weights float64[n_docs] adding up to 1. ``strength`` is inf when all weight is on the best.

    Raises
    ------
    InputError : no scores, or one that is not finite.
    UsageError : a negative budget.
    """
    s = np.asarray(scores, np.float64)
    if s.ndim != 1 or not len(s) or not np.isfinite(s).all():
        raise InputError("tilting needs one finite score per document, and at least one document")
    if not budget >= 0:
        raise UsageError(f"a KL budget is 0 or more nats, not {budget}")
    best = s == s.max()
    if budget >= math.log(len(s) / best.sum()):
        weights = best / best.sum()
        return Tilt(weights, math.inf, kl_from_uniform(weights), float(s.max()))
    below = s - s.max()
    scale = -float(below.min())
    unit = below / scale  # in [-1, 0]: scores of any scale take as many steps

    def kl(strength: float) -> float:
        return kl_from_uniform(_softmax(strength * unit))

    strength = _increasing_root(kl, budget)
    weights = _softmax(strength * unit)
    return Tilt(weights, strength / scale, kl_from_uniform(weights), float(weights @ s))


def kl_from_uniform(weights: np.ndarray) -> float:
    """sum w log(n w), nats, of weights from 0 up, brought to a sum of 1; of k equal ones among n, log(n / k)."""
    w = np.asarray(weights, np.float64)
    total = w.sum()
    if not (w >= 0).all() or not 0 < total < math.inf:
        raise InputError("weights are finite, from 0 up, and not all zero")
    positive = w[w > 0] / total
    return max(0.0, float(positive @ np.log(positive)) + math.log(len(w)))


# ---- closed forms, for calibrated scores: uniform on (0, 1)


def best_of_n_kl(n: int) -> float:
    """Nats from the base distribution of the best of n draws: log n - (n - 1)/n; an upper bound if scores tie."""
    if n < 1:
        raise UsageError(f"the best of n needs n of 1 or more, not {n}")
    return math.log(n) - (n - 1) / n


def best_of_n_mean(n: int) -> float:
    """Mean calibrated score of the best of n draws, n / (n + 1)."""
    if n < 1:
        raise UsageError(f"the best of n needs n of 1 or more, not {n}")
    return n / (n + 1)


def uniform_tilt_mean(strength: float) -> float:
    """Mean of u with density proportional to exp(strength * u) on (0, 1): 1/(1 - exp(-t)) - 1/t."""
    t = strength
    if abs(t) < 1e-2:
        return 0.5 + t / 12 - t**3 / 720
    return -1 / math.expm1(-t) - 1 / t if t > 0 else 1 - uniform_tilt_mean(-t)


def uniform_tilt_kl(strength: float) -> float:
    """Nats of that density from uniform: t mean - log((exp(t) - 1)/t)."""
    t = abs(strength)
    if t < 1e-2:
        return t * t / 24 - t**4 / 960
    return t * math.exp(-t) / -math.expm1(-t) - 1 - math.log(-math.expm1(-t) / t)  # t (mean - 1) without cancellation


def uniform_tilt(budget: float) -> float:
    """The strength t from 0 up whose density has `budget` nats.

    Raises
    ------
    UsageError : a budget that is negative or above 600 nats.
    """
    if not 0 <= budget <= 600:
        raise UsageError(f"a KL budget is 0 to 600 nats, not {budget}")
    return _increasing_root(uniform_tilt_kl, budget)


def selection_bound(n_raw: float, n_selected: float) -> float:
    """log(raw / selected), nats: KL(selected || raw) of any features counted n_raw and n_selected times is at most it.

    No share can grow by more than raw / selected. Sizes are of what is counted, such as n-grams, not tokens.

    Raises
    ------
    InputError : more selected than there is, or none.
    """
    if not 0 < n_selected <= n_raw:
        raise InputError(f"a selection of {n_selected:,} out of {n_raw:,} is none")
    return math.log(n_raw / n_selected)


def _softmax(x: np.ndarray) -> np.ndarray:
    w = np.exp(x - x.max())
    return w / w.sum()


def _increasing_root(function: Callable[[float], float], level: float) -> float:
    """Least x >= 0 with function(x) = level, of a function that increases from 0: doubling, then halving."""
    if level == 0:
        return 0.0
    high = 1.0
    while function(high) < level and high < 1e300:
        high *= 2
    low = 0.0 if high == 1.0 else high / 2
    while high - low > _TOLERANCE * high and low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) < level else (low, middle)
    return high
