"""Draw: which documents of the score table the budget buys, by streaming passes over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engines import LocalEngine
from curate.errors import InputError, UsageError, unknown
from curate.io.tables import batches, count_rows, numpy, write_table
from curate.metrics.weights import LengthHistogram, ScoreMoments
from curate.sampling.budget import Budget
from curate.sampling.cut import NONE, Cut, Ranked, descending, find_cuts
from curate.sampling.draws import DRAWS
from curate.sampling.noise import TIE, keyed_hashes

MAX_GROUPS = 1_000
OTHER = "(other)"
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

    def __post_init__(self) -> None:
        if self.draw not in DRAWS:
            raise unknown("draw", self.draw, DRAWS)
        if (self.draw == "threshold") != (self.threshold is not None):
            raise UsageError("draw 'threshold' and --threshold go together")
        if self.budget is None and self.draw != "threshold":
            raise UsageError("no budget: how much is to be selected?")
        if self.proportions and not self.per:
            raise UsageError("proportions need a column to go by: --per COLUMN")
        if self.proportions and (min(self.proportions.values()) < 0 or sum(self.proportions.values()) <= 0):
            raise UsageError("proportions must be non-negative and not all 0")


@dataclass(frozen=True)
class ScoreTable:
    """The files of a score table: one a partition, in order."""

    parts: tuple[Path, ...]
    score_columns: tuple[str, ...]
    carry: tuple[str, ...]
    target_proportions: tuple[float, ...]


@dataclass
class Statistics:
    """What one pass over a score table finds; merged in the order of the partitions."""

    moments: list[ScoreMoments]
    lengths: LengthHistogram = field(default_factory=LengthHistogram)
    n_documents: int = 0
    n_bytes: int = 0
    n_tokens: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)  # documents, bytes, tokens by value of `per`
    sources: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def n_eligible(self) -> int:
        return self.moments[0].n

    def merge(self, other: Statistics) -> None:
        self.moments = [a.merge(b) for a, b in zip(self.moments, other.moments, strict=True)]
        self.lengths.merge(other.lengths)
        self.n_documents += other.n_documents
        self.n_bytes += other.n_bytes
        self.n_tokens += other.n_tokens
        for name, count in other.reasons.items():
            self.reasons[name] = self.reasons.get(name, 0) + count
        for mine, theirs in ((self.groups, other.groups), (self.sources, other.sources)):
            for value, sizes in theirs.items():
                add_sizes(mine, value, sizes)
        if len(self.groups) > MAX_GROUPS:
            raise UsageError(f"--per: the column has over {MAX_GROUPS:,} different values; take a coarser one")


def add_sizes(totals: dict[str, dict[str, int]], value: str, sizes: Mapping[str, int]) -> None:
    """Add documents, bytes and tokens to those of a value."""
    if value not in totals and len(totals) > MAX_GROUPS:
        value = OTHER  # such as a source that is a URL: of no use in a table, and without limit
    into = totals.setdefault(value, {"documents": 0, "bytes": 0, "tokens": 0})
    for unit, size in sizes.items():
        into[unit] += size


def sizes_by(table: pa.Table, column: str) -> dict[str, dict[str, int]]:
    """Documents, bytes and tokens of each value of a column, in the order of the values."""
    grouped = (
        pa.table(
            {
                "value": pc.fill_null(table[column].cast(pa.large_string()), ""),
                "n_bytes": table["n_bytes"],
                "n_tokens": table["n_tokens"],
            }
        )
        .group_by("value", use_threads=False)
        .aggregate([("n_bytes", "count"), ("n_bytes", "sum"), ("n_tokens", "sum")])
        .sort_by("value")
    )
    names = ("n_bytes_count", "n_bytes_sum", "n_tokens_sum")
    values = zip(grouped["value"].to_pylist(), *(grouped[n].to_pylist() for n in names), strict=True)
    return {v: {"documents": d, "bytes": b, "tokens": t} for v, d, b, t in values}


def statistics(table: ScoreTable, engine: LocalEngine, per: str | None) -> Statistics:
    """Moments, lengths, reasons and sizes of the whole score table."""
    source = "source" if "source" in table.carry else None
    needed = dict.fromkeys([*table.score_columns, "n_tokens", "n_bytes", "reason", *(c for c in (per, source) if c)])

    def of(part: Path) -> Statistics:
        found = Statistics([ScoreMoments() for _ in table.score_columns])
        for rows in batches(part, list(needed)):
            found.merge(_statistics(rows, table.score_columns, per, source))
        return found

    total = Statistics([ScoreMoments() for _ in table.score_columns])
    for found in engine.ordered(of, table.parts):
        total.merge(found)
    return total


def _statistics(rows: pa.Table, score_columns: Sequence[str], per: str | None, source: str | None) -> Statistics:
    lengths = numpy(rows["n_tokens"])
    moments = []
    for name in score_columns:
        scores = numpy(rows[name])
        there = ~np.isnan(scores)
        moments.append(ScoreMoments.of(scores[there], lengths[there]))
    found = Statistics(moments, n_documents=rows.num_rows)
    found.lengths.add(lengths)
    found.n_bytes, found.n_tokens = int(numpy(rows["n_bytes"]).sum()), int(lengths.sum())
    reasons = rows["reason"].drop_null().value_counts()
    found.reasons = {item["values"].as_py(): item["counts"].as_py() for item in reasons}
    if per:
        found.groups = sizes_by(rows, per)
    if source:
        found.sources = found.groups if per == source else sizes_by(rows, source)
    return found


@dataclass(frozen=True)
class Decision:
    """Which documents are kept: a cut for each target, in the order they are served, and each group."""

    table: ScoreTable
    spec: DrawSpec
    groups: tuple[str, ...]
    cuts: tuple[dict[int, Cut], ...]  # one a target so far

    @property
    def columns(self) -> list[str]:
        """Columns of the score table that it takes to decide."""
        size = self.spec.budget.size_column if self.spec.budget else None
        needed = ["doc_id", *self.table.score_columns, *(c for c in (size, self.spec.per) if c)]
        return list(dict.fromkeys(needed))

    def targets(self, part: int, rows: pa.Table, first: int) -> np.ndarray:
        """int64[n]: the target that a document was kept for, -1 when it was not."""
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
        keys = DRAWS[self.spec.draw](scores, ids, self.spec.seed + target)
        taking_part = ~np.isnan(keys) & (chosen < 0)
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


def draw_table(table: ScoreTable, spec: DrawSpec, found: Statistics, engine: LocalEngine) -> Decision:
    """Find what is kept.

    Raises
    ------
    InputError : nothing would be selected.
    """
    if not found.n_eligible:
        raise InputError(nothing_eligible(found))
    groups = tuple(sorted(found.groups)) if spec.per else ("",)
    if spec.proportions:
        for name in spec.proportions:
            if name not in groups:
                raise unknown(f"value of column {spec.per!r}", name, groups)
    decision = Decision(table, spec, groups, ())
    for target, total in enumerate(_shared(spec, found, table.target_proportions)):
        budgets = _budgets(spec, found, groups, total)
        parts = range(len(table.parts))

        def passes(now: Decision = decision, target: int = target, parts: range = parts) -> Iterator[Ranked]:
            for _, ranked in engine.each(lambda part: list(now.ranked(part, target)), parts):
                yield from ranked

        cuts = find_cuts(passes, budgets)
        decision = Decision(table, spec, groups, (*decision.cuts, cuts))
    if all(cut == NONE or (cut.place < 0 and cut.order == 0) for cuts in decision.cuts for cut in cuts.values()):
        raise InputError(f"nothing selected: the budget ({spec.budget}) is smaller than the best document")
    return decision


def nothing_eligible(found: Statistics) -> str:
    """Why no document has a score."""
    why = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(found.reasons.items()))
    return (
        f"nothing selected: none of {found.n_documents:,} documents has a score ({why or 'there are none'}); "
        "lower --set min_tokens, or check --text-column"
    )


def _shared(spec: DrawSpec, found: Statistics, proportions: Sequence[float]) -> list[int]:
    """The budget of each target; without one, all there is."""
    if spec.budget is None:
        return [np.iinfo(np.int64).max] * len(proportions)
    return split(spec.budget.total(found.n_documents), proportions)


def split(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to ``shares`` that add up to ``total``."""
    ends = np.cumsum(np.array(shares, float)) / sum(shares) * total
    return np.diff(np.floor(ends + 1e-6), prepend=0).astype(np.int64).tolist()


