"""Fetch the kept documents of a partition, with all their columns, out of the raw files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engines.base import Engine
from curate.errors import CorruptError
from curate.features.edits import edited, edited_text
from curate.io.cleaned import Verdicts
from curate.io.corpus import Corpus, Partition
from curate.io.formats import Batch, Lines, read_raw
from curate.io.paths import arrow_source, atomic, opened, whole
from curate.io.run import digest, read_json, write_json
from curate.io.schemas import dumped, inferred, merged
from curate.io.tables import batches, regrouped
from curate.kernels.text import one_chunk
from curate.metrics.weights import LengthHistogram
from curate.sampling.solving import ExactSums
from curate.steps.decision import Cuts, Decision, chosen_scores
from curate.steps.early import LINE, early_path, early_tables
from curate.steps.scoretable import add_sizes, sizes_by

FORMAT = 3  # of the files in _work
LINES_AT_ONCE = 1_000  # JSON rows whose columns are found together
ADDED = ("curate_score", "curate_weight", "curate_target")
TAGS = "curate_tags"  # of documents that are kept with a tag


@dataclass(frozen=True)
class KeepJob:
    """What fetching needs to know. ``draw_key`` names the decision."""

    corpus: Corpus
    decision: Decision
    folder: Path
    draw_key: str
    batch_bytes: int
    scoring_key: str
    early: Path

    def path(self, partition: int, ending: str) -> Path:
        return self.folder / f"part-{partition:05d}.{ending}"

    def alone(self, partition: Partition, work: Work | None = None) -> Callable[[], dict[str, Any]]:
        """`keep_partition`, or other ``work``, of one partition, to be sent elsewhere."""
        corpus, there = self.corpus.alone(partition)
        return partial(work or keep_partition, replace(self, corpus=corpus), there)

    def key(self, partition: Partition) -> str:
        return digest([FORMAT, "keep", self.draw_key, self.corpus.identity(partition)])


Work = Callable[[KeepJob, Partition], dict[str, Any]]


@dataclass
class Kept:
    """The kept documents of one partition: where their rows and numbers are."""

    rows: np.ndarray  # int64, in the file
    scores: np.ndarray
    weights: np.ndarray  # up to a common factor
    targets: np.ndarray
    n_bytes: np.ndarray
    n_tokens: np.ndarray
    sources: dict[str, dict[str, int]] = field(default_factory=dict)


def kept_of(decision: Decision, part: int) -> Kept:
    """Apply a decision to the score table of one partition."""
    parts: list[tuple[np.ndarray, ...]] = []  # as the fields of `Kept`
    sources: dict[str, dict[str, int]] = {}
    first = 0
    for rows in batches(decision.table.parts[part]):
        chosen = decision.targets(part, rows, first)
        weights = decision.weights(part, chosen, first)[chosen >= 0]
        first += rows.num_rows
        kept = rows.append_column("_target", pa.array(chosen)).filter(pa.array(chosen >= 0))
        scores = chosen_scores(decision.table, kept, kept["_target"].to_numpy())
        numbers = (kept[name].to_numpy() for name in ("row", "_target", "n_bytes", "n_tokens"))
        row, target, n_bytes, n_tokens = numbers
        parts.append((row, scores, weights, target, n_bytes, n_tokens))
        if "source" in decision.table.carry:
            for value, sizes in sizes_by(kept, "source").items():
                add_sizes(sources, value, sizes)
    if not parts:
        empty = np.zeros(0, np.int64)
        return Kept(empty, np.zeros(0), np.zeros(0), empty, empty, empty)
    row, scores, weight, target, n_bytes, n_tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Kept(row, scores, weight, target, n_bytes, n_tokens, sources)


def keep_partition(job: KeepJob, partition: Partition) -> dict[str, Any]:
    """Write the kept rows of one partition to the work folder, unless that is done; returns what they are."""
    found = _done(job, partition)
    if found and (found["kind"] or not found["n_documents"]):
        return found
    if found is None:
        found, rows = _numbered(job, partition)
    else:
        rows = numbers_of(job, partition.index)["rows"]
    if len(rows):
        found |= _fetch(job, partition, rows)
    write_json(job.path(partition.index, "json"), found)
    return found


def number_partition(job: KeepJob, partition: Partition) -> dict[str, Any]:
    """As `keep_partition`, but for the rows, which stay where they are: no text is read. Its ``kind`` is None."""
    found = _done(job, partition)
    if found is None:
        found, _ = _numbered(job, partition)
        write_json(job.path(partition.index, "json"), found)
    return found


def _done(job: KeepJob, partition: Partition) -> dict[str, Any] | None:
    found: dict[str, Any] | None = read_json(job.path(partition.index, "json"))
    return found if found and found["key"] == job.key(partition) else None


def _numbered(job: KeepJob, partition: Partition) -> tuple[dict[str, Any], np.ndarray]:
    """What is kept of a partition, and which rows of the file that is; their numbers are written."""
    kept = kept_of(job.decision, partition.index)
    found = {
        "key": job.key(partition),
        "n_documents": len(kept.rows),
        "n_bytes": int(kept.n_bytes.sum()),
        "n_tokens": int(kept.n_tokens.sum()),
        "sources": kept.sources,
        "kind": None,
    }
    if len(kept.rows):
        with atomic(job.path(partition.index, "npz")) as part, open(part, "wb") as file:
            np.savez(
                file,
                rows=kept.rows,
                scores=kept.scores,
                weights=kept.weights,
                targets=kept.targets,
                n_bytes=kept.n_bytes,
                n_tokens=kept.n_tokens,
            )
    return found, kept.rows


def _fetch(job: KeepJob, partition: Partition, rows: np.ndarray) -> dict[str, Any]:
    """Copy rows as they are, JSON rows as lines of text, others as Arrow: those set aside, or out of raw."""
    tables = early_tables(early_path(job.early, partition), job.scoring_key, rows)
    lines = partition.n_rows is None and job.corpus.source(partition).format not in ("csv", "txt")
    if tables is None:
        tables = (_lines_of_raw if lines else _tables_of_raw)(job, partition, _Wanted(rows))
    if (cleaned := job.corpus.cleaned) is not None:
        tables = _cleaned(tables, cleaned.of(partition), rows, job.corpus.text_column)
    try:
        found, count = (_write_lines if lines else _write_tables)(job, partition, tables)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        path = job.corpus.source(partition).path
        raise CorruptError(f"{path}: its rows are not what they were when they were scored; score it again") from error
    if count != len(rows):
        path = job.corpus.source(partition).path
        raise CorruptError(f"{path}: {len(rows):,} rows are kept but {count:,} were found; score it again")
    return found


def _cleaned(tables: Iterator[pa.Table], verdicts: Verdicts, rows: np.ndarray, column: str) -> Iterator[pa.Table]:
    """The tables of kept rows with their texts, and their tags, as cleaning has them."""
    at = 0
    for table in tables:
        found = verdicts.at(rows[at : at + table.num_rows])
        at += table.num_rows
        if LINE in table.column_names:
            yield _cleaned_lines(table, found, column)
            continue
        texts = one_chunk(table[column])
        texts = texts.dictionary_decode() if pa.types.is_dictionary(texts.type) else texts
        table = table.set_column(table.schema.get_field_index(column), column, edited(texts, found["edits"]))
        if verdicts.tag:  # then all tables of the partition have the column
            table = table.drop_columns([TAGS]) if TAGS in table.column_names else table
            table = table.append_column(TAGS, found["tags"])
        yield table


def _cleaned_lines(table: pa.Table, found: pa.Table, column: str) -> pa.Table:
    """Only lines that something is changed in are written anew."""
    lines = table[LINE].to_pylist()
    changed = pc.or_(pc.is_valid(found["edits"]), pc.is_valid(found["tags"])).to_numpy()
    for i in np.flatnonzero(changed):
        row = json.loads(lines[i], object_pairs_hook=_firsts)
        verdict = {name: found[name][int(i)].as_py() for name in found.column_names}
        if verdict["edits"]:
            row[column] = edited_text(row[column], verdict["edits"])
        if verdict["tags"] is not None:
            row[TAGS] = verdict["tags"]
        lines[i] = json.dumps(row, ensure_ascii=False).encode()
    return pa.table({LINE: pa.array(lines, pa.large_binary())})


def _firsts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as it is when it is parsed for its text: of a key that is there twice the first counts."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


class _Wanted:
    """Finds which rows of each batch are kept; batches and rows both come in order."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows, self._at = rows, 0

    def mask(self, rows: np.ndarray) -> np.ndarray:
        if not len(rows):
            return np.zeros(0, bool)
        stop = int(np.searchsorted(self._rows, rows[-1], "right"))
        mask = np.isin(rows, self._rows[self._at : stop], assume_unique=True)
        self._at = stop
        return mask

    def among(self, first: int, count: int) -> np.ndarray:
        """Which of the ``count`` rows from ``first`` on are kept, as offsets."""
        stop = int(np.searchsorted(self._rows, first + count))
        found = self._rows[self._at : stop] - first
        self._at = stop
        return found


