"""Make the report of a run or a corpus and write it to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from curate.engines import LocalEngine
from curate.errors import RunError, UsageError, unknown
from curate.io.columns import columns_of
from curate.io.corpus import scan
from curate.io.paths import atomic, folder_path, is_read_only, reaching
from curate.io.run import MANIFEST, RunFolder, is_run, read_json, write_json
from curate.io.targets import Paths, listed_paths
from curate.metrics.diagnostics import shares
from curate.progress import Progress
from curate.report.card import described, measured, with_measured
from curate.report.cleaning import only_cleans
from curate.report.gather import choose, corpus_summary, count, places, selection_summary, texts_at, with_documents
from curate.report.page import Bundle, page
from curate.report.removed import choose_removed, with_removed
from curate.report.summary import Summary, as_json
from curate.report.surveyed import raw_of, survey_run, with_texts
from curate.report.text import markdown
from curate.report.weighing import Shares, own_curriculum, weighing_of
from curate.survey.comparison import look_at
from curate.survey.corpus import SAMPLE_BYTES

FORMATS = ("html", "md", "json")


def report(
    paths: Paths,
    *,
    out: str | os.PathLike[str] | None = None,
    format: str = "html",
    text_column: str = "text",
    id_column: str = "id",
    on_bad_row: str = "raise",
    curriculum: str | os.PathLike[str] | None = None,
    sample_bytes: float = SAMPLE_BYTES,
    workers: int | None = None,
    progress: bool | None = False,
) -> Path:
    """Report on the folder of a run, or on the files of a corpus; returns the file that was written.

    By default that is ``report.html`` in the folder of the run, or here for a corpus. Of a run the dataset card is
    written again with what has been measured since.

    Parameters
    ----------
    on_bad_row : of a corpus, "raise" at a row that cannot be read, or "quarantine": leave it out and count it.
    curriculum : folder or file of one to show; by default that of the run.
    sample_bytes : text of each corpus that n-grams, languages and compression are estimated from; up to twice as much.

    Raises
    ------
    MissingExtraError : HTML without vl-convert; Markdown and JSON need nothing.
    RunError : a run that is not finished.
    UsageError : several runs, or one among other files.
    """
    if format not in FORMATS:
        raise unknown("--format", format, FORMATS)
    listed = listed_paths(paths)
    if not listed:
        raise UsageError("nothing to report on: name the folder of a run, or the files of a corpus")
    bundle = Bundle() if format == "html" else None
    run = len(listed) == 1 and is_run(listed[0])
    folder = RunFolder(listed[0]) if run else None
    if folder is None:
        _refuse_runs(listed)
    shown = Progress(progress)
    with LocalEngine(workers) as engine, reaching(folder.path) if folder else nullcontext():
        if folder:
            summary = _of_run(folder, engine, sample_bytes, shown, curriculum or own_curriculum(folder.path))
        else:
            corpus = scan(listed, text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map)
            found = look_at(corpus, "raw", engine, shown, sample_bytes=sample_bytes)
            summary = with_texts(corpus_summary(corpus, columns_of(corpus), found.survey), {"raw": found})
            summary = _with_curriculum(summary, curriculum, {"raw": shares(found.survey.sources)})
    render: Callable[[Summary], str] = {"html": lambda s: page(s, bundle), "md": markdown, "json": as_json}[format]
    to = folder_path(out) if out else (folder.path if folder else Path()) / f"report.{format}"
    text = render(summary)
    with folder.locked() if folder else nullcontext():
        with atomic(to) as part:
            part.write_text(text, encoding="utf-8", newline="")
        if folder:
            _refresh_card(folder, summary)
    return to


def _refuse_runs(listed: Sequence[str]) -> None:
    """The files of a corpus are not those of runs: their ledgers and scores are no documents."""
    for folder in (RunFolder(path) for path in listed if not is_read_only(folder_path(path))):
        with reaching(folder.path):
            begun = folder.begun
        if begun and (folder.path / MANIFEST).is_file():
            raise UsageError(f"{folder.path}: a run has a report of its own; name it alone")
        if begun:
            raise RunError(f"{folder.path}: no {MANIFEST}, hence no finished run; run curate select again to finish it")


def _of_run(
    folder: RunFolder,
    engine: LocalEngine,
    sample_bytes: float,
    shown: Progress,
    curriculum: str | os.PathLike[str] | None,
) -> Summary:
    counted, raw = count(folder), raw_of(folder)
    manifest = folder.manifest or {}
    recipe = manifest["recipe"]
    chosen = choose(folder, None if only_cleans(recipe) else counted.scores[0].cut)
    removed = choose_removed(folder)
    found = survey_run(folder, raw, places(raw, [*chosen.rows(), *removed.rows()]), engine, sample_bytes, shown)
    summary = with_texts(selection_summary(folder, counted), found.corners, found.targets)
    of_raw = found.corners.get("raw")
    texts = texts_at(raw, of_raw.survey if of_raw else None)
    summary = with_documents(summary, chosen, texts)
    summary = with_removed(summary, removed, texts, (recipe.get("filters") or {}).get("mask", ()))
    first = manifest["stats"]["diagnostics"][0]
    sources = {"raw": first["sources_raw"], "selected": first["sources_selected"]}
    summary = _with_curriculum(summary, curriculum, sources)
    return replace(summary, warnings=(*summary.warnings, *found.left_out))


def _with_curriculum(summary: Summary, path: str | os.PathLike[str] | None, sources: Shares) -> Summary:
    return summary if path is None else replace(summary, curriculum=weighing_of(path, sources))


def _refresh_card(folder: RunFolder, summary: Summary) -> None:
    """Put what was measured into the card and the description; what else somebody wrote there stays."""
    card, croissant = folder.path / "README.md", folder.path / "croissant.json"
    if card.is_file():
        before = card.read_text(encoding="utf-8")
        if (after := with_measured(before, summary)) != before:
            with atomic(card) as part:
                part.write_text(after, encoding="utf-8")
    if croissant.is_file() and measured(summary):
        write_json(croissant, described(read_json(croissant), folder.manifest or {}, summary))
