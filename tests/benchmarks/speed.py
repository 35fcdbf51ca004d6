"""Whole processes side by side: `curate select`, the reference package, and bare reads of the text column.

    python tests/benchmarks/speed.py --gb 1 --work /tmp/curate-speed --json speed.json

The corpus is made from the pool by its `scale.py` (Parquet and JSON Lines with zstd). Every command is a
process of its own, timed from outside with its start-up; the median of --runs is printed with the peak of
its resident memory, and ratios to the bare reads. The reference runs once, since it takes minutes, on
--reference-share of the files; its two passes take time in proportion to the text, so that is scaled up.
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
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

POLARS_PARQUET = """
import polars as pl, sys
n = sum(b["text"].len() for b in pl.scan_parquet(sys.argv[1] + "/*.parquet").select("text").collect_batches(lazy=True))
print(n)
"""
POLARS_JSONL = """
import polars as pl, sys
frame = pl.scan_ndjson(sys.argv[1] + "/*.jsonl.zst", schema={"text": pl.String})
print(sum(b["text"].len() for b in frame.collect_batches(lazy=True)))
"""
DUCKDB_PARQUET = """
import duckdb, sys
with duckdb.connect() as con:
    reader = con.sql(f"SELECT text FROM read_parquet('{sys.argv[1]}/*.parquet')").to_arrow_reader(8192)
    print(sum(b.num_rows for b in reader))
"""
DUCKDB_JSONL = """
import duckdb, sys
files = f"'{sys.argv[1]}/*.jsonl.zst', format='newline_delimited', columns={{text: 'VARCHAR'}}"
with duckdb.connect() as con:
    print(sum(b.num_rows for b in con.sql(f"SELECT text FROM read_json({files})").to_arrow_reader(8192)))
"""
DUCKDB_SUM_PARQUET = """
import duckdb, sys
with duckdb.connect() as con:
    print(con.sql(f"SELECT sum(strlen(text)) FROM read_parquet('{sys.argv[1]}/*.parquet')").fetchall())
"""
DUCKDB_SUM_JSONL = """
import duckdb, sys
files = f"'{sys.argv[1]}/*.jsonl.zst', format='newline_delimited', columns={{text: 'VARCHAR'}}"
with duckdb.connect() as con:
    print(con.sql(f"SELECT sum(strlen(text)) FROM read_json({files})").fetchall())
