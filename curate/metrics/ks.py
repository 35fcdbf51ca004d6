"""Whether an attribute of documents, such as length, is distributed alike in two corpora: Kolmogorov-Smirnov."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from curate.errors import InputError, UsageError

EXACT_CELLS = 10**8  # n_a * n_b; 10,000 by 10,000 takes about 1 s
EXACT_STEPS = 300_000  # n_a + n_b; 100 by 300,000 takes about 4 s
GRID_CELLS = 4096  # resampled errors are a hundredth too small
PASS_ALPHA = 1e-4  # of KS@N, as UnpredictaBench has it
STANDARD_N, N_TRUTH = 100, 10_000


@dataclass(frozen=True)
class KS:
    """Two samples compared. With corpora every difference is significant: read ``distance`` and its interval first.

    ``distance``: the largest difference of the two ECDFs, 0 to 1, an effect size; ``low``, ``high``: interval at
    ``level``, at least, from resampled documents; ``location``: the value up to which it is counted;
    ``a_is_smaller``: more of a than of b lies up to there; ``superiority``: chance that a value of a exceeds one of
    b, half for equal ones (1/2: neither is larger); ``method`` of ``p_value``: "exact", "asymptotic" or
    "permutation"; ``n_effective_a``, ``n_effective_b``: independent documents that the samples are worth.
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
    n_effective_a: float
    n_effective_b: float


def ks(
    a: np.ndarray,
    b: np.ndarray,
    *,
    rng: np.random.Generator,
    clusters_a: np.ndarray | None = None,
    clusters_b: np.ndarray | None = None,
    n_resamples: int = 200,
    n_permutations: int = 999,
    level: float = 0.95,
) -> KS:
    """The two-sample Kolmogorov-Smirnov comparison with its effect sizes.

    Parameters
    ----------
    a, b : float64[n_a], float64[n_b]; one value per document.
    clusters_a, clusters_b : [n_a], [n_b]; documents that depend on each other, such as those of one source, are
        resampled together. None: each document by itself.
    n_resamples : for the interval of the distance; 0 for none (nan).
    n_permutations : for the p-value where it takes them.

    Raises
    ------
    InputError : an empty sample, a value that is not a number, or clusters of another length.
    UsageError : a level that is not between 0 and 1.

    Notes
    -----
    The p-value is that of exchanging documents between a and b. Up to `EXACT_CELLS` and `EXACT_STEPS` it is exact,
    with equal values too (`exact_p_value`). Beyond, it is Kolmogorov's limit, which is too large where values are
    equal; where that leaves doubt it is from permutations, which see the distance at `GRID_CELLS` values at most.
    Documents that depend on each other are taken for as many as they are worth (`effective_size`), in the limit.

    The interval is from a band around the whole difference of the ECDFs, so that it holds the true distance in at
    least the stated share of cases. Quantiles of resampled distances do not: noise adds to a maximum, and of two
    equal distributions they never hold 0 (of 150 tries at n = 1,000, none). 100,000 by 100,000 documents take 0.3 s.
    """
    a, b = _sample(a, "a"), _sample(b, "b")
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval is between 0 and 1, not {level}")
    groups = [
        None if clusters is None else _clusters(clusters, x, name)
        for clusters, x, name in ((clusters_a, a, "a"), (clusters_b, b, "b"))
    ]
    independent = clusters_a is None and clusters_b is None
    n, m = len(a), len(b)
    values, counts_a, counts_b = _pooled(a, b)
    signed = np.cumsum(counts_a) * m - np.cumsum(counts_b) * n  # n m (F_a - F_b), whole numbers
    at = int(np.argmax(np.abs(signed)))
    distance = abs(int(signed[at])) / (n * m)
    worth_a, worth_b = (
        float(len(x)) if group is None else effective_size(x, group) for x, group in zip((a, b), groups, strict=True)
    )
    edges = _grid(counts_a + counts_b)
    if n * m <= EXACT_CELLS and n + m <= EXACT_STEPS and independent:
        p_value, method = exact_p_value(a, b), "exact"
    else:
        p_value, method = asymptotic_p_value(distance, worth_a, worth_b), "asymptotic"
        tied = len(values) < n + m
        if tied and independent and p_value >= 1 / (1 + n_permutations):
            cells_a, cells_b = (np.add.reduceat(counts, edges) for counts in (counts_a, counts_b))
            p_value, method = _permutation_p_value(cells_a, cells_b, n_permutations, rng), "permutation"
    below = np.cumsum(counts_b) - counts_b
    superiority = float(counts_a @ (below + counts_b / 2)) / (n * m)
    low = high = math.nan
    if n_resamples:
        cells = [np.searchsorted(edges, np.searchsorted(values, x), "right") - 1 for x in (a, b)]
        moves = [
            _resampled_cdfs(cell, group, len(edges), n_resamples, rng)
            for cell, group in zip(cells, groups, strict=True)
        ]
        errors = np.abs(moves[0] - moves[1]).max(axis=1)
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
        method,
        n,
        m,
        worth_a,
        worth_b,
    )


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of the ECDFs of two samples, 0 to 1."""
    a, b = _sample(a, "a"), _sample(b, "b")
    return _whole_distance(*_pooled(a, b)[1:]) / (len(a) * len(b))


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
    whole, compared = _whole_distance(counts_a, counts_b), _ends(counts_a + counts_b)
    return float(_exact(np.array([whole]), len(a), len(b), compared[None])[0])


def asymptotic_p_value(distance: float, n_a: float, n_b: float) -> float:
    """Kolmogorov's limit 2 sum (-1)**(k - 1) exp(-2 k**2 z**2), z = D sqrt(n m / (n + m))."""
    z = distance / math.sqrt(1 / n_a + 1 / n_b)
    if z < 0.3:  # 1 - 2e-5 and more, where the sum converges slowly
        return 1.0
    k = np.arange(1, 101)
    return float(min(1.0, 2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * k**2 * z**2))))


