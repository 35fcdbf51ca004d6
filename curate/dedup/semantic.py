"""Documents that say the same in other words: whose vectors point in nearly one direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.near import REMOVED
from curate.dedup.ranking import Part, Ranks
from curate.errors import InputError
from curate.features.neighbours import kmeans, nearest
from curate.io.paths import atomic
from curate.io.tables import numpy
from curate.kernels.clustering import Bits, Centres, Removed

LoadVectors = Callable[[int], tuple[np.ndarray, np.ndarray]]

# Documents at least, on average: with fewer than twice as many all are compared with all. Of what goes of 35,000
# documents when all are compared with all (by hashed words, in 8.7 s), 7 clusters find 98.9% (in 3.7 s), 35 find 95.8%.
PER_CLUSTER = 5_000
FITTED = 64  # documents of a cluster that its centre is made of, on average
MOST_FITTED = 65_536
N_ITER = 10
CHUNK = 16_384  # vectors at a time
BLOCK, TILE = 512, 8_192  # vectors that are compared with so many
SLACK = 1e-4  # of cosines in single precision
_PAIRS = 16_384  # cosines at a time in double precision


def n_clusters(n_docs: int) -> int:
    """As many as make assignment and comparison cost the same, but not many small ones."""
    return max(1, min(math.isqrt(n_docs), n_docs // PER_CLUSTER))


def decide_semantic(
    ranks: Ranks, kept: Bits, vectors_of: LoadVectors, cosine: float, clusters: int | None, *, keep_short: bool
) -> int:
    """Make the table "semantic" (rank, matched, similarity), and clear who goes in ``kept``; returns how many go.

    Documents are compared within clusters of k-means, fitted to a sample (SemDeDup, Abbas et al., 2023,
    arXiv:2303.09540), and go when an earlier one that stays is near: the rule of `decide_near`. Zero vectors are near
    to nothing. Cosines are decided in double precision, so that they do not depend on blocks and threads.

    Parameters
    ----------
    vectors_of : the place of a partition in the files to ``(rows, vectors)``: int64[n], any order, float32[n, dim],
        any length, may be mapped from a file. Rows that are not kept are passed over. It is called twice a partition.
    cosine : from which on they are near. clusters : how many; None: `n_clusters`.
    keep_short : documents without shingles do not take part.
    """
    source = _Vectors(ranks, kept, vectors_of, keep_short)
    centres = _fit(source, clusters)
    with (
        atomic(ranks.tables.path("semantic")) as path,
        pq.ParquetWriter(path, REMOVED, compression="lz4") as writer,
    ):
        n_removed = 0
        if len(centres):
            grouped = _Grouped(ranks.tables.folder, centres)
            for some_ranks, x in source.chunks():
                grouped.add(some_ranks, x)
            for cluster in range(len(centres)):
                for removed in _decide_cluster(*grouped.members(cluster), kept, cosine, ranks.n_against):
                    writer.write_table(pa.table(list(removed), names=REMOVED.names).cast(REMOVED))
                    n_removed += len(removed.ranks)
    return n_removed


@dataclass
class _Vectors:
    """Unit vectors of kept documents."""

    ranks: Ranks
    kept: Bits
    vectors_of: LoadVectors
    keep_short: bool
    dim: int | None = None

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ranks (uint32[n]) and vectors (float32[n, dim]) of some documents of one part."""
        for part in self.ranks.parts:
            rows, vectors = self.vectors_of(part.index)
            if not len(rows):
                continue
            self._check(part, vectors)
            ranks, takes_part = self._ranks_of(part, rows)
            for start in range(0, len(rows), CHUNK):
                some = slice(start, start + CHUNK)
                x = np.asarray(vectors[some], np.float64)
                norms = np.sqrt(np.einsum("ij,ij->i", x, x))
                good = takes_part[some] & (norms > 0)
                yield ranks[some][good], (x[good] / norms[good, None]).astype(np.float32)

    def _check(self, part: Part, vectors: np.ndarray) -> None:
        self.dim = self.dim or vectors.shape[1]
        if vectors.shape[1] != self.dim:
            raise InputError(
                f"{part.file.name}: vectors of {vectors.shape[1]} numbers, others have {self.dim}; "
                "all must be of one encoder"
            )

    def _ranks_of(self, part: Part, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        signed, ranks, counted = [], [], []
        for some_ranks, table in self.ranks.batches(part, ["row", "n_shingles"]):
            signed.append(numpy(table["row"]))
            ranks.append(some_ranks)
            counted.append(numpy(table["n_shingles"]) > 0 if self.keep_short else np.ones(len(some_ranks), bool))
        known = np.concatenate(signed)
        order = np.argsort(known)
        found = order[np.minimum(np.searchsorted(known[order], rows), len(known) - 1)]
        if not np.array_equal(known[found], rows):
            raise InputError(f"{part.file.name}: there are vectors of rows that have no signature; run again")
        mine = np.concatenate(ranks)[found]
        return mine, self.kept[mine] & np.concatenate(counted)[found]


def _fit(source: _Vectors, clusters: int | None) -> np.ndarray:
    """float64[k, dim]: centres of clusters; none where there are no vectors."""
    n_docs = source.kept.count()
    k = clusters or n_clusters(n_docs)
    step = max(1, n_docs // min(MOST_FITTED, k * FITTED))
    ranks, vectors = [], []
    for some_ranks, x in source.chunks():
        drawn = _mixed(some_ranks) % np.uint64(step) == 0
        ranks.append(some_ranks[drawn])
        vectors.append(x[drawn])
    if not sum(map(len, ranks)):
        ranks, vectors = [], []
        for some_ranks, x in source.chunks():  # few, and none was drawn
            ranks.append(some_ranks)
            vectors.append(x)
    if not sum(map(len, ranks)):
        return np.zeros((0, 0))
    sample = np.concatenate(vectors)[np.argsort(np.concatenate(ranks))]
    if k == 1:
        return sample[:1].astype(np.float64)
    return kmeans(sample, min(k, len(sample)), n_init=1, n_iter=N_ITER, tolerance=1e-3).centres


def _mixed(ranks: np.ndarray) -> np.ndarray:
    """uint64[n]: numbers that ranks are no pattern in."""
    x = ranks.astype(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    return (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8_FEB8_6659_FD93) >> np.uint64(16)


@dataclass
class _Grouped:
    """Vectors on disk, those of a chunk by the nearest centre, so that a cluster is read in runs."""

    folder: Path
    centres: np.ndarray
    _ends: list[np.ndarray] = field(default_factory=list)  # of each chunk: where each cluster's run ends
    _size: int = 0

    def __post_init__(self) -> None:
        for path in (self.folder / "vectors", self.folder / "vector-ranks"):
            path.unlink(missing_ok=True)

    def add(self, ranks: np.ndarray, x: np.ndarray) -> None:
        if not len(ranks):
            return
        one = len(self.centres) == 1
        labels = np.zeros(len(x), np.int64) if one else nearest(x, self.centres, 1).rows[:, 0]
        order = np.argsort(labels, kind="stable")
        with open(self.folder / "vectors", "ab") as vectors, open(self.folder / "vector-ranks", "ab") as file:
            x[order].tofile(vectors)
            ranks[order].tofile(file)
        self._ends.append(self._size + np.cumsum(np.bincount(labels, minlength=len(self.centres))))
        self._size += len(ranks)

    def members(self, cluster: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ranks (ascending, int64[n]) of a cluster's documents, their places, and vectors by place (mapped)."""
        starts = [
            int(ends[cluster - 1]) if cluster else before
            for ends, before in zip(self._ends, self._firsts(), strict=True)
        ]
        runs = [np.arange(start, ends[cluster]) for start, ends in zip(starts, self._ends, strict=True)]
        places = np.concatenate([np.zeros(0, np.int64), *runs])
        if not len(places):
            return places, places, np.zeros((0, 1), np.float32)
        ranks = np.memmap(self.folder / "vector-ranks", np.uint32, "r")[places].astype(np.int64)
        vectors = np.memmap(self.folder / "vectors", np.float32, "r").reshape(self._size, -1)
        order = np.argsort(ranks)
        return ranks[order], places[order], vectors

    def _firsts(self) -> list[int]:
        return [0, *(int(ends[-1]) for ends in self._ends[:-1])]


def _decide_cluster(
    ranks: np.ndarray, places: np.ndarray, vectors: np.ndarray, kept: Bits, cosine: float, n_against: int
) -> Iterator[Removed]:
    """Who goes of one cluster; block by block in the order of ranks, each compared with who stays of those before."""
    centres = Centres(kept)
    stay_ranks, stay = [np.zeros(0, np.int64)], [np.zeros((0, vectors.shape[1]), np.float32)]
    for start in range(0, len(ranks), BLOCK):
        block, x = ranks[start : start + BLOCK], np.asarray(vectors[places[start : start + BLOCK]])
        edges = [_edges(block, x, r, s, cosine) for r, s in zip(stay_ranks, stay, strict=True)]
        gone = np.concatenate([later for later, _, _ in edges])
        may_stay = (block < n_against) | ~np.isin(block, gone)
        edges.append(_edges(block, x, block[may_stay], x[may_stay], cosine))
        later, earlier, cosines = (np.concatenate(column) for column in zip(*edges, strict=True))
        new = later >= n_against
        order = np.lexsort((earlier[new], later[new]))
        yield centres.take(later[new][order], earlier[new][order], cosines[new][order])
        stays = kept[block]
        if len(stay[-1]) >= TILE:
            stay_ranks.append(block[stays])
            stay.append(x[stays])
        else:
            stay_ranks[-1] = np.concatenate([stay_ranks[-1], block[stays]])
            stay[-1] = np.concatenate([stay[-1], x[stays]])
    yield centres.end()


def _edges(
    later: np.ndarray, x: np.ndarray, earlier: np.ndarray, y: np.ndarray, cosine: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(later, earlier, cosine) of pairs whose cosine is high enough, the ranks (int64[n]) of which are in order."""
    i, j = np.nonzero((x @ y.T >= cosine - SLACK) & (earlier[None, :] < later[:, None]))
    cosines = np.empty(len(i))
    for start in range(0, len(i), _PAIRS):
        some = slice(start, start + _PAIRS)
        cosines[some] = np.einsum("ij,ij->i", x[i[some]].astype(np.float64), y[j[some]].astype(np.float64))
    near = cosines >= cosine
    return later[i[near]], earlier[j[near]], cosines[near]
