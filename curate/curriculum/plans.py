"""What becomes of documents by their difficulty: bins that open stage by stage, or the long tail alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.curriculum.pacing import competence, stage_weights
from curate.curriculum.values import Gate
from curate.errors import UsageError, unknown

ORDERS = ("easy-first", "hard-first")
Grouped = tuple[np.ndarray, pa.Array]  # int64[n_docs], -1 for no group, and then the reason


@dataclass(frozen=True)
class Stages:
    """How bins open: ``n_bins`` by quantile of difficulty, over ``n_stages``; see `pacing.competence`."""

    n_bins: int = 10
    n_stages: int = 5
    pacing: str = "root"
    start: float = 0.1
    order: str = "easy-first"

    gate = None
    floor = 0.0

    def __post_init__(self) -> None:
        if self.n_bins < 1:
            raise UsageError(f"--bins {self.n_bins}: must be 1 or more")
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        competence(self.n_stages, self.pacing, self.start)

    def name(self, group: int) -> str:
        return f"bin-{group:0{max(2, len(str(self.n_bins - 1)))}d}"

    def grouped(self, quantile: np.ndarray, difficulty: np.ndarray, passes: np.ndarray, top: float) -> Grouped:
        """The bins of documents."""
        group = np.minimum((quantile * self.n_bins).astype(np.int64), self.n_bins - 1)
        return group, pa.nulls(len(group), pa.string())

    def weights(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(share that is open, weights of groups)`` by stage, of groups with so many documents."""
        opened = competence(self.n_stages, self.pacing, self.start)
        return opened, stage_weights(sizes, opened, reverse=self.order == "hard-first")


@dataclass(frozen=True)
class Tail:
    """The hardest ``share`` of the documents of each group that passes a gate; see `tail.long_tail`.

    ``floor``: share of all documents, the hardest, that is left out as noise.
    """

    share: float
    gate: Gate | None = None
    floor: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"--tail {self.share:g}: must be above 0 and at most 1")
        if not 0 <= self.floor < 1:
            raise UsageError(f"--floor {self.floor:g}: must be from 0 on and below 1")

    def name(self, group: int) -> str:
        return "tail"

    def grouped(self, quantile: np.ndarray, difficulty: np.ndarray, passes: np.ndarray, top: float) -> Grouped:
        """0 for documents in the tail; ``top`` is the difficulty that the floor is."""
        within = 1 - quantile <= self.share + 1e-12  # 1 - quantile is a rank but for its rounding
        why = np.where(passes, np.where(within, "below_floor", "not_in_tail"), "below_gate")
        taken = within & passes & (difficulty <= top)
        return np.where(taken, 0, -1), pa.array(why, pa.string(), mask=taken)

    def weights(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of one stage and one group."""
        return np.ones(1), np.ones((1, len(sizes)))
