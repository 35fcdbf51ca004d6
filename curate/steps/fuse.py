"""Fuse the scores of several scorers into one: exact ranks over the whole corpus, by sorting on disk.

Rows (part, place, group, doc_id, scores, total) are sorted by one score after another; each time what a row's
place in the order is worth is added to its total. At the end they are sorted back. DuckDB sorts, and spills what
does not fit; what is between two sorts is a file that is read from its beginning to its end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ResourceError, UsageError
from curate.io.tables import batches, is_done, numpy, write_table
from curate.scorers import Fusion
from curate.steps.documents import score_schema
from curate.steps.scoretable import MAX_GROUPS

ROWS_AT_ONCE = 100_000


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
    shutil.rmtree(job.scratch, ignore_errors=True)
    job.scratch.mkdir(parents=True)
    try:
        rows = job.scratch / "rows.parquet"
        _gather(job, rows)
        for i, weight in enumerate(job.model.weights.values()):
            if job.model.fusion == "reciprocal":
                ordered = _sorted(job, rows, f"grouped, s{i} DESC, doc_id, part, place")
                _write_rows(rows, _with_ranks(ordered, weight, job.model.rank_constant))
            else:
                ordered = _sorted(job, rows, f"grouped, s{i}, part, place")
                _write_rows(rows, _with_quantiles(ordered, f"s{i}", weight / sum(job.model.weights.values())))
        fused = _sorted(job, rows, "part, place")
        schema = score_schema([*job.model.columns, *job.model.member_columns], job.carry)
        totals = _Totals(fused)
        for part, path in enumerate(job.out):
            tables = _fused(job, part, totals, schema)
            if is_done(path, job.key):
                for _ in tables:  # moves on in the totals
                    pass
            else:
                write_table(path, schema, tables, job.key)
            advance(1)
    finally:
        shutil.rmtree(job.scratch, ignore_errors=True)


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

    _write_rows(rows, of())


def _grouped(job: FuseJob, table: pa.Table, groups: dict[str, int]) -> np.ndarray:
    """int64[n]: the number of each row's group."""
    if job.model.group is None:
        return np.zeros(table.num_rows, np.int64)
    encoded = table[job.model.group].cast(pa.large_string()).combine_chunks().dictionary_encode("encode")
    numbers = [groups.setdefault(value or "", len(groups)) for value in encoded.dictionary.to_pylist()]
    if len(groups) > MAX_GROUPS:
        raise UsageError(f"group={job.model.group}: the column has over {MAX_GROUPS:,} different values")
    return np.array(numbers, np.int64)[encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)]


def _write_rows(path: Path, tables: Iterator[pa.Table]) -> None:
    """Write rows to a file that `_sorted` reads; what was there may be what the rows are made of."""
    part = path.with_suffix(".new")
    writer = None
    for table in tables:
        writer = writer or pq.ParquetWriter(part, table.schema, compression="lz4", use_dictionary=False)
        writer.write_table(table)
    if writer is None:
        path.unlink(missing_ok=True)
        return
    writer.close()
    part.replace(path)


def _sorted(job: FuseJob, rows: Path, order: str) -> Path:
    """A file with the same rows in an order."""
    import duckdb

    to = rows.with_name("sorted.parquet")
    to.unlink(missing_ok=True)
    if not rows.exists():
        return to
    with duckdb.connect() as con:
        con.execute(f"SET memory_limit = '{max(100, job.memory_limit // 1_000_000)}MB'")
        con.execute(f"SET temp_directory = '{_quoted(job.scratch)}'")
        con.execute(f"SET threads = {job.workers}")
        try:
            # without can_have_nan DuckDB would take files of Arrow's to have none (duckdb issue 25521)
            con.execute(
                f"COPY (SELECT * FROM read_parquet('{_quoted(rows)}', can_have_nan = true) ORDER BY {order}) "
                f"TO '{_quoted(to)}' (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {ROWS_AT_ONCE})"
            )
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise ResourceError(
                f"{job.scratch}: scores could not be sorted ({error}); free some disk, or raise --memory-limit, and "
                "run the same command again: what is scored is kept"
            ) from error
    return to


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _read(path: Path) -> Iterator[pa.Table]:
    if path.exists():
        yield from batches(path)


def _added(table: pa.Table, values: np.ndarray) -> pa.Table:
    total = numpy(table["total"]) + values
    return table.set_column(table.column_names.index("total"), "total", pa.array(total))


