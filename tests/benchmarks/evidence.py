"""Measure whether the verdicts of `curate evaluate` can be trusted.

Null: selections drawn at random from the pool must get the verdict "no better" in at least 95 of 100 seeds; on one
target with 100 seeds, and on all targets with `--null-seeds` each. Truth: on every target, selections by `dsir`
and `bytegrams` are judged twice, by what `--holdout 0.2` left out of the target's train part and by its held-out
part; the two should agree, and where they do not, one of them should be "no better".

    python tests/benchmarks/evidence.py --work /tmp/curate-evidence --json tests/benchmarks/results/evidence.json

Cross: a selection for one target is judged by the held-out part of three others, where it may well be worse than
random, and by their train part, which it never saw either; again the two verdicts should agree.

Documents of the pool's truth/contamination.parquet are left out first. There are no source labels, hence no
stratified arm.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

import curate

NULL_TARGET = "gsm8k"
METHODS = ("dsir", "bytegrams")
BUDGET = "1.5MB"
NULL_BUDGET = "500kB"  # all of it is the sample: the case in which chance has most to say


def raw_of(pool: Path, work: Path) -> Path:
    """The pool without documents that hold target items, in four files."""
    folder = work / "raw"
    if not folder.exists():
        left_out = pl.read_parquet(pool / "truth" / "contamination.parquet").select("id").unique()
        frame = pl.read_parquet(pool / "raw" / "*.parquet", columns=["id", "text"])
        frame = frame.join(left_out, on="id", how="anti", maintain_order="left")
        folder.mkdir(parents=True)
        step = -(-len(frame) // 4)
        for i in range(4):
            frame.slice(i * step, step).write_parquet(folder / f"part-{i}.parquet")
    return folder


NULL_SIZES = {"sample": "500kB", "heldout_size": "100kB"}  # so that hundreds of runs are a matter of minutes


def null(raw: Path, pool: Path, target: str, seeds: range, work: Path, budget: str) -> dict[str, Any]:
    """The verdicts on uniform draws from one scoring."""
    files = pool / "targets" / target
    scored = work / f"null-{target}"
    verdicts: Counter[str] = Counter()
    differences = []
    for seed in seeds:
        out = work / f"null-{target}-drawn"
        shutil.rmtree(out, ignore_errors=True)
        if not scored.exists():
            curate.score(raw, target=files / "train.jsonl", out=scored)
        curate.draw(scored, out=out, draw="uniform", seed=seed, budget=budget)
        found = curate.evaluate(out, heldout=files / "heldout.jsonl", **NULL_SIZES)
        verdicts[found.verdict] += 1
        over = found.arms[0].over_random
        assert over is not None
        differences.append([round(over.difference, 5), round(over.low, 5), round(over.high, 5)])
    say(f"null {target} at {budget}: {dict(verdicts)}")
    return {"verdicts": dict(verdicts), "budget": budget, "seeds": len(seeds), "differences": differences}


def truth(raw: Path, pool: Path, target: str, method: str, work: Path) -> dict[str, Any]:
    """The verdict by what was held out of the train part, and that by the held-out part."""
    files = pool / "targets" / target
    found: dict[str, Any] = {}
    for name, holdout in (("heldout", None), ("holdout 0.2", 0.2)):
        out = work / f"{method}-{target}-{'all' if holdout is None else 'part'}"
        curate.select(
            raw, target=files / "train.jsonl", out=out, method=method, budget=BUDGET, holdout=holdout, overwrite=True
        )
        start = time.perf_counter()
        evidence = curate.evaluate(out, heldout=files / "heldout.jsonl" if holdout is None else None)
        over = evidence.arms[0].over_random
        assert over is not None
        found[name] = {
            "verdict": evidence.verdict,
            "difference": round(over.difference, 4),
            "interval": [round(over.low, 4), round(over.high, 4)],
            "selected_over": {
                arm.name: arm.selected_over.verdict for arm in evidence.arms if arm.selected_over is not None
            },
            "bits_per_byte": {arm.name: round(arm.bits_per_byte, 4) for arm in evidence.arms},
            "copies": dict(evidence.arms[0].copies),
            "sentence": evidence.sentence,
            "seconds": round(time.perf_counter() - start, 1),
        }
        say(f"{method} {target} {name}: {evidence.sentence}")
    return found


def cross(pool: Path, selected_for: str, target: str, work: Path) -> dict[str, Any]:
    """The verdicts on the selection by dsir for one target, by the two parts of another."""
    found: dict[str, Any] = {"selected_for": selected_for, "target": target}
    for part in ("heldout", "train"):
        text = pool / "targets" / target / f"{part}.jsonl"
        evidence = curate.evaluate(work / f"dsir-{selected_for}-all", heldout={target: text}, **NULL_SIZES)
        over = evidence.arms[0].over_random
        assert over is not None
        found[part] = {"verdict": evidence.verdict, "interval": [round(over.low, 4), round(over.high, 4)]}
    say(f"{selected_for} judged by {target}: {found['heldout']['verdict']} and {found['train']['verdict']}")
    return found


def agreement(pairs: list[tuple[str, str]]) -> dict[str, int]:
    """How often two verdicts on one selection are the same, and how often one is better and one worse."""
    opposite = sum({a, b} == {"better", "worse"} for a, b in pairs)
    return {"of": len(pairs), "same": sum(a == b for a, b in pairs), "opposite": opposite}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    shared = Path(__file__).resolve().parents[3] / "shared" / "pool"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pool", type=Path, default=shared)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--targets", default="all")
    parser.add_argument("--seeds", type=int, default=100, help=f"uniform draws judged on {NULL_TARGET}")
    parser.add_argument("--null-seeds", type=int, default=10, help="uniform draws judged on each target")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    raw = raw_of(arguments.pool, arguments.work)
    everything = sorted(path.name for path in (arguments.pool / "targets").iterdir() if path.is_dir())
    targets = everything if arguments.targets == "all" else arguments.targets.split(",")
    other_seeds = range(1000, 1000 + arguments.null_seeds)

    def drawn(target: str, seeds: range, budget: str) -> dict[str, Any]:
        return null(raw, arguments.pool, target, seeds, arguments.work, budget)

    start = time.perf_counter()
    report: dict[str, Any] = {
        "versions": {"python": platform.python_version(), "pyppmd": importlib.metadata.version("pyppmd")},
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "processor": platform.machine()},
        "budget": BUDGET,
        "truth": {
            method: {target: truth(raw, arguments.pool, target, method, arguments.work) for target in targets}
            for method in METHODS
        },
        "null": {NULL_TARGET: drawn(NULL_TARGET, range(arguments.seeds), NULL_BUDGET)},
        "null_by_target": {target: drawn(target, other_seeds, NULL_BUDGET) for target in targets},
        "null_larger_budget": {NULL_TARGET: drawn(NULL_TARGET, other_seeds, "10%")},
    }
    ring = [*targets, *targets]
    others = [(name, ring[i + step]) for i, name in enumerate(targets) for step in (1, 4, 7) if step < len(targets)]
    report["cross"] = [cross(arguments.pool, one, other, arguments.work) for one, other in others]
    cases = [case for of in report["truth"].values() for case in of.values()]
    report["agree"] = {
        "truth": agreement([(case["heldout"]["verdict"], case["holdout 0.2"]["verdict"]) for case in cases]),
        "cross": agreement([(case["heldout"]["verdict"], case["train"]["verdict"]) for case in report["cross"]]),
    }
    report["seconds"] = round(time.perf_counter() - start)
    say(json.dumps(report["agree"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
