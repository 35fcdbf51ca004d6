"""From scores to log weights: f-divergences, tilts of so many nats, clipping and regularisation.

A score that is a log weight is the log of a ratio, target to raw; which f-divergence a selection should make small
says by which function of that ratio documents are weighed. All parameters are solved for over all documents, by
passes that add up exactly, so that they do not depend on how the documents are dealt out to files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from curate.errors import UsageError, unknown
from curate.sampling.solving import ExactSums, roots

# By the f of the divergence: the log weight from the log ratio, both in nats.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "kl": lambda s: s,
    "js": lambda s: -np.logaddexp(0.0, -s),  # log sigmoid: what is likelier in raw counts, what is not saturates
    "hellinger": lambda s: s / 2,
    "chi2": lambda s: 2 * s,
    "jeffreys": lambda s: np.logaddexp(0.0, s),
    "tv": lambda s: np.minimum(s, 0.0),  # a surrogate: that of total variation is 0 or infinite
}
PROPORTIONAL = "proportional"  # scores are weights themselves, 0 or more, as ridge leverage scores are
REGULARISERS = ("chi2", "mixed")
LOWEST_WEIGHT = 1e-12  # of scores that are weights, so that one of 0 has a logarithm; next to none
PRECISION = 1e-13  # of a parameter, relative to the range of the scores


def transform(scores: np.ndarray, name: str) -> np.ndarray:
    """Log weights from log ratios.

    Parameters
    ----------
    scores : float64[n_docs], log ratios of target to raw, nats. name : of `TRANSFORMS`, or "alpha=A" for A * scores;
        "proportional" for scores that are weights.

    Raises
    ------
    UsageError : no transform of that name.
    """
    if name == PROPORTIONAL:
        return np.log(np.maximum(np.asarray(scores, np.float64), LOWEST_WEIGHT))
    if name in TRANSFORMS:
        return TRANSFORMS[name](np.asarray(scores, np.float64))
    return _alpha(name) * np.asarray(scores, np.float64)


def _alpha(name: str) -> float:
    kind, equals, value = name.partition("=")
    if kind != "alpha" or not equals:
        raise unknown("transform", name, (*TRANSFORMS, "alpha=A", PROPORTIONAL))
    return _number(value, f"--transform {name}", "the Amari order, such as alpha=0.5")


def _number(text: str, place: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{place}: must be {what}, above 0")
    return value


@dataclass(frozen=True)
class WeightSpec:
    """How scores become weights. At most one of the last three says how far weights may go from uniform.

    ``transform``: see `transform`; ``calibrate``: scores become their quantiles in each group, by a column or in
    "all"; ``max_kl``: nats that weights exp(strength * score) spend; ``min_ess``: share of the documents that
    weights are at least worth, by clipping; ``regularise``: "chi2:BETA" or "mixed:BETA".
    """

    transform: str = "kl"
    calibrate: str | None = None
    max_kl: float | None = None
    min_ess: float | None = None
    regularise: str | None = None

    def __post_init__(self) -> None:
        transform(np.zeros(0), self.transform)
        limits = {"--max-kl": self.max_kl, "--min-ess": self.min_ess, "--regularise": self.regularise}
        given = [name for name, value in limits.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} each say how far weights may go from uniform: give one of them")
        if self.max_kl is not None and not 0 < self.max_kl < math.inf:
            raise UsageError(f"--max-kl {self.max_kl:g}: must be nats above 0; for none take --draw uniform")
        if self.min_ess is not None and not 0 < self.min_ess <= 1:
            raise UsageError(f"--min-ess {self.min_ess:g}: must be a share of the documents, above 0 and up to 1")
        if self.regularise is not None:
            self.regulariser  # noqa: B018 - checked
        if self.calibrate and self.transform != "kl":
            raise UsageError(
                f"--transform {self.transform} is of log ratios, and --calibrate makes quantiles of them: give one"
            )
        if self.calibrate and self.max_kl is None and self.regularise is None:
            raise UsageError(
                "--calibrate leaves quantiles, which have no scale: say how far to tilt with --max-kl 1 (nats), "
                "or --regularise"
            )

    @property
    def regulariser(self) -> tuple[str, float]:
        """Its kind and beta."""
        kind, colon, beta = (self.regularise or "").partition(":")
        if kind not in REGULARISERS or not colon:
            raise unknown("regulariser", self.regularise or "", [f"{kind}:BETA" for kind in REGULARISERS])
        return kind, _number(beta, f"--regularise {self.regularise}", f"{kind}:BETA with a number")

    @property
    def is_plain(self) -> bool:
        """Whether scores are the log weights, as they are."""
        return self == PLAIN

    @property
    def needs_log_ratios(self) -> bool:
        """Whether scores must be log weights; else any that are higher for the better will do."""
        if self.transform == PROPORTIONAL:
            return False
        return (self.max_kl is None and self.regularise is None) or self.transform != "kl"

    def __str__(self) -> str:
        return ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.as_dict().items())

    def as_dict(self) -> dict[str, Any]:
        """What is not as it is by default."""
        return {name: value for name, value in asdict(self).items() if value != getattr(WeightSpec, name)}


PLAIN = WeightSpec()

# For each array that a function makes of the scores: its sum over all documents, exact.
Sums = Callable[[Callable[[np.ndarray], Sequence[np.ndarray]]], list[float]]


def sums_over(scores: np.ndarray) -> Sums:
    """Sums over scores that are in memory."""
    return lambda function: [float(ExactSums().add(term).totals()[0]) for term in function(scores)]


@dataclass(frozen=True)
class Weighting:
    """A spec whose parameters are known.

    ``parameter``: of a tilt its strength (inf: all weight is on the best), of clipping the highest log weight
    (nats), of regularisation the level from which scores count; None where there is nothing to know.
    ``highest``: of the log ratios. ``removed_fraction``: of the weight, by clipping.
    """

    spec: WeightSpec
    parameter: float | None = None
    highest: float = 0.0
    removed_fraction: float = 0.0

    def log_weights(self, scores: np.ndarray) -> np.ndarray:
        """float64[n_docs], nats up to a constant, -inf for none; nan where the score is."""
        s = transform(scores, self.spec.transform)
        if self.parameter is None:
            return s
        if self.spec.max_kl is not None:
            return tilted(s, self.parameter, self.highest)
        if self.spec.min_ess is not None:
            return np.minimum(s, self.parameter)
        return regularised(s, *self.spec.regulariser, self.parameter)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: what was asked for, and what was found."""
        name = "strength" if self.spec.max_kl is not None else "level"
        found: dict[str, Any] = self.spec.as_dict()
        if self.parameter is not None:
            found[name] = self.parameter if math.isfinite(self.parameter) else "best only"
        if self.spec.min_ess is not None:
            found["removed_fraction"] = self.removed_fraction
        return found


