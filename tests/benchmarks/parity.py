"""`compat=True` against the reference package on the whole pool, CJK, emoji, right-to-left and junk included.

    python tests/benchmarks/parity.py --work /tmp/curate-parity --json parity.json

Runs data-selection 1.0.3 as published (fit, weights, Gumbel and plain top-k) and `curate score` with
`--set compat=true`, and compares the buckets of every document, `log_diff`, the log weights, the length filter,
the ids of the top-k, and the ids under the same Gumbel noise. Exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

os.environ.setdefault("TQDM_DISABLE", "1")
REPOSITORY = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-9  # relative


def reference(raw: Path, target: Path, work: Path) -> tuple[Any, np.ndarray, np.ndarray]:
    """The fitted reference, its log weights and its lengths, in the order of the file."""
    from data_selection import HashedNgramDSIR

    shutil.rmtree(work / "cache", ignore_errors=True)
    dsir = HashedNgramDSIR([str(raw)], [str(target)], cache_dir=str(work / "cache"), num_proc=2)
    dsir.fit_importance_estimator()
    dsir.compute_importance_weights()
    weights, lengths = (
        [np.load(work / "cache" / folder / f"{shard}.npy") for shard in range(2)]
        for folder in ("log_importance_weights", "perexample_metadata")
    )
    order = np.argsort(np.concatenate([np.arange(len(weights[shard])) * 2 + shard for shard in range(2)]))
    return dsir, np.concatenate(weights)[order], np.concatenate(lengths)[order]


def compare(pool: Path, target: Path, work: Path) -> dict[str, Any]:
    """All comparisons; every value is a number of differences or a largest error."""
    from data_selection.hashed_ngram_dsir import get_ngram_counts

    import curate
    from curate.sampling.draws import gumbel_top_k

    frame = pl.concat([pl.read_parquet(f, columns=["id", "text"]) for f in sorted(glob.glob(f"{pool}/raw/*.parquet"))])
    raw = work / "pool.jsonl"
    with open(raw, "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": i, "text": t}) + "\n" for i, t in frame.iter_rows())
    theirs, weights, lengths = reference(raw, target, work)

    shutil.rmtree(work / "scored", ignore_errors=True)
    curate.score(raw, target=target, out=work / "scored", settings={"compat": True})
    model = curate.Dsir.load(work / "scored" / "scorer")
    scored = pl.read_parquet(work / "scored" / "scores" / "*.parquet").sort("row")
    assert scored["doc_id"].to_list() == frame["id"].to_list()
    ours = scored["score"].to_numpy()
    long_enough = lengths >= theirs.min_example_length

    stream = model.features.stream(frame["text"].to_arrow())
    starts = np.concatenate([[0], stream.ends[:-1]])
    other_buckets = 0
    for text, start, stop in zip(frame["text"], starts, stream.ends, strict=True):
        counts = np.bincount(stream.buckets[start:stop], minlength=10_000)
        other_buckets += not np.array_equal(counts, get_ngram_counts(text))

    k = 3_000
    eligible = np.flatnonzero(long_enough)
    noise = np.random.default_rng(0).gumbel(size=len(frame))
    top, drawn = {}, {}
    for name, values in (("theirs", weights), ("ours", ours)):
        top[name] = set(eligible[gumbel_top_k(values[eligible], k, noise=np.zeros(len(eligible)))].tolist())
        drawn[name] = set(eligible[gumbel_top_k(values[eligible], k, noise=noise[eligible])].tolist())
    scale = np.maximum(1, np.abs(weights[long_enough]))
    return {
        "documents": len(frame),
        "documents with other bucket counts": int(other_buckets),
        "largest difference of log_diff": float(np.abs(model.log_ratio_[0] - theirs.log_diff).max()),
        "largest relative difference of log weights": float((np.abs(ours - weights)[long_enough] / scale).max()),
        "documents that only one filter keeps": int((np.isnan(ours) == long_enough).sum()),
        f"ids in only one top-{k:,}": len(top["theirs"] ^ top["ours"]),
        f"ids in only one Gumbel top-{k:,}, same noise": len(drawn["theirs"] ^ drawn["ours"]),
    }


def main() -> None:
    """Compare on two targets, print, exit with 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--targets", default="gsm8k,proofnet-lean")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    results, same = {}, True
    for name in args.targets.split(","):
        results[name] = found = compare(args.pool, args.pool / "targets" / name / "train.jsonl", args.work)
        for what, value in found.items():
            print(f"{name:<14} {what:<46} {value:g}", flush=True)
            same &= what == "documents" or value <= TOLERANCE
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
