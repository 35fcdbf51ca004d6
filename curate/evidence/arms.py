"""Which documents each arm is made of: the selection, and its controls, as samples of equal size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import RunError
from curate.io.corpus import Corpus
from curate.io.run import digest
from curate.io.tables import batches, count_rows, numpy
from curate.kernels.text import one_chunk
from curate.sampling.cut import Cut, Ranked, descending, find_cuts
from curate.sampling.noise import EVIDENCE, TIE, centred, keyed_hashes, mix
from curate.steps.draw import split
from curate.steps.scoretable import OTHER, ScoreTable, add_sizes, remaining, sizes_by

ARMS = {
    "selected": "a random sample of what was selected",
    "random": "any documents that have a score, each as likely as any other",
    "length-matched": "random ones that are as long as the selected ones, by bytes, in quarters of a doubling",
    "source-stratified": "random ones from the sources that the selected ones are from, in the same proportions",
    "top-k": "the best by score, as many bytes as were selected",
}
MAX_PARTITIONS = 64
MAX_SAMPLES = 1_000  # of an arm
BINS_PER_DOUBLING = 4
N_LENGTHS = 64 * BINS_PER_DOUBLING
DOCUMENT = np.dtype([("key", "u8"), ("part", "i8"), ("row", "i8"), ("bytes", "i8"), ("stratum", "i8"), ("ident", "u8")])


@dataclass(frozen=True)
class Sample:
    """Documents of one arm, in the order in which a model reads them.

    ``documents``: of type `DOCUMENT`, ``part`` and ``row`` say where in raw. ``last``: the index of the one that
    is cut, so that the sample has the bytes it should; ``last_bytes``: to how many.
    """

    documents: np.ndarray
    last: int
    last_bytes: int

    @property
    def n_bytes(self) -> int:
        return int(self.sizes.sum())

    @property
    def sizes(self) -> np.ndarray:
        """int64[n]: bytes that are taken of each document."""
        sizes: np.ndarray = self.documents["bytes"].copy()
        if len(sizes):
            sizes[self.last] = self.last_bytes
        return sizes


class Draw:
    """The first documents of each stratum, by key, as far as its part of the bytes reaches: any number go by.

    Parameters
    ----------
    quotas : int64[n_strata], bytes.
    typical : float64[n_strata], bytes of a document in each stratum; None: each document's own, where those of a
        stratum are of one length.
    """

    def __init__(self, quotas: Sequence[int] | np.ndarray, typical: Sequence[float] | None = None) -> None:
        self.quotas = np.asarray(quotas, np.int64)
        self._typical = None if typical is None else np.asarray(typical, np.float64)
        self._held = np.zeros(0, DOCUMENT)
        self._highest = np.where(self.quotas > 0, np.uint64(2**64 - 1), np.uint64(0))  # key that may still enter

    def add(self, documents: np.ndarray) -> None:
        """Take from documents (of type `DOCUMENT`; a stratum of -1 takes no part) what belongs in the sample."""
        stratum = documents["stratum"]
        some = documents[(stratum >= 0) & (self.quotas[stratum] > 0)]
        some = some[some["key"] <= self._highest[some["stratum"]]]
        if not len(some):
            return
        held = np.concatenate([self._held, some])
        held = held[np.lexsort((held["row"], held["part"], held["key"], held["stratum"]))]
        before = _before(held)
        self._held = held[before < self.quotas[held["stratum"]]]
        held, after = self._held, _before(self._held) + self._held["bytes"]
        full = after >= self.quotas[held["stratum"]]
        self._highest[held["stratum"][full]] = held["key"][full]

    def sample(self) -> Sample:
        """The documents, to as many bytes as the quotas are together.

        Strata are served evenly: a document's turn comes when all before it in its stratum and some part, by a hash
        of its key, of a typical one are due: so the first of a stratum is in the sample as often as its quota is to
        such a document, and many strata with small quotas do not fill it with short ones.
        """
        held, size = self._held, int(self.quotas.sum())
        part = centred(mix(held["key"])) * (held["bytes"] if self._typical is None else self._typical[held["stratum"]])
        turn = (_before(held) + part) / np.maximum(1, self.quotas[held["stratum"]])
        held = held[np.lexsort((held["key"], turn))]
        before = np.cumsum(held["bytes"]) - held["bytes"]
        held = held[before < size]
        if not len(held):
            return Sample(held, 0, 0)
        last_bytes = int(min(held["bytes"][-1], size - before[len(held) - 1]))
        order = np.lexsort((held["row"], held["part"], held["key"]))
        return Sample(held[order], int(np.flatnonzero(order == len(held) - 1)[0]), last_bytes)


def _before(held: np.ndarray) -> np.ndarray:
    """int64[n]: bytes of the documents before each one in its stratum, of documents in the order of strata."""
    if not len(held):
        return np.zeros(0, np.int64)
    before = np.cumsum(held["bytes"]) - held["bytes"]
    first = np.concatenate([[True], held["stratum"][1:] != held["stratum"][:-1]])
    return before - np.maximum.accumulate(np.where(first, before, 0))


@dataclass(frozen=True)
class Scored:
    """The documents of a run, as far as they are looked at: its score table and its ledger side by side."""

    table: ScoreTable
    ledger: Path
    partitions: tuple[int, ...]  # ascending

    def walk(self, columns: Iterable[str]) -> Iterator[tuple[int, pa.Table, np.ndarray]]:
        """``(partition, rows of the score table, bool[n] which are kept)``, some rows at a time."""
        kept = _Kept(self.ledger)
        looked_at, names = set(self.partitions), list(dict.fromkeys(["doc_id", *columns]))
        for part, file in enumerate(self.table.parts):
            if part not in looked_at:
                kept.skip(count_rows(file))
                continue
            for rows in batches(file, names):
                yield part, rows, kept.take(rows["doc_id"])


class _Kept:
    """Reads from the ledger, in its order, which documents are kept."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._batches = batches(ledger, ["doc_id", "kept"])
        self._rest = pa.table({"doc_id": pa.array([], pa.large_string()), "kept": pa.array([], pa.bool_())})

    def take(self, doc_ids: Any) -> np.ndarray:
        """bool[n] for the next documents, which must have these ids."""
        taken = self._next(len(doc_ids))
        if not taken["doc_id"].cast(pa.large_string()).combine_chunks().equals(one_chunk(doc_ids)):
            raise RunError(f"{self._ledger}: not the ledger of these scores; run curate draw again")
        return numpy(taken["kept"])

    def skip(self, n: int) -> None:
        self._next(n)

    def _next(self, n: int) -> pa.Table:
        parts = []
        while n:
            if not self._rest.num_rows:
                following = next(self._batches, None)
                if following is None:
                    raise RunError(f"{self._ledger}: shorter than the score table; run curate draw again")
                self._rest = following
            parts.append(self._rest.slice(0, n))
            self._rest = self._rest.slice(parts[-1].num_rows)
            n -= parts[-1].num_rows
        return pa.concat_tables(parts) if parts else self._rest.slice(0, 0)


