"""Seconds and memory to begin a Gaussian curriculum of many documents and to update it, in a process of its own.

Usage: python tests/benchmarks/updates.py [--documents N] [--rows N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl


def main() -> None:
    from curate.curriculum.online import gaussian, update

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=100_000, help="of feedback in each update")
    parser.add_argument("--json")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    found: dict = {"documents": args.documents, "rows": args.rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = pl.Series("doc_id", [f"document-{i:09d}" for i in range(args.documents)])
        rates = rng.integers(0, 9, args.documents) / 8
        pl.DataFrame({"doc_id": ids, "pass_rate": rates, "n": 8}).write_parquet(folder / "grades.parquet")
        start = time.perf_counter()
        gaussian(folder / "grades.parquet", out=folder / "out")
        found["begin_s"], found["update_s"] = round(time.perf_counter() - start, 2), []
        for k in range(3):
            seen = ids.gather(rng.integers(0, len(ids), args.rows))
            steps, rates = np.arange(args.rows) // 256 + k * args.rows, rng.integers(0, 9, args.rows) / 8
            frame = pl.DataFrame({"doc_id": seen, "step": steps, "pass_rate": rates, "n": 8})
            frame.write_parquet(folder / f"{k}.parquet")
            start = time.perf_counter()
            update(folder / "out", folder / f"{k}.parquet")
            found["update_s"].append(round(time.perf_counter() - start, 2))
        found["state_mb"] = round((folder / "out" / "state.parquet").stat().st_size / 1e6, 1)
    found["max_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    print(json.dumps(found, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
