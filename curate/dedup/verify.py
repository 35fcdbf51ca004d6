"""Whether candidates are near duplicates: the Jaccard similarity of their shingle sets, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.sets import StoredSets
from curate.dedup.tables import Tables
from curate.io.paths import atomic
from curate.io.tables import numpy
from curate.kernels.clustering import jaccard_between

_EDGES = pa.schema([("later", pa.uint32()), ("earlier", pa.uint32()), ("similarity", pa.float64())])
_FEW = 2_000  # pairs that are not worth a thread


@dataclass(frozen=True)
class Run:
    """Pairs of one partition with another: rows of the documents (int64[n]) and their ranks (uint32[n])."""

    a_part: int
    b_part: int
    a_rows: np.ndarray
    b_rows: np.ndarray
    earlier: np.ndarray
    later: np.ndarray


def verify_pairs(
    tables: Tables, number: int, sets_of: Callable[[int], StoredSets], threshold: float
) -> tuple[int, int]:
    """Make "edges-<round>" (later, earlier, similarity) of the pairs of a round whose similarity is high enough.

    Pairs come by partitions, so that the sets of two partitions are open at a time.

    Returns
    -------
    (pairs, edges) : how many there are.
    """
    sets = _LastTwo(sets_of)
    n_pairs = n_edges = 0
    path = tables.path(f"edges-{number}")
    with (
        ThreadPoolExecutor(tables.workers) as threads,
        atomic(path) as part,
        pq.ParquetWriter(part, _EDGES, compression="lz4") as writer,
    ):
        for run in _runs(tables, f"pairs-{number}"):
            a, b = sets(run.a_part), sets(run.b_part)
            pairs = np.column_stack([a.find(run.a_rows), b.find(run.b_rows)])
            shares = np.array_split(pairs, tables.workers if len(pairs) > _FEW else 1)
            found = threads.map(lambda share, a=a, b=b: jaccard_between(a.sets, b.sets, share, threshold), shares)
            similarity = np.concatenate(list(found))
            near = similarity >= threshold
            columns = [run.later[near], run.earlier[near], similarity[near]]
            writer.write_table(pa.table(columns, schema=_EDGES))
            n_pairs, n_edges = n_pairs + len(near), n_edges + int(near.sum())
    return n_pairs, n_edges


def _runs(tables: Tables, name: str) -> Iterator[Run]:
    for table in tables.read(name):
        a_part, b_part, *columns = (
            numpy(table[column]) for column in ("a_part", "b_part", "a_row", "b_row", "earlier", "later")
        )
        changes = np.flatnonzero((np.diff(a_part) != 0) | (np.diff(b_part) != 0)) + 1
        for start, stop in zip([0, *changes], [*changes, len(a_part)], strict=True):
            if stop > start:
                yield Run(int(a_part[start]), int(b_part[start]), *(column[start:stop] for column in columns))


class _LastTwo:
    """The shingle sets of partitions, of which the last two stay open."""

    def __init__(self, sets_of: Callable[[int], StoredSets]) -> None:
        self._sets_of = sets_of
        self._open: dict[int, StoredSets] = {}

    def __call__(self, part: int) -> StoredSets:
        found = self._open.pop(part, None) or self._sets_of(part)
        self._open[part] = found  # the last in order
        while len(self._open) > 2:
            del self._open[next(iter(self._open))]
        return found
