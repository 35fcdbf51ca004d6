"""The five verbs in a row: scan, fit, score, draw, write; and what comes out of them."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from curate import __version__
from curate.engines import LocalEngine
from curate.engines.allocator import BASE_BYTES, give_back_memory, save_memory
from curate.engines.resources import Resources
from curate.errors import InputError, RunError, UsageError, unknown
from curate.features import NgramFeatures
from curate.features.domains import CLUSTER, Domains
from curate.features.ngrams import file_sha256
from curate.io.columns import columns_of
from curate.io.corpus import PARTITION_BYTES, Corpus, Partition, scan
from curate.io.paths import atomic, refuse_inputs_below
from curate.io.run import SCORES_COMMIT, RunFolder, digest, read_json, write_json
from curate.io.targets import Paths, Targets, listed_paths, named_targets
from curate.metrics.diagnostics import Diagnostics, shares, warnings
from curate.metrics.spending import Spent, spent
from curate.metrics.weights import LengthHistogram
from curate.progress import Progress
from curate.sampling.budget import Budget, parse_budget, parse_bytes
from curate.sampling.draws import BY_CHANCE, DRAWS, WEIGHTED
from curate.sampling.transforms import PLAIN, PROPORTIONAL, WeightSpec
from curate.scorers import Dsir, Fusion, Scorer, load_scorer, scorer
from curate.steps.count import NgramCounts
from curate.steps.decide import DecideJob, decide
from curate.steps.decision import Decision, DrawSpec
from curate.steps.documents import RESERVED
from curate.steps.draw import draw_table
from curate.steps.early import Guess
from curate.steps.fit import FitJob, Reading, fit_job, fit_model, fit_partition, write_quarantine
from curate.steps.fuse import FuseJob, fuse_scores
from curate.steps.holdout import checked_fraction
from curate.steps.keep import KeepJob, keep_partition, kept_lengths, total_weight
from curate.steps.ledger import write_ledger
from curate.steps.score import ScoreJob, score_partition
from curate.steps.scoretable import ScoreTable, Statistics, add_sizes, duplicate_ids, statistics
from curate.steps.write import WriteJob, WriteSpec, output_schema, plan_shards, write_shard

FORMAT = 1  # of the score table and what names it
FEW_OF_BUDGET = 0.9  # below it a run says that much of its budget could not be spent
LITTLE_MEMORY = 1_500_000_000  # below it memory is saved at the cost of some speed
LARGER_TARGET = {
    "bytegrams": "--set target_bytes takes more, at 150 bytes of memory each",
    "primed": "--set codec=zstd has room for 64 MB",
}


@dataclass(frozen=True)
class Selection:
    """What a selection did, and where it is."""

    out: Path
    n_documents: int
    n_selected: int
    n_bytes_selected: int
    n_tokens_selected: int
    shards: tuple[Path, ...]
    diagnostics: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    manifest: Mapping[str, Any] = field(repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict)  # by step; empty when nothing was left to do


@dataclass(frozen=True)
class Scoring:
    """What scoring a corpus did, and where the score table is."""

    out: Path
    n_documents: int
    n_eligible: int
    reasons: Mapping[str, int]
    key: str
    seconds: Mapping[str, float] = field(default_factory=dict)


def select(
    raw: Paths,
    *,
    target: Targets | None = None,
    out: str | os.PathLike[str],
    method: str = "dsir",
    settings: Mapping[str, Any] | None = None,
    budget: str | int | Budget | None = "10%",
    draw: str | None = None,
    seed: int = 0,
    threshold: float | None = None,
    per: str | None = None,
    proportions: Mapping[str, float] | None = None,
    weights: Mapping[str, Any] | None = None,
    text_column: str = "text",
    id_column: str = "id",
    target_text_column: str | None = None,
    holdout: float | None = None,
    domains: str | os.PathLike[str] | None = None,
    on_bad_row: str = "raise",
    format: str = "parquet",
    shard_size: str | int = "128MB",
    name: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    spill: bool | None = None,
    scores_from: str | os.PathLike[str] | None = None,
    steps: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool | None = False,
) -> Selection:
    """Select documents of ``raw``, such as are like ``target``, and write them to ``out``.

    Parameters
    ----------
    raw : files, folders, globs or URLs of the raw corpus.
    target : examples of what is wanted: paths, or paths by name; None for a method that needs none.
    method, settings : the scorer and its settings, see `curate.scorers`; "dsir+primed" fuses several, whose
        settings are named "dsir.n".
    budget : how much: 10000 (documents), "10%", "500MB", "2B-tokens".
    draw : "gumbel" (sample by weight), "topk", "threshold" (scores of at least ``threshold``), "uniform", "cover"
        (of the best, those that together have what the target has), "pivotal", "systematic" or "poisson" (each
        document with a known chance); by default "gumbel" for dsir and bytegrams, else "topk".
    weights : how scores become weights, by name: ``transform``, ``max_kl``, ``min_ess``, ``regularise``,
        ``calibrate``, see `curate.sampling.transforms.WeightSpec`; with any, draw is by default by weight.
    per, proportions : a column whose values each get their part of the budget; by default as in raw.
    domains : folder that `curate.domains` wrote: documents are assigned to its clusters, for per="cluster".
    holdout : share of the target that is not fitted to, for `evaluate`; None: all of it is.
    on_bad_row : "raise", or "quarantine": rows that cannot be read go to ``quarantine.parquet``.
    format : "parquet" or "jsonl.zst". shard_size : bytes of text in a shard.
    scores_from : folder of an earlier run over the same files and target, whose scores are used again.
    steps : what a recipe does with the selection afterwards, for the manifest.
    overwrite : replace what another recipe left in ``out``; scores that still hold are kept.
    progress : bars on stderr; None: when that is a terminal.

    Returns
    -------
    Selection

    Raises
    ------
    CurateError : in one of its kinds, see `curate.errors`; what is finished is kept for the next try.
    """
    spec = draw_spec(scorer(method, **dict(settings or {})), budget, draw, seed, threshold, per, proportions, weights)
    writing = WriteSpec(format, parse_bytes(shard_size))
    resources = Resources(workers, parse_bytes(memory_limit), spill)
    columns = (text_column, id_column, target_text_column)
    job = _ScoringSpec.asked(raw, target, method, settings, columns, on_bad_row, per, holdout, domains)
    return _Session(out, resources, Progress(progress)).select(job, spec, writing, name, scores_from, overwrite, steps)


def score(
    raw: Paths,
    *,
    target: Targets | None = None,
    out: str | os.PathLike[str],
    method: str = "dsir",
    settings: Mapping[str, Any] | None = None,
    per: str | None = None,
    text_column: str = "text",
    id_column: str = "id",
    target_text_column: str | None = None,
    holdout: float | None = None,
    domains: str | os.PathLike[str] | None = None,
    on_bad_row: str = "raise",
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    spill: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = False,
) -> Scoring:
    """Fit a scorer and score every document, without drawing; `draw` goes on from there."""
    resources = Resources(workers, parse_bytes(memory_limit), spill)
    columns = (text_column, id_column, target_text_column)
    job = _ScoringSpec.asked(raw, target, method, settings, columns, on_bad_row, per, holdout, domains)
    return _Session(out, resources, Progress(progress)).score(job, overwrite)


def draw(
    run: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    budget: str | int | Budget | None = "10%",
    draw: str | None = None,
    seed: int = 0,
    threshold: float | None = None,
    per: str | None = None,
    proportions: Mapping[str, float] | None = None,
    weights: Mapping[str, Any] | None = None,
    format: str = "parquet",
    shard_size: str | int = "128MB",
    name: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    overwrite: bool = False,
    progress: bool | None = False,
) -> Selection:
    """Draw from the scores of ``run`` (a folder that `score` or `select` made); no text is scored again.

    Without ``out`` the selection is written into the same folder.
    """
    scored = RunFolder(run).scored
    if scored is None:
        raise RunError(f"{run}: no scores there; run curate score or curate select first")
    job = _ScoringSpec(**scored["spec"])
    spec = draw_spec(scorer(job.method, **job.settings), budget, draw, seed, threshold, per, proportions, weights)
    resources = Resources(workers, parse_bytes(memory_limit))
    session = _Session(out or run, resources, Progress(progress))
    return session.select(job, spec, WriteSpec(format, parse_bytes(shard_size)), name, run, overwrite)


def draw_spec(
    model: Scorer | Fusion,
    budget: str | int | Budget | None,
    draw: str | None,
    seed: int,
    threshold: float | None,
    per: str | None,
    proportions: Mapping[str, float] | None,
    weights: Mapping[str, Any] | None,
) -> DrawSpec:
    """The draw that was asked for, or the one that suits the scores and weights."""
    how = WeightSpec(**(weights or {}))
    if model.scores_are_weights and how.needs_log_ratios and how.transform == "kl" and draw in (None, *WEIGHTED):
        how = replace(how, transform=PROPORTIONAL)
    if how.transform == PROPORTIONAL and not model.scores_are_weights:
        raise UsageError(
            f"--transform {PROPORTIONAL} is for scores that are weights, and those of {model.method} are not: "
            "take method leverage, or another transform"
        )
    if draw is None:
        draw = model.default_draw
        if not how.is_plain and (draw not in WEIGHTED or how.calibrate):
            draw = BY_CHANCE[0]
    if model.separate_targets and (draw in BY_CHANCE or not how.is_plain):
        raise UsageError(
            f"{str(how) or f'draw {draw!r}'} goes by one score, and separate targets have one each: pool the targets, "
            "or run once for each"
        )
    if draw in WEIGHTED and how.needs_log_ratios and not model.log_weights:
        raise UsageError(
            f"{str(how) or f'draw {draw!r}'} samples with odds exp(score), but scores of {model.method} are no log "
            "weights: take --draw topk, a method whose scores are (dsir, bytegrams, classifier), or --max-kl 1, which "
            "tilts by any score"
        )
    return DrawSpec(None if budget is None else parse_budget(budget), draw, seed, threshold, per, proportions, how)


@dataclass(frozen=True)
class _ScoringSpec:
    """The part of a recipe that scores depend on."""

    raw: list[str]
    target: dict[str, list[str]]
    method: str
    settings: dict[str, Any]
    text_column: str
    id_column: str
    target_text_column: str | None
    on_bad_row: str
    per: str | None
    holdout: float | None = None
    domains: str | None = None

    @classmethod
    def asked(
        cls,
        raw: Paths,
        target: Targets | None,
        method: str,
        settings: Mapping[str, Any] | None,
        columns: tuple[str, str, str | None],
        on_bad_row: str,
        per: str | None,
        holdout: float | None,
        domains: str | os.PathLike[str] | None,
    ) -> _ScoringSpec:
        """From the arguments of `select` and `score`. ``columns``: of raw's text, its id, and the target's text."""
        return cls(
            listed_paths(raw),
            named_targets(target),
            method,
            dict(settings or {}),
            *columns,
            on_bad_row,
            per,
            checked_fraction(holdout),
            None if domains is None else os.fspath(domains),
        )

    def __post_init__(self) -> None:
        if self.on_bad_row not in ("raise", "quarantine"):
            raise unknown("--on-bad-row", self.on_bad_row, ("raise", "quarantine"))
        check_target(self.target, scorer(self.method, **self.settings), self.holdout)


def check_draw(spec: DrawSpec, target: Mapping[str, Any], model: Scorer | Fusion) -> None:
    """Refuse a draw that has nothing to go by.

    Raises
    ------
    UsageError : it covers a target, and there is none, or scores are not for it, or each is to have its own budget.
    """
    if spec.draw != "cover":
        return
    if not target:
        raise UsageError("draw 'cover' covers a target, and none is given (--target PATH); or take --draw topk")
    if not model.needs_target:
        raise UsageError(
            f"draw 'cover' takes its candidates by nearness to the target, which scores of {model.method} are not: "
            "take a method that looks at the target (bytegrams)"
        )
    if model.separate_targets:
        raise UsageError(
            "draw 'cover' covers all targets together: leave out separate_targets, or select for each by itself"
        )


def check_target(target: Mapping[str, Any], model: Scorer | Fusion, holdout: float | None) -> None:
    """Refuse to do without a target where one is needed.

    Raises
    ------
    UsageError : the scorer needs one, or a part of it is to be held out.
    """
    if not target and model.needs_target:
        raise UsageError(f"no target: method {model.method!r} needs at least one file of examples (--target PATH)")
    if not target and holdout is not None:
        raise UsageError("--holdout leaves out part of a target, and none is given (--target PATH)")


@dataclass
class _Scored:
    """A corpus with its scores in place."""

    corpus: Corpus
    targets: dict[str, Corpus]
    model: Scorer | Fusion
    table: ScoreTable
    commit: dict[str, Any]


class _Session:
    """One call of select, score or draw: a folder, an engine, progress, and the clock."""

    def __init__(self, out: str | os.PathLike[str], resources: Resources, progress: Progress) -> None:
        self.folder = RunFolder(out)
        self.resources = resources
        if resources.memory_limit < LITTLE_MEMORY:
            save_memory()
        self.progress = progress
        self.domains: Domains | None = None
        self.seconds: dict[str, float] = {}

    @property
    def _before_fusion(self) -> Path:
        """Where score tables are that hold the scores of each scorer, not fused yet."""
        return self.folder.work / "scores"

    def score(self, job: _ScoringSpec, overwrite: bool) -> Scoring:
        with ExitStack() as stack:
            engine = stack.enter_context(LocalEngine(self.resources.workers))
            model = scorer(job.method, **job.settings)
            for member in model.members.values():
                member.check_installed()
            stack.enter_context(self.folder.locked())
            corpus, targets, carry = self._scan(job, model, engine)
            key = _scoring_key(job, corpus, targets, model, carry, self.domains)
            self.folder.begin({"score": _spec_dict(job, model)}, key, overwrite=overwrite)
            scored = self._scored(job, corpus, targets, model, carry, key, engine, None)
            self.folder.clean()
            stats = statistics(scored.table, engine, None)
            return Scoring(self.folder.path, stats.n_documents, stats.n_eligible, stats.reasons, key, self.seconds)

    def select(
        self,
        job: _ScoringSpec,
        spec: DrawSpec,
        writing: WriteSpec,
        name: str | None,
        scores_from: str | os.PathLike[str] | None,
        overwrite: bool,
        steps: Mapping[str, Any] | None = None,
    ) -> Selection:
        with ExitStack() as stack:
            engine = stack.enter_context(LocalEngine(self.resources.workers))
            model = scorer(job.method, **job.settings)
            check_draw(spec, job.target, model)
            for member in model.members.values():
                member.check_installed()
            stack.enter_context(self.folder.locked())
            corpus, targets, carry = self._scan(job, model, engine)
            by, there = spec.weights.calibrate, (*carry, "path", "all")
            if by and by not in there:
                raise UsageError(
                    f"--calibrate {by}: not a column of the scores (there are: {', '.join(there)}); "
                    f"score with --per {by} first"
                )
            recipe = _recipe(
                job, model, spec, writing, name or "-".join(filter(None, ["+".join(job.target), job.method]))
            )
            key = _scoring_key(job, corpus, targets, model, carry, self.domains)
            if self.folder.finished(recipe) and (self.folder.scored or {}).get("key") == key:
                before = self.folder.manifest or {}
                if steps and before.get("steps") != steps:
                    self.folder.commit(before | {"steps": dict(steps)})
                self.folder.clean()
                return _result(self.folder, self.folder.manifest or {}, {})
            self.folder.begin(recipe, key, overwrite=overwrite)
            if scores_from is not None:
                _adopt_scores(RunFolder(scores_from), self.folder, key)
            scored = self._scored(job, corpus, targets, model, carry, key, engine, spec)
            if spec.per and spec.per not in (*scored.table.carry, "path"):
                raise UsageError(f"--per {spec.per}: not among the scores; score with --per {spec.per} first")
            manifest = self._drawn(scored, recipe, spec, writing, engine)
            if steps:
                manifest["steps"] = dict(steps)
            self.folder.commit(manifest)
            return _result(self.folder, manifest, self.seconds)

    # ---- scan

    def _scan(
        self, job: _ScoringSpec, model: Scorer | Fusion, engine: LocalEngine
    ) -> tuple[Corpus, dict[str, Corpus], tuple[str, ...]]:
        engine.begin(lambda: NgramFeatures().stream(["ready"]))  # kernels load while files are hashed
        with self._timed("scan"):
            refuse_inputs_below(self.folder.path, job.raw)
            corpus = scan(
                job.raw,
                text_column=job.text_column,
                id_column=job.id_column,
                on_bad_row=job.on_bad_row,
                over=engine.map,
            )
            targets = {
                name: scan(paths, text_column=job.target_text_column or job.text_column, over=engine.map)
                for name, paths in job.target.items()
            }
            there = columns_of(corpus)
        if job.domains is not None:
            self.domains = Domains.load(job.domains)
            if CLUSTER in there:
                raise UsageError(
                    f"--domains: raw has a column {CLUSTER!r} already; rename it, or go by it without --domains"
                )
            there = [*there, CLUSTER]
        group = model.group if isinstance(model, Fusion) else None
        own = CLUSTER if self.domains else None
        carry = [c for c in ("source", job.per, group) if c in there and c not in (None, own)]
        vectors = vector_column(model)
        for column, use in ((job.per, "draw by"), (group, "group by"), (vectors, "take vectors of")):
            if column == CLUSTER and CLUSTER not in there:
                raise UsageError(
                    f"--per {CLUSTER}: raw has no such column; find its domains with curate domains RAW --out DOMAINS, "
                    "and pass --domains DOMAINS"
                )
            if column and column != "path" and column not in there:
                raise unknown(f"column to {use}", column, [*there, "path"])
        scores_of_each = model.member_columns if isinstance(model, Fusion) else []
        for column in carry:
            if column in RESERVED or column in scores_of_each:
                raise UsageError(f"column {column!r}: that name is taken in the score table; rename it")
        return corpus, targets, tuple(dict.fromkeys([*carry, own] if own else carry))

    # ---- fit and score

    def _scored(
        self,
        job: _ScoringSpec,
        corpus: Corpus,
        targets: dict[str, Corpus],
        model: Scorer | Fusion,
        carry: tuple[str, ...],
        key: str,
        engine: LocalEngine,
        spec: DrawSpec | None,
    ) -> _Scored:
        commit = self.folder.scored
        if commit is None or commit["key"] != key:
            commit = self._fit_and_score(job, corpus, targets, model, carry, key, engine, spec)
        fitted = load_scorer(self.folder.scorer)
        parts = tuple(self.folder.scores / f"part-{p.index:05d}.parquet" for p in corpus.partitions)
        table = ScoreTable(parts, tuple(fitted.columns), carry, tuple(fitted.target_proportions_))
        return _Scored(corpus, targets, fitted, table, commit)

    def _fit_and_score(
        self,
        job: _ScoringSpec,
        corpus: Corpus,
        targets: dict[str, Corpus],
        model: Scorer | Fusion,
        carry: tuple[str, ...],
        key: str,
        engine: LocalEngine,
        spec: DrawSpec | None,
    ) -> dict[str, Any]:
        read = carry[:-1] if self.domains else carry
        reading = Reading(corpus, read, self.resources.batch_bytes(engine), engine, vector_column(model), self.domains)
        spills = isinstance(model, Dsir) and self.domains is None and self._spills(corpus, model)
        fit = fit_job(model.members, reading, self.folder.work / "fit", spills)
        with self._timed("fit"):
            found = self._each("fit", partial(fit_partition, fit), corpus.partitions, engine)
            about = {
                name: fit_model(fit, name, member, targets, found, job.holdout)
                for name, member in model.members.items()
            }
            model.save(self.folder.scorer)
        n_documents = sum(part["n_documents"] for part in found)
        with self._timed("score"):
            self._score(model, fit, spec, n_documents, key)
            n_bad = write_quarantine(self.folder.path / "quarantine.parquet", found)
        commit = {
            "key": key,
            "spec": _spec_dict(job, model),
            "corpus": corpus.as_dict(),
            "carry": list(carry),
            "fit": {"n_documents": n_documents} | (about if isinstance(model, Fusion) else about[model.method]),
            "n_bad_rows": n_bad,
        }
        write_json(self.folder.path / SCORES_COMMIT, commit)
        for folder in (fit.folder, self._before_fusion):
            shutil.rmtree(folder, ignore_errors=True)
        return commit

    def _score(self, model: Scorer | Fusion, fit: FitJob, spec: DrawSpec | None, n_documents: int, key: str) -> None:
        """Write the score table; rows that the draw will probably keep are set aside, when that can be guessed."""
        reading, partitions = fit.reading, fit.reading.corpus.partitions
        counts = fit.wanted.get(model.method)
        spilled = counts if isinstance(counts, NgramCounts) and counts.spill else None
        fused = isinstance(model, Fusion)  # once all documents have the scores of each scorer
        simple = (
            spec is not None
            and spec.draw in DRAWS
            and spec.weights.is_plain
            and spec.per is None
            and not (model.separate_targets or spilled or fused)
        )
        job = ScoreJob(
            reading,
            model,
            model.member_columns if isinstance(model, Fusion) else model.columns,
            self._before_fusion if fused else self.folder.scores,
            key,
            spilled,
            Guess(spec, n_documents) if simple and spec is not None and spec.draw in DRAWS else None,
            self.folder.work / "early",
        )
        self._each("score", partial(score_partition, job), partitions, reading.engine)
        if isinstance(model, Fusion):
            with self.progress.stage("fuse", len(partitions), in_bytes=False) as stage:
                fuse_scores(
                    FuseJob(
                        model,
                        [job.path(partition) for partition in partitions],
                        [self.folder.scores / job.path(partition).name for partition in partitions],
                        reading.travelling,
                        key,
                        self.folder.work / "fusion",
                        self.resources.memory_limit - BASE_BYTES,
                        reading.engine.workers,
                    ),
                    stage.advance,
                )

    def _spills(self, corpus: Corpus, model: Dsir) -> bool:
        """Whether buckets are kept on disk between fit and score, instead of reading the text twice.

        Worth it when the fit looks at most of the corpus anyway; a second reading costs less than the disk
        when it looks at a sample.
        """
        if self.resources.spill is not None:
            return self.resources.spill
        decided = self.folder.work / "spill.json"  # a run that goes on must not decide otherwise
        before = read_json(decided)
        if before is None:
            text = sum(p.n_bytes * (4 if corpus.source(p).compression else 1) for p in corpus.partitions)
            size = estimated_spill(text, model.features)
            n_ngrams = size / model.features.bucket_bytes
            free = shutil.disk_usage(self.folder.path).free
            before = {"spill": model.raw_sample.quota > 0.5 * n_ngrams and size < free // 2}
            write_json(decided, before)
        return bool(before["spill"])

    # ---- draw and write

    def _drawn(
        self, scored: _Scored, recipe: dict[str, Any], spec: DrawSpec, writing: WriteSpec, engine: LocalEngine
    ) -> dict[str, Any]:
        folder, corpus = self.folder, scored.corpus
        with self._timed("draw"):
            found = statistics(scored.table, engine, spec.per)
            draw_key = digest([recipe["draw"], scored.commit["key"]])
            decision = decide(
                DecideJob(
                    scored.table,
                    spec,
                    found,
                    engine,
                    corpus,
                    scored.model,
                    scored.targets,
                    recipe.get("holdout"),
                    draw_key,
                    folder.work / "draw",
                    self.resources.batch_bytes(engine),
                    self.resources.memory_limit - BASE_BYTES,
                )
            )
            top = (
                decision
                if spec.draw in ("topk", "threshold")
                else draw_table(scored.table, replace(spec, draw="topk", weights=PLAIN), found, engine)
            )
        keep = KeepJob(
            corpus,
            decision,
            folder.work / "keep",
            draw_key,
            self.resources.batch_bytes(engine),
            scored.commit["key"],
            folder.work / "early",
        )
        with self._timed("keep"):
            kept = self._each("keep", partial(keep_partition, keep), corpus.partitions, engine)
            n_selected = sum(k["n_documents"] for k in kept)
            if not n_selected:
                raise InputError(f"nothing selected: no document fits the budget ({spec.budget}) or the threshold")
        scale = 1.0 / total_weight(keep, kept)
        separate = scored.model.separate_targets
        with self._timed("write"):
            job = WriteJob(
                keep,
                writing,
                kept,
                output_schema(keep, kept, separate),
                scale,
                folder.shards,
                folder.work / "written",
                tuple(scored.model.target_names_) if separate else (),
            )
            shards = plan_shards(keep, kept, writing.shard_bytes)
            ledger = folder.path / "ledger.parquet"
            tasks: list[Any] = [None, *shards]
            with self.progress.stage("write", len(tasks), in_bytes=False) as stage:
                entries: list[dict[str, Any]] = []
                for _task, entry in engine.each(partial(_write, job, decision, ledger, scale), tasks):
                    stage.advance(1)
                    if entry is not None:
                        entries.append(entry)
            entries.sort(key=lambda e: e["path"])
            lengths, overlap = kept_lengths(decision, top, engine)
        found_warnings, diagnostics = _diagnose(scored, found, spec, kept, lengths, overlap, engine)
        found_warnings += decision.notes
        nats = spent(
            found.n_eligible,
            n_selected,
            found.lengths,
            lengths,
            scored.model.features.n,
            draw=decision.summary,
            top_k=spec.draw == "topk" and spec.per is None and not separate,
        )
        manifest = _manifest(scored, recipe, found, kept, entries, diagnostics, nats, found_warnings)
        if self.domains:
            manifest["domains"] = self.domains.identity()
        from curate.report.card import croissant_json, dataset_card

        for path, text in (
            ("README.md", dataset_card(manifest)),
            ("croissant.json", croissant_json(manifest, job.schema)),
        ):
            with atomic(folder.path / path) as part:
                part.write_text(text, encoding="utf-8")
        return manifest

    # ---- helpers

    def _each(self, name: str, work: Any, partitions: Sequence[Partition], engine: LocalEngine) -> list[Any]:
        """Results of a step over all partitions, in their order, with a bar in bytes."""
        done: dict[int, Any] = {}
        with self.progress.stage(name, sum(p.n_bytes for p in partitions)) as stage:
            for partition, result in engine.each(work, partitions):
                done[partition.index] = result
                stage.advance(partition.n_bytes)
        return [done[p.index] for p in partitions]

    def _timed(self, name: str) -> _Timer:
        return _Timer(self.seconds, name)


class _Timer:
    """Adds the seconds of a block to a dictionary."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._seconds[self._name] = round(self._seconds.get(self._name, 0) + time.perf_counter() - self._start, 3)
        give_back_memory()


