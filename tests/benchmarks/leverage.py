"""Leverage measured: dictionaries and their accuracy, selections without a target, speed and memory.

    python tests/benchmarks/leverage.py --json leverage.json
    python tests/benchmarks/leverage.py --parts speed --corpora half/=0.5,one/=1,two/=2 --json leverage.json

Parts, of which --parts names some:

- `dictionaries`: how many points SQUEAK keeps, against the effective dimension and the number of documents (the data
  ten times over); the exact epsilon, of one pass and of 1, 4 and 16 partitions merged, with the bound of the union.
- `selections`: 1.5 MB of the pool without a target, against random: effective dimension, how much of raw's documents
  is missed, sources, near-duplicates, and bits per byte of all ten held-out targets (see quality.py).
- `flood`: the same on the pool with as many bytes again of near-copies of ten of its documents.
- `speed`: `curate score --method leverage` as a process, beside a bare Polars read of the text column.

Source labels and truth files only judge selections. Results of a part replace those that the file has of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from quality import PPMD_FLUSH, fill, heldout_pieces, load_raw, load_target, new_encoder, say, workers
from speed import POLARS_PARQUET, REPOSITORY, timed

from curate.features.vectors import HashedVectors
from curate.leverage import (
    Dictionary,
    Gram,
    Rbf,
    effective_dimension,
    estimated_error,
    measured_epsilon,
    median_bandwidth,
    merge_tree,
    node_rng,
    squeak,
    union,
    unit_rows,
)
from curate.scorers import Leverage

BUDGET = 1_500_000
HELDOUT = 150_000  # bytes of each target
SEEDS = 5
N_EXACT = 2_000  # documents whose similarities fit in memory squared
RIDGE = 0.01  # for each document, of what selections are judged by
FLOOD_TEMPLATES = 10
Rows = np.ndarray
Picker = Callable[[np.random.Generator], Rows]


# --- dictionaries ------------------------------------------------------------------------------------


def dictionaries(texts: list[str]) -> dict[str, Any]:
    """Sizes and accuracies on documents of the pool, with the RBF kernel."""
    order = np.random.default_rng(0).permutation(len(texts))
    some = pa.array([texts[i] for i in order[: 5 * N_EXACT]], pa.large_string())
    x = unit_rows(HashedVectors()(some))
    return {
        "n_documents": N_EXACT,
        "sizes": [sized(x[:N_EXACT], factor, ridge) for factor in (0.5, 1.0) for ridge in (100.0, 30.0, 10.0)],
        "copies": [sized(x[:N_EXACT], 1.0, 30.0, copies) for copies in (5, 20, 80, 320)],
        "merged": [merged(x[:N_EXACT], n) for n in (1, 4, 16)],
        "estimated_error": errors(x),
    }


def sized(x: np.ndarray, factor: float, ridge: float, copies: int = 50) -> dict[str, Any]:
    """A dictionary of documents, and of the same documents ten times over at ten times the ridge."""
    similarity = Rbf(median_bandwidth(x) * factor)
    k = similarity.between(x, x)
    found: dict[str, Any] = {"bandwidths": factor, "ridge": ridge, "copies": copies}
    found["effective_dimension"] = round(effective_dimension(k, ridge), 1)
    start = Dictionary.empty(x.shape[1], similarity, ridge, max_copies=copies)
    once = squeak(start, x, node_rng(0, 0, 0))
    tenfold_start = Dictionary.empty(x.shape[1], similarity, 10 * ridge, max_copies=copies)
    tenfold = squeak(tenfold_start, np.tile(x, (10, 1)), node_rng(0, 0, 1))
    found["size"], found["size_of_tenfold"] = len(once), len(tenfold)
    found["copies_kept"], found["copies_kept_of_tenfold"] = int(once.copies.sum()), int(tenfold.copies.sum())
    found["epsilon"] = round(measured_epsilon(k, once.names, once.weights, ridge), 3)
    # ten times the data: a copy of a document is the document, so weights of copies add up, over ten
    of_tenfold = measured_epsilon(k, tenfold.names % len(x), tenfold.weights / 10, ridge)
    found["epsilon_of_tenfold"] = round(of_tenfold, 3)
    found["effective_dimension_estimated"] = round(once.effective_dimension, 1)
    say(f"dictionary: {found}")
    return found


def merged(x: np.ndarray, n_parts: int, ridge: float = 30.0, copies: int = 200) -> dict[str, Any]:
    """Partitions by themselves, their union, and their merging: the measured epsilon of each, and the bound."""
    similarity = Rbf(median_bandwidth(x))
    start = Dictionary.empty(x.shape[1], similarity, ridge, max_copies=copies)
    parts, of_parts, at = [], [], 0
    for i, some in enumerate(np.array_split(x, n_parts)):
        part = squeak(start, some, node_rng(0, 0, i), first_name=at)
        of_parts.append(measured_epsilon(similarity.between(some, some), part.names - at, part.weights, ridge))
        parts.append(part)
        at += len(some)
    k = similarity.between(x, x)
    both, tree = union(parts), merge_tree(parts)
    again = merge_tree(parts)
    scores = tree.estimate(x)
    exact = Dictionary.empty(x.shape[1], similarity, ridge).with_points(x, np.arange(len(x))).estimate(x)
    epsilon = measured_epsilon(k, tree.names, tree.weights, ridge)
    found = {
        "n_parts": n_parts,
        "size_of_union": len(both),
        "size": len(tree),
        "largest_epsilon_of_parts": round(max(of_parts), 3),
        "epsilon_of_union": round(measured_epsilon(k, both.names, both.weights, ridge), 3),
        "epsilon": round(epsilon, 3),
        "bound_holds": bool(((1 - epsilon) * scores <= exact + 1e-9).all())
        and bool((exact <= (1 + epsilon) * scores + 1e-9).all()),
        "reproduced": bool((again.names == tree.names).all() and (again.weights == tree.weights).all()),
    }
    say(f"merged: {found}")
    return found


def errors(x: np.ndarray) -> list[dict[str, Any]]:
    """The error that is printed, by a dictionary of twice the copies, beside that by exact scores."""
    held, x = x[N_EXACT : N_EXACT + 1000], x[:N_EXACT]
    similarity, ridge = Rbf(median_bandwidth(x)), RIDGE * N_EXACT
    whole = Dictionary.empty(x.shape[1], similarity, ridge).with_points(x, np.arange(len(x)))
    found = []
    for copies in (10, 25, 100):
        made = [
            squeak(Dictionary.empty(x.shape[1], similarity, ridge, max_copies=n), x, node_rng(0, 0, n))
            for n in (copies, 2 * copies)
        ]
        printed, right = estimated_error(*made, held), estimated_error(made[0], whole, held)
        found.append({"copies": copies, "printed": asdict(printed), "by_exact_scores": asdict(right)})
        say(f"error: {copies} copies: typical {printed.typical:.3f}, by exact scores {right.typical:.3f}")
    return found


# --- selections --------------------------------------------------------------------------------------


class Judge:
    """Documents, and what a selection of them is judged by."""

    def __init__(self, ids: list[str], texts: list[str], sources: list[str], clusters: np.ndarray) -> None:
        self.ids, self.texts, self.sources, self.clusters = ids, texts, np.array(sources), clusters
        self.sizes = np.array([len(text.encode()) for text in texts], np.int64)
        self.vectors = HashedVectors()(pa.array(texts, pa.large_string()))

    def facts(self, rows: Rows) -> dict[str, float]:
        """Figures of one selection."""
        gram = Gram(self.vectors.shape[1])
        gram.add(self.vectors[rows])
        directions = gram.directions(RIDGE * len(rows))
        missed = directions.missed(self.vectors)
        sizes, sources = self.sizes[rows], self.sources[rows]
        shares = np.array([sizes[sources == name].sum() for name in np.unique(sources)]) / sizes.sum()
        return {
            "documents": len(rows),
            "megabytes": float(sizes.sum() / 1e6),
            "effective_dimension": directions.effective_dimension,
            "raw_missed_mean": float(missed.mean()),
            "raw_missed_99": float(np.quantile(missed, 0.99)),
            "sources": len(shares),
            "effective_sources": float(np.exp(-(shares * np.log(shares)).sum())),
            "near_duplicates": len(rows) - len(np.unique(self.clusters[rows])),
            "junk_share": float(sizes[sources == "junk"].sum() / sizes.sum()),
            "flood_share": float(sizes[sources == "flood"].sum() / sizes.sum()),
        }

    # ---- arms

    def random(self, rng: np.random.Generator) -> Rows:
        """Documents in random order, up to the budget."""
        return np.array(fill(rng.permutation(len(self.ids)).tolist(), self.sizes, BUDGET))

    def by_chance(self, scores: np.ndarray) -> Picker:
        """A sample with chances ``min(1, c score)`` that add up to the budget in bytes; systematic, in random order."""
        weights = np.nan_to_num(scores)
        low, high = 0.0, 1e15
        for _ in range(200):
            c = (low + high) / 2
            low, high = (c, high) if (np.minimum(1, c * weights) * self.sizes).sum() < BUDGET else (low, c)
        chances = np.minimum(1, low * weights)

        def pick(rng: np.random.Generator) -> Rows:
            order = rng.permutation(len(chances))
            return order[np.diff(np.floor(np.cumsum(chances[order]) - rng.random()), prepend=-1.0) > 0]

        return pick

    def highest(self, scores: np.ndarray) -> Picker:
        """The highest scores, up to the budget: the same whatever the seed."""
        return lambda rng: np.array(
            fill(np.argsort(-np.nan_to_num(scores), kind="stable").tolist(), self.sizes, BUDGET)
        )

    def greedy(self, rng: np.random.Generator) -> Rows:
        """Of a random half, always the document that what was taken explains least (D-optimal design)."""
        x = unit_rows(self.vectors)
        ridge = RIDGE * BUDGET / self.sizes.mean()
        inverse, scores = np.eye(x.shape[1]) / ridge, np.einsum("ij,ij->i", x, x) / ridge
        open_ = (rng.random(len(x)) < 0.5) & (self.sizes > 0)
        taken, used = [], 0
        while open_.any():
            i = int(np.argmax(np.where(open_, scores, -1.0)))
            open_[i] = False
            if used + self.sizes[i] > BUDGET:
                break
            taken.append(i)
            used += int(self.sizes[i])
            u = inverse @ x[i]
            scale = 1 + x[i] @ u
            inverse -= np.outer(u, u) / scale
            scores -= (x @ u) ** 2 / scale
        return np.array(taken)

    def arms(self) -> dict[str, Picker]:
        """Ways to select, by name."""
        texts = pa.array(self.texts, pa.large_string())

        def scores(**settings: Any) -> np.ndarray:
            return np.asarray(Leverage(min_tokens=1, **settings).fit(raw=[texts]).score(texts))

        linear = scores()
        return {
            "random": self.random,
            "random, by chance": self.by_chance(np.ones(len(texts))),  # the same draws as of leverage
            "leverage": self.by_chance(linear),
            "leverage, ridge 0.001": self.by_chance(scores(ridge_per_document=0.001)),
            "leverage, 1024 dimensions": self.by_chance(scores(dim=1024)),
            "leverage, rbf": self.by_chance(scores(kernel="rbf")),
            "leverage squared": self.by_chance(linear**2),
            "highest leverage": self.highest(linear),
            "greedy": self.greedy,
        }


def measure(selected: bytes, heldout: list[list[bytes]]) -> list[int]:
    """Bytes that the held-out documents of each target cost after the selected text.

    The selected text is read once: a process a target goes on from there, each by itself.
    """
    encoder = new_encoder()
    encoder.encode(selected)
    found = []
    for pieces in heldout:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            cost = sum(len(encoder.encode(text)) for text in pieces) + len(encoder.flush(False)) - PPMD_FLUSH
            os.write(writer, str(cost).encode())
            os._exit(0)
        os.waitpid(child, 0)
        found.append(int(os.read(reader, 100)))
        os.close(reader)
        os.close(writer)
    return found


def selections(judge: Judge, pool: Path, arms: dict[str, Picker]) -> dict[str, Any]:
    """Every arm with several seeds: the mean of its figures, and of bits per byte over targets with its deviation."""
    folders = sorted(path for path in (pool / "targets").iterdir() if path.is_dir())
    targets = [load_target(folder, HELDOUT) for folder in folders]
    pieces = [heldout_pieces(target.heldout) for target in targets]
    sizes = np.array([sum(map(len, of)) for of in pieces])
    jobs, facts = {}, {}
    with workers() as processes:
        for name, pick in arms.items():
            facts[name] = []
            for seed in range(SEEDS):
                rng = np.random.default_rng(seed)
                rows = pick(rng)
                facts[name].append(judge.facts(rows))
                text = b"\n\n".join(judge.texts[i].encode() for i in rng.permutation(rows))
                jobs[name, seed] = processes.submit(measure, text, pieces)
        found: dict[str, Any] = {}
        for name in arms:
            bits = np.array([8 * np.array(jobs[name, seed].result()) / sizes for seed in range(SEEDS)])
            mean = {key: round(statistics.fmean(f[key] for f in facts[name]), 4) for key in facts[name][0]}
            mean |= {"bits_per_byte": round(float(bits.mean()), 4)}
            mean |= {"bits_per_byte_deviation": round(float(bits.mean(axis=1).std(ddof=1)), 4)}
            by_target = {t.name: round(float(b), 4) for t, b in zip(targets, bits.mean(axis=0), strict=True)}
            found[name] = mean | {"bits_per_byte_by_target": by_target}
            say(f"{name}: {mean}")
    return found


def pool_judge(pool: Path) -> Judge:
    """The pool's documents with their sources, and near-duplicates as clusters."""
    raw = load_raw(pool)
    sources = pl.read_parquet(pool / "raw" / "*.parquet", columns=["id", "source"])
    source_of = dict(zip(sources["id"], sources["source"], strict=True))
    row = {ident: i for i, ident in enumerate(raw.ids)}
    parent = list(range(len(raw.ids)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for name in ("dups", "natural_neardups"):
        pairs = pl.read_parquet(pool / "truth" / f"{name}.parquet")
        for a, b in zip(pairs["id"], pairs["of_id"], strict=True):
            if a in row and b in row:
                parent[root(row[a])] = root(row[b])
    clusters = np.array([root(i) for i in range(len(parent))])
    return Judge(raw.ids, raw.texts, [source_of[i] for i in raw.ids], clusters)


def flooded(judge: Judge) -> Judge:
    """The same with as many bytes again of copies of a few documents, one word in thirty of each changed."""
    rng = np.random.default_rng(0)
    usual = np.flatnonzero((judge.sizes > 1_000) & (judge.sizes < 4_000) & (judge.sources != "junk"))
    templates = rng.choice(usual, FLOOD_TEMPLATES, replace=False)
    words = sorted({word for i in rng.choice(len(judge.texts), 500) for word in judge.texts[i].split()})
    ids, texts, clusters, size = [], [], [], 0
    while size < judge.sizes.sum():
        template = int(rng.choice(templates))
        said = judge.texts[template].split(" ")
        for at in np.flatnonzero(rng.random(len(said)) < 1 / 30):
            said[at] = words[rng.integers(len(words))]
        ids.append(f"flood{len(ids)}")
        texts.append(" ".join(said))
        clusters.append(judge.clusters[template])
        size += len(texts[-1].encode())
    return Judge(
        judge.ids + ids,
        judge.texts + texts,
        [*judge.sources, *["flood"] * len(ids)],
        np.concatenate([judge.clusters, clusters]),
    )


# --- speed -------------------------------------------------------------------------------------------


def speed(corpora: dict[str, float], runs: int) -> list[dict[str, Any]]:
    """Processes side by side on Parquet files of so many GB of text."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        for path, gb in corpora.items():
            bare = timed("polars, batches", path, [sys.executable, "-c", POLARS_PARQUET, path], runs)
            base = [
                sys.executable,
                "-m",
                "curate",
                "score",
                path,
                "--out",
                str(out),
                "--quiet",
                "--memory-limit",
                "1GB",
            ]
            for name, settings in (("linear", []), ("rbf", ["--set", "kernel=rbf"])):
                command = [*base, "--method", "leverage", *settings]
                took = timed(f"leverage, {name}", path, command, runs, fresh=out)
                found.append(
                    {
                        "gb": gb,
                        "kernel": name,
                        "seconds": round(took.seconds, 2),
                        "peak_mb": round(took.peak_mb),
                        "bare_seconds": round(bare.seconds, 2),
                        "times_bare": round(took.seconds / bare.seconds, 2),
                        "megabytes_a_second": round(1000 * gb / took.seconds, 1),
                    }
                )
            shutil.rmtree(out, ignore_errors=True)
    return found


def main() -> None:
    """Measure the parts that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--parts", default="dictionaries,selections,flood")
    parser.add_argument("--corpora", default="", help="for speed: FOLDER=GB,... of Parquet files")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    parts = args.parts.split(",")
    found: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    found["machine"] = {"cores": os.cpu_count(), "system": platform.system(), "processor": platform.machine()}
    found["versions"] = {"python": platform.python_version(), "numpy": np.__version__, "polars": pl.__version__}
    if "speed" in parts:  # first: the peak of a process begins with that of the one it is started from
        pairs = (pair.rpartition("=") for pair in args.corpora.split(","))
        found["speed"] = speed({path: float(gb) for path, _, gb in pairs}, args.runs)
    judge = pool_judge(args.pool) if {"dictionaries", "selections", "flood"} & set(parts) else None
    if judge is not None and "dictionaries" in parts:
        found["dictionaries"] = dictionaries(judge.texts)
    settings = {"budget_bytes": BUDGET, "heldout_bytes": HELDOUT, "seeds": SEEDS, "ridge_per_document": RIDGE}
    if judge is not None and "selections" in parts:
        found["selections"] = settings | {"arms": selections(judge, args.pool, judge.arms())}
    if judge is not None and "flood" in parts:
        flood = flooded(judge)
        found["flood"] = settings | {"arms": selections(flood, args.pool, flood.arms())}
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
