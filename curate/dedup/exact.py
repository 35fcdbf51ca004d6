"""Documents whose normalised text is that of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.ranking import Part, Ranks
from curate.io.paths import atomic
from curate.io.tables import numpy
from curate.kernels.clustering import Bits, Repeats

_REPEATED = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("rank", pa.uint32())])


def find_exact(ranks: Ranks, first: Bits, *, keep_short: bool) -> int:
    """Make the table "exact" (rank, matched): documents of one digest but the first, and that one.

    ``first``: cleared for those that go, which have an equal one before them. Of the existing set all stay, and all are
    compared further: equal by letters, or but for white space, they need not be near to the same documents.
    ``keep_short``: documents without shingles are no duplicates. Returns how many texts occur more than once.
    """
    repeats = Repeats(ranks.n_docs, ranks.tables.memory_limit // 4)
    for part in ranks.parts:
        for _, digests in _digests(ranks, part, keep_short):
            repeats.add(np.ascontiguousarray(digests[:, 0]))
    with atomic(ranks.tables.path("repeated")) as path, pq.ParquetWriter(path, _REPEATED, compression="lz4") as writer:
        for part in ranks.parts:
            for rank, digests in _digests(ranks, part, keep_short):
                again = repeats.among(np.ascontiguousarray(digests[:, 0]))
                columns = [digests[again, 0], digests[again, 1], rank[again]]
                writer.write_table(pa.table(columns, schema=_REPEATED))
    return _write_groups(ranks, first)


def _digests(ranks: Ranks, part: Part, keep_short: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for rank, table in ranks.batches(part, ["digest", "n_shingles"]):
        digests = digest_words(table["digest"])
        takes_part = numpy(table["n_shingles"]) > 0 if keep_short else slice(None)
        yield rank[takes_part], digests[takes_part]


def digest_words(column: pa.ChunkedArray) -> np.ndarray:
    """uint64[n, 2] of a column of 16-byte digests."""
    array = column.combine_chunks()
    return np.frombuffer(array.buffers()[1], np.uint64)[2 * array.offset :][: 2 * len(array)].reshape(-1, 2)


def _write_groups(ranks: Ranks, first: Bits) -> int:
    tables = ranks.tables
    tables.write(
        "exact",
        f"WITH texts AS (SELECT high, low, min(rank) AS matched FROM {tables.scan('repeated')} "
        "GROUP BY high, low HAVING count(*) > 1) "
        f"SELECT rank, matched FROM {tables.scan('repeated')} JOIN texts USING (high, low) ORDER BY matched, rank",
    )
    groups, before = 0, -1
    for table in tables.read("exact"):
        rank, matched = numpy(table["rank"]), numpy(table["matched"]).astype(np.int64)
        groups += int((np.diff(matched, prepend=before) != 0).sum())
        before = int(matched[-1])
        first.clear(rank[(rank != matched) & (rank >= ranks.n_against)])
    return groups
