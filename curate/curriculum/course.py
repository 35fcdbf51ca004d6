"""A curriculum without feedback from training: documents in bins by difficulty that open stage by stage, or a tail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.curriculum import bytemodel
from curate.curriculum.difficulty import BITS, MODEL_BYTES, DifficultyJob, Halves, Ranks, is_measured, measure
from curate.curriculum.pacing import competence, stage_weights
from curate.curriculum.values import Gate
from curate.engines import LocalEngine
from curate.engines.allocator import BASE_BYTES
from curate.engines.resources import Resources
from curate.errors import InputError, RunError, UsageError, unknown
from curate.io.columns import columns_of
from curate.io.corpus import PARTITION_BYTES, Corpus, scan
from curate.io.curriculum import CURRICULUM, GROUPS, Curriculum, write_curriculum
from curate.io.paths import is_url, refuse_inputs_below
from curate.io.run import WORK, digest, read_json, write_json
from curate.io.tables import numpy, write_table
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.sampling.budget import parse_bytes
from curate.steps.documents import documents, raw_batches
from curate.steps.fit import write_quarantine
from curate.steps.sorting import Sorter
from curate.survey import survey

FORMAT = 1
SUMMARY = "offline.json"
TAIL = "tail"
BITS_MEMORY = 1_000_000_000  # what two models take with all else; 910 MB were measured
N_EXAMPLES = 2
EXAMPLE = 200  # characters
ORDERS = ("easy-first", "hard-first")
SCHEMA = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("path", pa.large_string()),
        ("row", pa.int64()),
        ("difficulty", pa.float64()),
        ("quantile", pa.float64()),
        ("group", pa.large_string()),
        ("reason", pa.string()),
    ]
)
_PICKED = pa.schema(
    [
        ("quantile", pa.float64()),
        ("difficulty", pa.float64()),
        ("doc_id", pa.large_string()),
        ("path", pa.large_string()),
        ("row", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Stages:
    """How bins open: ``n_bins`` by quantile of difficulty, over ``n_stages``; see `pacing.competence`."""

    n_bins: int = 10
    n_stages: int = 5
    pacing: str = "root"
    start: float = 0.1
    order: str = "easy-first"

    def check(self) -> None:
        """Refuse what makes no sense."""
        if self.n_bins < 1:
            raise UsageError(f"--bins {self.n_bins}: must be 1 or more")
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        competence(self.n_stages, self.pacing, self.start)

    def name(self, group: int) -> str:
        return f"bin-{group:0{max(2, len(str(self.n_bins - 1)))}d}"


@dataclass(frozen=True)
class Tail:
    """The most difficult ``share`` of the documents of each group, see `tail.long_tail`.

    ``floor``: share of all documents, the most difficult, that is left out as noise.
    """

    share: float
    gate: Gate | None = None
    floor: float = 0.001

    def check(self) -> None:
        """Refuse what makes no sense."""
        if not 0 < self.share <= 1:
            raise UsageError(f"--tail {self.share:g}: must be above 0 and at most 1")
        if not 0 <= self.floor < 1:
            raise UsageError(f"--floor {self.floor:g}: must be from 0 on and below 1")


@dataclass(frozen=True)
class Bin:
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
    groups: tuple[Bin, ...]
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
    plan = _plan(bins, stages, pacing, start, order, tail, gate, floor)
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
        what += [bytemodel.ORDER, bytemodel.ESCAPE, MODEL_BYTES]
        what += [corpus.identity(p) | {"on_bad_row": None} for p in corpus.partitions]  # may change at the first one
        condition = plan.gate if isinstance(plan, Tail) else None
        measured = digest([*what, asdict(condition) if condition else None])
        key = digest([measured, asdict(plan)])
        parts = folder / WORK / "parts"
        job = DifficultyJob(corpus, difficulty, names, condition, None, engine, parts, measured, batch_bytes)
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
            found = _Grouping(plan, ranks)
            write_table(folder / GROUPS, SCHEMA, found.tables())
            stage.advance(1)
        if not found.sizes:
            for name in (GROUPS, SUMMARY):  # what is measured stays, for another try
                (folder / name).unlink()
            raise InputError(found.nothing(job))
        course = found.course(folder, job, n_bad)
    write_curriculum(folder, _curriculum(course, plan, seed))
    kept = {name: value for name, value in as_dict(course).items() if name != "out"}
    write_json(folder / SUMMARY, {"key": key, "complete": True, **kept})
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return course


def as_dict(course: Course) -> dict[str, Any]:
    """As JSON can hold it."""
    return asdict(course) | {"out": str(course.out)}


def _plan(
    bins: int | None,
    stages: int | None,
    pacing: str | None,
    start: float | None,
    order: str | None,
    tail: float | None,
    gate: str | None,
    floor: float | None,
) -> Stages | Tail:
    of_stages = {"n_bins": bins, "n_stages": stages, "pacing": pacing, "start": start, "order": order}
    of_tail = {"gate": None if gate is None else Gate.parse(gate), "floor": floor}
    mine, others = (of_stages, of_tail) if tail is None else (of_tail, of_stages)
    given = [name.removeprefix("n_") for name, value in others.items() if value is not None]
    if given:
        raise UsageError(f"--{given[0]}: makes sense {'only with --tail' if tail is None else 'without --tail'}")
    settings: dict[str, Any] = {name: value for name, value in mine.items() if value is not None}
    plan = Stages(**settings) if tail is None else Tail(tail, **settings)
    plan.check()
    return plan


def _begin(folder: Path, key: str, overwrite: bool) -> Course | None:
    """Make the folder ready, or refuse; what is there when it is all there."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; choose a folder")
    before = read_json(folder / SUMMARY)
    ours = isinstance(before, dict) and "key" in before
    if not ours and folder.exists() and any(p.name != WORK and not p.name.endswith(".part") for p in folder.iterdir()):
        raise RunError(f"{folder}: holds files that are no curriculum by difficulty; choose another folder")
    for stray in folder.rglob(".*.part"):
        stray.unlink(missing_ok=True)
    if ours and before["key"] == key:
        if not before["complete"]:
            return None
        shutil.rmtree(folder / WORK, ignore_errors=True)
        return _restored(folder, before)
    if ours and not overwrite:
        raise RunError(f"{folder}: a curriculum of other files or settings; choose another folder or pass --overwrite")
    write_json(folder / SUMMARY, {"key": key, "complete": False})  # from now on it is not complete
    for path in [folder / GROUPS, folder / CURRICULUM, folder / "quarantine.parquet", *folder.glob("weights*.json")]:
        path.unlink(missing_ok=True)
    return None