def weighting(spec: WeightSpec, scores: Sums, n: int, low: float, high: float) -> Weighting:
    """Find the parameters of a spec.

    Parameters
    ----------
    scores : sums over all documents with a score; of a calibrated one over their quantiles.
    n : how many there are. low, high : the lowest and highest score.
    """
    low, high = (float(x) for x in transform(np.array([low, high]), spec.transform))

    def over(function: Callable[[np.ndarray], Sequence[np.ndarray]]) -> list[float]:
        return scores(lambda s: function(transform(s, spec.transform)))

    if spec.max_kl is not None:
        return Weighting(spec, tilt_strength(over, n, low, high, spec.max_kl), high)
    if spec.min_ess is not None:
        cap, removed = clip_level(over, n, low, high, spec.min_ess)
        return Weighting(spec, cap, high, removed)
    if spec.regularise is not None:
        return Weighting(spec, regularised_level(over, n, low, high, *spec.regulariser), high)
    return Weighting(spec, None, high)


# ---- a tilt of so many nats


def tilted(scores: np.ndarray, strength: float, highest: float) -> np.ndarray:
    """Log weights strength * (score - highest)."""
    below = scores - highest
    return strength * below if strength < math.inf else np.where(below >= 0, 0.0, np.where(below < 0, -np.inf, below))


