"""What the driver of a cluster run takes when there are a million partitions: its memory, and seconds of its own.

    python tests/benchmarks/scaling.py --json tests/benchmarks/results/scaling.json

The steps of a selection are gone through with an engine that answers at once, with summaries such as partitions of
a real run give; so what is measured is all that the driver does itself. A real Ray, on this machine, says how many
tasks a second it takes. From both, and from what a core was measured to read and score, follows what 100 TB on 1,000
nodes take.
"""

from __future__ import annotations

import argparse
import gc
import json
import pickle
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

TEXT_OF_PARTITION = 64e6  # bytes; of a document 4 kB
DOCUMENTS = 16_000  # of a partition
FILES_OF = 10  # partitions a file
CORES, NODES, TEXT = 32, 1_000, 100e12
SCORED_PER_CORE, READ_PER_CORE = 110e6, 250e6  # bytes of text a second, start to end, see results/speed.json
ROWS_PER_S = 3e6  # of a ledger that one process writes


class Instant:
    """An engine that has every result at once, unpickled, as from elsewhere."""

    workers, shares_memory = 2, False

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        from curate.engines import LocalEngine

        self.answer, self.here = answer, LocalEngine(1)
        self.task_bytes: list[int] = []

    def each(self, work: Any, items: Any, *, alone: Any = None) -> Iterator[tuple[Any, Any]]:
        for i, item in enumerate(items):
            if alone is not None and i % 10_000 == 0:
                from ray import cloudpickle

                self.task_bytes.append(len(cloudpickle.dumps(alone(item))))
            yield item, pickle.loads(self.answer(item))

    def ordered(self, work: Any, items: Any) -> Iterator[Any]:
        for item in items:
            yield pickle.loads(self.answer(item))


