"""How far cheaper ways of ZIP-FIT agree with the exact one: the race, other codecs, and primed compression.

    python tests/benchmarks/zipfit_agreement.py --json tests/benchmarks/results/zipfit_agreement.json

Race: 500 documents of the pool against up to 200 texts of a target, for the best 10 and 50, over seeds: how many
compressions it saves, and how often its winners are exactly the best. Codecs: the rank correlation (Spearman) with
gzip level 6, and the share of the best 50 that both have.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.errors import MissingExtraError
from curate.scorers import Primed, ZipFit, race

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("gsm8k", "humaneval", "pubmedqa", "minif2f-lean")
N_DOCUMENTS, N_TEXTS, BEST = 500, 200, (10, 50)
MAX_BYTES = 20_000  # of a document
CODECS = (("gzip", 1), ("gzip", 9), ("deflate", 6), ("zstd", 3), ("lz4", 0), ("isal", 1), ("isal", 2),
          ("libdeflate", 1), ("libdeflate", 6))  # fmt: skip


def target_texts(pool: Path, name: str) -> list[str]:
    """Texts of a target, as many as are used."""
    lines = (pool / "targets" / name / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:N_TEXTS]]


def documents(pool: Path) -> list[str]:
    """Documents of the pool that have at least 20 tokens or so, in a fixed order."""
    frame = pl.scan_parquet(pool / "raw" / "*.parquet").select("text")
    size = pl.col("text").str.len_bytes()
    texts: list[str] = frame.filter(size.is_between(200, MAX_BYTES)).collect()["text"].to_list()
    return texts


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; ties by their order."""
    ranks = [np.argsort(np.argsort(of, kind="stable")) for of in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def overlap(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """The share of the best k of one that the other has too."""
    best = [set(np.argsort(-of, kind="stable")[:k]) for of in (a, b)]
    return len(best[0] & best[1]) / k


def races(pool: Path, seeds: int, z: float) -> list[dict[str, Any]]:
    """Every race against the full scores."""
    texts = documents(pool)
    found = []
    for name in TARGETS:
        model = ZipFit(min_tokens=0).fit(target=target_texts(pool, name))
        for seed in range(seeds):
            some = [texts[i] for i in np.random.default_rng(seed).choice(len(texts), N_DOCUMENTS, replace=False)]
            scores = model.score(some)
            for k in BEST:
                result = race(model, some, k, z=z, workers=2)
                exact = set(np.argsort(-scores, kind="stable")[:k]) == set(result.rows)
                assert np.array_equal(result.scores, scores[result.rows]), "a winner's score is not exact"
                found.append({"target": name, "seed": seed, "k": k, "saved": result.saved_fraction, "exact": exact})
        of = [r for r in found if r["target"] == name]
        print(f"{name:<14} saved {np.mean([r['saved'] for r in of]):.0%}, exact {sum(r['exact'] for r in of)} of "
              f"{len(of)}", file=sys.stderr, flush=True)  # fmt: skip
    return found


def agreements(pool: Path) -> list[dict[str, Any]]:
    """Every codec, and primed compression, against gzip level 6."""
    texts = documents(pool)
    some = [texts[i] for i in np.random.default_rng(0).choice(len(texts), N_DOCUMENTS, replace=False)]
    found = []
    for name in TARGETS:
        target = target_texts(pool, name)
        exact = ZipFit(min_tokens=0).fit(target=target).score(some)
        models: dict[str, Any] = {"primed": Primed(min_tokens=0)}
        for codec, level in CODECS:
            try:
                models[f"{codec} {level}"] = ZipFit(codec=codec, level=level, min_tokens=0)
            except MissingExtraError as error:
                print(error, file=sys.stderr)
        for label, model in models.items():
            scores = model.fit(target=target, raw=texts[:5_000]).score(some)
            agreement = {"spearman": spearman(exact, scores), "overlap": overlap(exact, scores, 50)}
            found.append({"target": name, "of": label, **agreement})
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--z", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    raced, agreed = races(args.pool, args.seeds, args.z), agreements(args.pool)
    saved = [r["saved"] for r in raced]
    print(f"race, z = {args.z:g}: {sum(r['exact'] for r in raced)} of {len(raced)} exact; "
          f"compressions saved {np.mean(saved):.0%} ({min(saved):.0%} to {max(saved):.0%})")  # fmt: skip
    for label in dict.fromkeys(a["of"] for a in agreed):
        of = [a for a in agreed if a["of"] == label]
        means = {key: float(np.mean([a[key] for a in of])) for key in ("spearman", "overlap")}
        print(f"{label:<14} Spearman {means['spearman']:.3f}, {means['overlap']:.0%} of the best 50")
    if args.json:
        args.json.write_text(json.dumps({"z": args.z, "races": raced, "agreement": agreed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
