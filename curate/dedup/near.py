"""Who stays among near duplicates: by rank, who is near to no earlier one that stays."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.tables import Tables
from curate.io.paths import atomic
from curate.io.tables import numpy
from curate.kernels.clustering import Bits, Centres, Removed

REMOVED = pa.schema([("rank", pa.uint32()), ("matched", pa.uint32()), ("similarity", pa.float64())])


def decide_near(tables: Tables, n_rounds: int, first: Bits) -> tuple[Bits, int]:
    """Make the table "near" (rank, matched, similarity) from the edges of all rounds.

    A document goes when an earlier one that stays is near to it; the nearest of those is what it is matched with. So
    whatever goes is near to something that stays, and a chain of edges does not join what is not alike, as the
    connected components of the edges would, by which whole corpora went.

    Returns
    -------
    (kept, removed) : ``first`` without those that go, and how many go.
    """
    edges = tables.scan(*(f"edges-{i}" for i in range(n_rounds)))
    tables.write("edges", f"SELECT * FROM {edges} ORDER BY later, earlier")
    centres, n_removed = Centres(first.copy()), 0
    with atomic(tables.path("near")) as path, pq.ParquetWriter(path, REMOVED, compression="lz4") as writer:

        def write(removed: Removed) -> int:
            writer.write_table(pa.table(list(removed), names=REMOVED.names).cast(REMOVED))
            return len(removed.ranks)

        for table in tables.read("edges"):
            later, earlier = (numpy(table[name]).astype("int64") for name in ("later", "earlier"))
            n_removed += write(centres.take(later, earlier, numpy(table["similarity"])))
        n_removed += write(centres.end())
    return centres.kept, n_removed
