"""What a selection will take, estimated from a sample: time, memory and disk of each step."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from curate.engines import LocalEngine
from curate.engines.allocator import BASE_BYTES
from curate.engines.resources import Resources
from curate.features.domains import Domains
from curate.io.corpus import Corpus, scan
from curate.io.paths import folder_path, free_disk, is_remote
from curate.io.targets import Paths, Targets, listed_paths, named_targets
from curate.report.terminal import size, table
from curate.sampling.budget import parse_budget, parse_bytes
from curate.scorers import Dsir, Fusion, Leverage, Scorer, scorer
from curate.selection.asked import check_draw, check_target, draw_spec, vector_column
from curate.selection.session import estimated_spill
from curate.steps.clean import Asking, CleanSpec, Looking
from curate.steps.cover import CANDIDATES, SLICE_BYTES
from curate.steps.documents import Documents, documents, raw_batches
from curate.steps.holdout import checked_fraction, target_texts

SAMPLED_PARTITIONS, SAMPLED_BATCHES = 4, 2
SCORED_SECONDS = 0.5
COVERED_PER_SECOND = 8e6  # bytes of candidates a core: found and matched, and gone through in rounds
ESTIMATED_BY = (
    "target",
    "out",
    "method",
    "settings",
    "budget",
    "draw",
    "threshold",
    "per",
    "domains",
    "weights",
    "text_column",
    "id_column",
    "target_text_column",
    "holdout",
    "filters",
    "dedup",
    "decontaminate",
    "on_bad_row",
    "workers",
    "memory_limit",
)  # the arguments of `select` that `estimate` takes


@dataclass(frozen=True)
class Step:
    """One step: seconds, bytes of memory at its peak, bytes on disk while it runs."""

    name: str
    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Plan:
    """The plan of a run, and what it is estimated to take."""

    n_files: int
    n_partitions: int
    n_bytes: int
    n_text_bytes: int
    n_documents: int
    workers: int
    steps: tuple[Step, ...]
    free_disk: int

    def as_text(self) -> str:
        """The plan as a table."""
        rows = [("step", "seconds", "memory", "disk")]
        rows += [(s.name, f"{s.seconds:,.1f}", size(s.memory), size(s.disk)) for s in self.steps]
        total = sum(s.seconds for s in self.steps)
        rows.append(
            ("all", f"{total:,.1f}", size(max(s.memory for s in self.steps)), size(max(s.disk for s in self.steps)))
        )
        return "\n".join(
            [
                f"{self.n_files} files, {size(self.n_bytes)} on disk, about {size(self.n_text_bytes)} of text in "
                f"{self.n_documents:,} documents; {self.n_partitions} partitions, {self.workers} workers",
                "",
                table(rows, " rrr"),
                "",
                f"free disk {size(self.free_disk)}. Estimated from a sample; nothing was written.",
            ]
        )


def estimate(
    raw: Paths,
    *,
    target: Targets | None,
    out: str | os.PathLike[str],
    method: str = "dsir",
    settings: Mapping[str, Any] | None = None,
    budget: str | None = "10%",
    draw: str | None = None,
    threshold: float | None = None,
    per: str | None = None,
    domains: str | None = None,
    weights: Mapping[str, Any] | None = None,
    text_column: str = "text",
    id_column: str = "id",
    target_text_column: str | None = None,
    holdout: float | None = None,
    filters: Asking = None,
    dedup: Asking = None,
    decontaminate: Asking = None,
    on_bad_row: str = "raise",
    workers: int | None = None,
    memory_limit: str | int = "2GB",
) -> Plan:
    """Scan, read and tokenise a little, and multiply.

    Raises
    ------
    CurateError : as a real run would, for what it comes across.
    """
    model = scorer(method, **dict(settings or {}))
    named = named_targets(target)
    check_target(named, model, checked_fraction(holdout))
    spec = draw_spec(model, budget, draw, 0, threshold, per, None, weights)
    check_draw(spec, named, model)
    cleaning = CleanSpec.of(filters, dedup, decontaminate)
    if domains is not None:
        Domains.load(domains)
    covering = spec.draw == "cover"
    with LocalEngine(workers) as engine:
        start = time.perf_counter()
        corpus = scan(
            listed_paths(raw), text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map
        )
        targets = {name: scan(paths, text_column=target_text_column or text_column) for name, paths in named.items()}
        scan_seconds = time.perf_counter() - start
        limit = parse_bytes(memory_limit)
        batch_bytes = Resources(workers, limit).batch_bytes(engine)
        found, seen, reading = _sample(corpus, batch_bytes, vector_column(model), cleaning.columns)
        fitting, scoring = _fit_and_score(model, targets, holdout, found, batch_bytes, engine.workers)
        share = seen["disk"] / max(1, sum(p.n_bytes for p in corpus.partitions))
        text = int(seen["text"] / share) if share else 0
        n_documents = int(seen["documents"] / share) if share else 0
        fraction = _share_looked_at(model, text)
        read_all, score_all = (s / share / engine.workers if share else 0.0 for s in (reading, scoring))
        kept = _kept_bytes(budget, text, n_documents)
        memory = min(limit, BASE_BYTES + engine.in_flight * batch_bytes * 6)
        disk = n_documents * 30
        candidates = min(text, CANDIDATES * kept) if covering else 0
        covered = read_all + candidates / COVERED_PER_SECOND / engine.workers if covering else 0.0
        spill = estimated_spill(text, model.features) if isinstance(model, Dsir) and fraction == 1.0 else 0
        steps = (
            Step("scan", scan_seconds, BASE_BYTES, 0),
            *_cleaning(cleaning, found, share, read_all, n_documents, memory, engine.workers),
            Step("fit", read_all + score_all * fraction + fitting, memory, spill),
            Step("score", read_all + score_all, memory, disk),
            *_fusing(model, n_documents, min(limit, BASE_BYTES), disk),
            Step(
                "draw",
                0.2 + n_documents * 6e-7 + covered,
                BASE_BYTES + min(n_documents, 2_000_000) * 100 + 9 * min(candidates, SLICE_BYTES),
                disk + candidates,
            ),
            Step("keep", read_all + kept / 1e9, memory, disk + kept),
            Step("write", 0.2 + kept / 150e6 / engine.workers + n_documents * 5e-7, memory, disk + kept + kept // 2),
        )
        where = folder_path(out)  # what is uploaded to a URL waits in a temporary folder
        free = free_disk(Path(tempfile.gettempdir()) if is_remote(where) else where)
        return Plan(
            len(corpus.files), len(corpus.partitions), corpus.n_bytes, text, n_documents, engine.workers,
            tuple(Step(s.name, round(s.seconds, 2), s.memory, s.disk) for s in steps), free,
        )  # fmt: skip


def _sample(
    corpus: Corpus, batch_bytes: int, vectors: str | None, typed: tuple[str, ...]
) -> tuple[list[Documents], dict[str, float], float]:
    """The first documents of a few partitions, how much of the corpus they are, and the seconds to read them."""
    seen = {"disk": 0.0, "text": 0.0, "documents": 0.0}
    found: list[Documents] = []
    reading = 0.0
    columns = (*((vectors,) if vectors else ()), *typed)
    step = max(1, len(corpus.partitions) // SAMPLED_PARTITIONS)
    for partition in corpus.partitions[::step][:SAMPLED_PARTITIONS]:
        start = time.perf_counter()
        here = [
            documents(corpus, partition, raw, (), vectors, typed)
            for raw in islice(raw_batches(corpus, partition, columns, batch_bytes), SAMPLED_BATCHES)
        ]
        reading += time.perf_counter() - start
        text = sum(int(d.n_bytes.sum()) for d in here)
        n = sum(len(d) for d in here)
        seen["text"] += text
        seen["documents"] += n
        seen["disk"] += _share_of(partition, n, text, corpus) * partition.n_bytes
        found += here
    return found, seen, reading


def _fit_and_score(
    model: Scorer | Fusion,
    targets: Mapping[str, Corpus],
    holdout: float | None,
    found: list[Documents],
    batch_bytes: int,
    workers: int,
) -> tuple[float, float]:
    """Seconds to fit to the target and to some documents, and to score these on one core.

    Only as many are scored as half a second allows, since a method may take a second for one.
    """
    start = time.perf_counter()
    for member in model.members.values():
        texts = {name: target_texts(corpus, batch_bytes, holdout) for name, corpus in targets.items()}
        member.fit(target=texts, raw=(_looked_at(docs, member) for docs in found), workers=workers)
    fitting = time.perf_counter() - start
    total = sum(int(docs.n_bytes.sum()) for docs in found)
    scored, used, count = 0, 0.0, 1
    for docs in found:
        at = 0
        while at < len(docs) and used < SCORED_SECONDS:
            some = docs.texts.slice(at, count)
            vectors = None if docs.vectors is None else docs.vectors[at : at + count]
            start = time.perf_counter()
            model.score_documents(some, vectors)
            used = time.perf_counter() - start + (used if count > 1 else 0.0)  # the first one warms up
            scored += int(docs.n_bytes[at : at + count].sum())
            at, count = at + count, count * 2
    return fitting, used * total / max(1, scored)


def _cleaning(
    spec: CleanSpec, found: list[Documents], share: float, reading: float, n_documents: int, memory: int, workers: int
) -> list[Step]:
    """The step before the fit, where there is one; of what a dedup joins, 600 bytes a document are on disk."""
    if not spec:
        return []
    looking = Looking.of(spec)
    used = 0.0
    for docs in found:
        start = time.perf_counter()
        looking.at(docs)
        used += time.perf_counter() - start
    again = reading if spec.dedup else 0.0
    seconds = reading + again + (used / share / workers if share else 0.0) + n_documents * 3e-5 * bool(spec.dedup)
    return [Step("clean", seconds, memory, n_documents * 600 * bool(spec.dedup))]


def _looked_at(docs: Documents, model: Scorer) -> Any:
    """What a scorer is fitted to: texts, and vectors where it goes by these."""
    return (docs.texts, docs.vectors) if model.vector_column else docs.texts


def _share_looked_at(model: Scorer | Fusion, text: int) -> float:
    """What part of raw the fit works on as much as scoring does."""
    if isinstance(model, Leverage) and model.kernel == "linear":
        return 1.0
    return min(1.0, model.raw_sample.quota * 2.5 / max(1, text)) if isinstance(model, Dsir) else 0.0


def _fusing(model: Scorer | Fusion, n_documents: int, memory: int, disk: int) -> list[Step]:
    """The sorts of a fusion: one for each scorer and one back, of a hundred bytes a document, twice on disk."""
    if not isinstance(model, Fusion):
        return []
    sorts = len(model.members) + 1
    return [Step("fuse", 0.2 + n_documents * sorts * 1e-6, memory, 2 * disk + n_documents * 200)]


def _share_of(partition: Any, n: int, text: int, corpus: Corpus) -> float:
    """What part of a partition some documents are; compressed text is taken to be a quarter of its size."""
    if partition.n_rows:
        return float(n / partition.n_rows)
    factor = 4 if corpus.source(partition).compression else 1
    return min(1.0, text / max(1, partition.n_bytes * factor))


def _kept_bytes(budget: str | None, text: int, n_documents: int) -> int:
    if budget is None or not n_documents:
        return text
    parsed = parse_budget(budget)
    per_unit = {"bytes": 1.0, "tokens": 5.0, "percent": text / 100}.get(parsed.unit, text / n_documents)
    return int(min(text, parsed.amount * per_unit))
