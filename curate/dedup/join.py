"""From signature files to who goes, why, and what it is a duplicate of, whatever the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.buckets import Buckets
from curate.dedup.exact import find_exact
from curate.dedup.near import decide_near
from curate.dedup.ranking import Ranks, SignatureFile
from curate.dedup.semantic import LoadVectors, decide_semantic
from curate.dedup.sets import StoredSets
from curate.dedup.spec import DedupSpec
from curate.dedup.tables import Tables
from curate.dedup.verify import verify_pairs
from curate.io.tables import count_rows, numpy, write_table
from curate.kernels.clustering import Bits

REASONS = ("exact_duplicate", "near_duplicate", "semantic_duplicate")
SCHEMA = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("path", pa.large_string()),
        ("row", pa.int64()),
        ("source", pa.large_string()),
        ("reason", pa.large_string()),
        ("matched_id", pa.large_string()),
        ("matched_path", pa.large_string()),
        ("matched_row", pa.int64()),
        ("cluster", pa.large_string()),
        ("cluster_path", pa.large_string()),
        ("cluster_row", pa.int64()),
        ("similarity", pa.float64()),
        ("against", pa.bool_()),
    ]
)
_FOUND = (("exact", "1.0"), ("near", "similarity"), ("semantic", "similarity"))  # tables, in the order of REASONS
_NOTHING = "SELECT 0::UINTEGER AS rank, 0::UINTEGER AS matched, 0 AS reason, 1.0 AS similarity LIMIT 0"


@dataclass(frozen=True)
class Summary:
    """What was found, in numbers of documents but where it says otherwise.

    documents : that took part; ``against`` of them of the existing set. exact_groups : texts that occur more than once.
    exact, near, semantic : removed for that reason. candidate_pairs : that were compared. verified_pairs : of those,
    near duplicates. large_buckets : of more than ``max_bucket`` documents, in ``rounds`` rounds. not_compared : kept
    documents of large buckets that were not compared with all of the bucket before the rounds were over, at most.
    clusters : kept documents with duplicates. largest_cluster : documents, with the kept one.
    """

    documents: int = 0
    against: int = 0
    exact_groups: int = 0
    exact: int = 0
    near: int = 0
    semantic: int = 0
    candidate_pairs: int = 0
    verified_pairs: int = 0
    large_buckets: int = 0
    rounds: int = 0
    not_compared: int = 0
    clusters: int = 0
    largest_cluster: int = 0


class RemovedRows(NamedTuple):
    """``rows``: int64[n], ascending, of a partition; ``reasons``: int8[n], which of `REASONS` each was removed for."""

    rows: np.ndarray
    reasons: np.ndarray


class Join:
    """Finds duplicates among the documents of signature files; in this order:

    `find`; the shingle sets of `candidates` are written, by `write_shingles`; `verify`; `find_semantic` where it is
    asked for; `write`. A partition is named by its place in ``files``. What is found depends on the documents, their
    ids and the names of partitions, and not on the order of files or the threads.

    Memory: half of the limit is DuckDB's, an eighth is for bits of keys (4 bytes a document and thread at most), and
    two bits a document are beside it. Ranks (4 bytes a document) and shingle sets are mapped from files, of which the
    system keeps in memory what it has room for. The folder takes about as much as the signature files.

    Parameters
    ----------
    files : of the partitions. folder : for tables on the way, which nobody else writes to.
    memory_limit : bytes. workers : threads.

    Raises
    ------
    UsageError : two partitions have one name. ResourceError : memory or disk does not suffice (in all methods).
    """

    def __init__(
        self, files: Sequence[SignatureFile], folder: Path, spec: DedupSpec, memory_limit: int, workers: int
    ) -> None:
        self.spec = spec
        folder.mkdir(parents=True, exist_ok=True)
        self._tables = Tables(folder, memory_limit // 2, workers)
        with self._tables.connected():
            self._ranks = Ranks(files, self._tables)
        self._number = {part.index: number for number, part in enumerate(self._ranks.parts)}
        self._kept = self._first = Bits(self._ranks.n_docs)
        self._buckets: Buckets | None = None
        self._counts: dict[str, int] = {}

    def find(self) -> None:
        """Find exact duplicates and candidates for near ones."""
        if self.spec.exact:
            with self._tables.connected():
                self._counts["exact_groups"] = find_exact(self._ranks, self._first, keep_short=self._keep_short)
        if self.spec.near:
            self._buckets = Buckets(self._ranks, self.spec.max_bucket)
            with self._tables.connected():
                self._buckets.find(self._first)

    @property
    def _keep_short(self) -> bool:
        return self.spec.short == "keep"

    def candidates(self, part: int) -> np.ndarray:
        """int64[n], ascending: the rows of a partition whose shingle sets `verify` will ask for."""
        return self._of_part("candidates", part)["row"] if self._buckets else np.zeros(0, np.int64)

    def verify(self, sets_of: Callable[[int], StoredSets]) -> None:
        """Compare candidates and decide who is a near duplicate; ``sets_of``: opens the sets of a partition."""
        if self._buckets is None:
            return
        with self._tables.connected():
            self._counts |= self._verify(self._buckets, sets_of)

    def _verify(self, buckets: Buckets, sets_of: Callable[[int], StoredSets]) -> dict[str, int]:
        """Go through the rounds; what there is to be told."""
        parts, n_pairs, n_edges, more = self._ranks.parts, 0, 0, True
        while more:
            pairs, edges = verify_pairs(
                self._tables, buckets.n_rounds - 1, lambda n: sets_of(parts[n].index), self.spec.threshold
            )
            n_pairs, n_edges = n_pairs + pairs, n_edges + edges
            self._kept, n_near = decide_near(self._tables, buckets.n_rounds, self._first)
            more = buckets.next_round(self._kept)
        return {
            "near": n_near,
            "candidate_pairs": n_pairs,
            "verified_pairs": n_edges,
            "large_buckets": buckets.n_large,
            "rounds": buckets.n_rounds,
            "not_compared": buckets.n_not_compared(),
        }

    def kept(self, part: int) -> np.ndarray:
        """int64[n], ascending: the rows of a partition that no step before found to be duplicates."""
        one = self._ranks.parts[self._number[part]]
        rows = [numpy(table["row"])[self._kept[ranks]] for ranks, table in self._ranks.batches(one, ["row"])]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))

    def find_semantic(self, vectors_of: LoadVectors) -> None:
        """Find duplicates among who is `kept` by vectors; see `decide_semantic` for what ``vectors_of`` gives."""
        self._counts["semantic"] = decide_semantic(
            self._ranks,
            self._kept,
            vectors_of,
            self.spec.cosine,
            self.spec.clusters,
            keep_short=self._keep_short,
        )

    def write(self, path: Path) -> Summary:
        """Write who goes to ``path``: the columns of `SCHEMA`, ordered by cluster, then doc_id, path and row.

        ``matched_id`` is the document that ``similarity`` was measured with, and ``cluster`` the one that stays: they
        differ where the first went as a near or semantic duplicate itself. ``against``: the match is of the existing
        set, and not of what was kept of the same corpus before.
        """
        with self._tables.connected():
            self._write_removed()
            self._tables.write("duplicates", self._duplicates())
        write_table(
            path, SCHEMA, (table.select(SCHEMA.names).cast(SCHEMA) for table in self._tables.read("duplicates"))
        )
        clusters = [numpy(table["n"]) for table in self._tables.read("clusters")]
        exact = count_rows(path) - self._counts.get("near", 0) - self._counts.get("semantic", 0)
        return Summary(
            documents=self._ranks.n_docs,
            against=self._ranks.n_against,
            exact=exact,
            clusters=sum(map(len, clusters)),
            largest_cluster=max((int(n.max()) for n in clusters), default=0),
            **self._counts,
        )

    def removed(self, part: int) -> RemovedRows:
        """Who goes of a partition, after `write`."""
        found = self._of_part("removed", part)
        return RemovedRows(found["row"], found["reason"].astype(np.int8))

    def _of_part(self, name: str, part: int) -> dict[str, np.ndarray]:
        found = pq.read_table(self._tables.path(name), filters=[("part", "=", self._number[part])])
        return {column: numpy(found[column]) for column in found.column_names}

    def _write_removed(self) -> None:
        """Make "removed" (part, row, reason) by part and row, "links" (rank, matched, reason, similarity, stays), and
        "clusters" (n): how many documents have one that stays, and that."""
        tables = self._tables
        links = [
            f"SELECT rank, matched, {reason} AS reason, {similarity} AS similarity FROM {tables.scan(name)} "
            f"WHERE rank <> matched AND rank >= {self._ranks.n_against}"
            for reason, (name, similarity) in enumerate(_FOUND)
            if name in self._found
        ]
        tables.write("found", " UNION ALL ".join(links) if links else _NOTHING)
        found = tables.scan("found")
        # what is matched with may have gone as a near duplicate, and what that is matched with as a semantic one
        tables.write(
            "links",
            f"SELECT a.*, coalesce(c.matched, b.matched, a.matched) AS stays FROM {found} AS a "
            f"LEFT JOIN {found} AS b ON a.matched = b.rank LEFT JOIN {found} AS c ON b.matched = c.rank",
        )
        tables.write("clusters", f"SELECT count(*) + 1 AS n FROM {tables.scan('links')} GROUP BY stays")
        tables.write(
            "removed",
            f"SELECT part, row, reason FROM {tables.scan('links')} JOIN {self._ranks.docs('part, row')} USING (rank) "
            "ORDER BY part, row",
        )

    @property
    def _found(self) -> set[str]:
        on = {"exact": self.spec.exact, "near": self._buckets is not None, "semantic": "semantic" in self._counts}
        return {name for name, is_on in on.items() if is_on}

    def _duplicates(self) -> str:
        files = [part.file for part in self._ranks.parts]
        elsewhere = pa.array([file.against and not file.own for file in files], pa.bool_())
        names = {"part": range(len(files)), "path": [file.name for file in files], "elsewhere": elsewhere}
        pq.write_table(pa.table(names), self._tables.path("parts"))
        docs = self._ranks.docs("part, row, doc_id, source")
        docs = f"(SELECT * FROM {docs} JOIN {self._tables.scan('parts')} USING (part))"
        reasons = ", ".join(f"'{reason}'" for reason in REASONS)
        return (
            f"SELECT a.doc_id, a.path, a.row, a.source, [{reasons}][reason + 1] AS reason, b.doc_id AS matched_id, "
            "b.path AS matched_path, b.row AS matched_row, c.doc_id AS cluster, c.path AS cluster_path, "
            "c.row AS cluster_row, similarity, b.elsewhere AS against "
            f"FROM {self._tables.scan('links')} AS links "
            f"JOIN {docs} AS a ON a.rank = links.rank JOIN {docs} AS b ON b.rank = matched "
            f"JOIN {docs} AS c ON c.rank = stays "
            "ORDER BY cluster, cluster_path, cluster_row, a.doc_id, a.path, a.row"
        )