def effective_size(values: np.ndarray, clusters: np.ndarray) -> float:
    """Independent documents that those of clusters are worth, from 1 to their number.

    At each decile of the values, the variance of the share of documents up to it, with clusters drawn as wholes, over
    that with documents drawn one by one; the mean is the design effect.

    Parameters
    ----------
    values : float64[n_docs]. clusters : [n_docs], any values that compare.
    """
    x = _sample(values, "values")
    group = _clusters(clusters, x, "values")
    sizes = np.bincount(group)
    if len(sizes) < 2:
        return 1.0
    effects = []
    for value in np.unique(np.quantile(x, np.arange(1, 10) / 10, method="inverted_cdf")):
        below = x <= value
        share = below.mean()
        if 0 < share < 1:
            spread = np.square(np.bincount(group, below) - sizes * share).sum() / len(x) ** 2
            effects.append(spread * len(sizes) / (len(sizes) - 1) / (share * (1 - share) / len(x)))
    effect = float(np.mean(effects)) if effects else len(x) / len(sizes)
    return len(x) / min(max(effect, 1.0), float(len(x)))


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
    n_truth: int = N_TRUTH,
    alpha: float = PASS_ALPHA,
    n_repeats: int = 200,
) -> float:
    """KS@N: share of random subsamples of size `n` that a test at `alpha` does not tell from the truth.

    Comparable across corpora of any size, as their distance itself is, and lenient: at the standard n = 100 against
    10,000 values only distances of 0.22 and more fail, and n = 1 always passes. State `n` beside it.

    Parameters
    ----------
    truth : float64[...]; `n_truth` of more are drawn once (UnpredictaBench takes the first 10,000).
    sample : float64[n_sample], at least `n`; subsamples are without replacement.

    Raises
    ------
    InputError : fewer than `n` values, none of the truth, or values that are not numbers.
    UsageError : an alpha that is not between 0 and 1, or no values or subsamples asked for.
    """
    truth, sample = _sample(truth, "truth"), _sample(sample, "sample")
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is between 0 and 1, not {alpha}")
    if min(n, n_truth, n_repeats) < 1:
        raise UsageError(f"want 1 or more, not n={n}, n_truth={n_truth} and n_repeats={n_repeats}")
    if n > len(sample):
        raise InputError(f"KS@{n:,} needs {n:,} values, and the sample has {len(sample):,}")
    if n_truth < len(truth):
        truth = rng.choice(truth, n_truth, replace=False)
    least, most = sorted((n, len(truth)))
    passes, wholes, compared = 0, [], []
    for _ in range(n_repeats):
        _, counts_a, counts_b = _pooled(truth, rng.choice(sample, n, replace=False))
        whole, ends = _whole_distance(counts_a, counts_b), _ends(counts_a + counts_b)
        if _chance_at_the_middle(whole, least, most, ends) > alpha * (1 + 1e-6):
            passes += 1
        else:
            wholes.append(whole)
            compared.append(ends)
    if wholes:
        passes += int((_exact(np.array(wholes), least, most, np.array(compared)) > alpha).sum())
    return passes / n_repeats


