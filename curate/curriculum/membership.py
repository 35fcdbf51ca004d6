"""Which group of a curriculum each document is in: by a column of its own, or by a table of ids and groups."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import CorruptError, InputError
from curate.io.tables import batches, numpy
from curate.sampling.noise import TIE, keyed_hashes
from curate.steps.documents import Documents
from curate.steps.sorting import Sorter, read_rows, write_rows

NONE = -1  # the document has no group
UNNAMED = -2  # it has one that the curriculum does not name
_ENTRY = np.dtype([("id", "<u8"), ("group", "<i4")])


class Membership(Protocol):
    """Says which group documents are in. ``carry``: columns that it needs of them."""

    @property
    def carry(self) -> tuple[str, ...]: ...

    def groups(self, docs: Documents) -> tuple[np.ndarray, pa.Array]:
        """``(int32[n_docs], large_string[n_docs])``: a place among the names, `NONE` or `UNNAMED`; and as it stands.

        The second may be null where the first is a place.
        """
        ...


@dataclass(frozen=True)
class ByColumn:
    """The group is the value of a column; ``names`` are those of the curriculum."""

    column: str
    names: pa.Array

    @property
    def carry(self) -> tuple[str, ...]:
        return (self.column,)

    def groups(self, docs: Documents) -> tuple[np.ndarray, pa.Array]:
        values = docs.carried[self.column]
        return _places(values, self.names), values


@dataclass(frozen=True)
class ByTable:
    """The group of an id is looked up in a sorted file (`write_lookup`) that is mapped into memory.

    Ids are known by a hash of 64 bits: of a hundred million ids and as many documents without a group, the chance that
    any of these is taken for one of those is 1 in 2,000.
    """

    path: Path
    names: pa.Array

    @property
    def carry(self) -> tuple[str, ...]:
        return ()

    def groups(self, docs: Documents) -> tuple[np.ndarray, pa.Array]:
        nulls = pa.nulls(len(docs), pa.large_string())
        if not os.path.getsize(self.path):
            return np.full(len(docs), NONE, np.int32), nulls
        entries = np.memmap(self.path, _ENTRY, "r")
        hashes = keyed_hashes(docs.ids, 0, TIE)
        at = np.minimum(np.searchsorted(entries["id"], hashes), len(entries) - 1)
        found = np.where(entries["id"][at] == hashes, entries["group"][at], NONE).astype(np.int32)
        return found, nulls


def _places(values: Any, names: pa.Array) -> np.ndarray:
    found = pc.fill_null(pc.index_in(values, names), UNNAMED)
    return pc.if_else(pc.is_valid(values), found, NONE).to_numpy(zero_copy_only=False).astype(np.int32)


def write_lookup(groups: Path, names: pa.Array, to: Path, sorter: Sorter) -> None:
    """Write what `ByTable` looks up, sorted on disk.

    Parameters
    ----------
    groups : Parquet with ``doc_id`` and ``group``.
    names : those of the curriculum.

    Raises
    ------
    InputError : an id in two groups, or no such columns. CorruptError : no Parquet file.
    """
    rows = to.with_suffix(".rows")
    write_rows(rows, _hashed(groups, names))
    before = np.empty(0, _ENTRY)
    with open(to, "wb") as file:
        for table in read_rows(sorter.sorted(rows, '"id", "group"')):
            entries = np.empty(table.num_rows, _ENTRY)
            entries["id"], entries["group"] = numpy(table["id"]), numpy(table["group"])
            both = np.concatenate([before, entries])
            again = both["id"][1:] == both["id"][:-1]
            if (twice := again & (both["group"][1:] != both["group"][:-1])).any():
                doc_id = _with_hash(groups, both["id"][1:][np.argmax(twice)])
                raise InputError(f"{groups}: document {doc_id!r} is in two groups; leave it in one")
            new = np.ones(len(entries), bool)
            new[len(entries) - len(again) :] = ~again
            entries[new].tofile(file)
            before = entries[-1:]
    rows.unlink(missing_ok=True)


def _hashed(groups: Path, names: pa.Array) -> Iterator[pa.Table]:
    for table in _id_batches(groups, ["doc_id", "group"]):
        places = _places(table["group"].cast(pa.large_string()).combine_chunks(), names)
        ids = keyed_hashes(table["doc_id"].cast(pa.large_string()), 0, TIE)
        yield pa.table({"id": pa.array(ids), "group": pa.array(places)})


def _id_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    try:
        for table in batches(path, list(columns)):
            missing = [name for name in columns if name not in table.column_names]
            if missing:
                raise InputError(f"{path}: no column {missing[0]!r}; a table of groups has doc_id and group")
            yield table
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptError(f"{path}: not a Parquet file ({error})") from error


def _with_hash(groups: Path, wanted: np.uint64) -> str:
    """The id of that hash."""
    for table in _id_batches(groups, ["doc_id"]):
        ids = table["doc_id"].cast(pa.large_string())
        at = np.flatnonzero(keyed_hashes(ids, 0, TIE) == wanted)
        if len(at):
            return str(ids[int(at[0])].as_py())
    return "?"
