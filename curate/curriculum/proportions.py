"""Proportions of sources: smoothed, tilted towards high scores, given by hand, and kept from too many epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from curate.errors import InputError, UsageError, unknown
from curate.sampling.inclusion import inclusion
from curate.sampling.transforms import tilt_strength, tilted


def proportions(sizes: np.ndarray) -> np.ndarray:
    """float64[n_sources] that add up to 1, of amounts from 0 up.

    Raises
    ------
    InputError : nothing there.
    """
    sizes = np.asarray(sizes, np.float64)
    total = float(sizes.sum())
    if not total > 0:
        raise InputError("nothing to mix: no source has any text")
    return sizes / total


def tempered(p: np.ndarray, temperature: float) -> np.ndarray:
    """Proportional to p ** (1 / temperature): 1 as they are, above 1 more even, below 1 less.

    Raises
    ------
    UsageError : a temperature that is not above 0.
    """
    if not temperature > 0:
        raise UsageError(f"--temperature {temperature:g}: must be above 0; 1 leaves proportions as they are")
    if temperature == 1:
        return p
    with np.errstate(divide="ignore"):
        log_p = np.log(p) / temperature
    return proportions(np.exp(log_p - log_p.max()))


def tilted_by(p: np.ndarray, scores: np.ndarray, max_kl: float) -> np.ndarray:
    """Proportional to p exp(strength * score), `max_kl` nats from p: the best mean score at that distance.

    Log importance weights of sources are hundreds apart, so that a softmax of them is all on one: the distance, not
    the strength, says what is wanted. If it allows for that, all is on the sources with the highest score.

    Parameters
    ----------
    p : float64[n_sources], proportions. scores : float64[n_sources], higher is better; nan (a source without any)
        counts for nothing.

    Raises
    ------
    UsageError : `max_kl` is not above 0. InputError : no source has a score.
    """
    if not 0 < max_kl < np.inf:
        raise UsageError(f"--max-kl {max_kl:g}: must be nats above 0; for none leave out --by scores")
    there = np.isfinite(scores) & (p > 0)
    if not there.any():
        raise InputError("no source has a score; curate score RAW --per COLUMN makes some")
    base, s = proportions(p[there]), scores[there]

    def over(function: Callable[[np.ndarray], Sequence[np.ndarray]]) -> list[float]:
        return [float((base * term).sum()) for term in function(s)]

    strength = tilt_strength(over, 1, float(s.min()), float(s.max()), max_kl)
    found = np.zeros(len(p))
    found[there] = proportions(base * np.exp(tilted(s, strength, float(s.max()))))
    return found


def given(names: Sequence[str], p: np.ndarray, weights: Mapping[str, float], *, rest: bool = True) -> np.ndarray:
    """Weights of some sources as given; the others share what is left in their proportions.

    Without ``rest`` they get nothing, and the given weights are made to add up to 1.

    Raises
    ------
    UsageError : a source that is not there, a weight that makes no sense, weights that leave nothing or too much.
    """
    place = {name: i for i, name in enumerate(names)}
    for name, weight in weights.items():
        if name not in place:
            raise unknown("source", name, names)
        if not 0 <= weight < np.inf:
            raise UsageError(f"--weight {name}={weight:g}: must be a number from 0 on")
    fixed = np.zeros(len(names))
    fixed[[place[name] for name in weights]] = list(weights.values())
    if not rest:
        if not fixed.sum() > 0:
            raise UsageError("--weight: all are 0, and --rest none gives the others nothing")
        return proportions(fixed)
    others = np.array([0.0 if name in weights else share for name, share in zip(names, p, strict=True)])
    left = 1 - float(fixed.sum())
    if left < -1e-9 or (left > 1e-9 and not others.sum() > 0):
        raise UsageError(
            f"--weight: add up to {fixed.sum():g}, which leaves {left:g} to the other sources; "
            "give less, or any scale with --rest none"
        )
    return fixed if left <= 1e-9 else fixed + left * proportions(others)


def capped(p: np.ndarray, caps: np.ndarray) -> np.ndarray:
    """Proportions of which none is above its cap: what is cut off goes to the others, in their proportions.

    Water-filling: min(cap, c p) with the c at which they add up to 1.

    Raises
    ------
    InputError : the caps of the sources with a proportion do not add up to 1.
    """
    if (p <= caps).all():
        return p
    room = float(caps[p > 0].sum())
    if room < 1 - 1e-12:
        raise InputError(f"the sources that have a weight are enough for {100 * room:.3g}% of the budget only")
    found = np.zeros(len(p))
    open_ = (p > 0) & (caps > 0)
    cap = caps[open_]
    found[open_] = cap * inclusion(np.log(p[open_]) - np.log(cap), min(1.0, float(cap.sum())), cap)
    return found