def _write(job: WriteJob, decision: Decision, ledger: Path, scale: float, task: Any) -> dict[str, Any] | None:
    """One of the files of the write step: a shard, or the ledger."""
    if task is not None:
        return write_shard(job, task)
    write_ledger(ledger, decision, scale)
    return None


def vector_column(model: Scorer | Fusion) -> str | None:
    """The column of raw that scorers look at beside the text.

    Raises
    ------
    UsageError : two of them look at different ones.
    """
    columns = sorted({column for member in model.members.values() if (column := member.vector_column)})
    if len(columns) > 1:
        raise UsageError(f"scorers go by different columns ({', '.join(columns)}): fuse such as have the same")
    return columns[0] if columns else None


def estimated_spill(text: int, features: NgramFeatures) -> int:
    """Bytes that the buckets of so many bytes of text take on disk: real text has a token every five bytes."""
    return int(text * 0.22 * features.n * features.bucket_bytes)


def _spec_dict(job: _ScoringSpec, model: Scorer | Fusion) -> dict[str, Any]:
    spec = asdict(job) | {"settings": model.settings()}
    for since in ("holdout", "domains"):
        if spec[since] is None:
            del spec[since]  # recipes from before there was such a thing are the same still
    return spec


def _recipe(job: _ScoringSpec, model: Scorer | Fusion, spec: DrawSpec, writing: WriteSpec, name: str) -> dict[str, Any]:
    """Everything that a run's result depends on, but for the files themselves."""
    drawing = {
        "budget": None if spec.budget is None else {"amount": spec.budget.amount, "unit": spec.budget.unit},
        "draw": spec.draw,
        "seed": spec.seed,
        "threshold": spec.threshold,
        "per": spec.per,
        "proportions": None if spec.proportions is None else dict(spec.proportions),
    }
    if not spec.weights.is_plain:  # recipes from before there was such a thing are the same still
        drawing["weights"] = spec.weights.as_dict()
    scoring = _spec_dict(job, model)
    scoring.pop("per")
    return scoring | {"name": name, "draw": drawing, "write": asdict(writing)}


