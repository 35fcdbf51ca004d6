"""Fill a report's summary from the folder of a run, or from the files of a corpus."""

from __future__ import annotations

import importlib.metadata
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.io.corpus import Corpus, Partition
from curate.io.run import EVIDENCE, RunFolder, read_json
from curate.io.tables import batches, numpy, regrouped
from curate.kernels.text import one_chunk
from curate.metrics.spending import spent_text, weights_text
from curate.metrics.weights import LengthHistogram
from curate.report.cleaning import cleaning_of, only_cleans
from curate.report.safe import excerpt
from curate.report.summary import (
    Amount,
    Arm,
    Distribution,
    Example,
    Examples,
    Fact,
    FileHash,
    ScoreHistogram,
    Summary,
    Verdict,
)
from curate.report.surveyed import SOURCES_SHOWN, length_series, listed_shares
from curate.report.terminal import size
from curate.sampling.budget import Budget
from curate.sampling.noise import TIE, keyed_hashes
from curate.survey import Survey

Texts = Mapping[tuple[str, int], tuple[str, str]]
FILES_SHOWN, EXAMPLES = 200, 4
BINS, FINE_BINS = 50, 20_000


def selection_summary(folder: RunFolder, counted: Counted) -> Summary:
    """What is known of a finished run: its manifest and tables, and its evidence when there is some."""
    manifest = folder.manifest or {}
    stats = manifest["stats"]
    first = stats["diagnostics"][0]
    verdict, stale = _evidence(folder.path, manifest)
    recipe, cleaning = manifest["recipe"], cleaning_of(manifest)
    heldout = "" if recipe.get("holdout") else " --heldout HELDOUT"
    all_stay = only_cleans(recipe)  # hence there is no verdict to come, and no score says anything
    return Summary(
        title=manifest["name"],
        kind="selection",
        asked=_asked(manifest),
        done=_done(manifest),
        amounts=(
            Amount("raw", stats["n_documents"], stats["n_bytes"], stats["n_tokens"]),
            *([Amount("cleaned", stats["n_documents"] - cleaning.whole.removed)] if cleaning and not all_stay else []),
            Amount("selected", stats["n_selected"], stats["n_bytes_selected"], stats["n_tokens_selected"]),
        ),
        verdict=verdict,
        verdict_hint="" if verdict or all_stay else f"curate evaluate OUT{heldout}",
        sources=listed_shares({"raw": first["sources_raw"], "selected": first["sources_selected"]}, SOURCES_SHOWN),
        scores=() if all_stay else tuple(h.histogram() for h in counted.scores),
        distributions=tuple(d for d in (lengths.distribution() for lengths in counted.lengths) if d is not None),
        cleaning=cleaning,
        warnings=(*stats["warnings"], *stale),
        command=manifest["command"],
        versions=(Fact("curate", manifest["tool_version"]), Fact("made", manifest["creation_date"])),
        hashes=tuple(_hashes(manifest)),
        sampling="Counts, sources, scores and lengths are of all documents, none of them estimated.",
    )


def corpus_summary(corpus: Corpus, columns: Sequence[str], found: Survey) -> Summary:
    """What the files of a corpus say of themselves, and what a survey counted in all of them."""
    rows = [sum(n for n, _ in f.units) if f.units else None for f in corpus.files]
    passed = [f"{len(corpus.passed_over):,} files were passed over, their names end in nothing known"]
    return Summary(
        title=os.path.basename(os.path.dirname(corpus.files[0].source.path)) or "corpus",
        kind="corpus",
        done=(
            Fact("files", f"{len(corpus.files):,}"),
            Fact("size on disk", size(corpus.n_bytes)),
            Fact("columns", ", ".join(columns)),
            Fact("documents without text", f"{found.n_empty:,}"),
            Fact("rows that could not be read", f"{found.n_bad_rows:,}"),
        ),
        warnings=tuple(passed) if corpus.passed_over else (),
        sampling="Counts, sources and sizes are of all documents, none of them estimated.",
        versions=(Fact("curate", importlib.metadata.version("curate-data")),),
        hashes=_first(
            [FileHash("input", f.source.name, f.bytes, f.sha256, n) for f, n in zip(corpus.files, rows, strict=True)]
        ),
    )


# ---- the manifest and the evidence