def looked_at(corpus: Corpus) -> tuple[int, ...]:
    """The partitions that arms are drawn from: all, or `MAX_PARTITIONS` by a hash of what they are."""
    parts = corpus.partitions
    by_hash = sorted(parts, key=lambda p: digest([corpus.source(p).name, p.start, p.first_row]))
    return tuple(sorted(p.index for p in by_hash[:MAX_PARTITIONS]))


@dataclass
class Mix:
    """What the selection is made of, in bytes of text."""

    n_bytes: int = 0
    n_documents: int = 0
    by_length: np.ndarray = field(default_factory=lambda: np.zeros(N_LENGTHS, np.int64))
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)  # documents, bytes, tokens
    every_source: dict[str, dict[str, int]] = field(default_factory=dict)  # the same of all that cleaning leaves

    @property
    def can_be_stratified(self) -> bool:
        """Whether random documents of the same sources are another thing than raw, and than the selection itself."""
        if len(self.every_source) < 2 or OTHER in self.every_source:
            return False
        return 2 * self.n_bytes <= sum(self.every_source[value]["bytes"] for value in self.by_source)


def length_bins(n_bytes: np.ndarray) -> np.ndarray:
    """int64[n]: quarters of a doubling of the length."""
    return np.floor(np.log2(np.maximum(1, n_bytes)) * BINS_PER_DOUBLING).astype(np.int64)


def selected_mix(scored: Scored) -> Mix:
    """One pass over the documents, for what the controls are matched to."""
    mix, has_source = Mix(), "source" in scored.table.carry
    columns = ["n_bytes", "n_tokens", "reason", *(["source"] if has_source else [])]
    for _, rows, kept in scored.walk(columns):
        selected = rows.filter(pa.array(kept))
        n_bytes = numpy(selected["n_bytes"])
        mix.n_documents += len(n_bytes)
        mix.n_bytes += int(n_bytes.sum())
        mix.by_length += np.bincount(length_bins(n_bytes), n_bytes, minlength=N_LENGTHS).astype(np.int64)
        if has_source:
            for into, of in ((mix.by_source, selected), (mix.every_source, remaining(rows))):
                for value, sizes in sizes_by(of, "source").items():
                    add_sizes(into, value, sizes)
    return mix


