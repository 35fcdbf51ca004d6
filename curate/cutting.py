"""Passages of a corpus as a corpus of their own, to select from instead of whole documents."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engines import LocalEngine
from curate.engines.resources import Resources
from curate.errors import RunError, UsageError, unknown
from curate.features.passages import cut_passages
from curate.io.columns import schema_of
from curate.io.corpus import Corpus, Partition, scan
from curate.io.formats import BadRow, Batch, parse, read_raw
from curate.io.paths import is_url, refuse_inputs_below
from curate.io.run import WORK, digest, read_json, write_json
from curate.io.schemas import conformed, without_views, writable
from curate.io.tables import UNIQUE, count_rows, is_done, write_table
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.sampling.budget import parse_bytes
from curate.steps.documents import documents
from curate.steps.fit import write_quarantine

FORMAT = 1
ADDED = ("passage_of", "passage_start", "passage_stop")
FACTS = ("size", "n_documents", "n_passages", "n_bytes", "n_bad_rows")


@dataclass(frozen=True)
class PassagesMade:
    """What was cut: documents and passages, bytes of text, rows that could not be read."""

    out: Path
    size: int
    n_documents: int
    n_passages: int
    n_bytes: int
    n_bad_rows: int


@dataclass(frozen=True)
class _Job:
    corpus: Corpus
    size: int
    folder: Path
    markers: Path
    key: str
    batch_bytes: int

    def path(self, partition: Partition) -> Path:
        return self.folder / f"part-{partition.index:05d}.parquet"


def passages(
    raw: Paths,
    *,
    out: str | os.PathLike[str],
    size: str | int = 200,
    text_column: str = "text",
    id_column: str = "id",
    on_bad_row: str = "raise",
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    overwrite: bool = False,
    progress: bool | None = False,
) -> PassagesMade:
    """Cut the documents of a corpus into passages: ``out/passages/part-*.parquet``, one file a partition.

    A passage has the columns of its document. Its id is ``<id of the document>#<start>-<stop>``, and ``passage_of``,
    ``passage_start`` and ``passage_stop`` are that id and the bytes of the document's text. See `cut_passages` for
    where texts are cut. What is finished is kept when a run is killed.

    Parameters
    ----------
    raw : files, folders, globs or URLs. size : bytes of a passage, see `cut_passages`.

    Raises
    ------
    RunError : ``out`` holds something else. CurateError : in one of its kinds, for input that cannot be read.
    """
    size = parse_bytes(size)
    if on_bad_row not in ("raise", "quarantine"):
        raise unknown("--on-bad-row", on_bad_row, ("raise", "quarantine"))
    if is_url(os.fspath(out)):
        raise UsageError(f"--out {out}: must be a local folder")
    cut_passages(pa.array([], pa.large_string()), size)  # a size that is too small, before anything is read
    folder, resources, shown = Path(out), Resources(workers, parse_bytes(memory_limit)), Progress(progress)
    with LocalEngine(workers) as engine:
        batch_bytes = resources.batch_bytes(engine)
        refuse_inputs_below(folder, listed_paths(raw))
        corpus = scan(
            listed_paths(raw), text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map
        )
        key = digest([FORMAT, size, [corpus.identity(p) for p in corpus.partitions]])
        if (done := _begin(folder, key, overwrite)) is not None:
            return done
        job = _Job(corpus, size, folder / "passages", folder / WORK, key, batch_bytes)
        found: dict[int, dict[str, Any]] = {}
        with shown.stage("cut", sum(p.n_bytes for p in corpus.partitions)) as stage:
            for partition, one in engine.each(partial(_cut_partition, job), corpus.partitions):
                found[partition.index] = one
                stage.advance(partition.n_bytes)
    parts = [found[p.index] for p in corpus.partitions]
    n_bad = write_quarantine(folder / "quarantine.parquet", parts)
    total = {name: sum(part[name] for part in parts) for name in ("n_documents", "n_passages", "n_bytes")}
    made = PassagesMade(folder, size, **total, n_bad_rows=n_bad)
    inputs = [{"path": f.source.path, "bytes": f.bytes, "sha256": f.sha256} for f in corpus.files]
    facts = {name: getattr(made, name) for name in FACTS}
    write_json(folder / "passages.json", {"key": key, "complete": True, **facts, "inputs": inputs})
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return made


def _begin(folder: Path, key: str, overwrite: bool) -> PassagesMade | None:
    """Make the folder ready, or refuse; what is there when it is all there."""
    before = read_json(folder / "passages.json")
    if before is None and folder.exists() and any(not path.name.endswith(".part") for path in folder.iterdir()):
        raise RunError(f"{folder}: holds files that are not passages of curate; choose another folder")
    for stray in folder.rglob(".*.part"):
        stray.unlink(missing_ok=True)
    if before is not None and before["key"] != key:
        if not overwrite:
            raise RunError(
                f"{folder}: holds passages of other files or of another size; pass --overwrite, or another --out"
            )
        for name in ("passages", WORK):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "quarantine.parquet").unlink(missing_ok=True)
    if before is None or before["key"] != key:
        write_json(folder / "passages.json", {"key": key, "complete": False})
        return None
    return PassagesMade(folder, **{name: before[name] for name in FACTS}) if before["complete"] else None


def _cut_partition(job: _Job, partition: Partition) -> dict[str, Any]:
    """Write the passages of one partition, unless that is done; returns what they are."""
    path = job.path(partition)
    marker = job.markers / f"{path.stem}.json"
    found: dict[str, Any] | None = read_json(marker)
    if found and found["key"] == job.key and is_done(path, job.key) and count_rows(path) == found["n_passages"]:
        return found
    bad: list[BadRow] = []
    counted = {"n_documents": 0, "n_passages": 0, "n_bytes": 0}

    def tables() -> Iterator[pa.Table]:
        for raw in read_raw(job.corpus, partition, None, batch_bytes=job.batch_bytes):
            batch = parse(raw, None)
            table, n_bytes = _passages_of(job, partition, batch)
            bad.extend(batch.bad)
            counted["n_documents"] += len(batch.rows)
            counted["n_passages"] += table.num_rows
            counted["n_bytes"] += n_bytes
            yield conformed(table, schema)

    schema = _schema(job, partition)
    write_table(path, schema, tables(), job.key, unique=(*UNIQUE, job.corpus.text_column, job.corpus.id_column, *ADDED))
    found = {"key": job.key, **counted, "bad": [[b.path, b.row, b.reason, b.content.hex()] for b in bad]}
    write_json(marker, found)
    return found


def _schema(job: _Job, partition: Partition) -> pa.Schema:
    """The columns of the passages of a partition."""
    schema, source = schema_of(job.corpus, partition, job.batch_bytes), job.corpus.source(partition)
    taken = [name for name in ADDED if name in schema.names]
    if taken:
        raise UsageError(
            f"{source.path}: column {taken[0]!r} is taken: it is the name of one that passages get; rename it"
        )
    own = (job.corpus.id_column, job.corpus.text_column)
    fields = [pa.field(job.corpus.id_column, pa.large_string()), pa.field(job.corpus.text_column, pa.large_string())]
    fields += [field for field in writable(schema) if field.name not in own]
    fields += [pa.field("passage_of", pa.large_string())]
    fields += [pa.field(name, pa.int64()) for name in ADDED[1:]]
    return pa.schema(fields)


def _passages_of(job: _Job, partition: Partition, batch: Batch) -> tuple[pa.Table, int]:
    """The passages of some documents with all columns, and their bytes."""
    docs = documents(job.corpus, partition, batch, ())
    cut = cut_passages(docs.texts, job.size)
    index = pa.array(cut.document)
    own = (job.corpus.id_column, job.corpus.text_column)
    others = [name for name in batch.table.column_names if name not in own]
    table = without_views(batch.table.select(others)).take(index)
    ids = docs.ids.cast(pa.large_string()).take(index)
    start, stop = pa.array(cut.start), pa.array(cut.stop)
    names = _joined("#", ids, _joined("-", start.cast(pa.large_string()), stop.cast(pa.large_string())))
    columns = {job.corpus.id_column: names, job.corpus.text_column: cut.texts}
    columns |= {name: table[name] for name in others}
    columns |= dict(zip(ADDED, (ids, start, stop), strict=True))
    return pa.table(columns), int(np.sum(cut.stop - cut.start))


def _joined(by: str, *columns: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*columns, pa.scalar(by, pa.large_string()))
