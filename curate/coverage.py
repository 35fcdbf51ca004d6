"""Which documents of a target a selection does not cover: the share of each in directions that it hardly has."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.engines import LocalEngine
from curate.errors import InputError, UsageError
from curate.io.corpus import Corpus, Partition, scan
from curate.io.run import of_run
from curate.io.targets import Paths, listed_paths
from curate.leverage import Directions, Gram
from curate.progress import Progress
from curate.sampling.noise import UNIFORM, uniform
from curate.scorers.leverage import Leverage, add_to, sum_of
from curate.steps.documents import Documents, documents, raw_batches
from curate.survey.corpus import BATCH_BYTES

BEGINNING = 240  # characters of a text that are shown
QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Covering:
    """How much of the target a corpus misses.

    ``effective_dimension``: of the corpus. ``mean``, and ``quantiles`` by share of the target's documents (1 is the
    largest): of the missed share, 0 to 1. ``better_than_random``: the share of the target's documents of which it
    misses less than random documents of raw do; None where that is not known.
    """

    name: str
    n_documents: int
    effective_dimension: float
    mean: float
    quantiles: Mapping[str, float]
    better_than_random: float | None


@dataclass(frozen=True)
class Missed:
    """A document of the target, and how much of it each corpus misses; ``text``: its beginning."""

    doc_id: str
    text: str
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Coverage:
    """How a target is covered by a selection, as many random documents of raw, raw, and by itself.

    ``worst``: the documents that the selection misses most of. ``ridge_per_document``: a direction counts as covered
    when far more of a corpus is in it than this.
    """

    n_target: int
    ridge_per_document: float
    dim: int
    by: tuple[Covering, ...]
    worst: tuple[Missed, ...]
    n_bad_rows: Mapping[str, int]


def coverage(
    selected: Paths,
    *,
    target: Paths,
    raw: Paths | None = None,
    settings: Mapping[str, Any] | None = None,
    text_column: str | None = None,
    target_text_column: str | None = None,
    id_column: str | None = None,
    on_bad_row: str | None = None,
    worst: int = 5,
    seed: int = 0,
    workers: int | None = None,
    progress: bool | None = False,
) -> Coverage:
    """Say how much of the documents of a target, or of a held-out set, a selection misses.

    A document's missed share is that of its vector in directions of which the selection has little: ``ridge`` times
    its ridge leverage score, uncut. All of every corpus is read, raw twice; 8 bytes are held for each document of the
    target and corpus.

    Parameters
    ----------
    selected : files, or the folder of a run; then ``raw`` is by default what it was made from.
    target : examples of what is wanted, or text that was held out. raw : to compare with.
    settings : of vectors and ridge, as of method "leverage"; by default those of the run, if it is one of that method.
    text_column, target_text_column, id_column, on_bad_row : as of `select`; by default those of the run.
    worst : so many documents are listed. seed : of the random documents.

    Raises
    ------
    UsageError : the RBF kernel. InputError : a corpus without text. RunError : the raw files of a run are gone.
    """
    recipe, selected, raw = of_run(selected, raw)
    if settings is None:
        settings = recipe["settings"] if recipe.get("method") == "leverage" else {}
    model = Leverage.from_settings({"min_tokens": 1, **settings})
    if model.kernel != "linear" or model.ridge is not None:
        raise UsageError("coverage compares corpora of many sizes: kernel=linear and ridge_per_document, no ridge")
    assert model.ridge_per_document is not None
    column = text_column or recipe.get("text_column", "text")
    columns = {"target": target_text_column or text_column or recipe.get("target_text_column") or column}
    given = {"selected": selected, **({} if raw is None else {"raw": raw}), "target": target}
    shown = Progress(progress)
    with LocalEngine(workers) as engine:
        corpora = {
            name: scan(
                listed_paths(paths),
                text_column=columns.get(name, column),
                id_column=id_column or recipe.get("id_column", "id"),
                on_bad_row=on_bad_row or recipe.get("on_bad_row", "raise"),
                over=engine.map,
            )
            for name, paths in given.items()
        }
        looks = {name: _Look(name, corpus, model, engine, shown) for name, corpus in corpora.items()}
        summed = {name: look.gram() for name, look in looks.items()}
        grams = {name: gram for name, (gram, _) in summed.items()}
        if "raw" in grams:
            grams["random"] = looks["raw"].gram(grams["selected"].n_points / grams["raw"].n_points, seed)[0]
        order: list[str] = [name for name in ("selected", "random", "raw", "target") if name in grams]
        directions = {
            name: grams[name].directions(model.ridge_per_document * max(1, grams[name].n_points)) for name in order
        }
        shares, found = looks["target"].missed(directions, worst)
    by = tuple(_covering(name, directions[name], shares) for name in order)
    n_bad = {name: n for name, (_, n) in summed.items()}
    return Coverage(grams["target"].n_points, model.ridge_per_document, grams["target"].dim, by, tuple(found), n_bad)


class _Look:
    """Passes over one corpus, with a bar each."""

    def __init__(self, name: str, corpus: Corpus, model: Leverage, engine: LocalEngine, shown: Progress) -> None:
        self.name, self.corpus, self.model, self.engine, self.shown = name, corpus, model, engine, shown

    def gram(self, share: float = 1.0, seed: int = 0) -> tuple[Gram, int]:
        """``(sums of products of vectors, bad rows)``; with a ``share`` below 1 of so many documents, at random.

        Raises
        ------
        InputError : there is no text.
        """

        def sums(docs: Documents) -> Gram | None:
            vectors, taken, _ = self.model.looked_at(docs.texts, docs.vectors)
            return add_to(None, vectors if share >= 1 else vectors[uniform(docs.ids, seed, UNIFORM)[taken] < share])

        def one(partition: Partition) -> tuple[Gram | None, int]:
            total, n_bad = None, 0
            for gram, bad in self._each(partition, lambda docs: (sums(docs), len(docs.bad))):
                total, n_bad = sum_of(total, gram), n_bad + bad
            return total, n_bad

        total: Gram | None = None
        n_bad = 0
        for gram, bad in self._over(one):
            total, n_bad = sum_of(total, gram), n_bad + bad
        if total is None:
            if share < 1:
                return Gram(self.model.dim), n_bad
            raise InputError(f"{self.name}: no text in it; pass --text-column with the column that has it")
        return total, n_bad

    def missed(self, by: Mapping[str, Directions], worst: int) -> tuple[dict[str, np.ndarray], list[Missed]]:
        """``(missed shares float64[n] by each corpus, the documents that the first of them misses most of)``."""

        def of(docs: Documents) -> tuple[np.ndarray, list[Missed]]:
            vectors, taken, _ = self.model.looked_at(docs.texts, docs.vectors)
            shares = np.stack([directions.missed(vectors) for directions in by.values()], axis=1)
            rows = np.flatnonzero(taken)
            first = np.argsort(-shares[:, 0], kind="stable")[:worst]
            return shares, [_missed(docs, int(rows[i]), dict(zip(by, shares[i].tolist(), strict=True))) for i in first]

        def one(partition: Partition) -> tuple[list[np.ndarray], list[Missed]]:
            parts: list[np.ndarray] = []
            found: list[Missed] = []
            for shares, some in self._each(partition, of):
                parts.append(shares)
                found = _worst([*found, *some], worst)
            return parts, found

        parts: list[np.ndarray] = [np.zeros((0, len(by)))]
        found: list[Missed] = []
        for some, of_part in self._over(one):
            parts += some
            found = _worst([*found, *of_part], worst)
        together = np.concatenate(parts)
        return {name: together[:, i] for i, name in enumerate(by)}, found

    def _each(self, partition: Partition, work: Callable[[Documents], Any]) -> Iterator[Any]:
        """Results of batches of documents, in order."""
        column = self.model.vector_column
        carry = (column,) if column else ()

        def parsed(raw: Any) -> Any:
            return work(documents(self.corpus, partition, raw, (), column))

        return self.engine.pipeline(parsed, raw_batches(self.corpus, partition, carry, BATCH_BYTES))

    def _over(self, work: Callable[[Partition], Any]) -> Iterator[Any]:
        """Results of partitions, in order."""
        partitions = self.corpus.partitions
        with self.shown.stage(self.name, sum(p.n_bytes for p in partitions)) as stage:
            for partition, found in zip(partitions, self.engine.ordered(work, partitions), strict=True):
                stage.advance(partition.n_bytes)
                yield found


def _missed(docs: Documents, i: int, shares: dict[str, float]) -> Missed:
    return Missed(str(docs.ids[i]), docs.texts[i].as_py()[:BEGINNING], shares)


def _worst(found: Sequence[Missed], n: int) -> list[Missed]:
    """Those of which the selection misses most; equal ones by id and text, so that no order of files matters."""
    return heapq.nsmallest(n, found, key=lambda m: (-m.shares["selected"], m.doc_id, m.text))


def _covering(name: str, directions: Directions, shares: Mapping[str, np.ndarray]) -> Covering:
    missed = shares[name]
    found = np.quantile(missed, QUANTILES, method="inverted_cdf") if len(missed) else np.full(len(QUANTILES), np.nan)
    known = "random" in shares and name != "random" and len(missed)
    return Covering(
        name,
        directions.n_points,
        directions.effective_dimension,
        float(np.sort(missed).mean()) if len(missed) else float("nan"),
        {f"{q:g}": float(v) for q, v in zip(QUANTILES, found, strict=True)},
        float((missed < shares["random"]).mean()) if known else None,
    )
