"""Which metric of a selection says beforehand what a model gains from it: rank correlations on the pool.

For every target, method and budget documents are selected and every metric of `curate compare` is computed against
the target's examples; the held-out half is never looked at by them. Then PPMd reads the selection and codes the
held-out documents, as in quality.py, and the gain over a random selection of the same budget is ranked against each
metric: over all selections (Spearman), and within each target and budget, averaged, which is the question of a user
who has to choose a method.

    python tests/benchmarks/metrics.py --cache /tmp/quality --json metrics.json

Needs what quality.py needs.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import quality

from curate.engines import LocalEngine
from curate.sampling.noise import TIE, keyed_hashes
from curate.survey import Survey, facts
from curate.survey.comparison import Comparison, Corner, compare

BUDGETS = ("500kB", "1.5MB", "4.5MB")
METHODS = {
    "random": quality.Arm("random", "random"),
    "reference": quality.Arm("reference", "reference"),
    "dsir": quality.Arm("dsir", "curate"),
    "primed": quality.Arm("primed", "curate", call={"method": "primed"}),
    "bytegrams": quality.Arm("bytegrams", "curate", call={"method": "bytegrams"}),
    "dsir by length": quality.Arm("dsir by length", "curate", {"normalize": "sum"}),
}
RAW_BYTES = 16_000_000


def corner(name: str, ids: list[str], texts: list[str], engine: LocalEngine) -> Corner:
    """Documents as `compare` wants them: in the order of a hash."""
    strings = pa.array(texts, pa.large_string())
    order = pa.array(np.argsort(keyed_hashes(pa.array(ids, pa.large_string()), 0, TIE), kind="stable"))
    shuffled = strings.take(order)
    return Corner(Survey(name, texts=shuffled), facts(shuffled, engine))


def raw_corner(raw: quality.Documents, engine: LocalEngine) -> Corner:
    """A sample of raw, whole documents."""
    rows = quality.fill(quality.hash_order(raw.ids, "metrics"), raw.sizes, RAW_BYTES)
    return corner("raw", [raw.ids[r] for r in rows], [raw.texts[r] for r in rows], engine)


def figures(of: Comparison) -> dict[str, float]:
    """Every metric as a number that is larger for a better selection."""
    assert of.reduction is not None
    assert of.characteristic_raw is not None
    found = {"KL reduction": of.reduction.value, "KL reduction as in the paper": of.parity}
    found |= {f"{name}, reduction": d.raw - d.selected for name, d in of.divergences.items()}
    found["Sinkhorn, reduction"] = of.sinkhorn.raw - of.sinkhorn.selected
    found["characteristic function, reduction"] = of.characteristic_raw.squared - of.characteristic_selected.squared
    for name, attribute in of.attributes.items():
        assert attribute.raw is not None
        found[f"KS of {name}, reduction"] = attribute.raw.distance - attribute.selected.distance
    return found


def ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation; nan where one does not vary."""
    a, b = ranks(x) - ranks(x).mean(), ranks(y) - ranks(y).mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else math.nan


def correlations(rows: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """For each metric: over all selections with an interval from resampled targets, and within target and budget."""
    targets = sorted({row["target"] for row in rows})
    chosen = [rng.integers(0, len(targets), len(targets)) for _ in range(500)]
    found = {}
    for name in rows[0]["metrics"]:
        value = np.array([row["metrics"][name] for row in rows])
        gain = np.array([row["gain"] for row in rows])
        of = {t: np.array([row["target"] == t for row in rows]) for t in targets}
        resampled = []
        for some in chosen:
            at = np.concatenate([np.flatnonzero(of[targets[i]]) for i in some])
            resampled.append(spearman(value[at], gain[at]))
        within = []
        for target in targets:
            for budget in BUDGETS:
                at = [i for i, row in enumerate(rows) if (row["target"], row["budget"]) == (target, budget)]
                within.append(spearman(value[at], gain[at]))
        low, high = np.quantile(resampled, [0.025, 0.975])
        found[name] = {
            "spearman": spearman(value, gain), "low": float(low), "high": float(high),
            "within_target_and_budget": float(np.nanmean(within)),
        }  # fmt: skip
    return dict(sorted(found.items(), key=lambda item: -item[1]["spearman"]))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Select, measure, compare, correlate."""
    raw, targets = quality.load_raw(arguments.pool), quality.choose_targets(arguments)
    selectors = quality.Selectors(raw, BUDGETS[0], arguments.cache)
    selections, budgets = [], []
    for method in METHODS.values():
        for target in targets:
            for budget in BUDGETS:
                selectors.budget = budget
                arm = replace(method, call={**method.call, "budget": budget}) if method.kind == "curate" else method
                selections.append(selectors.select(arm, target, arguments.seed))
                budgets.append(budget)
    lengths = quality.measure_all(selections, targets, arguments.pool)
    bits = [8 * float(n.sum()) / float(_target(targets, s.target).heldout.sizes.sum())
            for n, s in zip(lengths, selections, strict=True)]  # fmt: skip
    at_random = {(s.target, b): x for s, b, x in zip(selections, budgets, bits, strict=True) if s.arm == "random"}
    rows = []
    with LocalEngine(quality.PROCESSES) as engine:
        of_raw = raw_corner(raw, engine)
        of_target = {t.name: corner(t.name, train.ids, train.texts, engine)
                     for t in targets for train in [quality.load_jsonl(t.train)]}  # fmt: skip
        for selection, budget, x in zip(selections, budgets, bits, strict=True):
            ids, texts = [raw.ids[r] for r in selection.rows], [raw.texts[r] for r in selection.rows]
            found = compare(of_target[selection.target], corner("selected", ids, texts, engine), of_raw, n_resamples=0)
            rows.append(
                {"target": selection.target, "method": selection.arm, "budget": budget, "bits_per_byte": x,
                 "gain": at_random[selection.target, budget] - x, "metrics": figures(found)}
            )  # fmt: skip
            quality.say_every(10, len(rows), len(selections), "compared: selection")
    return {**quality.environment(), "budgets": BUDGETS, "methods": list(METHODS), "seed": arguments.seed,
            **both(rows), "selections": rows}  # fmt: skip


def both(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Correlations with random selections among the others, which any metric tells, and without."""
    targeted = [row for row in rows if row["method"] != "random"]
    return {
        "correlations": correlations(rows, np.random.default_rng(0)),
        "correlations_without_random": correlations(targeted, np.random.default_rng(0)),
    }


def _target(targets: list[quality.Target], name: str) -> quality.Target:
    return next(t for t in targets if t.name == name)


def main() -> None:
    """Run the benchmark."""
    shared = Path(__file__).resolve().parents[3] / "shared" / "pool"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pool", type=Path, default=shared, help="pool folder (default ../shared/pool)")
    parser.add_argument("--targets", default="all", help="names of targets (default all)")
    parser.add_argument("--heldout", type=quality.parse_size, default="300kB", help="held-out cap (default 300kB)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--cache", type=Path, required=True, help="folder for n-gram counts and the pool's dump")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    report = run(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    for part in ("correlations", "correlations_without_random"):
        print(part.replace("_", " "))
        for name, of in report[part].items():
            print(f"  {name:38} {of['spearman']:+.2f} ({of['low']:+.2f} to {of['high']:+.2f})  "
                  f"within {of['within_target_and_budget']:+.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
