"""Pairs a second: exact ZIP-FIT against the package zip-fit 1.0.9, all codecs, and the primed score against both.

    python tests/benchmarks/zipfit_speed.py --json tests/benchmarks/results/zipfit_speed.json

Documents and target texts are of 0.5, 2 and 8 kB, cut from the pool or the samples. All that is compared is run
in turn, so many times each, on the same cores, and the median of the ratios of one round is what counts: what
this kind of machine does in a second differs by a factor of three from hour to hour. CPU seconds (of all
processes) are given beside seconds. The package compresses in processes of its own; ours use as many threads.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[2]
CORES = len(os.sched_getaffinity(0))
SIZES = (500, 2_000, 8_000)
N_DOCUMENTS = 480  # with 50 texts twelve of the chunks of 2,000 pairs that the package deals out, so no core idles
OURS = (("gzip", 6), ("gzip", 1), ("gzip", 9), ("zstd", 1), ("zstd", 3), ("lz4", 0), ("isal", 1), ("isal", 2),
        ("libdeflate", 1), ("libdeflate", 6))  # fmt: skip


def texts_of(pool: Path) -> tuple[str, str]:
    """Raw and target text (ASCII), each in one piece."""
    if pool.is_dir():
        raw, target = sorted((pool / "raw").glob("*.parquet"))[0], pool / "targets/pubmedqa/train.jsonl"
    else:
        raw, target = REPOSITORY / "samples/raw/part-00000.parquet", REPOSITORY / "samples/targets/gsm8k/train.jsonl"
    documents = pq.read_table(raw, columns=["text"])["text"].to_pylist()
    lines = [json.loads(line)["text"] for line in target.read_text(encoding="utf-8").splitlines()]
    plain = ["\n".join(of).encode("ascii", "ignore").decode() for of in (documents, lines)]
    return plain[0], plain[1]


def cut(text: str, size: int, count: int) -> list[str]:
    """``count`` different texts of ``size`` bytes; they overlap when there is too little."""
    step = max(1, min(size, (len(text) - size) // count))
    return [text[i * step : i * step + size] for i in range(count)]


def cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in spent)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def package(documents: list[str], target: list[str]) -> Callable[[], object]:
    """The package's own ranking, gzip level 6."""
    sys.modules.setdefault("datasets", SimpleNamespace(load_dataset=None))  # type: ignore[arg-type]
    from zip_fit import ZIPFIT

    return lambda: ZIPFIT("", "", k=10, compress_level=6).rank_sequences_by_alignment(documents, target)


def exact(documents: list[str], target: list[str], codec: str, level: int) -> Callable[[], object]:
    """Ours, fitting included, as it is in the package's time."""
    from curate.scorers import ZipFit

    return lambda: scored_by_threads(ZipFit(codec=codec, level=level).fit(target=target), documents)()


def in_turn(arms: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, dict[str, Any]]:
    """By arm the median pairs a second, and how many times the first arm's, by seconds and by CPU seconds.

    ``arms``: what to run, and how many pairs that is.
    """
    for work, _ in list(arms.values())[1:]:
        timed(work)  # compiles
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, (work, pairs) in arms.items():
            wall, cpu = timed(work)
            runs[name].append((pairs / wall, pairs / cpu))
    base = runs[next(iter(arms))]
    return {
        name: {
            "pairs_per_s": statistics.median(r[0] for r in of),
            "pairs_per_cpu_s": statistics.median(r[1] for r in of),
            "times": statistics.median(r[0] / b[0] for r, b in zip(of, base, strict=True)),
            "times_by_cpu": statistics.median(r[1] / b[1] for r, b in zip(of, base, strict=True)),
        }
        for name, of in runs.items()
    }


def scored_by_threads(model: Any, documents: list[str]) -> Callable[[], object]:
    """Scores of documents, a part for each core."""
    parts = [pa.array(documents[i::CORES], pa.large_string()) for i in range(CORES)]

    def work() -> object:
        with ThreadPoolExecutor(CORES) as pool:
            return list(pool.map(model.score, parts))

    return work


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    from curate.scorers import Primed

    raw, target = texts_of(args.pool)
    result: dict[str, Any] = {"cores": CORES, "python": platform.python_version(), "rounds": args.rounds, "exact": {}}
    for size in SIZES:
        documents, texts = cut(raw, size, N_DOCUMENTS), cut(target, size, 50)
        pairs = len(documents) * len(texts)
        arms: dict[str, tuple[Callable[[], object], int]] = {"zip-fit 1.0.9 gzip 6": (package(documents, texts), pairs)}
        for codec, level in OURS:
            arms[f"{codec} {level}"] = exact(documents, texts, codec, level), pairs
        result["exact"][size] = in_turn(arms, args.rounds)
    documents, texts = cut(raw, 2_000, 24), cut(target, 2_000, 1_000)
    many = cut(raw, 2_000, 20_000)
    fitted = {against: Primed(against=against).fit(target=texts, raw=many) for against in ("nothing", "both")}
    arms = {
        "zip-fit 1.0.9 gzip 6": (package(documents, texts), len(documents) * len(texts)),
        "gzip 6": (exact(documents, texts, "gzip", 6), len(documents) * len(texts)),
    }
    for against, model in fitted.items():
        work = scored_by_threads(model, many)
        arms[f"primed zstd 3 against {against}"] = work, len(many) * len(texts)
    result["primed, 1,000 target texts of 2 kB"] = in_turn(arms, args.rounds)
    for title, rows in [(f"{size} bytes", of) for size, of in result["exact"].items()] + [
        (name, of) for name, of in result.items() if isinstance(of, dict) and name != "exact"
    ]:
        print(title)
        for name, of in rows.items():
            print(f"  {name:<32}", "  ".join(f"{what} {value:,.3g}" for what, value in of.items()), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