def _scoring_key(
    job: _ScoringSpec,
    corpus: Corpus,
    targets: Mapping[str, Corpus],
    model: Scorer | Fusion,
    carry: Sequence[str],
    domains: Domains | None,
) -> str:
    """The name of a score table: all that its bytes depend on."""
    since: dict[str, Any] = {} if job.holdout is None else {"holdout": job.holdout}
    if domains is not None:
        since["domains"] = domains.identity()
    return digest(
        {
            "format": FORMAT,
            "partition_bytes": PARTITION_BYTES,
            "raw": [corpus.identity(p) for p in corpus.partitions],
            "target": {n: [[f.source.name, f.sha256] for f in c.files] for n, c in targets.items()},
            "target_text_column": job.target_text_column or job.text_column,
            "method": job.method,
            "settings": model.identity(),
            "carry": list(carry),
        }
        | since
    )


def _adopt_scores(source: RunFolder, folder: RunFolder, key: str) -> None:
    """Take over the score table of another run: by hard links where the file system has them."""
    if source.path.resolve() == folder.path.resolve() or (folder.scored or {}).get("key") == key:
        return
    scored = source.scored
    if scored is None or scored["key"] != key:
        why = "has no scores" if scored is None else "was scored with other files, target or settings"
        raise RunError(f"{source.path}: {why}; leave out --scores-from, or make them the same")
    fitted = (path for path in source.scorer.rglob("*") if path.is_file())
    for path in sorted([*source.scores.glob("part-*.parquet"), *fitted]):
        _link(path, folder.path / path.relative_to(source.path))
    if (source.path / "quarantine.parquet").exists():
        _link(source.path / "quarantine.parquet", folder.path / "quarantine.parquet")
    write_json(folder.path / SCORES_COMMIT, scored)


