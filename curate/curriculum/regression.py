"""The best mixture of sources from the losses of small proxy models (RegMix, arXiv:2407.01492).

Small models are trained on mixtures that `design` proposes; a regression from mixture to loss then says which mixture
is best for a large one. RegMix fits boosted trees; here it is a Gaussian process on the logarithms of the
proportions, which says how sure it is, and needs nothing but NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.curriculum.proportions import capped, proportions, tempered
from curate.errors import InputError, UsageError, unknown
from curate.io.corpus import require_distinct
from curate.metrics.calibration import mid_ranks

# A proportion far below it is next to none. In cross-validation over the 512 published proxies, mean of 13 losses, the
# errors are 0.133, 0.128, 0.126 and 0.129 standard deviations at 0.0001, 0.0003, 0.001 and 0.003.
FLOOR = 1e-3
STRENGTHS = (0.1, 5.0)  # of the Dirichlet distributions, and
TEMPERATURE = 2.0  # of the natural proportions that are their centre, and
LEAST = 2e-4  # below which a source gets nothing: those of RegMix
MIN_PROXIES = 8
RISK = 1.0  # standard deviations that are added to a predicted loss
N_CANDIDATES = 20_000
N_BEST = 100
ROUNDS = 40  # of small changes
_PRIOR_PRECISION = 0.04  # of the logarithms of length scales, variance and noise
_LEAST_NOISE = 1e-6  # of losses with a variance of 1: below it what is found depends on how a processor rounds
_FAR = 40.0  # a logarithm that no length scale or variance has
_STEPS = 60
_CONSTANT = 100.0  # variance of the mean, of losses with a variance of 1


@dataclass(frozen=True)
class LossModel:
    """What a proxy's loss is predicted from: a Gaussian process with a squared exponential kernel over log(p + floor).

    Attributes
    ----------
    sources : in the order of the columns of mixtures. column : the loss.
    spearman, rmse : of the losses of proxies and what the others predict for them, leaving one out at a time.
    """

    sources: tuple[str, ...]
    column: str
    spearman: float
    rmse: float
    centre: np.ndarray
    scale: np.ndarray  # of the features, length scales included
    features: np.ndarray
    floor: float
    variance: float
    noise: float
    inverse: np.ndarray  # of the covariance of the proxies' losses
    alpha: np.ndarray
    mean_loss: float
    std_loss: float

    @classmethod
    def fit(
        cls,
        mixtures: np.ndarray,
        losses: np.ndarray,
        sources: Sequence[str],
        column: str = "loss",
        *,
        floor: float = FLOOR,
    ) -> LossModel:
        """Fit to proxies: length scale of each source, variance and noise by marginal likelihood.

        Parameters
        ----------
        mixtures : float64[n_proxies, n_sources], rows adding up to 1. losses : float64[n_proxies].

        Raises
        ------
        InputError : too few proxies, losses that do not differ, numbers that are not finite.
        """
        from threadpoolctl import threadpool_limits

        mixtures, losses = np.asarray(mixtures, np.float64), np.asarray(losses, np.float64)
        if len(mixtures) < MIN_PROXIES or losses.shape != (len(mixtures),):
            raise InputError(
                f"{column}: {len(losses):,} losses of {len(mixtures):,} proxies; needs at least {MIN_PROXIES} of both"
            )
        if not np.isfinite(losses).all() or losses.std() == 0:
            raise InputError(f"{column}: losses must be numbers that differ; the proxy models have nothing to tell")
        mean, std = float(losses.mean()), float(losses.std())
        raw = np.log(mixtures + floor)
        centre, spread = raw.mean(axis=0), raw.std(axis=0)
        x, y = (raw - centre) / np.where(spread > 0, spread, 1.0), (losses - mean) / std
        with threadpool_limits(1):  # several threads find other last bits
            start = np.append(np.full(x.shape[1], np.log(2.0)), [0.0, -4.0])
            found = minimised(lambda theta: _cost(theta, x, y), start, steps=_STEPS)
            lengths, variance, noise = (
                np.exp(found[:-2]),
                float(np.exp(found[-2])),
                float(np.exp(found[-1])) + _LEAST_NOISE,
            )
            inverse = np.linalg.inv(_covariance(x / lengths, variance, noise))
            alpha = inverse @ y
        left_out = y - alpha / np.diag(inverse)  # of each, from all others (Rasmussen and Williams, 2006, eq. 5.12)
        return cls(
            tuple(sources),
            column,
            spearman(left_out, y),
            float(np.sqrt(np.mean((left_out - y) ** 2)) * std),
            centre,
            np.where(spread > 0, spread, 1.0) * lengths,
            x / lengths,
            floor,
            variance,
            noise,
            inverse,
            alpha,
            mean,
            std,
        )

    def predict(self, mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(mean, standard deviation)`` of the loss of a proxy on each mixture; float64[n_mixtures]."""
        from threadpoolctl import threadpool_limits

        x = (np.log(np.atleast_2d(mixtures) + self.floor) - self.centre) / self.scale
        with threadpool_limits(1):
            k = self.variance * np.exp(-_half_squares(x, self.features)) + _CONSTANT
            known, mean = np.einsum("ij,ij->i", k @ self.inverse, k), k @ self.alpha
        variance = np.maximum(self.variance + self.noise + _CONSTANT - known, self.noise)
        return mean * self.std_loss + self.mean_loss, np.sqrt(variance) * self.std_loss


