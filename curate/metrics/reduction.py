"""KL reduction: how many nats nearer to the target a selection is than the raw data (DSIR, arXiv:2302.03169)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.errors import InputError, UsageError
from curate.metrics.adequacy import kl_divergence
from curate.metrics.divergences import PSEUDO_COUNT, probabilities

EPSILON = 1e-10  # of the paper's authors
_EXACT_DRAWS = 10**9  # NumPy draws without replacement from fewer than so many


def parity_kl(p: np.ndarray, q: np.ndarray, epsilon: float = EPSILON) -> float:
    """sum_b p_b (log(p_b + epsilon) - log(q_b + epsilon)), nats: the authors' KL (dsir issues #9 and #11)."""
    return float(np.sum(p * (np.log(p + epsilon) - np.log(q + epsilon))))


def parity_kl_reduction(
    targets: Sequence[np.ndarray], raw: np.ndarray, selected: np.ndarray, *, epsilon: float = EPSILON
) -> float:
    """The paper's KL reduction, mean over targets of KL(target || raw) - KL(target || selected), nats.

    For comparison with published numbers only: each bucket that the selection lacks costs about -log(epsilon) times
    the target's share of it, so that the value says more about the size of a selection than about its aim.

    Parameters
    ----------
    targets : int64[n_buckets] each; the paper counts samples of 100,000 documents.
    raw, selected : int64[n_buckets], n-grams.

    Raises
    ------
    InputError : no target, or nothing counted in one of the corpora.
    """
    _check(targets)
    p_raw, p_selected = probabilities(raw, 0), probabilities(selected, 0)
    p_targets = [probabilities(target, 0) for target in targets]
    return float(np.mean([parity_kl(p, p_raw, epsilon) - parity_kl(p, p_selected, epsilon) for p in p_targets]))


@dataclass(frozen=True)
class KLReduction:
    """Nats by which a selection is nearer to the targets than raw is; larger is better, below 0 is harm.

    ``value``: mean over targets of ``per_target``; ``low``, ``high``: interval at ``level`` for it, from resampled
    documents; ``n_ngrams``: of raw and of the selection, each thinned to so many; ``bound``: no selection of so
    many n-grams can gain more, log(raw / selected); ``n_targets``: n-grams of each target.
    """

    value: float
    low: float
    high: float
    level: float
    per_target: tuple[float, ...]
    n_ngrams: int
    n_targets: tuple[int, ...]
    bound: float
    pseudo_count: float
    n_resamples: int

    @property
    def per_nat(self) -> float:
        """The share of ``bound`` that was gained; nan for a selection of everything."""
        return self.value / self.bound if self.bound > 0 else math.nan


def kl_reduction(
    targets: Sequence[np.ndarray],
    raw: np.ndarray,
    selected: np.ndarray,
    *,
    rng: np.random.Generator,
    n_ngrams: int | None = None,
    pseudo_count: float = PSEUDO_COUNT,
    n_resamples: int = 200,
    level: float = 0.95,
) -> KLReduction:
    """Mean over targets of KL(target || raw) - KL(target || selected), of smoothed and equally large samples.

    A small sample looks far from everything, so raw and the selection are thinned to the same number of n-grams; to
    compare selections of different sizes, give the least of them for all.

    Parameters
    ----------
    targets, raw, selected : int64[n_parts, n_buckets] (targets: of each), n-grams of the parts of a corpus. A part is
        a document, or one of some hundred groups into which documents were dealt at random: sums of groups can be
        counted in any partition of the corpus, and resampling groups spreads as resampling documents does.
    n_ngrams : to thin raw and the selection to, at most what either has (default: as many as the smaller has).
    pseudo_count : added to each bucket of all corpora.
    n_resamples : of the parts of all corpora, for the interval; 0 for none (nan).
    level : of the interval, between 0 and 1.

    Raises
    ------
    InputError : no target, an empty corpus, different numbers of buckets, or fewer n-grams than asked for.
    UsageError : a level that is not between 0 and 1.

    Notes
    -----
    The interval is the value and the spread of resampled values around *their* mean: a resample repeats parts and
    is farther from everything, and that shift is no news about the value. Thinning draws n-grams, not documents, so
    clustered n-grams leave the selection a little noisier than raw, which counts against it.
    ``bound`` holds for the full histograms, where each share of a bucket grows at most by raw / selected; thinning
    can exceed it by its noise.
    """
    _check(targets)
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval is between 0 and 1, not {level}")
    corpora = [_parts(raw, "raw"), _parts(selected, "selected"), *(_parts(t, "target") for t in targets)]
    if len({c.shape[1] for c in corpora}) > 1:
        raise InputError(f"the corpora have {[c.shape[1] for c in corpora]} buckets: count all with the same n_buckets")
    wholes = [c.sum(axis=0) for c in corpora]
    sizes = [int(w.sum()) for w in wholes]
    n = min(sizes[:2]) if n_ngrams is None else n_ngrams
    if not 0 < n <= min(sizes[:2]):
        raise InputError(f"cannot thin to {n:,} n-grams: raw has {sizes[0]:,} and the selection {sizes[1]:,}")

    per_target = _reductions(wholes, n, pseudo_count, rng)
    value = float(np.mean(per_target))
    low = high = math.nan
    if n_resamples:
        resampled = [
            float(np.mean(_reductions([_resample(c, rng) for c in corpora], n, pseudo_count, rng)))
            for _ in range(n_resamples)
        ]
        spread = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]) - np.mean(resampled)
        low, high = value + float(spread[0]), value + float(spread[1])
    bound = math.log(sizes[0] / sizes[1])
    return KLReduction(
        value, low, high, level, tuple(per_target), n, tuple(sizes[2:]), bound, pseudo_count, n_resamples
    )


def thin(counts: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """int64[n_buckets]: `n` of the counted n-grams, drawn without replacement; all when there are not so many.

    From 10**9 n-grams up with replacement, which then adds noise of less than a part in a billion per bucket.
    """
    total = int(counts.sum())
    if n >= total:
        return counts
    if total < _EXACT_DRAWS:
        return rng.multivariate_hypergeometric(counts, n, method="marginals")
    return rng.multinomial(n, counts / total)


def _reductions(wholes: list[np.ndarray], n: int, pseudo_count: float, rng: np.random.Generator) -> list[float]:
    raw, selected = (probabilities(thin(whole, n, rng), pseudo_count) for whole in wholes[:2])
    found = []
    for target in wholes[2:]:
        p = probabilities(target, pseudo_count)
        found.append(_kl(p, raw) - _kl(p, selected))
    return found


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    return math.inf if (p[q == 0] > 0).any() else kl_divergence(p, q)


def _resample(parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts of as many parts as there are, drawn with replacement, until anything was counted."""
    while True:
        times = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)))
        whole = times @ parts
        if whole.sum():
            return whole


def _parts(counts: np.ndarray, name: str) -> np.ndarray:
    parts = np.asarray(counts)
    if parts.ndim != 2 or not np.issubdtype(parts.dtype, np.integer) or (parts < 0).any():
        raise InputError(f"{name}: want whole numbers from 0 up, one row per document or group and a column per bucket")
    if not parts.sum():
        raise InputError(f"{name}: no n-grams were counted")
    return parts.astype(np.int64, copy=False)


def _check(targets: Sequence[np.ndarray]) -> None:
    if not len(targets):
        raise InputError("KL reduction needs a target: give at least one")
