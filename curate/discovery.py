"""Find the domains of a corpus that has no source labels, and say of every document which it belongs to."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.engines import LocalEngine
from curate.errors import InputError, RunError, UsageError
from curate.features.domains import MODEL, VECTORS, Domains, Stability, fit_domains
from curate.features.vectors import EncoderVectors
from curate.io.corpus import PARTITION_BYTES, Corpus, Partition, scan
from curate.io.paths import is_url
from curate.io.run import digest, read_json, write_json
from curate.io.tables import batches, is_done, numpy, write_table
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.steps.documents import documents, raw_batches
from curate.survey import survey
from curate.survey.corpus import BATCH_BYTES
from curate.survey.names import distinctive
from curate.survey.sample import FEATURES, N_FINE

FORMAT = 1
SUMMARY = "summary.json"  # the last file that is written: what has none is not complete
N_FITTED = 10_000  # documents that clusters are found in
SAMPLE_BYTES = 24_000_000
N_EXAMPLES = 3
N_NAMES = 4
SCHEMA = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("path", pa.dictionary(pa.int32(), pa.large_string())),
        ("row", pa.int64()),
        ("n_bytes", pa.int64()),
        ("cluster", pa.int32()),
        ("distance", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Domain:
    """A cluster. ``examples``: ids and beginnings of the documents of the sample that are nearest to its centre."""

    cluster: int
    name: str
    n_documents: int
    n_bytes: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Found:
    """The domains of a corpus, the largest of the sample first.

    ``stability``: by number of clusters, where that was chosen here. ``n_without``: documents without text, which are
    in no cluster.
    """

    out: Path
    n_documents: int
    n_bytes: int
    n_without: int
    n_bad_rows: int
    n_fitted: int
    domains: tuple[Domain, ...]
    stability: tuple[Stability, ...]
    seconds: dict[str, float] = field(default_factory=dict)


def domains(
    raw: Paths,
    *,
    out: str | os.PathLike[str],
    k: int | None = None,
    encoder: str | None = None,
    seed: int = 0,
    text_column: str = "text",
    id_column: str = "id",
    on_bad_row: str = "raise",
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool | None = False,
) -> Found:
    """Cluster the documents of a corpus, and write the clusters and which document is in which.

    A sample by a hash of the ids is clustered (`curate.features.domains.fit_domains`), then every document is
    assigned in a stream. ``out`` gets the model (``domains.json``, ``arrays.npz``), ``clusters/part-*.parquet``
    (doc_id, path, row, n_bytes, cluster, distance) and ``summary.json``; what is there of the same work is kept.

    Parameters
    ----------
    k : number of clusters; None: as `curate.features.domains.choose_k` finds.
    encoder : folder of a sentence encoder for the vectors, instead of hashed n-grams.
    seed : of the clustering.

    Raises
    ------
    InputError : no text. RunError : ``out`` holds something else. UsageError : k is not 1 to the sample's documents.
    """
    if k is not None and k < 1:
        raise UsageError(f"--k {k}: must be 1 or more, or auto")
    if is_url(os.fspath(out)):
        raise UsageError(f"--out {out}: must be a local folder; copy it afterwards")
    folder, shown, seconds = Path(out), Progress(progress), {}
    vectors = VECTORS if encoder is None else EncoderVectors(encoder)
    with LocalEngine(workers) as engine:
        corpus = scan(
            listed_paths(raw), text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map
        )
        about = {
            "format": FORMAT,
            "partition_bytes": PARTITION_BYTES,
            "raw": [corpus.identity(p) for p in corpus.partitions],
            "vectors": vectors.identity(),
            "k": k,
            "seed": seed,
        }
        key = digest(about)
        started = _begin(folder, key, overwrite)
        if started is None:
            start = time.perf_counter()
            started = _fit(corpus, engine, folder, vectors, k, seed, key, shown)
            seconds["fit"] = round(time.perf_counter() - start, 3)
        model = Domains.load(folder)
        start = time.perf_counter()
        sizes = _assign_all(corpus, model, folder / "clusters", key, engine, shown)
        seconds["assign"] = round(time.perf_counter() - start, 3)
    found = _found(folder, started, model, sizes, seconds)
    write_json(folder / SUMMARY, {key: value for key, value in as_dict(found).items() if key not in ("out", "seconds")})
    return found


def as_dict(found: Found) -> dict[str, Any]:
    """As JSON can hold it."""
    return asdict(found) | {"out": str(found.out)}


def _begin(folder: Path, key: str, overwrite: bool) -> dict[str, Any] | None:
    """What was fitted in this folder for the same work, if anything; clears what was of other work.

    Raises
    ------
    RunError : it holds other work, or files of something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; choose a folder")
    state: dict[str, Any] | None = read_json(folder / MODEL)
    if state is None:
        foreign = (
            [p.name for p in folder.iterdir() if p.name != "arrays.npz" and not p.name.startswith(".")]
            if folder.exists()
            else []
        )
        if foreign:
            raise RunError(f"{folder}: holds files that are no domains ({foreign[0]}); choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        return None
    if not isinstance(state, dict) or "identity" not in state:
        raise RunError(f"{folder}: {MODEL} there is not of curate; choose another folder")
    if state["key"] == key:
        return state
    if not overwrite:
        raise RunError(
            f"{folder}: domains of another corpus or with other settings; choose another folder or pass --overwrite"
        )
    (folder / SUMMARY).unlink(missing_ok=True)  # from now on it is not complete
    shutil.rmtree(folder / "clusters", ignore_errors=True)
    for name in ("arrays.npz", MODEL):  # the model last: by it the folder is known to be ours
        (folder / name).unlink(missing_ok=True)
    return None


# ---- fit


def _fit(
    corpus: Corpus,
    engine: LocalEngine,
    folder: Path,
    vectors: Any,
    k: int | None,
    seed: int,
    key: str,
    shown: Progress,
) -> dict[str, Any]:
    """Find clusters in a sample and save them; returns what was saved."""
    with shown.stage("sample", corpus.n_bytes) as stage:
        seen = survey(corpus, "raw", engine, sample_bytes=SAMPLE_BYTES, advance=stage.advance)
    ids, texts = seen.ids.slice(0, N_FITTED), seen.texts.slice(0, N_FITTED)
    if not len(texts):
        raise InputError(f"{corpus.files[0].source.path}: no document with text, there is nothing to find domains in")
    model, tried = fit_domains(texts, vectors=vectors, k=k, seed=seed)
    labels, distances = model.assign(texts)
    model = Domains(model.vectors, model.mean, model.basis, model.centres, _names(texts, labels, len(model.centres)))
    examples = []
    for cluster in range(len(model.centres)):
        own = np.flatnonzero(labels == cluster)
        nearest = own[np.argsort(distances[own], kind="stable")[:N_EXAMPLES]].tolist()
        examples.append([[ids[i].as_py(), texts[i].as_py()[:200]] for i in nearest])
    about = {
        "key": key,
        "n_documents": seen.n_documents,
        "n_bytes": seen.n_bytes,
        "n_bad_rows": seen.n_bad_rows,
        "n_fitted": len(texts),
        "stability": [asdict(s) for s in tried],
        "examples": examples,
    }
    model.save(folder, about)
    return about


def _names(texts: Any, labels: np.ndarray, k: int) -> tuple[str, ...]:
    """Names of clusters: the n-grams that each has far more of than the rest of the sample."""
    counts = np.zeros((k, N_FINE), np.int32)
    own = [texts.filter(pa.array(labels == cluster)) for cluster in range(k)]
    for cluster, some in enumerate(own):
        counts[cluster] = np.bincount(FEATURES.stream(some).buckets, minlength=N_FINE)
    total = counts.sum(axis=0, dtype=np.int64)
    return tuple(
        ", ".join(distinctive(counts[c], total - counts[c], own[c], N_NAMES)) or "(nothing of its own)"
        for c in range(k)
    )


# ---- assign


def _assign_all(
    corpus: Corpus, model: Domains, folder: Path, key: str, engine: LocalEngine, shown: Progress
) -> np.ndarray:
    """int64[k + 1, 2]: documents and bytes by cluster, last those without text."""
    sizes = np.zeros((len(model.centres) + 1, 2), np.int64)
    with shown.stage("assign", corpus.n_bytes) as stage:
        for partition, part in engine.each(partial(_assign, corpus, model, folder, key, engine), corpus.partitions):
            sizes += part
            stage.advance(partition.n_bytes)
    return sizes


def _assign(
    corpus: Corpus, model: Domains, folder: Path, key: str, engine: LocalEngine, partition: Partition
) -> np.ndarray:
    """Write the clusters of a partition, unless that was done before; returns its sizes."""
    path = folder / f"part-{partition.index:05d}.parquet"
    if not is_done(path, key):
        write_table(path, SCHEMA, _clusters(corpus, model, engine, partition), key)
    sizes = np.zeros((len(model.centres) + 1, 2), np.int64)
    for table in batches(path, ["cluster", "n_bytes"]):
        cluster = numpy(table["cluster"].fill_null(len(model.centres)))
        for column, weights in enumerate((None, numpy(table["n_bytes"]))):
            sizes[:, column] += np.bincount(cluster, weights, minlength=len(sizes)).astype(np.int64)
    return sizes


def _clusters(corpus: Corpus, model: Domains, engine: LocalEngine, partition: Partition) -> Iterator[pa.Table]:
    names = pa.array([corpus.source(partition).name], pa.large_string())

    def work(raw: Any) -> pa.Table:
        docs = documents(corpus, partition, raw, ())
        labels, distances = model.assign(docs.texts)
        without = docs.n_bytes == 0
        path = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(docs), np.int32)), names)
        columns = [docs.ids, path, docs.rows, docs.n_bytes]
        columns += [pa.array(labels, pa.int32(), mask=without), pa.array(distances, pa.float32(), mask=without)]
        return pa.table(columns, schema=SCHEMA)

    yield from engine.pipeline(work, raw_batches(corpus, partition, (), BATCH_BYTES))


def _found(
    folder: Path, started: dict[str, Any], model: Domains, sizes: np.ndarray, seconds: dict[str, float]
) -> Found:
    found = tuple(
        Domain(cluster, name, int(n), int(n_bytes), tuple((id_, text) for id_, text in examples))
        for cluster, (name, (n, n_bytes), examples) in enumerate(
            zip(model.names, sizes[:-1], started["examples"], strict=True)
        )
    )
    return Found(
        folder,
        started["n_documents"],
        started["n_bytes"],
        int(sizes[-1, 0]),
        started["n_bad_rows"],
        started["n_fitted"],
        found,
        tuple(Stability(**s) for s in started["stability"]),
        seconds,
    )
