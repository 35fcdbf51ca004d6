"""The score table: its files, what one pass over them finds, and ids that occur twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engines.base import Engine
from curate.errors import UsageError
from curate.io.corpus import Corpus
from curate.io.run import digest
from curate.io.tables import batches, numpy
from curate.metrics.weights import LengthHistogram, ScoreMoments
from curate.sampling.noise import TIE, keyed_hashes

FORMAT = 1  # of the score table and what names it
MAX_GROUPS = 1_000
OTHER = "(other)"
NO_TEXT, TOO_SHORT = "no_text", "too_short"  # why a document has no score; all other reasons are of cleaning


@dataclass(frozen=True)
class Parts(Sequence[Path]):
    """The files of a score table, one a partition, in order; named as they are asked for: there may be millions.

    Those from number ``since`` on may be ``apart``, in a folder of their own.
    """

    folder: Path
    n: int
    apart: Path | None = None
    since: int = 0

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, at: int) -> Path: ...

    @overload
    def __getitem__(self, at: slice) -> list[Path]: ...

    def __getitem__(self, at: int | slice) -> Path | list[Path]:
        where = range(self.n)[at]
        if isinstance(where, range):
            return [self[i] for i in where]
        folder = self.apart if self.apart is not None and where >= self.since else self.folder
        return folder / f"part-{where:05d}.parquet"


def generations_of(commit: Mapping[str, Any]) -> list[int]:
    """How many files a score table was first made of, and how many came with each update."""
    return list(commit.get("generations") or [len(commit["corpus"]["files"])])


def keys_grown(first: str, corpus: Corpus, generations: Sequence[int]) -> list[str]:
    """The names of a score table that grew: ``first``, of the files it was first made of, then with each update's."""
    keys, start = [first], generations[0]
    for n_files in generations[1:]:
        came = [corpus.identity(p) for p in corpus.partitions if start <= p.file < start + n_files]
        keys.append(digest({"format": FORMAT, "grown_from": keys[-1], "raw": came}))
        start += n_files
    return keys


def keys_of_parts(commit: Mapping[str, Any], first: str) -> list[str]:
    """The name that each file of a score table has in it, as ``commit`` says; ``first``: the one in the first file.

    A file keeps the name of the table that it came with; fusing writes all of them anew. One name for all when that of
    ``first`` does not grow to the table's.
    """
    corpus, generations = Corpus.from_dict(commit["corpus"]), generations_of(commit)
    n = len(corpus.partitions)
    if len(generations) == 1 or "+" in commit["spec"]["method"]:
        return [commit["key"]] * n
    keys = keys_grown(first, corpus, generations)
    if keys[-1] != commit["key"]:
        return [commit["key"]] * n
    of_file = [key for key, n_files in zip(keys, generations, strict=True) for _ in range(n_files)]
    return [of_file[p.file] for p in corpus.partitions]


@dataclass(frozen=True)
class ScoreTable:
    """The files of a score table, and what is in them. ``key``: the name that all of them have, where it is one."""

    parts: Sequence[Path]
    score_columns: tuple[str, ...]
    carry: tuple[str, ...]
    target_proportions: tuple[float, ...]
    key: str = ""


@dataclass
class Statistics:
    """What one pass over a score table finds; merged in the order of the partitions."""

    moments: list[ScoreMoments]
    lengths: LengthHistogram = field(default_factory=LengthHistogram)
    n_documents: int = 0
    n_bytes: int = 0
    n_tokens: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)  # what is left, by value of `per`; as `sizes_by`
    sources: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def n_eligible(self) -> int:
        return self.moments[0].n

    def merge(self, other: Statistics) -> None:
        self.moments = [a.merge(b) for a, b in zip(self.moments, other.moments, strict=True)]
        self.lengths.merge(other.lengths)
        self.n_documents += other.n_documents
        self.n_bytes += other.n_bytes
        self.n_tokens += other.n_tokens
        for name, count in other.reasons.items():
            self.reasons[name] = self.reasons.get(name, 0) + count
        for mine, theirs in ((self.groups, other.groups), (self.sources, other.sources)):
            for value, sizes in theirs.items():
                add_sizes(mine, value, sizes)
        if len(self.groups) > MAX_GROUPS:
            raise UsageError(f"--per: the column has over {MAX_GROUPS:,} different values; take a coarser one")


