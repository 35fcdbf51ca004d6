"""A curriculum without feedback from training: documents in bins by difficulty that open stage by stage, or a tail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.curriculum import bytemodel
from curate.curriculum.difficulty import (
    BITS,
    LENGTH,
    MODEL_BYTES,
    TEXT_BYTES,
    DifficultyJob,
    Halves,
    Ranks,
    is_measured,
    measure,
)
from curate.curriculum.grouping import SCHEMA, Grouping
from curate.curriculum.plans import Stages, Tail
from curate.curriculum.state import STATE
from curate.curriculum.values import Gate
from curate.engines import LocalEngine
from curate.engines.allocator import BASE_BYTES
from curate.engines.resources import Resources
from curate.errors import InputError, RunError, UsageError, unknown
from curate.io.columns import columns_of
from curate.io.corpus import PARTITION_BYTES, Corpus, scan
from curate.io.curriculum import CURRICULUM, GROUPS, Curriculum, method_in, write_curriculum
from curate.io.paths import is_url, refuse_inputs_below
from curate.io.run import WORK, digest, read_json, write_json
from curate.io.tables import write_table
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.sampling.budget import parse_bytes
from curate.steps.documents import documents, raw_batches
from curate.steps.fit import write_quarantine
from curate.steps.sorting import Sorter
from curate.survey import survey

FORMAT = 1
SUMMARY = "offline.json"
BITS_MEMORY = 1_200_000_000  # what two models take with all else; 0.99 GB were measured
EXAMPLE = 200  # characters


@dataclass(frozen=True)
class Group:
    """A group of documents. ``difficulty``: lowest and highest; ``weights``: by stage, of the whole group."""

    name: str
    n_documents: int
    n_bytes: int
    difficulty: tuple[float, float]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """A document: its beginning, to be shown."""

    doc_id: str
    difficulty: float
    text: str


@dataclass(frozen=True)
class Course:
    """What was made: the groups, the easiest first, with their weights at each stage.

    ``reasons``: documents that are in no group, by why. ``competence``: share of the documents that is open, by stage.
    ``easiest``, ``hardest``: examples; of a tail, of those that pass its gate and of the tail.
    """

    out: Path
    difficulty: str
    within: tuple[str, ...]
    n_documents: int
    n_bytes: int
    n_bad_rows: int
    reasons: dict[str, int]
    competence: tuple[float, ...]
    groups: tuple[Group, ...]
    easiest: tuple[Example, ...]
    hardest: tuple[Example, ...]


def offline(
    raw: Paths,
    *,
    out: str | os.PathLike[str],
    difficulty: str = BITS,
    within: str | Sequence[str] = (),
    bins: int | None = None,
    stages: int | None = None,
    pacing: str | None = None,
    start: float | None = None,
    order: str | None = None,
    tail: float | None = None,
    gate: str | None = None,
    floor: float | None = None,
    seed: int = 0,
    text_column: str = "text",
    id_column: str = "id",
    on_bad_row: str = "raise",
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    overwrite: bool = False,
    progress: bool | None = False,
) -> Course:
    """Sort documents into bins by difficulty and write in what proportion to train on these, stage by stage.

    ``out`` is a curriculum folder: ``curriculum.parquet``, ``weights-stage-*.json``, and ``groups.parquet`` (doc_id,
    path, row, difficulty, quantile, group, reason), one row a document in the order of the corpus. What was measured
    is kept when a run is killed.

    Parameters
    ----------
    raw : files, folders, globs or URLs.
    difficulty : "bits-per-byte" under a model of other documents of raw (`difficulty.Halves`), "length" in bytes, or a
        column of numbers, higher being harder.
    within : columns; documents are ranked among those of the same values. "length": of about the same length.
    bins, stages, pacing, start, order : see `Stages`, whose defaults they have.
    tail : instead of bins one group, the most difficult share; with ``gate`` and ``floor``, see `Tail`.
    seed : of which half of the sample a document is in.

    Raises
    ------
    InputError : no document is in any group. RunError : ``out`` holds something else.
    UsageError : options that make no sense, or columns that raw does not have.
    """
    plan = asked_plan(bins, stages, pacing, start, order, tail, gate, floor)
    names = (within,) if isinstance(within, str) else tuple(within)
    if on_bad_row not in ("raise", "quarantine"):
        raise unknown("--on-bad-row", on_bad_row, ("raise", "quarantine"))
    if is_url(os.fspath(out)):
        raise UsageError(f"--out {out}: must be a local folder")
    folder, resources, shown = Path(out), Resources(workers, parse_bytes(memory_limit)), Progress(progress)
    if difficulty == BITS and resources.memory_limit < BITS_MEMORY:
        raise UsageError(
            f"memory limit {resources.memory_limit:,} bytes: bits-per-byte takes {BITS_MEMORY:,}; raise it, or "
            "choose another --difficulty"
        )
    with LocalEngine(workers) as engine:
        batch_bytes = resources.batch_bytes(engine)
        refuse_inputs_below(folder, listed_paths(raw))
        corpus = scan(
            listed_paths(raw), text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map
        )
        what = [FORMAT, PARTITION_BYTES, difficulty, names, seed]
        what += [bytemodel.ORDER, bytemodel.ESCAPE, MODEL_BYTES, TEXT_BYTES]
        what += [corpus.identity(p) | {"on_bad_row": None} for p in corpus.partitions]  # may change at the first one
        measured = digest([*what, asdict(plan.gate) if plan.gate else None])
        key = digest([measured, asdict(plan)])
        parts = folder / WORK / "parts"
        job = DifficultyJob(corpus, difficulty, names, plan.gate, None, engine, parts, measured, batch_bytes)
        _require_columns(job)
        if (done := _begin(folder, key, overwrite)) is not None:
            return done
        if difficulty == BITS and not all(is_measured(job, p) for p in corpus.partitions):
            job = replace(job, halves=_halves(corpus, engine, seed, shown))
        n_bad = _measure_all(job, folder, shown)
        sorter = Sorter(folder / WORK / "sorting", resources.memory_limit - BASE_BYTES, engine.workers)
        with shown.stage("rank", 2, in_bytes=False) as stage:
            ranks = Ranks([job.path(p) for p in corpus.partitions], sorter)
            stage.advance(1)
            found = Grouping(plan, ranks)
            write_table(folder / GROUPS, SCHEMA, found.tables())
            stage.advance(1)
        try:
            course = _course(found, folder, job, n_bad)
        except InputError:
            for name in (GROUPS, SUMMARY):  # what is measured stays, for another try
                (folder / name).unlink()
            raise
    write_curriculum(folder, _curriculum(course, plan, seed))
    kept = {name: value for name, value in as_dict(course).items() if name != "out"}
    write_json(folder / SUMMARY, {"key": key, "complete": True, **kept})
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return course


def as_dict(course: Course) -> dict[str, Any]:
    """As JSON can hold it."""
    return asdict(course) | {"out": str(course.out)}


def asked_plan(
    bins: int | None,
    stages: int | None,
    pacing: str | None,
    start: float | None,
    order: str | None,
    tail: float | None,
    gate: str | None,
    floor: float | None,
) -> Stages | Tail:
    """The bins or the tail that arguments of `offline` ask for.

    Raises
    ------
    UsageError : they do not go together, or make no sense.
    """
    of_stages = {"n_bins": bins, "n_stages": stages, "pacing": pacing, "start": start, "order": order}
    of_tail = {"gate": None if gate is None else Gate.parse(gate), "floor": floor}
    mine, others = (of_stages, of_tail) if tail is None else (of_tail, of_stages)
    given = [name.removeprefix("n_") for name, value in others.items() if value is not None]
    if given:
        raise UsageError(f"--{given[0]}: makes sense {'only with --tail' if tail is None else 'without --tail'}")
    settings: dict[str, Any] = {name: value for name, value in mine.items() if value is not None}
    return Stages(**settings) if tail is None else Tail(tail, **settings)


def _begin(folder: Path, key: str, overwrite: bool) -> Course | None:
    """Make the folder ready, or refuse; what is there when it is all there."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; choose a folder")
    before = read_json(folder / SUMMARY)
    ours = isinstance(before, dict) and "key" in before
    by = method_in(folder)
    if not ours and folder.exists() and any(p.name != WORK and not p.name.endswith(".part") for p in folder.iterdir()):
        raise RunError(f"{folder}: holds files that are no curriculum by difficulty; choose another folder")
    for stray in folder.rglob(".*.part"):
        stray.unlink(missing_ok=True)
    if ours and by in ("offline", None) and before["key"] == key:
        if not before["complete"]:
            return None
        if by and (folder / GROUPS).exists():
            shutil.rmtree(folder / WORK, ignore_errors=True)
            return _restored(folder, before)
    elif ours and not overwrite:
        what = "of other files or settings" if by in ("offline", None) else f"that {by} made since"
        raise RunError(f"{folder}: holds a curriculum {what}; choose another folder or pass --overwrite")
    write_json(folder / SUMMARY, {"key": key, "complete": False})  # from now on it is not complete
    for name in (STATE, CURRICULUM, GROUPS, "quarantine.parquet"):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("weights*.json"):
        path.unlink(missing_ok=True)
    return None


