"""Does the selection beat its controls? Differences with their intervals, and the answer in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# At 95% a random selection would be called better or worse once in twenty times; it is to be rarer than that.
LEVEL = 0.99
# Two-sided quantiles of Student's t at that level by degrees of freedom (here, so that SciPy need not be there).
STUDENT = (
    63.6567, 9.9248, 5.8409, 4.6041, 4.0321, 3.7074, 3.4995, 3.3554, 3.2498, 3.1693,
    3.1058, 3.0545, 3.0123, 2.9768, 2.9467, 2.9208, 2.8982, 2.8784, 2.8609, 2.8453,
    2.8314, 2.8188, 2.8073, 2.7969, 2.7874, 2.7787, 2.7707, 2.7633, 2.7564, 2.7500,
)  # fmt: skip
VERDICTS = ("better", "no better", "worse")


@dataclass(frozen=True)
class Costs:
    """What one arm's samples make of the held-out texts of each target.

    ``bytes_by_target``: for each target float64[n_samples, n_texts], the bytes that a text costs; ``sizes``: for
    each target int64[n_texts], the bytes that it has.
    """

    bytes_by_target: tuple[np.ndarray, ...]
    sizes: tuple[np.ndarray, ...]

    @property
    def by_sample(self) -> np.ndarray:
        """float64[n_samples, n_targets]: bits per byte of all texts of a target together."""
        return np.stack(
            [8 * costs.sum(axis=1) / n.sum() for costs, n in zip(self.bytes_by_target, self.sizes, strict=True)],
            axis=1,
        )

    @property
    def bits_per_byte(self) -> float:
        """The mean over samples and targets."""
        return float(self.by_sample.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation from sample to sample of the mean over targets; 0 for a single sample."""
        means = self.by_sample.mean(axis=1)
        return float(means.std(ddof=1)) if len(means) > 1 else 0.0

    def of_target(self, i: int) -> Costs:
        """The same for one of the targets."""
        return Costs((self.bytes_by_target[i],), (self.sizes[i],))


@dataclass(frozen=True)
class Difference:
    """Bits per byte of one arm less those of another: negative is better.

    ``wins``: the share of held-out texts that cost less, equal ones as half, the mean over targets.
    """

    difference: float
    low: float
    high: float
    wins: float

    @property
    def verdict(self) -> str:
        """ "better" or "worse" where the interval leaves out 0, else "no better"."""
        return "better" if self.high < 0 else "worse" if self.low > 0 else "no better"


def student(degrees: int) -> float:
    """The two-sided 99% quantile of Student's t; above 30 degrees that of 30, a little too wide."""
    return STUDENT[min(degrees, len(STUDENT)) - 1]


def difference(arm: Costs, control: Costs, chance: Costs | None = None) -> Difference:
    """Compare an arm with a control, as ONE draw with many.

    ``chance``: whose spread says how far draws lie apart, by default the control's; of a control that is always the
    same documents, as the top-k is, that must be random's.

    Two things could have come out otherwise. The arm is one draw: however many samples of it are looked at, it
    lies as far from the mean of the K draws of the control as a further draw would, within
    ``t(K - 1) sd sqrt(1 + 1/K)`` (the prediction interval of a normal sample). And the held-out texts are a
    sample of what is wanted: the jackknife over texts (in its linear form, for a ratio) of the difference gives
    that error. The interval has both, as the root of the sum of the squares of the half-widths. For a selection
    that is itself a random draw the first part alone is exact, so together they are wrong less often.
    """
    chance = control if chance is None else chance
    n = len(chance.by_sample)
    found = arm.bits_per_byte - control.bits_per_byte
    by_draw = student(n - 1) * chance.deviation * math.sqrt(1 + 1 / n) if n > 1 else 0.0
    by_text, wins = [], []
    for mine, theirs, sizes in zip(arm.bytes_by_target, control.bytes_by_target, arm.sizes, strict=True):
        saved = 8 * (mine.mean(axis=0) - theirs.mean(axis=0))
        total, n_texts = sizes.sum(), len(sizes)
        rest = saved - sizes * (saved.sum() / total)
        variance = n_texts / (n_texts - 1) * float((rest**2).sum()) / float(total) ** 2
        by_text.append(student(n_texts - 1) * math.sqrt(variance))
        wins.append(float(((saved < 0) + 0.5 * (saved == 0)).mean()))
    half = math.hypot(by_draw, math.hypot(*by_text) / len(by_text))
    return Difference(found, found - half, found + half, float(np.mean(wins)))


def against(costs: Mapping[str, Costs], arm: str) -> Difference:
    """The selection less one of its controls."""
    return difference(costs["selected"], costs[arm], costs["random"] if arm == "top-k" else None)


def sentence(costs: Mapping[str, Costs], targets: Sequence[str]) -> str:
    """The verdict on the selection in one sentence, with its figures."""
    selected, random = costs["selected"], costs["random"]
    found = difference(selected, random)
    of = targets[0] if len(targets) == 1 else f"{', '.join(targets[:-1])} and {targets[-1]} (mean)"
    text = (
        f"{found.verdict.capitalize()} than random: {selected.bits_per_byte:.3f} against {random.bits_per_byte:.3f} "
        f"bits per byte of the held-out {of} ({found.difference:+.3f}, {LEVEL:.0%} interval {found.low:+.3f} to "
        f"{found.high:+.3f})"
    )
    if found.verdict == "better":
        text += _against_the_others(costs)
    return text + "."


_OTHERS = {
    "length-matched": ("length-matched random", "lengths"),
    "source-stratified": ("source-stratified random", "sources"),
    "top-k": ("the top-k of the same scores", None),
}
AS_WELL = 0.75  # of the gain over random, for a control that is not clearly beaten


def _against_the_others(costs: Mapping[str, Costs]) -> str:
    """How the other controls do, for a selection that is better than random."""
    beaten = [name for arm, (name, _) in _OTHERS.items() if arm in costs and against(costs, arm).verdict == "better"]
    others = [_unbeaten(costs, arm) for arm, (name, _) in _OTHERS.items() if arm in costs and name not in beaten]
    text = f"; better than {' and '.join(beaten)} too" if beaten else ""
    return text + (f"; but {', and '.join(others)}" if others else "")


def _unbeaten(costs: Mapping[str, Costs], arm: str) -> str:
    """What is to be said of a control that the selection is not better than."""
    name, choice = _OTHERS[arm]
    selected, random, control = (costs[of].bits_per_byte for of in ("selected", "random", arm))
    better = against(costs, arm).verdict == "worse"
    if not better and random - control < AS_WELL * (random - selected):
        return f"{name} is not clearly beaten ({control:.3f})"
    text = f"{name} does {'better' if better else 'as well'} ({control:.3f})"
    return f"{text}: what it gains is its choice of {choice}" if choice else text
