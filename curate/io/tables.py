"""Arrow tables in files: rows regrouped so that bytes do not depend on batches, and a key that names the work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import RunError
from curate.io.paths import arrow_source, atomic, is_remote

GROUP_ROWS = 100_000  # rows of a row group in score tables and ledgers
UNIQUE = ("doc_id", "row", "content")  # columns whose values hardly repeat: no dictionaries for them
KEY = b"curate_key"


def regrouped(tables: Iterable[pa.Table], rows: int = GROUP_ROWS) -> Iterator[pa.Table]:
    """The same rows in tables of exactly ``rows``, the last one shorter."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        while count + table.num_rows >= rows:
            take = rows - count
            yield pa.concat_tables([*waiting, table.slice(0, take)])
            table, waiting, count = table.slice(take), [], 0
        if table.num_rows:
            waiting.append(table)
            count += table.num_rows
    if waiting:
        yield pa.concat_tables(waiting)


class TableWriter:
    """A Parquet file that takes rows as they come and appears whole or not at all; its bytes do not depend on batches.

    ``schema``: None: that of the first rows. ``key`` names the work that makes them.
    """

    def __init__(
        self, path: Path, schema: pa.Schema | None = None, key: str = "", unique: Sequence[str] = UNIQUE
    ) -> None:
        self._path, self._schema, self._key, self._unique = path, schema, key, unique
        self._stack = ExitStack()
        self._writer: Any = None
        self._waiting: list[pa.Table] = []
        self._n_waiting = self.rows = 0

    def __enter__(self) -> TableWriter:
        if self._schema is not None:
            self._open(self._schema)
        return self

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        if self._writer is None:
            self._open(table.schema)
        self.rows += table.num_rows
        while self._n_waiting + table.num_rows >= GROUP_ROWS:
            take = GROUP_ROWS - self._n_waiting
            self._waiting.append(table.slice(0, take))
            table = table.slice(take)
            self._flush()
        if table.num_rows:
            self._waiting.append(table)
            self._n_waiting += table.num_rows

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:  # what fails now leaves no part of the file either
            if self._waiting:
                self._flush()

    def _open(self, schema: pa.Schema) -> None:
        if self._key:
            schema = schema.with_metadata({KEY: self._key.encode()})
        self._schema = schema
        repeating = [f.name for f in schema if f.name not in self._unique and not pa.types.is_floating(f.type)]
        options = {"compression": "zstd", "compression_level": 1, "use_dictionary": repeating}
        part = self._stack.enter_context(atomic(self._path))
        self._writer = self._stack.enter_context(pq.ParquetWriter(part, schema, **options))

    def _flush(self) -> None:
        group = pa.concat_tables(self._waiting).combine_chunks().cast(self._schema)
        self._writer.write_table(group, row_group_size=GROUP_ROWS)
        self._waiting, self._n_waiting = [], 0


def write_table(
    path: Path, schema: pa.Schema, tables: Iterable[pa.Table], key: str = "", unique: Sequence[str] = UNIQUE
) -> int:
    """Write rows to Parquet, whole or not at all; returns how many. ``key`` names the work that made them."""
    with TableWriter(path, schema, key, unique) as writer:
        for table in tables:
            writer.add(table)
    return writer.rows


def is_done(path: Path, key: str) -> bool:
    """Whether a file is there and was made by the work of this name."""
    try:
        return key_of(path) == key
    except (OSError, pa.ArrowInvalid):
        return False


@contextmanager
def parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file of a run, which may be at a URL."""
    if not is_remote(path):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
        return
    with arrow_source(path) as source, pq.ParquetFile(source, pre_buffer=False) as file:
        yield file


def schema_of(path: Path) -> pa.Schema:
    """The columns of a Parquet file."""
    with parquet_file(path) as file:
        return file.schema_arrow


def key_of(path: Path) -> str:
    """The name of the work that made a file; empty where none is in it."""
    return _key_in(schema_of(path))


def _key_in(schema: pa.Schema) -> str:
    return (schema.metadata or {}).get(KEY, b"").decode(errors="replace")


def batches(path: Path, columns: list[str] | None = None, key: str = "") -> Iterator[pa.Table]:
    """The row groups of a Parquet file, which the work of the name ``key`` must have made when one is given.

    Raises
    ------
    RunError : it is of other work.
    """
    with parquet_file(path) as file:
        if key and _key_in(file.schema_arrow) != key:
            raise RunError(
                f"{path}: is of other scores than {path.parent}/scores.json says, as another run wrote there late; "
                "delete that scores.json and run the same command again, with --overwrite where the run was finished"
            )
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns, use_threads=False)


def count_rows(path: Path) -> int:
    """Rows of a Parquet file, from its footer."""
    with parquet_file(path) as file:
        return int(file.metadata.num_rows)


def numpy(column: Any) -> Any:
    """A column as a NumPy array; nulls of floats become nan."""
    return column.combine_chunks().to_numpy(zero_copy_only=False)
