"""The part of a fit that counts the n-grams of raw; and keeps their buckets, so that the text is read once."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.engines.base import Engine
from curate.features import NgramFeatures
from curate.io.paths import atomic, whole
from curate.kernels.streams import NgramStream, room_for
from curate.scorers import Dsir
from curate.steps.documents import Documents
from curate.steps.sample import FitSample

COUNTS_AT_ONCE = 500  # partitions whose counts are added up by one


class Buffers:
    """Arrays that batches hand around: fresh memory costs more than what is done with it."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Buffers], tuple[()]]:
        return Buffers, ()  # elsewhere there are others

    def take(self, n_bytes: int, features: NgramFeatures) -> np.ndarray:
        with self._lock:
            for i, array in enumerate(self._free):
                if len(array) >= features.n * n_bytes + 1:
                    return self._free.pop(i)
            if self._free:
                self._free.pop(0)
        return room_for(n_bytes + n_bytes // 8, features.n, features.n_buckets, own=True)

    def give(self, array: np.ndarray) -> None:
        with self._lock:
            self._free.append(array)


DOC_SCHEMA = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("row", pa.int64()),
        ("n_tokens", pa.int64()),
        ("n_bytes", pa.int64()),
        ("n_ngrams", pa.int64()),
        ("has_text", pa.bool_()),
    ]
)


class _Looked(NamedTuple):
    """The n-grams of a batch of documents; ``levels`` are of those that were looked at."""

    stream: NgramStream
    levels: np.ndarray
    buffer: np.ndarray


class NgramCounts:
    """Counts of raw's n-grams by bucket, for `Dsir`. ``spill``: keep the buckets for scoring."""

    def __init__(self, model: Dsir, folder: Path, carry: tuple[str, ...], spill: bool) -> None:
        self.features: NgramFeatures = model.features
        self.folder, self.carry, self.spill = folder, carry, spill
        self.sample = FitSample(model.raw_sample.quota)
        self.buffers = Buffers()

    def identity(self) -> list[Any]:
        """What determines the counts beside the documents."""
        return ["count", self.features.identity(), str(self.sample.quota), self.spill, list(self.carry)]

    def look(self, docs: Documents) -> _Looked:
        """Tokenise the documents that the fit looks at; called by many threads."""
        levels, texts = self.sample.of(docs.ids), docs.texts
        if not self.spill and (levels < self.sample.lowest).any():
            looked_at = levels >= self.sample.lowest
            texts, levels = texts.filter(pa.array(looked_at)), levels[looked_at]
        buffer = self.buffers.take(int(docs.n_bytes.sum()), self.features)
        return _Looked(self.features.stream(texts, out=buffer), levels, buffer)

    def begin(self, stack: ExitStack, index: int) -> _Counting:
        """Start with a partition; files are whole when the stack is left."""
        return _Counting(self, stack, index)

    def resume(self, found: dict[str, Any]) -> None:
        """Note what a finished partition found."""
        self.sample.add(found["n_ngrams_by_level"])

    def path(self, index: int, ending: str) -> Path:
        """Where the counts of a partition are (npy), its buckets (bin) and their documents (arrow)."""
        return self.folder / f"part-{index:05d}.{ending}"

    def total(self, found: list[dict[str, Any]], engine: Engine) -> tuple[np.ndarray, dict[str, Any]]:
        """``(int64[n_buckets], what was looked at)``: the counts over all partitions, of the documents that count."""
        level = self.sample.lowest
        lowest = [part["lowest"] for part in found]
        runs = range(0, len(found), COUNTS_AT_ONCE)

        def of(first: int) -> np.ndarray:
            total = np.zeros(self.features.n_buckets, np.int64)
            for index, low in enumerate(lowest[first : first + COUNTS_AT_ONCE], first):
                with whole(self.path(index, "npy")) as stream:
                    total += np.load(stream, allow_pickle=False)[level - low :].sum(axis=0)
            return total

        total = np.zeros(self.features.n_buckets, np.int64)
        for some in engine.ordered(of, runs):
            total += some
        return total, {"level": level, "n_ngrams": int(total.sum())}


class _Counting:
    """The counts of one partition in the making."""

    def __init__(self, of: NgramCounts, stack: ExitStack, index: int) -> None:
        self._of, self._stack, self._index = of, stack, index
        self._counts = np.zeros((of.sample.n_levels, of.features.n_buckets), np.int64)
        self._by_level = np.zeros(of.sample.n_levels, np.int64)
        self._spill = _Spill(stack, of, index) if of.spill else None

    def add(self, docs: Documents, looked: _Looked) -> None:
        from curate.kernels.calls import add_counts_by_level

        sample = self._of.sample
        n_ngrams = np.diff(looked.stream.ends, prepend=0)
        add_counts_by_level(looked.stream, looked.levels, sample.lowest, self._counts)
        found = np.bincount(looked.levels, n_ngrams, minlength=len(self._by_level)).astype(np.int64)
        self._by_level += found
        sample.add(found)
        if self._spill:
            self._spill.add(docs, looked.stream, n_ngrams)
        self._of.buffers.give(looked.buffer)

    def end(self) -> dict[str, Any]:
        lowest = self._of.sample.lowest  # below it documents were passed over
        with atomic(self._of.path(self._index, "npy")) as part, open(part, "wb") as file:
            np.save(file, self._counts[lowest:])
        return {"lowest": lowest, "n_ngrams_by_level": self._by_level.tolist()}


class _Spill:
    """The buckets of a partition's documents, and the documents, in files beside each other."""

    def __init__(self, stack: ExitStack, of: NgramCounts, index: int) -> None:
        buckets = stack.enter_context(atomic(of.path(index, "bin")))
        self._buckets = stack.enter_context(buckets.open("wb"))
        schema = DOC_SCHEMA
        for name in of.carry:
            schema = schema.append(pa.field(name, pa.large_string()))
        self._schema = schema
        part = stack.enter_context(atomic(of.path(index, "arrow")))
        self._docs = stack.enter_context(pa.ipc.new_file(part, schema))

    def add(self, docs: Documents, stream: NgramStream, n_ngrams: np.ndarray) -> None:
        self._buckets.write(stream.buckets.view(np.uint8).data)
        numbers = [docs.rows, stream.n_tokens, docs.n_bytes, n_ngrams, docs.has_text]
        columns = [docs.ids, *map(pa.array, numbers), *docs.carried.values()]
        self._docs.write_batch(pa.record_batch(columns, schema=self._schema))