"""
REFERENCE = """
import sys, glob
from data_selection import HashedNgramDSIR
raw, target, work, k = sys.argv[1:]
dsir = HashedNgramDSIR(sorted(glob.glob(raw + "/*.jsonl")), [target], cache_dir=work + "/cache", num_proc=CORES)
dsir.fit_importance_estimator()
dsir.compute_importance_weights()
dsir.resample(out_dir=work + "/resampled", num_to_sample=int(k), cache_dir=work + "/resampled_cache")
"""
REFERENCE_NAME = "reference (data-selection 1.0.3)"
BARE = {
    "polars, batches": (POLARS_PARQUET, POLARS_JSONL),
    "duckdb, Arrow batches": (DUCKDB_PARQUET, DUCKDB_JSONL),
    "duckdb, sum(strlen)": (DUCKDB_SUM_PARQUET, DUCKDB_SUM_JSONL),
}


@dataclass(frozen=True)
class Timing:
    """Seconds of wall clock (median, minimum), and the peak of resident memory in MB."""

    name: str
    corpus: str
    seconds: float
    fastest: float
    peak_mb: float
    runs: int


def run(command: list[str]) -> tuple[float, float]:
    """Seconds and peak MB of one process."""
    start = time.perf_counter()
    # as in a shell: Python keeps what it compiled of the libraries, whoever starts this benchmark
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=usual)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)[:200]}\n{output.decode()[-2000:]}")
    return seconds, usage.ru_maxrss / 1000


def timed(name: str, corpus: str, command: list[str], runs: int, fresh: Path | None = None) -> Timing:
    """The median of several runs, each with an output folder that is not there yet."""
    found = []
    for _ in range(runs):
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        found.append(run(command))
    seconds = [s for s, _ in found]
    timing = Timing(name, corpus, statistics.median(seconds), min(seconds), max(m for _, m in found), runs)
    print(f"{corpus:<10} {name:<34} {timing.seconds:8.2f} s  {timing.peak_mb:7.0f} MB", file=sys.stderr, flush=True)
    return timing


def make_corpus(gb: float, work: Path, pool: Path) -> Path:
    """The pool scaled up, unless that was done."""
    folder = work / f"corpus-{gb:g}"
    if not (folder / "scale.json").exists():
        subprocess.run([sys.executable, pool / "scale.py", "--gb", str(gb), "--out", folder], check=True)
    return folder


def plain_jsonl(folder: Path) -> Path:
    """Uncompressed JSON Lines, which is what the reference reads."""
    import zstandard

    plain = folder / "plain"
    plain.mkdir(exist_ok=True)
    for path in sorted((folder / "jsonl").glob("*.zst")):
        to = plain / path.name.removesuffix(".zst")
        if not to.exists():
            with open(path, "rb") as source, open(to, "wb") as sink:
                zstandard.ZstdDecompressor().copy_stream(source, sink)
    return plain


def measure(gb: float, work: Path, pool: Path, runs: int, share: float) -> list[Timing]:
    """All the timings."""
    folder = make_corpus(gb, work, pool)
    target = str(pool / "targets" / "gsm8k" / "train.jsonl")
    python, out = sys.executable, work / "out"
    select = [python, "-m", "curate", "select", "--target", target, "--out", str(out), "--quiet"]
    run([*select, str(REPOSITORY / "samples" / "raw"), "--overwrite"])  # compiles the kernels, once
    run([*select, str(REPOSITORY / "samples" / "raw"), "--overwrite", "--set", "compat=true"])
    timings = []
    for i, (corpus, kind) in enumerate((("parquet", "parquet"), ("jsonl.zst", "jsonl"))):
        raw = str(folder / kind)
        for name, scripts in BARE.items():
            timings.append(timed(f"bare read: {name}", corpus, [python, "-c", scripts[i], raw], runs))
        timings.append(timed("curate select", corpus, [*select, raw], runs, out))
        again = [
            python,
            "-m",
            "curate",
            "draw",
            str(out),
            "--budget",
            "5%",
            "--seed",
            "1",
            "--out",
            f"{out}-again",
            "--quiet",
        ]
        timings.append(timed("another budget and seed", corpus, again, runs, Path(f"{out}-again")))
        timings.append(timed("curate select, compat", corpus, [*select, raw, "--set", "compat=true"], 1, out))
    if share:
        plain = plain_jsonl(folder)
        part = work / "reference-raw"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        files = sorted(plain.glob("*.jsonl"))
        for path in files[: max(1, round(len(files) * share))]:
            (part / path.name).symlink_to(path)
        share = sum(p.stat().st_size for p in part.iterdir()) / sum(p.stat().st_size for p in files)
        script = REFERENCE.replace("CORES", str(len(os.sched_getaffinity(0))))
        shutil.rmtree(work / "reference", ignore_errors=True)
        n = int(json.loads((folder / "scale.json").read_text())["rows"] * share)
        command = [python, "-c", script, str(part), target, str(work / "reference"), str(n // 10)]
        timing = timed(f"reference, {share:.0%} of the files", "jsonl", command, 1)
        timings.append(timing)
        timings.append(
            replace(timing, name=REFERENCE_NAME, seconds=timing.seconds / share, fastest=timing.fastest / share)
        )
    return timings


def ratios(timings: list[Timing]) -> dict[str, float]:
    """The claims: how many times the bare read, and how many times as fast as the reference."""
    by = {(t.corpus, t.name): t.seconds for t in timings}
    found = {}
    for corpus in ("parquet", "jsonl.zst"):
        ours = by[corpus, "curate select"]
        for name in BARE:
            found[f"{corpus}: select / {name}"] = ours / by[corpus, f"bare read: {name}"]
        if ("jsonl", REFERENCE_NAME) in by:
            reference = by["jsonl", REFERENCE_NAME]
            found[f"{corpus}: reference / select"] = reference / ours
            found[f"{corpus}: reference / compat"] = reference / by[corpus, "curate select, compat"]
    return found


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="text in the corpus")
    parser.add_argument("--work", type=Path, required=True, help="folder for corpora and outputs")
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--reference-share",
        type=float,
        default=1.0,
        help="of the files that it runs on, its time scaled up; 0 leaves it out",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not args.pool.exists():
        sys.exit(f"{args.pool}: no pool there; pass --pool")
    args.work.mkdir(parents=True, exist_ok=True)
    timings = measure(args.gb, args.work, args.pool, args.runs, args.reference_share)
    found = ratios(timings)
    for name, ratio in found.items():
        print(f"{name:<45} {ratio:8.2f}")
    if args.json:
        machine = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}"
        result = {"gb": args.gb, "machine": machine, "timings": [asdict(t) for t in timings], "ratios": found}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
