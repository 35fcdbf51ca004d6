"""The long tail: what a model finds unlikely although it is good."""

from __future__ import annotations

import numpy as np

from curate.errors import InputError, UsageError
from curate.metrics.calibration import mid_ranks


def long_tail(
    likelihood: np.ndarray,
    passes: np.ndarray,
    group: np.ndarray | None = None,
    *,
    share: float = 0.1,
    floor: float = -np.inf,
) -> np.ndarray:
    """Which documents are among the least likely of their group, pass a gate, and are not below a floor.

    The least likely text is mostly noise, so likelihood alone finds no long tail: LINK has a critic (arXiv:2311.07237).
    Quantiles are among all documents of the group, before the gate and the floor. There may be none, which is then
    the answer.

    Parameters
    ----------
    likelihood : float64[n_docs], such as minus the bits per byte; higher is likelier.
    passes : bool[n_docs], the gate. group : [n_docs], such as the source or a bin of length; None for one group.
    share : of a group, by mid-rank quantile (`curate.metrics.mid_ranks`). floor : lowest likelihood that may be taken.

    Returns
    -------
    bool[n_docs]

    Raises
    ------
    InputError : a likelihood that is not a number, arrays of different lengths.
    """
    if not 0 < share <= 1:
        raise UsageError(f"a tail of {share}: must be above 0 and at most 1")
    u, passes = np.asarray(likelihood, np.float64), np.asarray(passes, bool)
    if passes.shape != u.shape:
        raise InputError(f"there are {u.shape} likelihoods and gates for {passes.shape}")
    selected: np.ndarray = (mid_ranks(u, group) <= share) & passes & (u >= floor)
    return selected
