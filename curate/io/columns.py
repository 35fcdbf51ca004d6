"""Which columns a corpus has, as far as its headers and first rows tell."""

from __future__ import annotations

import json

from curate.io.corpus import Corpus, column_names
from curate.io.formats import Lines, read_raw

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
