"""Which columns a corpus has, as far as its headers and first rows tell."""

from __future__ import annotations

import json

from curate.io.corpus import Corpus, column_names
from curate.io.formats import Lines, read_raw


def columns_of(corpus: Corpus) -> list[str]:
    """Names of the columns of all Parquet and Arrow files, and of the first rows of the other kinds."""
    names: dict[str, None] = {}
    peeked: set[str] = set()
    for partition in corpus.partitions:
        source = corpus.source(partition)
        if partition.first_row or (source.format not in ("parquet", "arrow") and source.format in peeked):
            continue
        if source.format in ("parquet", "arrow"):
            names |= dict.fromkeys(column_names(source))
            continue
        peeked.add(source.format)
        first = next(iter(read_raw(corpus, partition, None, batch_bytes=1 << 16)), None)
        if isinstance(first, Lines):
            names |= dict.fromkeys(_keys(first.data))
        elif first is not None:
            names |= dict.fromkeys(first.table.column_names)
    return list(names)


def _keys(lines: bytes) -> list[str]:
    for line in lines.split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return list(row)
    return []
