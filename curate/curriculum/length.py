"""From short texts to long ones, as long as a model's predictions stay open: a ladder that its entropy is the gate of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curate.errors import UsageError


@dataclass(frozen=True)
class Decision:
    """What became of an entropy (nats a token; nan: it was none) at a length. ``move``: advance, hold, or stop."""

    length: int
    entropy: float
    move: str
    reason: str


class LengthLadder:
    """The length to train with: it grows when the held-out entropy of the stage before is high enough.

    After each stage `advance` is told the mean entropy per token on held-out texts; at ``min_entropy`` or above the
    next length is taken, else the present one is kept, for good unless ``retry``. (Method of section "length
    curriculum" of a report on on-policy distillation that gives no thresholds: so there is no default.)

    Parameters
    ----------
    lengths : tokens, ascending. min_entropy : nats; a number, or a function of the first entropy that is one.
    retry : try again after a stage that was below. hysteresis : nats above ``min_entropy`` that it then takes.

    Attributes
    ----------
    length : tokens, of the next stage. log : every `Decision` so far. stopped : whether the length stays as it is.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        min_entropy: float | Callable[[float], float],
        *,
        retry: bool = False,
        hysteresis: float = 0.0,
    ) -> None:
        self.lengths = tuple(lengths)
        if not self.lengths or self.lengths[0] < 1 or any(b <= a for a, b in zip(self.lengths, self.lengths[1:])):  # noqa: B905
            raise UsageError(f"lengths {list(lengths)}: must be ascending, from 1 on")
        if not callable(min_entropy) and not math.isfinite(min_entropy):
            raise UsageError(f"min_entropy {min_entropy}: must be a number")
        if not hysteresis >= 0:
            raise UsageError(f"hysteresis {hysteresis}: must be 0 or more")
        self._min_entropy, self.retry, self.hysteresis = min_entropy, retry, float(hysteresis)
        self.min_entropy = None if callable(min_entropy) else float(min_entropy)
        self.log: list[Decision] = []
        self.stopped = len(self.lengths) == 1
        self._at, self._was_below = 0, False

    @property
    def length(self) -> int:
        return self.lengths[self._at]

    def advance(self, entropy: float) -> int:
        """Decide after a stage, given its held-out entropy; returns the length of the next one."""
        move, reason = self._decide(float(entropy))
        self.log.append(Decision(self.length, float(entropy), move, reason))
        self._at += move == "advance"
        return self.length

    def _decide(self, entropy: float) -> tuple[str, str]:
        if not math.isfinite(entropy):
            return "hold", f"the entropy is {entropy}"
        if self.min_entropy is None:
            assert callable(self._min_entropy)
            self.min_entropy = self._min_entropy(entropy)
        if self._at == len(self.lengths) - 1:
            self.stopped = True
            return "stop", "the last length is reached"
        if self.stopped:
            return "stop", "stopped before"
        needed = self.min_entropy + (self.hysteresis if self._was_below else 0.0)
        self._was_below = entropy < needed
        if not self._was_below:
            return "advance", f"{entropy:g} >= {needed:g}"
        self.stopped = not self.retry
        return ("hold" if self.retry else "stop"), f"{entropy:g} < {needed:g}"

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as JSON can hold it."""
        log = [asdict(d) | {"entropy": d.entropy if math.isfinite(d.entropy) else None} for d in self.log]
        state = {"lengths": list(self.lengths), "min_entropy": self.min_entropy, "at": self._at, "log": log}
        return state | {"was_below": self._was_below, "stopped": self.stopped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises
        ------
        UsageError : it is the state of a ladder of other lengths.
        """
        if tuple(state["lengths"]) != self.lengths:
            raise UsageError(f"a state of lengths {state['lengths']}, this ladder has {list(self.lengths)}")
        self.min_entropy, self._at = state["min_entropy"], state["at"]
        self._was_below, self.stopped = state["was_below"], state["stopped"]
        self.log = [
            Decision(**(entry | {"entropy": math.nan if entry["entropy"] is None else entry["entropy"]}))
            for entry in state["log"]
        ]


def fraction_of_first(c: float = 0.5) -> Callable[[float], float]:
    """A ``min_entropy`` of c times the first entropy: a choice of this project, from no paper."""
    if not 0 < c <= 1:
        raise UsageError(f"a fraction of {c}: must be above 0 and at most 1")
    return lambda first: c * first
