"""Peak resident memory of `curate select` on a small and a ten times larger corpus.

    python tests/benchmarks/memory.py --work /tmp/curate-memory --json memory.json

The claim: it does not grow with the corpus, and `--memory-limit 1GB` is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from speed import REPOSITORY, run

LIMIT = "1GB"


def corpus(gb: float, kind: str, work: Path, pool: Path) -> Path:
    """The pool scaled up, in one format, unless that was done."""
    folder = work / f"{kind}-{gb:g}"
    if not (folder / "scale.json").exists():
        scale = [sys.executable, pool / "scale.py", "--gb", str(gb), "--out", folder, "--formats", kind]
        subprocess.run([*scale, "--shard-mb", "125"], check=True)
    return folder / kind


def peak(raw: Path, target: Path, out: Path, method: str) -> tuple[float, float]:
    """Seconds and peak MB of a selection."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "curate", "select", str(raw), "--target", str(target), "--out", str(out)]
    return run([*command, "--method", method, "--memory-limit", LIMIT, "--quiet"])


def main() -> None:
    """Measure both sizes in both formats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for corpora and outputs")
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--sizes", default="0.5,5", help="GB of text")
    parser.add_argument("--formats", default="parquet,jsonl", help="of the corpora")
    parser.add_argument("--method", default="dsir", help="the scorer")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    target = args.pool / "targets" / "gsm8k" / "train.jsonl"
    found = []
    for kind in args.formats.split(","):
        for gb in map(float, args.sizes.split(",")):
            seconds, megabytes = peak(corpus(gb, kind, args.work, args.pool), target, args.work / "out", args.method)
            found.append({"corpus": kind, "gb": gb, "seconds": seconds, "peak_mb": megabytes})
            print(f"{kind:<8} {gb:5.1f} GB of text: {seconds:7.1f} s, peak {megabytes:6.0f} MB", flush=True)
        peaks = [f["peak_mb"] for f in found if f["corpus"] == kind]
        print(f"{kind:<8} largest over smallest peak: {max(peaks) / min(peaks):.2f}")
    if args.json:
        args.json.write_text(json.dumps({"method": args.method, "memory_limit": LIMIT, "runs": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