def _link(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    try:
        os.link(source, to)
    except OSError:
        with atomic(to) as part:
            shutil.copyfile(source, part)


def _diagnose(
    scored: _Scored,
    found: Statistics,
    spec: DrawSpec,
    kept: Sequence[dict[str, Any]],
    lengths: LengthHistogram,
    overlap: float,
    engine: LocalEngine,
) -> tuple[list[str], list[dict[str, Any]]]:
    sources: dict[str, dict[str, int]] = {}
    for part in kept:
        for value, sizes in part["sources"].items():
            add_sizes(sources, value, sizes)
    texts: list[str] = []
    all_of_it: list[dict[str, Any]] = []
    model = scored.model
    weighs = model.log_weights and spec.weights.is_plain
    for i, moments in enumerate(found.moments):
        one = Diagnostics(
            target=model.target_names_[i] if model.separate_targets else "",
            n_documents=found.n_documents,
            n_eligible=moments.n,
            n_selected=sum(part["n_documents"] for part in kept),
            draw=spec.draw,
            score_mean=moments.mean,
            score_std=moments.std,
            score_min=moments.minimum,
            score_max=moments.maximum,
            effective_sample_size=moments.effective_sample_size if weighs else None,
            length_correlation=moments.length_correlation,
            top_k_overlap=overlap,
            length_raw=found.lengths.quantiles(),
            length_selected=lengths.quantiles(),
            sources_raw=shares(found.sources),
            sources_selected=shares(sources),
            normalize=model.normalize if isinstance(model, Dsir) else None,
            adequacy=model.adequacy_[i] if isinstance(model, Dsir) else None,
        )
        texts += warnings(one)
        all_of_it.append(one.as_dict())
    return texts + _data_warnings(scored, found, spec, kept, engine), all_of_it


def _data_warnings(
    scored: _Scored, found: Statistics, spec: DrawSpec, kept: Sequence[dict[str, Any]], engine: LocalEngine
) -> list[str]:
    texts = []
    for name, member in scored.model.members.items():
        used, given = member.target_use_ or (0, 0)
        if used < given:
            texts.append(
                f"{name} looked at {used:,} of the target's {given:,} bytes, whole texts by a hash of what they say; "
                f"{LARGER_TARGET.get(name, 'others take all of it')}"
            )
    short = found.n_documents - found.n_eligible
    if short > found.n_documents // 2:
        why = ", ".join(f"{n:,} {reason}" for reason, n in sorted(found.reasons.items()))
        texts.append(f"{short:,} of {found.n_documents:,} documents have no score ({why}); see --set min_tokens")
    twice = duplicate_ids(scored.table, engine)
    if twice:
        texts.append(
            f"{twice:,} documents share their id with another one, and with it their part of the chance: "
            "pass --id-column, or one that the corpus does not have to number them"
        )
    if scored.commit["n_bad_rows"]:
        texts.append(f"{scored.commit['n_bad_rows']:,} rows could not be read; they are in quarantine.parquet")
    if scored.corpus.passed_over:
        names = ", ".join(os.path.basename(p) for p in scored.corpus.passed_over[:3])
        texts.append(
            f"{len(scored.corpus.passed_over):,} files were passed over, their names end in nothing known ({names})"
        )
    if spec.budget is not None and not spec.proportions:
        n = sum(k["n_documents"] for k in kept)
        if n == found.n_eligible and spec.draw != "threshold" and spec.budget.unit != "percent":
            texts.append(
                f"the budget ({spec.budget}) is more than there is: all {n:,} documents with a score were kept"
            )
            return texts
    return texts + _much_less(found, spec, kept)


def _much_less(found: Statistics, spec: DrawSpec, kept: Sequence[dict[str, Any]]) -> list[str]:
    """Say so when much of the budget could not be spent."""
    if spec.budget is None or spec.draw == "threshold":
        return []
    unit = spec.budget.size_column or "n_documents"
    asked, got = spec.budget.total(found.n_documents), sum(part[unit] for part in kept)
    if got >= FEW_OF_BUDGET * asked:
        return []
    why = "groups that have less than their part" if spec.per else "documents that have no weight or no score"
    return [f"only {got:,} of {asked:,} {unit.removeprefix('n_')} of the budget were selected: there are {why}"]


def _manifest(
    scored: _Scored,
    recipe: dict[str, Any],
    found: Statistics,
    kept: Sequence[dict[str, Any]],
    shards: list[dict[str, Any]],
    diagnostics: list[dict[str, Any]],
    nats: Spent,
    texts: list[str],
) -> dict[str, Any]:
    tokenizer = scored.model.features.tokenizer
    rows = _rows_by_file(scored)
    stats = {
        "n_documents": found.n_documents,
        "n_eligible": found.n_eligible,
        "n_selected": sum(k["n_documents"] for k in kept),
        "n_bytes": found.n_bytes,
        "n_bytes_selected": sum(k["n_bytes"] for k in kept),
        "n_tokens": found.n_tokens,
        "n_tokens_selected": sum(k["n_tokens"] for k in kept),
        "n_bad_rows": scored.commit["n_bad_rows"],
        "reasons": dict(sorted(found.reasons.items())),
        "fit": scored.commit["fit"],
        "diagnostics": diagnostics,
        "spent": nats.as_dict(),
        "warnings": texts,
    }
    return {
        "version": 1,
        "uuid": str(uuid4()),
        "name": recipe["name"],
        "creation_date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool_version": __version__,
        "command": reproduction_command(recipe),
        "recipe": recipe,
        "recipe_sha256": digest(recipe),
        "seed": recipe["draw"]["seed"],
        "inputs": [
            {"path": f.source.path, "name": f.source.name, "bytes": f.bytes, "sha256": f.sha256, "rows": rows[i]}
            for i, f in enumerate(scored.corpus.files)
        ],
        "targets": [
            {"name": name, "path": f.source.path, "bytes": f.bytes, "sha256": f.sha256}
            for name, corpus in scored.targets.items()
            for f in corpus.files
        ],
        "tokenizer": f"SentencePiece {file_sha256(tokenizer)[:16]}" if tokenizer else "word-punctuation",
        "shards": shards,
        "stats": stats,
        "parents": _parents(scored),
    }


def _rows_by_file(scored: _Scored) -> list[int]:
    from curate.io.tables import count_rows

    rows = [0] * len(scored.corpus.files)
    for partition, part in zip(scored.corpus.partitions, scored.table.parts, strict=True):
        rows[partition.file] += count_rows(part)
    return rows


def _parents(scored: _Scored) -> list[dict[str, str]]:
    """Manifests beside or above the inputs: of runs whose shards these are."""
    parents: dict[str, dict[str, str]] = {}
    for file in scored.corpus.files:
        if "://" in file.source.path:
            continue
        folder = Path(file.source.path).parent.parent
        if (folder / "manifest.json").is_file():
            above = read_json(folder / "manifest.json")
            if isinstance(above, dict) and "uuid" in above and "recipe_sha256" in above:
                parents[above["uuid"]] = {"uuid": above["uuid"], "recipe_sha256": above["recipe_sha256"]}
    return [parents[key] for key in sorted(parents)]


def reproduction_command(recipe: Mapping[str, Any]) -> str:
    """The command line of a recipe, in its shortest form, ready for a shell."""
    words = ["curate", "select", *recipe["raw"]]
    for name, paths in recipe["target"].items():
        for path in paths:
            words += ["--target", f"{name}={path}"]
    drawing, writing = recipe["draw"], recipe["write"]
    if drawing["budget"]:
        words += ["--budget", _budget_word(drawing["budget"])]
    compat = {"compat": True} if recipe["settings"].get("compat") else {}
    defaults = scorer(recipe["method"], **compat).settings()
    suited = scorer(recipe["method"]).default_draw
    for option, value, default in (
        ("--method", recipe["method"], "dsir"),
        ("--draw", drawing["draw"], suited),
        ("--seed", drawing["seed"], 0),
        ("--threshold", drawing["threshold"], None),
        ("--per", drawing["per"], None),
        ("--text-column", recipe["text_column"], "text"),
        ("--id-column", recipe["id_column"], "id"),
        ("--target-text-column", recipe["target_text_column"], None),
        ("--holdout", recipe.get("holdout"), None),
        ("--domains", recipe.get("domains"), None),
        ("--on-bad-row", recipe["on_bad_row"], "raise"),
        ("--format", writing["format"], "parquet"),
        ("--shard-size", writing["shard_bytes"], 128_000_000),
        ("--name", recipe["name"], None),
    ):
        if value != default:
            words += [option, str(value)]
    for key, value in drawing.get("weights", {}).items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    for key, value in (drawing["proportions"] or {}).items():
        words += ["--proportion", f"{key}={value}"]
    if compat:
        words += ["--set", "compat=true"]
    for key, value in recipe["settings"].items():
        if value != defaults[key]:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += ["--tokenizer", text] if key == "tokenizer" else ["--set", f"{key}={text}"]
    return shlex.join([*words, "--out", "OUT"])


def _budget_word(budget: Mapping[str, Any]) -> str:
    amount = f"{budget['amount']:.15g}"
    return {"percent": f"{amount}%", "bytes": f"{amount}B", "tokens": f"{amount}-tokens"}.get(budget["unit"], amount)


def _result(folder: RunFolder, manifest: Mapping[str, Any], seconds: Mapping[str, float]) -> Selection:
    stats = manifest["stats"]
    return Selection(
        folder.path,
        stats["n_documents"],
        stats["n_selected"],
        stats["n_bytes_selected"],
        stats["n_tokens_selected"],
        tuple(folder.path / s["path"] for s in manifest["shards"]),
        tuple(stats["diagnostics"]),
        tuple(stats["warnings"]),
        manifest,
        dict(seconds),
    )
