"""What decontamination finds in the pool, how fast, what it finds of items that are edited more and more.

    python tests/benchmarks/decontamination.py --json tests/benchmarks/results/decontamination.json

Beside it, with ``--python`` of an environment that has it, datatrove with its own n-grams of the same items. (Its
indexer asks for lighteval, which is only there to download tasks; its hashes of items and of documents are used as they
are.) decon is a program in Rust that is not on PyPI; it is not run here.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.decontamination import DecontaminationSpec, Index, Items, read_items

POOL = Path(__file__).resolve().parents[3] / "shared" / "pool"
RATES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
N_EACH, MIN_WORDS = 60, 20
DATATROVE = """
import json, sys, time
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
from datatrove.utils.text import TextNormConfig
NGramsDecontIndexer._requires_dependencies = []
items, raw, numbers = pq.read_table(sys.argv[1])["text"].to_pylist(), pq.read_table(sys.argv[2]), sys.argv[3] == "kept"
config = NGramsDecontConfig(norm_config=TextNormConfig(norm_numbers=not numbers))
indexer = NGramsDecontIndexer("/tmp/unused", config=config)
hashes = {h: "items" for text in items for h in indexer.compute_hashes(text)}
step = NGramsDecontFilter("/tmp/unused", config=config)
step._index_hashes = hashes
start = time.perf_counter()
found = [i for i, text in zip(raw["id"].to_pylist(), raw["text"].to_pylist())
         if step.filter(Document(text=text, id=i)) is not True]
print(json.dumps({"found": found, "seconds": time.perf_counter() - start}))
"""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def against_truth(found: set[str], truth: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall by kind, and documents that are not contaminated."""
    kinds, hits = Counter(row["kind"] for row in truth), Counter(row["kind"] for row in truth if row["id"] in found)
    return {
        "found": sum(hits.values()),
        "of": len(truth),
        "false_positives": len(found - {row["id"] for row in truth}),
        "by_kind": {kind: f"{hits[kind]}/{kinds[kind]}" for kind in sorted(kinds)},
    }


def speed(index: Index, texts: Any, threads: int, repeats: int) -> float:
    """MB/s of text that is in memory, the best of several, in batches of 1,000 documents."""
    batches = [texts.slice(start, 1_000) for start in range(0, len(texts), 1_000)]
    n_bytes = pa.compute.sum(pa.compute.binary_length(texts)).as_py()
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats + 1):  # the first one compiles
            start = time.perf_counter()
            list(pool.map(index.find, batches))
            best = max(best, n_bytes / 1e6 / (time.perf_counter() - start))
    return round(best, 1)


class Edits:
    """Ways to change a text, by one sequence of random numbers."""

    def __init__(self, hosts: list[str], seed: int) -> None:
        self.chance, self.hosts = random.Random(seed), hosts
        self.words = [word for host in self.chance.sample(hosts, 500) for word in re.findall(r"\w+", host)]

    def words_changed(self, text: str, rate: float, kind: str) -> str:
        """Each word with a chance of ``rate`` replaced by another of the corpus, left out, or followed by one."""
        pieces = []
        for piece in re.findall(r"\w+|\W+", text):
            how = kind if kind != "mixed" else self.chance.choice(["substitute", "delete", "insert"])
            if not piece[0].isalnum() or self.chance.random() >= rate:
                pieces.append(piece)
            elif how == "substitute":
                pieces.append(self.chance.choice(self.words))
            elif how == "insert":
                pieces += [piece, " ", self.chance.choice(self.words)]
        return "".join(pieces)

    def shuffled(self, text: str) -> str:
        sentences = re.split(r"(?<=[.?!\n])\s+", text)
        self.chance.shuffle(sentences)
        return " ".join(sentences)

    def other_numbers(self, text: str) -> str:
        return re.sub(r"\d+", lambda m: str(self.chance.randrange(2, 10 ** (len(m.group()) + 2))), text)

    def embedded(self, text: str) -> str:
        """A text at the end of a line of a document."""
        host = self.chance.choice(self.hosts)
        cut = host.find("\n", self.chance.randrange(len(host)))
        cut = len(host) // 2 if cut < 0 else cut
        return f"{host[:cut]}\n\n{text}\n\n{host[cut:]}"


