"""Score every partition: from kept buckets, or from the text when none were kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.features.domains import CLUSTER
from curate.io.corpus import Partition
from curate.io.formats import BadRow
from curate.io.paths import arrow_source, opened
from curate.io.run import write_json
from curate.io.tables import is_done, write_table
from curate.kernels.streams import NgramStream, bucket_dtype
from curate.scorers import Dsir, Fusion, Scorer, load_scorer
from curate.steps.count import NgramCounts
from curate.steps.documents import documents, raw_batches, score_schema
from curate.steps.early import EarlyFile, Guess, early_path, rows_at
from curate.steps.fit import Reading, listed
from curate.steps.scoretable import NO_TEXT, TOO_SHORT


@dataclass(frozen=True)
class Saved:
    """A fitted scorer in a folder, for those who work elsewhere; a process loads it once.

    ``key`` names the fit. ``tokenizer``: its path, when the saved scorer may name it from another folder.
    """

    folder: Path
    key: str
    tokenizer: str | None = None

    @classmethod
    def of(cls, model: Scorer | Fusion, folder: Path, key: str) -> Saved:
        tokenizer = model.features.tokenizer
        return cls(folder, key, os.path.abspath(tokenizer) if tokenizer else None)

    def load(self) -> Scorer | Fusion:
        return _loaded(self)


@lru_cache(maxsize=1)
def _loaded(saved: Saved) -> Scorer | Fusion:
    model = load_scorer(saved.folder)
    for member in model.members.values():
        member.features = replace(member.features, tokenizer=saved.tokenizer)
    return model


@dataclass(frozen=True)
class ScoreJob:
    """What scoring a partition needs to know. ``key`` names the scoring of the whole corpus.

    ``bad``: folder for a list of the bad rows of each partition, where no fit has read it and listed them.
    """

    reading: Reading
    model: Scorer | Fusion
    columns: list[str]  # of scores
    folder: Path
    key: str
    spilled: NgramCounts | None  # buckets that were kept, instead of reading the text again
    guess: Guess | None  # of what will be kept, when that is known to be drawn next
    early: Path
    bad: Path | None = None

    def path(self, partition: Partition) -> Path:
        return self.folder / f"part-{partition.index:05d}.parquet"

    def alone(self, saved: Saved, partition: Partition) -> Callable[[], bool]:
        """`score_partition` of one partition, to be sent elsewhere, where nobody knows what others may keep."""
        reading, there = self.reading.alone(partition)
        job = partial(ScoreJob, reading, columns=self.columns, folder=self.folder, key=self.key)
        job = partial(job, spilled=None, guess=None, early=self.early, bad=self.bad)
        return partial(_score_saved, job, saved, there)


def score_partition(job: ScoreJob, partition: Partition) -> bool:
    """Write the score table of one partition; False when that was done before."""
    path = job.path(partition)
    if is_done(path, job.key):
        return False
    tables = _from_buckets(job, job.spilled, partition) if job.spilled else _from_text(job, partition)
    write_table(path, score_schema(job.columns, job.reading.travelling), tables, job.key)
    return True


def _score_saved(job: Callable[..., ScoreJob], saved: Saved, partition: Partition) -> bool:
    return score_partition(job(model=saved.load()), partition)


def _from_buckets(job: ScoreJob, spilled: NgramCounts, partition: Partition) -> Iterator[pa.Table]:
    assert isinstance(job.model, Dsir)
    dtype = np.dtype(bucket_dtype(spilled.features.n_buckets))
    buffer = np.empty(0, dtype)
    with (
        opened(spilled.path(partition.index, "bin"), buffering=0) as buckets,
        arrow_source(spilled.path(partition.index, "arrow")) as source,
    ):
        docs = pa.ipc.open_file(source)
        for i in range(docs.num_record_batches):
            batch = docs.get_batch(i)
            ends = np.cumsum(batch["n_ngrams"].to_numpy())
            size = int(ends[-1]) if len(ends) else 0
            if len(buffer) < size:
                buffer = np.empty(size + size // 4, dtype)
            _read_exactly(buckets, buffer[:size].view(np.uint8).data)
            n_tokens = batch["n_tokens"].to_numpy()
            scores, _ = job.model.score_stream(NgramStream(buffer[:size], ends, n_tokens))
            numbers = {name: batch[name] for name in ("row", "n_tokens", "n_bytes")}
            has_text = batch["has_text"].to_numpy(zero_copy_only=False)
            carried = {name: batch[name] for name in job.reading.carry}
            yield _table(job, partition, batch["doc_id"], numbers, scores, has_text, carried)


def _read_exactly(stream: Any, view: memoryview) -> None:
    while len(view):
        count = stream.readinto(view)
        if not count:
            raise EOFError("a file of buckets is shorter than it was")
        view = view[count:]


def _from_text(job: ScoreJob, partition: Partition) -> Iterator[pa.Table]:
    corpus, reading = job.reading.corpus, job.reading

    bad: list[BadRow] = []

    def work(raw: Any) -> tuple[pa.Table, pa.Table | None, list[BadRow]]:
        docs = documents(corpus, partition, raw, reading.carry, reading.vectors)
        carried = docs.carried
        if domains := reading.domains:
            carried = carried | {CLUSTER: domains.clusters(docs.texts, docs.n_bytes > 0)}
        scores, n_tokens = job.model.score_documents(docs.texts, docs.vectors)
        if docs.reasons is not None:
            scores[pc.is_valid(docs.reasons).to_numpy(zero_copy_only=False)] = np.nan
        numbers = {"row": docs.rows, "n_tokens": n_tokens, "n_bytes": docs.n_bytes}
        table = _table(job, partition, docs.ids, numbers, scores, docs.has_text, carried, docs.reasons)
        set_aside = rows_at(raw, docs, job.guess.likely(scores[:, 0], docs, n_tokens)) if job.guess else None
        return table, set_aside, docs.bad

    batches = raw_batches(corpus, partition, reading.columns, reading.batch_bytes, whole_rows=job.guess is not None)
    with EarlyFile(early_path(job.early, partition), job.key) as early:
        for table, set_aside, found in job.reading.engine.pipeline(work, batches):
            early.add(set_aside)
            bad += found
            yield table
    if job.bad is not None:  # before the score table is there in whole
        write_json(bad_path(job.bad, partition.index), {"key": job.key, "bad": listed(bad)})


def bad_path(folder: Path, partition: int) -> Path:
    """Where the bad rows of a partition are listed."""
    return folder / f"part-{partition:05d}.json"


def _table(
    job: ScoreJob,
    partition: Partition,
    ids: Any,
    numbers: dict[str, Any],
    scores: np.ndarray,
    has_text: np.ndarray,
    carried: dict[str, Any],
    removed: pa.Array | None = None,
) -> pa.Table:
    """The score table of some documents; a document without a score has a reason, the first that there is."""
    missing = np.isnan(scores).all(axis=1)
    reason = pa.array(np.where(has_text, TOO_SHORT, NO_TEXT), pa.string(), mask=~missing)
    reason = reason if removed is None else pc.coalesce(removed, reason)
    names = pa.array([job.reading.corpus.source(partition).name], pa.large_string())
    path = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(missing), np.int32)), names)
    columns: dict[str, Any] = {"doc_id": ids}
    columns |= {name: pa.array(scores[:, i], mask=np.isnan(scores[:, i])) for i, name in enumerate(job.columns)}
    columns |= {"n_tokens": numbers["n_tokens"], "n_bytes": numbers["n_bytes"], "path": path, "row": numbers["row"]}
    columns |= {"reason": reason, **carried}
    return pa.table(columns, schema=score_schema(job.columns, job.reading.travelling))