def _tables_of_raw(job: KeepJob, partition: Partition, wanted: _Wanted) -> Iterator[pa.Table]:
    for raw in read_raw(job.corpus, partition, None, batch_bytes=job.batch_bytes):
        assert isinstance(raw, Batch)
        mask = wanted.mask(raw.rows)
        if mask.any():
            yield raw.table.filter(pa.array(mask))


def _lines_of_raw(job: KeepJob, partition: Partition, wanted: _Wanted) -> Iterator[pa.Table]:
    for raw in read_raw(job.corpus, partition, None, batch_bytes=job.batch_bytes):
        assert isinstance(raw, Lines)
        starts = raw.line_starts()
        keep = wanted.among(raw.first_row, len(starts) - 1)
        if len(keep):
            lines = [raw.data[starts[i] : starts[i + 1]].strip() for i in keep]
            yield pa.table({LINE: pa.array(lines, pa.large_binary())})


def _write_tables(job: KeepJob, partition: Partition, tables: Iterator[pa.Table]) -> tuple[dict[str, Any], int]:
    writer, count, schema = None, 0, pa.schema([])
    with atomic(job.path(partition.index, "arrow")) as part, pa.OSFile(str(part), "wb") as sink:
        for table in tables:
            if writer is None:
                schema = table.schema
                writer = pa.ipc.new_file(sink, schema)
            writer.write_table(table)
            count += table.num_rows
        if writer is not None:
            writer.close()
    return {"kind": "arrow", "schema": dumped(schema.remove_metadata())}, count