def _restored(folder: Path, state: dict[str, Any]) -> Course:
    values = {name: value for name, value in state.items() if name not in ("key", "complete")}
    values |= {name: tuple(values[name]) for name in ("within", "competence")}
    values["groups"] = tuple(
        Bin(**(group | {name: tuple(group[name]) for name in ("difficulty", "weights")})) for group in values["groups"]
    )
    values |= {name: tuple(Example(**example) for example in values[name]) for name in ("easiest", "hardest")}
    return Course(out=folder, **values)


def _require_columns(job: DifficultyJob) -> None:
    there = columns_of(job.corpus)
    for name in job.carried:
        if name not in there:
            what = (
                "neither bits-per-byte nor length, and no column of raw"
                if name == job.difficulty
                else "no column of raw"
            )
            raise UsageError(f"{name!r} is {what} (there are: {', '.join(there)})")


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


# ---- grouping


@dataclass
class _Sizes:
    """Documents, bytes and range of difficulty of a group."""

    n_documents: int = 0
    n_bytes: int = 0
    lowest: float = np.inf
    highest: float = -np.inf

    def add(self, n_bytes: np.ndarray, difficulty: np.ndarray) -> None:
        self.n_documents += len(n_bytes)
        self.n_bytes += int(n_bytes.sum())
        if len(difficulty):
            self.lowest = min(self.lowest, float(difficulty.min()))
            self.highest = max(self.highest, float(difficulty.max()))


