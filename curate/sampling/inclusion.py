"""Chances of being kept in proportion to weights, of which none is above 1: how often each document is in a sample."""

from __future__ import annotations

import numpy as np

from curate.errors import InputError


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