def _write_lines(job: KeepJob, partition: Partition, tables: Iterator[pa.Table]) -> tuple[dict[str, Any], int]:
    schema = pa.schema([])
    blocks: list[tuple[int, int]] = []  # (kept rows before, bytes before) of each block of lines
    count = size = 0
    with atomic(job.path(partition.index, "jsonl")) as part, open(part, "wb") as sink:
        for table in regrouped(tables, LINES_AT_ONCE):  # columns must not depend on how batches were cut
            data = b"\n".join(table[LINE].to_pylist()) + b"\n"
            schema = merged(schema, inferred(data))
            blocks.append((count, size))
            sink.write(data)
            count += table.num_rows
            size += len(data)
    return {"kind": "jsonl", "schema": dumped(schema), "blocks": blocks}, count


def numbers_of(job: KeepJob, partition: int) -> Any:
    """The arrays of `Kept` of one partition that any documents are kept of, by name."""
    return _arrays(job.path(partition, "npz"))


def _arrays(path: Path) -> Any:
    with whole(path) as stream, np.load(stream, allow_pickle=False) as arrays:
        return dict(arrays)


def total_weight(job: KeepJob, found: Sequence[dict[str, Any]], engine: Engine) -> float:
    """The sum of the weights of all kept documents, the same in whatever order they are."""
    if isinstance(job.decision, Cuts):
        return float(sum(part["n_documents"] for part in found))  # each weighs 1
    paths = [job.path(index, "npz") for index, part in enumerate(found) if part["n_documents"]]
    total = ExactSums()
    for sums in engine.ordered(_weights_in, paths):
        total = total.merge(sums)
    return float(total.totals()[0])


def _weights_in(path: Path) -> ExactSums:
    return ExactSums().add(_arrays(path)["weights"])


@dataclass(frozen=True)
class Piece:
    """Kept rows ``start:stop`` of a partition."""

    partition: int
    start: int
    stop: int


def lines_of(path: Path, found: dict[str, Any], start: int, stop: int) -> Iterator[list[bytes]]:
    """JSON lines ``start:stop`` of a file that was fetched, a block at a time."""
    blocks = [*found["blocks"], [found["n_documents"], path.stat().st_size]]
    with opened(path) as file:
        for (first, offset), (end, next_offset) in pairwise(blocks):
            if end <= start or first >= stop:
                continue
            file.seek(offset)
            lines = file.read(next_offset - offset).split(b"\n")[:-1]
            yield lines[max(0, start - first) : min(end, stop) - first]


def tables_of(path: Path, start: int, stop: int) -> Iterator[pa.Table]:
    """Rows ``start:stop`` of an Arrow file that was fetched, a batch at a time."""
    with arrow_source(path) as source:
        reader = pa.ipc.open_file(source)
        first = 0
        for i in range(reader.num_record_batches):
            table = pa.Table.from_batches([reader.get_batch(i)])
            low, high = max(0, start - first), min(table.num_rows, stop - first)
            first += table.num_rows
            if low < high:
                yield table.slice(low, high - low)
            if first >= stop:
                return


def kept_lengths(decision: Decision, other: Decision, engine: Engine) -> tuple[LengthHistogram, float]:
    """Lengths of what is kept, and the share of it that another decision would have kept too."""

    def of(part: int) -> tuple[LengthHistogram, int, int]:
        lengths, both, n = LengthHistogram(), 0, 0
        first = 0
        for rows in batches(decision.table.parts[part], list({*decision.columns, *other.columns, "n_tokens"})):
            kept = decision.targets(part, rows, first) >= 0
            same = kept if other is decision else kept & (other.targets(part, rows, first) >= 0)
            first += rows.num_rows
            lengths.add(rows["n_tokens"].to_numpy()[kept])
            both, n = both + int(same.sum()), n + int(kept.sum())
        return lengths, both, n

    total, both, n = LengthHistogram(), 0, 0
    for lengths, same, count in engine.ordered(of, range(len(decision.table.parts))):
        total.merge(lengths)
        both, n = both + same, n + count
    return total, both / n if n else 0.0
