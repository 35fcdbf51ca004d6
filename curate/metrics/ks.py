"""Whether an attribute of documents, such as length, is distributed alike in two corpora: Kolmogorov-Smirnov."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from curate.errors import InputError, UsageError

EXACT_CELLS = 10**8  # n_a * n_b; 10,000 by 10,000 takes about 1 s
PASS_ALPHA = 1e-4  # of KS@N, as UnpredictaBench has it
STANDARD_N = 100


@dataclass(frozen=True)
class KS:
    """Two samples compared. With corpora every difference is significant: read ``distance`` and its interval first.

    ``distance``: the largest difference of the two ECDFs, 0 to 1, an effect size; ``low``, ``high``: interval at
    ``level``, at least, from resampled documents; ``location``: the value up to which it is counted;
    ``a_is_smaller``: more of a than of b lies up to there; ``superiority``: chance that a value of a exceeds one of
    b, half for equal ones (1/2: neither is larger); ``method`` of ``p_value``: "exact" or "asymptotic".
    """

    distance: float
    low: float
    high: float
    level: float
    location: float
    a_is_smaller: bool
    superiority: float
    p_value: float
    method: str
    n_a: int
    n_b: int


def ks(
    a: np.ndarray,
    b: np.ndarray,
    *,
    rng: np.random.Generator,
    clusters_a: np.ndarray | None = None,
    clusters_b: np.ndarray | None = None,
    n_resamples: int = 200,
    level: float = 0.95,
) -> KS:
    """The two-sample Kolmogorov-Smirnov comparison with its effect sizes.

    Parameters
    ----------
    a, b : float64[n_a], float64[n_b]; one value per document.
    clusters_a, clusters_b : [n_a], [n_b]; documents that depend on each other, such as those of one source, are
        resampled together. None: each document by itself.
    n_resamples : for the interval of the distance; 0 for none (nan).

    Raises
    ------
    InputError : an empty sample, a value that is not a number, or clusters of another length.
    UsageError : a level that is not between 0 and 1.

    Notes
    -----
    The p-value is that of exchanging documents between a and b. Up to `EXACT_CELLS` it is exact, with equal values
    too (`exact_p_value`); beyond it is Kolmogorov's limit, which is too large where values are equal. It takes
    documents as independent, whatever the clusters.

    The interval is from a band around the whole difference of the ECDFs, so that it holds the true distance in at
    least the stated share of cases. Quantiles of resampled distances do not: noise adds to a maximum, and of two
    equal distributions they never hold 0 (of 150 tries at n = 1,000, none).
    """
    a, b = _sample(a, "a"), _sample(b, "b")
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval is between 0 and 1, not {level}")
    groups = [_clusters(clusters_a, a, "a"), _clusters(clusters_b, b, "b")]
    values, counts_a, counts_b = _pooled(a, b)
    signed = np.cumsum(counts_a) * len(b) - np.cumsum(counts_b) * len(a)  # n_a n_b (F_a - F_b), whole numbers
    at = int(np.argmax(np.abs(signed)))
    exact = len(a) * len(b) <= EXACT_CELLS
    p_value = exact_p_value(a, b) if exact else asymptotic_p_value(abs(int(signed[at])), len(a), len(b))
    below = np.cumsum(counts_b) - counts_b
    superiority = float(counts_a @ (below + counts_b / 2)) / (len(a) * len(b))
    distance = abs(int(signed[at])) / (len(a) * len(b))
    low = high = math.nan
    if n_resamples:
        places = [np.searchsorted(values, x) for x in (a, b)]
        difference = signed / (len(a) * len(b))
        errors = [_resampled_error(places, groups, difference, rng) for _ in range(n_resamples)]
        margin = float(np.quantile(errors, level))
        low, high = max(0.0, distance - margin), min(1.0, distance + margin)
    return KS(
        distance,
        low,
        high,
        level,
        float(values[at]),
        bool(signed[at] > 0),
        superiority,
        p_value,
        "exact" if exact else "asymptotic",
        len(a),
        len(b),
    )


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of the ECDFs of two samples, 0 to 1."""
    a, b = _sample(a, "a"), _sample(b, "b")
    return _whole_distance(*_pooled(a, b)[1:]) / (len(a) * len(b))


