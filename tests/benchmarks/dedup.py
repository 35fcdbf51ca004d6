"""Duplicates in the pool: what is found of what is there, what goes wrongly, and how fast, beside other packages.

    python tests/benchmarks/dedup.py --python /path/to/rivals/bin/python --json tests/benchmarks/results/dedup.json

What is there is worked out exactly, by an inverted index of the shingles of each text, the runs of five words that
`str.split` finds, without MinHash or the package's kernels. Each package works on one core, from texts in memory to
its pairs (or the documents that it keeps), in an environment that --python names; one that is not installed there is
skipped with that reason. Documents that a package which answers in pairs would remove are those that it pairs with an
earlier one that stays. A document goes wrongly when no document that stays is as similar to it as --wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

import reference  # noqa: E402

from curate.dedup import near_pairs  # noqa: E402

RIVALS = ("datasketch", "rensa", "text-dedup", "datatrove")
THRESHOLD, LOWEST, NGRAM = 0.7, 0.5, 5
BANDS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of similarity, from which on
Pair = tuple[int, int]


# ---- what is there


def word_shingles(words: Sequence[str]) -> np.ndarray:
    """uint64[...]: Python's hashes of the different shingles of a text."""
    hashes = {hash(" ".join(words[i : i + NGRAM])) for i in range(len(words) - NGRAM + 1)}
    return np.fromiter((h & (1 << 64) - 1 for h in hashes), np.uint64, len(hashes))


ALONE = re.compile("([" + "".join(f"{chr(low)}-{chr(high)}" for low, high in reference.UNSPACED) + "])")


def words_and_characters(text: str) -> list[str]:
    """`reference.shingle_words`, faster."""
    return ALONE.sub(r" \1 ", text).split()


