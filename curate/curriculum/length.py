"""From short texts to long ones while a model's predictions stay open: a ladder whose gate is held-out entropy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from curate.errors import UsageError


@dataclass(frozen=True)
class FractionOfFirst:
    """An entropy that is ``fraction`` of the first one that the ladder is told; see `fraction_of_first`."""

    fraction: float


def fraction_of_first(fraction: float = 0.5) -> FractionOfFirst:
    """A ``min_entropy`` for those who have none: a choice of this project, from no paper."""
    if not 0 < fraction <= 1:
        raise UsageError(f"a fraction of {fraction}: must be above 0 and at most 1")
    return FractionOfFirst(fraction)


@dataclass(frozen=True)
class Decision:
    """What became of an entropy (nats a token) that was measured at a length.

    ``move``: "advance" to the next length, "hold" this one and ask again, or "stop": this one from now on.
    """

    length: int
    entropy: float
    move: str
    reason: str


class LengthLadder:
    """The length to train with, which grows while the held-out entropy stays high.

    After each stage `advance` is told the mean entropy per token of held-out texts. At ``min_entropy`` or above the
    next length is taken; below it the length stays as it is: for good, or with ``retry`` until the entropy is back.
    A length curriculum with this gate has been published, its threshold and lengths have not: both are required.

    Parameters
    ----------
    lengths : tokens, ascending. min_entropy : nats, or `fraction_of_first`.
    retry : ask again after a stage that was below. hysteresis : nats above ``min_entropy`` that are needed then.

    Attributes
    ----------
    length : tokens, of the next stage. log : every `Decision`. stopped : whether the length stays from now on.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        min_entropy: float | FractionOfFirst,
        retry: bool = False,
        hysteresis: float = 0.0,
    ) -> None:
        self.lengths = tuple(int(length) for length in lengths)
        if not self.lengths or self.lengths[0] < 1 or any(b <= a for a, b in pairwise(self.lengths)):
            raise UsageError(f"lengths {list(lengths)}: must be ascending, from 1 on")
        if not isinstance(min_entropy, FractionOfFirst) and not math.isfinite(min_entropy):
            raise UsageError(f"min_entropy {min_entropy}: must be a number")
        if not 0 <= hysteresis < math.inf:
            raise UsageError(f"hysteresis {hysteresis}: must be a number from 0 on")
        self.min_entropy, self.retry, self.hysteresis = min_entropy, bool(retry), float(hysteresis)
        self.log: list[Decision] = []
        self.stopped = False
        self._at, self._was_below = 0, False

    @property
    def length(self) -> int:
        return self.lengths[self._at]

    def advance(self, entropy: float) -> int:
        """Decide after a stage by its held-out entropy; returns the length of the next one. What is no number holds."""
        length = self.length
        move, reason = self._decide(float(entropy))
        self.log.append(Decision(length, float(entropy), move, reason))
        return self.length

    def _decide(self, entropy: float) -> tuple[str, str]:
        if self.stopped:
            return "stop", "stopped before"
        if not math.isfinite(entropy):
            return "hold", f"an entropy of {entropy} says nothing"
        if isinstance(self.min_entropy, FractionOfFirst):
            self.min_entropy = self.min_entropy.fraction * entropy
        if self._at == len(self.lengths) - 1:
            self.stopped = True
            return "stop", "this is the last length"
        needed = self.min_entropy + self.hysteresis * self._was_below
        if entropy >= needed:
            self._was_below = False
            self._at += 1
            return "advance", f"entropy {entropy:g} is {needed:g} or more"
        self._was_below, self.stopped = True, not self.retry
        return "hold" if self.retry else "stop", f"entropy {entropy:g} is below {needed:g}"

    def state_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        fraction = self.min_entropy.fraction if isinstance(self.min_entropy, FractionOfFirst) else None
        return {
            "lengths": list(self.lengths),
            "min_entropy": self.min_entropy if fraction is None else None,
            "fraction_of_first": fraction,
            "retry": self.retry,
            "hysteresis": self.hysteresis,
            "at": self._at,
            "was_below": self._was_below,
            "stopped": self.stopped,
            "log": [
                asdict(d) | {"entropy": d.entropy if math.isfinite(d.entropy) else str(d.entropy)} for d in self.log
            ],
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> LengthLadder:
        """The ladder whose `state_dict` this is."""
        fraction = state["fraction_of_first"]
        minimum = state["min_entropy"] if fraction is None else FractionOfFirst(fraction)
        ladder = cls(state["lengths"], minimum, state["retry"], state["hysteresis"])
        ladder._at, ladder._was_below, ladder.stopped = state["at"], state["was_below"], state["stopped"]
        ladder.log = [Decision(**(entry | {"entropy": float(entry["entropy"])})) for entry in state["log"]]
        return ladder
