"""Chances of being kept in proportion to weights, of which none is above 1: how often each document is in a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from curate.errors import InputError
from curate.sampling.solving import roots


def inclusion(log_weights: np.ndarray, budget: float, sizes: np.ndarray | None = None) -> np.ndarray:
    """Chances min(1, c exp(log_weights)) with which a sample holds `budget` on average.

    Cap and rescale: what is above 1 is set to 1 and the rest scaled up, until nothing is above 1.

    Parameters
    ----------
    log_weights : float64[n_docs], nats, up to a common constant; ``-inf`` is never kept.
    budget : what the sample holds: documents, or the sum of ``sizes``; from 0 up.
    sizes : float64[n_docs], from 0 up, of what the budget counts; None: each document counts 1.

    Returns
    -------
    chances : float64[n_docs] in [0, 1], their sum (of chance times size) being `budget`.

    Raises
    ------
    InputError : all documents with a weight are less than the budget.
    """
    log_w = np.asarray(log_weights, np.float64)
    size = np.ones(len(log_w)) if sizes is None else np.asarray(sizes, np.float64)
    order = np.argsort(-log_w, kind="stable")
    order = order[log_w[order] > -np.inf]
    w, s = log_w[order], size[order]
    total = float(s.sum())
    if not 0 <= budget <= total:
        raise InputError(f"a sample of {budget:,.15g} out of {total:,.15g} (of documents with a weight) is none")
    chances = np.zeros(len(log_w))
    if budget == total:
        chances[order] = 1
    elif budget > 0:
        # If the m heaviest are kept for certain, log c is log(what is left of the budget / sum of what is lighter).
        with np.errstate(divide="ignore"):
            lighter = np.logaddexp.accumulate((w + np.log(s))[::-1])[::-1]
            left = budget - np.append(0.0, np.cumsum(s)[:-1])
            log_c = np.log(np.maximum(left, 0)) - lighter
        m = int(np.argmax((log_c + w <= 0) | (left <= 0)))  # the first that need not be capped
        chances[order] = np.exp(np.minimum(0, log_c[m] + w))
        chances[order[:m]] = 1
    return chances


# For each array that a function makes of (log weights, sizes, groups): its sum over all documents, float64[n_groups].
GroupSums = Callable[[Callable[[np.ndarray, np.ndarray, np.ndarray], Sequence[np.ndarray]]], list[np.ndarray]]


def thresholds(
    sums: GroupSums, budgets: np.ndarray, totals: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Log weights from which on documents of each group are kept for certain, by passes over all documents.

    A document's chance is `chances`; times sizes these add up to the group's budget, as those of `inclusion` do.

    Parameters
    ----------
    sums : over documents with a weight.
    budgets : float64[n_groups]. totals : float64[n_groups], sizes of the documents with a weight.
    low, high : float64[n_groups], their lowest and highest log weight.

    Returns
    -------
    float64[n_groups], nats; -inf where all are kept, inf where none is.
    """
    open_ = (budgets > 0) & (budgets < totals)
    known = np.where(budgets >= totals, -np.inf, np.inf)
    if not open_.any():
        return known
    budget = np.where(open_, budgets, 1.0)

    def excess(at: np.ndarray) -> np.ndarray:
        (kept,) = sums(lambda w, size, group: [size * np.exp(np.minimum(0.0, w - at[group]))])
        return np.where(open_, np.log(np.maximum(kept, 1e-300) / budget), 0.0)

    highest = np.where(open_, high + np.log(np.where(open_, totals, 1.0) / budget), 0.0)
    at = roots(excess, np.where(open_, low, 0.0), highest)
    certain, rest = sums(
        lambda w, size, group: [
            size * (w >= at[group]),
            np.where(w < at[group], size * np.exp(np.minimum(0.0, w - at[group])), 0.0),
        ]
    )
    exact = open_ & (rest > 0) & (certain < budget)  # who is certain is known now, and with that the rest
    shift = np.log(np.where(exact, rest, 1.0) / np.where(exact, budget - certain, 1.0))
    return np.where(open_, at + shift, known)


def chances(log_weights: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """float64[n_docs] in [0, 1] from log weights and each one's threshold; 0 where there is no weight."""
    with np.errstate(invalid="ignore"):
        found = np.exp(np.minimum(0.0, log_weights - threshold))
    return np.where(log_weights == -np.inf, 0.0, np.where(threshold == -np.inf, 1.0, found))
