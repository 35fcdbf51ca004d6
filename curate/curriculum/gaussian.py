"""Weights that prefer what is learnt about half the time: a Gaussian over pass rates, and how to follow these."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from curate.errors import InputError, UsageError

CENTRE, SIGMA, ALPHA = 0.5, 0.35, 0.9  # FG-ExPO, arXiv:2605.11403 section 3
START = 0.5  # pass rate of what was never tried: it gets the largest weight
_NEGLIGIBLE = 1e-15
_SHARPEST = 1e-6


def gaussian_weights(
    pass_rates: np.ndarray, *, centre: float = CENTRE, sigma: float = SIGMA, names: Any = None
) -> np.ndarray:
    """``exp(-(p - centre)**2 / (2 sigma**2))``, the weights of FG-ExPO (arXiv:2605.11403).

    Parameters
    ----------
    pass_rates : float64[n], clamped to 0..1.
    sigma : how sharp; at 0.35 a pass rate of 0 or 1 still has 0.36 of the largest weight.
    names : what the pass rates are of, for the message of an error.

    Raises
    ------
    UsageError : sigma is not above 0. InputError : a pass rate is nan.
    """
    return np.exp(_exponents(pass_rates, centre, sigma, names))


def gaussian_shares(
    pass_rates: np.ndarray, *, centre: float = CENTRE, sigma: float = SIGMA, names: Any = None
) -> np.ndarray:
    """`gaussian_weights`, to add up to 1; also where all of these are too small for a float."""
    exponents = _exponents(pass_rates, centre, sigma, names)
    weights = np.exp(exponents - exponents.max())
    return weights / weights.sum()


def _exponents(pass_rates: np.ndarray, centre: float, sigma: float, names: Any) -> np.ndarray:
    require_shape(centre, sigma)
    p = np.asarray(pass_rates, np.float64)
    wrong = np.flatnonzero(np.isnan(p))
    if len(wrong):
        name = f"row {wrong[0]}" if names is None else repr(str(names[int(wrong[0])]))
        raise InputError(f"{name}: pass rate nan; must be a number from 0 to 1")
    return -0.5 * ((np.clip(p, 0.0, 1.0) - centre) / sigma) ** 2


def require_shape(centre: float, sigma: float) -> None:
    """Refuse a Gaussian that is none."""
    if not (math.isfinite(sigma) and sigma >= _SHARPEST):
        raise UsageError(f"sigma {sigma}: must be above 0, at least {_SHARPEST} (0.35 is the paper's)")
    if not 0 <= centre <= 1:
        raise UsageError(f"centre {centre}: must be from 0 to 1")


def memory(alpha: float) -> int:
    """How many of the latest pass rates a moving average depends on, to a part in 1e15: 328 at 0.9."""
    if not 0 <= alpha < 1:
        raise UsageError(f"alpha {alpha}: must be from 0 to below 1")
    return math.ceil(math.log(_NEGLIGIBLE) / math.log(alpha)) if alpha else 1


def moving_average(
    start: np.ndarray, owners: np.ndarray, pass_rates: np.ndarray, *, alpha: float = ALPHA
) -> np.ndarray:
    """``p <- alpha p + (1 - alpha) r`` over the pass rates of each name in their order, from ``start``.

    Parameters
    ----------
    start : float64[n_names]
    owners : int64[n_pass_rates], ascending: whose each pass rate is.
    pass_rates : float64[n_pass_rates]
    """
    n_names = len(start)
    counts = np.bincount(owners, minlength=n_names)
    ends = np.cumsum(counts)
    later = ends[owners] - 1 - np.arange(len(owners))  # pass rates of the same name that come after
    recent = np.bincount(owners, (1 - alpha) * alpha**later * pass_rates, n_names)
    return np.asarray(start, np.float64) * alpha**counts + recent


def posterior_mean(successes: np.ndarray, n: np.ndarray) -> np.ndarray:
    """``(s + 1) / (n + 2)``: the pass rate to expect after s successes of n, all rates being as likely before.

    With few tries it keeps 0 of 4 apart from 0 of 400.
    """
    return (np.asarray(successes, np.float64) + 1) / (np.asarray(n, np.float64) + 2)


def kl_scale(accuracy: Any) -> Any:
    """``(tanh x + 1) / 2``, from 0.5 to 0.88: what FG-ExPO multiplies the KL coefficient by at a mean accuracy x."""
    return (np.tanh(accuracy) + 1) / 2


def k3(log_ratio: Any) -> Any:
    """``r - log r - 1`` of r = pi_ref / pi_theta, from log r: an estimate of the KL divergence, never below 0."""
    return np.expm1(log_ratio) - log_ratio