def _restored(folder: Path, state: dict[str, Any]) -> Course:
    values = {name: value for name, value in state.items() if name not in ("key", "complete")}
    values |= {name: tuple(values[name]) for name in ("within", "competence")}
    values["groups"] = tuple(
        Group(**(group | {name: tuple(group[name]) for name in ("difficulty", "weights")}))
        for group in values["groups"]
    )
    values |= {name: tuple(Example(**example) for example in values[name]) for name in ("easiest", "hardest")}
    return Course(out=folder, **values)


def _require_columns(job: DifficultyJob) -> None:
    there = columns_of(job.corpus)
    for name in job.carried:
        if name not in there:
            measured = name == job.difficulty and name not in (BITS, LENGTH)
            also = f"neither {BITS} nor {LENGTH}, and " if measured else ""
            raise UsageError(f"{name!r} is {also}no column of raw (there are: {', '.join(there)})")


def _halves(corpus: Corpus, engine: LocalEngine, seed: int, shown: Progress) -> Halves:
    with shown.stage("read", corpus.n_bytes) as stage:
        seen = survey(corpus, "raw", engine, sample_bytes=2 * MODEL_BYTES, advance=stage.advance)
    return Halves(seen.ids, seen.texts, seed)


def _measure_all(job: DifficultyJob, folder: Path, shown: Progress) -> int:
    """Measure all partitions; returns how many rows could not be read."""
    found: dict[int, dict[str, Any]] = {}
    with shown.stage("measure", sum(p.n_bytes for p in job.corpus.partitions)) as stage:
        for partition, one in job.engine.each(partial(measure, job), job.corpus.partitions):
            found[partition.index] = one
            stage.advance(partition.n_bytes)
    return write_quarantine(folder / "quarantine.parquet", [found[p.index] for p in job.corpus.partitions])


