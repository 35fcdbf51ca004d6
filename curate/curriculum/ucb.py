"""Weights of groups by an upper confidence bound on how much there is to learn in each (DUMP)."""

from __future__ import annotations

import math

import numpy as np

from curate.errors import UsageError

WINDOW, TEMPERATURE = 300, 0.1  # of the code of DUMP


def advantage_of_pass_rate(pass_rates: np.ndarray) -> np.ndarray:
    """``2 sqrt(p (1 - p))``: mean \\|advantage\\| of rollouts with rewards 0 and 1 of which a share p is 1.

    Advantages are rewards less their mean, over their population standard deviation, as in GRPO.
    """
    p = np.asarray(pass_rates, np.float64)
    return 2 * np.sqrt(p * (1 - p))


def upper_bounds(mean_advantages: np.ndarray, n: np.ndarray) -> np.ndarray:
    """``L + sqrt(2 log(N + 1) / (n + 1))``: what a group may be worth, more where little was seen of it.

    Parameters
    ----------
    mean_advantages : float64[n_groups], L: mean \\|advantage\\| of its latest sequences, 0 if there are none.
    n : int64[n_groups], all sequences that were seen of it; N is their sum, at least 1.
    """
    total = max(1, int(np.sum(n)))
    return np.asarray(mean_advantages, np.float64) + np.sqrt(2 * math.log(total + 1) / (np.asarray(n) + 1))


def ucb_weights(
    mean_advantages: np.ndarray, n: np.ndarray, *, temperature: float = TEMPERATURE, min_prob: float = 0.0
) -> np.ndarray:
    """Softmax of the upper bounds over the temperature; uniform until something was seen.

    At 0.1 a bound that is higher by 0.5 makes a group 150 times as likely. ``n`` counts all that was ever seen while
    ``mean_advantages`` are of a window, so exploration dies away: ``min_prob`` keeps some for every group.

    Returns
    -------
    float64[n_groups], adding up to 1, none below ``min_prob``.

    Raises
    ------
    UsageError : the temperature is not above 0, or so many groups cannot all have ``min_prob``.
    """
    require_sampling(len(n), temperature, min_prob)
    if not np.sum(n):
        return np.full(len(n), 1 / len(n))
    bounds = upper_bounds(mean_advantages, n) / temperature
    odds = np.exp(bounds - bounds.max())
    return with_floor(odds / odds.sum(), min_prob)


def with_floor(probabilities: np.ndarray, min_prob: float) -> np.ndarray:
    """Raise what is below ``min_prob`` to it, and take that from the rest in proportion: the sum stays 1.

    What is left of the rest may fall below in turn, hence the loop; it ends after as many rounds as there are
    probabilities at most.
    """
    raised = np.zeros(len(probabilities), bool)
    scaled = probabilities
    while (low := (scaled < min_prob) & ~raised).any():
        raised |= low
        rest = np.where(raised, 0.0, probabilities)
        share = max(0.0, 1 - min_prob * int(raised.sum())) / (rest.sum() or 1.0)
        scaled = np.where(raised, min_prob, rest * share)
    return scaled


def require_sampling(n_groups: int, temperature: float, min_prob: float) -> None:
    """Refuse settings that no probabilities can have."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"temperature {temperature}: must be above 0 (0.1 is the paper's)")
    if not 0 <= min_prob <= 1:
        raise UsageError(f"min_prob {min_prob}: must be from 0 to 1")
    if min_prob * n_groups > 1 + 1e-12:
        raise UsageError(
            f"min_prob {min_prob:g} for each of {n_groups:,} groups is more than 1; at most {1 / n_groups:.4g} will do"
        )
