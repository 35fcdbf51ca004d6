"""The columns of JSON rows, found from the rows that are written and agreed upon over all files."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl


MAX_DEPTH = 60  # Arrow refuses nesting beyond 64; Polars takes a minute to infer 900 levels


def inferred(lines: bytes) -> pa.Schema:
    """Columns of some JSON Lines; one that mixes kinds of value, or nests too deep, is text (its JSON)."""
    import polars as pl

    deep = _deep_columns(lines)
    if not deep:
        try:
            found = pl.scan_ndjson(io.BytesIO(lines), infer_schema_length=None).collect_schema()
            if all(kind == pl.String for kind in found.values()):  # cannot fail when it is read
                return _schema(pl.DataFrame(schema=found))
            return _schema(pl.read_ndjson(lines, infer_schema_length=None))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowInvalid):
            pass
    return _inferred_by_column(lines, deep)


def _deep_columns(lines: bytes) -> set[str]:
    found: set[str] = set()
    for line in lines.split(b"\n"):
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
            found |= {name for name, value in json.loads(line).items() if _depth(value) > MAX_DEPTH}
    return found


def _depth(value: object) -> int:
    """How many lists and objects are within each other."""
    depth, level = 0, [value] if isinstance(value, (list, dict)) else []
    while level:
        depth += 1
        inside = [v for of in level for v in (of.values() if isinstance(of, dict) else of)]
        level = [v for v in inside if isinstance(v, (list, dict))]
    return depth


def _schema(frame: pl.DataFrame) -> pa.Schema:
    schema: pa.Schema = frame.clear().to_arrow().schema
    return schema


def _inferred_by_column(lines: bytes, deep: set[str]) -> pa.Schema:
    import polars as pl

    rows = [json.loads(line) for line in lines.split(b"\n") if line]
    names = dict.fromkeys(name for row in rows for name in row)
    fields = []
    for name in names:
        if name in deep:
            fields.append(pa.field(name, pa.large_string()))
            continue
        column = b"\n".join(json.dumps({name: row[name]}).encode() for row in rows if name in row)
        try:
            fields.append(_schema(pl.read_ndjson(column, infer_schema_length=None)).field(0))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowInvalid):
            fields.append(pa.field(name, pa.large_string()))
    return pa.schema(fields)


def merged(a: pa.Schema, b: pa.Schema) -> pa.Schema:
    """A schema that rows of both can be written in; where kinds differ beyond repair, text."""
    try:
        return pa.unify_schemas([a, b], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        fields = {field.name: field for field in a}
        for field in b:
            fields[field.name] = _merged_field(fields[field.name], field) if field.name in fields else field
        return pa.schema(list(fields.values()))


def _merged_field(a: pa.Field, b: pa.Field) -> pa.Field:
    try:
        return pa.unify_schemas([pa.schema([a]), pa.schema([b])], promote_options="permissive").field(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.field(a.name, pa.large_string())


def writable(schema: pa.Schema) -> pa.Schema:
    """As `schema`, with what Parquet cannot hold replaced: columns of nulls and of empty objects are text."""
    return pa.schema(
        [pa.field(f.name, pa.large_string()) if _is_empty(f.type) else f.remove_metadata() for f in schema]
    )


def _is_empty(kind: pa.DataType) -> bool:
    """Whether a type, or one within it, has no values to hold."""
    if pa.types.is_struct(kind):
        return not kind.num_fields or any(_is_empty(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.types.is_struct(kind.value_type) and _is_empty(kind.value_type)
    return bool(pa.types.is_null(kind))


def without_views(table: pa.Table) -> pa.Table:
    """The same rows with plain strings instead of views and dictionaries, which Arrow cannot filter or append."""
    schema = pa.schema([f.with_type(_without_views(f.type)) for f in table.schema])
    return table if schema == table.schema else table.cast(schema)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _without_views(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pa.struct([f.with_type(_without_views(f.type)) for f in fields])
    return kind


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with exactly the columns of a schema: cast where they differ, null where it has none."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        columns.append(column if column.type == field.type else _cast(column, field.type))
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(to)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        text = [
            None if v is None else v if isinstance(v, str) else json.dumps(v, default=str) for v in column.to_pylist()
        ]
        return pa.chunked_array([pa.array(text, to)])


def from_lines(lines: list[bytes], schema: pa.Schema) -> pa.Table:
    """Parse JSON rows into the columns of a schema."""
    import polars as pl

    of = pl.from_arrow(schema.empty_table())
    assert isinstance(of, pl.DataFrame)
    frame = pl.read_ndjson(b"\n".join(lines), schema=of.schema)
    return conformed(frame.to_arrow(), schema)


def to_lines(table: pa.Table) -> bytes:
    """Rows as JSON Lines; bytes, which JSON has not, are base64."""
    import polars as pl
    import polars.selectors

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(polars.selectors.binary().bin.encode("base64")).write_ndjson().encode()


def dumped(schema: pa.Schema) -> str:
    """A schema as text that `loaded` reads."""
    return bytes(schema.serialize()).hex()


def loaded(text: str) -> pa.Schema:
    """The schema that `dumped` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(text)))
