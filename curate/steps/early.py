"""Rows that will probably be kept are set aside while they are scored, so that raw is not read a third time.

Nothing rests on the guess: a partition whose kept rows are not all there is read again. It is made from
the keys seen so far: where the budget would end among them, and a quarter beyond.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.io.corpus import Partition
from curate.io.formats import Batch, Lines
from curate.io.paths import arrow_source, atomic, is_remote
from curate.io.tables import KEY
from curate.sampling.draws import DRAWS
from curate.steps.decision import DrawSpec
from curate.steps.documents import Documents

ENOUGH = 20_000  # documents before the first guess
UNSORTED_BYTES = 64_000_000  # of text that is set aside before it, whatever it scores
REMEMBERED = 500_000  # documents that guesses are made from
MARGIN, SLACK = 1.25, 0.01
MAX_SHARE = 0.4  # of raw; beyond it the copy costs more than the reading
ROW, LINE = "__row", "__line"


class Guess:
    """Which documents a draw will probably keep, better the more of them it has seen."""

    def __init__(self, spec: DrawSpec, n_documents: int) -> None:
        self._spec, self._n_documents = spec, max(1, n_documents)
        self._lock = threading.Lock()
        self._keys: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._seen = self._saved = self._seen_bytes = 0
        self._next = ENOUGH
        self._cut = np.inf if spec.threshold is None else -np.inf

    def likely(self, scores: np.ndarray, docs: Documents, n_tokens: np.ndarray) -> np.ndarray:
        """bool[n_docs]; nearly all True until enough was seen, all False when it turns out too many."""
        keys = DRAWS[self._spec.draw](scores, docs.ids, self._spec.seed)
        if self._spec.threshold is not None:
            return np.asarray(scores >= self._spec.threshold)
        with self._lock:
            first = self._next == ENOUGH and self._seen_bytes < UNSORTED_BYTES
            self._seen_bytes += int(docs.n_bytes.sum())
            self._note(keys, self._sizes_of(docs, n_tokens))
            likely = ~np.isnan(keys) if first else np.asarray(keys >= self._cut)
            self._saved += int(likely.sum())
            if self._saved > 2 * MAX_SHARE * self._seen + ENOUGH:
                self._cut, self._next = np.inf, np.iinfo(np.int64).max
        return likely

    def _sizes_of(self, docs: Documents, n_tokens: np.ndarray) -> np.ndarray:
        column = self._spec.budget.size_column if self._spec.budget else None
        return {"n_bytes": docs.n_bytes, "n_tokens": n_tokens}.get(column or "", np.ones(len(docs), np.int64))

    def _note(self, keys: np.ndarray, sizes: np.ndarray) -> None:
        self._seen += len(keys)
        if sum(map(len, self._keys)) < REMEMBERED:
            there = ~np.isnan(keys)
            self._keys.append(keys[there])
            self._sizes.append(sizes[there])
            self._of = self._seen
        if self._seen >= self._next:
            self._next = 2 * self._seen
            self._cut = self._guess()

    def _guess(self) -> float:
        keys, sizes = np.concatenate(self._keys), np.concatenate(self._sizes)
        assert self._spec.budget is not None
        budget = self._spec.budget.total(self._n_documents) * self._of / self._n_documents
        by = np.argsort(-keys)
        total = np.cumsum(sizes[by])
        if not len(total) or budget > MAX_SHARE * total[-1]:
            return np.inf
        last = int(np.searchsorted(total, budget * MARGIN + SLACK * total[-1]))
        return float(keys[by[min(last, len(by) - 1)]])


def rows_at(raw: Batch | Lines, docs: Documents, likely: np.ndarray) -> pa.Table | None:
    """The rows of some documents, with their number in the file; JSON rows as lines of text."""
    if not likely.any():
        return None
    rows = docs.rows[likely]
    if isinstance(raw, Lines):
        starts = raw.line_starts()
        lines = [raw.data[starts[i] : starts[i + 1]].strip() for i in rows - raw.first_row]
        return pa.table({ROW: rows, LINE: pa.array(lines, pa.large_binary())})
    return raw.table.filter(pa.array(likely)).append_column(ROW, pa.array(rows))


class EarlyFile:
    """The rows of one partition that were set aside."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._stack = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> EarlyFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, table: pa.Table | None) -> None:
        """Append rows."""
        if table is None:
            return
        if self._writer is None:
            schema = table.schema.with_metadata({KEY: self._key.encode()})
            part = self._stack.enter_context(atomic(self._path))
            self._writer = self._stack.enter_context(pa.ipc.new_file(part, schema))
        self._writer.write_table(table)


def early_path(folder: Path, partition: Partition) -> Path:
    """Where the rows of a partition are set aside."""
    return folder / f"part-{partition.index:05d}.arrow"


def early_tables(path: Path, key: str, rows: np.ndarray) -> Iterator[pa.Table] | None:
    """The wanted rows from what was set aside, in order, or None when they are not all there."""
    if not path.exists():
        return None
    with arrow_source(path) if is_remote(path) else pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        if (reader.schema.metadata or {}).get(KEY) != key.encode():
            return None
        if is_remote(path):  # of a mapped file only what is looked at is read in any case
            only = pa.ipc.IpcReadOptions(included_fields=[reader.schema.get_field_index(ROW)])
            reader = pa.ipc.open_file(source, options=only)
        there = [reader.get_batch(i)[ROW].to_numpy() for i in range(reader.num_record_batches)]
    if not np.isin(rows, np.concatenate(there)).all():
        return None
    return _filtered(path, rows)


def _filtered(path: Path, rows: np.ndarray) -> Iterator[pa.Table]:
    with arrow_source(path) as source:
        reader = pa.ipc.open_file(source)
        for i in range(reader.num_record_batches):
            table = pa.Table.from_batches([reader.get_batch(i)])
            here = table[ROW].to_numpy()
            at = np.minimum(np.searchsorted(rows, here), len(rows) - 1)
            mask = rows[at] == here
            if mask.any():
                yield table.filter(pa.array(mask)).drop_columns([ROW]).replace_schema_metadata(None)