# ---- what is told of it


def _course(found: Grouping, folder: Path, job: DifficultyJob, n_bad: int) -> Course:
    """What was found.

    Raises
    ------
    InputError : no document is in any group.
    """
    if not found.sizes:
        raise InputError(_nothing(found, job))
    groups = sorted(found.sizes)
    sizes = [found.sizes[group] for group in groups]
    opened, weights = found.plan.weights(np.array([size.n_documents for size in sizes]))
    texts = _beginnings(job, pa.concat_tables([found.easiest, found.hardest]))
    easiest, hardest = (
        tuple(Example(row["doc_id"], row["difficulty"], texts[row["path"], row["row"]]) for row in picked.to_pylist())
        for picked in (found.easiest, found.hardest)
    )
    return Course(
        folder,
        job.difficulty,
        job.within,
        found.n_documents,
        found.n_bytes,
        n_bad,
        dict(sorted(found.reasons.items())),
        tuple(opened.tolist()),
        tuple(
            Group(found.plan.name(group), s.n_documents, s.n_bytes, (s.lowest, s.highest), tuple(of.tolist()))
            for group, s, of in zip(groups, sizes, weights.T, strict=True)
        ),
        easiest,
        hardest,
    )


def _nothing(found: Grouping, job: DifficultyJob) -> str:
    """That no document is in any group, with the numbers and the way out."""
    place = job.corpus.files[0].source.path
    why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(found.reasons.items())) or "it is empty"
    if isinstance(found.plan, Tail) and found.ranks.n_ranked:
        return (
            f"{place}: none of {found.n_documents:,} documents is in the long tail ({why}); "
            "raise --tail, or lower --gate or --floor"
        )
    return f"{place}: none of {found.n_documents:,} documents has a difficulty ({why}); choose another --difficulty"


def _beginnings(job: DifficultyJob, picked: pa.Table) -> dict[tuple[str, int], str]:
    """The beginnings of some documents, by path and row."""
    wanted: dict[str, set[int]] = {}
    for row in picked.to_pylist():
        wanted.setdefault(row["path"], set()).add(row["row"])
    found: dict[tuple[str, int], str] = {}
    for partition in job.corpus.partitions:
        name = job.corpus.source(partition).name
        rows = wanted.get(name, set()) - {row for path, row in found if path == name}
        if not rows:
            continue
        for raw in raw_batches(job.corpus, partition, (), job.batch_bytes):
            docs = documents(job.corpus, partition, raw, ())
            for at in np.flatnonzero(np.isin(docs.rows, list(rows))).tolist():
                found[name, int(docs.rows[at])] = docs.texts[at].as_py()[:EXAMPLE]
    return found


def _curriculum(course: Course, plan: Stages | Tail, seed: int) -> Curriculum:
    """What is written of it for training loops."""
    n_stages, groups = len(course.competence), course.groups
    columns = {
        "n_documents": [g.n_documents for g in groups],
        "n_bytes": [g.n_bytes for g in groups],
        "easiest": [g.difficulty[0] for g in groups],
        "hardest": [g.difficulty[1] for g in groups],
    }
    return Curriculum(
        "group",
        pa.array([g.name for g in groups] * n_stages, pa.large_string()),
        np.repeat(np.arange(n_stages), len(groups)),
        np.array([g.weights for g in groups]).T.ravel(),
        {name: np.tile(np.array(values), n_stages) for name, values in columns.items()},
        {
            "method": "offline",
            "column": None,
            "difficulty": course.difficulty,
            "within": list(course.within),
            "seed": seed,
            "competence": list(course.competence),
            **asdict(plan),
        },
    )