def draw_arms(
    scored: Scored, mix: Mix, *, n_samples: Mapping[str, int], size: int, seed: int
) -> dict[str, list[Sample]]:
    """Samples of each arm.

    Parameters
    ----------
    n_samples : of each arm; one of `ARMS` that is not named is left out.
    size : bytes of text in a sample, at most those of the selection.
    seed : that of the run's draw, so that two runs are not judged by the same random samples.

    Each document's place in a sample is a hash of (arm, seed, number of the sample, doc_id), so that samples do not
    depend on the order of files or on who reads them.
    """
    sources = sorted(value for value, sizes in mix.by_source.items() if sizes["bytes"])
    quotas = {arm: [size] for arm in ARMS}
    quotas["length-matched"] = split(size, mix.by_length.tolist())
    typical: dict[str, list[float]] = {}
    if "source-stratified" in n_samples:
        quotas["source-stratified"] = split(size, [mix.by_source[value]["bytes"] for value in sources])
        every = [mix.every_source[value] for value in sources]
        typical["source-stratified"] = [of["bytes"] / of["documents"] for of in every]
    cut = _top_k_cut(scored, mix.n_bytes) if "top-k" in n_samples else None
    draws = {arm: [Draw(quotas[arm], typical.get(arm)) for _ in range(n)] for arm, n in n_samples.items()}
    columns = ["doc_id", "row", "n_bytes", *(["source"] if "source-stratified" in n_samples else [])]
    columns += scored.table.score_columns
    first = dict.fromkeys(scored.partitions, 0)
    for part, rows, kept in scored.walk(columns):
        n_bytes = numpy(rows["n_bytes"])
        could_win = (n_bytes > 0) & ~np.isnan(_best_score(scored.table, rows))
        documents = np.zeros(len(n_bytes), DOCUMENT)
        documents["part"], documents["row"], documents["bytes"] = part, numpy(rows["row"]), n_bytes
        documents["ident"] = keyed_hashes(rows["doc_id"], 0, TIE)
        for number, arm in enumerate(ARMS):
            if arm not in n_samples:
                continue
            if arm == "selected":
                strata = np.where(kept, 0, -1)
            elif arm == "length-matched":
                strata = length_bins(n_bytes)
            elif arm == "source-stratified":
                strata = _indices(rows["source"], sources)
            elif arm == "top-k":
                assert cut is not None
                strata = _above(cut, scored.table, part, rows, first[part])
            else:
                strata = np.zeros(len(n_bytes), np.int64)
            documents["stratum"] = np.where(could_win, strata, -1)
            for i, draw in enumerate(draws[arm]):
                documents["key"] = keyed_hashes(rows["doc_id"], seed * MAX_SAMPLES + i, EVIDENCE + number)
                draw.add(documents)
        first[part] += len(n_bytes)
    return {arm: [draw.sample() for draw in of] for arm, of in draws.items()}


def _indices(column: Any, values: Sequence[str]) -> np.ndarray:
    """int64[n]: where each value is among some; else -1."""
    column = pc.fill_null(column.cast(pa.large_string()), "")
    at = pc.index_in(column, pa.array(values, pa.large_string()))
    return numpy(pc.fill_null(at, -1)).astype(np.int64)


# ---- top-k


def _top_k_cut(scored: Scored, n_bytes: int) -> Cut:
    """Where the ranking by score has so many bytes, the document that reaches them included."""

    def passes() -> Iterator[Ranked]:
        first = dict.fromkeys(scored.partitions, 0)
        for part, rows, _ in scored.walk(["doc_id", "n_bytes", *scored.table.score_columns]):
            yield _ranked(scored.table, part, rows, first[part])[0]
            first[part] += rows.num_rows

    below = find_cuts(lambda wanted: [wanted(passes())], {0: n_bytes})[0]
    following: tuple[int, int, int] | None = None
    for ranked in passes():
        left = ranked.where(~below.keeps(ranked))
        if len(left.order):
            first_left = np.lexsort((left.place, left.tie, left.order))[0]
            place = (int(left.order[first_left]), int(left.tie[first_left]), int(left.place[first_left]))
            following = place if following is None else min(following, place)
    return below if following is None else Cut(*following)


def _best_score(table: ScoreTable, rows: pa.Table) -> np.ndarray:
    """float64[n], nan for documents that no selection can hold."""
    best: np.ndarray = np.fmax.reduce([numpy(rows[name]) for name in table.score_columns])
    return best


def _ranked(table: ScoreTable, part: int, rows: pa.Table, first: int) -> tuple[Ranked, np.ndarray]:
    """Documents with a score, by the best one when there are several, and which rows they are."""
    scores = _best_score(table, rows)
    where = np.flatnonzero(~np.isnan(scores))
    ranked = Ranked(
        descending(scores[where]),
        keyed_hashes(rows["doc_id"], 0, TIE)[where],
        (np.int64(part) << 40) + first + where,
        numpy(rows["n_bytes"])[where],
        np.zeros(len(where), np.int64),
    )
    return ranked, where


def _above(cut: Cut, table: ScoreTable, part: int, rows: pa.Table, first: int) -> np.ndarray:
    """int64[n]: 0 for the documents that the ranking keeps, -1 for the others."""
    ranked, where = _ranked(table, part, rows, first)
    strata = np.full(rows.num_rows, -1)
    strata[where[cut.keeps(ranked)]] = 0
    return strata
