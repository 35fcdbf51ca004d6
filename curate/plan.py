"""What a selection will take, estimated from a sample: time, memory and disk of each step."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from curate.engines import LocalEngine
from curate.io.corpus import Corpus, scan
from curate.report.terminal import size, table
from curate.sampling.budget import parse_budget
from curate.scorers import scorer
from curate.selection import BASE_BYTES, Paths, Resources, Targets, listed_paths, named_targets, parse_bytes
from curate.steps.documents import documents, raw_batches

SAMPLED_PARTITIONS, SAMPLED_BATCHES = 4, 2
ESTIMATED_BY = (
    "target",
    "out",
    "method",
    "settings",
    "budget",
    "text_column",
    "id_column",
    "target_text_column",
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
    target: Targets,
    out: str | os.PathLike[str],
    method: str = "dsir",
    settings: Mapping[str, Any] | None = None,
    budget: str | None = "10%",
    text_column: str = "text",
    id_column: str = "id",
    target_text_column: str | None = None,
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
    with LocalEngine(workers) as engine:
        start = time.perf_counter()
        corpus = scan(
            listed_paths(raw), text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map
        )
        for paths in named_targets(target).values():
            scan(paths, text_column=target_text_column or text_column)
        scan_seconds = time.perf_counter() - start
        limit = parse_bytes(memory_limit)
        batch_bytes = Resources(workers, limit).batch_bytes(engine)
        model.features.stream(["warm up"])
        seen, reading, hashing = _sample(corpus, model, batch_bytes)
        share = seen["disk"] / max(1, sum(p.n_bytes for p in corpus.partitions))
        text = int(seen["text"] / share) if share else 0
        n_documents = int(seen["documents"] / share) if share else 0
        fraction = min(1.0, model.fit_quota * 2.5 / max(1, text))
        read_all, hash_all = (s / share / engine.workers if share else 0.0 for s in (reading, hashing))
        kept = _kept_bytes(budget, text, n_documents)
        memory = min(limit, BASE_BYTES + engine.in_flight * batch_bytes * 6)
        disk = n_documents * 30
        spill = int(text * 0.22 * model.features.n * model.features.bucket_bytes) if fraction == 1.0 else 0
        steps = (
            Step("scan", scan_seconds, BASE_BYTES, 0),
            Step("fit", read_all + hash_all * fraction + 0.5, memory, spill),
            Step("score", read_all + hash_all, memory, disk),
            Step("draw", 0.2 + n_documents * 6e-7, BASE_BYTES + min(n_documents, 2_000_000) * 100, disk),
            Step("keep", read_all + kept / 1e9, memory, disk + kept),
            Step("write", 0.2 + kept / 150e6 / engine.workers + n_documents * 5e-7, memory, disk + kept + kept // 2),
        )
        parent = next(p for p in [Path(out), *Path(out).absolute().parents] if p.exists())
        return Plan(
            len(corpus.files), len(corpus.partitions), corpus.n_bytes, text, n_documents, engine.workers,
            tuple(Step(s.name, round(s.seconds, 2), s.memory, s.disk) for s in steps), shutil.disk_usage(parent).free,
        )  # fmt: skip


def _sample(corpus: Corpus, model: Any, batch_bytes: int) -> tuple[dict[str, float], float, float]:
    """Text and documents in the first batches of a few partitions, and seconds to read and to tokenise them."""
    seen = {"disk": 0.0, "text": 0.0, "documents": 0.0}
    reading = hashing = 0.0
    step = max(1, len(corpus.partitions) // SAMPLED_PARTITIONS)
    for partition in corpus.partitions[::step][:SAMPLED_PARTITIONS]:
        start = time.perf_counter()
        found = [
            documents(corpus, partition, raw, ())
            for raw in islice(raw_batches(corpus, partition, (), batch_bytes), SAMPLED_BATCHES)
        ]
        middle = time.perf_counter()
        for docs in found:
            model.features.stream(docs.texts)
        hashing += time.perf_counter() - middle
        reading += middle - start
        text = sum(int(d.n_bytes.sum()) for d in found)
        n = sum(len(d) for d in found)
        seen["text"] += text
        seen["documents"] += n
        seen["disk"] += _share_of(partition, n, text, corpus) * partition.n_bytes
    return seen, reading, hashing


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
