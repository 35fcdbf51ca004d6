"""Draw by coverage: the best documents by score are candidates, and those are kept that together cover the target.

Texts of candidates are set aside on disk, dealt by a hash of the id into slices that fit into memory. Each slice
is gone through once, and spends its part of the budget on what earlier ones did not cover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from curate.engines.base import BatchEngine
from curate.errors import CorruptError, InputError
from curate.io.corpus import Corpus, Partition
from curate.io.paths import arrow_source, atomic
from curate.io.run import digest
from curate.io.tables import KEY, batches, numpy
from curate.kernels.bytematch import HIGHEST, Vocabulary, words
from curate.kernels.text import one_chunk, string_buffers
from curate.sampling.budget import Budget
from curate.sampling.cover import PRIOR, ROUNDS, Coverage, Matches, greedy_cover
from curate.sampling.noise import TIE, keyed_hashes, mix
from curate.scorers.base import encoded, texts_within
from curate.scorers.bytegrams import TARGET_BYTES
from curate.steps.decision import Cuts, Listed
from curate.steps.documents import documents, raw_batches
from curate.steps.draw import draw_table
from curate.steps.holdout import target_texts

if TYPE_CHECKING:
    from curate.steps.decide import DecideJob

FORMAT = 1  # of the files of candidates
CANDIDATES = 8  # budgets; on the pool 5 or 16 make no difference
SLICE_BYTES = 50_000_000  # of text: matches take four times as much, twice
GROUP_BYTES = 32_000_000  # of text that is dealt into slices at once, by all workers together
SCHEMA = pa.schema(
    [
        ("place", pa.int64()),  # in the part of the score table
        ("n_bytes", pa.int64()),
        ("size", pa.int64()),  # what the budget counts
        ("tie", pa.uint64()),
        ("text", pa.large_string()),
    ]
)


def list_cover(job: DecideJob) -> Listed:
    """Find what is kept.

    Raises
    ------
    InputError : no document has a score; the target has no text.
    """
    assert job.spec.budget is not None
    done = Listed.done(job.table, job.spec, job.scratch, job.key)
    if done is not None:
        return done
    vocabulary, notes = _vocabulary(job)
    coverage = Coverage(vocabulary)
    wider = Budget(CANDIDATES * job.spec.budget.amount, job.spec.budget.unit)
    cuts = draw_table(job.table, replace(job.spec, draw="topk", budget=wider), job.found, job.engine)
    sizes = job.engine.map(lambda part: _candidates(cuts, part).sizes, range(len(job.table.parts)))
    n_slices = max(1, -(-sum(n_bytes for n_bytes, _ in sizes) // SLICE_BYTES))
    staging = _Staging(job.corpus, cuts, n_slices, job.scratch, job.key, job.batch_bytes, job.engine.inside)
    staged = job.engine.each(partial(_stage, staging), job.corpus.partitions, alone=staging.alone)
    paths = [path for _, path in sorted((p.index, path) for p, path in staged)]
    total = job.spec.budget.total(job.found.n_documents)
    bytes_of_budget = total * sum(n_bytes for n_bytes, _ in sizes) / max(1, sum(size for _, size in sizes))
    kept = _covered(job, coverage, paths, n_slices, total, bytes_of_budget)
    listed = Listed.write(job.table, job.spec, job.scratch, job.key, kept, notes)
    for path in paths:
        path.unlink()
    return listed


def _vocabulary(job: DecideJob) -> tuple[Vocabulary, list[str]]:
    """All n-grams of the targets together, at most `TARGET_BYTES` of each, and a note where that is not all."""
    parts, notes = [], []
    for name, corpus in job.targets.items():
        texts, n_bytes = texts_within(encoded(target_texts(corpus, job.batch_bytes, job.holdout)), TARGET_BYTES)
        if not texts:
            raise InputError(f"target {name!r} has no text: nothing to cover")
        offsets = np.cumsum([0, *map(len, texts)])
        parts.append(words(np.frombuffer(b"".join(texts), np.uint8), offsets))
        if offsets[-1] < n_bytes:
            notes.append(
                f"draw 'cover' looked at {offsets[-1]:,} of the {n_bytes:,} bytes of target {name!r}, whole texts by a "
                "hash of what they say; scores may rest on more"
            )
    return Vocabulary.of(parts, HIGHEST), notes


# ---- candidates


@dataclass(frozen=True)
class _Candidates:
    """Candidates of one partition, in its order. ``rows`` are those of the file, ``places`` of the score table."""

    rows: np.ndarray
    places: np.ndarray
    n_bytes: np.ndarray
    size: np.ndarray
    ties: np.ndarray

    @property
    def sizes(self) -> tuple[int, int]:
        return int(self.n_bytes.sum()), int(self.size.sum())


def _candidates(cuts: Cuts, part: int) -> _Candidates:
    assert cuts.spec.budget is not None
    column = cuts.spec.budget.size_column
    found: list[list[np.ndarray]] = []
    first = 0
    needed = list(dict.fromkeys([*cuts.columns, "row", "n_bytes"]))
    for rows in batches(cuts.table.parts[part], needed):
        there = np.flatnonzero(cuts.targets(part, rows, first) >= 0)
        size = numpy(rows[column]) if column else np.ones(rows.num_rows, np.int64)
        ties = keyed_hashes(rows["doc_id"], cuts.spec.seed, TIE)
        found.append(
            [numpy(rows["row"])[there], first + there, numpy(rows["n_bytes"])[there], size[there], ties[there]]
        )
        first += rows.num_rows
    empty = [np.zeros(0, np.int64)] * 4 + [np.zeros(0, np.uint64)]
    return _Candidates(*(np.concatenate(column) for column in zip(empty, *found, strict=True)))


@dataclass(frozen=True)
class _Staging:
    """What setting candidates aside needs to know."""

    corpus: Corpus
    cuts: Cuts
    n_slices: int
    scratch: Path
    key: str
    batch_bytes: int
    engine: BatchEngine

    def alone(self, partition: Partition) -> Callable[[], Path]:
        """`_stage` of one partition, to be sent elsewhere."""
        corpus, there = self.corpus.alone(partition)
        return partial(_stage, replace(self, corpus=corpus), there)


def _stage(job: _Staging, partition: Partition) -> Path:
    """Set the candidates of a partition aside, unless that is done: some at a time, in a batch for each slice."""
    path = job.scratch / f"candidates-{partition.index:05d}.arrow"
    key = digest([FORMAT, "cover", job.key, job.n_slices, job.corpus.identity(partition)])
    if _is_done(path, key):
        return path
    wanted = _candidates(job.cuts, partition.index)

    def work(raw: Any) -> pa.Table:
        docs = documents(job.corpus, partition, raw, ())
        there = np.isin(docs.rows, wanted.rows, assume_unique=True)
        at = np.searchsorted(wanted.rows, docs.rows[there])
        texts = docs.texts.cast(pa.large_string()).filter(pa.array(there))
        return pa.table([wanted.places[at], wanted.n_bytes[at], wanted.size[at], wanted.ties[at], texts], schema=SCHEMA)

    count = 0
    with _Dealer(path, key, job.n_slices, GROUP_BYTES // job.engine.workers) as dealer:
        for table in job.engine.pipeline(work, raw_batches(job.corpus, partition, (), job.batch_bytes)):
            dealer.add(table)
            count += table.num_rows
    if count != len(wanted.rows):
        source = job.corpus.source(partition).path
        raise CorruptError(
            f"{source}: {len(wanted.rows):,} rows are candidates but {count:,} were found; score it again"
        )
    return path


def _is_done(path: Path, key: str) -> bool:
    try:
        with arrow_source(path) as source:
            return (pa.ipc.open_file(source).schema.metadata or {}).get(KEY) == key.encode()
    except (OSError, pa.ArrowInvalid):
        return False


class _Dealer:
    """A file of candidates: batches of slice 0, 1, ..., n_slices - 1, then of 0 again."""

    def __init__(self, path: Path, key: str, n_slices: int, group_bytes: int) -> None:
        self._n_slices, self._group_bytes = n_slices, group_bytes
        self._waiting, self._n_bytes = [SCHEMA.empty_table()], 0
        self._stack = ExitStack()
        part = self._stack.enter_context(atomic(path))
        schema = SCHEMA.with_metadata({KEY: key.encode()})
        self._sink = self._stack.enter_context(pa.ipc.new_file(part, schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._deal()
        self._stack.__exit__(kind, error, trace)

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._n_bytes += table.nbytes
        if self._n_bytes >= self._group_bytes:
            self._deal()

    def _deal(self) -> None:
        table = pa.concat_tables(self._waiting)
        dealt = mix(numpy(table["tie"])) % np.uint64(self._n_slices)
        by = np.argsort(dealt, kind="stable")
        ends = np.searchsorted(dealt[by], np.arange(self._n_slices), "right")
        table = table.take(pa.array(by)).combine_chunks()
        for start, end in zip([0, *ends], ends, strict=False):
            (batch,) = table.slice(start, end - start).to_batches() or [pa.RecordBatch.from_pylist([], SCHEMA)]
            self._sink.write_batch(batch)
        self._waiting, self._n_bytes = [SCHEMA.empty_table()], 0


# ---- covering


def _covered(
    job: DecideJob, coverage: Coverage, paths: list[Path], n_slices: int, total: int, bytes_of_budget: float
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """What is kept of each partition, as `Listed.write` takes it."""
    kept: list[list[np.ndarray]] = [[] for _ in paths]
    spent = 0
    for number in range(n_slices):
        tables = job.engine.here.map(partial(_of_slice, number, n_slices), paths)
        parts = np.repeat(np.arange(len(paths)), [table.num_rows for table in tables])
        table = pa.concat_tables(tables)
        place, n_bytes, size, tie = (numpy(table[name]) for name in ("place", "n_bytes", "size", "tie"))
        matches = _matches(job, coverage, one_chunk(table["text"]))
        del tables, table
        if number == 0:
            coverage.expect(matches, PRIOR * bytes_of_budget / max(1, int(n_bytes.sum())))
        taken = greedy_cover(
            coverage,
            matches,
            n_bytes=n_bytes,
            sizes=size,
            ties=tie,
            budget=total * (number + 1) // n_slices - spent,
            room=total - spent,
            rounds=-(-ROUNDS // n_slices),
            workers=job.engine.here.workers,
        )
        spent += int(size[taken].sum())
        for part in np.unique(parts[taken]):
            kept[part].append(place[taken[parts[taken] == part]])
    for part, found in enumerate(kept):
        if found:
            places = np.sort(np.concatenate(found))
            yield part, places, np.zeros(len(places), np.int64), np.ones(len(places))


def _of_slice(number: int, n_slices: int, path: Path) -> pa.Table:
    with arrow_source(path) as source:
        reader = pa.ipc.open_file(source)
        mine = [reader.get_batch(i) for i in range(number, reader.num_record_batches, n_slices)]
        return pa.Table.from_batches(mine, SCHEMA)


def _matches(job: DecideJob, coverage: Coverage, texts: Any) -> Matches:
    """The matches of some texts, each worker a part of them."""
    data, offsets = string_buffers(texts)
    cuts = np.searchsorted(offsets, np.linspace(offsets[0], offsets[-1], job.engine.here.workers + 1))
    cuts[0], cuts[-1] = 0, len(offsets) - 1
    spans = [offsets[start : stop + 1] for start, stop in pairwise(cuts)]
    return Matches.concatenated(job.engine.here.map(lambda span: coverage.matches(data, span), spans))
