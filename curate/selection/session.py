"""One call of select, score or draw: a folder, an engine, and the five verbs on them, which can be gone on with.

What a verb leaves in the folder is all that the next one needs, so that processes can share a run (`curate.stages`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.engines import Engine
from curate.engines.allocator import BASE_BYTES, give_back_memory, save_memory
from curate.engines.base import Alone
from curate.engines.resources import Resources
from curate.errors import InputError, RunError, UsageError, unknown
from curate.features import NgramFeatures
from curate.features.domains import CLUSTER, Domains
from curate.io.columns import columns_of
from curate.io.corpus import Corpus, InputFile, Partition, inspect_all, scan
from curate.io.paths import Source, atomic, free_disk, refuse_inputs_below, remove_tree
from curate.io.run import FITTED, LEDGER, SCORES_COMMIT, RunFolder, digest, read_json, write_json
from curate.io.tables import is_done
from curate.logs import event
from curate.metrics.spending import spent
from curate.progress import Progress
from curate.sampling.draws import DRAWS
from curate.sampling.transforms import PLAIN
from curate.scorers import Dsir, Fusion, Scorer, load_scorer, scorer
from curate.selection.asked import Asked, ScoringSpec, check_calibration, check_draw, vector_column
from curate.selection.cleaning import MAX_REMOVED, Cleaning, MaxRemoved
from curate.selection.manifest import manifest_of
from curate.selection.notes import diagnose
from curate.selection.scored import Scored, grown_key, scoring_key
from curate.steps.count import NgramCounts
from curate.steps.decide import DecideJob, decide
from curate.steps.decision import Decision, DrawSpec
from curate.steps.documents import RESERVED
from curate.steps.draw import draw_table
from curate.steps.early import Guess
from curate.steps.fit import FitJob, Reading, fit_job, fit_model, fit_partition, write_quarantine
from curate.steps.fuse import FuseJob, fuse_scores
from curate.steps.keep import KeepJob, keep_partition, kept_lengths, number_partition, total_weight
from curate.steps.ledger import write_ledger
from curate.steps.score import Saved, ScoreJob, score_partition
from curate.steps.scoretable import Parts, ScoreTable, Statistics, generations_of, statistics
from curate.steps.write import Shard, WriteJob, WriteSpec, output_schema, plan_shards, shard_number, write_shard

LITTLE_MEMORY = 1_500_000_000  # below it memory is saved at the cost of some speed
SCAN = "scan.json"  # in the work folder: what the first verb leaves


@dataclass(frozen=True)
class Scanned:
    """What is to be scored: the files and what is read of them. ``key`` names the scores that it gives."""

    job: ScoringSpec
    corpus: Corpus
    targets: dict[str, Corpus]
    carry: tuple[str, ...]
    domains: Domains | None
    key: str
    generations: tuple[int, ...] = ()  # files at first and in each update, of a run that was updated


@dataclass(frozen=True)
class Drawn:
    """What is kept: the decision, and the kept rows of each partition, fetched."""

    scored: Scored
    spec: DrawSpec
    found: Statistics
    decision: Decision
    top: Decision  # what the best scores would have been
    keep: KeepJob
    kept: list[dict[str, Any]]


class Session:
    """The five verbs on a folder. The folder is locked by whoever calls them, and begun by whoever scans."""

    def __init__(
        self,
        folder: RunFolder,
        resources: Resources,
        engine: Engine,
        progress: Progress,
        max_removed: MaxRemoved = MAX_REMOVED,
    ) -> None:
        self.folder, self.resources, self.engine, self.progress = folder, resources, engine, progress
        self.max_removed = max_removed
        self.cleaning = Cleaning(folder, resources, engine, progress, self._each)  # of raw, before anything is fitted
        if resources.memory_limit < LITTLE_MEMORY:
            save_memory()
        self.seconds: dict[str, float] = {}

    # ---- scan

    def scan(self, job: ScoringSpec, model: Scorer | Fusion, updated: Mapping[str, Any] | None = None) -> Scanned:
        """Find, hash and cut the files, and see what columns there are.

        ``updated``: what is noted of the scores of a run that was updated, whose files have their order from that.
        """
        self.engine.here.begin(lambda: NgramFeatures().stream(["ready"]))  # kernels load while files are hashed
        with self._timed("scan"):
            refuse_inputs_below(self.folder.path, job.raw)
            corpus = scan(
                job.raw,
                text_column=job.text_column,
                id_column=job.id_column,
                on_bad_row=job.on_bad_row,
                over=self.engine.map,
            )
            targets = self._targets(job)
            there = columns_of(corpus)
            corpus = self.cleaning.named(job, corpus, there)
        if updated is not None:
            order = {file["source"]["name"]: i for i, file in enumerate(updated["corpus"]["files"])}
            corpus = corpus.with_files(sorted(corpus.files, key=lambda f: order.get(f.source.name, len(order))))
            came = len(corpus.files) - len(order)
            generations = [*generations_of(updated), *([came] if came else [])]
            return self._grown(job, corpus, targets, tuple(updated["carry"]), generations)
        domains = None if job.domains is None else Domains.load(job.domains)
        carry = _carried(job, model, there, domains)
        return Scanned(job, corpus, targets, carry, domains, scoring_key(job, corpus, targets, model, carry, domains))

    def scan_new(
        self, job: ScoringSpec, commit: Mapping[str, Any], known: Sequence[InputFile], new: Sequence[Source]
    ) -> Scanned:
        """Hash and cut files that have come to those that a run has scored; they are behind them.

        ``commit``: what is noted of its scores. ``known``: the files it is of, where they are now.

        Raises
        ------
        RunError : what the scores depend on is not what it was.
        """
        with self._timed("scan"):
            came = inspect_all(new, job.text_column, self.engine.map)
            corpus = Corpus.from_dict(commit["corpus"], self.folder.path).with_files(known)
            corpus = self.cleaning.named(job, corpus, columns_of(corpus)) if corpus.cleaned else corpus
            targets = self._targets(job)
        carry, generations = tuple(commit["carry"]), generations_of(commit)
        if self._grown(job, corpus, targets, carry, generations).key != commit["key"]:
            raise RunError(
                f"{self.folder.path}: the target, the tokenizer or another file that its scores depend on is not what "
                "it was: put that back, or select anew with --overwrite"
            )
        if came:
            corpus, generations = corpus.with_files([*known, *came]), [*generations, len(came)]
        return self._grown(job, corpus, targets, carry, generations)

    def _targets(self, job: ScoringSpec) -> dict[str, Corpus]:
        return {
            name: scan(paths, text_column=job.target_text_column or job.text_column, over=self.engine.map)
            for name, paths in job.target.items()
        }

    def _grown(
        self,
        job: ScoringSpec,
        corpus: Corpus,
        targets: dict[str, Corpus],
        carry: tuple[str, ...],
        generations: Sequence[int],
    ) -> Scanned:
        domains = None if job.domains is None else Domains.load(job.domains)
        key = grown_key(job, corpus, targets, ready_scorer(job), carry, domains, generations)
        return Scanned(job, corpus, targets, carry, domains, key, tuple(generations))

    def begin(
        self, asked: Asked, model: Scorer | Fusion, *, overwrite: bool, updated: Mapping[str, Any] | None = None
    ) -> tuple[Scanned, dict[str, Any], bool]:
        """Scan, and make the folder ready; returns what there is, the recipe, and whether all of it is done already.

        Raises
        ------
        RunError : another recipe is in the folder, or other files were.
        """
        scanned = self.scan(asked.job, model, updated)
        check_calibration(asked.spec, scanned.carry)
        recipe = asked.recipe(model)
        scores_hold = (self.folder.scored or {}).get("key") == scanned.key
        finished = self.folder.finished(recipe) and scores_hold and not self.folder.updating
        if finished:
            self.folder.clean()
        else:
            self.folder.begin(recipe, scanned.key, overwrite=overwrite)
        return scanned, recipe, finished

    def note_scan(self, scanned: Scanned, recipe: dict[str, Any]) -> None:
        """Leave what was scanned for other processes."""
        found = {
            "recipe": recipe,
            "max_removed": self.max_removed,
            "corpus": scanned.corpus.as_dict(stamped=True) | {"passed_over": scanned.corpus.passed_over},
            "targets": {name: corpus.as_dict(stamped=True) for name, corpus in scanned.targets.items()},
            "carry": scanned.carry,
            "key": scanned.key,
        }
        write_json(self.folder.work / SCAN, found)

    def noted_scan(self, plan: str | None = None) -> tuple[Scanned, dict[str, Any]]:
        """What another process has scanned, and the recipe that it is for.

        Raises
        ------
        RunError : there is none, or it is of another ``plan``.
        """
        found = read_json(self.folder.work / SCAN)
        if found is None:
            raise RunError(f"{self.folder.path}: nothing was scanned there; run the scan first, into this folder")
        if plan is not None and plan != plan_of(found["recipe"], found["key"]):
            raise RunError(
                f"{self.folder.path}: scanned for another selection since (by another recipe, or other files); scan "
                "again, and give each selection a folder of its own"
            )
        job = ScoringSpec.of(found["recipe"])
        self.max_removed = found["max_removed"]
        passed_over = tuple(found["corpus"].pop("passed_over"))
        corpus = replace(Corpus.from_dict(found["corpus"], self.folder.path), passed_over=passed_over)
        targets = {name: Corpus.from_dict(state) for name, state in found["targets"].items()}
        domains = None if job.domains is None else Domains.load(job.domains)
        return Scanned(job, corpus, targets, tuple(found["carry"]), domains, found["key"]), found["recipe"]

    # ---- clean, where that is asked for

    def clean(self, scanned: Scanned) -> None:
        """Find what is to be removed of raw, or put otherwise, unless that is done.

        Raises
        ------
        RemovalError : that is more than it may be.
        """
        if scanned.corpus.cleaned is not None:
            with self._timed("clean"):
                self.cleaning.clean(scanned.job.cleaning, scanned.corpus, self.max_removed)

    # ---- fit

    def fit(self, scanned: Scanned, model: Scorer | Fusion) -> Scorer | Fusion:
        """Fit to the target and to what raw has, and save it, unless that is done; returns it fitted."""
        marker = self.folder.path / FITTED
        done = read_json(marker)
        if done is not None and done["key"] == scanned.key and self.folder.scorer.exists():
            return load_scorer(self.folder.scorer)
        self.clean(scanned)
        whole = scanned.domains is None and scanned.corpus.cleaned is None  # all that there is of a document is known
        spill = isinstance(model, Dsir) and whole and self._spills(scanned.corpus, model)
        fit = self._fit_job(scanned, model, spill=spill)
        with self._timed("fit"):
            found = self._each("fit", partial(fit_partition, fit), scanned.corpus.partitions, fit.alone, fit)
            about = {
                name: fit_model(fit, name, member, scanned.targets, found, self.engine, scanned.job.holdout)
                for name, member in model.members.items()
            }
            model.save(self.folder.scorer)
        n_documents = sum(part["n_documents"] for part in found)
        fitted = {
            "key": scanned.key,
            "fit": {"n_documents": n_documents} | (about if isinstance(model, Fusion) else about[model.method]),
            "n_bad_rows": write_quarantine(self.folder.path / "quarantine.parquet", found),
            "spilled": spill,
        }
        write_json(marker, fitted)
        return model

    def fitted(self, scanned: Scanned) -> dict[str, Any]:
        """What is noted of a fit.

        Raises
        ------
        RunError : it is not done.
        """
        found: dict[str, Any] | None = read_json(self.folder.path / FITTED)
        if found is None or found["key"] != scanned.key:
            raise RunError(f"{self.folder.path}: no scorer is fitted there yet; fit it first")
        return found

    def _fit_job(self, scanned: Scanned, model: Scorer | Fusion, *, spill: bool) -> FitJob:
        return fit_job(model.members, self._reading(scanned, model), self.folder.work / "fit", spill)

    def _spilled(self, scanned: Scanned, model: Scorer | Fusion) -> NgramCounts:
        """The buckets that the fit has kept."""
        counts = self._fit_job(scanned, model, spill=True).wanted[model.method]
        assert isinstance(counts, NgramCounts)
        return counts

    def _reading(self, scanned: Scanned, model: Scorer | Fusion) -> Reading:
        read = scanned.carry[:-1] if scanned.domains else scanned.carry
        inside = self.engine.inside
        batch_bytes = self.resources.batch_bytes(inside)
        return Reading(scanned.corpus, read, batch_bytes, inside, vector_column(model), scanned.domains)

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
            free = free_disk(self.folder.path)
            most = model.raw_sample.quota > 0.5 * n_ngrams
            before = {"spill": most and size < free // 2 and self.engine.shares_memory}
            write_json(decided, before)
        return bool(before["spill"])

    # ---- score

    def score(
        self, scanned: Scanned, model: Scorer | Fusion, spec: DrawSpec | None, partitions: Sequence[Partition]
    ) -> None:
        """Write the score table of some partitions.

        Rows that the draw will probably keep are set aside, when that can be guessed: where all are scored here.
        """
        reading, fitted = self._reading(scanned, model), self.fitted(scanned)
        spilled = self._spilled(scanned, model) if fitted["spilled"] else None
        fused = isinstance(model, Fusion)  # once all documents have the scores of each scorer
        guess = None
        if (
            spec is not None
            and spec.draw in DRAWS
            and spec.weights.is_plain
            and spec.per is None
            and self.engine.shares_memory
            and not (model.separate_targets or spilled or fused)
        ):
            guess = Guess(spec, fitted["fit"]["n_documents"])
        job = ScoreJob(
            reading,
            model,
            model.member_columns if isinstance(model, Fusion) else model.columns,
            self._apart if fused else self.folder.scores,
            scanned.key,
            spilled,
            guess,
            self._early,
        )
        alone = partial(job.alone, Saved.of(model, self.folder.scorer, scanned.key))
        with self._timed("score"):
            self._each("score", partial(score_partition, job), partitions, alone)

    def score_new(self, scanned: Scanned, model: Scorer | Fusion, since: int) -> ScoreTable:
        """Score the partitions from number ``since`` on; returns the table of all.

        What is new in it stands apart from the run that is there, which is left as it is. With several scorers all is:
        they are fused anew.
        """
        partitions = scanned.corpus.partitions
        fused = isinstance(model, Fusion)
        job = ScoreJob(
            self._reading(scanned, model),
            model,
            model.member_columns if isinstance(model, Fusion) else model.columns,
            self._apart,
            scanned.key,
            None,
            None,
            self._early,
            self.bad,
        )
        alone = partial(job.alone, Saved.of(model, self.folder.scorer, scanned.key))
        parts = Parts(self.folder.scores, len(partitions), self._apart, since)
        with self._timed("score"):
            self._each("score", partial(score_partition, job), partitions[since:], alone)
            if isinstance(model, Fusion):
                fresh = Parts(self.folder.work / "fused", len(partitions))
                self._fuse(scanned, model, parts, fresh)
        return self._table(scanned, model, fresh if fused else parts)

    @property
    def bad(self) -> Path:
        """Where bad rows are listed that no fit has read."""
        return self.folder.work / "bad"

    def commit_scores(self, scanned: Scanned, model: Scorer | Fusion) -> dict[str, Any]:
        """Declare the score table complete, fused where several scorers are; returns what is noted of it."""
        fitted = self.fitted(scanned)
        if isinstance(model, Fusion):
            n = len(scanned.corpus.partitions)
            with self._timed("fuse"):
                self._fuse(scanned, model, Parts(self._apart, n), Parts(self.folder.scores, n))
        cleaning = None if scanned.corpus.cleaned is None else self.cleaning.noted()
        commit = self.noted(scanned, model, fitted["fit"], fitted["n_bad_rows"], cleaning)
        write_json(self.folder.path / SCORES_COMMIT, commit)
        for done in (self.folder.work / "fit", self._apart):
            remove_tree(done, ignore_errors=True)
        return commit

    def noted(
        self,
        scanned: Scanned,
        model: Scorer | Fusion,
        fit: Mapping[str, Any],
        n_bad_rows: int,
        cleaning: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """What is noted of a score table that is complete.

        ``fit``: to what its scorer was fitted. ``cleaning``: what was found to remove.
        """
        commit = {
            "key": scanned.key,
            "spec": scanned.job.as_dict(model),
            "corpus": scanned.corpus.as_dict(),
            "carry": list(scanned.carry),
            "fit": fit,
            "n_bad_rows": n_bad_rows,
        }
        if cleaning is not None:
            commit["cleaning"] = cleaning
        return commit | ({"generations": list(scanned.generations)} if scanned.generations else {})

    def _fuse(self, scanned: Scanned, model: Fusion, parts: Parts, out: Parts) -> None:
        with self.progress.stage("fuse", len(parts), in_bytes=False) as stage:
            fuse_scores(
                FuseJob(
                    model,
                    parts,
                    out,
                    scanned.carry,
                    scanned.key,
                    self.folder.work / "fusion",
                    self.resources.memory_limit - BASE_BYTES,
                    self.engine.here.workers,
                ),
                stage.advance,
            )

    def scored(self, scanned: Scanned, model: Scorer | Fusion, spec: DrawSpec | None) -> Scored:
        """The score table, made where it is not there yet."""
        commit = self.folder.scored
        if commit is None or commit["key"] != scanned.key:
            fitted = self.fit(scanned, model)
            self.score(scanned, fitted, spec, scanned.corpus.partitions)
            commit = self.commit_scores(scanned, model)
        return self.committed(scanned, commit)

    def scored_by_others(self, scanned: Scanned) -> Scored:
        """The score table that other processes made, declared complete.

        Raises
        ------
        RunError : partitions are missing.
        """
        commit = self.folder.scored
        if commit is None or commit["key"] != scanned.key:
            model = load_scorer(self.folder.scorer)
            if missing := self._without_scores(scanned, model):
                raise RunError(
                    f"{self.folder.path}: {len(missing):,} of {len(scanned.corpus.partitions):,} partitions have no "
                    f"scores yet (the first is number {missing[0]}); score them first"
                )
            commit = self.commit_scores(scanned, model)
        return self.committed(scanned, commit)

    def _without_scores(self, scanned: Scanned, model: Scorer | Fusion) -> list[int]:
        """Numbers of the partitions that are not scored; after a fusion was begun some have only fused scores left."""
        n, key = len(scanned.corpus.partitions), scanned.key
        places = [Parts(self.folder.scores, n)]
        if isinstance(model, Fusion):
            places.insert(0, Parts(self._apart, n))

        def done(part: int) -> bool:
            return any(is_done(parts[part], key) for parts in places)

        return [part for part, is_there in enumerate(self.engine.ordered(done, range(n))) if not is_there]

    def committed(self, scanned: Scanned, commit: dict[str, Any]) -> Scored:
        """The score table that is there."""
        fitted = load_scorer(self.folder.scorer)
        table = self._table(scanned, fitted, Parts(self.folder.scores, len(scanned.corpus.partitions)))
        return Scored(scanned.corpus, scanned.targets, fitted, table, commit)

    def _table(self, scanned: Scanned, fitted: Scorer | Fusion, parts: Parts) -> ScoreTable:
        one = isinstance(fitted, Fusion) or len(scanned.generations) < 2
        key = scanned.key if one else ""
        return ScoreTable(parts, tuple(fitted.columns), scanned.carry, tuple(fitted.target_proportions_), key)

    @property
    def _apart(self) -> Path:
        """Where score tables wait: those of each scorer, not fused yet, and those of an update, for its turn."""
        return self.folder.work / "scores"

    @property
    def _early(self) -> Path:
        return self.folder.work / "early"

    # ---- draw

    def draw(self, scored: Scored, recipe: dict[str, Any], spec: DrawSpec) -> Drawn:
        """Decide what is kept, and fetch it.

        Raises
        ------
        as `decide`.
        """
        drawn = self.decide(scored, recipe, spec)
        with self._timed("keep"):
            keep = drawn.keep
            kept = self._each("keep", partial(keep_partition, keep), scored.corpus.partitions, keep.alone)
        return replace(drawn, kept=_some(kept, spec))

    def decide(self, scored: Scored, recipe: dict[str, Any], spec: DrawSpec) -> Drawn:
        """Decide what is kept.

        Raises
        ------
        InputError : nothing would be selected. UsageError : the scores have no such column to draw by.
        """
        if spec.per and spec.per not in (*scored.table.carry, "path"):
            raise UsageError(f"--per {spec.per}: not among the scores; score with --per {spec.per} first")
        with self._timed("draw"):
            found = statistics(scored.table, self.engine, spec.per)
            draw_key = digest([recipe["draw"], scored.commit["key"]])
            batch_bytes = self.resources.batch_bytes(self.engine.inside)
            decision = decide(
                DecideJob(
                    scored.table,
                    spec,
                    found,
                    self.engine,
                    scored.corpus,
                    scored.model,
                    scored.targets,
                    recipe.get("holdout"),
                    draw_key,
                    self.folder.work / "draw",
                    batch_bytes,
                    self.resources.memory_limit - BASE_BYTES,
                )
            )
            top = (
                decision
                if spec.draw in ("topk", "threshold")
                else draw_table(scored.table, replace(spec, draw="topk", weights=PLAIN), found, self.engine)
            )
        keep = KeepJob(
            scored.corpus,
            decision,
            self.folder.work / "keep",
            draw_key,
            batch_bytes,
            scored.commit["key"],
            self._early,
        )
        return Drawn(scored, spec, found, decision, top, keep, [])

    def number(self, drawn: Drawn) -> Drawn:
        """See how much is kept of each partition, and which rows; none are fetched."""
        keep, partitions = drawn.keep, drawn.scored.corpus.partitions
        with self._timed("draw"):
            alone = partial(keep.alone, work=number_partition)
            kept = self._each("count", partial(number_partition, keep), partitions, alone)
        return replace(drawn, kept=_some(kept, drawn.spec))

    def fetch(self, drawn: Drawn, partitions: Iterable[int]) -> Drawn:
        """Fetch what is kept of some partitions."""
        keep, kept = drawn.keep, list(drawn.kept)
        wanted = [drawn.scored.corpus.partitions[i] for i in partitions]
        with self._timed("keep"):
            found = self._each("keep", partial(keep_partition, keep), wanted, keep.alone)
        for partition, part in zip(wanted, found, strict=True):
            kept[partition.index] = part
        return replace(drawn, kept=kept)

    # ---- write

    def write(
        self,
        drawn: Drawn,
        recipe: dict[str, Any],
        writing: WriteSpec,
        domains: Domains | None,
        steps: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write shards, ledger, cards and manifest, which commits the run; returns the manifest."""
        with self._timed("write"):
            schema = output_schema(drawn.kept, drawn.scored.model.separate_targets)
            job = self.write_job(drawn, writing, schema, 1.0 / total_weight(drawn.keep, drawn.kept, self.engine))
            shards = plan_shards(drawn.keep, drawn.kept, writing.shard_bytes)
            entries = self.write_files(job, shards, drawn.decision)
            manifest = self.described(drawn, recipe, entries, domains)
        if steps:
            manifest["steps"] = dict(steps)
        self.commit(manifest, schema)
        return manifest

    def write_job(self, drawn: Drawn, writing: WriteSpec, schema: pa.Schema, scale: float) -> WriteJob:
        """What writing needs to know. ``schema``: columns of the shards. ``scale``: of weights."""
        model = drawn.scored.model
        return WriteJob(
            drawn.keep,
            writing,
            dict(enumerate(drawn.kept)),
            schema,
            scale,
            self.folder.shards,
            self.folder.work / "written",
            tuple(model.target_names_) if model.separate_targets else (),
        )

    def described(
        self, drawn: Drawn, recipe: dict[str, Any], entries: list[dict[str, Any]], domains: Domains | None
    ) -> dict[str, Any]:
        """The manifest of what was written, not committed yet. ``entries``: of the shards."""
        scored, kept = drawn.scored, drawn.kept
        lengths, overlap = kept_lengths(drawn.decision, drawn.top, self.engine)
        texts, diagnostics = diagnose(scored, drawn.found, drawn.spec, kept, lengths, overlap, self.engine)
        nats = spent(
            drawn.found.n_eligible,
            sum(k["n_documents"] for k in kept),
            drawn.found.lengths,
            lengths,
            scored.model.features.n,
            draw=drawn.decision.summary,
            top_k=drawn.spec.draw == "topk" and drawn.spec.per is None and not scored.model.separate_targets,
        )
        texts = [*texts, *drawn.decision.notes]
        manifest = manifest_of(scored, recipe, drawn.found, kept, entries, diagnostics, nats, texts)
        if domains:
            manifest["domains"] = domains.identity()
        return manifest

    def commit(self, manifest: dict[str, Any], schema: pa.Schema) -> None:
        """Write the cards and the manifest: from here on it is a run."""
        self._write_cards(manifest, schema)
        self.folder.commit(manifest)

    def write_files(self, job: WriteJob, shards: Sequence[Shard], decision: Decision) -> list[dict[str, Any]]:
        """Some shards, and the ledger beside them; returns the shards' entries in the manifest."""
        with self.progress.stage("write", len(shards) + 1, in_bytes=False) as stage:
            path = self.folder.path / LEDGER
            ledger = self.engine.here.submit(partial(write_ledger, path, decision, job.scale, job.schema))
            entries: list[dict[str, Any]] = []
            try:
                for _shard, entry in self.engine.each(partial(write_shard, job), shards, alone=job.alone):
                    stage.advance(1)
                    entries.append(entry)
            finally:
                wait([ledger])
            ledger.result()
            stage.advance(1)
        return sorted(entries, key=lambda entry: shard_number(entry["path"]))

    def _write_cards(self, manifest: dict[str, Any], schema: pa.Schema) -> None:
        from curate.report.card import croissant_json, dataset_card

        for path, text in (
            ("README.md", dataset_card(manifest)),
            ("croissant.json", croissant_json(manifest, schema)),
        ):
            with atomic(self.folder.path / path) as part:
                part.write_text(text, encoding="utf-8")

    # ---- helpers

    def _each(
        self,
        name: str,
        work: Any,
        partitions: Sequence[Partition],
        alone: Alone,
        noting: FitJob | None = None,
        taking: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """Results of a step over partitions, in their order, with a bar in bytes.

        ``noting`` is told of results that were found elsewhere. ``taking`` takes each as it comes, in any order, and
        none is held then: of a million partitions they would fill the memory.
        """
        done: dict[int, Any] = {}
        with self.progress.stage(name, sum(p.n_bytes for p in partitions)) as stage:
            for partition, result in self.engine.each(work, partitions, alone=alone):
                if taking is not None:
                    taking(result)
                else:
                    done[partition.index] = result
                if noting is not None and not self.engine.shares_memory:
                    noting.note(result)
                stage.advance(partition.n_bytes)
        return [done[p.index] for p in partitions] if taking is None else []

    def _timed(self, name: str) -> _Timer:
        return _Timer(self.seconds, name)


def _some(kept: list[dict[str, Any]], spec: DrawSpec) -> list[dict[str, Any]]:
    """What is kept of each partition.

    Raises
    ------
    InputError : nothing.
    """
    if not any(k["n_documents"] for k in kept):
        raise InputError(f"nothing selected: no document fits the budget ({spec.budget}) or the threshold")
    return kept


def plan_of(recipe: Mapping[str, Any], key: str) -> str:
    """A name for a selection of certain files: stages that are to go on with it know it by that."""
    return digest([recipe, key])[:16]


def _carried(
    job: ScoringSpec, model: Scorer | Fusion, columns: Sequence[str], domains: Domains | None
) -> tuple[str, ...]:
    """The columns that travel with the scores.

    Raises
    ------
    UsageError : raw has none that is asked for, or one whose name is taken.
    """
    there = list(columns)
    if domains is not None:
        if CLUSTER in there:
            raise UsageError(
                f"--domains: raw has a column {CLUSTER!r} already; rename it, or go by it without --domains"
            )
        there = [*there, CLUSTER]
    group = model.group if isinstance(model, Fusion) else None
    own = CLUSTER if domains else None
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
    return tuple(dict.fromkeys([*carry, own] if own else carry))


def estimated_spill(text: int, features: NgramFeatures) -> int:
    """Bytes that the buckets of so many bytes of text take on disk: real text has a token every five bytes."""
    return int(text * 0.22 * features.n * features.bucket_bytes)


def ready_scorer(job: ScoringSpec, spec: DrawSpec | None = None) -> Scorer | Fusion:
    """The scorer that is asked for, not fitted, when all that it needs is installed and the draw has what to go by.

    Raises
    ------
    MissingExtraError : it needs a package that is not there. UsageError : the draw has nothing to go by.
    """
    model = scorer(job.method, **job.settings)
    if spec is not None:
        check_draw(spec, job.target, model)
    for member in model.members.values():
        member.check_installed()
    return model


@contextmanager
def opened_session(
    out: str | os.PathLike[str],
    resources: Resources,
    progress: Progress,
    *,
    shared: bool = False,
    max_removed: MaxRemoved = MAX_REMOVED,
) -> Iterator[Session]:
    """The folder owned, by one, or ``shared`` with those who work on other partitions; the engine running."""
    folder = RunFolder(out)
    with resources.start() as engine, folder.locked(shared=shared, tell=progress.enabled):
        yield Session(folder, resources, engine, progress, max_removed)


class _Timer:
    """Adds the seconds of a block to a dictionary."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        seconds = time.perf_counter() - self._start
        self._seconds[self._name] = round(self._seconds.get(self._name, 0) + seconds, 3)
        if kind is None:
            event("step.end", step=self._name, seconds=round(seconds, 3))
        give_back_memory()