def add_sizes(totals: dict[str, dict[str, int]], value: str, sizes: Mapping[str, int]) -> None:
    """Add documents, bytes and tokens to those of a value."""
    if value not in totals and len(totals) > MAX_GROUPS:
        value = OTHER  # such as a source that is a URL: of no use in a table, and without limit
    into = totals.setdefault(value, {"documents": 0, "bytes": 0, "tokens": 0})
    for unit, size in sizes.items():
        into[unit] += size


def sizes_by(table: pa.Table, column: str) -> dict[str, dict[str, int]]:
    """Documents, bytes and tokens of each value of a column, in the order of the values."""
    grouped = (
        pa.table(
            {
                "value": pc.fill_null(table[column].cast(pa.large_string()), ""),
                "n_bytes": table["n_bytes"],
                "n_tokens": table["n_tokens"],
            }
        )
        .group_by("value", use_threads=False)
        .aggregate([("n_bytes", "count"), ("n_bytes", "sum"), ("n_tokens", "sum")])
        .sort_by("value")
    )
    names = ("n_bytes_count", "n_bytes_sum", "n_tokens_sum")
    values = zip(grouped["value"].to_pylist(), *(grouped[n].to_pylist() for n in names), strict=True)
    return {v: {"documents": d, "bytes": b, "tokens": t} for v, d, b, t in values}


def remaining(rows: pa.Table) -> pa.Table:
    """Those rows of a score table whose documents cleaning does not remove; the column ``reason`` must be there."""
    own = pc.is_in(rows["reason"], pa.array([NO_TEXT, TOO_SHORT], pa.string()))
    return rows.filter(pc.or_(pc.is_null(rows["reason"]), own))


def statistics(table: ScoreTable, engine: Engine, per: str | None) -> Statistics:
    """Moments, lengths, reasons and sizes of the whole score table.

    Raises
    ------
    RunError : a file of it is of other scores.
    """
    source = "source" if "source" in table.carry else None
    needed = dict.fromkeys([*table.score_columns, "n_tokens", "n_bytes", "reason", *(c for c in (per, source) if c)])

    def of(part: Path) -> Statistics:
        found = Statistics([ScoreMoments() for _ in table.score_columns])
        for rows in batches(part, list(needed), table.key):
            found.merge(_statistics(rows, table.score_columns, per, source))
        return found

    total = Statistics([ScoreMoments() for _ in table.score_columns])
    for found in engine.ordered(of, table.parts):
        total.merge(found)
    return total


def _statistics(rows: pa.Table, score_columns: Sequence[str], per: str | None, source: str | None) -> Statistics:
    lengths = numpy(rows["n_tokens"])
    moments = []
    for name in score_columns:
        scores = numpy(rows[name])
        there = ~np.isnan(scores)
        moments.append(ScoreMoments.of(scores[there], lengths[there]))
    found = Statistics(moments, n_documents=rows.num_rows)
    found.lengths.add(lengths)
    found.n_bytes, found.n_tokens = int(numpy(rows["n_bytes"]).sum()), int(lengths.sum())
    reasons = rows["reason"].drop_null().value_counts()
    found.reasons = {item["values"].as_py(): item["counts"].as_py() for item in reasons}
    if source:
        found.sources = sizes_by(rows, source)
    if per:
        nothing = {"documents": 0, "bytes": 0, "tokens": 0}
        everywhere = dict.fromkeys(pc.fill_null(rows[per].cast(pa.large_string()), "").unique().to_pylist(), nothing)
        found.groups = everywhere | sizes_by(remaining(rows), per)
    return found


_IDS_AT_ONCE = 20_000_000
_PASSES = 50  # over the table: beyond a billion documents, copies of an id are counted in a slice of the ids


def duplicate_ids(table: ScoreTable, total: int, engine: Engine) -> int:
    """How many of ``total`` documents have an id that an earlier one has too; an estimate beyond a billion.

    Those that cleaning removes do not count.
    """
    slices = max(1, -(-total // _IDS_AT_ONCE))
    passes = slices if slices <= _PASSES else 1
    copies = 0
    for i in range(passes):

        def hashes(part: Path, i: int = i) -> np.ndarray:
            left = map(remaining, batches(part, ["doc_id", "reason"]))
            found = [keyed_hashes(rows["doc_id"], 0, TIE) for rows in left]
            mine = [h[(h >> np.uint64(32)) % np.uint64(slices) == i] if slices > 1 else h for h in found]
            return np.concatenate([np.zeros(0, np.uint64), *mine])

        ordered = np.sort(np.concatenate([np.zeros(0, np.uint64), *engine.map(hashes, table.parts)]))
        copies += int((ordered[1:] == ordered[:-1]).sum())
    return copies * slices // passes
