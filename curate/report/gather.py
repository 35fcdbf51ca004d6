"""Fill a report's summary from the folder of a run, or from the files of a corpus."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.engines import LocalEngine
from curate.errors import CurateError, RunError
from curate.io.corpus import Corpus, Partition
from curate.io.formats import Lines
from curate.io.run import EVIDENCE, RunFolder, read_json
from curate.io.tables import batches, numpy, regrouped
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
    Series,
    Share,
    Summary,
    Verdict,
)
from curate.report.surveyed import unchanged
from curate.report.terminal import size
from curate.sampling.budget import Budget
from curate.steps.documents import documents, raw_batches

SOURCES_SHOWN, FILES_SHOWN, EXAMPLES = 20, 200, 4
POINTS, BINS, FINE_BINS = 200, 50, 20_000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_EXACT = 4_096  # lengths below it are counted one by one, beyond it in bins 0.5% wide


def selection_summary(run: str | os.PathLike[str], engine: LocalEngine) -> Summary:
    """What is known of a finished run: its manifest, ledger and score table, and its evidence when there is some.

    Raises
    ------
    RunError : the folder holds no finished run.
    """
    folder = RunFolder(run)
    manifest = folder.manifest
    if manifest is None:
        raise RunError(f"{run}: no manifest.json, hence no finished run; run curate select to make one")
    stats = manifest["stats"]
    verdict, stale = _evidence(folder.path, manifest)
    counted = _count(folder, manifest)
    return Summary(
        title=manifest["name"],
        kind="selection",
        asked=_asked(manifest),
        done=_done(manifest),
        amounts=(
            Amount("raw", stats["n_documents"], stats["n_bytes"], stats["n_tokens"]),
            Amount("selected", stats["n_selected"], stats["n_bytes_selected"], stats["n_tokens_selected"]),
        ),
        verdict=verdict,
        verdict_hint="" if verdict else "curate evaluate OUT --heldout HELDOUT",
        sources=_sources(stats["diagnostics"][0]),
        scores=tuple(h.histogram() for h in counted.scores),
        distributions=tuple(d for d in (lengths.distribution() for lengths in counted.lengths) if d is not None),
        documents=_examples(folder, manifest, counted.scores[0].cut, engine),
        warnings=(*stats["warnings"], *stale),
        command=manifest["command"],
        versions=(Fact("curate", manifest["tool_version"]), Fact("made", manifest["creation_date"])),
        hashes=tuple(_hashes(manifest)),
        sampling="Counts, sources, scores and lengths are of all documents, none of them estimated.",
    )


def corpus_summary(corpus: Corpus, columns: Sequence[str]) -> Summary:
    """What the files of a corpus say of themselves."""
    rows = [sum(n for n, _ in f.units) if f.units else None for f in corpus.files]
    passed = [f"{len(corpus.passed_over):,} files were passed over, their names end in nothing known"]
    return Summary(
        title=os.path.basename(os.path.dirname(corpus.files[0].source.path)) or "corpus",
        kind="corpus",
        done=(
            Fact("files", f"{len(corpus.files):,}"),
            Fact("size on disk", size(corpus.n_bytes)),
            Fact("columns", ", ".join(columns)),
        ),
        warnings=tuple(passed) if corpus.passed_over else (),
        versions=(Fact("curate", importlib.metadata.version("curate-data")),),
        hashes=tuple(
            FileHash("input", f.source.name, f.bytes, f.sha256, n)
            for f, n in list(zip(corpus.files, rows, strict=True))[:FILES_SHOWN]
        ),
    )


# ---- the manifest and the evidence


def _asked(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    recipe, drawing = manifest["recipe"], manifest["recipe"]["draw"]
    budget = str(Budget(**drawing["budget"])) if drawing["budget"] else f"scores from {drawing['threshold']}"
    found = [
        Fact("raw", ", ".join(recipe["raw"]), code=True),
        Fact("target", ", ".join(dict.fromkeys(t["name"] for t in manifest["targets"]))),
        Fact("method", recipe["method"]),
        Fact("budget", budget),
        Fact(
            "draw", f"{drawing['draw']}, seed {manifest['seed']}" + (f", per {drawing['per']}" * bool(drawing["per"]))
        ),
    ]
    return tuple(found)


def _done(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    stats = manifest["stats"]
    left_out = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in stats["reasons"].items())
    found = [
        Fact("selected", f"{stats['n_selected']:,} of {stats['n_documents']:,} documents"),
        Fact("without a score", left_out or "none"),
        Fact("rows that could not be read", f"{stats['n_bad_rows']:,}"),
        Fact("tokens", manifest["tokenizer"]),
        Fact("recipe", manifest["recipe_sha256"], code=True),
    ]
    for one in stats["diagnostics"]:
        of = f" for {one['target']}" if one["target"] else ""
        if one["effective_sample_size"] is not None:
            found.append(Fact(f"effective sample size{of}", f"{one['effective_sample_size']:,.1f} documents"))
        if one["length_correlation"] is not None:
            found.append(Fact(f"correlation of score and length{of}", f"{one['length_correlation']:+.2f}"))
        found.append(Fact(f"shared with the top-k{of}", f"{one['top_k_overlap']:.1%}"))
    return tuple(found)


def _hashes(manifest: Mapping[str, Any]) -> Iterator[FileHash]:
    for role, entries in (("input", "inputs"), ("target", "targets"), ("shard", "shards")):
        for entry in manifest[entries][:FILES_SHOWN]:
            name = entry["path"] if role == "shard" else entry.get("name", entry["path"])
            yield FileHash(role, name, entry["bytes"], entry["sha256"], entry.get("rows"))


def _evidence(folder: Path, manifest: Mapping[str, Any]) -> tuple[Verdict | None, tuple[str, ...]]:
    """The verdict, unless it is of another run."""
    found = read_json(folder / EVIDENCE)
    if found is None:
        return None, ()
    if found["run"]["uuid"] != manifest["uuid"]:
        return None, (f"{EVIDENCE} is of another run than the manifest: run curate evaluate again",)
    return Verdict(found["verdict"], found["sentence"], tuple(map(_arm, found["arms"]))), tuple(found["warnings"])


def _arm(of: Mapping[str, Any]) -> Arm:
    bits, spread, over = of["bits_per_byte"], of["deviation"], of["over_random"] or {}
    compared = (over.get(key) for key in ("difference", "low", "high"))
    return Arm(of["name"], bits, bits - spread, bits + spread, *compared)


def _sources(of: Mapping[str, Any]) -> tuple[Share, ...]:
    """The largest sources of the selection and of raw, and the rest in one."""
    raw, selected = of["sources_raw"], of["sources_selected"]
    names = list(dict.fromkeys([*selected, *raw]))
    shown, rest = names[:SOURCES_SHOWN], names[SOURCES_SHOWN:]
    found = [Share(n, raw=raw.get(n, 0.0), selected=selected.get(n, 0.0)) for n in shown]
    if rest:
        others = (sum(of.get(n, 0.0) for n in rest) for of in (raw, selected))
        found.append(Share(f"{len(rest):,} others", raw=next(others), selected=next(others)))
    return tuple(found)


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

    def add(self, scores: np.ndarray, kept: np.ndarray) -> None:
        there = ~np.isnan(scores)
        width = (self.high - self.low) / FINE_BINS or 1.0
        bins = np.clip(((scores[there] - self.low) / width).astype(np.int64), 0, FINE_BINS - 1)
        self.counts[0] += np.bincount(bins, minlength=FINE_BINS)
        self.counts[1] += np.bincount(bins[kept[there]], minlength=FINE_BINS)
        if kept.any():
            self.least_kept = min(self.least_kept, float(np.nanmin(scores[kept])))

    @property
    def cut(self) -> float:
        """The threshold; of a draw that has none, the score above which as many documents are as were kept."""
        if self.sharp:
            return self.least_kept
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
        return ScoreHistogram(self.target, self.unit, edges, tuple(raw), tuple(selected), self.cut)


class _Lengths:
    """Counts of a length in raw and in the selection."""

    def __init__(self, attribute: str, unit: str) -> None:
        self.attribute, self.unit = attribute, unit
        self.counts = np.zeros((2, _EXACT + 6_000), np.int64)

    def add(self, values: np.ndarray, kept: np.ndarray) -> None:
        beyond = _EXACT + (np.log(np.maximum(values, _EXACT) / _EXACT) / np.log(1.005)).astype(np.int64)
        bins = np.minimum(np.where(values < _EXACT, values, beyond), self.counts.shape[1] - 1)
        self.counts[0] += np.bincount(bins, minlength=self.counts.shape[1])
        self.counts[1] += np.bincount(bins[kept], minlength=self.counts.shape[1])

    def distribution(self) -> Distribution | None:
        totals = self.counts.sum(axis=1, keepdims=True)
        if not totals.all():
            return None
        functions = np.cumsum(self.counts, axis=1) / totals
        bins = np.arange(self.counts.shape[1])
        values = np.where(bins < _EXACT, bins, np.round(_EXACT * 1.005 ** (bins - _EXACT)))
        series = tuple(_series(name, values, f) for name, f in zip(("raw", "selected"), functions, strict=True))
        distance = float(np.abs(functions[0] - functions[1]).max())
        return Distribution(self.attribute, self.unit, series, ks=distance, log=True)


def _series(name: str, values: np.ndarray, function: np.ndarray) -> Series:
    """At most `POINTS` points of a distribution function, at equal steps of its share."""
    at = np.unique(np.minimum(np.searchsorted(function, np.linspace(0, 1, POINTS)), len(values) - 1))
    ranks = np.searchsorted(function, QUANTILES)
    quantiles = {f"{100 * q:g}%": float(values[r]) for q, r in zip(QUANTILES, ranks, strict=True)}
    return Series(name, tuple(values[at].tolist()), tuple(np.round(function[at], 4).tolist()), quantiles)


@dataclass
class _Counted:
    scores: list[_Scores]
    lengths: list[_Lengths]


def _count(folder: RunFolder, manifest: Mapping[str, Any]) -> _Counted:
    """One pass over the score table and the ledger, which have the same rows in the same order."""
    separate = any(d["target"] for d in manifest["stats"]["diagnostics"])
    drawing = manifest["recipe"]["draw"]
    sharp = drawing["draw"] in ("topk", "threshold") and not drawing["per"] and not separate
    scores = [
        _Scores(d["target"], "nats" if d["effective_sample_size"] is not None else "", d["score_min"] or 0.0,
                d["score_max"] or 0.0, np.zeros((2, FINE_BINS), np.int64), sharp=sharp)
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
    return _Counted(scores, lengths)


# ---- documents to read


def _examples(folder: RunFolder, manifest: Mapping[str, Any], cut: float, engine: LocalEngine) -> Examples:
    """The best of the selection, those on both sides of the cut, and the worst of raw, with their texts."""
    best, worst, inside, outside = (_Few(EXAMPLES), _Few(EXAMPLES), _Few(EXAMPLES // 2), _Few(EXAMPLES // 2))
    for rows in batches(folder.path / "ledger.parquet", ["doc_id", "path", "row", "kept", "score"]):
        scores, kept = numpy(rows["score"]), numpy(rows["kept"])
        best.add(rows, np.where(kept, -scores, np.nan))
        worst.add(rows, np.where(kept, np.nan, scores))
        inside.add(rows, np.where(kept, np.abs(scores - cut), np.nan))
        outside.add(rows, np.where(kept, np.nan, np.abs(scores - cut)))
    between = sorted([*inside.rows, *outside.rows], key=lambda r: (-r["score"], r["doc_id"]))
    wanted = {(r["path"], r["row"]) for r in [*best.rows, *between, *worst.rows]}
    corpus = Corpus.from_dict((folder.scored or {})["corpus"])
    texts, note = texts_of(corpus, wanted, engine)

    def shown(rows: Iterable[Mapping[str, Any]]) -> tuple[Example, ...]:
        return tuple(
            _example(row, *texts[row["path"], row["row"]]) for row in rows if (row["path"], row["row"]) in texts
        )

    return Examples(shown(best.rows), shown(between), shown(worst.rows), note)


class _Few:
    """The rows with the smallest keys; of equal ones those with the smaller id."""

    def __init__(self, n: int) -> None:
        self.n, self.rows = n, list[dict[str, Any]]()

    def add(self, rows: pa.Table, keys: np.ndarray) -> None:
        there = np.flatnonzero(~np.isnan(keys))
        if len(there) > self.n:
            limit = np.partition(keys[there], self.n - 1)[self.n - 1]
            there = there[keys[there] <= limit][:10_000]  # of a million equal ones the first will do
        found = [r | {"key": float(k)} for r, k in zip(rows.take(there).to_pylist(), keys[there], strict=True)]
        self.rows = sorted([*self.rows, *found], key=lambda r: (r["key"], r["doc_id"]))[: self.n]


def _example(row: Mapping[str, Any], text: str, source: str) -> Example:
    start, n_cut = excerpt(text)
    return Example(row["doc_id"], source, row["score"], len(text.encode("utf-8", "surrogatepass")), start, n_cut)


def texts_of(
    corpus: Corpus, wanted: set[tuple[str, int]], engine: LocalEngine
) -> tuple[dict[tuple[str, int], tuple[str, str]], str]:
    """Texts and sources of single documents by (name of the file, row), and a note about those that are gone.

    Reads of Parquet the row groups that hold them, of other formats the partitions.
    """
    tasks: list[tuple[Partition, frozenset[int]]] = []
    for partition in corpus.partitions:
        name, stop = corpus.source(partition).name, _stop(corpus, partition)
        rows = frozenset(r for n, r in wanted if n == name and partition.first_row <= r < stop)
        if rows:
            tasks += _narrowed(corpus, partition, rows)
    found: dict[tuple[str, int], tuple[str, str]] = {}
    for some in engine.map(lambda task: _read(corpus, *task), tasks):
        found |= some
    missing = len(wanted - found.keys())
    return found, f"{missing:,} documents are not shown: the raw files are gone or changed." if missing else ""


def _stop(corpus: Corpus, partition: Partition) -> int:
    """The row that the next partition of the same file begins with."""
    following = corpus.partitions[partition.index + 1 : partition.index + 2]
    return following[0].first_row if following and following[0].file == partition.file else 1 << 62


def _narrowed(corpus: Corpus, partition: Partition, rows: frozenset[int]) -> Iterator[tuple[Partition, frozenset[int]]]:
    """The row groups of a partition that hold rows; other formats have none."""
    units = corpus.files[partition.file].units
    if not units:
        yield partition, rows
        return
    first = partition.first_row
    for unit in range(partition.start, partition.stop):
        n, n_bytes = units[unit]
        mine = frozenset(r for r in rows if first <= r < first + n)
        if mine:
            yield replace(partition, start=unit, stop=unit + 1, first_row=first, n_rows=n, n_bytes=n_bytes), mine
        first += n


def _read(corpus: Corpus, partition: Partition, rows: frozenset[int]) -> dict[tuple[str, int], tuple[str, str]]:
    name, found = corpus.source(partition).name, {}
    if not unchanged(corpus.files[partition.file]):
        return {}
    try:
        for raw in raw_batches(corpus, partition, ("source",), 8_000_000):
            for block in _lines(raw, rows) if isinstance(raw, Lines) else [raw]:
                docs = documents(corpus, partition, block, ("source",))
                for i in np.flatnonzero(np.isin(docs.rows, list(rows))):
                    found[name, int(docs.rows[i])] = (docs.texts[i].as_py(), docs.carried["source"][i].as_py() or "")
            if len(found) == len(rows):
                break
    except (CurateError, OSError):
        return {}  # what changed since is told by the number of those that are missing
    return found


def _lines(raw: Lines, rows: frozenset[int]) -> Iterator[Lines]:
    """The lines that are wanted, each alone, so that no other is parsed."""
    starts = raw.line_starts()
    for row in sorted(rows):
        at = row - raw.first_row
        if 0 <= at < len(starts) - 1:
            yield replace(raw, data=raw.data[starts[at] : starts[at + 1]], first_row=row, bad=[])
