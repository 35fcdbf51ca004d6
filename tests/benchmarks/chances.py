"""Seconds and memory of draws by chance, from score tables of several sizes that are made up.

Each size runs in a process of its own. Usage: python tests/benchmarks/chances.py [ROWS ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

PART_ROWS = 500_000
MEMORY_LIMIT = 300_000_000  # for sorting
DRAWS = {
    "pivotal": ({}, "10%"),
    "pivotal, bytes": ({}, None),
    "pivotal, max_kl": ({"max_kl": 1.0}, "10%"),
    "pivotal, max_kl, calibrated": ({"max_kl": 1.0, "calibrate": "source"}, "10%"),
    "poisson": ({}, "10%"),
}


def score_table(folder: Path, n_rows: int):
    """A score table with scores as far apart as those of DSIR, and 30 sources."""
    from curate.io.tables import write_table
    from curate.steps.documents import score_schema
    from curate.steps.scoretable import ScoreTable

    schema, parts = score_schema(["score"], ["source"]), []
    for part, first in enumerate(range(0, n_rows, PART_ROWS)):
        rng = np.random.default_rng(part)
        n = min(PART_ROWS, n_rows - first)
        lengths = np.exp(rng.normal(7, 1, n)).astype(np.int64) + 20
        columns = {
            "doc_id": pa.array(np.char.add("document-", (first + np.arange(n)).astype(str)), pa.large_string()),
            "score": rng.normal(0, 100, n),
            "n_tokens": lengths // 5,
            "n_bytes": lengths,
            "path": pa.array(np.full(n, f"raw/{part}.jsonl"), pa.large_string()).dictionary_encode(),
            "row": np.arange(n),
            "reason": pa.nulls(n, pa.string()),
            "source": pa.array(np.char.add("source-", rng.integers(0, 30, n).astype(str)), pa.large_string()),
        }
        path = folder / f"part-{part:05d}.parquet"
        write_table(path, schema, [pa.table(columns).cast(schema)])
        parts.append(path)
    return ScoreTable(tuple(parts), ("score",), ("source",), (1.0,))


def measure(n_rows: int) -> dict:
    from curate.engines import LocalEngine
    from curate.engines.allocator import save_memory
    from curate.sampling.budget import parse_budget
    from curate.sampling.transforms import WeightSpec
    from curate.steps.chances import sample
    from curate.steps.decide import DecideJob
    from curate.steps.decision import DrawSpec
    from curate.steps.scoretable import statistics

    save_memory()
    found: dict = {"rows": n_rows}
    with tempfile.TemporaryDirectory() as name, LocalEngine(None) as engine:
        folder = Path(name)
        table = score_table(folder, n_rows)
        stats = statistics(table, engine, None)
        for draw, (weights, budget) in DRAWS.items():
            wanted = parse_budget(budget or f"{stats.n_bytes // 10}bytes")
            spec = DrawSpec(wanted, draw.partition(",")[0], 0, weights=WeightSpec(**weights))
            scratch = folder / "draw"
            scratch.mkdir(exist_ok=True)
            job = DecideJob(table, spec, stats, engine, None, None, {}, None, draw, scratch, 8_000_000, MEMORY_LIMIT)
            start = time.perf_counter()
            listed = sample(job)
            one = {"seconds": round(time.perf_counter() - start, 2)} | listed.summary
            sizes = np.zeros(2, np.int64)
            for part in range(len(table.parts)):
                from curate.io.tables import batches, numpy

                first = 0
                for rows in batches(table.parts[part], ["doc_id", "n_bytes"]):
                    kept = listed.targets(part, rows, first) >= 0
                    first += rows.num_rows
                    sizes += [kept.sum(), numpy(rows["n_bytes"])[kept].sum()]
            one["kept"] = int(sizes[1 if wanted.size_column else 0])
            found[draw] = one
    found["max_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[1_000_000, 4_000_000])
    parser.add_argument("--json")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.rows[0])))
        return
    found = []
    for n_rows in args.rows:
        done = subprocess.run(
            [sys.executable, __file__, str(n_rows), "--one"], check=True, capture_output=True, text=True
        )
        found.append(json.loads(done.stdout))
        print(json.dumps(found[-1], indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
