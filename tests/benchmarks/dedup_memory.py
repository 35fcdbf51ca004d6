"""Peak resident memory, seconds and disk of joining synthetic signatures of documents.

    python tests/benchmarks/dedup_memory.py --work /tmp/curate-dedup --json dedup_memory.json

A fifth of the documents are copies of others, a quarter of these to the letter and the rest with a tenth of their
shingles changed. The claim: memory does not grow with the corpus but for some bits a document, and `memory_limit` is
kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.join import Join
from curate.dedup.ranking import SignatureFile
from curate.dedup.sets import StoredSets, write_shingles
from curate.dedup.spec import DedupSpec

PART = 250_000
N_BANDS = 32
N_SHINGLES = 20
EXACT, NEAR = 0.05, 0.15
CHUNK = 50_000


def mixed(*numbers) -> np.ndarray:
    """uint64[...]: a hash of numbers."""
    h = np.uint64(0x9E37_79B9_7F4A_7C15)
    for number in numbers:
        h = (h ^ np.asarray(number, np.uint64)) * np.uint64(0xD6E8_FEB8_6659_FD93)
        h = (h ^ (h >> np.uint64(32))) * np.uint64(0xA076_1D64_78BD_642F)
        h ^= h >> np.uint64(29)
    return h


def texts_of(docs: np.ndarray, n_docs: int) -> tuple[np.ndarray, np.ndarray]:
    """The text of each document, and its variant, 0 of what is that text to the letter."""
    chance = mixed(docs, 1) / 2.0**64
    copied = np.where(chance < EXACT + NEAR, mixed(docs, 2) % np.uint64(n_docs), docs)
    return copied, np.where((chance >= EXACT) & (chance < EXACT + NEAR), docs + np.uint64(1), np.uint64(0))


def signatures(docs: np.ndarray, n_docs: int) -> pa.Table:
    """Of documents; a variant has about half of the keys of its text, as at a Jaccard similarity of 0.82."""
    text, variant = texts_of(docs, n_docs)
    n = len(docs)
    digest = np.column_stack([mixed(text, variant, 3), mixed(text, variant, 4)])
    columns = {
        "doc_id": pa.array([f"{number:016x}" for number in mixed(docs, 5)], pa.large_string()),
        "row": pa.array(docs % np.uint64(PART), pa.int64()),
        "prefer": pa.nulls(n, pa.float64()),
        "source": pa.array(np.array(["web", "books", "code"])[docs % np.uint64(3)].tolist(), pa.large_string()),
        "digest": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(digest.tobytes())]),
        "n_shingles": pa.array(np.full(n, N_SHINGLES), pa.int32()),
    }
    for band in range(N_BANDS):
        own = (variant > 0) & (mixed(docs, 6, band) % np.uint64(100) >= 45)
        columns[f"band_{band:02d}"] = pa.array(np.where(own, mixed(docs, 7, band), mixed(text, 8, band)))
    return pa.table(columns)


def shingles(docs: np.ndarray, n_docs: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and hashes: a variant has 18 of the 20 shingles of its text."""
    text, variant = texts_of(docs, n_docs)
    places = np.arange(N_SHINGLES, dtype=np.uint64)[None, :]
    own = (variant[:, None] > 0) & (places < 2)
    hashes = np.where(own, mixed(docs[:, None], 9, places), mixed(text[:, None], 10, places))
    return np.arange(len(docs) + 1) * N_SHINGLES, np.sort(hashes, axis=1).ravel()


def make(n_docs: int, folder: Path) -> None:
    """Write the signature files, unless that was done."""
    for part in range(-(-n_docs // PART)):
        path = folder / f"{part:05d}.parquet"
        if path.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        last = min(n_docs, (part + 1) * PART)
        with pq.ParquetWriter(path, signatures(np.zeros(0, np.uint64), 1).schema, use_dictionary=["source"]) as writer:
            for first in range(part * PART, last, CHUNK):
                writer.write_table(signatures(np.arange(first, min(first + CHUNK, last), dtype=np.uint64), n_docs))


def join(n_docs: int, signed: Path, folder: Path, memory_limit: int, workers: int) -> dict:
    """Join them in this process; what was measured."""
    paths = sorted(signed.glob("*.parquet"))
    files = [SignatureFile(path, path.stem) for path in paths]
    started = time.perf_counter()
    seconds = {}

    def lap(step: str) -> None:
        nonlocal started
        seconds[step] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()

    found = Join(files, folder, DedupSpec(), memory_limit, workers)
    lap("rank")
    found.find()
    lap("find")
    for part in range(len(files)):
        rows = found.candidates(part)
        chunks = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        docs = [(chunk, (chunk + part * PART).astype(np.uint64)) for chunk in chunks]
        write_shingles(folder / f"{part}.sets", ((chunk, *shingles(doc, n_docs)) for chunk, doc in docs))
    lap("shingles")
    found.verify(lambda part: StoredSets.open(folder / f"{part}.sets"))
    lap("verify")
    summary = found.write(folder / "found" / "duplicates.parquet")
    lap("write")
    return {
        "documents": n_docs,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": round(sum(seconds.values()), 1),
        "seconds_by_step": seconds,
        "signatures_mb": round(sum(path.stat().st_size for path in paths) / 1e6),
        "exact": summary.exact,
        "near": summary.near,
        "candidate_pairs": summary.candidate_pairs,
        "verified_pairs": summary.verified_pairs,
    }


def measured(command: list[str], folder: Path) -> dict:
    """What a process says, and the largest size of its folder while it was at work."""
    disk = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            disk = max(disk, size_of(folder))
            time.sleep(0.5)
        assert process.returncode == 0
        return {**json.loads(process.stdout.read()), "disk_mb": round(disk / 1e6)}


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder, some of which may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def main() -> None:
    """Measure all sizes, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for signatures and tables")
    parser.add_argument("--sizes", default="1000000,3000000,10000000", help="documents")
    parser.add_argument("--memory-limit", type=int, default=1_000_000_000, help="bytes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    folder = args.work / "join"
    if args.one:
        print(json.dumps(join(args.one, args.work / str(args.one), folder, args.memory_limit, args.workers)))
        return
    runs = []
    for n_docs in map(int, args.sizes.split(",")):
        make(n_docs, args.work / str(n_docs))
        shutil.rmtree(folder, ignore_errors=True)
        options = ["--one", str(n_docs), "--memory-limit", str(args.memory_limit), "--workers", str(args.workers)]
        command = [sys.executable, __file__, "--work", str(args.work), *options]
        run = measured(command, folder)
        runs.append(run)
        cost = f"{run['seconds']:7.1f} s, peak {run['peak_mb']:5,} MB, {run['disk_mb']:6,} MB on disk"
        print(f"{n_docs:>11,} documents: {cost}", flush=True)
    if args.json:
        found = {"memory_limit": args.memory_limit, "workers": args.workers, "runs": runs}
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