def synthetic(n: int) -> Any:
    """A corpus of so many partitions of Parquet files."""
    from curate.io.corpus import Corpus, InputFile, Partition
    from curate.io.paths import Source

    files, partitions = [], []
    for f in range(-(-n // FILES_OF)):
        name = f"crawl-2026-{f % 50:02d}/part-{f:07d}.parquet"
        units = tuple((DOCUMENTS, int(TEXT_OF_PARTITION)) for _ in range(FILES_OF))
        source = Source(f"s3://corpora/raw/{name}", name, "parquet", None)
        files.append(InputFile(source, 250_000_000 + f, f"{random.getrandbits(256):064x}", units=units))
        for i in range(FILES_OF):
            first = i * DOCUMENTS
            partitions.append(Partition(len(partitions), f, i, i + 1, first, DOCUMENTS, int(TEXT_OF_PARTITION)))
    return Corpus(tuple(files), tuple(partitions[:n]))


class Meter:
    """Seconds, and resident memory at the end and beyond the start, of each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self._process = psutil.Process()

    def __call__(self, name: str, work: Callable[[], Any], n: int) -> Any:
        gc.collect()
        before, start = self._process.memory_info().rss, time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        gc.collect()
        after = self._process.memory_info().rss
        step = {"step": name, "seconds": round(seconds, 1), "rss_mb": after // 10**6,
                "bytes_a_partition": round((after - before) / n)}  # fmt: skip
        self.steps.append(step)
        print(json.dumps(step), flush=True)
        return result


def summaries() -> tuple[bytes, bytes, bytes]:
    """What a fit, statistics and the keeping of a partition answer."""
    from curate.metrics.weights import ScoreMoments
    from curate.steps.scoretable import Statistics

    rng = np.random.default_rng(0)
    by_level = [int(x) for x in 12_000_000 * 0.5 ** np.arange(1, 25)]
    wanted = {"dsir": {"lowest": 19, "n_ngrams_by_level": by_level}}
    fit = {"key": "0" * 64, "wanted": wanted, "n_documents": DOCUMENTS, "n_bytes": int(TEXT_OF_PARTITION), "bad": []}
    lengths = rng.lognormal(6.4, 1.1, DOCUMENTS).astype(np.int64)
    sources = {f"source-{i}": {"documents": 700, "bytes": 2_800_000, "tokens": 560_000} for i in range(24)}
    found = Statistics([ScoreMoments.of(rng.normal(-100, 80, DOCUMENTS), lengths)], n_documents=DOCUMENTS)
    found.lengths.add(lengths)
    found.sources, found.reasons = sources, {"too_short": 30}
    keep = {"key": "0" * 64, "n_documents": DOCUMENTS // 10, "n_bytes": 6_400_000, "n_tokens": 1_300_000,
            "sources": dict(list(sources.items())[:12]), "kind": "arrow"}  # fmt: skip
    return pickle.dumps(fit), pickle.dumps(found), pickle.dumps(keep)


def driver(n: int, folder: Path, meter: Meter) -> dict[str, Any]:
    """The steps of a selection by DSIR over ``n`` partitions, as far as they are the driver's."""
    from curate.engines.resources import Resources
    from curate.io.run import RunFolder, write_json
    from curate.progress import Progress
    from curate.sampling.cut import find_cuts
    from curate.scorers import Dsir
    from curate.selection.asked import ScoringSpec
    from curate.selection.scored import scoring_key
    from curate.selection.session import Session
    from curate.steps.fit import Reading, fit_job, fit_partition
    from curate.steps.scoretable import Parts, ScoreTable, statistics

    fit_answer, statistics_answer, keep_answer = summaries()
    corpus = meter("corpus: files and partitions", lambda: synthetic(n), n)
    job = ScoringSpec(["s3://corpora/raw"], {"t": ["t.jsonl"]}, "dsir", {}, "text", "id", None, "raise", None)
    model = Dsir()
    meter("key: names the scores by all files", lambda: scoring_key(job, corpus, {}, model, ("source",), None), n)
    engine: Any = Instant(lambda item: fit_answer)
    session = Session(RunFolder(folder), Resources(), engine, Progress(False))
    from curate.engines.ray import Inside

    reading = Reading(corpus, ("source",), 8_000_000, Inside(1))
    fit = meter("fit: job", lambda: fit_job({"dsir": model}, reading, folder, False), n)
    fits = meter("fit: results", lambda: session._each(
        "fit", partial(fit_partition, fit), corpus.partitions, fit.alone, fit), n)  # fmt: skip
    task_bytes = max(engine.task_bytes)
    del fits
    state = meter("scores.json", lambda: write_json(folder / "scores.json", {"corpus": corpus.as_dict()}), n)
    del state
    size = (folder / "scores.json").stat().st_size
    table = ScoreTable(Parts(folder, n), ("score",), ("source",), (1.0,))
    meter("draw: statistics", lambda: statistics(table, Instant(lambda part: statistics_answer), None), n)
    meter("draw: a pass of the cut", lambda: find_cuts(lambda wanted: _runs(n, wanted), {0: n * DOCUMENTS // 10}), n)
    engine.answer = lambda item: keep_answer
    kept = meter("keep: results", lambda: session._each("keep", None, corpus.partitions, lambda p: lambda: None), n)
    del kept
    return {"task_bytes": task_bytes, "scores_json_mb": size // 10**6}


def _runs(n: int, wanted: Any) -> Iterator[Any]:
    """What a pass over the documents finds, for runs of 500 partitions that all have keys of one distribution."""
    from curate.sampling.cut import Ranked, descending

    rng = np.random.default_rng(1)
    keys = rng.normal(-100, 80, 20_000)
    ties = rng.integers(0, 1 << 63, len(keys)).astype(np.uint64)
    ones = np.ones(len(keys), np.int64)
    scale = 500 * DOCUMENTS // len(keys)
    some = Ranked(descending(keys), ties, np.arange(len(keys)), ones * scale, ones * 0)
    answer = pickle.dumps(wanted([some]))
    for _ in range(-(-n // 500)):
        yield pickle.loads(answer)


def tasks_per_second(count: int = 3_000) -> float:
    """Of a real Ray on this machine, through our engine."""
    from curate.engines.ray import RayEngine

    with RayEngine("local") as engine:
        list(engine.each(None, range(100), alone=lambda i: int))
        start = time.perf_counter()
        list(engine.each(None, range(count), alone=lambda i: int))
        return count / (time.perf_counter() - start)


def on_paper(found: dict[str, Any]) -> dict[str, Any]:
    """100 TB of text on 1,000 nodes of 32 cores."""
    n = TEXT / TEXT_OF_PARTITION
    share = n / found["partitions"]
    driver_s = {s["step"]: round(s["seconds"] * share) for s in found["steps"]}
    cores = CORES * NODES
    documents = n * DOCUMENTS
    return {
        "partitions": int(n),
        "documents": int(documents),
        "driver_memory_gb": round(max(s["rss_mb"] for s in found["steps"]) * share / 1e3, 1),
        "driver_memory_mb_per_million_documents": round(
            max(s["rss_mb"] for s in found["steps"]) * share / (documents / 1e6), 2
        ),
        "driver_own_s": driver_s,
        "tasks_s_each_step": round(n / found["tasks_per_s"]),
        "fit_and_score_s": round(2 * TEXT / (SCORED_PER_CORE * cores)),
        "fetching_kept_rows_s": round(TEXT / (READ_PER_CORE * cores)),
        "ledger_s": round(documents / ROWS_PER_S),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=1_000_000)
    parser.add_argument("--no-ray", action="store_true", help="leave out how many tasks a second Ray takes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    meter = Meter()
    found: dict[str, Any] = {"partitions": args.partitions, "documents_a_partition": DOCUMENTS}
    with tempfile.TemporaryDirectory() as name:
        found |= driver(args.partitions, Path(name), meter)
    found["steps"] = meter.steps
    found["tasks_per_s"] = 1_000.0 if args.no_ray else round(tasks_per_second())
    found["on_paper_100_tb"] = on_paper(found)
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
