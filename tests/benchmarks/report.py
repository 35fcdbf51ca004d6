"""`curate report` on a corpus and on a run, beside the bare read of the text, and its peak memory by size.

    python tests/benchmarks/report.py --work /tmp/curate-report --json tests/benchmarks/results/report.json

Every command is a process of its own, timed from outside with its start-up, as in speed.py. The corpora are made
from the pool by its `scale.py`, unless --corpora names a folder that has them as `parquet-1/parquet` and so on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path

from memory import corpus
from speed import POLARS_JSONL, POLARS_PARQUET, REPOSITORY, Timing, run

BARE = {"parquet": POLARS_PARQUET, "jsonl": POLARS_JSONL}


def timed(name: str, kind: str, command: list[str], runs: int) -> Timing:
    """The median of some runs."""
    found = [run(command) for _ in range(runs)]
    seconds = [s for s, _ in found]
    timing = Timing(name, kind, statistics.median(seconds), min(seconds), max(mb for _, mb in found), runs)
    print(f"{kind:<8} {name:<24} {timing.seconds:7.2f} s, peak {timing.peak_mb:6.0f} MB", flush=True)
    return timing


def main() -> None:
    """Measure times at one size and memory at all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and reports")
    parser.add_argument("--corpora", type=Path, help="folder of corpora; by default that of --work")
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--gb", type=float, default=1.0, help="text of the corpus that is timed")
    parser.add_argument("--sizes", default="0.5,1,5", help="GB of text of the corpora whose peaks are compared")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    python, out = sys.executable, str(args.work / "report.html")
    report = [python, "-m", "curate", "report", "--quiet", "--out", out]
    target = str(args.pool / "targets" / "gsm8k" / "train.jsonl")
    run([*report, str(REPOSITORY / "samples" / "raw")])  # compiles the kernels, once
    timings, peaks, ratios = [], [], {}
    for kind, bare in BARE.items():
        raw = str(corpus(args.gb, kind, args.corpora or args.work, args.pool))
        selected = str(args.work / f"run-{kind}")
        select = [python, "-m", "curate", "select", raw, "--target", target, "--out", selected, "--quiet"]
        run([*select, "--budget", "5%", "--overwrite"])
        some = [
            timed("bare read: polars", kind, [python, "-c", bare, raw], args.runs),
            timed("report on the corpus", kind, [*report, raw], args.runs),
            timed("report on a run", kind, [*report, selected], args.runs),
        ]
        timings += some
        ratios |= {f"{kind}: {t.name} / bare read": t.seconds / some[0].seconds for t in some[1:]}
        for gb in map(float, args.sizes.split(",")):
            seconds, megabytes = run([*report, str(corpus(gb, kind, args.corpora or args.work, args.pool))])
            peaks.append({"corpus": kind, "gb": gb, "seconds": seconds, "peak_mb": megabytes})
            print(f"{kind:<8} {gb:5.1f} GB of text: {seconds:7.1f} s, peak {megabytes:6.0f} MB", flush=True)
        sizes = [p["peak_mb"] for p in peaks if p["corpus"] == kind]
        ratios[f"{kind}: largest / smallest peak"] = max(sizes) / min(sizes)
    for name, ratio in ratios.items():
        print(f"{name:<45} {ratio:8.2f}")
    if args.json:
        machine = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}"
        found = {"gb": args.gb, "machine": machine, "timings": [vars(t) for t in timings], "memory": peaks,
                 "ratios": ratios}  # fmt: skip
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