def ks_on_grid(cdf_a: np.ndarray, cdf_b: np.ndarray) -> float:
    """The largest difference of two CDFs on the same grid, of any number of attributes."""
    return float(np.abs(cdf_a - cdf_b).max())


def exact_p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Chance that a random exchange of documents gives ECDFs as far apart as these, in O(n_a n_b), equal values too.

    Notes
    -----
    In the pooled order, let u_k(i) be the chance that the two ECDFs were as far apart at some value already, given
    that i of the first k documents are of a. The k-th one is of a with chance i/k, so
    u_k(i) = i/k u_{k-1}(i - 1) + (1 - i/k) u_{k-1}(i), and u_k(i) = 1 where they are as far apart at k, which counts
    only if the next value is another one. All terms are positive: small p-values are exact too.
    """
    a, b = _sample(a, "a"), _sample(b, "b")
    if len(a) > len(b):
        a, b = b, a
    _, counts_a, counts_b = _pooled(a, b)
    return _exact(_whole_distance(counts_a, counts_b), len(a), len(b), np.cumsum(counts_a + counts_b))


def asymptotic_p_value(whole_distance: int, n_a: int, n_b: int) -> float:
    """Kolmogorov's limit 2 sum (-1)**(k - 1) exp(-2 k**2 z**2), z = D sqrt(n m / (n + m)); D is given times n m."""
    z = whole_distance / math.sqrt(n_a * n_b) / math.sqrt(n_a + n_b)
    if z < 0.3:  # 1 - 2e-5 and more, where the sum converges slowly
        return 1.0
    k = np.arange(1, 101)
    return float(min(1.0, 2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * k**2 * z**2))))


