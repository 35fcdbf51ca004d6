"""Measure the filters on the corpus pool: their speed, and what they remove of each source.

    python tests/benchmarks/filters.py --json tests/benchmarks/results/filters.json [--python OTHER/bin/python]

MB of text a second, best of --runs, on one and two threads: all rules, groups of them, languages, masks. The share of
each source that the published rules of Gopher, C4 and FineWeb remove as hard cuts and by kind of text. With --python,
an interpreter that has datatrove (with nltk and spacy): its filters on the same documents, their speed on one core and
how often they decide as the rules here do, over all documents and over those that are prose.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.filters import Filters, FilterSpec, languages, masked, statistics

PUBLISHED = ("gopher", "gopher_repetition", "c4", "fineweb")
BATCH = 2_000
DATATROVE = """
import json, sys, time
from importlib.metadata import version
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
MAKERS = {
    "gopher": GopherQualityFilter, "gopher_repetition": GopherRepetitionFilter,
    "c4": lambda: C4QualityFilter(min_num_sentences=3, min_words_per_line=5, remove_citations=False),
    "fineweb": lambda: FineWebQualityFilter(char_duplicates_ratio=0.1),
}
texts = [json.loads(line) for line in open(sys.argv[1])]
result = {"version": version("datatrove"), "seconds": {}, "removed": {}}
for name, make in MAKERS.items():
    quality, removed = make(), []
    quality.filter(Document(text="One sentence. " * 30, id="0"))
    start = time.perf_counter()
    for text in texts:
        try:
            kept = quality.filter(Document(text=text, id="0"))
        except ZeroDivisionError:
            kept = (False, "error")
        removed.append(None if kept is True else kept[1])
    result["seconds"][name] = time.perf_counter() - start
    result["removed"][name] = removed