def tilt_strength(scores: Sums, n: int, low: float, high: float, budget: float) -> float:
    """The strength at which weights exp(strength * score) are `budget` nats from uniform; inf if none is so far.

    The twin on arrays is `curate.metrics.calibration.tilt`.
    """
    if low == high:
        return math.inf
    span = high - low
    (n_best,) = scores(lambda s: [(s == high).astype(float)])
    if budget >= math.log(n / n_best):
        return math.inf

    def kl(strength: float) -> float:
        def terms(s: np.ndarray) -> Sequence[np.ndarray]:
            below = (s - high) / span
            w = np.exp(strength * below)
            return w, w * -below

        total, moment = scores(terms)
        return -strength * moment / total - math.log(total / n)

    top = 1.0
    while kl(top) < budget:
        top *= 2
    found = roots(lambda x: np.array([budget - kl(float(x[0]))]), np.zeros(1), np.array([top]), tolerance=PRECISION)
    return float(found[0]) / span


# ---- clipping


def clip_level(scores: Sums, n: int, low: float, high: float, share: float) -> tuple[float, float]:
    """``(level, weight removed)``: clipped at the highest level so, weights are worth `share` of the documents (Kish).

    Returns
    -------
    The level, nats, `high` where nothing need be clipped; and the share of the weight that is clipped off.
    """

    def worth(level: float) -> float:
        def terms(s: np.ndarray) -> Sequence[np.ndarray]:
            w = np.exp(np.minimum(s - level, 0.0))
            return w, w * w

        total, squares = scores(terms)
        return total * total / squares

    def short(x: np.ndarray) -> np.ndarray:
        return np.array([math.log(worth(float(x[0])) / (share * n))])

    if low == high or worth(high) >= share * n:
        return high, 0.0
    level = low if share == 1 else float(roots(short, np.array([low]), np.array([high]), tolerance=PRECISION)[0])
    left, all_of_it = scores(lambda s: (np.exp(np.minimum(s, level) - high), np.exp(s - high)))
    return level, 1 - left / all_of_it


# ---- regularisation


def regularised(scores: np.ndarray, kind: str, beta: float, level: float) -> np.ndarray:
    """Log weights that are best for the mean score at a price of beta times a penalty.

    chi2, penalty (w - 1)**2 : w = max(0, 1 + (score - level) / (2 beta)).
    mixed, penalty (w - 1)**2 / 2 + w log w - w + 1 : w + log w = (score - level) / beta + 1 (chi-squared preference
    optimisation, arXiv:2407.13399).
    """
    if kind == "chi2":
        w = 1 + (scores - level) / (2 * beta)
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(w, 0.0))
    return log_lambert((scores - level) / beta + 1)


def log_lambert(y: np.ndarray) -> np.ndarray:
    """x with exp(x) + x = y: the log of Lambert's W0(exp(y)), for any y."""
    y = np.asarray(y, np.float64)
    x = np.where(y > 1, np.log(np.maximum(y, 1.0)), y)
    for _ in range(12):  # Newton's, of a convex function from above: 5 steps do for most
        w = np.exp(x)
        x = x - (w + x - y) / (w + 1)
    return x


def regularised_level(scores: Sums, n: int, low: float, high: float, kind: str, beta: float) -> float:
    """The level at which weights of `regularised` are 1 on average."""
    if low == high:
        return high

    def mean(x: np.ndarray) -> np.ndarray:
        (total,) = scores(lambda s: [np.exp(np.minimum(regularised(s, kind, beta, float(x[0])), math.log(4 * n)))])
        return np.array([math.log(max(total, 1e-300) / n)])

    return float(roots(mean, np.array([low]), np.array([high]), tolerance=PRECISION * (high - low))[0])
