"""The loader beside plain iteration with `datasets` and the bare read of the text: documents and MB a second.

    python tests/benchmarks/loader.py --work /tmp/curate-loader --json tests/benchmarks/results/loader.json

Needs the packages torch and datasets. Every arm is a process of its own and reads all texts of the corpus once; what
is timed is the iteration alone (what either makes on first use is an arm of its own). The corpus is made from the
pool by its `scale.py`, unless --corpora names a folder that has it as `parquet-1/parquet`.
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
from pathlib import Path

from memory import corpus
from speed import REPOSITORY

SETUP = """
import glob, json, os, resource, sys, time, warnings
warnings.simplefilter("ignore")
raw, cache = sys.argv[1:]
files = sorted(glob.glob(raw + "/*.parquet"))
def measured(documents):
    start, n, size = time.perf_counter(), 0, 0
    for document in documents:
        n += 1
        size += len(document["text"])
    return start, n, size
def told(start, n, size):
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"seconds": seconds, "documents": n, "characters": size, "peak_mb": peak}))
"""
OURS = """
from curate.curriculum.loader import CurriculumStream
stream = lambda *a, **k: CurriculumStream(raw, *a, cache=cache, batch_size=32, progress=False, **k)
"""
THEIRS = """
from datasets import load_dataset
load = lambda **k: load_dataset("parquet", data_files=files, split="train", cache_dir=cache, **k)
"""
TORCH = """
from torch.utils.data import DataLoader
def loaded(dataset, **more):
    for batch in DataLoader(dataset, batch_size=32, collate_fn=list, num_workers=2, **more):
        yield from batch
"""
SOURCES = """
import pyarrow.dataset as ds
sizes = ds.dataset(files).to_table(["source"])["source"].value_counts().to_pylist()
"""
ARMS = {
    "bare read: polars": """
import polars as pl
start, n, size = time.perf_counter(), 0, 0
for batch in pl.scan_parquet(raw + "/*.parquet").select("text").collect_batches(lazy=True):
    n, size = n + batch.height, size + batch["text"].str.len_chars().sum()
told(start, n, size)
""",
    "bare read: a text at a time": """
import pyarrow.parquet as pq
batches = (b for f in files for b in pq.ParquetFile(f).iter_batches(8192, columns=["text"]))
told(*measured({"text": text} for batch in batches for text in batch["text"].to_pylist()))
""",
    "curate, first use: lay out": OURS
    + """
import shutil
shutil.rmtree(cache, ignore_errors=True)
start = time.perf_counter()
made = stream()
told(start, made.n_docs, 0)
""",
    "curate, all once, shuffled": OURS + "made = stream(); told(*measured(made))",
    "curate, a curriculum of sources": OURS
    + SOURCES
    + """
made = stream({s["values"]: s["counts"] ** 0.5 for s in sizes}, column="source")
told(*measured(made))
""",
    "curate, shuffled, DataLoader, 2 workers": OURS
    + TORCH
    + """
from curate.torch import CurriculumDataset
made = CurriculumDataset(raw, cache=cache, batch_size=32, progress=False)
told(*measured(loaded(made)))
""",
    "datasets, first use: prepare": THEIRS
    + """
import shutil
shutil.rmtree(cache, ignore_errors=True)
start = time.perf_counter()
made = load()
told(start, len(made), 0)
""",
    "datasets, in order": THEIRS + 'made = load().select_columns(["text"]); told(*measured(made))',
    "datasets, shuffled": THEIRS + 'made = load().select_columns(["text"]).shuffle(seed=0); told(*measured(made))',
    "datasets, streaming": THEIRS + 'made = load(streaming=True).select_columns(["text"]); told(*measured(made))',
    "datasets, streaming, shuffle buffer 10,000": THEIRS
    + """
made = load(streaming=True).select_columns(["text"]).shuffle(seed=0, buffer_size=10_000)
told(*measured(made))
""",
    "datasets, shuffled, DataLoader, 2 workers": THEIRS
    + TORCH
    + 'made = load().select_columns(["text"]); told(*measured(loaded(made, shuffle=True)))',
}


def timed(name: str, raw: Path, work: Path, runs: int) -> dict[str, object]:
    """The median of some runs."""
    cache = work / ("theirs" if name.startswith("datasets") else "ours")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    command = [sys.executable, "-c", SETUP + ARMS[name], str(raw), str(cache)]
    found = []
    for _ in range(runs):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
        if done.returncode:
            sys.exit(f"{name}\n{done.stderr[-2000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = statistics.median(one["seconds"] for one in found)
    n = found[0]["documents"]
    print(f"{name:<44} {seconds:7.2f} s {n / seconds:10,.0f} documents/s {found[0]['peak_mb']:6.0f} MB", flush=True)
    return {
        "name": name,
        "seconds": seconds,
        "documents": n,
        "documents_per_s": n / seconds,
        "peak_mb": max(one["peak_mb"] for one in found),
        "runs": runs,
    }


def main() -> None:
    """Measure all arms on one corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the corpus and for what the loaders keep")
    parser.add_argument("--corpora", type=Path, help="folder of corpora; by default that of --work")
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--gb", type=float, default=1.0, help="text of the corpus")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    raw = corpus(args.gb, "parquet", args.corpora or args.work, args.pool)
    first = [name for name in ARMS if "first use" in name]
    arms = [timed(name, raw, args.work, 1) for name in first]
    arms += [timed(name, raw, args.work, args.runs) for name in ARMS if name not in first]
    seconds = {str(arm["name"]): float(str(arm["seconds"])) for arm in arms}
    bare = seconds["bare read: polars"]
    result = {
        "gb": args.gb,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "arms": arms,
        "times_the_bare_read": {name: value / bare for name, value in seconds.items()},
    }
    for folder in ("ours", "theirs"):
        shutil.rmtree(args.work / folder, ignore_errors=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