def _with_ranks(path: Path, weight: float, constant: float) -> Iterator[pa.Table]:
    """Rows with the reciprocal of their rank in their group added, for rows in the order of the ranks."""
    group, rank = -1, 0
    for table in _read(path):
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
        yield _added(table, weight / (constant + ranks))


def _with_quantiles(path: Path, column: str, weight: float) -> Iterator[pa.Table]:
    """Rows with their mid-rank quantile in their group added, for rows in the order of the scores."""
    runs, sizes = path.with_suffix(".runs"), _write_runs(path, column)
    group, below_group = -1, 0
    start = 0  # of the run that goes on, rows from the beginning of all
    equal = 0
    with open(runs, "rb") as lengths:
        for table, begins in _with_beginnings(path, column):
            groups = numpy(table["grouped"])
            of_run = np.cumsum(begins)  # 0: the run that came in
            new = np.fromfile(lengths, np.int64, int(of_run[-1]))
            all_lengths = np.concatenate([[equal], new])
            all_starts = start + np.concatenate([[0], np.cumsum(all_lengths[:-1])])
            changed = np.flatnonzero(np.diff(groups, prepend=group) != 0)
            group_starts = np.full(len(groups), below_group)
            for at in changed:
                group_starts[at:] = all_starts[of_run[at]]
            below = all_starts[of_run] - group_starts
            quantiles = (below + all_lengths[of_run] / 2) / np.array(list(sizes.values()))[_place_of(sizes, groups)]
            start, equal = int(all_starts[-1]), int(all_lengths[-1])
            group, below_group = groups[-1], int(group_starts[-1])
            yield _added(table, weight * quantiles)


def _place_of(sizes: dict[int, int], groups: np.ndarray) -> np.ndarray:
    """Where each group is among the ascending keys of ``sizes``."""
    return np.searchsorted(np.fromiter(sizes, np.int64), groups)


def _with_beginnings(path: Path, column: str) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Tables, and which rows begin a run of equal scores in one group."""
    before: tuple[int, float] | None = None
    for table in _read(path):
        groups, scores = numpy(table["grouped"]), numpy(table[column])
        begins = np.ones(len(scores), bool)
        begins[1:] = (np.diff(groups) != 0) | (scores[1:] != scores[:-1])
        if before is not None:
            begins[0] = (groups[0], scores[0]) != before
        before = (groups[-1], scores[-1])
        yield table, begins


def _write_runs(path: Path, column: str) -> dict[int, int]:
    """Write how long each run of equal scores is beside a sorted file; returns the rows of each group, ascending."""
    sizes: dict[int, int] = {}
    left = 0  # rows of the run that goes on
    with open(path.with_suffix(".runs"), "wb") as lengths:
        for table, begins in _with_beginnings(path, column):
            for group, count in zip(*np.unique(numpy(table["grouped"]), return_counts=True), strict=True):
                sizes[int(group)] = sizes.get(int(group), 0) + int(count)
            ends = np.flatnonzero(begins)
            if not len(ends):
                left += len(begins)
                continue
            ended = np.diff(ends, prepend=ends[0])
            ended[0] = left + ends[0]
            (ended if left + ends[0] else ended[1:]).astype(np.int64).tofile(lengths)
            left = len(begins) - int(ends[-1])
        np.array([left], np.int64).tofile(lengths)
    return sizes


class _Totals:
    """The totals of rows in the order of parts and places, taken part by part."""

    def __init__(self, path: Path) -> None:
        self._tables = _read(path)
        self._parts = self._places = np.zeros(0, np.int64)
        self._totals = np.zeros(0)

    def take(self, part: int, first: int, stop: int) -> np.ndarray:
        """float64[stop - first] of places of a part; nan where there is no total."""
        out = np.full(stop - first, np.nan)
        while True:
            mine = (self._parts == part) & (self._places < stop)
            out[self._places[mine] - first] = self._totals[mine]
            n = int(mine.sum())
            self._parts, self._places, self._totals = self._parts[n:], self._places[n:], self._totals[n:]
            if len(self._parts) or (table := next(self._tables, None)) is None:
                return out
            self._parts, self._places, self._totals = (numpy(table[name]) for name in ("part", "place", "total"))


def _fused(job: FuseJob, part: int, totals: _Totals, schema: pa.Schema) -> Iterator[pa.Table]:
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
