"""A selection in stages that processes may share: what one leaves in the run's folder is all that the next one needs.

    prepare -> fit -> score (many at once, each some partitions) -> draw -> write

Each may be run again after it was killed, and goes on from there; the bytes are those of `curate.select`. Schedulers
call these; everybody else has `curate.select`, which is the five in a row. With the ``plan`` that `prepare` returned a
stage refuses to go on with what somebody else has scanned into the same folder since.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from curate.errors import UsageError
from curate.io.run import RunFolder, digest, read_json
from curate.io.targets import Paths, Targets
from curate.progress import Progress
from curate.sampling.budget import Budget, parse_bytes
from curate.scorers import load_scorer, scorer
from curate.selection.asked import Asked, ScoringSpec, draw_spec, draw_spec_of, resources_of, write_spec_of
from curate.selection.cleaning import MAX_REMOVED, MaxRemoved, checked_share
from curate.selection.outcome import Selection
from curate.selection.session import SCAN, opened_session, plan_of, ready_scorer
from curate.steps.clean import Asking, CleanSpec
from curate.steps.write import WriteSpec

Folder = str | os.PathLike[str]


def prepare(
    raw: Paths,
    *,
    target: Targets | None = None,
    out: Folder,
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
    domains: Folder | None = None,
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
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Scan: find, hash and cut the input files, and make ``out`` ready for a selection.

    Parameters
    ----------
    as of `curate.select`.

    Returns
    -------
    ``out``, ``n_files``, ``n_partitions`` (numbered from 0), ``n_bytes`` on disk; ``plan``, a name for this selection
    of these files, by which later stages know whether it is theirs; ``finished``: whether it is there already.
    """
    spec = draw_spec(scorer(method, **dict(settings or {})), budget, draw, seed, threshold, per, proportions, weights)
    writing = WriteSpec(format, parse_bytes(shard_size))
    resources = resources_of(workers, memory_limit, False, engine, engine_options)
    columns = (text_column, id_column, target_text_column)
    cleaning = CleanSpec.of(filters, dedup, decontaminate)
    job = ScoringSpec.asked(raw, target, method, settings, columns, on_bad_row, per, holdout, domains, cleaning)
    model = ready_scorer(job, spec)
    checked_share(max_removed)
    with opened_session(out, resources, Progress(progress), max_removed=max_removed) as session:
        scanned, recipe, finished = session.begin(Asked(job, spec, writing, name), model, overwrite=overwrite)
        if not finished:
            session.note_scan(scanned, recipe)
    return {
        "out": os.fspath(out),
        "n_files": len(scanned.corpus.files),
        "n_partitions": len(scanned.corpus.partitions),
        "n_bytes": scanned.corpus.n_bytes,
        "plan": plan_of(recipe, scanned.key),
        "finished": finished,
    }


def fit(
    out: Folder,
    *,
    plan: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Clean the raw corpus of a selection that was prepared, where that is asked for, and fit its scorer.

    Returns
    -------
    ``out``, ``method``, ``n_documents`` of raw.
    """
    resources = resources_of(workers, memory_limit, False, engine, engine_options)
    with opened_session(out, resources, Progress(progress)) as session:
        if (manifest := _finished(session.folder, plan)) is not None:
            method, n_documents = manifest["recipe"]["method"], manifest["stats"]["n_documents"]
            return {"out": os.fspath(out), "method": method, "n_documents": n_documents}
        scanned, _ = session.noted_scan(plan)
        model = ready_scorer(scanned.job)
        commit = session.folder.scored
        if commit is None or commit["key"] != scanned.key:
            session.fit(scanned, model)
            commit = session.fitted(scanned)
    return {"out": os.fspath(out), "method": scanned.job.method, "n_documents": commit["fit"]["n_documents"]}


def score(
    out: Folder,
    partitions: Sequence[int] | None = None,
    *,
    plan: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Score some partitions of a selection whose scorer is fitted; many processes may, at once.

    Parameters
    ----------
    partitions : their numbers; None: all. One that is done is not done again.

    Returns
    -------
    ``out``, ``n_partitions`` that were asked for, ``first`` and ``last`` of their numbers.

    Raises
    ------
    RunError : nothing was prepared or fitted there. UsageError : there is no such partition.
    """
    resources = resources_of(workers, memory_limit, False, engine, engine_options)
    with opened_session(out, resources, Progress(progress), shared=True) as session:
        if _finished(session.folder, plan) is not None:
            wanted = list(partitions or ())
        else:
            scanned, _ = session.noted_scan(plan)
            there = range(len(scanned.corpus.partitions))
            wanted = list(there if partitions is None else partitions)
            if unknown := [number for number in wanted if number not in there]:
                raise UsageError(f"{out}: no partition {unknown[0]} (there are {len(there):,}, from 0)")
            commit = session.folder.scored
            if commit is None or commit["key"] != scanned.key:
                session.fitted(scanned)
                model = load_scorer(session.folder.scorer)
                session.score(scanned, model, None, [scanned.corpus.partitions[number] for number in wanted])
    ends = {"first": min(wanted), "last": max(wanted)} if wanted else {}
    return {"out": os.fspath(out), "n_partitions": len(wanted)} | ends


def draw(
    out: Folder,
    *,
    plan: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Decide what is kept of a selection whose partitions are all scored, and fetch it.

    Returns
    -------
    ``out``, ``n_documents`` of raw, ``n_selected``.

    Raises
    ------
    InputError : nothing was selected. RunError : partitions have no scores yet.
    """
    resources = resources_of(workers, memory_limit, False, engine, engine_options)
    with opened_session(out, resources, Progress(progress)) as session:
        if (manifest := _finished(session.folder, plan)) is not None:
            stats = manifest["stats"]
            return {"out": os.fspath(out), "n_documents": stats["n_documents"], "n_selected": stats["n_selected"]}
        scanned, recipe = session.noted_scan(plan)
        drawn = session.draw(session.scored_by_others(scanned), recipe, draw_spec_of(recipe))
    return {
        "out": os.fspath(out),
        "n_documents": drawn.found.n_documents,
        "n_selected": sum(part["n_documents"] for part in drawn.kept),
    }


def write(
    out: Folder,
    *,
    plan: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    progress: bool | None = False,
) -> Selection:
    """Write the shards, the ledger and the manifest of a selection that was drawn; that commits it.

    Raises
    ------
    as `draw`, which it does again where that is not done.
    """
    resources = resources_of(workers, memory_limit, False, engine, engine_options)
    with opened_session(out, resources, Progress(progress)) as session:
        if (manifest := _finished(session.folder, plan)) is not None:
            return Selection.of(session.folder, manifest, {})
        scanned, recipe = session.noted_scan(plan)
        drawn = session.draw(session.scored_by_others(scanned), recipe, draw_spec_of(recipe))
        manifest = session.write(drawn, recipe, write_spec_of(recipe), scanned.domains)
        return Selection.of(session.folder, manifest, session.seconds)


def _finished(folder: RunFolder, plan: str | None) -> dict[str, Any] | None:
    """The manifest of a run that is complete, when no other one was scanned since."""
    manifest, scan = folder.manifest, read_json(folder.work / SCAN)
    if manifest is None or (scan is not None and digest(scan["recipe"]) != manifest["recipe_sha256"]):
        return None
    key = (folder.scored or {}).get("key", "")
    if (scan is not None and scan["key"] != key) or plan not in (None, plan_of(manifest["recipe"], key)):
        return None
    return manifest
