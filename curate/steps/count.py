"""Count the n-grams of raw, for the fit; and keep their buckets, so that the text is read once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.engines import LocalEngine
from curate.features import NgramFeatures
from curate.io.corpus import Corpus, Partition
from curate.io.formats import BadRow
from curate.io.paths import atomic
from curate.io.run import digest, read_json, write_json
from curate.kernels.streams import NgramStream, room_for
from curate.sampling.noise import levels
from curate.steps.documents import Documents, documents, raw_batches

FORMAT = 1  # of the files in _work; a change makes old ones unused
N_LEVELS = 24


class FitSample:
    """Which documents of raw the fit looks at: those whose level, a hash of the id, is high enough.

    The level is the highest whose documents have ``quota`` n-grams together. It only rises as more is
    counted, so documents below it can be passed over before everything is known, and the result is the
    same in any order.
    """

    def __init__(self, quota: float) -> None:
        self.quota = quota
        self.n_levels = 1 if np.isinf(quota) else N_LEVELS
        self.totals = np.zeros(self.n_levels, np.int64)
        self._lock = threading.Lock()

    @property
    def lowest(self) -> int:
        """The level so far; 0 takes every document."""
        above = np.cumsum(self.totals[::-1])[::-1]
        enough = np.flatnonzero(above >= self.quota)
        return int(enough[-1]) if len(enough) else 0

    def add(self, n_ngrams: Sequence[int] | np.ndarray) -> None:
        """Note the n-grams of some documents, by level."""
        with self._lock:
            self.totals += np.asarray(n_ngrams, np.int64)

    def of(self, ids: Any) -> np.ndarray:
        """int64[n_docs]: levels of documents."""
        return np.zeros(len(ids), np.int64) if self.n_levels == 1 else levels(ids, self.n_levels)


class Buffers:
    """Arrays that batches hand around: fresh memory costs more than what is done with it."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._lock = threading.Lock()

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


@dataclass(frozen=True)
class CountJob:
    """What counting a partition needs to know. ``spill``: keep the buckets for scoring."""

    corpus: Corpus
    features: NgramFeatures
    carry: tuple[str, ...]
    folder: Path
    spill: bool
    batch_bytes: int
    engine: LocalEngine
    sample: FitSample
    buffers: Buffers

    def key(self, partition: Partition) -> str:
        """The name of the work: all that determines its result."""
        of = [self.corpus.identity(partition), self.features.identity(), list(self.carry), str(self.sample.quota)]
        return digest([FORMAT, "count", self.spill, *of])

    def path(self, partition: Partition, ending: str) -> Path:
        return self.folder / f"part-{partition.index:05d}.{ending}"

    def done(self, partition: Partition) -> dict[str, Any] | None:
        """What a finished partition found, when it was this work."""
        found: dict[str, Any] | None = read_json(self.path(partition, "json"))
        return found if found and found["key"] == self.key(partition) else None


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
BAD_SCHEMA = pa.schema([("path", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.binary())])


def count_partition(job: CountJob, partition: Partition) -> dict[str, Any]:
    """Count one partition, unless that is done; returns what it found."""
    found = job.done(partition)
    if found is None:
        found = _count(job, partition)
        write_json(job.path(partition, "json"), found)
    else:
        job.sample.add(found["n_ngrams_by_level"])
    return found


def _count(job: CountJob, partition: Partition) -> dict[str, Any]:
    from curate.kernels.calls import add_counts_by_level

    counts = np.zeros((job.sample.n_levels, job.features.n_buckets), np.int64)
    by_level = np.zeros(job.sample.n_levels, np.int64)
    bad: list[BadRow] = []
    n_bytes = n_documents = 0

    def work(raw: Any) -> tuple[Documents, NgramStream, np.ndarray, np.ndarray]:
        docs = documents(job.corpus, partition, raw, job.carry)
        level = job.sample.of(docs.ids)
        texts, level_of_texts = docs.texts, level
        if not job.spill and (level < job.sample.lowest).any():
            looked_at = level >= job.sample.lowest
            texts, level_of_texts = texts.filter(pa.array(looked_at)), level[looked_at]
        buffer = job.buffers.take(int(docs.n_bytes.sum()), job.features)
        return docs, job.features.stream(texts, out=buffer), level_of_texts, buffer

    with ExitStack() as stack:
        spill = _Spill(stack, job, partition) if job.spill else None
        batches = raw_batches(job.corpus, partition, job.carry, job.batch_bytes)
        for docs, stream, level, buffer in job.engine.pipeline(work, batches):
            n_ngrams = np.diff(stream.ends, prepend=0)
            add_counts_by_level(stream, level, job.sample.lowest, counts)
            found = np.bincount(level, n_ngrams, minlength=len(by_level)).astype(np.int64)
            by_level += found
            job.sample.add(found)
            if spill:
                spill.add(docs, stream, n_ngrams)
            job.buffers.give(buffer)
            bad += docs.bad
            n_bytes += int(docs.n_bytes.sum())
            n_documents += len(docs)
    lowest = job.sample.lowest  # below it documents were passed over
    with atomic(job.path(partition, "npy")) as part, open(part, "wb") as file:
        np.save(file, counts[lowest:])
    return {
        "key": job.key(partition),
        "lowest": lowest,
        "n_ngrams_by_level": by_level.tolist(),
        "n_documents": n_documents,
        "n_bytes": n_bytes,
        "bad": [[b.path, b.row, b.reason, b.content.hex()] for b in bad],
    }


class _Spill:
    """The buckets of a partition's documents, and the documents, in files beside each other."""

    def __init__(self, stack: ExitStack, job: CountJob, partition: Partition) -> None:
        buckets = stack.enter_context(atomic(job.path(partition, "bin")))
        self._buckets = stack.enter_context(buckets.open("wb"))
        schema = DOC_SCHEMA
        for name in job.carry:
            schema = schema.append(pa.field(name, pa.large_string()))
        self._schema = schema
        part = stack.enter_context(atomic(job.path(partition, "arrow")))
        self._docs = stack.enter_context(pa.ipc.new_file(part, schema))

    def add(self, docs: Documents, stream: NgramStream, n_ngrams: np.ndarray) -> None:
        self._buckets.write(stream.buckets.view(np.uint8).data)
        numbers = [docs.rows, stream.n_tokens, docs.n_bytes, n_ngrams, docs.has_text]
        columns = [docs.ids, *map(pa.array, numbers), *docs.carried.values()]
        self._docs.write_batch(pa.record_batch(columns, schema=self._schema))


def raw_counts(job: CountJob) -> tuple[np.ndarray, int]:
    """``(int64[n_buckets], level)``: the counts of the documents that the fit looks at."""
    level = job.sample.lowest
    total = np.zeros(job.features.n_buckets, np.int64)
    for partition in job.corpus.partitions:
        found = job.done(partition)
        assert found is not None
        total += np.load(job.path(partition, "npy"), allow_pickle=False)[level - found["lowest"] :].sum(axis=0)
    return total, level
