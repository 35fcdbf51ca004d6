"""The part of a fit that takes a sample of raw: documents by a hash of their id, the same in any order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.io.paths import arrow_source, atomic
from curate.sampling.noise import levels
from curate.scorers.base import RawSample
from curate.steps.documents import Documents

N_LEVELS = 24
SCHEMA = pa.schema([("level", pa.int64()), ("text", pa.large_string()), ("vector", pa.large_list(pa.float32()))])


class FitSample:
    """Which documents of raw the fit looks at: those whose level, a hash of the id, is high enough.

    The level is the highest whose documents have ``quota`` n-grams (or bytes, or documents) together. It only
    rises as more is counted, so documents below it can be passed over before everything is known, and the
    result is the same in any order.
    """

    def __init__(self, quota: float) -> None:
        self.quota = quota
        self.n_levels = 1 if np.isinf(quota) else N_LEVELS
        self.totals = np.zeros(self.n_levels, np.int64)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def lowest(self) -> int:
        """The level so far; 0 takes every document."""
        above = np.cumsum(self.totals[::-1])[::-1]
        enough = np.flatnonzero(above >= self.quota)
        return int(enough[-1]) if len(enough) else 0

    def add(self, sizes: Sequence[int] | np.ndarray) -> None:
        """Note how much there is in some documents, by level."""
        with self._lock:
            self.totals += np.asarray(sizes, np.int64)

    def of(self, ids: Any) -> np.ndarray:
        """int64[n_docs]: levels of documents."""
        return np.zeros(len(ids), np.int64) if self.n_levels == 1 else levels(ids, self.n_levels)


class TextSample:
    """Texts of raw, for scorers that are fitted to a sample of it; with the vectors of a column where that is asked."""

    def __init__(self, sample: RawSample, folder: Path, *, with_vectors: bool = False) -> None:
        self.unit, self.folder, self.with_vectors = sample.unit, folder, with_vectors
        self.sample = FitSample(sample.quota)

    def identity(self) -> list[Any]:
        """What determines the sample beside the documents."""
        return ["sample", self.unit, str(self.sample.quota), self.with_vectors]

    def look(self, docs: Documents) -> tuple[np.ndarray, np.ndarray]:
        """``(levels, sizes)`` of documents; one without text is of no size. Called by many threads."""
        sizes = docs.n_bytes if self.unit == "bytes" else (docs.n_bytes > 0).astype(np.int64)
        return self.sample.of(docs.ids), sizes

    def begin(self, stack: ExitStack, index: int) -> _Sampling:
        """Start with a partition; files are whole when the stack is left."""
        return _Sampling(self, stack, index)

    def resume(self, found: dict[str, Any]) -> None:
        """Note what a finished partition found."""
        self.sample.add(found["sizes_by_level"])

    def path(self, index: int) -> Path:
        """Where the texts of a partition are."""
        return self.folder / f"part-{index:05d}.texts.arrow"

    def texts(self, n_partitions: int) -> Iterator[Any]:
        """The sampled texts, some at a time; with the vectors of a column ``(texts, float32[n_docs, dim])``."""
        lowest = self.sample.lowest
        for index in range(n_partitions):
            with arrow_source(self.path(index)) as source:
                reader = pa.ipc.open_file(source)
                for i in range(reader.num_record_batches):
                    batch = reader.get_batch(i)
                    batch = batch.filter(pa.array(batch["level"].to_numpy() >= lowest))
                    vectors = batch["vector"]
                    if len(vectors) and not vectors.null_count:
                        yield batch["text"], vectors.flatten().to_numpy().reshape(len(vectors), -1)
                    else:
                        yield batch["text"]


class _Sampling:
    """The sample of one partition in the making."""

    def __init__(self, of: TextSample, stack: ExitStack, index: int) -> None:
        self._of = of
        self._by_level = np.zeros(of.sample.n_levels, np.int64)
        self._sink = stack.enter_context(pa.ipc.new_file(stack.enter_context(atomic(of.path(index))), SCHEMA))

    def add(self, docs: Documents, looked: tuple[np.ndarray, np.ndarray]) -> None:
        level, sizes = looked
        found = np.bincount(level, sizes, minlength=len(self._by_level)).astype(np.int64)
        self._by_level += found
        self._of.sample.add(found)
        taken = (sizes > 0) & (level >= self._of.sample.lowest)
        if taken.any():
            texts = docs.texts.filter(pa.array(taken)).cast(pa.large_string())
            vectors = pa.nulls(len(texts), SCHEMA.field("vector").type)
            if self._of.with_vectors and docs.vectors is not None:
                ends = pa.array(np.arange(len(texts) + 1) * docs.vectors.shape[1])
                vectors = pa.LargeListArray.from_arrays(ends, pa.array(docs.vectors[taken].ravel()))
            self._sink.write_batch(pa.record_batch([pa.array(level[taken]), texts, vectors], schema=SCHEMA))

    def end(self) -> dict[str, Any]:
        return {"sizes_by_level": self._by_level.tolist()}