def exact_pairs(sets: Sequence[np.ndarray], lowest: float) -> dict[Pair, float]:
    """All pairs of sets whose Jaccard similarity is at least ``lowest``.

    Of two such sets each holds ``lowest`` times its own size of the other. So among the first ``size - ceil(lowest *
    size) + 1`` items of each, the rarest first, there is one that both have (Bayardo, Ma and Srikant, 2007).
    """
    sizes = np.array([len(one) for one in sets])
    documents = np.repeat(np.arange(len(sets)), sizes)
    _, items, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    order = np.lexsort((items, counts[items], documents))
    place = np.arange(len(items)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    prefix = np.repeat(sizes - np.ceil(lowest * sizes - 1e-9).astype(int) + 1, sizes)
    first = order[(place < prefix) & (counts[items[order]] > 1)]
    frame = pl.DataFrame({"item": items[first], "doc": documents[first], "size": sizes[documents[first]]}).lazy()
    near_in_size = (pl.col("size") >= lowest * pl.col("size_b")) & (pl.col("size_b") >= lowest * pl.col("size"))
    candidates = (
        frame.join(frame, on="item", suffix="_b")
        .filter((pl.col("doc") < pl.col("doc_b")) & near_in_size)
        .select("doc", "doc_b")
        .unique()
        .collect(engine="streaming")
    )
    ids = [frozenset(part.tolist()) for part in np.split(items, np.cumsum(sizes)[:-1])]
    similar = ((pair, reference.jaccard(ids[pair[0]], ids[pair[1]])) for pair in candidates.sort("doc", "doc_b").rows())
    return {pair: value for pair, value in similar if value >= lowest}


def equal_pairs(texts: Sequence[str]) -> dict[str, list[int]]:
    """The documents whose texts are equal but for white space, by their normal form; texts alone in it are left out."""
    groups: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        groups.setdefault(reference.normal_form(text, "whitespace"), []).append(i)
    return {form: group for form, group in groups.items() if len(group) > 1}


@dataclass(frozen=True)
class Truth:
    """What is there: similar pairs, documents that are equal but for white space, and injected copies by kind."""

    similar: dict[Pair, float]
    equal: list[list[int]]
    kinds: dict[Pair, str]

    def partners(self, n_docs: int, wrong: float) -> list[set[int]]:
        """The documents that each may rightly go for."""
        found: list[set[int]] = [set() for _ in range(n_docs)]
        for (a, b), value in self.similar.items():
            if value >= wrong:
                found[a].add(b)
                found[b].add(a)
        for group in self.equal:
            for i in group:
                found[i] |= set(group) - {i}
        return found


# ---- what is found


def removed_by(pairs: Iterable[Pair]) -> set[int]:
    """The documents that are paired with an earlier one that stays."""
    gone: set[int] = set()
    for a, b in sorted((max(pair), min(pair)) for pair in pairs):
        if b not in gone:
            gone.add(a)
    return gone


def by_band(truth: Truth, is_found: Callable[[Pair], bool]) -> dict[str, dict[str, float]]:
    """Recall by similarity: of pairs from each bound to the next."""
    table = {}
    for low, high in itertools.pairwise([*BANDS, 2.0]):
        pairs = [pair for pair, value in truth.similar.items() if low <= value < high]
        hits = sum(map(is_found, pairs))
        table[f"{low:.1f}"] = {"pairs": len(pairs), "found": hits, "recall": hits / max(1, len(pairs))}
    return table


def judged(answer: dict[str, Any], truth: Truth, ids: Sequence[str], wrong: Sequence[float]) -> dict[str, Any]:
    """An answer's recall, precision and wrong removals."""
    rows = {name: i for i, name in enumerate(ids)}
    near = {pair for pair, value in truth.similar.items() if value >= THRESHOLD}
    told: dict[str, Any] = {key: answer[key] for key in ("version", "seconds", "mb_per_s", "runs") if key in answer}
    if "pairs" in answer:
        found = {(min(pair), max(pair)) for pair in map(tuple, answer["pairs"])}
        gone = removed_by(found)
        told |= {"pairs": len(found), "recall": len(near & found) / len(near)}
        told |= {"precision": len(near & found) / max(1, len(found))}
        told["recall_by_similarity"] = by_band(truth, found.__contains__)
        is_found: Callable[[Pair], bool] = found.__contains__
    else:
        gone = (
            set(range(len(ids)))
            - {rows[name] for name in answer["kept"]}
            - {rows[name] for name in answer.get("too_short", ())}
        )

        def is_found(pair: Pair) -> bool:
            return not gone.isdisjoint(pair)

        told["too_short"] = len(answer.get("too_short", ()))
    told["removed"] = len(gone)
    told["of_near_pairs_one_is_removed"] = sum(not gone.isdisjoint(pair) for pair in near) / len(near)
    for bound in wrong:
        partners = truth.partners(len(ids), bound)
        told[f"wrongly_removed_{bound}"] = sum(partners[i] <= gone for i in gone)
    kinds = Counter(kind for pair, kind in truth.kinds.items() if pair in near)
    hits = Counter(kind for pair, kind in truth.kinds.items() if pair in near and is_found(pair))
    told["by_kind"] = {kind: {"near": n, "found": hits[kind]} for kind, n in sorted(kinds.items())}
    return told


def ours(texts: pa.Array, runs: int) -> dict[str, Any]:
    """`near_pairs`, the fastest of some runs."""
    near_pairs(texts[:10], THRESHOLD)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        found = near_pairs(texts, THRESHOLD)
        seconds.append(time.perf_counter() - start)
    pairs = list(zip(found.a.tolist(), found.b.tolist(), strict=True))
    return {"seconds": min(seconds), "runs": runs, "pairs": pairs}


def theirs(name: str, python: str, parquet: Path, folder: Path) -> dict[str, Any]:
    """A rival's answer, or why there is none."""
    out = folder / f"{name}.json"
    script = Path(__file__).with_name("dedup_rivals.py")
    done = subprocess.run([python, str(script), name, str(parquet), str(out)], capture_output=True, text=True)
    if done.returncode:
        return {"skipped": done.stderr.strip().splitlines()[-1]}
    return json.loads(out.read_text())  # type: ignore[no-any-return]


# ---- exact duplicates, with the read

EXACT = {
    "polars": """
import polars as pl
def unique():
    return pl.read_parquet(source, columns=["text"])["text"].unique().len()
""",
    "duckdb": """
import duckdb
con = duckdb.connect()
con.execute("SET threads = 1")
def unique():
    return con.sql(f"SELECT count(*) FROM (SELECT DISTINCT text FROM read_parquet('{source}'))").fetchall()[0][0]
""",
}
CURATE = """
import pyarrow.parquet as pq, polars as pl
from curate.features.digests import content_digests
def unique():
    texts = pq.ParquetFile(source, memory_map=True, pre_buffer=False).read(["text"], use_threads=False)["text"]
    return pl.from_arrow(content_digests(texts, "{normal}")).unique().len()
"""
EXACT |= {f"curate, {normal}": CURATE.format(normal=normal) for normal in ("whitespace", "none", "letters")}
TIMED = """
import sys, time
source = sys.argv[1]
{code}
seconds = []
for _ in range({runs}):
    start = time.perf_counter()
    n = unique()
    seconds.append(time.perf_counter() - start)
print(n, min(seconds))
"""


def exact_dedup(parquet: Path, runs: int, megabytes: float) -> dict[str, dict[str, float]]:
    """Different texts in a Parquet file, on one core; the fastest of some runs, whose first compiles or warms up."""
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    table = {}
    for name, code in EXACT.items():
        script = TIMED.format(code=code, runs=runs)
        done = subprocess.run(
            [sys.executable, "-c", script, str(parquet)], capture_output=True, text=True, check=True, env=environment
        )
        n, seconds = done.stdout.split()
        table[name] = {"different": int(n), "seconds": float(seconds), "mb_per_s": megabytes / float(seconds)}
    return {name: row | {"of_polars": row["seconds"] / table["polars"]["seconds"]} for name, row in table.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pool", type=Path, default=REPOSITORY.parent / "shared" / "pool")
    parser.add_argument("--python", default=sys.executable, help="of the environment that has the other packages")
    parser.add_argument("--rivals", default=",".join(RIVALS))
    parser.add_argument("--wrong", default="0.7,0.5")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    frame = pl.read_parquet(arguments.pool / "raw" / "*.parquet", columns=["id", "text"])
    ids, texts = frame["id"].to_list(), frame["text"].to_list()
    megabytes = int(frame["text"].str.len_bytes().sum()) / 1e6
    rows = {name: i for i, name in enumerate(ids)}
    copies = pl.read_parquet(arguments.pool / "truth" / "dups.parquet")
    kinds = {
        (min(a, b), max(a, b)): kind
        for a, b, kind in zip(
            *([rows[name] for name in copies[column]] for column in ("id", "of_id")), copies["kind"], strict=True
        )
    }
    equal = list(equal_pairs(texts).values())
    start = time.perf_counter()
    by_space = Truth(exact_pairs([word_shingles(text.split()) for text in texts], LOWEST), equal, kinds)
    by_character = Truth(
        exact_pairs([word_shingles(words_and_characters(text)) for text in texts], LOWEST), equal, kinds
    )
    near_by_space, near_by_character = (
        {pair for pair, value in truth.similar.items() if value >= THRESHOLD} for truth in (by_space, by_character)
    )
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "documents": len(ids), "mb": megabytes, "threshold": THRESHOLD,
        "exact_seconds": time.perf_counter() - start,
        "truth": {
            name: {str(low): sum(value >= low for value in truth.similar.values()) for low in BANDS}
            for name, truth in (("by space", by_space), ("by space and character", by_character))
        },
        "near by character alone": len(near_by_character - near_by_space),
        "near by space alone": len(near_by_space - near_by_character),
    }  # fmt: skip
    wrong = [float(bound) for bound in arguments.wrong.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        parquet = Path(folder) / "texts.parquet"
        frame.write_parquet(parquet)
        result["exact"] = exact_dedup(parquet, arguments.runs, megabytes)
        answer = ours(frame["text"].to_arrow(), arguments.runs)
        result["near"] = {
            "curate": judged(answer | {"mb_per_s": megabytes / answer["seconds"]}, by_character, ids, wrong)
        }
        for name in filter(None, arguments.rivals.split(",")):
            answer = theirs(name, arguments.python, parquet, Path(folder))
            if "seconds" in answer:
                answer = judged(answer | {"mb_per_s": megabytes / answer["seconds"]}, by_space, ids, wrong)
                answer["curate_is_faster"] = answer["seconds"] / result["near"]["curate"]["seconds"]
            result["near"][name] = answer
            print(name, json.dumps({k: v for k, v in answer.items() if not isinstance(v, dict)}), flush=True)
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
