"""Rows that are sorted on disk, and what a row's place in the order is worth.

DuckDB sorts, and spills what does not fit; what is between two sorts is a file that is read from its beginning to
its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ResourceError, UsageError
from curate.io.tables import batches, numpy
from curate.steps.scoretable import MAX_GROUPS

ROWS_AT_ONCE = 100_000


def numbered(values: Any, groups: dict[str, int], asked: str) -> np.ndarray:
    """int64[n]: the number of each row's group, in the order in which they are first met; ``groups`` is added to.

    Raises
    ------
    UsageError : too many groups; ``asked`` is the option that named the column.
    """
    encoded = values.cast(pa.large_string()).combine_chunks().dictionary_encode("encode")
    numbers = [groups.setdefault(value or "", len(groups)) for value in encoded.dictionary.to_pylist()]
    if len(groups) > MAX_GROUPS:
        raise UsageError(f"{asked}: the column has over {MAX_GROUPS:,} different values; take one with fewer")
    return np.array(numbers, np.int64)[encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)]


def write_rows(path: Path, tables: Iterator[pa.Table]) -> None:
    """Write rows to a file that `Sorter` reads; what was there may be what the rows are made of."""
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


@dataclass(frozen=True)
class Sorter:
    """Sorts rows on disk. ``scratch``: folder for what does not fit; ``memory_limit``: bytes, for DuckDB."""

    scratch: Path
    memory_limit: int
    workers: int

    def sorted(self, rows: Path | Sequence[Path], order: str) -> Path:
        """A file with the same rows in an order; there is none when there are no rows."""
        import duckdb

        to = self.scratch / "sorted.parquet"
        to.unlink(missing_ok=True)
        files = [path for path in ([rows] if isinstance(rows, Path) else rows) if path.exists()]
        if not files:
            return to
        names = ", ".join(f"'{_quoted(path)}'" for path in files)
        with duckdb.connect() as con:
            con.execute(f"SET memory_limit = '{max(100, self.memory_limit // 1_000_000)}MB'")
            con.execute(f"SET temp_directory = '{_quoted(self.scratch)}'")
            con.execute(f"SET threads = {self.workers}")
            try:
                # without can_have_nan DuckDB would take files of Arrow's to have none (duckdb issue 25521)
                con.execute(
                    f"COPY (SELECT * FROM read_parquet([{names}], can_have_nan = true) ORDER BY {order}) "
                    f"TO '{_quoted(to)}' (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {ROWS_AT_ONCE})"
                )
            except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
                raise ResourceError(
                    f"{self.scratch}: scores could not be sorted ({error}); free some disk, or raise --memory-limit, "
                    "and run the same command again: what is scored is kept"
                ) from error
        return to


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def read_rows(path: Path) -> Iterator[pa.Table]:
    if path.exists():
        yield from batches(path)


def with_added(table: pa.Table, values: np.ndarray) -> pa.Table:
    total = numpy(table["total"]) + values
    return table.set_column(table.column_names.index("total"), "total", pa.array(total))


def with_quantiles(path: Path, column: str, weight: float) -> Iterator[pa.Table]:
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
            yield with_added(table, weight * quantiles)


def _place_of(sizes: dict[int, int], groups: np.ndarray) -> np.ndarray:
    """Where each group is among the ascending keys of ``sizes``."""
    return np.searchsorted(np.fromiter(sizes, np.int64), groups)


def _with_beginnings(path: Path, column: str) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Tables, and which rows begin a run of equal scores in one group."""
    before: tuple[int, float] | None = None
    for table in read_rows(path):
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


class Totals:
    """The totals of rows in the order of parts and places, taken part by part."""

    def __init__(self, path: Path) -> None:
        self._tables = read_rows(path)
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