def _asked(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    recipe, drawing = manifest["recipe"], manifest["recipe"]["draw"]
    raw = Fact("raw", ", ".join(recipe["raw"]), code=True)
    if only_cleans(recipe):
        return raw, Fact("selection", "none: all that cleaning leaves is kept")
    budget = str(Budget(**drawing["budget"])) if drawing["budget"] else f"scores from {drawing['threshold']}"
    found = [
        raw,
        Fact("target", ", ".join(dict.fromkeys(t["name"] for t in manifest["targets"])) or "none"),
        *([Fact("held out of the target", f"{recipe['holdout']:.0%}")] if recipe.get("holdout") else []),
        Fact("method", recipe["method"]),
        Fact("budget", budget),
        Fact(
            "draw",
            f"{drawing['draw']}{weights_text(drawing.get('weights', {}))}, seed {manifest['seed']}"
            + (f", per {drawing['per']}" * bool(drawing["per"])),
        ),
    ]
    return tuple(found)


def _done(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    stats = manifest["stats"]
    cleaning = cleaning_of(manifest)
    reasons = Counter(stats["reasons"]) - Counter(cleaning.whole.reasons if cleaning else {})
    left_out = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in reasons.items())
    found = [
        Fact("selected", f"{stats['n_selected']:,} of {stats['n_documents']:,} documents"),
        *([Fact("removed by cleaning", f"{cleaning.whole.removed:,} documents")] if cleaning else []),
        Fact("without a score", left_out or "none"),
        Fact("rows that could not be read", f"{stats['n_bad_rows']:,}"),
        Fact("tokens", manifest["tokenizer"]),
        Fact("recipe", manifest["recipe_sha256"], code=True),
    ]
    if only_cleans(manifest["recipe"]):
        return tuple(found)
    for one in stats["diagnostics"]:
        of = f" for {one['target']}" if one["target"] else ""
        if one["effective_sample_size"] is not None:
            found.append(Fact(f"effective sample size{of}", f"{one['effective_sample_size']:,.1f} documents"))
        if one["length_correlation"] is not None:
            found.append(Fact(f"correlation of score and length{of}", f"{one['length_correlation']:+.2f}"))
        found.append(Fact(f"shared with the top-k{of}", f"{one['top_k_overlap']:.1%}"))
    if "spent" in stats:  # runs of earlier versions have none
        found.append(Fact("spent", "; ".join(spent_text(stats["spent"]))))
    return tuple(found)


def _hashes(manifest: Mapping[str, Any]) -> Iterator[FileHash]:
    for role, entries in (("input", "inputs"), ("target", "targets"), ("shard", "shards")):
        name = "path" if role == "shard" else "name"
        yield from _first(
            [FileHash(role, e.get(name, e["path"]), e["bytes"], e["sha256"], e.get("rows")) for e in manifest[entries]]
        )


def _first(files: Sequence[FileHash]) -> tuple[FileHash, ...]:
    """The first `FILES_SHOWN` files, and how many more there are."""
    shown, rest = tuple(files[:FILES_SHOWN]), files[FILES_SHOWN:]
    return (*shown, FileHash(rest[0].role, f"{len(rest):,} more", sum(f.bytes for f in rest), "")) if rest else shown


def _evidence(folder: Path, manifest: Mapping[str, Any]) -> tuple[Verdict | None, tuple[str, ...]]:
    """The verdict, unless it is of another run."""
    found = read_json(folder / EVIDENCE)
    if found is None:
        return None, ()
    if found["run"]["uuid"] != manifest["uuid"]:
        return None, (f"{EVIDENCE} is of another run than the manifest: run curate evaluate again",)
    level = found["settings"]["level"]
    verdict = Verdict(found["verdict"], found["sentence"], tuple(map(_arm, found["arms"])), level)
    return verdict, tuple(found["warnings"])


def _arm(of: Mapping[str, Any]) -> Arm:
    bits, spread, over = of["bits_per_byte"], of["deviation"], of["over_random"] or {}
    compared = (over.get(key) for key in ("difference", "low", "high"))
    return Arm(of["name"], bits, bits - spread, bits + spread, *compared)


# ---- scores and lengths, counted in one pass


@dataclass
class _Scores:
    """Fine counts of one score, to be made coarse where the documents are."""

    target: str
    unit: str
    low: float
    high: float
    counts: np.ndarray  # int64[2, FINE_BINS]: raw, selected
    least_kept: float = np.inf
    sharp: bool = False  # whether the draw has one threshold
    soft: bool = False  # whether chance moves documents over one
    threshold: float | None = None  # that was asked for

    def add(self, scores: np.ndarray, kept: np.ndarray) -> None:
        there = ~np.isnan(scores)
        width = (self.high - self.low) / FINE_BINS or 1.0
        bins = np.clip(((scores[there] - self.low) / width).astype(np.int64), 0, FINE_BINS - 1)
        self.counts[0] += np.bincount(bins, minlength=FINE_BINS)
        self.counts[1] += np.bincount(bins[kept[there]], minlength=FINE_BINS)
        if kept.any():
            self.least_kept = min(self.least_kept, float(np.nanmin(scores[kept])))

    @property
    def cut(self) -> float | None:
        """The threshold; of a soft one the score above which as many documents lie as were kept; else None."""
        if self.sharp:
            least = self.least_kept if self.threshold is None else self.threshold
            return least if np.isfinite(least) else None
        if not self.soft:
            return None
        above = np.cumsum(self.counts[0][::-1])[::-1]
        at = int(np.searchsorted(-above, -self.counts[1].sum(), "right"))
        return self.low + (self.high - self.low) * at / FINE_BINS

    def histogram(self) -> ScoreHistogram:
        """At most `BINS` bins over all but the outermost 0.2% of raw; what lies beyond is in the outermost bins."""
        ranks = np.searchsorted(np.cumsum(self.counts[0]), np.array([0.002, 0.998]) * self.counts[0].sum())
        kept = np.flatnonzero(self.counts[1])
        start = min(int(ranks[0]), int(kept[0]) if len(kept) else FINE_BINS)
        step = max(1, -(-(int(ranks[1]) + 1 - start) // BINS))
        n_bins = max(1, min(BINS, -(-(FINE_BINS - start) // step)))
        of = np.clip((np.arange(FINE_BINS) - start) // step, 0, n_bins - 1)
        raw, selected = (np.bincount(of, weights=c, minlength=n_bins).astype(int).tolist() for c in self.counts)
        width = (self.high - self.low) / FINE_BINS or 1.0
        edges = tuple(float(f"{self.low + width * (start + i * step):.6g}") for i in range(n_bins + 1))
        return ScoreHistogram(self.target, self.unit, edges, tuple(raw), tuple(selected), self.cut, self.soft)


class _Lengths:
    """A length in raw and in the selection."""

    def __init__(self, attribute: str, unit: str) -> None:
        self.attribute, self.unit = attribute, unit
        self.raw, self.selected = LengthHistogram(), LengthHistogram()

    def add(self, values: np.ndarray, kept: np.ndarray) -> None:
        self.raw.add(values)
        self.selected.add(values[kept])

    def distribution(self) -> Distribution | None:
        if not (self.raw.counts.any() and self.selected.counts.any()):
            return None
        series = (length_series("raw", self.raw), length_series("selected", self.selected))
        distance = float(np.abs(self.raw.shares - self.selected.shares).max())
        return Distribution(self.attribute, self.unit, series, ks=distance, log=True)


@dataclass
class Counted:
    """What the score table and the ledger hold."""

    scores: list[_Scores]
    lengths: list[_Lengths]


def count(folder: RunFolder) -> Counted:
    """One pass over the score table and the ledger, which have the same rows in the same order."""
    manifest = folder.manifest or {}
    separate = any(d["target"] for d in manifest["stats"]["diagnostics"])
    drawing = manifest["recipe"]["draw"]
    one_cut = not drawing["per"] and not separate
    sharp, soft = one_cut and drawing["draw"] in ("topk", "threshold"), one_cut and drawing["draw"] == "gumbel"
    asked = None if drawing["budget"] else drawing["threshold"]  # of a budget the last document kept is the cut
    scores = [
        _Scores(d["target"], "nats" if d["effective_sample_size"] is not None else "", d["score_min"] or 0.0,
                d["score_max"] or 0.0, np.zeros((2, FINE_BINS), np.int64), sharp=sharp, soft=soft, threshold=asked)
        for d in manifest["stats"]["diagnostics"]
    ]  # fmt: skip
    columns = [f"score_{s.target}" if separate else "score" for s in scores]
    lengths = [_Lengths("length", "tokens"), _Lengths("size", "bytes")]
    parts = sorted(folder.scores.glob("part-*.parquet"))
    table = regrouped(t for part in parts for t in batches(part, [*columns, "n_tokens", "n_bytes"]))
    ledger = regrouped(batches(folder.path / "ledger.parquet", ["kept", *(["target"] if separate else [])]))
    for rows, decided in zip(table, ledger, strict=True):
        kept = numpy(decided["kept"])
        for one, column in zip(scores, columns, strict=True):
            mine = kept & (numpy(decided["target"]) == one.target) if separate else kept
            one.add(numpy(rows[column]), mine)
        for of, column in zip(lengths, ("n_tokens", "n_bytes"), strict=True):
            of.add(numpy(rows[column]).astype(np.int64), kept)
    return Counted(scores, lengths)


# ---- documents to read


@dataclass(frozen=True)
class Chosen:
    """Rows of the ledger whose documents are worth reading."""

    best: list[dict[str, Any]]
    borderline: list[dict[str, Any]]
    worst: list[dict[str, Any]]

    def rows(self) -> list[dict[str, Any]]:
        return [*self.best, *self.borderline, *self.worst]


def choose(folder: RunFolder, cut: float | None) -> Chosen:
    """The best of the selection, those on both sides of the cut where there is one, and the worst of raw."""
    best, worst, inside, outside = (Few(EXAMPLES), Few(EXAMPLES), Few(EXAMPLES // 2), Few(EXAMPLES // 2))
    for rows in batches(folder.path / "ledger.parquet", ["doc_id", "path", "row", "kept", "score"]):
        scores, kept = numpy(rows["score"]), numpy(rows["kept"])
        best.add(rows, np.where(kept, -scores, np.nan))
        worst.add(rows, np.where(kept, np.nan, scores))
        if cut is not None:
            inside.add(rows, np.where(kept, np.abs(scores - cut), np.nan))
            outside.add(rows, np.where(kept, np.nan, np.abs(scores - cut)))
    between = sorted([*inside.rows, *outside.rows], key=lambda r: (-r["score"], r["doc_id"]))
    return Chosen(best.rows, between, worst.rows)


class Few:
    """The rows with the smallest keys; of equal ones those that a hash of the id puts first, whatever the order."""

    def __init__(self, n: int) -> None:
        self.n, self.rows = n, list[dict[str, Any]]()

    def add(self, rows: pa.Table, keys: np.ndarray) -> None:
        there = np.flatnonzero(keys <= (self.rows[-1]["key"] if len(self.rows) == self.n else np.inf))
        if len(there) > self.n:
            limit = np.partition(keys[there], self.n - 1)[self.n - 1]
            there = there[keys[there] <= limit]
        ties = keyed_hashes(one_chunk(rows["doc_id"].take(there)), 0, TIE)
        first = np.lexsort((ties, keys[there]))[: self.n + (len(there) - len(np.unique(ties)))]  # ids may occur twice
        there, ties = there[first], ties[first]
        found = [
            row | {"key": float(key), "tie": int(tie)}
            for row, key, tie in zip(rows.take(there).to_pylist(), keys[there], ties, strict=True)
        ]
        by = itemgetter("key", "tie", "doc_id", "path", "row")
        self.rows = sorted([*self.rows, *found], key=by)[: self.n]


def places(corpus: Corpus, rows: Iterable[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """int64[...] rows, ascending, by the number of the partition that holds them."""
    found: dict[int, np.ndarray] = {}
    of_file: dict[str, set[int]] = {}
    for row in rows:
        of_file.setdefault(row["path"], set()).add(row["row"])
    for partition in corpus.partitions:
        stop = _stop(corpus, partition)
        mine = [r for r in of_file.get(corpus.source(partition).name, ()) if partition.first_row <= r < stop]
        if mine:
            found[partition.index] = np.array(sorted(mine), np.int64)
    return found


def _stop(corpus: Corpus, partition: Partition) -> int:
    """The row that the next partition of the same file begins with."""
    following = corpus.partitions[partition.index + 1 : partition.index + 2]
    return following[0].first_row if following and following[0].file == partition.file else 1 << 62


def texts_at(corpus: Corpus, raw: Survey | None) -> Texts:
    """Texts and sources of the documents that the survey of raw was asked for, by the name of their file and row."""
    if raw is None:
        return {}
    return {
        (corpus.source(corpus.partitions[index]).name, row): (text, raw.found_sources.get((index, row), ""))
        for (index, row), text in raw.found.items()
    }


def with_documents(summary: Summary, chosen: Chosen, texts: Texts) -> Summary:
    """A summary with the texts of chosen documents, as far as they are there."""

    def shown(rows: Iterable[dict[str, Any]]) -> tuple[Example, ...]:
        known = (row if summary.scores else row | {"score": None} for row in rows)
        return tuple(
            _example(row, *texts[row["path"], row["row"]]) for row in known if (row["path"], row["row"]) in texts
        )

    missing = len({(r["path"], r["row"]) for r in chosen.rows()} - texts.keys())
    note = f"{missing:,} documents are not shown: the raw files are gone or changed." if missing else ""
    documents = Examples(shown(chosen.best), shown(chosen.borderline), shown(chosen.worst), note)
    return replace(summary, documents=documents)


def _example(row: Mapping[str, Any], text: str, source: str) -> Example:
    start, n_cut = excerpt(text)
    return Example(row["doc_id"], source, row["score"], len(text.encode("utf-8", "surrogatepass")), start, n_cut)
