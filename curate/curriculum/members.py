"""Which documents of a corpus are in which group of a curriculum, and with which weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.curriculum.store import Store
from curate.errors import CorruptError, InputError
from curate.io.curriculum import CURRICULUM, Curriculum
from curate.io.paths import atomic, locked
from curate.io.run import digest
from curate.io.tables import batches
from curate.sampling.noise import MEMBERS, keyed_hashes

NONE = -1  # the document has no group
UNNAMED = -2  # it has one that is not among the names


@dataclass(frozen=True)
class Members:
    """Documents by group.

    Attributes
    ----------
    docs : int64[n_members], documents of the first group, then of the second, ...; within a group by a hash of the id.
    sizes : int64[n_groups].
    n_left_out : documents that are in none of the groups. checksum : of the ids, in whatever files they are.
    """

    docs: np.ndarray
    sizes: np.ndarray
    n_left_out: int
    checksum: int

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.sizes) - self.sizes


def members(store: Store, code_of: Callable[[], Iterable[np.ndarray]], n_groups: int, seed: int, of: Any) -> Members:
    """Sort the documents of a store by group; what that gives is kept beside the store.

    Parameters
    ----------
    code_of : int32 group of each document, batch by batch, below 0 for none. of : what the groups are, as JSON.
    """
    path = store.folder / f"members-{digest([of, n_groups, seed])[:24]}.npy"
    if not path.exists():
        with locked(store.folder):
            codes = np.concatenate([*code_of(), np.empty(0, np.int32)])
            parts = [keyed_hashes(ids, seed, MEMBERS) for ids in store.column("doc_id")]
            hashes = np.concatenate([*parts, np.empty(0, np.uint64)])
            order = np.lexsort((hashes, codes))[np.count_nonzero(codes < 0) :]
            checksum = hashes[order].sum(keepdims=True).astype(np.int64)
            with atomic(path) as part, open(part, "wb") as stream:
                np.save(stream, np.concatenate([checksum, np.bincount(codes[order], minlength=n_groups), order]))
    found = np.load(path, mmap_mode="r")
    sizes = np.array(found[1 : n_groups + 1])
    return Members(found[n_groups + 1 :], sizes, store.n_docs - int(sizes.sum()), int(found[0]))


def codes_of_column(store: Store, column: str, names: list[str]) -> Iterable[np.ndarray]:
    """The group of each document by the value of a column."""
    wanted = pa.array(names, pa.large_string())
    for values in store.column(column):
        yield places(values, wanted)


def codes_of_table(store: Store, path: Path, names: list[str]) -> Iterable[np.ndarray]:
    """The group of each document by a table of ``doc_id`` and ``group``, which may have other documents too."""
    known = Known.read(path, pa.array(names, pa.large_string()))
    for ids in store.column("doc_id"):
        yield known.places(ids)


def places(values: pa.Array, names: pa.Array) -> np.ndarray:
    """int32[n]: where each value is among the names, `NONE` for null, `UNNAMED` where it is not."""
    found = pc.fill_null(pc.index_in(values, names), UNNAMED)
    return pc.if_else(pc.is_valid(values), found, NONE).to_numpy().astype(np.int32)


def weights_of_documents(store: Store, curriculum: Curriculum, stage: int) -> tuple[np.ndarray, int]:
    """``(float64[n_docs], documents that the store lacks)``: the weights of a stage, 0 where there is none."""
    rows = curriculum.stages == stage
    known = Known.of(keyed_hashes(curriculum.names.filter(pa.array(rows)), 0, MEMBERS), curriculum.weights[rows])
    parts = [np.empty(0)]
    seen = np.zeros(len(known.hashes), bool)
    for ids in store.column("doc_id"):
        found, value = known.get(ids, seen)
        parts.append(np.where(found, value, 0.0))
    return np.concatenate(parts), int((~seen).sum())


@dataclass(frozen=True)
class Known:
    """Values of documents by the hash of their id: 64 bits, so that a hundred million of them take no gigabytes."""

    hashes: np.ndarray  # ascending
    values: np.ndarray

    @classmethod
    def read(cls, path: Path, names: pa.Array) -> Known:
        """Of a table with ``doc_id`` and ``group``: the places of groups among the names."""
        hashes, values = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
        for table in _groups_in(path):
            hashes.append(keyed_hashes(_text(table["doc_id"]), 0, MEMBERS))
            values.append(places(_text(table["group"]), names))
        return cls.of(np.concatenate(hashes), np.concatenate(values), str(path))

    @classmethod
    def of(cls, hashes: np.ndarray, values: np.ndarray, place: str = CURRICULUM) -> Known:
        by = np.argsort(hashes, kind="stable")
        hashes, values = hashes[by], values[by]
        same = hashes[1:] == hashes[:-1]
        if (same & (values[1:] != values[:-1])).any():
            raise InputError(f"{place}: a doc_id occurs twice, with different values; documents need ids of their own")
        return cls(hashes, values)

    def get(self, ids: pa.Array, seen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(whether it is known, its value)`` of each id."""
        if not len(self.hashes):
            return np.zeros(len(ids), bool), np.zeros(len(ids), self.values.dtype)
        wanted = keyed_hashes(ids, 0, MEMBERS)
        at = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        found = self.hashes[at] == wanted
        if seen is not None:
            seen[at[found]] = True
        return found, self.values[at]

    def places(self, ids: pa.Array) -> np.ndarray:
        """int32[n]: the place of each id's group, `NONE` for one that is not known."""
        found, value = self.get(ids)
        return np.where(found, value, NONE).astype(np.int32)


def _groups_in(path: Path) -> Iterator[pa.Table]:
    try:
        for table in batches(path, ["doc_id", "group"]):
            if len(table.column_names) != 2:
                raise InputError(f"{path}: must have the columns doc_id and group")
            yield table
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptError(f"{path}: not a Parquet file ({error})") from error


def _text(column: Any) -> pa.Array:
    return column.cast(pa.large_string()).combine_chunks()
