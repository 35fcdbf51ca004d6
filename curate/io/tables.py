"""Arrow tables in files: rows regrouped so that bytes do not depend on batches, and a key that names the work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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


def write_table(
    path: Path, schema: pa.Schema, tables: Iterable[pa.Table], key: str = "", unique: Sequence[str] = UNIQUE
) -> int:
    """Write rows to Parquet, whole or not at all; returns how many. ``key`` names the work that made them."""
    rows = 0
    if key:
        schema = schema.with_metadata({KEY: key.encode()})
    repeating = [f.name for f in schema if f.name not in unique and not pa.types.is_floating(f.type)]
    options = {"compression": "zstd", "compression_level": 1, "use_dictionary": repeating}
    with atomic(path) as part, pq.ParquetWriter(part, schema, **options) as writer:
        for table in regrouped(tables):
            writer.write_table(table.combine_chunks().cast(schema), row_group_size=GROUP_ROWS)
            rows += table.num_rows
    return rows


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
