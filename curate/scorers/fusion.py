"""Several scores of a document as one: by reciprocal rank, or by calibrated quantile within groups."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import InputError, UsageError, unknown

if TYPE_CHECKING:
    import duckdb

METHODS = ("reciprocal", "quantile")
RANK_CONSTANT = 60.0  # of Cormack, Clarke and Buettcher, SIGIR 2009


def fuse(
    tables: Mapping[str, Sequence[str | Path]],
    out: Sequence[str | Path],
    *,
    columns: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    method: str = "reciprocal",
    rank_constant: float = RANK_CONSTANT,
    group: str | None = None,
    scratch: str | Path | None = None,
    memory_limit: str = "2GB",
) -> int:
    """Write score tables whose ``score`` is the fused one; returns how many documents have one.

    By reciprocal rank a document gets the sum of ``weight / (rank_constant + rank)``; ranks are from 1, best
    first, equal scores by ``doc_id`` (then file and row). By quantile it gets the weighted mean of its
    quantiles, (documents below + half of those equal) / documents, a number in (0, 1) that means the same
    for every scorer. A document without a score from one scorer has none, and takes no rank.

    Ranks are exact. They are found by DuckDB, which sorts on disk what does not fit into ``memory_limit``.

    Parameters
    ----------
    tables : the parts of each scorer's score table, by name; part i of all holds the same rows.
    out : where to write, a path for each part: columns and order of the first table's parts, further
        scores as ``score_<name>``.
    columns : column that holds each scorer's score; "score" where not named.
    weights : of the scorers, 1 where not named.
    group : a column of the first table; ranks and quantiles are then within its values.
    scratch : folder for what does not fit into memory, by default the system's.

    Raises
    ------
    UsageError : an unknown method or name, or weights that make no sense. InputError : tables of other rows.
    """
    names = list(tables)
    used = _weights(names, weights)
    if method not in METHODS:
        raise unknown("fusion", method, METHODS)
    if not rank_constant >= 0:
        raise UsageError(f"rank_constant={rank_constant}: must be 0 or more")
    if any(len(tables[name]) != len(out) for name in names):
        raise InputError(f"{len(out)} parts to write of {[len(tables[name]) for name in names]}: must be as many")
    for name in columns or {}:
        if name not in names:
            raise unknown("scorer", name, names)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        con = _connect(folder, memory_limit)
        first = str(tables[names[0]][0])
        carried = [row[0] for row in con.execute("DESCRIBE SELECT * FROM read_parquet(?)", [first]).fetchall()]
        if group is not None and group not in carried:
            raise unknown("column", group, carried)
        for part in range(len(out)):
            _load(con, part, {name: str(tables[name][part]) for name in names}, columns or {}, group)
        _rank(con, names, used, method, rank_constant)
        for part, path in enumerate(out):
            _write(con, part, str(tables[names[0]][part]), Path(path), names, carried)
        row = con.execute("SELECT count(fused) FROM fused").fetchone()
        assert row is not None
        return int(row[0])


def _weights(names: Sequence[str], weights: Mapping[str, float] | None) -> list[float]:
    if not names:
        raise UsageError("nothing to fuse")
    for name in weights or {}:
        if name not in names:
            raise unknown("scorer", name, names)
    used = [float((weights or {}).get(name, 1.0)) for name in names]
    if not all(0 <= w < float("inf") for w in used) or sum(used) <= 0:
        raise UsageError(f"weights={dict(zip(names, used, strict=True))}: must be non-negative and not all 0")
    return used


def _connect(folder: str, memory_limit: str) -> duckdb.DuckDBPyConnection:
    import duckdb

    con = duckdb.connect(str(Path(folder) / "fusion.duckdb"))
    con.execute(f"SET memory_limit = '{memory_limit}'")
    con.execute(f"SET temp_directory = '{_quoted(folder)}'")
    return con


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _load(
    con: duckdb.DuckDBPyConnection, part: int, paths: Mapping[str, str], columns: Mapping[str, str], group: str | None
) -> None:
    """Add one part's documents and scores to the table ``scores``."""
    counts = {name: con.execute("SELECT count(*) FROM read_parquet(?)", [p]).fetchone() for name, p in paths.items()}
    if len(set(counts.values())) > 1:
        sizes = ", ".join(f"{paths[name]} {count[0]:,}" for name, count in counts.items() if count)
        raise InputError(f"score tables of other documents: rows of {sizes}")
    picked, joins = [], ""
    for i, (name, path) in enumerate(paths.items()):
        column = _name(columns.get(name, "score"))
        # without can_have_nan a file of Arrow's has none for DuckDB, which folds isnan() away (duckdb issue 25521)
        source = f"read_parquet('{_quoted(path)}', file_row_number = true, can_have_nan = true)"
        picked.append(f"CASE WHEN isnan(t{i}.{column}) THEN NULL ELSE t{i}.{column} END AS s{i}")
        joins += f" FROM {source} t0" if i == 0 else f" JOIN {source} t{i} USING (file_row_number)"
    ids = "t0.doc_id"
    same = " AND ".join(f"t{i}.doc_id = {ids}" for i in range(1, len(paths))) or "true"
    grouped = f"coalesce(CAST(t0.{_name(group)} AS VARCHAR), '')" if group else "''"
    complete = " AND ".join(f"s{i} IS NOT NULL" for i in range(len(paths)))
    select = (
        f"SELECT {part} AS part, file_row_number AS place, {ids} AS doc_id, {grouped} AS grouped, "
        f"{same} AS same, {', '.join(picked)}{joins}"
    )
    create = "INSERT INTO scores" if part else "CREATE TABLE scores AS"
    con.execute(f"{create} SELECT *, {complete} AS complete FROM ({select})")
    differs = con.execute("SELECT doc_id FROM scores WHERE NOT same LIMIT 1").fetchone()
    if differs:
        raise InputError(f"{', '.join(paths.values())}: rows of other documents (at {differs[0]!r})")


