"""Runs that are killed at every commit point, one after another, and go on from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpora import Row, rows, sharded, target_rows, write


def stride(n: int) -> int:
    """Kills are ``n`` commit points apart, to spare time; with CURATE_KILLS=all in the environment none is left out."""
    return 1 if os.environ.get("CURATE_KILLS") == "all" else n


# Runs in one process, to load everything once; each run that is killed is a fork of it.
DRIVER = """
import json, os, signal, sys, threading
from pathlib import Path
from corpora import select, tree
import curate.steps.fit as fit

raw, out = Path(sys.argv[1]), Path(sys.argv[2])
LEFT = ("_work", ".curate.lock")
both, first, every = json.loads(sys.argv[4])
options = {"name": "x", "budget": 30, "shard_size": 1_500, "workers": 2, **json.loads(sys.argv[3])}
real_replace, real_look, target = os.replace, fit._look, raw.parent / "target.parquet"
state = {"left": None, "after": False, "looked": []}
lock = threading.Lock()

def replace(*args, **kwargs):
    if state["left"] is None:
        return real_replace(*args, **kwargs)
    with lock:
        state["left"] -= 1
        mine = state["left"] == 0
    if mine and not state["after"]:
        os.kill(os.getpid(), signal.SIGKILL)
    real_replace(*args, **kwargs)
    if mine:
        os.kill(os.getpid(), signal.SIGKILL)

def looking(job, partition):
    state["looked"].append(f"part-{partition.index:05d}.json")
    return real_look(job, partition)

os.replace, fit._look = replace, looking

select(raw, out / "warm", target=target, **options)
wanted = tree(out / "warm")
found, k, killed = [], first - every, True
while killed:
    k += every
    for after in (False, True) if both else (len(found) % 2 == 1,):
        folder = out / f"{k}{after}"
        child = os.fork()
        if not child:
            signal.alarm(60)  # a fork may stand still, as it has no other threads: then it is killed there
            state.update(left=k, after=after)
            select(raw, folder, target=target, **options)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if not killed:
            break
        done = {p.name for p in (folder / "_work" / "fit").glob("*.json")}
        scored = {p: p.stat().st_ino for p in folder.glob("scores/part-*.parquet")}
        state["looked"] = []
        select(raw, folder, target=target, **options)
        again = [p.name for p, inode in scored.items() if p.stat().st_ino != inode]
        found.append({
            "k": k,
            "after": after,
            "same": tree(folder) == wanted,
            "looked_again": sorted(done & set(state["looked"])),
            "scored_again": again,
            "n_done": len(done), "n_scored": len(scored),
            "left": [p.name for p in folder.rglob("*") if p.name in LEFT or p.name.endswith(".part")],
        })
print(json.dumps(found))
"""


def killed_at_every_commit(
    folder: Path,
    *,
    of: Sequence[Row] = (),
    both: bool = False,
    first: int = 1,
    every: int = 1,
    **options: Any,
) -> list[dict[str, Any]]:
    """Kill `select` at each of its renames, resume it, and check that nothing shows; returns the kills.

    ``of``: the documents of raw. ``both``: before and after each, else before one and after the next. ``first``,
    ``every``: which renames, see `stride`. ``options`` are of `select`.
    """
    how = [both, min(first, stride(every)), stride(every)]
    sharded(folder / "raw", of or rows(60), 4, "parquet")
    write(folder / "target.parquet", target_rows())
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, folder / "raw", folder / "out", json.dumps(options), json.dumps(how)],
        capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    for kill in found:
        assert kill["same"], kill
        assert kill["left"] == [], kill
        assert kill["looked_again"] == [], kill
        assert kill["scored_again"] == [], kill
    assert len(found) >= 2
    if how[2] <= 3:  # then some are killed between the steps
        assert max(kill["n_done"] for kill in found) == 4
        assert max(kill["n_scored"] for kill in found) == 4
    return found
