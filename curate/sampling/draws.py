"""From one key per document to the documents to keep: draws, and exact cuts on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from curate.errors import InputError
from curate.sampling.noise import gumbel, uniform


def gumbel_top_k(log_weights: np.ndarray, k: int, *, noise: np.ndarray) -> np.ndarray:
    """Sample `k` documents without replacement, with odds ``exp(log_weights)``.

    Adding Gumbel noise to log weights and keeping the k largest is exactly sequential sampling without
    replacement (Kool et al., 2019, arXiv:1903.06059); DSIR does this (arXiv:2302.03169).

    Parameters
    ----------
    log_weights : float64[n_docs], nats, up to a common constant; ``-inf`` and nan never win.
    k : int, at most the number of documents that can win.
    noise : float64[n_docs], standard Gumbel, keyed by (seed, doc_id); zeros for plain top-k.

    Returns
    -------
    rows : int64[k], ascending, so that shards are read once, in order. Ties: the earlier row wins.

    Raises
    ------
    InputError : fewer than `k` documents can win.
    """
    eligible = int(np.isfinite(log_weights).sum())
    if k > eligible:
        raise InputError(f"cannot keep {k:,} documents: only {eligible:,} of {len(log_weights):,} have a finite weight")
    keys = np.where(np.isfinite(log_weights), log_weights + noise, -np.inf)
    best = np.argsort(-keys, kind="stable")[:k]
    return np.sort(best)


def top_k_keys(scores: np.ndarray, doc_ids: Any, seed: int) -> np.ndarray:
    """The best scores win; the seed does not matter."""
    return scores


def gumbel_keys(scores: np.ndarray, doc_ids: Any, seed: int) -> np.ndarray:
    """Score plus Gumbel noise keyed by (seed, doc_id): see `gumbel_top_k`."""
    return scores + gumbel(doc_ids, seed)


def uniform_keys(scores: np.ndarray, doc_ids: Any, seed: int) -> np.ndarray:
    """Every document with a score is as likely as any other: the random arm."""
    return np.where(np.isnan(scores), np.nan, uniform(doc_ids, seed))


Keys = Callable[[np.ndarray, Any, int], np.ndarray]

# The order in which documents win: float64[n_docs] from scores, doc_ids and a seed; nan is out.
DRAWS: dict[str, Keys] = {
    "gumbel": gumbel_keys,
    "topk": top_k_keys,
    "threshold": top_k_keys,
    "uniform": uniform_keys,
}

BY_CHANCE = ("pivotal", "systematic", "poisson")  # see `curate.sampling.pivotal`
WEIGHTED = ("gumbel", *BY_CHANCE)  # draws that sample by weight
LISTED: tuple[str, ...] = (*BY_CHANCE, "cover")  # draws that no order decides: they list the documents that they keep
