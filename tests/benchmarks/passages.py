"""What selecting passages gains over selecting whole documents, at equal bytes.

Raw, targets, budget, held-out texts and the model that judges are those of quality.py. Documents and passages are read
by the model in an order by a hash of their ids, each followed by a blank line.

    python tests/benchmarks/passages.py --heldout 100MB --json tests/benchmarks/results/passages.json
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import quality
from quality import Documents, Selection, Target

import curate

SIZE = 200
ARMS = {  # by name: whether of passages, and what `select` is told
    "random passages": (True, {"method": "bytegrams", "draw": "uniform"}),
    "bytegrams": (False, {"method": "bytegrams", "draw": "topk"}),
    "cover": (False, {"method": "bytegrams", "draw": "cover"}),
    "bytegrams passages": (True, {"method": "bytegrams", "draw": "topk"}),
    "cover passages": (True, {"method": "bytegrams", "draw": "cover"}),
}
DETERMINISTIC = ("topk", "cover")  # the seed only orders what the model reads


def chosen(raw: list[Path], target: Target, budget: str, seed: int, run: Path, call: dict[str, Any]) -> Documents:
    """What `curate.select` keeps; scores are kept for the next seed or draw."""
    found = curate.select(raw, target=target.train, out=run, budget=budget, seed=seed, overwrite=True, **call)
    frame = pl.read_parquet(found.shards, columns=["id", "text"])
    kept = Documents(frame["id"].to_list(), frame["text"].to_list())
    assert int(kept.sizes.sum()) <= quality.parse_size(budget)
    return kept


def lengths_of(kept: Documents, seed: int, heldout: list[bytes]) -> list[int]:
    """Bytes that each held-out text costs after what was kept; in a worker process."""
    order = quality.hash_order(kept.ids, f"prime/{seed}")
    return quality.code_lengths(b"".join(kept.texts[i].encode() + quality.SEPARATOR for i in order), heldout)


def main(argv: Sequence[str] | None = None) -> None:
    """Cut, select, judge."""
    arguments = quality.parse_arguments(argv)
    seeds, targets = [int(seed) for seed in arguments.seeds.split(",")], quality.choose_targets(arguments)
    raw = quality.load_raw(arguments.pool)
    seconds: dict[str, float] = {}
    selections: list[Selection] = []
    lengths: list[Any] = []
    with tempfile.TemporaryDirectory() as temporary, quality.workers() as processes:
        cache = arguments.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        selectors = quality.Selectors(raw, arguments.budget, cache)
        quality.prepare_reference(selectors, targets, seconds)
        with quality.timed("cut", seconds):
            cut = curate.passages(selectors.dump, out=Path(temporary) / "cut", size=SIZE)
        pieces = sorted((Path(temporary) / "cut" / "passages").glob("*.parquet"))
        jobs = []
        for target in targets:
            heldout = quality.heldout_pieces(target.heldout)
            kept: dict[tuple[str, int], Documents] = {}
            for seed in seeds:
                for name, of in (("random", selectors.random), ("reference", selectors.reference)):
                    rows = of(quality.Arm(name, name), target, seed)
                    kept[name, seed] = Documents([raw.ids[r] for r in rows], [raw.texts[r] for r in rows])
            for name, (passages, call) in ARMS.items():
                run = Path(temporary) / target.name / ("passages" if passages else "documents")
                for seed in seeds:
                    if seed == seeds[0] or call["draw"] not in DETERMINISTIC:
                        kept[name, seed] = chosen(
                            pieces if passages else selectors.dump, target, arguments.budget, seed, run, call
                        )
                    else:
                        kept[name, seed] = kept[name, seeds[0]]
            for (name, seed), documents in kept.items():
                selections.append(Selection(target.name, name, seed, list(range(len(documents.ids))), 0.0))
                jobs.append((processes.submit(lengths_of, documents, seed, heldout), int(documents.sizes.sum())))
            quality.say(f"{target.name} selected")
        for done, (job, _) in enumerate(jobs, 1):
            lengths.append(np.array(job.result(), np.int64))
            quality.say_every(10, done, len(jobs), "PPMd: selection")
    names = ["random", "reference", *ARMS]
    summary = quality.summarise(quality.make_figures(selections, lengths, targets), [t.name for t in targets], names)
    report = {
        **quality.environment(),
        "setup": {
            "budget": quality.parse_size(arguments.budget),
            "seeds": seeds,
            "passage_bytes": SIZE,
            "n_passages": cut.n_passages,
            "n_documents": cut.n_documents,
            "arms": {name: {"passages": passages, **call} for name, (passages, call) in ARMS.items()},
            "heldout": {
                t.name: {"documents": len(t.heldout.ids), "bytes": int(t.heldout.sizes.sum())} for t in targets
            },
        },
        "summary": summary,
        "units": {name: float(np.mean([len(s.rows) for s in selections if s.arm == name])) for name in names},
        "seconds": seconds,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(quality.bits_table(summary, names))


if __name__ == "__main__":
    sys.exit(main())