def _budgets(spec: DrawSpec, found: Statistics, groups: Sequence[str], total: int) -> dict[int, int]:
    """The budget of each group for one target: in proportion, by default to the groups' sizes in raw."""
    if spec.budget is None or not spec.per:
        return dict.fromkeys(range(len(groups)), total)
    unit = {"n_bytes": "bytes", "n_tokens": "tokens"}.get(spec.budget.size_column or "", "documents")
    given = spec.proportions or {name: found.groups[name][unit] for name in groups}
    return dict(enumerate(split(total, [given.get(name, 0) for name in groups])))


LEDGER = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("path", pa.dictionary(pa.int32(), pa.large_string())),
        ("row", pa.int64()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("weight", pa.float64()),
    ]
)


def ledger_schema(table: ScoreTable) -> pa.Schema:
    """Columns of the ledger; with separate targets also the one a document was kept for."""
    return LEDGER.append(pa.field("target", pa.string())) if len(table.score_columns) > 1 else LEDGER


def chosen_scores(table: ScoreTable, rows: pa.Table, chosen: np.ndarray) -> np.ndarray:
    """The score for the target that a document was kept for; its best one when it was not kept."""
    scores = np.stack([numpy(rows[name]) for name in table.score_columns], axis=1)
    best = np.where(np.isnan(scores).all(axis=1), np.nan, scores.max(axis=1))
    return np.where(chosen >= 0, scores[np.arange(len(scores)), np.maximum(chosen, 0)], best)


