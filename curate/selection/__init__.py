"""The five verbs in a row: scan, fit, score, draw, write; and what comes out of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from curate.engines.resources import Resources
from curate.errors import RunError, UsageError
from curate.io.run import RunFolder
from curate.io.targets import Paths, Targets
from curate.logs import event
from curate.progress import Progress
from curate.sampling.budget import Budget, parse_bytes
from curate.scorers import scorer
from curate.selection.asked import Asked, ScoringSpec, draw_spec, resources_of
from curate.selection.cleaning import MAX_REMOVED, MaxRemoved, checked_share
from curate.selection.lineage import lineage as telling
from curate.selection.outcome import Scoring, Selection, log_end
from curate.selection.scored import adopt_scores
from curate.selection.session import opened_session, ready_scorer
from curate.steps.clean import Asking, CleanSpec
from curate.steps.scoretable import generations_of, statistics
from curate.steps.write import WriteSpec

__all__ = ["Scoring", "Selection", "clean", "draw", "score", "select"]


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
    filters: Asking = None,
    dedup: Asking = None,
    decontaminate: Asking = None,
    max_removed: MaxRemoved = MAX_REMOVED,
    on_bad_row: str = "raise",
    format: str = "parquet",
    shard_size: str | int = "128MB",
    name: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    spill: bool | None = None,
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    scores_from: str | os.PathLike[str] | None = None,
    steps: Mapping[str, Any] | None = None,
    lineage: bool = False,
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
    filters, dedup, decontaminate : what is cleaned before anything is scored: settings by name, see
        `curate.filters.FilterSpec`, `curate.dedup.DedupSpec` and `curate.decontamination.DecontaminationSpec`; True
        for all as it is by default. Documents that it removes are in the ledger, with the reason.
    max_removed : share of the corpus, and of each of its sources (column ``source``), that these may remove before
        the run is refused; or shares by source, "" for all others.
    on_bad_row : "raise", or "quarantine": rows that cannot be read go to ``quarantine.parquet``.
    format : "parquet" or "jsonl.zst". shard_size : bytes of text in a shard.
    workers : threads here, or tasks on a cluster; None: as many as there are cores. memory_limit : of each process.
    engine : "local", or "ray": a task for each partition, on a cluster that sees the files and ``out``; the bytes that
        come out are the same. engine_options : of `curate.engines.ray.RayEngine`, such as ``address``.
    scores_from : folder of an earlier run over the same files and target, whose scores are used again.
    steps : what a recipe does with the selection afterwards, for the manifest.
    lineage : send OpenLineage events; where to is the client's configuration (OPENLINEAGE_URL).
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
    resources = resources_of(workers, memory_limit, spill, engine, engine_options)
    columns = (text_column, id_column, target_text_column)
    cleaning = CleanSpec.of(filters, dedup, decontaminate)
    job = ScoringSpec.asked(raw, target, method, settings, columns, on_bad_row, per, holdout, domains, cleaning)
    asked = Asked(job, spec, writing, name)
    checked_share(max_removed)
    with telling(lineage, job, name or method, out) as ended:
        done = _select(
            out, resources, Progress(progress), asked, scores_from, overwrite, steps, max_removed=max_removed
        )
        ended(done.manifest)
        return done


def clean(
    raw: Paths,
    *,
    out: str | os.PathLike[str],
    filters: Asking = None,
    dedup: Asking = None,
    decontaminate: Asking = None,
    **options: Any,
) -> Selection:
    """Clean a corpus, and write all that is left of it to ``out``: `select` with every document worth the same.

    Parameters
    ----------
    filters, dedup, decontaminate : what is done, at least one; as of `select`.
    options : of `select`, such as ``max_removed``, ``text_column``, ``format``, ``workers``, ``engine``.

    Returns
    -------
    Selection : ``manifest["stats"]["cleaning"]`` says what was removed, by source and reason.

    Raises
    ------
    RemovalError : that would be more than ``max_removed``. CurateError : as of `select`.
    """
    steps: dict[str, Any] = {"filters": filters, "dedup": dedup, "decontaminate": decontaminate}
    asked = [name for name, asking in steps.items() if asking not in (None, False)]
    if not asked:
        raise UsageError("nothing to clean by: pass filters, dedup or decontaminate")
    name = options.pop("name", None) or "+".join(asked)
    usual: dict[str, Any] = {"method": "all", "budget": None, "draw": "threshold", "threshold": 0.0, "name": name}
    return select(raw, out=out, **usual, **steps, **options)


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
    filters: Asking = None,
    dedup: Asking = None,
    decontaminate: Asking = None,
    max_removed: MaxRemoved = MAX_REMOVED,
    on_bad_row: str = "raise",
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    spill: bool | None = None,
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool | None = False,
) -> Scoring:
    """Fit a scorer and score every document, without drawing; `draw` goes on from there."""
    resources = resources_of(workers, memory_limit, spill, engine, engine_options)
    columns = (text_column, id_column, target_text_column)
    cleaning = CleanSpec.of(filters, dedup, decontaminate)
    job = ScoringSpec.asked(raw, target, method, settings, columns, on_bad_row, per, holdout, domains, cleaning)
    checked_share(max_removed)
    with opened_session(out, resources, Progress(progress), max_removed=max_removed) as session:
        model = ready_scorer(job)
        scanned = session.scan(job, model)
        session.folder.begin({"score": job.as_dict(model)}, scanned.key, overwrite=overwrite)
        scored = session.scored(scanned, model, None)
        session.folder.clean()
        stats = statistics(scored.table, session.engine, None)
        seconds = session.seconds
        return Scoring(session.folder.path, stats.n_documents, stats.n_eligible, stats.reasons, scanned.key, seconds)


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
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool | None = False,
) -> Selection:
    """Draw from the scores of ``run`` (a folder that `score` or `select` made); no text is scored again.

    Without ``out`` the selection is written into the same folder.
    """
    folder = RunFolder(run)
    scored = folder.scored
    if scored is None:
        folder.refuse_updating()
        raise RunError(f"{run}: no scores there; run curate score or curate select first")
    job = ScoringSpec(**scored["spec"])
    spec = draw_spec(scorer(job.method, **job.settings), budget, draw, seed, threshold, per, proportions, weights)
    resources = resources_of(workers, memory_limit, None, engine, engine_options)
    writing = WriteSpec(format, parse_bytes(shard_size))
    updated = scored if len(generations_of(scored)) > 1 else None
    asked = Asked(job, spec, writing, name)
    return _select(out or run, resources, Progress(progress), asked, run, overwrite, updated=updated)


def _select(
    out: str | os.PathLike[str],
    resources: Resources,
    progress: Progress,
    asked: Asked,
    scores_from: str | os.PathLike[str] | None,
    overwrite: bool,
    steps: Mapping[str, Any] | None = None,
    updated: Mapping[str, Any] | None = None,
    max_removed: MaxRemoved = MAX_REMOVED,
) -> Selection:
    spec, model = asked.spec, ready_scorer(asked.job, asked.spec)
    event("run.begin", out=str(out), method=asked.job.method, draw=spec.draw, engine=resources.engine)
    with opened_session(out, resources, progress, max_removed=max_removed) as session:
        folder = session.folder
        scanned, recipe, finished = session.begin(asked, model, overwrite=overwrite, updated=updated)
        if finished:
            manifest = dict(folder.manifest or {})
            if manifest.get("steps") != (steps or None):
                manifest.pop("steps", None)
                manifest |= {"steps": dict(steps)} if steps else {}
                folder.commit(manifest)
            return Selection.of(folder, manifest, {})
        if scores_from is not None:
            adopt_scores(RunFolder(scores_from), folder, scanned.key)
        drawn = session.draw(session.scored(scanned, model, spec), recipe, spec)
        manifest = session.write(drawn, recipe, asked.writing, scanned.domains, steps)
        done = Selection.of(folder, manifest, session.seconds)
        log_end(done)
        return done
