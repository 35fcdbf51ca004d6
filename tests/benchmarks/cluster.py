"""A selection by the local engine and by Ray on two nodes of this machine: seconds, memory, and whether bytes agree.

    python tests/benchmarks/cluster.py --work /tmp/curate-cluster --json tests/benchmarks/results/cluster.json

Nodes have one core each, so both engines have the same cores. Memory is proportional (PSS): what processes share is
counted once. A worker is killed in the middle of a last run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from memory import corpus
from speed import REPOSITORY

KINDS = ("driver", "worker", "ray itself")


def kind_of(process: psutil.Process, driver: int) -> str | None:
    """Whether a process is the driver, one of Ray's workers, or what else Ray runs."""
    if process.pid == driver:
        return "driver"
    line = process.cmdline()
    if line and line[0].startswith(("ray::_done", "ray::IDLE")):
        return "worker"
    return "ray itself" if line and ("/ray/" in " ".join(line) or line[0].startswith("ray::")) else None


def memory_now(driver: int) -> dict[str, list[int]]:
    """PSS in MB of all processes of each kind."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if (kind := kind_of(process, driver)) is not None:
                found[kind].append(process.memory_full_info().pss // 10**6)
    return found


def run(command: list[str], *, kill_a_worker: bool = False) -> dict[str, Any]:
    """Seconds of a command, and the peak of memory by kind of process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peaks: dict[str, dict[str, int]] = {kind: {"largest": 0, "all": 0} for kind in KINDS}
    killed = 0
    while process.poll() is None:
        for kind, sizes in memory_now(process.pid).items():
            peaks[kind]["largest"] = max(peaks[kind]["largest"], max(sizes, default=0))
            peaks[kind]["all"] = max(peaks[kind]["all"], sum(sizes))
        if kill_a_worker and not killed and time.perf_counter() - start > 6:
            killed = _kill_one()
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    assert process.returncode == 0, process.stderr.read() if process.stderr else ""
    out = json.loads(process.stdout.read() if process.stdout else "{}")
    return {"seconds": round(seconds, 1), "of_steps": out["seconds"], "peak_mb": peaks, "workers_killed": killed}


def _kill_one() -> int:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::_done"]:
                os.kill(process.pid, signal.SIGKILL)
                return 1
    return 0


def digest(out: Path) -> str:
    """SHA-256 over the shards, the ledger and the scores of a run."""
    found = hashlib.sha256()
    for path in sorted([*out.glob("shards/*"), *out.glob("scores/part-*"), out / "ledger.parquet"]):
        found.update(path.read_bytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the corpus and outputs")
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--gb", type=float, default=1.0, help="of text")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
    from ray.cluster_utils import Cluster

    args.work.mkdir(parents=True, exist_ok=True)
    raw, target = corpus(args.gb, "parquet", args.work, args.pool), args.pool / "targets" / "gsm8k" / "train.jsonl"
    node = {"num_cpus": 1, "object_store_memory": 200_000_000}
    nodes = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    nodes.add_node(**node)
    found: dict[str, Any] = {"gb": args.gb, "nodes": 2, "cores_each": 1}
    digests = set()
    ray = ["--engine", "ray", "--ray-address", nodes.address]
    for name, options in (("local", ["--workers", "2"]), ("ray", ray), ("ray, a worker killed", ray)):
        out = args.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "curate", "select", str(raw), "--target", str(target), "--out", str(out)]
        found[name] = run([*command, "--quiet", "--json", *options], kill_a_worker="killed" in name)
        digests.add(digest(out))
        print(name, json.dumps(found[name]), flush=True)
    found["same_bytes"] = len(digests) == 1
    nodes.shutdown()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