def _chance_at_the_middle(whole: int, n: int, m: int, compared: np.ndarray) -> float:
    """P(as far apart at the value in the middle), a bound of the p-value from below that mostly decides."""
    ends = np.flatnonzero(compared)
    middle = int(ends[np.argmin(np.abs(ends - (n + m) / 2))])
    i = np.arange(n + 1)
    apart = np.abs(i * (n + m) - middle * n) >= whole
    return float(np.exp(_log_hypergeometric(i, middle, n, m))[apart].sum())


def _exact(wholes: np.ndarray, n: int, m: int, compared: np.ndarray) -> np.ndarray:
    """P(n m D >= whole) of each pair of samples, n the smaller; its ECDFs are compared after so many documents.

    wholes : int64[n_pairs]. compared : bool[n_pairs, n + m + 1].
    """
    i = np.arange(n + 1)
    hit, moved = np.zeros((2, len(wholes), n + 1))
    for k in range(1, n + m + 1):
        drawn = i[: k + 1] / k
        np.multiply(hit, 1 - i / k, out=moved)
        moved[:, 1 : k + 1] += hit[:, :k][:, :n] * drawn[1:]
        rows = np.flatnonzero(compared[:, k])
        # n m (F_a - F_b) = i (n + m) - k n: those nearer than `whole` are not apart
        first = -((wholes[rows] - 1 - k * n) // (n + m))
        last = (k * n + wholes[rows] - 1) // (n + m)
        if len(rows) == 1:
            moved[rows[0], : max(0, first[0])] = 1
            moved[rows[0], last[0] + 1 :] = 1
        elif len(rows):
            moved[rows] = np.where((i < first[:, None]) | (i > last[:, None]), 1, moved[rows])
        moved[:, k + 1 :] = 0
        hit, moved = moved, hit
    return np.where(wholes > 0, hit[:, n], 1.0)


def _permutation_p_value(
    counts_a: np.ndarray, counts_b: np.ndarray, n_permutations: int, rng: np.random.Generator
) -> float:
    """(1 + exchanges that are as far apart) / (1 + exchanges), of counts of the values, in order."""
    pooled, n, m = counts_a + counts_b, int(counts_a.sum()), int(counts_b.sum())
    dealt = rng.multivariate_hypergeometric(pooled, n, n_permutations, method="marginals")
    signed = np.cumsum(dealt, axis=1) * (n + m) - np.cumsum(pooled) * n
    seen = np.cumsum(counts_a) * (n + m) - np.cumsum(pooled) * n
    return float(1 + (np.abs(signed).max(axis=1) >= np.abs(seen).max()).sum()) / (1 + n_permutations)


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


def _ends(pooled: np.ndarray) -> np.ndarray:
    """bool[n + m + 1]: after how many documents of the pooled order a value ends."""
    ends = np.zeros(int(pooled.sum()) + 1, bool)
    ends[np.cumsum(pooled)] = True
    return ends


def _grid(pooled: np.ndarray) -> np.ndarray:
    """The first value of each of at most `GRID_CELLS` runs of values with about as many documents."""
    upto = np.cumsum(pooled)
    cell = (upto - pooled) * GRID_CELLS // upto[-1]
    return np.flatnonzero(np.append(True, cell[1:] != cell[:-1]))


def _resampled_cdfs(
    cells: np.ndarray, groups: np.ndarray | None, n_cells: int, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """float64[n_resamples, n_cells]: how far the ECDF moves when documents, or groups of them, are resampled."""
    counts = np.bincount(cells, minlength=n_cells)
    if groups is None:
        made = rng.multinomial(len(cells), counts / len(cells), n_resamples).astype(np.float64)
    else:
        n_groups = int(groups.max()) + 1
        times = (rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups)) for _ in range(n_resamples))
        made = np.array([np.bincount(cells, t[groups], n_cells) for t in times])
    cdfs = np.cumsum(made, axis=1)
    return cdfs / cdfs[:, -1:] - np.cumsum(counts) / len(cells)


def _sample(values: np.ndarray, name: str) -> np.ndarray:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or np.isnan(x).any():
        raise InputError(f"{name}: want at least one value, one per document, and none that is not a number")
    return x


def _clusters(clusters: np.ndarray, of: np.ndarray, name: str) -> np.ndarray:
    if len(clusters) != len(of):
        raise InputError(f"{name}: {len(clusters):,} clusters for {len(of):,} values")
    return np.unique(np.asarray(clusters), return_inverse=True)[1].reshape(-1)
