"""Queries over files that are larger than memory: DuckDB reads Parquet, sorts and joins on disk, writes Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.errors import ResourceError
from curate.io.paths import atomic
from curate.io.tables import batches

if TYPE_CHECKING:
    import duckdb

ROWS_AT_ONCE = 100_000
LEAST_MB = 100  # that DuckDB sorts with


class Tables:
    """Tables of a folder: ``name`` is the file ``name.parquet``.

    Parameters
    ----------
    folder : of the tables, and for what does not fit into memory.
    memory_limit : bytes, for a query. workers : threads.
    """

    def __init__(self, folder: Path, memory_limit: int, workers: int) -> None:
        self.folder, self.memory_limit, self.workers = folder, memory_limit, workers
        self._connection: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Within this queries can be made: to connect takes 13 ms, a query of few rows 1 ms."""
        import duckdb

        settings: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "memory_limit": f"{max(LEAST_MB, self.memory_limit // 1_000_000)}MB",
            "temp_directory": str(self.folder / "spilled"),
            "threads": self.workers,
            "preserve_insertion_order": False,  # what has no order is spilled; ORDER BY holds all the same
        }
        with duckdb.connect(config=settings) as self._connection:
            try:
                yield
            finally:
                self._connection = None

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def scan(self, *names: str, numbered: bool = False) -> str:
        """What to write after FROM for the rows of tables; ``numbered``: with ``file_row_number``."""
        return scan([self.path(name) for name in names], numbered=numbered)

    def write(self, name: str, query: str) -> None:
        """Make a table of the rows of a query, in its order where it has one.

        Raises
        ------
        ResourceError : memory or disk does not suffice.
        """
        import duckdb

        assert self._connection, "not connected"
        with atomic(self.path(name)) as part:
            try:
                self._connection.execute(
                    f"COPY ({query}) TO {quoted(part)} (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {ROWS_AT_ONCE})"
                )
            except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
                raise ResourceError(
                    f"{self.folder}: duplicates could not be joined ({str(error).splitlines()[0]}); free some disk, or "
                    "raise --memory-limit, and run the same command again"
                ) from error

    def read(self, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """A table's rows, some at a time."""
        yield from batches(self.path(name), columns)


def scan(paths: Sequence[Path], *, numbered: bool = False) -> str:
    """What to write after FROM for the rows of Parquet files; ``numbered``: with ``file_row_number``."""
    files = ", ".join(quoted(path) for path in paths)
    # without can_have_nan DuckDB would take files of Arrow's to have none (duckdb issue 25521)
    return f"read_parquet([{files}], can_have_nan = true, file_row_number = {str(numbered).lower()})"


def quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
