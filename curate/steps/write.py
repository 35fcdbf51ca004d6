"""Write the kept documents as shards: Parquet, or JSON Lines compressed with zstd."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from curate.errors import unknown
from curate.io.corpus import hash_file
from curate.io.paths import atomic
from curate.io.run import digest, read_json, write_json
from curate.io.schemas import conformed, from_lines, loaded, merged, to_lines, writable
from curate.steps.keep import ADDED, KeepJob, Piece, lines_of, numbers_of, tables_of

FORMAT = 1
ROW_GROUP_BYTES = 16_000_000  # of text; a group is held more than once while it is written
FORMATS = {"parquet": "parquet", "jsonl.zst": "jsonl.zst"}  # name: ending


@dataclass(frozen=True)
class WriteSpec:
    """How shards are written. ``shard_bytes``: of text in one, at most (one document may be more)."""

    format: str = "parquet"
    shard_bytes: int = 128_000_000

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("output format", self.format, FORMATS)


@dataclass(frozen=True)
class Shard:
    """A run of kept documents that becomes one file."""

    index: int
    pieces: tuple[Piece, ...]
    n_documents: int


def shard_number(path: str) -> int:
    """The number in the name of a shard."""
    return int(path.rpartition("/part-")[2].partition(".")[0])


@dataclass(frozen=True)
class WriteJob:
    """What writing a shard needs to know."""

    keep: KeepJob
    spec: WriteSpec
    found: Mapping[int, dict[str, Any]]  # what `keep_partition` returned, by partition
    schema: pa.Schema
    scale: float  # of weights, which add up to 1
    shards: Path
    markers: Path
    target_names: tuple[str, ...]  # empty unless they are separate

    def path(self, shard: Shard) -> Path:
        return self.shards / f"part-{shard.index:05d}.{FORMATS[self.spec.format]}"

    def alone(self, shard: Shard) -> Callable[[], dict[str, Any]]:
        """`write_shard` of one shard, to be sent elsewhere."""
        corpus = replace(self.keep.corpus, files=(), partitions=())
        found = {piece.partition: self.found[piece.partition] for piece in shard.pieces}
        return partial(write_shard, replace(self, keep=replace(self.keep, corpus=corpus), found=found), shard)

    def key(self, shard: Shard) -> str:
        pieces = [[self.found[p.partition]["key"], p.start, p.stop] for p in shard.pieces]
        return digest([FORMAT, "write", self.spec.format, self.spec.shard_bytes, self.schema.to_string(), pieces])


def plan_shards(
    keep: KeepJob, found: Sequence[dict[str, Any]], shard_bytes: int, *, since: int = 0, number: int = 0
) -> list[Shard]:
    """Cut the kept documents, in the order of the corpus, into runs of at most ``shard_bytes`` of text.

    Only those of partitions from ``since`` on; ``number``: of the first shard.
    """
    shards: list[Shard] = []
    pieces: list[Piece] = []
    used = 0

    def close() -> None:
        nonlocal pieces, used
        if pieces:
            shards.append(Shard(number + len(shards), tuple(pieces), sum(p.stop - p.start for p in pieces)))
        pieces, used = [], 0

    for index, part in enumerate(found):
        if index < since or not part["n_documents"]:
            continue
        if used + part["n_bytes"] <= shard_bytes:  # all of it: no need to look at its documents
            pieces.append(Piece(index, 0, part["n_documents"]))
            used += part["n_bytes"]
            continue
        ends = np.cumsum(numbers_of(keep, index)["n_bytes"])
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + shard_bytes - used, "right"))
            if stop == start and pieces:
                close()
                continue
            stop = max(stop, start + 1)
            pieces.append(Piece(index, start, stop))
            used += int(ends[stop - 1]) - before
            start = stop
            if start < len(ends):
                close()
    close()
    return shards


def output_schema(found: Sequence[dict[str, Any]], separate: bool, before: pa.Schema | None = None) -> pa.Schema:
    """All input columns over all files that rows were fetched from, then what curate adds.

    ``before``: the columns that there were already, of shards that stay.
    """
    schema = pa.schema([] if before is None else [f for f in before if f.name not in ADDED])
    seen: set[str] = set()
    for part in found:
        if part["kind"] and part["schema"] not in seen:
            seen.add(part["schema"])
            schema = merged(schema, loaded(part["schema"]).remove_metadata())
    fields = [f for f in writable(schema) if f.name not in ADDED]
    fields += [pa.field("curate_score", pa.float64()), pa.field("curate_weight", pa.float64())]
    if separate:
        fields.append(pa.field("curate_target", pa.string()))
    return pa.schema(fields)


def write_shard(job: WriteJob, shard: Shard) -> dict[str, Any]:
    """Write one shard, unless that is done; returns its entry in the manifest."""
    path, marker = job.path(shard), job.markers / f"part-{shard.index:05d}.json"
    done: dict[str, Any] | None = read_json(marker)
    if done and done["key"] == job.key(shard) and path.exists():
        entry: dict[str, Any] = done["entry"]
        return entry
    with atomic(path) as part:
        if job.spec.format == "parquet":
            _write_parquet(job, shard, part)
        else:
            _write_lines(job, shard, part)
        size, sha256 = hash_file(str(part))
    tokens = sum(int(numbers_of(job.keep, p.partition)["n_tokens"][p.start : p.stop].sum()) for p in shard.pieces)
    entry = {
        "path": f"shards/{path.name}",
        "bytes": size,
        "sha256": sha256,
        "rows": shard.n_documents,
        "tokens": tokens,
    }
    write_json(marker, {"key": job.key(shard), "entry": entry})
    return entry


def _write_parquet(job: WriteJob, shard: Shard, part: Path) -> None:
    with pq.ParquetWriter(part, job.schema, compression="zstd", compression_level=3) as writer:
        waiting: list[pa.Table] = []
        for rows, table in _by_row_group(job, shard):
            waiting.append(table)
            if rows is not None:
                group = pa.concat_tables(waiting).combine_chunks()  # pages must not depend on batches
                writer.write_table(group, row_group_size=rows)
                waiting = []
        assert not waiting, f"{len(waiting)} tables of shard {shard.index} belong to no row group"


def _by_row_group(job: WriteJob, shard: Shard) -> Iterator[tuple[int | None, pa.Table]]:
    """Tables of a shard, and after the last of each row group how many rows the group has."""
    groups = _row_groups(job, shard)
    size, left = groups[0], groups[0]
    at = 0
    for piece in shard.pieces:
        for table in _tables(job, piece):
            while table.num_rows >= left:
                yield size, table.slice(0, left)
                table, at = table.slice(left), at + 1
                if at == len(groups):
                    return
                size = left = groups[at]
            if table.num_rows:
                yield None, table
                left -= table.num_rows


def _row_groups(job: WriteJob, shard: Shard) -> list[int]:
    """Rows of each row group: as many as hold `ROW_GROUP_BYTES` of text."""
    sizes = np.concatenate([numbers_of(job.keep, p.partition)["n_bytes"][p.start : p.stop] for p in shard.pieces])
    ends = np.cumsum(sizes)
    cuts = [0]
    while cuts[-1] < len(ends):
        before = ends[cuts[-1] - 1] if cuts[-1] else 0
        cuts.append(max(cuts[-1] + 1, int(np.searchsorted(ends, before + ROW_GROUP_BYTES, "right"))))
    return np.diff(cuts).tolist()


def _tables(job: WriteJob, piece: Piece) -> Iterator[pa.Table]:
    """The rows of a piece with all columns of the output."""
    part = job.found[piece.partition]
    path = job.keep.path(piece.partition, part["kind"])
    base = pa.schema([f for f in job.schema if f.name not in ADDED])
    at = piece.start
    if part["kind"] == "jsonl":
        tables = (from_lines(lines, base) for lines in lines_of(path, part, piece.start, piece.stop))
    else:
        tables = (conformed(table, base) for table in tables_of(path, piece.start, piece.stop))
    numbers = numbers_of(job.keep, piece.partition)
    for table in tables:
        here = slice(at, at + table.num_rows)
        at += table.num_rows
        table = table.append_column("curate_score", pa.array(numbers["scores"][here]))
        table = table.append_column("curate_weight", pa.array(numbers["weights"][here] * job.scale))
        if job.target_names:
            names = np.array(job.target_names, object)[numbers["targets"][here]]
            table = table.append_column("curate_target", pa.array(names, pa.string()))
        yield table


def _write_lines(job: WriteJob, shard: Shard, part: Path) -> None:
    """JSON rows keep their text as it is; the new fields are put in at the end."""
    compressor = zstandard.ZstdCompressor(level=3)
    with open(part, "wb") as file, compressor.stream_writer(file) as sink:
        for piece in shard.pieces:
            found = job.found[piece.partition]
            if found["kind"] != "jsonl":
                for table in _tables(job, piece):
                    sink.write(to_lines(table))
                continue
            path = job.keep.path(piece.partition, "jsonl")
            numbers, at = numbers_of(job.keep, piece.partition), piece.start
            for lines in lines_of(path, found, piece.start, piece.stop):
                sink.write(b"".join(_extended(job, line, numbers, at + i) for i, line in enumerate(lines)))
                at += len(lines)


def _extended(job: WriteJob, line: bytes, numbers: Any, at: int) -> bytes:
    added: dict[str, Any] = {"curate_score": float(numbers["scores"][at])}
    added["curate_weight"] = float(numbers["weights"][at] * job.scale)
    if job.target_names:
        added["curate_target"] = job.target_names[numbers["targets"][at]]
    if b'"curate_' in line:  # a corpus that curate wrote: the old values go
        row = {k: v for k, v in json.loads(line).items() if k not in ADDED}
        return json.dumps(row | added, ensure_ascii=False).encode() + b"\n"
    assert math.isfinite(added["curate_score"])
    return line[: line.rindex(b"}")] + b"," + json.dumps(added).encode()[1:] + b"\n"
