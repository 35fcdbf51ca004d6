"""Shards of a selection that is drawn again over more partitions: which stay as they are, which are written anew.

A shard is a run of the documents that the former ledger kept, so where it begins is known: at its first document. The
same beginnings cut what is kept now; partitions that have come get shards of their own, behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import RunError
from curate.io.tables import batches, count_rows, numpy
from curate.steps.keep import KeepJob, Piece, numbers_of
from curate.steps.write import Shard, plan_shards, shard_number

COMPARED = ("scores", "weights", "targets")  # beside the rows: what a shard says of a document


@dataclass(frozen=True)
class Redrawn:
    """All shards that are to be. ``stay``: numbers of those whose files are right as they are."""

    shards: tuple[Shard, ...]
    stay: frozenset[int]

    @property
    def to_write(self) -> list[Shard]:
        return [shard for shard in self.shards if shard.index not in self.stay]

    def all_anew(self) -> Redrawn:
        return replace(self, stay=frozenset())


@dataclass(frozen=True)
class RedrawJob:
    """What it takes to tell.

    ``found``: what `number_partition` returned, by partition; ``scale``: of weights, see `Decision`. ``ledger``,
    ``shards``: of the former selection, the latter's entries in its manifest, in order; it was of the first ``since``
    partitions. ``targets``: names, of separate ones.
    """

    keep: KeepJob
    found: Sequence[Mapping[str, Any]]
    scale: float
    ledger: Path
    shards: Sequence[Mapping[str, Any]]
    since: int
    targets: tuple[str, ...]


def redrawn(job: RedrawJob, shard_bytes: int) -> Redrawn:
    """Cut what is kept now at the beginnings of the former shards, and compare.

    One that nothing is left of is no shard any more. New ones hold at most ``shard_bytes`` of text; former ones may
    grow beyond.

    Raises
    ------
    RunError : the former ledger and manifest do not speak of the same selection.
    """
    numbers = [shard_number(entry["path"]) for entry in job.shards]
    pieces: list[list[Piece]] = [[] for _ in numbers]
    changed: set[int] = set()
    at, left = 0, int(job.shards[0]["rows"])  # the shard that goes on, and how many of its former documents are to come
    for partition, was in enumerate(_former(job)):
        now = _now(job, partition)
        n_was, done, start = len(was["rows"]), 0, 0
        while True:
            if not left and done < n_was:
                at += 1
                left = int(job.shards[at]["rows"]) if at < len(numbers) else 0
                if not left:
                    raise RunError(f"{job.ledger}: keeps other documents than the shards hold; see curate verify")
            stop_was = min(n_was, done + left)
            stop = len(now["rows"])
            if stop_was < n_was:
                stop = int(np.searchsorted(now["rows"], was["rows"][stop_was]))
            if stop > start:
                pieces[at].append(Piece(partition, start, stop))
            if not _same(was, slice(done, stop_was), now, slice(start, stop)):
                changed.add(at)
            left -= stop_was - done
            done, start = stop_was, stop
            if done == n_was:
                break
    shards = [Shard(n, tuple(of), _n_documents(of)) for n, of in zip(numbers, pieces, strict=True) if of]
    stay = frozenset(n for i, n in enumerate(numbers) if i not in changed)
    new = plan_shards(job.keep, list(map(dict, job.found)), shard_bytes, since=job.since, number=max(numbers) + 1)
    return Redrawn((*shards, *new), stay)


def _n_documents(pieces: Sequence[Piece]) -> int:
    return sum(piece.stop - piece.start for piece in pieces)


def _same(was: Mapping[str, np.ndarray], old: slice, now: Mapping[str, np.ndarray], new: slice) -> bool:
    """Whether the documents are the same, and all that is said of them, to the last bit."""
    return all(was[name][old].tobytes() == now[name][new].tobytes() for name in ("rows", *COMPARED))


def _now(job: RedrawJob, partition: int) -> dict[str, np.ndarray]:
    """What is kept of a partition now."""
    if not job.found[partition]["n_documents"]:
        return _arrays(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))
    found = numbers_of(job.keep, partition)
    return _arrays(found["rows"], found["scores"], found["weights"] * job.scale, found["targets"])


def _arrays(rows: Any, scores: Any, weights: Any, targets: Any) -> dict[str, np.ndarray]:
    return {
        "rows": np.asarray(rows, np.int64),
        "scores": np.asarray(scores, np.float64),
        "weights": np.asarray(weights, np.float64),
        "targets": np.asarray(targets, np.int64),
    }


def _former(job: RedrawJob) -> Iterator[dict[str, np.ndarray]]:
    """What the former ledger kept of each of its partitions."""
    columns = ["kept", "row", "score", "weight", *(["target"] if job.targets else [])]
    tables = batches(job.ledger, columns)
    table: pa.Table | None = None
    for partition in range(job.since):
        n_rows = count_rows(job.keep.decision.table.parts[partition])
        some: list[dict[str, np.ndarray]] = [_arrays([], [], [], [])]
        while n_rows:
            if table is None or not table.num_rows:
                table = next(tables, None)
            if table is None:
                raise RunError(f"{job.ledger}: has fewer rows than scores/; see curate verify")
            here = table.slice(0, n_rows)
            table, n_rows = table.slice(here.num_rows), n_rows - here.num_rows
            some.append(_kept(job, here.filter(here["kept"])))
        yield {name: np.concatenate([arrays[name] for arrays in some]) for name in some[0]}


def _kept(job: RedrawJob, rows: pa.Table) -> dict[str, np.ndarray]:
    targets: Any = np.zeros(rows.num_rows, np.int64)
    if job.targets:
        targets = numpy(pc.index_in(rows["target"], value_set=pa.array(job.targets, pa.string())))
    return _arrays(numpy(rows["row"]), numpy(rows["score"]), numpy(rows["weight"]), targets)