json.dump(result, open(sys.argv[2], "w"))
"""


def corpus(pool: Path) -> pa.Table:
    paths = sorted((pool / "raw").glob("*.parquet"))
    table = pa.concat_tables(pq.read_table(path, columns=["text", "source"]) for path in paths)
    return table.set_column(0, "text", table["text"].cast(pa.large_string())).combine_chunks()


def best(work: Callable[[pa.Array], object], batches: list[pa.Array], threads: int, runs: int) -> float:
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(runs):
            start = time.perf_counter()
            list(pool.map(work, batches))
            seconds.append(time.perf_counter() - start)
    return min(seconds)


def speed(table: pa.Table, runs: int) -> dict[str, dict[str, float]]:
    """MB/s by what is done and number of threads."""
    column = table["text"].chunk(0)
    batches = [column.slice(i, BATCH) for i in range(0, len(column), BATCH)]
    megabytes = pc.sum(pc.binary_length(column)).as_py() / 1e6
    every, published = Filters(FilterSpec(rules=("all",))), Filters(FilterSpec(rules=PUBLISHED, kinds="all"))
    work: dict[str, Callable[[pa.Array], object]] = {
        "all statistics": statistics,
        "all rules, by kind": every.look,
        "gopher, gopher_repetition, c4, fineweb as hard cuts": published.look,
        "pycld2 alone, whole texts": lambda texts: [_detect(text) for text in texts.to_pylist()],
        "languages, the first 4 kB": languages,
        "languages, whole texts": lambda texts: languages(texts, beginning=None),
        "masks": masked,
    }
    found = {}
    for name, of in work.items():
        of(batches[0])
        found[name] = {f"{n} threads": round(megabytes / best(of, batches, n, runs), 1) for n in (1, 2)}
        print(name, found[name], flush=True)
    return found


def _detect(text: str | None) -> None:
    import pycld2

    with contextlib.suppress(pycld2.error):
        pycld2.detect(text or "")


def language_by_beginning(table: pa.Table) -> dict[str, float]:
    """The share of documents with another language than by the whole text."""
    column = table["text"].chunk(0)
    whole = languages(column, beginning=None)["language"]
    return {
        f"{n} bytes": round(float((languages(column, beginning=n)["language"] != whole).mean()), 5)
        for n in (8192, 4096, 2048, 1024, 512)
    }


def removals(table: pa.Table) -> dict[str, Any]:
    """Shares of documents removed, by source and by rule."""
    frame = pl.DataFrame({"source": pl.Series(table["source"].to_pylist())})
    counts = {}
    for name, kinds in (("hard cuts", "all"), ("by kind", "auto")):
        for rules in (PUBLISHED, PUBLISHED[:2]):
            label = f"{name}: {' '.join(rules)}"
            found = Filters(FilterSpec(rules=rules, kinds=kinds)).look(table["text"])
            frame = frame.with_columns(pl.Series(found.reason.is_valid()).alias(label))
            counts[label] = dict(found.counts)
    of = frame.group_by("source").agg(pl.all().mean().round(3)).sort("source")
    print(of)
    total = frame.select(pl.exclude("source").mean().round(3)).row(0, named=True)
    return {"all": total, "by_source": {row.pop("source"): row for row in of.to_dicts()}, "by_rule": counts}


def beside_datatrove(table: pa.Table, python: str, every: int) -> dict[str, Any]:
    """Of each ``every``-th document: datatrove's speed, and how often it decides as we do."""
    texts = table["text"].take(pa.array(np.arange(0, len(table), every))).combine_chunks()
    texts = texts.chunk(0) if isinstance(texts, pa.ChunkedArray) else texts
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder, "texts.jsonl"), Path(folder, "answer.json")
        given.write_text("".join(json.dumps(text or "") + "\n" for text in texts.to_pylist()))
        done = subprocess.run([python, "-c", DATATROVE, str(given), str(answer)], capture_output=True, text=True)
        if done.returncode:
            return {"skipped": done.stderr.strip().splitlines()[-1]}
        theirs = json.loads(answer.read_text())
    megabytes = pc.sum(pc.binary_length(texts)).as_py() / 1e6
    prose = (Filters(FilterSpec(where={"p": "kind = 'prose'"})).look(texts).reason).is_valid().to_numpy(False)
    found: dict[str, Any] = {"version": theirs["version"], "documents": len(texts), "prose": int(prose.sum())}
    found["mb_per_s_core"] = {name: round(megabytes / s, 2) for name, s in theirs["seconds"].items()}
    found["mb_per_s_core"]["all four"] = round(megabytes / sum(theirs["seconds"].values()), 2)
    ours_s = min(_seconds(Filters(FilterSpec(rules=PUBLISHED, kinds="all")).look, texts) for _ in range(3))
    found["ours_mb_per_s_core"] = round(megabytes / ours_s, 1)
    for group in PUBLISHED:
        ours = Filters(FilterSpec(rules=(group,), kinds="all")).look(texts).reason.to_pylist()
        pairs = np.array([(a is not None, b is not None) for a, b in zip(ours, theirs["removed"][group], strict=True)])
        same = pairs[:, 0] == pairs[:, 1]
        differ = pl.DataFrame({"ours": ours, "theirs": theirs["removed"][group]}).filter(pl.Series(~same & prose))
        reasons = differ.group_by("ours", "theirs").len().sort("len", descending=True).head(6).rows()
        found[group] = {
            "agreement": round(float(same.mean()), 4),
            "agreement_on_prose": round(float(same[prose].mean()), 4),
            "prose_removed_here": round(float(pairs[prose, 0].mean()), 4),
            "prose_removed_there": round(float(pairs[prose, 1].mean()), 4),
            "differences_on_prose": [list(row) for row in reasons],
        }
        print(group, found[group], flush=True)
    return found


def _seconds(work: Callable[[pa.Array], object], texts: pa.Array) -> float:
    start = time.perf_counter()
    work(texts)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "pool")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--python", help="an interpreter with datatrove")
    parser.add_argument("--every", type=int, default=4, help="of documents for datatrove, which is slow")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table = corpus(args.pool)
    result = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "documents": len(table),
        "mb_per_s": speed(table, args.runs),
        "language_differs_from_whole_text": language_by_beginning(table),
        "removed": removals(table),
        "datatrove": beside_datatrove(table, args.python, args.every)
        if args.python
        else {"skipped": "no --python with datatrove"},
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
