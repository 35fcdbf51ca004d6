"""Measure what `curate domains` finds in a corpus whose true sources are known, and what it takes.

    python tests/benchmarks/domains.py --pool ../shared/pool --json tests/benchmarks/results/domains.json

Agreement of the clusters with the sources (adjusted Rand index, normalised mutual information, purity) over all
documents, beside as many random clusters of the same sizes; neighbours of vectors of the same source, by setting; and
times on a corpus of --mb, made of copies of the pool, as a multiple of a bare read of its text column.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.discovery import Found, domains
from curate.features import HashedVectors
from curate.features.neighbours import nearest
from curate.metrics.agreement import adjusted_rand, mutual_information, purity

SEEDS = (0, 1, 2)
QUERIES, NEIGHBOURS = 2_000, 10
SETTINGS: dict[str, dict[str, Any]] = {
    "default (dim=256, n=1, log(1 + c))": {},
    "bigrams too": {"n": 2},
    "c instead of log(1 + c)": {"damped": False},
    "dim=64": {"dim": 64},
    "dim=512": {"dim": 512},
    "dim=1024": {"dim": 1024},
}
BARE = """
import polars as pl, sys
frame = pl.scan_parquet(sys.argv[1] + "/*.parquet").select("text")
print(sum(b["text"].len() for b in frame.collect_batches(lazy=True)))
"""


def corpus(pool: Path) -> pa.Table:
    """The pool's documents with text, without what was injected."""
    table = pa.concat_tables(
        pq.read_table(path, columns=["id", "text", "source"]) for path in sorted((pool / "raw").glob("*.parquet"))
    )
    truth = [pq.read_table(pool / "truth" / f"{name}.parquet")["id"] for name in ("dups", "contamination")]
    injected = pc.is_in(table["id"], pa.chunked_array([c for ids in truth for c in ids.chunks]))
    has_text = pc.greater(pc.binary_length(table["text"]), 0).fill_null(False)
    return table.filter(pc.and_(pc.invert(injected), has_text)).combine_chunks()


def labels_of(found: Found) -> dict[str, int]:
    parts = [pq.read_table(p, columns=["doc_id", "cluster"]) for p in sorted(found.out.glob("clusters/part-*.parquet"))]
    table = pa.concat_tables(parts)
    return dict(zip(table["doc_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))


def agreement(labels: np.ndarray, sources: np.ndarray) -> dict[str, float]:
    measures = {"adjusted_rand": adjusted_rand, "nmi": mutual_information, "purity": purity}
    return {name: round(measure(labels, sources), 3) for name, measure in measures.items()}


def quality(table: pa.Table, work: Path) -> list[dict[str, Any]]:
    """Agreement with the sources, for the number of domains that is found, that of the sources, and twice that."""
    work.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.drop_columns(["source"]), work / "unlabelled.parquet")
    names, sources = np.unique(table["source"].to_pylist(), return_inverse=True)
    found = []
    for k in (None, len(names) // 2, len(names), 2 * len(names)):
        for seed in SEEDS:
            out = work / f"domains-{k}-{seed}"
            result = domains(work / "unlabelled.parquet", out=out, k=k, seed=seed)
            by_id = labels_of(result)
            labels = np.array([by_id[i] for i in table["id"].to_pylist()])
            random = np.random.default_rng(seed).permutation(labels)
            found.append(
                {
                    "k": "auto" if k is None else k,
                    "seed": seed,
                    "n_domains": len(result.domains),
                    "clusters": agreement(labels, sources),
                    "random": agreement(random, sources),
                    "stability": {s.k: round(s.agreement, 3) for s in result.stability},
                    "seconds": result.seconds,
                }
            )
            print(found[-1], flush=True)
            if k is None and seed == 0:
                for d in result.domains:
                    print(f"  {d.cluster:3} {d.n_documents:6,} {d.name}")
    return found


def neighbours(table: pa.Table) -> dict[str, Any]:
    """The share of the nearest documents by cosine that are of the same source, by setting; mean over seeds."""
    sources = np.unique(table["source"].to_pylist(), return_inverse=True)[1]
    texts = table["text"].cast(pa.large_string()).combine_chunks()
    texts = texts.chunk(0) if isinstance(texts, pa.ChunkedArray) else texts
    size = int(pc.sum(pc.binary_length(texts)).as_py())
    queries = np.random.default_rng(0).choice(len(texts), QUERIES, replace=False)
    result = {}
    for name, options in SETTINGS.items():
        shares, rates = [], []
        for seed in SEEDS:
            make = HashedVectors(seed=seed, **options)
            make(texts.slice(0, 10))  # compiled
            start = time.perf_counter()
            x = np.concatenate([make(texts.slice(i, 2000)) for i in range(0, len(texts), 2000)])
            rates.append(size / (time.perf_counter() - start) / 1e6)
            there = np.flatnonzero(x.any(axis=1))  # what has no tokens is at distance 1 from everything
            rows = there[nearest(x[queries], x[there], NEIGHBOURS + 1).rows]
            same = [[sources[j] for j in r if j != q][:NEIGHBOURS] for q, r in zip(queries, rows, strict=True)]
            shares.append((np.array(same) == sources[queries][:, None]).mean())
        result[name] = {"same_source": round(float(np.mean(shares)), 3), "mb_per_s_core": round(max(rates))}
        print(name, result[name], flush=True)
    return result


def median_seconds(work: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def speed(table: pa.Table, work: Path, megabytes: int, runs: int) -> dict[str, Any]:
    """Whole processes on copies of the pool with other ids: curate domains, and a bare read."""
    folder, out = work / "large", work / "large-out"
    folder.mkdir(parents=True, exist_ok=True)
    one = int(pc.sum(pc.binary_length(table["text"])).as_py())
    copies = max(1, round(megabytes * 1e6 / one))
    for copy in range(copies):
        ids = pc.binary_join_element_wise(table["id"].cast(pa.string()), str(copy), "-")
        pq.write_table(table.set_column(0, "id", ids), folder / f"part-{copy:03d}.parquet", compression="zstd")

    def bare() -> None:
        subprocess.run([sys.executable, "-c", BARE, str(folder)], check=True, capture_output=True)

    command = [sys.executable, "-m", "curate", "domains", str(folder), "--out", str(out), "--quiet", "--json"]
    seconds: list[dict[str, float]] = []

    def found() -> None:
        shutil.rmtree(out, ignore_errors=True)
        done = subprocess.run([*command, "--k", "32"], check=True, capture_output=True, text=True)
        seconds.append(json.loads(done.stdout)["seconds"])

    bare()
    result = {"mb": round(copies * one / 1e6), "bare_read_s": median_seconds(bare, runs)}
    result |= {"domains_k32_s": median_seconds(found, runs)}
    result["multiple_of_bare_read"] = result["domains_k32_s"] / result["bare_read_s"]
    result |= {f"of_it_{step}_s": statistics.median(s[step] for s in seconds) for step in ("fit", "assign")}
    return {key: round(value, 2) for key, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "pool")
    parser.add_argument("--mb", type=int, default=600)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table = corpus(args.pool)
    with tempfile.TemporaryDirectory() as work:
        result = {
            "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "documents": len(table),
            "sources": len(pc.unique(table["source"])),
            "neighbours": neighbours(table),
            "quality": quality(table, Path(work)),
            "speed": speed(table, Path(work), args.mb, args.runs),
        }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
