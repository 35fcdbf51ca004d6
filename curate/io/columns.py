"""Which columns a corpus has: by its headers and first rows, or for certain, partition by partition."""

from __future__ import annotations

import json

import pyarrow as pa

from curate.io.corpus import Corpus, Partition, column_names
from curate.io.formats import Lines, parse, read_raw
from curate.io.schemas import merged, without_views

PEEKED_FILES = 100  # of each format without a header


def columns_of(corpus: Corpus) -> list[str]:
    """Names of the columns of all Parquet and Arrow files, and of the first rows of the other kinds."""
    names: dict[str, None] = {}
    peeked: dict[str, int] = {}
    for partition in corpus.partitions:
        source = corpus.source(partition)
        if partition.first_row:
            continue
        if source.format in ("parquet", "arrow"):
            names |= dict.fromkeys(column_names(source))
            continue
        peeked[source.format] = peeked.get(source.format, 0) + 1
        if peeked[source.format] > PEEKED_FILES:
            continue
        first = next(iter(read_raw(corpus, partition, None, batch_bytes=1 << 16)), None)
        if isinstance(first, Lines):
            names |= dict.fromkeys(_keys(first.data))
        elif first is not None:
            names |= dict.fromkeys(first.table.column_names)
    return list(names)


def _keys(lines: bytes) -> list[str]:
    names: dict[str, None] = {}
    for line in lines.split(b"\n")[:100]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            names |= dict.fromkeys(row)
    return list(names)


def schema_of(corpus: Corpus, partition: Partition, batch_bytes: int) -> pa.Schema:
    """The columns of a partition with their types; those of JSON rows are known when all were looked at."""
    schema = pa.schema([])
    for raw in read_raw(corpus, partition, None, batch_bytes=batch_bytes):
        schema = merged(schema, without_views(parse(raw, None).table.slice(0, 0)).schema.remove_metadata())
        if corpus.source(partition).format in ("parquet", "arrow", "txt"):
            break  # all rows have the same
    return schema