@dataclass
class _Grouping:
    """Which group each ranked document is in, and what is in the groups."""

    plan: Stages | Tail
    ranks: Ranks
    n_documents: int = 0
    n_bytes: int = 0
    sizes: dict[int, _Sizes] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    easiest: pa.Table = field(default_factory=_PICKED.empty_table)
    hardest: pa.Table = field(default_factory=_PICKED.empty_table)

    def tables(self) -> Iterator[pa.Table]:
        """The rows of ``groups.parquet``."""
        top = self.ranks.highest(self.plan.floor) if isinstance(self.plan, Tail) else np.inf
        for table in self.ranks.tables():
            quantile, difficulty = numpy(table["quantile"]), numpy(table["difficulty"])
            group, reason = self._groups(quantile, difficulty, numpy(table["passes"]), top)
            ranked = ~np.isnan(difficulty)
            group = np.where(ranked, group, -1)
            reasons = pc.coalesce(table["reason"], pa.array(reason, pa.string(), mask=(group >= 0) | ~ranked))
            yield self._noted(table, group, reasons)

    def _groups(
        self, quantile: np.ndarray, difficulty: np.ndarray, passes: np.ndarray, top: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """``(group, reason)``: int64[n], -1 for none, and why for those."""
        if isinstance(self.plan, Stages):
            place = np.nan_to_num(quantile * self.plan.n_bins).astype(np.int64)
            return np.minimum(place, self.plan.n_bins - 1), np.full(len(place), "")
        within = 1 - quantile <= self.plan.share + 1e-12  # a rank, which 1 - quantile rounds
        reason = np.where(passes, "not_in_tail", "below_gate")
        reason = np.where(passes & within & (difficulty > top), "below_floor", reason)
        return np.where(within & passes & (difficulty <= top), 0, -1), reason

    def _noted(self, table: pa.Table, group: np.ndarray, reasons: pa.ChunkedArray) -> pa.Table:
        n_bytes, difficulty = numpy(table["n_bytes"]), numpy(table["difficulty"])
        self.n_documents += table.num_rows
        self.n_bytes += int(n_bytes.sum())
        for one in np.unique(group[group >= 0]).tolist():
            self.sizes.setdefault(one, _Sizes()).add(n_bytes[group == one], difficulty[group == one])
        for item in reasons.drop_null().value_counts():
            name = item["values"].as_py()
            self.reasons[name] = self.reasons.get(name, 0) + item["counts"].as_py()
        table = table.set_column(table.column_names.index("path"), "path", table["path"].cast(pa.large_string()))
        grouped = pa.array(group >= 0)
        shown = pc.and_(table["passes"], pc.is_valid(table["difficulty"]))
        self.easiest = _first(self.easiest, table.filter(shown), "ascending")
        self.hardest = _first(self.hardest, table.filter(grouped), "descending")
        names = [
            self.plan.name(i) if isinstance(self.plan, Stages) else TAIL for i in range(int(group.max(initial=0)) + 1)
        ]
        named = pa.array(names, pa.large_string()).take(pa.array(group, mask=group < 0))
        columns = [table[name] for name in ("doc_id", "path", "row", "difficulty", "quantile")]
        return pa.table([*columns, named, reasons], schema=SCHEMA)

    def course(self, folder: Path, job: DifficultyJob, n_bad: int) -> Course:
        """What was found."""
        groups = sorted(self.sizes)
        if isinstance(self.plan, Stages):
            opened = competence(self.plan.n_stages, self.plan.pacing, self.plan.start)
            sizes = np.array([self.sizes[group].n_documents for group in groups])
            weights = stage_weights(sizes, opened, reverse=self.plan.order == "hard-first")
            names = [self.plan.name(group) for group in groups]
        else:
            opened, weights, names = np.ones(1), np.ones((1, 1)), [TAIL]
        bins = [
            Bin(name, s.n_documents, s.n_bytes, (s.lowest, s.highest), tuple(of.tolist()))
            for name, s, of in zip(names, (self.sizes[group] for group in groups), weights.T, strict=True)
        ]
        texts = _beginnings(job, pa.concat_tables([self.easiest, self.hardest]))
        easiest, hardest = (
            tuple(
                Example(row["doc_id"], row["difficulty"], texts[row["path"], row["row"]]) for row in picked.to_pylist()
            )
            for picked in (self.easiest, self.hardest)
        )
        return Course(
            folder,
            job.difficulty,
            job.within,
            self.n_documents,
            self.n_bytes,
            n_bad,
            dict(sorted(self.reasons.items())),
            tuple(opened.tolist()),
            tuple(bins),
            easiest,
            hardest,
        )

    def nothing(self, job: DifficultyJob) -> str:
        """That no document is in any group, with the numbers and the way out."""
        place = job.corpus.files[0].source.path
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.reasons.items())) or "it is empty"
        if isinstance(self.plan, Tail) and self.ranks.n_ranked:
            return (
                f"{place}: none of {self.n_documents:,} documents is in the long tail ({why}); "
                "raise --tail, or lower --gate or --floor"
            )
        return f"{place}: none of {self.n_documents:,} documents has a difficulty ({why}); choose another --difficulty"


def _first(best: pa.Table, table: pa.Table, order: str) -> pa.Table:
    """The first N_EXAMPLES of both by quantile, then difficulty; ties by id, then by place."""
    keys = [
        ("quantile", order),
        ("difficulty", order),
        ("doc_id", "ascending"),
        ("path", "ascending"),
        ("row", "ascending"),
    ]
    both = pa.concat_tables([best, table.select(_PICKED.names).cast(_PICKED)])
    return both.take(pc.select_k_unstable(both, k=min(N_EXAMPLES, both.num_rows), sort_keys=keys))


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
