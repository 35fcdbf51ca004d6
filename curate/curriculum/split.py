"""Documents by group: a corpus is read once, and each group can then be read by itself, in the order of the corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.curriculum.members import NONE, UNNAMED, Known, places
from curate.io.columns import schema_of
from curate.io.corpus import Corpus, Partition
from curate.io.formats import parse, read_raw
from curate.io.paths import atomic
from curate.io.run import read_json, write_json
from curate.io.schemas import conformed, dumped, loaded, merged, without_views, writable
from curate.steps.documents import Documents, documents

NAMES_KEPT = 100  # of groups that the curriculum does not name, to find the nearest among
LEFT_OUT = ("no_group", "unnamed", "weight_0", "no_text", "bad_row")  # why a document is in no group's files


class Membership(Protocol):
    """Says which group documents are in. ``carry``: columns of theirs that it needs."""

    @property
    def carry(self) -> tuple[str, ...]: ...

    def groups(self, docs: Documents) -> tuple[np.ndarray, pa.Array]:
        """``(int32[n_docs], large_string[n_docs])``: places among the names, `NONE`, `UNNAMED`; names or null."""
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
        return places(values, self.names), values


@dataclass(frozen=True)
class ByTable:
    """The group of an id is looked up; ``known`` has its place among the names."""

    known: Known
    carry: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, names: pa.Array) -> ByTable:
        """Of ``groups.parquet``."""
        return cls(Known.read(path, names))

    def groups(self, docs: Documents) -> tuple[np.ndarray, pa.Array]:
        return self.known.places(docs.ids), pa.nulls(len(docs), pa.large_string())


@dataclass(frozen=True)
class SplitJob:
    """What splitting needs to know. ``wanted``: bool[n_names], the groups that are written."""

    corpus: Corpus
    membership: Membership
    wanted: np.ndarray
    folder: Path
    key: str
    batch_bytes: int

    def path(self, partition: Partition, ending: str) -> Path:
        return self.folder / f"part-{partition.index:05d}.{ending}"


def split_partition(job: SplitJob, partition: Partition) -> dict[str, Any]:
    """Write the documents of a partition as Arrow, each record batch of one group, unless that is done.

    Returns
    -------
    found : ``schema``; ``groups``: by place ``{batches, documents, bytes}``; ``left_out``: documents by reason;
        ``unnamed``: some groups that the curriculum does not name; ``nulls``: columns that have some; ``bad``.
    """
    marker = job.path(partition, "json")
    done: dict[str, Any] | None = read_json(marker)
    if done and done["key"] == job.key and job.path(partition, "arrow").exists():
        return done
    schema = _schema(job, partition)
    found = _Found()
    with (
        atomic(job.path(partition, "arrow")) as part,
        pa.OSFile(str(part), "wb") as sink,
        pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer,
    ):
        for raw in read_raw(job.corpus, partition, None, batch_bytes=job.batch_bytes):
            for place, table in _by_group(job, partition, parse(raw, None), schema, found):
                writer.write_batch(table.combine_chunks().to_batches()[0])
                found.add(place, table, job.corpus.text_column)
    result = {"key": job.key, "schema": dumped(schema), **found.as_dict()}
    write_json(marker, result)
    return result


class _Found:
    """What was seen of a partition."""

    def __init__(self) -> None:
        self.groups: dict[int, dict[str, Any]] = {}
        self.left_out: Counter[str] = Counter()
        self.unnamed: dict[str, None] = {}
        self.nulls: set[str] = set()
        self.bad: list[list[Any]] = []
        self._batches = 0

    def add(self, place: int, table: pa.Table, text_column: str) -> None:
        of = self.groups.setdefault(place, {"batches": [], "documents": 0, "bytes": 0})
        of["batches"].append(self._batches)
        of["documents"] += table.num_rows
        of["bytes"] += pc.sum(pc.binary_length(table[text_column])).as_py()
        self.nulls |= {name for name in table.column_names if table[name].null_count}
        self._batches += 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "groups": {str(place): of for place, of in sorted(self.groups.items())},
            "left_out": {reason: self.left_out[reason] for reason in LEFT_OUT},
            "unnamed": list(self.unnamed),
            "nulls": sorted(self.nulls),
            "bad": self.bad,
        }


def _schema(job: SplitJob, partition: Partition) -> pa.Schema:
    corpus = job.corpus
    own = (corpus.id_column, corpus.text_column)
    others = [f for f in writable(schema_of(corpus, partition, job.batch_bytes)) if f.name not in own]
    return pa.schema([*(pa.field(name, pa.large_string()) for name in own), *others])


def _by_group(
    job: SplitJob, partition: Partition, batch: Any, schema: pa.Schema, found: _Found
) -> Iterator[tuple[int, pa.Table]]:
    """The documents of a batch that are wanted, a group at a time; the others are counted."""
    docs = documents(job.corpus, partition, batch, job.membership.carry)
    found.bad += [[b.path, b.row, b.reason, b.content.hex()] for b in docs.bad]
    found.left_out["bad_row"] += len(docs.bad)
    if not len(docs):
        return
    place, values = job.membership.groups(docs)
    named = place >= 0
    wanted = named & np.append(job.wanted, False)[place]
    with_text = docs.n_bytes > 0
    for reason, which in (
        ("no_group", place == NONE), ("unnamed", place == UNNAMED), ("weight_0", named & ~wanted),
        ("no_text", wanted & ~with_text),
    ):  # fmt: skip
        found.left_out[reason] += int(which.sum())
    if len(found.unnamed) < NAMES_KEPT and (unnamed := pa.array(place == UNNAMED)).true_count:
        some = pc.unique(pc.drop_null(values.filter(unnamed)))[:NAMES_KEPT].to_pylist()
        found.unnamed = dict.fromkeys([*found.unnamed, *some][:NAMES_KEPT])
    rows = np.flatnonzero(wanted & with_text)
    if not len(rows):
        return
    rows = rows[np.argsort(place[rows], kind="stable")]
    own = {job.corpus.id_column: docs.ids, job.corpus.text_column: docs.texts}
    others = batch.table.drop_columns([name for name in own if name in batch.table.column_names])
    table = conformed(pa.table({**own, **dict(zip(others.column_names, others.columns, strict=True))}), schema)
    table = without_views(table).take(pa.array(rows))
    ordered = place[rows]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(ordered)], strict=True):
        yield int(ordered[start]), table.slice(start, stop - start)


def whole_schema(found: Sequence[dict[str, Any]]) -> pa.Schema:
    """The columns of all partitions together."""
    schema = pa.schema([])
    for part in found:
        schema = merged(schema, loaded(part["schema"]))
    return writable(schema)


def tables_of_group(
    job: SplitJob, found: Sequence[dict[str, Any]], place: int, schema: pa.Schema
) -> Iterator[pa.Table]:
    """The documents of a group, in the order of the corpus."""
    for partition, part in zip(job.corpus.partitions, found, strict=True):
        of = part["groups"].get(str(place))
        if of is None:
            continue
        with pa.OSFile(str(job.path(partition, "arrow"))) as source:
            reader = pa.ipc.open_file(source)
            for number in of["batches"]:
                yield conformed(pa.Table.from_batches([reader.get_batch(number)]), schema)


def by_bytes(tables: Iterator[pa.Table], text_column: str, limit: int) -> Iterator[tuple[pa.Table, int]]:
    """The same rows in tables of at most ``limit`` bytes of text, or of one row, and those bytes.

    Where the tables were cut before does not matter.
    """
    waiting: list[pa.Table] = []
    used = 0
    for table in tables:
        ends = np.cumsum(pc.binary_length(table[text_column]).to_numpy())
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + limit - used, "right"))
            if stop == start and not waiting:
                stop = start + 1
            if stop > start:
                waiting.append(table.slice(start, stop - start))
                used += int(ends[stop - 1]) - before
                start = stop
            if start < len(ends) or used >= limit:
                yield pa.concat_tables(waiting).combine_chunks(), used
                waiting, used = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks(), used
