"""A decision: which documents of a score table are kept, for which target, with which weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UsageError, unknown
from curate.io.paths import atomic, whole
from curate.io.run import read_json, write_json
from curate.io.tables import batches, numpy
from curate.sampling.budget import Budget
from curate.sampling.cut import Cut, Ranked, descending
from curate.sampling.draws import BY_CHANCE, DRAWS, LISTED, WEIGHTED
from curate.sampling.noise import TIE, keyed_hashes
from curate.sampling.transforms import PLAIN, Weighting, WeightSpec
from curate.steps.scoretable import ScoreTable

_PLACE_BITS = 40  # place = partition << 40 | row of the score table


@dataclass(frozen=True)
class DrawSpec:
    """What to draw. ``per``: a column of the score table whose values each get their part of the budget."""

    budget: Budget | None
    draw: str = "gumbel"
    seed: int = 0
    threshold: float | None = None
    per: str | None = None
    proportions: Mapping[str, float] | None = None
    weights: WeightSpec = PLAIN

    def __post_init__(self) -> None:
        if self.draw not in (*DRAWS, *LISTED):
            raise unknown("draw", self.draw, (*DRAWS, *LISTED))
        if (self.draw == "threshold") != (self.threshold is not None):
            raise UsageError("draw 'threshold' and --threshold go together")
        if self.budget is None and self.draw != "threshold":
            raise UsageError("no budget: how much is to be selected?")
        if self.draw == "cover" and self.per:
            raise UsageError("draw 'cover' spends one budget on all: leave out --per, or take --draw topk or gumbel")
        if self.proportions and not self.per:
            raise UsageError("proportions need a column to go by: --per COLUMN")
        if self.proportions and (min(self.proportions.values()) < 0 or sum(self.proportions.values()) <= 0):
            raise UsageError("proportions must be non-negative and not all 0")
        if not self.weights.is_plain and self.draw not in WEIGHTED:
            raise UsageError(
                f"--draw {self.draw} goes by an order that weights do not change ({self.weights}): "
                f"take one of --draw {', '.join(WEIGHTED)}"
            )
        if self.weights.calibrate and self.draw not in BY_CHANCE:
            raise UsageError(f"--calibrate needs a draw by chances: take one of --draw {', '.join(BY_CHANCE)}")


@dataclass(frozen=True)
class Decision(ABC):
    """Which documents of a score table are kept."""

    table: ScoreTable
    spec: DrawSpec

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of how it was decided, for the warnings."""
        return ()

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Columns of the score table that it takes to decide."""

    @abstractmethod
    def targets(self, part: int, rows: pa.Table, first: int) -> np.ndarray:
        """int64[n]: the target that a document was kept for, -1 when it was not.

        Parameters
        ----------
        part : number of the file of the score table. rows : some of it, with `columns`; ``first``: where they begin.
        """

    def weights(self, part: int, chosen: np.ndarray, first: int) -> np.ndarray:
        """float64[n]: the weight of each document among the kept ones, up to a common factor; 0 when it is not kept.

        ``chosen`` is what `targets` gave for the rows from ``first`` on.
        """
        return (chosen >= 0).astype(np.float64)

    def chances(self, part: int, count: int, first: int) -> np.ndarray | None:
        """float64[count] of the rows from ``first`` on: with which chance each is kept, nan for those without a score.

        None for a draw that does not know.
        """
        return None

    @property
    def summary(self) -> dict[str, Any]:
        """What the draw found out about weights and chances, if it goes by any."""
        return {}


@dataclass(frozen=True)
class Cuts(Decision):
    """Kept is what comes before a cut: one for each target, in the order they are served, and each group."""

    groups: tuple[str, ...]
    cuts: tuple[dict[int, Cut], ...]  # one a target so far
    weighting: Weighting | None = None  # of scores, for a draw by weight

    @property
    def summary(self) -> dict[str, Any]:
        return {"weights": self.weighting.as_dict()} if self.weighting else {}

    @property
    def columns(self) -> list[str]:
        size = self.spec.budget.size_column if self.spec.budget else None
        needed = ["doc_id", *self.table.score_columns, *(c for c in (size, self.spec.per) if c)]
        return list(dict.fromkeys(needed))

    def targets(self, part: int, rows: pa.Table, first: int) -> np.ndarray:
        chosen = np.full(rows.num_rows, -1)
        for target, cuts in enumerate(self.cuts):
            ranked, where = self._ranked(part, rows, first, target, chosen)
            kept = np.zeros(len(where), bool)
            for group, cut in cuts.items():
                kept |= (ranked.group == group) & cut.keeps(ranked)
            chosen[where[kept]] = target
        return chosen

    def ranked(self, part: int, target: int) -> Iterator[Ranked]:
        """Documents of a partition that no earlier target took, for the next one."""
        first = 0
        for rows in batches(self.table.parts[part], self.columns):
            yield self._ranked(part, rows, first, target, self.targets(part, rows, first))[0]
            first += rows.num_rows

    def _ranked(
        self, part: int, rows: pa.Table, first: int, target: int, chosen: np.ndarray
    ) -> tuple[Ranked, np.ndarray]:
        ids = rows["doc_id"]
        scores = numpy(rows[self.table.score_columns[target]])
        log_weights = scores if self.weighting is None else self.weighting.log_weights(scores)
        keys = DRAWS[self.spec.draw](log_weights, ids, self.spec.seed + target)
        taking_part = ~np.isnan(keys) & (log_weights > -np.inf) & (chosen < 0)
        if self.spec.threshold is not None:
            taking_part &= scores >= self.spec.threshold
        where = np.flatnonzero(taking_part)
        column = self.spec.budget.size_column if self.spec.budget else None
        sizes = numpy(rows[column]) if column else np.ones(rows.num_rows, np.int64)
        ranked = Ranked(
            descending(keys[where]),
            keyed_hashes(ids, self.spec.seed, TIE)[where],
            (np.int64(part) << _PLACE_BITS) + first + where,
            sizes[where],
            self._group(rows)[where],
        )
        return ranked, where

    def _group(self, rows: pa.Table) -> np.ndarray:
        if self.spec.per is None:
            return np.zeros(rows.num_rows, np.int64)
        values = pc.fill_null(rows[self.spec.per].cast(pa.large_string()), "")
        at = pc.index_in(values, pa.array(self.groups, pa.large_string()))
        return numpy(pc.fill_null(at, -1)).astype(np.int64)


@dataclass(frozen=True)
class Listed(Decision):
    """Kept is what is listed, in a file for each part of the score table: its places there, targets and weights."""

    folder: Path

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(read_json(self.folder / "listed.json")["notes"])

    @classmethod
    def done(cls, table: ScoreTable, spec: DrawSpec, folder: Path, key: str) -> Listed | None:
        """What was listed in a folder before, when that was work of this name and it is complete."""
        marker = read_json(folder / "listed.json")
        return cls(table, spec, folder) if marker and marker["key"] == key else None

    @classmethod
    def write(
        cls,
        table: ScoreTable,
        spec: DrawSpec,
        folder: Path,
        key: str,
        parts: Iterable[tuple[int, np.ndarray, np.ndarray, np.ndarray]],
        notes: Sequence[str] = (),
    ) -> Listed:
        """List documents. ``key`` names the work.

        Parameters
        ----------
        parts : for each part of the score table that any are kept of: its number, their places int64[n] ascending,
            the targets that they are kept for int64[n], and weights float64[n] up to a common factor.
        notes : see `notes`.
        """
        (folder / "listed.json").unlink(missing_ok=True)
        for path in folder.glob("part-*.npz"):
            path.unlink()
        for part, places, targets, weights in parts:
            with atomic(folder / f"part-{part:05d}.npz") as file, open(file, "wb") as stream:
                np.savez(stream, places=places, targets=targets, weights=weights)
        write_json(folder / "listed.json", {"key": key, "notes": list(notes)})
        return cls(table, spec, folder)

    @property
    def columns(self) -> list[str]:
        return ["doc_id"]

    def targets(self, part: int, rows: pa.Table, first: int) -> np.ndarray:
        return self._of(part, "targets", rows.num_rows, first, -1)

    def weights(self, part: int, chosen: np.ndarray, first: int) -> np.ndarray:
        return self._of(part, "weights", len(chosen), first, 0.0)

    def _of(self, part: int, name: str, count: int, first: int, otherwise: float) -> np.ndarray:
        """An array's values for rows ``first`` to ``first + count``."""
        path = self.folder / f"part-{part:05d}.npz"
        if not path.exists():
            return np.full(count, otherwise)
        with whole(path) as stream, np.load(stream, allow_pickle=False) as arrays:
            places, values = arrays["places"], arrays[name]
        here = slice(*np.searchsorted(places, [first, first + count]))
        found = np.full(count, otherwise, values.dtype)
        found[places[here] - first] = values[here]
        return found


def chosen_scores(table: ScoreTable, rows: pa.Table, chosen: np.ndarray) -> np.ndarray:
    """The score for the target that a document was kept for; its best one when it was not kept."""
    scores = np.stack([numpy(rows[name]) for name in table.score_columns], axis=1)
    best = np.where(np.isnan(scores).all(axis=1), np.nan, scores.max(axis=1))
    return np.where(chosen >= 0, scores[np.arange(len(scores)), np.maximum(chosen, 0)], best)