def _half_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Half of the squared distances between rows."""
    return np.maximum(0.0, 0.5 * ((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)) - a @ b.T)


def _covariance(x: np.ndarray, variance: float, noise: float) -> np.ndarray:
    return variance * np.exp(-_half_squares(x, x)) + _CONSTANT + noise * np.eye(len(x))


def _cost(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Minus the log marginal likelihood with a weak prior, and its gradient (Rasmussen and Williams, eq. 5.9)."""
    if np.abs(theta).max() > _FAR:
        return np.inf, np.zeros_like(theta)
    scaled, variance, own = x / np.exp(theta[:-2]), float(np.exp(theta[-2])), float(np.exp(theta[-1]))
    noise = own + _LEAST_NOISE
    smooth = variance * np.exp(-_half_squares(scaled, scaled))
    try:
        factor = np.linalg.cholesky(smooth + _CONSTANT + noise * np.eye(len(y)))
    except np.linalg.LinAlgError:
        return np.inf, np.zeros_like(theta)
    half = np.linalg.inv(factor)
    inverse = half.T @ half
    alpha = inverse @ y
    cost = 0.5 * float(y @ alpha) + float(np.log(np.diag(factor)).sum()) + 0.5 * _PRIOR_PRECISION * float(theta @ theta)
    steepness = inverse - np.outer(alpha, alpha)
    weighted = steepness * smooth
    squares = 2 * ((weighted.sum(axis=1) @ scaled**2) - np.einsum("id,id->d", scaled, weighted @ scaled))
    slopes = np.concatenate([0.5 * squares, [0.5 * weighted.sum(), 0.5 * own * np.trace(steepness)]])
    return cost, slopes + _PRIOR_PRECISION * theta


def minimised(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, *, steps: int
) -> np.ndarray:
    """Where a smooth function is least, from its values and gradients: BFGS, halving steps that do not go down."""
    x, (value, slope) = start, function(start)
    inverse = np.eye(len(x)) / max(1.0, float(np.linalg.norm(slope)))
    for _ in range(steps):
        way = -inverse @ slope
        step, gain = 1.0, float(slope @ way)
        while True:
            there = x + step * way
            new_value, new_slope = function(there)
            if new_value <= value + 1e-4 * step * gain or step < 1e-8:
                break
            step /= 2
        if not new_value < value:
            break
        moved, turned = there - x, new_slope - slope
        small = value - new_value < 1e-6
        x, value, slope = there, new_value, new_slope
        curvature = float(moved @ turned)
        if curvature > 1e-12:
            keep = np.eye(len(x)) - np.outer(moved, turned) / curvature
            inverse = keep @ inverse @ keep.T + np.outer(moved, moved) / curvature
        if small:
            break
    return x


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, equal values at their middle rank; nan where one does not vary."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(mid_ranks(a), mid_ranks(b))[0, 1])


# ---- which mixtures to train proxies on


def design(natural: np.ndarray, n: int, *, seed: int = 0, caps: np.ndarray | None = None) -> np.ndarray:
    """Mixtures to train proxies on: Dirichlet distributed around the natural proportions, few sources or many.

    Parameters
    ----------
    natural : float64[n_sources], proportions; smoothed by TEMPERATURE they are the centre.
    caps : float64[n_sources], highest proportions; None: any.

    Returns
    -------
    float64[n, n_sources], rows adding up to 1. Other ``n`` with the same seed begin with the same mixtures.
    """
    centre = tempered(natural, TEMPERATURE)
    rows = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        strength = float(np.exp(rng.uniform(*np.log(STRENGTHS))))
        rows.append(_thinned(_dirichlet(rng, strength * centre), caps))
    return np.array(rows).reshape(n, len(natural))