def first_half(text: str) -> str:
    pieces = re.findall(r"\w+|\W+", text)
    return "".join(pieces[: len(pieces) // 2])


def recall(index: Index, items: Items, edits: Edits, change: Callable[[str], str], asks: Callable[[str], bool]) -> Any:
    """Share of items found after a change, by benchmark, and its mean."""
    shares = {}
    for name in sorted(set(items.benchmarks)):
        texts = {i: items.texts[i][0] for i, of in enumerate(items.benchmarks) if of == name}
        there = [i for i, text in texts.items() if asks(text)]
        some = edits.chance.sample(there, min(N_EACH, len(there)))
        if len(some) < 10:
            continue
        documents = pa.array([edits.embedded(change(texts[i])) for i in some], pa.large_string())
        rows = index.find(documents).table.select(["doc", "item"]).to_pylist()
        found = {(row["doc"], row["item"]) for row in rows}
        shares[name] = round(sum((place, items.ids[i]) in found for place, i in enumerate(some)) / len(some), 3)
    return {"mean": round(sum(shares.values()) / len(shares), 3), **shares}


def n_words(text: str) -> int:
    return len(re.findall(r"[^\W_]+", text))


def robustness(index: Index, items: Items, hosts: list[str], seed: int) -> dict[str, Any]:
    """Recall by kind of edit and rate."""
    edits = Edits(hosts, seed)
    found: dict[str, Any] = {}

    def measure(name: str, change: Callable[[str], str], asks: Callable[[str], bool]) -> None:
        found[name] = recall(index, items, edits, change, asks)
        say(f"{name}: {found[name]['mean']}")

    for kind in ("substitute", "delete", "insert", "mixed"):
        for rate in RATES:
            measure(
                f"{kind} {rate:g}",
                lambda text, rate=rate, kind=kind: edits.words_changed(text, rate, kind),
                lambda text: n_words(text) >= MIN_WORDS,
            )
    measure("sentences shuffled", edits.shuffled, lambda text: n_words(text) >= MIN_WORDS)
    for rate in (0.0, *RATES[:4]):
        measure(
            f"first half, mixed {rate:g}",
            lambda text, rate=rate: first_half(edits.words_changed(text, rate, "mixed")),
            lambda text: n_words(text) >= 2 * MIN_WORDS,
        )
    measure("other numbers (should not be found)", edits.other_numbers, lambda t: len(re.findall(r"\d+", t)) >= 3)
    return found


def datatrove(python: str | None, items: Items, raw: pa.Table, truth: list[dict[str, Any]]) -> dict[str, Any]:
    if python is None:
        return {"skipped": "no --python with datatrove"}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"text": ["\n".join(texts) for texts in items.texts]}), f"{folder}/items.parquet")
        pq.write_table(raw.select(["id", "text"]), f"{folder}/raw.parquet")
        for numbers in ("folded", "kept"):
            call = [python, "-c", DATATROVE, f"{folder}/items.parquet", f"{folder}/raw.parquet", numbers]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode:
                return {"skipped": done.stderr.strip().splitlines()[-1]}
            said = json.loads(done.stdout.splitlines()[-1])
            mb = sum(len(text.encode()) for text in raw["text"].to_pylist()) / 1e6
            figures = against_truth(set(said["found"]), truth)
            found[f"12 words, numbers {numbers}"] = figures | {"mb_per_s": round(mb / said["seconds"], 2)}
            say(f"datatrove, numbers {numbers}: {figures}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--python", help="of an environment with datatrove")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    spec = DecontaminationSpec(against=arguments.pool / "targets")
    start = time.perf_counter()
    items = read_items(spec)
    index = Index.build(items, spec)
    seconds = time.perf_counter() - start
    shards = [pq.read_table(path) for path in sorted((arguments.pool / "raw").glob("*.parquet"))]
    raw = pa.concat_tables(shards).select(["id", "text"]).combine_chunks()
    truth = pq.read_table(arguments.pool / "truth" / "contamination.parquet").to_pylist()
    ids, contaminated = raw["id"].to_pylist(), {row["id"] for row in truth}
    found = index.find(raw["text"]).contaminated()
    hosts = [
        text
        for i, text in zip(ids, raw["text"].to_pylist(), strict=True)
        if i not in contaminated and 500 < len(text) < 6000
    ]
    texts = raw["text"].chunk(0)
    report = {
        "items": len(items),
        "read_and_index_s": round(seconds, 2),
        "curate": against_truth({i for i, there in zip(ids, found.tolist(), strict=True) if there}, truth)
        | {f"mb_per_s_{n}_threads": speed(index, texts, n, arguments.repeats) for n in (1, 2)},
        "datatrove": datatrove(arguments.python, items, raw, truth),
        "decon": {"skipped": "not on PyPI"},
        "recall_of_edited_items": robustness(index, items, hosts, arguments.seed),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
