"""One package's near duplicates of texts, by itself, for dedup.py: it may be in an environment without curate.

    python dedup_rivals.py NAME texts.parquet found.json

``texts.parquet`` has the columns id and text. ``found.json`` gets the version, the seconds from texts to the answer
on one core, and the answer: pairs of rows that are near duplicates, or the ids of the documents that are kept.
Packages that take shingles are given the runs of five words of ``text.split()``, and documents that have one.
"""

from __future__ import annotations

import os

os.environ |= {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "HF_DATASETS_OFFLINE": "1"}

import importlib.metadata
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THRESHOLD, NUM_PERM, NGRAM = 0.7, 128, 5
Answer = dict[str, Any]


def shingles(text: str) -> list[str]:
    """Each once, in any order."""
    words = text.split()
    return list({" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)})


def datasketch(parquet: Path) -> Answer:
    """Its default bands for the threshold, 14 of 9; what shares one is a duplicate, as its documentation has it."""
    from datasketch import MinHash, MinHashLSH

    texts = read(parquet)["text"]
    start, pairs = time.perf_counter(), []
    index = MinHashLSH(threshold=THRESHOLD, num_perm=NUM_PERM)
    for i, text in enumerate(texts):
        if items := shingles(text):
            signature = MinHash(NUM_PERM)
            signature.update_batch([item.encode() for item in items])
            pairs += [(int(j), i) for j in index.query(signature)]
            index.insert(i, signature)
    return {"seconds": time.perf_counter() - start, "pairs": pairs}


def rensa(parquet: Path) -> Answer:
    """32 bands, and candidates whose estimated similarity is at the threshold, the way of its deduplicator."""
    from rensa import RMinHash, RMinHashLSH

    texts = read(parquet)["text"]
    start, pairs = time.perf_counter(), []
    sets = [shingles(text) for text in texts]
    rows = [i for i, items in enumerate(sets) if items]
    signatures = RMinHash.from_token_sets([sets[i] for i in rows], num_perm=NUM_PERM, seed=42)
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=NUM_PERM, num_bands=32)
    index.insert_many(signatures)
    for i, signature in enumerate(signatures):
        near = (j for j in index.query(signature) if j < i and signature.jaccard(signatures[j]) >= THRESHOLD)
        pairs += [(rows[j], rows[i]) for j in near]
    return {"seconds": time.perf_counter() - start, "pairs": pairs}


def text_dedup(parquet: Path) -> Answer:
    """Its command, with its defaults but for threshold and permutations; reading and writing are in its time."""
    from click.testing import CliRunner
    from datasets import disable_progress_bars, load_from_disk
    from text_dedup.minhash import main

    disable_progress_bars()
    frame = read(parquet)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kept"
        arguments = f"--path parquet --split train --cache_dir {folder}/cache --output {out} --column text --num_proc 1"
        arguments += f" --ngram {NGRAM} --num_perm {NUM_PERM} --threshold {THRESHOLD} --batch_size 10000"
        start = time.perf_counter()
        CliRunner().invoke(main, [*arguments.split(), "--data_files", str(parquet)], catch_exceptions=False)
        seconds = time.perf_counter() - start
        kept = load_from_disk(str(out))["id"]
    too_short = [name for name, text in zip(*frame.values(), strict=True) if len(re.split(r"\W", text.lower())) < 5]
    return {"seconds": seconds, "kept": list(kept), "too_short": too_short}


def datatrove(parquet: Path) -> Answer:
    """Its four steps one after another with their defaults, 14 buckets of 8; written files are in its time."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    frame = read(parquet)
    documents = [Document(text=text, id=name) for name, text in zip(*frame.values(), strict=True)]
    config = MinhashConfig()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        MinhashDedupSignature(f"{folder}/signatures", config=config).run(iter(documents), 0, 1)
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config).run(
                None, bucket, config.num_buckets
            )
        MinhashDedupCluster(f"{folder}/buckets", f"{folder}/removed", config=config).run(None, 0, 1)
        kept = [document.id for document in MinhashDedupFilter(f"{folder}/removed").run(iter(documents), 0, 1)]
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "kept": kept}


RIVALS: dict[str, tuple[str, Callable[[Path], Answer]]] = {
    "datasketch": ("datasketch", datasketch),
    "rensa": ("rensa", rensa),
    "text-dedup": ("text-dedup", text_dedup),
    "datatrove": ("datatrove", datatrove),
}


def read(parquet: Path) -> dict[str, list[str]]:
    """Columns id and text."""
    import pyarrow.parquet as pq

    return pq.read_table(parquet, columns=["id", "text"]).to_pydict()


def main() -> None:
    """Run one and write what it found."""
    name, parquet, out = sys.argv[1:]
    package, run = RIVALS[name]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        answer: Answer = {"skipped": f"{package} is not installed for {Path(sys.executable).name}"}
    else:
        answer = {"version": version, **run(Path(parquet))}
    Path(out).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
