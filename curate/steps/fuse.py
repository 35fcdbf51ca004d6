"""Fuse the scores of several scorers into one: exact ranks over the whole corpus, by sorting on disk.

Rows (part, place, group, doc_id, scores, total) are sorted by one score after another; each time what a row's
place in the order is worth is added to its total. At the end they are sorted back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.io.paths import emptied
from curate.io.tables import batches, is_done, numpy, write_table
from curate.scorers import Fusion
from curate.steps.documents import score_schema
from curate.steps.sorting import Sorter, Totals, numbered, read_rows, with_added, with_quantiles, write_rows


@dataclass(frozen=True)
class FuseJob:
    """What fusing needs to know.

    ``parts``: score tables with a column of scores for each scorer; ``out``: where to write, one for each;
    ``key`` names the work; ``scratch``: folder for what is sorted; ``memory_limit``: bytes, for DuckDB.
    """

    model: Fusion
    parts: Sequence[Path]
    out: Sequence[Path]
    carry: Sequence[str]
    key: str
    scratch: Path
    memory_limit: int
    workers: int


def fuse_scores(job: FuseJob, advance: Callable[[int], None] = lambda count: None) -> None:
    """Write score tables with a fused ``score`` beside the ones it was made of.

    Equal scores are ranked by ``doc_id``, then by file and row. ``advance`` is told of every part that is written.

    Raises
    ------
    UsageError : the column to group by has too many values. ResourceError : no room on disk or in memory.
    """
    if all(is_done(path, job.key) for path in job.out):
        return
    with emptied(job.scratch) as scratch:
        rows = scratch / "rows.parquet"
        sorter = Sorter(scratch, job.memory_limit, job.workers)
        _gather(job, rows)
        for i, weight in enumerate(job.model.weights.values()):
            if job.model.fusion == "reciprocal":
                ordered = sorter.sorted(rows, f"grouped, s{i} DESC, doc_id, part, place")
                write_rows(rows, _with_ranks(ordered, weight, job.model.rank_constant))
            else:
                ordered = sorter.sorted(rows, f"grouped, s{i}, part, place")
                write_rows(rows, with_quantiles(ordered, f"s{i}", weight / sum(job.model.weights.values())))
        fused = sorter.sorted(rows, "part, place")
        schema = score_schema([*job.model.columns, *job.model.member_columns], job.carry)
        totals = Totals(fused)
        for part, path in enumerate(job.out):
            tables = _fused(job, part, totals, schema)
            if is_done(path, job.key):
                for _ in tables:  # moves on in the totals
                    pass
            else:
                write_table(path, schema, tables, job.key)
            advance(1)


def _gather(job: FuseJob, rows: Path) -> None:
    """Write the rows of all parts that have every score."""
    groups: dict[str, int] = {}
    columns = job.model.member_columns

    def of() -> Iterator[pa.Table]:
        for part, path in enumerate(job.parts):
            first = 0
            for table in batches(path):
                place = np.arange(first, first + table.num_rows)
                first += table.num_rows
                scores = {f"s{i}": numpy(table[name]) for i, name in enumerate(columns)}
                complete = np.isfinite(np.stack(list(scores.values()))).all(axis=0)
                gathered: dict[str, Any] = {"part": np.full(table.num_rows, part), "place": place}
                gathered |= {"grouped": _grouped(job, table, groups), "doc_id": table["doc_id"], **scores}
                gathered |= {"total": np.zeros(table.num_rows)}
                yield pa.table(gathered).filter(pa.array(complete))

    write_rows(rows, of())


def _grouped(job: FuseJob, table: pa.Table, groups: dict[str, int]) -> np.ndarray:
    """int64[n]: the number of each row's group."""
    if job.model.group is None:
        return np.zeros(table.num_rows, np.int64)
    return numbered(table[job.model.group], groups, f"group={job.model.group}")


def _with_ranks(path: Path, weight: float, constant: float) -> Iterator[pa.Table]:
    """Rows with the reciprocal of their rank in their group added, for rows in the order of the ranks."""
    group, rank = -1, 0
    for table in read_rows(path):
        groups = numpy(table["grouped"])
        if len(groups) and groups[0] != group:
            rank = 0
        place = np.arange(len(groups))
        starts = np.flatnonzero(np.diff(groups, prepend=groups[:1]) != 0)
        since = np.zeros(len(groups), np.int64)
        since[starts] = starts
        since = np.maximum.accumulate(since)
        ranks = place - since + 1 + np.where(since == 0, rank, 0)
        group, rank = groups[-1], int(ranks[-1])
        yield with_added(table, weight / (constant + ranks))


def _fused(job: FuseJob, part: int, totals: Totals, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of one part, with their fused score, or with why there is none."""
    first = 0
    for table in batches(job.parts[part]):
        fused = totals.take(part, first, first + table.num_rows)
        first += table.num_rows
        reason = table["reason"].to_pylist()
        for column, name in zip(job.model.member_columns, job.model.members, strict=True):
            missing = np.isnan(numpy(table[column]))
            for i in np.flatnonzero(missing):
                reason[i] = reason[i] or f"no_score_{name}"
        columns = {name: table[name] for name in table.column_names}
        columns |= {"score": pa.array(fused, mask=np.isnan(fused)), "reason": pa.array(reason, pa.string())}
        yield pa.table([columns[name] for name in schema.names], schema=schema)