def holm(p_values: np.ndarray) -> np.ndarray:
    """float64[n]: p-values adjusted so that calling those under alpha different is wrong with chance alpha at most.

    Holm's step-down: the i-th smallest of n, times n - i + 1, and never under the one before it.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError("p-values are one row of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def ks_at_n(
    truth: np.ndarray,
    sample: np.ndarray,
    *,
    rng: np.random.Generator,
    n: int = STANDARD_N,
    alpha: float = PASS_ALPHA,
    n_repeats: int = 200,
) -> float:
    """KS@N: share of random subsamples of size `n` that a test at `alpha` does not tell from the truth.

    Comparable across corpora of any size, as their distance itself is, and lenient: at the standard n = 100 against
    10,000 values only distances of 0.22 and more fail, and n = 1 always passes. State `n` beside it.

    Parameters
    ----------
    truth : float64[n_truth]; taken whole (UnpredictaBench takes the first 10,000).
    sample : float64[n_sample], at least `n`; subsamples are without replacement.

    Raises
    ------
    InputError : fewer than `n` values, none of the truth, or values that are not numbers.
    UsageError : an alpha that is not between 0 and 1.
    """
    truth, sample = _sample(truth, "truth"), _sample(sample, "sample")
    if not 0 < n <= len(sample):
        raise InputError(f"KS@{n:,} needs {n:,} values, and the sample has {len(sample):,}")
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is between 0 and 1, not {alpha}")
    known: dict[tuple[int, bytes], bool] = {}
    passes = [_passes(truth, rng.choice(sample, n, replace=False), alpha, known) for _ in range(n_repeats)]
    return float(np.mean(passes))


def _passes(a: np.ndarray, b: np.ndarray, alpha: float, known: dict[tuple[int, bytes], bool]) -> bool:
    """Whether p > alpha. The chance to be as far apart at one value alone, a bound from below, mostly decides."""
    if len(a) > len(b):
        a, b = b, a
    _, counts_a, counts_b = _pooled(a, b)
    whole, ends = _whole_distance(counts_a, counts_b), np.cumsum(counts_a + counts_b)
    middle = int(ends[np.argmin(np.abs(ends - (len(a) + len(b)) / 2))])
    i = np.arange(len(a) + 1)
    apart = np.abs(i * (len(a) + len(b)) - middle * len(a)) >= whole
    if np.exp(_log_hypergeometric(i, middle, len(a), len(b)))[apart].sum() > alpha * (1 + 1e-6):
        return True
    ties = b"" if len(ends) == len(a) + len(b) else ends.tobytes()
    if (whole, ties) not in known:
        known[whole, ties] = _exact(whole, len(a), len(b), ends) > alpha
    return known[whole, ties]


def _exact(whole: int, n: int, m: int, ends: np.ndarray) -> float:
    """P(n m D >= whole) for ECDFs compared after `ends` documents of the pooled order; n is the smaller sample."""
    if whole == 0:
        return 1.0
    compared = np.zeros(n + m + 1, bool)
    compared[ends] = True
    i = np.arange(n + 1)
    hit = np.zeros(n + 1)
    for k in range(1, n + m + 1):
        drawn = i / k
        moved = hit * (1 - drawn)
        moved[1:] += hit[:-1] * drawn[1:]
        hit = moved
        if compared[k]:
            # n m (F_a - F_b) = i (n + m) - k n: those nearer than `whole` are not apart
            first = max(0, -((whole - 1 - k * n) // (n + m)))
            last = (k * n + whole - 1) // (n + m)
            hit[:first] = 1
            hit[last + 1 :] = 1
        hit[k + 1 :] = 0
    return float(hit[n])


def _log_hypergeometric(i: np.ndarray, k: int, n: int, m: int) -> np.ndarray:
    """log P(i of the first k documents are of a), -inf where that cannot be."""
    factorial = np.append(0.0, np.cumsum(np.log(np.arange(1, n + m + 1))))
    possible = (i <= k) & (k - i <= m)
    j = np.where(possible, k - i, 0)
    x = np.where(possible, i, 0)
    log_p = (
        factorial[n] - factorial[x] - factorial[n - x] + factorial[m] - factorial[j] - factorial[m - j]
        - (factorial[n + m] - factorial[k] - factorial[n + m - k])
    )  # fmt: skip
    return np.where(possible, log_p, -np.inf)


def _pooled(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distinct values, ascending; how many of a; how many of b)."""
    values, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    place = place.reshape(-1)
    count_a, count_b = (np.bincount(part, minlength=len(values)) for part in (place[: len(a)], place[len(a) :]))
    return values, count_a, count_b


def _whole_distance(counts_a: np.ndarray, counts_b: np.ndarray) -> int:
    return int(np.abs(np.cumsum(counts_a) * counts_b.sum() - np.cumsum(counts_b) * counts_a.sum()).max())


def _resampled_error(
    places: list[np.ndarray], groups: list[np.ndarray], difference: np.ndarray, rng: np.random.Generator
) -> float:
    """How far the difference of the ECDFs moves, at the value where it moves most, when documents are resampled."""
    cdfs = []
    for place, group in zip(places, groups, strict=True):
        n_groups = int(group.max()) + 1
        times = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups))[group]
        counts = np.bincount(place, weights=times, minlength=len(difference))
        cdfs.append(np.cumsum(counts) / counts.sum())
    return float(np.abs(cdfs[0] - cdfs[1] - difference).max())


def _sample(values: np.ndarray, name: str) -> np.ndarray:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or np.isnan(x).any():
        raise InputError(f"{name}: want at least one value, one per document, and none that is not a number")
    return x


def _clusters(clusters: np.ndarray | None, of: np.ndarray, name: str) -> np.ndarray:
    if clusters is None:
        return np.arange(len(of))
    if len(clusters) != len(of):
        raise InputError(f"{name}: {len(clusters):,} clusters for {len(of):,} values")
    return np.unique(np.asarray(clusters), return_inverse=True)[1].reshape(-1)
