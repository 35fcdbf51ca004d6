"""Fuse the scores of several scorers into one: exact ranks over the whole corpus, found by DuckDB on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.errors import unknown
from curate.io.tables import is_done, write_table
from curate.scorers import Fusion
from curate.steps.documents import score_schema

if TYPE_CHECKING:
    import duckdb


def fuse_scores(
    parts: Sequence[Path],
    out: Sequence[Path],
    model: Fusion,
    carry: Sequence[str],
    *,
    key: str,
    scratch: Path,
    memory_limit: int,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Write score tables with a fused ``score`` beside the ones it was made of.

    Equal scores are ranked by ``doc_id``, then by file and row.

    Parameters
    ----------
    parts : score tables with a column of scores for each scorer. out : where to write, one for each part.
    carry : further columns. key : the name of the work. scratch : folder for what does not fit into memory.
    memory_limit : bytes for DuckDB. advance : told of every part that is written.

    Raises
    ------
    UsageError : no such column to group by.
    """
    if all(is_done(path, key) for path in out):
        return
    schema = score_schema([*model.columns, *model.member_columns], carry)
    if model.group is not None and model.group not in schema.names:
        raise unknown("column to group by", model.group, carry)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        with _connect(scratch, memory_limit) as con:
            for part, path in enumerate(parts):
                _load(con, part, path, model)
            _rank(con, model)
            for part, path in enumerate(out):
                if not is_done(path, key):
                    write_table(path, schema, _fused(con, part, parts[part], schema, model), key)
                advance(1)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _connect(folder: Path, memory_limit: int) -> duckdb.DuckDBPyConnection:
    import duckdb

    con = duckdb.connect(str(folder / "fusion.duckdb"))
    con.execute(f"SET memory_limit = '{memory_limit // 1_000_000}MB'")
    con.execute(f"SET temp_directory = '{_quoted(str(folder))}'")
    con.execute("SET preserve_insertion_order = false")
    return con


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _load(con: duckdb.DuckDBPyConnection, part: int, path: Path, model: Fusion) -> None:
    """Add one part's documents and scores to the table ``scores``; the score table has nulls, no nan."""
    columns = [_name(column) for column in model.member_columns]
    scores = ", ".join(f"{column} AS s{i}" for i, column in enumerate(columns))
    complete = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    grouped = f"coalesce(CAST({_name(model.group)} AS VARCHAR), '')" if model.group else "''"
    select = (
        f"SELECT {part} AS part, file_row_number AS place, doc_id, {grouped} AS grouped, {scores} "
        f"FROM read_parquet('{_quoted(str(path))}', file_row_number = true) WHERE {complete}"
    )
    con.execute(f"{'INSERT INTO scores' if part else 'CREATE TABLE scores AS'} {select}")


def _rank(con: duckdb.DuckDBPyConnection, model: Fusion) -> None:
    """Make the table ``fused``: part, place, fused."""
    for i in range(len(model.members)):
        if model.fusion == "reciprocal":
            order = f"PARTITION BY grouped ORDER BY s{i} DESC, doc_id, part, place"
            value = f"1.0::DOUBLE / ({model.rank_constant!r}::DOUBLE + row_number() OVER ({order}))"
        else:
            below = f"rank() OVER (PARTITION BY grouped ORDER BY s{i}) - 1"
            equal = f"count(*) OVER (PARTITION BY grouped, s{i})"
            value = f"({below} + {equal} / 2.0::DOUBLE) / count(*) OVER (PARTITION BY grouped)"
        con.execute(f"CREATE TABLE v{i} AS SELECT part, place, {value} AS v FROM scores")
    weights = list(model.weights.values())
    total = repr(sum(weights)) if model.fusion == "quantile" else "1.0"
    summed = " + ".join(f"{w!r}::DOUBLE * v{i}.v" for i, w in enumerate(weights))
    joins = "".join(f" JOIN v{i} USING (part, place)" for i in range(1, len(weights)))
    con.execute(
        f"CREATE TABLE fused AS SELECT part, place, ({summed}) / {total}::DOUBLE AS fused FROM v0{joins} "
        "ORDER BY part, place"
    )


def _fused(
    con: duckdb.DuckDBPyConnection, part: int, path: Path, schema: pa.Schema, model: Fusion
) -> Iterator[pa.Table]:
    """The rows of one part, with their fused score, or with why there is none."""
    missing = "".join(
        f" WHEN t.{_name(column)} IS NULL THEN '{_quoted(f'no_score_{name}')}'"
        for column, name in zip(model.member_columns, model.members, strict=True)
    )
    special = {"score": "f.fused AS score", "reason": f"coalesce(t.reason, CASE{missing} END) AS reason"}
    columns = ", ".join(special.get(name, f"t.{_name(name)}") for name in schema.names)
    result: Any = con.sql(
        f"SELECT {columns} FROM read_parquet('{_quoted(str(path))}', file_row_number = true) t "
        f"LEFT JOIN (SELECT * FROM fused WHERE part = {part}) f ON f.place = t.file_row_number "
        "ORDER BY t.file_row_number"
    ).to_arrow_reader(100_000)
    for batch in result:
        table = pa.Table.from_batches([batch])
        yield pa.table([_typed(table[field.name], field.type) for field in schema], schema=schema)


def _typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        column = column.cast(kind.value_type).dictionary_encode()
    return column if column.type == kind else column.cast(kind)
