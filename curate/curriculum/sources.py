"""How much text there is of each source, how much of it was selected, and how its documents scored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engines import LocalEngine
from curate.errors import InputError, RunError, UsageError, unknown
from curate.features import NgramFeatures
from curate.io.columns import columns_of
from curate.io.corpus import Partition, scan
from curate.io.run import RunFolder
from curate.io.tables import batches, numpy, schema_of
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.sampling.solving import ExactSums
from curate.steps.documents import Documents, documents, raw_batches
from curate.steps.scoretable import MAX_GROUPS, add_sizes, remaining, sizes_by
from curate.survey.corpus import BATCH_BYTES

LEDGER = "ledger.parquet"
_WORDS = NgramFeatures(n=1, n_buckets=2)  # for their number only

Sizes = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Sources:
    """The sources of a corpus by name, in the order of their names; "" are documents that name none.

    ``selected_bytes``, ``selected_tokens``: of what a run selected. ``scores``: mean of a run's scores over the bytes
    of each source, nan where no document has one. They are None where they were not asked for. ``n_bad_rows``: left
    out.
    """

    names: tuple[str, ...]
    n_documents: np.ndarray
    n_bytes: np.ndarray
    n_tokens: np.ndarray
    selected_bytes: np.ndarray | None = None
    selected_tokens: np.ndarray | None = None
    scores: np.ndarray | None = None
    n_bad_rows: int = 0


# ---- of a run, from its score table


def sources_of_run(
    run: str | os.PathLike[str], column: str, *, selected: bool = False, scores: bool = False
) -> Sources:
    """Of all documents that a run scored, and did not remove; no text is read.

    Raises
    ------
    RunError : the run has no selection and ``selected`` is wanted.
    UsageError : a column that its scores do not have, or with over MAX_GROUPS values; several scores a document.
    """
    folder = RunFolder(run)
    commit = folder.scored
    if commit is None:
        raise RunError(f"{run}: no scores there; run curate score or curate select first")
    if column not in commit["carry"]:
        there = ", ".join(commit["carry"]) or "none"
        raise UsageError(
            f"{run}: its scores have no column {column!r} (there are: {there}); pass --column with one of them, or "
            f"score with --per {column}"
        )
    ledger = folder.path / LEDGER
    if selected and not ledger.is_file():
        raise RunError(f"{run}: nothing selected there; run curate draw first, or leave out --by selected")
    parts = [folder.scores / f"part-{i:05d}.parquet" for i in range(len(list(folder.scores.glob("part-*.parquet"))))]
    columns = [column, "n_bytes", "n_tokens", "reason"]
    sizes: Sizes = {}
    kept: Sizes = {}
    masks = _Kept(ledger) if selected else None
    for part in parts:
        for rows in batches(part, columns):
            _add(sizes, remaining(rows), column)
            if masks is not None:
                _add(kept, rows.filter(masks.take(rows.num_rows)), column)
    found = _sources(sizes, 0)
    if selected:
        n_bytes, n_tokens = (
            np.array([kept[name][unit] if name in kept else 0 for name in found.names], np.int64)
            for unit in ("bytes", "tokens")
        )
        found = replace(found, selected_bytes=n_bytes, selected_tokens=n_tokens)
    if not scores:
        return found
    scored = [name for name in _score_columns(parts[0]) if name not in commit["carry"]]
    return replace(found, scores=_mean_scores(parts, column, found.names, scored, run))


class _Kept:
    """The column ``kept`` of a ledger, whose rows are those of the score table, some at a time."""

    def __init__(self, ledger: Path) -> None:
        self._batches: Iterator[pa.Table] = batches(ledger, ["kept"])
        self._waiting = np.zeros(0, np.bool_)

    def take(self, n: int) -> pa.Array:
        while len(self._waiting) < n:
            self._waiting = np.append(self._waiting, numpy(next(self._batches)["kept"]))
        taken, self._waiting = self._waiting[:n], self._waiting[n:]
        return pa.array(taken)


def _mean_scores(
    parts: list[Path], column: str, names: tuple[str, ...], there: list[str], run: str | os.PathLike[str]
) -> np.ndarray:
    """float64[n_sources], weighted by bytes: the mean of the source, not of its documents. ``there``: score columns."""
    if len(there) != 1:
        raise UsageError(f"{run}: its documents have {len(there)} scores ({', '.join(there)}); --by scores needs one")
    sums, weights = ExactSums(len(names)), ExactSums(len(names))
    known = pa.array(names, pa.large_string())
    for part in parts:
        for rows in batches(part, [column, "n_bytes", there[0]]):
            source = numpy(pc.index_in(pc.fill_null(rows[column].cast(pa.large_string()), ""), value_set=known))
            scores, n_bytes = numpy(rows[there[0]]), numpy(rows["n_bytes"]).astype(np.float64)
            finite = np.isfinite(scores) & (n_bytes > 0)
            sums.add(scores[finite] * n_bytes[finite], source[finite])
            weights.add(n_bytes[finite], source[finite])
    total = weights.totals()
    return np.divide(sums.totals(), total, out=np.full(len(names), np.nan), where=total > 0)


def _score_columns(part: Path) -> list[str]:
    names: list[str] = schema_of(part).names
    return [name for name in names if name == "score" or name.startswith("score_")]


# ---- of files


def sources_of_files(
    raw: Paths,
    column: str,
    *,
    text_column: str = "text",
    id_column: str = "id",
    on_bad_row: str = "raise",
    count_tokens: bool = False,
    workers: int | None = None,
    progress: bool | None = False,
) -> Sources:
    """Of all documents of a corpus, by one pass over it. Tokens are words; without ``count_tokens`` they are 0.

    Raises
    ------
    UsageError : a column that the corpus does not have, or with over MAX_GROUPS values.
    InputError : a corpus that cannot be read; no files.
    """
    paths, shown = listed_paths(raw), Progress(progress)
    sizes: Sizes = {}
    n_bad = 0
    with LocalEngine(workers) as engine:
        corpus = scan(paths, text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map)
        there = columns_of(corpus)
        if column not in there:
            raise unknown("column", column, there)

        def look(partition: Partition) -> tuple[Sizes, int]:
            part: Sizes = {}
            bad = 0

            def parse(batch: Any) -> tuple[pa.Table, int]:
                return _table_of(documents(corpus, partition, batch, (column,)), column, count_tokens)

            for rows, n in engine.pipeline(parse, raw_batches(corpus, partition, (column,), BATCH_BYTES)):
                _add(part, rows, column)
                bad += n
            return part, bad

        with shown.stage("count", sum(p.n_bytes for p in corpus.partitions)) as stage:
            for partition, (part, bad) in engine.each(look, corpus.partitions):
                for name, size in part.items():
                    add_sizes(sizes, name, size)
                _refuse_many(sizes, column)
                n_bad += bad
                stage.advance(partition.n_bytes)
    return _sources(sizes, n_bad)


def _table_of(docs: Documents, column: str, count_tokens: bool) -> tuple[pa.Table, int]:
    n_tokens: Any = _WORDS.stream(docs.texts).n_tokens.copy() if count_tokens else np.zeros(len(docs), np.int64)
    return pa.table({column: docs.carried[column], "n_bytes": docs.n_bytes, "n_tokens": n_tokens}), len(docs.bad)


def _add(sizes: Sizes, rows: pa.Table, column: str) -> None:
    named = pa.table({"source": rows[column], "n_bytes": rows["n_bytes"], "n_tokens": rows["n_tokens"]})
    for name, size in sizes_by(named, "source").items():
        add_sizes(sizes, name, size)
    _refuse_many(sizes, column)


def _refuse_many(sizes: Sizes, column: str) -> None:
    if len(sizes) > MAX_GROUPS:
        raise UsageError(f"--column {column}: has over {MAX_GROUPS:,} different values; take a coarser one")


def _sources(sizes: Sizes, n_bad_rows: int) -> Sources:
    if not sizes:
        raise InputError("nothing to mix: no documents")
    names = tuple(sorted(sizes))
    documents, n_bytes, n_tokens = (
        np.array([sizes[name][unit] for name in names], np.int64) for unit in ("documents", "bytes", "tokens")
    )
    return Sources(names, documents, n_bytes, n_tokens, n_bad_rows=n_bad_rows)