def write_ledger(path: Path, decision: Decision, weight: float) -> int:
    """One row a document, with why it was kept or not; returns how many rows."""
    table = decision.table
    names = np.array([n.removeprefix("score_") for n in table.score_columns], object)

    def rows() -> Iterator[pa.Table]:
        for part, file in enumerate(table.parts):
            first = 0
            for scored in batches(file):
                chosen = decision.targets(part, scored, first)
                first += scored.num_rows
                yield _ledger_rows(decision, scored, chosen, weight, names)

    return write_table(path, ledger_schema(table), rows())


def _ledger_rows(
    decision: Decision, scored: pa.Table, chosen: np.ndarray, weight: float, names: np.ndarray
) -> pa.Table:
    kept = chosen >= 0
    below = "below_threshold" if decision.spec.draw == "threshold" else "not_drawn"
    reason = pc.if_else(pa.array(kept), pa.scalar("kept"), pc.fill_null(scored["reason"], below))
    scores = chosen_scores(decision.table, scored, chosen)
    columns: dict[str, Any] = {name: scored[name] for name in ("doc_id", "path", "row")}
    columns |= {"kept": kept, "reason": reason, "score": pa.array(scores, mask=np.isnan(scores))}
    columns |= {"weight": np.where(kept, weight, 0.0)}
    schema = ledger_schema(decision.table)
    if "target" in schema.names:
        columns["target"] = pa.array(np.where(kept, names[np.maximum(chosen, 0)], None), pa.string())
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


_IDS_AT_ONCE = 20_000_000


def duplicate_ids(table: ScoreTable, engine: LocalEngine) -> int:
    """How many documents have an id that an earlier one has too."""
    total = sum(count_rows(part) for part in table.parts)
    slices = max(1, -(-total // _IDS_AT_ONCE))
    unique = 0
    for i in range(slices):

        def hashes(part: Path, i: int = i) -> np.ndarray:
            found = [keyed_hashes(rows["doc_id"], 0, TIE) for rows in batches(part, ["doc_id"])]
            mine = [h[(h >> np.uint64(32)) % np.uint64(slices) == i] if slices > 1 else h for h in found]
            return np.concatenate([np.zeros(0, np.uint64), *mine])

        ordered = np.sort(np.concatenate([np.zeros(0, np.uint64), *engine.map(hashes, table.parts)]))
        unique += int((ordered[1:] != ordered[:-1]).sum()) + bool(len(ordered))
    return total - unique
