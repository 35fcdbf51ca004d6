"""How much of a corpus is open at each stage of training, and what each bin of it weighs then."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curate.errors import InputError, UsageError, unknown

# The share that is open at t of the way, from `start` at 0 to 1 at 1. Root, which adds ever less that is new and so
# leaves the same time for each, and linear: Platanios et al. 2019, arXiv:1903.09848; geometric: a factor a stage;
# step: all at once at the end.
PACINGS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "root": lambda t, start: np.sqrt(start**2 + t * (1 - start**2)),
    "linear": lambda t, start: start + t * (1 - start),
    "geometric": lambda t, start: start ** (1 - t),
    "step": lambda t, start: np.where(t < 1, start, 1.0),
}


def competence(n_stages: int, pacing: str = "root", start: float = 0.1) -> np.ndarray:
    """float64[n_stages]: the share of the corpus that is open at each stage, rising from `start` to 1.

    Parameters
    ----------
    n_stages : 1 or more; of one, everything is open. pacing : of PACINGS. start : above 0, at most 1.
    """
    if pacing not in PACINGS:
        raise unknown("pacing", pacing, PACINGS)
    if n_stages < 1:
        raise UsageError(f"{n_stages} stages: there must be 1 or more")
    if not 0 < start <= 1:
        raise UsageError(f"start {start}: the share that is open at first is above 0 and at most 1")
    if n_stages == 1:
        return np.ones(1)
    found = PACINGS[pacing](np.arange(n_stages) / (n_stages - 1), start)
    found[-1] = 1.0
    return np.minimum(found, 1.0)


def stage_weights(sizes: np.ndarray, open_share: np.ndarray, *, reverse: bool = False) -> np.ndarray:
    """Weights of bins when a share of all documents is open, from the first bin on.

    The bin at the border is open in part, so that as long as a bin stands for its documents, what is open is drawn
    from uniformly. With everything open the weights are the bins' shares of the documents.

    Parameters
    ----------
    sizes : [n_bins], documents of each. open_share : float64[n_stages], above 0, at most 1. reverse : from the last on.

    Returns
    -------
    weights : float64[n_stages, n_bins], rows add up to 1.

    Raises
    ------
    InputError : no documents.
    """
    sizes = np.asarray(sizes, np.float64)
    if sizes.sum() <= 0:
        raise InputError("no documents are in any bin; there is nothing to train on")
    shares = (sizes / sizes.sum())[::-1] if reverse else sizes / sizes.sum()
    before = np.cumsum(shares) - shares
    opened = np.asarray(open_share, np.float64)[:, None]
    weights = np.clip(opened - before, 0, shares)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return weights[:, ::-1] if reverse else weights