def _dirichlet(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """A draw; in logarithms, for with alpha far below 1 gamma variates are too small for numbers."""
    with np.errstate(divide="ignore"):
        log_g = np.log(rng.standard_gamma(alpha + 1)) + np.log(rng.uniform(size=len(alpha))) / alpha
    log_g = np.where(alpha > 0, log_g, -np.inf)
    return proportions(np.exp(log_g - log_g.max()))


def _thinned(p: np.ndarray, caps: np.ndarray | None) -> np.ndarray:
    """Without the sources that get next to nothing; within the caps."""
    kept = proportions(np.where(p < LEAST, 0.0, p))
    if caps is None or (kept <= caps).all():
        return kept
    return capped(kept if caps[kept > 0].sum() >= 1 else proportions(p + LEAST), caps)


# ---- the best mixture


@dataclass(frozen=True)
class Best:
    """The mixture with the lowest loss, as far as proxies tell.

    ``loss``, ``uncertainty``: predicted for a proxy, and the standard deviation of that (of a weighted mean of several
    losses the highest that it can be). ``natural_loss``: predicted for natural proportions.
    ``best_proxy_loss``: predicted for the best of the proxies' mixtures.
    """

    mixture: np.ndarray
    loss: float
    uncertainty: float
    natural_loss: float
    best_proxy_loss: float


def best_mixture(
    models: Sequence[tuple[LossModel, float]],
    proxies: np.ndarray,
    natural: np.ndarray,
    *,
    caps: np.ndarray | None = None,
    risk: float = RISK,
    seed: int = 0,
    n_candidates: int = N_CANDIDATES,
    rounds: int = ROUNDS,
) -> Best:
    """The mixture with the lowest predicted loss plus ``risk`` standard deviations.

    The mean of the best of many random mixtures and of the proxies', as in RegMix, then small random changes of it as
    long as they help. The standard deviations keep it where proxies have been: far from them a fit promises anything.

    Parameters
    ----------
    models : with the weight of each in the mean that is made small.
    proxies : float64[n_proxies, n_sources]. natural : float64[n_sources]. caps : as of `design`.
    rounds : of small changes; without any it is the better of the mean and the best one.
    """
    weights = np.array([weight for _, weight in models])
    weights = weights / weights.sum()

    def predicted(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [model.predict(p) for model, _ in models]
        mean, std = (sum(w * f[i] for w, f in zip(weights, found, strict=True)) for i in (0, 1))
        return np.asarray(mean), np.asarray(std)

    def cost(p: np.ndarray) -> np.ndarray:
        return np.concatenate([_risky(predicted(p[i : i + 2_000]), risk) for i in range(0, len(p), 2_000)])

    tried = np.concatenate([design(natural, n_candidates, seed=seed, caps=caps), [_within(p, caps) for p in proxies]])
    best = tried[np.argsort(cost(tried), kind="stable")[:N_BEST]]
    mixture = _improved(cost, np.array([best.mean(axis=0), best[0]]), caps, np.random.default_rng(seed), rounds)
    (loss,), (std,) = predicted(mixture[None])
    (natural_loss,), _ = predicted(natural[None])
    return Best(mixture, float(loss), float(std), float(natural_loss), float(predicted(proxies)[0].min()))


def _risky(predicted: tuple[np.ndarray, np.ndarray], risk: float) -> np.ndarray:
    return predicted[0] + risk * predicted[1]


def _within(p: np.ndarray, caps: np.ndarray | None) -> np.ndarray:
    return p if caps is None else _thinned(p, caps)


def _improved(
    cost: Callable[[np.ndarray], np.ndarray],
    starts: np.ndarray,
    caps: np.ndarray | None,
    rng: np.random.Generator,
    rounds: int,
    tries: int = 200,
) -> np.ndarray:
    """The better of some mixtures, changed at random by less and less, going to the mean of what is best each time."""
    mixture = starts[int(np.argmin(cost(starts)))]
    least = float(cost(mixture[None])[0])
    for width in np.geomspace(0.5, 0.02, rounds):
        changed = (mixture + LEAST) * np.exp(width * rng.standard_normal((tries, len(mixture))))
        changed = np.array([_within(proportions(p), caps) for p in changed])
        better = changed[np.argsort(cost(changed), kind="stable")[:10]]
        for candidate in (better.mean(axis=0), better[0]):
            value = float(cost(candidate[None])[0])
            if value < least:
                mixture, least = candidate, value
                break
    return _thinned(mixture, caps)


# ---- tables of proxies


@dataclass(frozen=True)
class Proxies:
    """Mixtures (float64[n_proxies, n_sources], rows adding up to 1) and losses (float64[n_proxies] by column)."""

    sources: tuple[str, ...]
    mixtures: np.ndarray
    losses: Mapping[str, np.ndarray]


def read_proxies(mixtures: str | os.PathLike[str], losses: str | os.PathLike[str]) -> Proxies:
    """Read what proxies were trained on and what came of it, CSV or Parquet.

    Rows go together by the column that both tables have, else in their order. All other columns of ``mixtures`` are
    sources, all other columns of ``losses`` losses.

    Raises
    ------
    InputError : tables that cannot be read or do not go together; a row that is no mixture.
    """
    left, right = _table(mixtures), _table(losses)
    shared = [name for name in left.column_names if name in right.column_names]
    if len(shared) > 1:
        raise InputError(
            f"{losses}: shares {', '.join(map(repr, shared))} with {mixtures}; must be one column, the name of a proxy"
        )
    if shared:
        rows, of = (_rows_by(table, shared[0], path) for table, path in ((left, mixtures), (right, losses)))
        missing = sorted(rows.keys() ^ of.keys())
        if missing:
            raise InputError(f"proxy {missing[0]!r} is in only one of {mixtures} and {losses} ({len(missing):,} such)")
        left, right = left.drop_columns(shared), right.take([of[name] for name in rows]).drop_columns(shared)
    elif left.num_rows != right.num_rows:
        raise InputError(
            f"{mixtures} has {left.num_rows:,} rows, {losses} has {right.num_rows:,}, and no column is in both"
        )
    p = _numbers(left, mixtures)
    sums = p.sum(axis=1)
    wrong = (p < 0).any(axis=1) | ~(np.abs(sums - 1) < 0.02)  # rounded to 3 places, 17 sources are up to 0.0085 off
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{mixtures} row {row}: no mixture; must be numbers from 0 on that add up to 1, not {sums[row]:g}"
        )
    values = _numbers(right, losses)
    return Proxies(tuple(left.column_names), p / sums[:, None], dict(zip(right.column_names, values.T, strict=True)))


def _table(path: str | os.PathLike[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    try:
        if Path(path).suffix == ".parquet":
            table = pq.read_table(path)
        else:
            table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from error
    require_distinct(str(path), table.column_names)
    if not table.num_rows:
        raise InputError(f"{path}: no rows; must have one for each proxy")
    return table


def _rows_by(table: Any, column: str, path: str | os.PathLike[str]) -> dict[str, int]:
    """Rows by the name of the proxy, in their order.

    Raises
    ------
    InputError : a name that occurs twice.
    """
    rows: dict[str, int] = {}
    for row, name in enumerate(map(str, table[column].to_pylist())):
        if name in rows:
            raise InputError(f"{path}: proxy {name!r} occurs more than once in column {column!r}")
        rows[name] = row
    return rows


def _numbers(table: Any, path: str | os.PathLike[str]) -> np.ndarray:
    """float64[rows, columns].

    Raises
    ------
    InputError : a column that is not of numbers, a row without one.
    """
    import pyarrow as pa

    if not table.num_columns:
        raise InputError(f"{path}: no columns but the name of the proxy")
    columns = []
    for field in table.schema:
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            raise InputError(
                f"{path}: column {field.name!r} is not of numbers; leave it out, or name it alike in both tables"
            )
        columns.append(table[field.name].to_numpy().astype(np.float64))
    values = np.column_stack(columns)
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(f"{path} row {row}: column {table.column_names[column]!r} holds no number")
    return values


def column_called(name: str, columns: Sequence[str]) -> str:
    """The column of a name, or the only one that has it as a part.

    Raises
    ------
    UsageError : none, or several.
    """
    if name in columns:
        return name
    found = [column for column in columns if name in column]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"--loss {name}: could be any of {', '.join(found)}; give more of the name")
    raise unknown("loss", name, columns)
