"""Which pairs of documents are looked at: those that share the key of a band, in rounds where many share it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.ranking import Part, Ranks
from curate.io.paths import atomic
from curate.io.tables import count_rows, numpy, schema_of
from curate.kernels.clustering import Bits, Repeats

MAX_ROUNDS = 8
GROWTH = 4  # hubs of a large bucket: 1, 4, 16, ... up to ``max_bucket``: of a template's documents one removes most
_MEMBERS = pa.schema([("key", pa.uint64()), ("rank", pa.uint32())])
_LARGE = pa.schema([*_MEMBERS, ("seen", pa.uint32()), ("hub", pa.uint32()), ("kept", pa.bool_())])
_OF_BAND = 0x9E37_79B9_7F4A_7C15


class Buckets:
    """Candidate pairs by the bands of the signatures, round by round.

    A bucket is the documents that share the key of a band. All pairs of a bucket are candidates, but of large ones:
    there a round has the pairs with the bucket's first documents only, its hubs, and the next round those of who is
    then kept with the next hubs. When no two kept documents are left that were not compared, what is kept is what all
    pairs would give. Large is a bucket that has more pairs than ``max_bucket`` documents a document would make; so the
    work is linear in the number of documents.

    Tables: "buckets" (key, rank, large); "candidates" (part, row); "pairs-<round>" (a_part, a_row, b_part, b_row,
    earlier, later), by partitions and rows; "large" (key, rank, seen, hub, kept), the members of large buckets and the
    rounds, as bits, in which one was kept, and was a hub.
    """

    def __init__(self, ranks: Ranks, max_bucket: int) -> None:
        self.ranks, self.max_bucket = ranks, max_bucket
        self.tables = ranks.tables
        self.n_large = 0
        self.n_rounds = 0

    # ---- the first round

    def find(self, first: Bits) -> None:
        """Make "buckets" and "pairs-0". ``first``: who takes part."""
        bands = [name for name in schema_of(self.ranks.parts[0].file.path).names if name.startswith("band_")]
        with ThreadPoolExecutor(self.tables.workers) as threads:
            names = list(threads.map(partial(self._repeated, first), bands))
        self._write_buckets(names)
        for name in names:
            self.tables.path(name).unlink()
        self._write_candidates()
        self._write_large()
        self._write_pairs(
            f"SELECT a.rank AS earlier, b.rank AS later FROM {self.tables.scan('buckets')} AS a "
            f"JOIN {self.tables.scan('buckets')} AS b ON a.key = b.key AND a.rank < b.rank "
            f"WHERE NOT a.large AND NOT b.large AND b.rank >= {self.ranks.n_against}",
            self._of_large(),
        )

    def _repeated(self, first: Bits, band: str) -> str:
        """Make the table of a band's keys that may occur more than once; its name."""
        share = self.tables.memory_limit // (4 * self.tables.workers)
        repeats = Repeats(self.ranks.n_docs, share)
        for part in self.ranks.parts:
            for keys, _ in self._keys(part, band, first):
                repeats.add(keys)
        name = f"repeated-{band}"
        of_band = np.uint64(_OF_BAND * (int(band.removeprefix("band_")) + 1) & (1 << 64) - 1)
        with atomic(self.tables.path(name)) as path, pq.ParquetWriter(path, _MEMBERS, compression="lz4") as writer:
            for part in self.ranks.parts:
                for keys, ranks in self._keys(part, band, first):
                    again = repeats.among(keys)
                    # bands are apart by this; where two meet all the same, pairs are looked at that need not be
                    writer.write_table(pa.table([keys[again] ^ of_band, ranks[again]], schema=_MEMBERS))
        return name

    def _keys(self, part: Part, band: str, first: Bits) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keys and ranks of a part's documents that take part."""
        for ranks, table in self.ranks.batches(part, [band, "n_shingles"]):
            takes_part = first[ranks] & (numpy(table["n_shingles"]) > 0)
            yield numpy(table[band])[takes_part], ranks[takes_part]

    def _write_buckets(self, names: list[str]) -> None:
        """Buckets of two or more documents of which not all are of the existing set."""
        n_against = self.ranks.n_against
        self.tables.write(
            "buckets",
            f"WITH sized AS (SELECT key, count(*) AS n, count(*) FILTER (rank >= {n_against}) AS n_new "
            f"FROM {self.tables.scan(*names)} GROUP BY key HAVING n > 1 AND n_new > 0) "
            f"SELECT key, rank, n_new * (2 * n - n_new - 1) > n * {self.max_bucket - 1} AS large "
            f"FROM {self.tables.scan(*names)} JOIN sized USING (key)",
        )

    def _write_candidates(self) -> None:
        """All documents that are, or may later be, in a candidate pair."""
        docs = self.ranks.docs("part, row")
        self.tables.write(
            "candidates",
            f"SELECT part, row FROM (SELECT DISTINCT rank FROM {self.tables.scan('buckets')}) JOIN {docs} USING (rank) "
            "ORDER BY part, row",
        )

    def _write_pairs(self, *queries: str) -> None:
        """Make "pairs-<round>" of pairs (earlier, later) that were in no round before."""
        tables, n = self.tables, self.n_rounds
        packed = " UNION ALL ".join(
            f"SELECT (earlier::UBIGINT << 32) | later AS pair FROM ({query})" for query in queries
        )
        new = f"SELECT DISTINCT pair FROM ({packed})"
        if n:
            before = tables.scan(*(f"pairs-{i}" for i in range(n)))
            new = f"{new} ANTI JOIN (SELECT (earlier::UBIGINT << 32) | later AS pair FROM {before}) USING (pair)"
        docs = self.ranks.docs("part, row")
        tables.write(
            f"pairs-{n}",
            "SELECT a.part AS a_part, a.row AS a_row, b.part AS b_part, b.row AS b_row, "
            "(pair >> 32)::UINTEGER AS earlier, (pair & 4294967295)::UINTEGER AS later "
            f"FROM ({new}) JOIN {docs} AS a ON a.rank = pair >> 32 JOIN {docs} AS b ON b.rank = pair & 4294967295 "
            "ORDER BY a_part, b_part, a_row, b_row",
        )
        self.n_rounds += 1

    @property
    def _n_hubs(self) -> int:
        return min(self.max_bucket, GROWTH**self.n_rounds)

    # ---- large buckets

    def _write_large(self) -> None:
        tables = self.tables
        tables.write(
            "large",
            "SELECT key, rank, 0::UINTEGER AS seen, 0::UINTEGER AS hub, true AS kept "
            f"FROM {tables.scan('buckets')} WHERE large",
        )
        tables.write("large-buckets", f"SELECT DISTINCT key FROM {tables.scan('large')}")
        self.n_large = count_rows(tables.path("large-buckets"))
        self._number_hubs()

    def next_round(self, kept: Bits) -> bool:
        """Make "pairs-<round>" of who is kept after the rounds before; False when there is nothing left to do."""
        if not self.n_large:
            return False
        self._mark_round(kept)
        self._number_hubs()
        if not count_rows(self.tables.path("hubs")) or self.n_rounds == MAX_ROUNDS:
            return False
        self._write_pairs(self._of_large())
        return True

    def n_not_compared(self) -> int:
        """After the last round: at most how many kept documents were not compared with all that are before them."""
        if not self.n_large:
            return 0
        self.tables.write(
            "not-compared",
            f"SELECT DISTINCT rank FROM {self.tables.scan('hubs')} WHERE number > 1 AND rank >= {self.ranks.n_against}",
        )
        return count_rows(self.tables.path("not-compared"))

    def _mark_round(self, kept: Bits) -> None:
        """Enter into "large" who was kept in the last round, who a hub, and who is kept now."""
        tables, n_hubs = self.tables, min(self.max_bucket, GROWTH ** (self.n_rounds - 1))
        bit = 1 << (self.n_rounds - 1)
        tables.write(
            "large-marked",
            f"SELECT key, rank, seen | CASE WHEN kept THEN {bit} ELSE 0 END AS seen, "
            f"large.hub | CASE WHEN number <= {n_hubs} THEN {bit} ELSE 0 END AS hub "
            f"FROM {tables.scan('large')} AS large LEFT JOIN {tables.scan('hubs')} AS hubs USING (key, rank)",
        )
        with atomic(tables.path("large")) as path, pq.ParquetWriter(path, _LARGE, compression="lz4") as writer:
            for table in tables.read("large-marked"):
                table = table.append_column("kept", pa.array(kept[numpy(table["rank"])]))
                writer.write_table(table.cast(_LARGE))

    def _number_hubs(self) -> None:
        """Make "hubs": (key, rank, hub, number) of kept members that were not compared with all kept ones.

        A member was compared with another when it was a hub in a round in which the other was kept; so with all of
        them when that round is in the ``seen`` of all.
        """
        self.tables.write(
            "hubs",
            f"WITH alive AS (SELECT key, rank, seen, hub FROM {self.tables.scan('large')} WHERE kept), "
            "shared AS (SELECT key, bit_and(seen) AS seen_by_all FROM alive GROUP BY key "
            f"HAVING max(rank) >= {self.ranks.n_against}), "
            "numbered AS (SELECT key, rank, hub, row_number() OVER (PARTITION BY key ORDER BY rank) AS number, "
            "count(*) OVER (PARTITION BY key) AS n "
            "FROM alive JOIN shared USING (key) WHERE (hub & seen_by_all) = 0) "
            "SELECT key, rank, hub, number FROM numbered WHERE n > 1",
        )

    def _of_large(self) -> str:
        """Pairs of this round's hubs with the kept members after them that they were not compared with."""
        tables = self.tables
        return (
            f"SELECT a.rank AS earlier, b.rank AS later FROM {tables.scan('hubs')} AS a "
            f"JOIN {tables.scan('large')} AS b ON a.key = b.key AND a.rank < b.rank "
            f"WHERE a.number <= {self._n_hubs} AND b.kept AND (a.hub & b.seen) = 0 AND b.rank >= {self.ranks.n_against}"
        )
