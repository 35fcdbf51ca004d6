"""Fit: read raw once for what scorers want to know of it, then fit them to that and to the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.engines.base import BatchEngine, Engine
from curate.features.domains import CLUSTER, Domains
from curate.io.corpus import Corpus, Partition
from curate.io.formats import BadRow
from curate.io.run import digest, read_json, write_json
from curate.io.tables import batches, write_table
from curate.scorers import Dsir, Leverage, Scorer
from curate.steps.count import NgramCounts
from curate.steps.documents import documents, raw_batches
from curate.steps.gram import GramSums
from curate.steps.holdout import target_texts
from curate.steps.sample import TextSample

FORMAT = 2  # of the files in _work; a change makes old ones unused
BAD_SCHEMA = pa.schema([("path", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.binary())])


@dataclass(frozen=True)
class Reading:
    """How raw is read, by all steps that do.

    ``carry``: columns that travel with the scores. ``vectors``: a column that scorers look at. ``domains``: clusters
    that documents are found to be in; they travel with the scores too.
    """

    corpus: Corpus
    carry: tuple[str, ...]
    batch_bytes: int
    engine: BatchEngine
    vectors: str | None = None
    domains: Domains | None = None

    def alone(self, partition: Partition) -> tuple[Reading, Partition]:
        """One partition with what it takes to read it, to be sent elsewhere."""
        corpus, there = self.corpus.alone(partition)
        return replace(self, corpus=corpus), there

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read beside texts and ids."""
        return (*self.carry, *([self.vectors] if self.vectors else []))

    @property
    def travelling(self) -> tuple[str, ...]:
        """The columns that the score table has beside its own."""
        return (*self.carry, CLUSTER) if self.domains else self.carry


@dataclass(frozen=True)
class FitJob:
    """What the fit needs to know of raw, by name of scorer; a scorer that is not there wants nothing."""

    reading: Reading
    wanted: Mapping[str, NgramCounts | TextSample | GramSums]
    folder: Path
    corpus_identity: str

    def alone(self, partition: Partition) -> Callable[[], dict[str, Any]]:
        """`fit_partition` of one partition, to be sent elsewhere."""
        reading, there = self.reading.alone(partition)
        return partial(fit_partition, replace(self, reading=reading), there)

    def note(self, found: Mapping[str, Any]) -> None:
        """Take notice of what was found in a partition elsewhere: later ones may pass over more."""
        for name, of in self.wanted.items():
            of.resume(found["wanted"][name])

    def key(self, partition: Partition) -> str:
        """The name of the work: all that determines its result."""
        wanted = {name: of.identity() for name, of in self.wanted.items()}
        corpus = self.reading.corpus  # all of it: what is passed over in one partition depends on the others
        return digest([FORMAT, "fit", corpus.identity(partition), self.corpus_identity, wanted])


def fit_job(models: Mapping[str, Scorer], reading: Reading, folder: Path, spill: bool) -> FitJob:
    """What some scorers want to know of raw. ``spill``: `Dsir` keeps buckets for scoring."""
    wanted: dict[str, NgramCounts | TextSample | GramSums] = {}
    for name, model in models.items():
        if isinstance(model, Dsir):
            wanted[name] = NgramCounts(model, folder / name, reading.carry, spill)
        elif isinstance(model, Leverage) and model.kernel == "linear":
            wanted[name] = GramSums(model, folder / name)
        elif model.raw_sample is not None:
            wanted[name] = TextSample(model.raw_sample, folder / name, with_vectors=model.vector_column is not None)
    identity = digest([reading.corpus.identity(partition) for partition in reading.corpus.partitions])
    return FitJob(reading, wanted, folder, identity)


def fit_partition(job: FitJob, partition: Partition) -> dict[str, Any]:
    """Look at one partition of raw, unless that is done; returns what was found."""
    marker = job.folder / f"part-{partition.index:05d}.json"
    found: dict[str, Any] | None = read_json(marker)
    if found is None or found["key"] != job.key(partition):
        found = _look(job, partition)
        write_json(marker, found)
    else:
        job.note(found)
    return found


def _look(job: FitJob, partition: Partition) -> dict[str, Any]:
    reading = job.reading
    bad: list[BadRow] = []
    n_bytes = n_documents = 0

    def work(raw: Any) -> tuple[Any, dict[str, Any]]:
        docs = documents(reading.corpus, partition, raw, reading.carry, reading.vectors).remaining
        return docs, {name: of.look(docs) for name, of in job.wanted.items()}

    with ExitStack() as stack:
        parts: dict[str, Any] = {name: of.begin(stack, partition.index) for name, of in job.wanted.items()}
        batches = raw_batches(reading.corpus, partition, reading.columns, reading.batch_bytes)
        for docs, looked in reading.engine.pipeline(work, batches):
            for name, part in parts.items():
                part.add(docs, looked[name])
            bad += docs.bad
            n_bytes += int(docs.n_bytes.sum())
            n_documents += len(docs)
        found = {name: part.end() for name, part in parts.items()}
    return {
        "key": job.key(partition),
        "wanted": found,
        "n_documents": n_documents,
        "n_bytes": n_bytes,
        "bad": listed(bad),
    }


def listed(bad: Iterable[BadRow]) -> list[list[Any]]:
    """Bad rows as JSON has them."""
    return [[b.path, b.row, b.reason, b.content.hex()] for b in bad]


def fit_model(
    job: FitJob,
    name: str,
    model: Scorer,
    targets: Mapping[str, Corpus],
    found: list[dict[str, Any]],
    engine: Engine,
    holdout: float | None = None,
) -> dict[str, Any]:
    """Fit a scorer to the target (but for what is held out) and to what was found of raw; returns to what."""
    texts = {target: target_texts(corpus, job.reading.batch_bytes, holdout) for target, corpus in targets.items()}
    wanted = job.wanted.get(name)
    if isinstance(model, Dsir):
        assert isinstance(wanted, NgramCounts)
        counts, about = wanted.total([part["wanted"][name] for part in found], engine)
        model.fit_counts({target: model.count_target(of) for target, of in texts.items()}, counts)
        return about
    if isinstance(wanted, GramSums):
        assert isinstance(model, Leverage)
        model.fit_gram(wanted.total([part["wanted"][name] for part in found]), texts)
        return model.about()
    if wanted is None:
        model.fit(target=texts)
        return {}
    assert isinstance(wanted, TextSample)
    model.fit(target=texts, raw=wanted.texts(len(found)), workers=engine.here.workers)
    level = wanted.sample.lowest
    about = {"level": level, f"n_{wanted.unit}": int(wanted.sample.totals[level:].sum())}
    return about | (model.about() if isinstance(model, Leverage) else {})


def write_quarantine(path: Path, counted: Iterable[dict[str, Any]], before: Path | None = None) -> int:
    """Gather the bad rows of all partitions into one file, behind those ``before``; returns how many there are."""
    rows: list[list[Any]] = []
    for found in counted:
        rows += found["bad"]
    tables = list(batches(before)) if before is not None and before.exists() else []
    if rows:
        columns = zip(*((p, r, why, bytes.fromhex(content)) for p, r, why, content in rows), strict=True)
        tables.append(pa.table([pa.array(c) for c in columns], schema=BAD_SCHEMA))
    if tables:
        write_table(path, BAD_SCHEMA, tables)
    else:
        path.unlink(missing_ok=True)
    return sum(table.num_rows for table in tables)
