"""SIGKILL a real run at random moments, again and again, and compare what comes out in the end.

    python tests/benchmarks/kills.py --work /tmp/curate-kills --kills 30

The pool is copied three times into 24 files or more. An undisturbed run gives the expected bytes. Then a run is
killed --kills times, each time after a random part of the time that is left, and started again; counted are the
partitions that were finished before a kill and done again after it (there must be none) and stray files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
from speed import REPOSITORY

FINAL = ("shards/*", "ledger.parquet", "scores/*", "scorer/*", "README.md", "croissant.json")


def make_corpus(work: Path, pool: Path, n_files: int) -> Path:
    """The pool three times, with other ids each time, in many files."""
    folder = work / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    one = pl.read_parquet(pool / "raw" / "*.parquet")
    frame = pl.concat([one.with_columns(id=pl.col("id") + f"-{i}") for i in range(3)])
    size = -(-frame.height // n_files)
    for i in range(n_files):
        frame.slice(i * size, size).write_parquet(folder / f"part-{i:02d}.parquet")
    return folder


def fingerprint(out: Path) -> dict[str, str]:
    """SHA-256 of all files of a run; the manifest without what differs between two runs."""
    found = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in FINAL
        for path in sorted(out.glob(pattern))
    }
    manifest = json.loads((out / "manifest.json").read_text())
    stable = {k: v for k, v in manifest.items() if k not in ("uuid", "creation_date")}
    dated = manifest["creation_date"]
    found["manifest.json"] = hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()
    text = (out / "croissant.json").read_text().replace(dated, "DATE")
    found["croissant.json"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def finished(out: Path) -> dict[str, int]:
    """When each finished piece of work was written, in nanoseconds, by name."""
    patterns = ("_work/fit/*.json", "scores/part-*.parquet", "_work/keep/*.json", "_work/written/*.json")
    stamps = {}
    for pattern in patterns:
        for path in out.glob(pattern):
            try:
                stamps[str(path.relative_to(out))] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
    return stamps


def main() -> None:
    """Kill, resume, compare; exits with 1 when anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    raw = make_corpus(args.work, args.pool, args.files)
    target = args.pool / "targets" / "gsm8k" / "train.jsonl"
    command = [sys.executable, "-m", "curate", "select", str(raw), "--target", str(target), "--quiet"]
    command += ["--set", "num_tokens_to_fit=all", "--out"]

    clean, out = args.work / "clean", args.work / "killed"
    for folder in (clean, out):
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([*command, str(clean)], check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    start = time.perf_counter()
    subprocess.run(
        [*command, str(args.work / "timed"), "--overwrite"], check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY
    )
    whole = time.perf_counter() - start
    shutil.rmtree(args.work / "timed")
    expected = fingerprint(clean)

    kills = again = completed = rounds = 0
    different: list[str] = []
    while kills < args.kills:
        rounds += 1
        process = subprocess.Popen(
            [*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=REPOSITORY
        )
        try:
            process.wait(chance.uniform(0.2, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            before = finished(out)
        else:
            if process.returncode:
                sys.exit(f"a resumed run failed: {process.stderr.read().decode() if process.stderr else ''}")
            completed += 1
            different += [k for k, v in fingerprint(out).items() if expected.get(k) != v]
            shutil.rmtree(out)
            continue
        if (out / "manifest.json").exists():
            continue
        resumed = subprocess.Popen(
            [*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=REPOSITORY
        )
        try:
            resumed.wait(chance.uniform(0.5, 1.1) * whole)
        except subprocess.TimeoutExpired:
            resumed.send_signal(signal.SIGKILL)
            resumed.wait()
            kills += 1
        after = finished(out)
        again += sum(after[name] != stamp for name, stamp in before.items() if name in after)
    subprocess.run([*command, str(out)], check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    different += [k for k, v in fingerprint(out).items() if expected.get(k) != v]
    missing = sorted(expected.keys() - fingerprint(out).keys())
    strays = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.name.startswith(".") or "_work" in p.parts)
    result = {
        "partitions": len(list((out / "scores").glob("part-*.parquet"))),
        "kills": kills,
        "runs that ended whole in between": completed,
        "finished pieces of work that were done again": again,
        "files that differ": sorted(set(different)),
        "files that are missing": missing,
        "stray files": strays,
    }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(1 if again or different or missing or strays else 0)


if __name__ == "__main__":
    main()