def _rank(
    con: duckdb.DuckDBPyConnection, names: Sequence[str], weights: Sequence[float], method: str, constant: float
) -> None:
    """Make the table ``fused``: part, place, fused."""
    for i in range(len(names)):
        if method == "reciprocal":
            order = f"PARTITION BY grouped ORDER BY s{i} DESC, doc_id, part, place"
            value = f"1.0::DOUBLE / ({constant!r}::DOUBLE + row_number() OVER ({order}))"
        else:
            below = f"rank() OVER (PARTITION BY grouped ORDER BY s{i}) - 1"
            equal = f"count(*) OVER (PARTITION BY grouped, s{i})"
            value = f"({below} + {equal} / 2.0::DOUBLE) / count(*) OVER (PARTITION BY grouped)"
        con.execute(f"CREATE TABLE v{i} AS SELECT part, place, {value} AS v FROM scores WHERE complete")
    total = repr(sum(weights)) if method == "quantile" else "1.0"
    summed = " + ".join(f"{w!r}::DOUBLE * v{i}.v" for i, w in enumerate(weights))
    joins = "".join(f" JOIN v{i} USING (part, place)" for i in range(1, len(names)))
    con.execute(
        f"CREATE TABLE fused AS SELECT part, place, ({summed}) / {total}::DOUBLE AS fused FROM v0{joins} "
        "ORDER BY part, place"
    )


def _reason(names: Sequence[str]) -> str:
    """Why there is no score, also where the first scorer has one."""
    cases = "".join(f" WHEN s.s{i} IS NULL THEN '{_quoted(f'no_score_{name}')}'" for i, name in enumerate(names))
    return f"coalesce(t.reason, CASE{cases} END) AS reason"


def _write(
    con: duckdb.DuckDBPyConnection, part: int, first: str, path: Path, names: Sequence[str], carried: Sequence[str]
) -> None:
    """Write one part: the first table's columns with the fused score, and the scores that went into it."""
    from curate.io.tables import write_table

    scores = [f"score_{name}" for name in names]
    kept = [c for c in carried if c != "score" and c not in scores]
    columns = ", ".join(
        ["t.doc_id", "f.fused AS score"]
        + [f"s.s{i} AS {_name(column)}" for i, column in enumerate(scores)]
        + [_reason(names) if c == "reason" else f"t.{_name(c)}" for c in kept if c not in ("doc_id", "file_row_number")]
    )
    result: Any = con.sql(
        f"SELECT {columns} FROM read_parquet('{_quoted(first)}', file_row_number = true) t "
        f"JOIN (SELECT * FROM scores WHERE part = {part}) s ON s.place = t.file_row_number "
        f"LEFT JOIN (SELECT * FROM fused WHERE part = {part}) f ON f.place = t.file_row_number "
        "ORDER BY t.file_row_number"
    ).to_arrow_reader(100_000)
    import pyarrow as pa

    tables = (pa.Table.from_batches([batch]) for batch in result)
    write_table(path, result.schema, tables)


__all__ = ["METHODS", "RANK_CONSTANT", "fuse"]
