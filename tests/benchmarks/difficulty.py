"""Measure what the difficulty of `curate curriculum offline` says of documents, and what it takes.

    python tests/benchmarks/difficulty.py --pool ../shared/pool --json tests/benchmarks/results/difficulty.json

On the pool without what was injected: bits per byte and quantile by source; the rank correlation with PPMd, which reads
the same texts as one of the two models and then codes documents that neither of them read; where damaged documents
are; which sources the long tail is made of without and with --within; and seconds and memory of the command on as many
copies as --copies, with other ids.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from domains import corpus

from curate.curriculum.difficulty import MODEL_BYTES, Halves
from curate.evidence.proxy import code_lengths
from curate.evidence.texts import SEPARATOR
from curate.metrics.calibration import mid_ranks
from curate.sampling.noise import TIE, keyed_hashes

CODED = 3_000_000  # bytes of documents that PPMd codes
LONG = 200  # bytes; in shorter ones the beginning is most of it
Floats = np.ndarray


def with_large_ids(table: pa.Table) -> pa.Table:
    """The table with ids that those of groups can be joined with."""
    return table.set_column(table.column_names.index("id"), "id", table["id"].cast(pa.large_string()))


def spearman(a: Floats, b: Floats) -> float:
    return round(float(np.corrcoef(mid_ranks(a), mid_ranks(b))[0, 1]), 3)


def with_ppmd(table: pa.Table) -> dict[str, Any]:
    """How far bits per byte agree with PPMd's, on documents of the other half than the texts that both have read."""
    order = np.argsort(keyed_hashes(table["id"], 0, TIE), kind="stable")
    ids, texts = table["id"].take(pa.array(order)).combine_chunks(), table["text"].take(pa.array(order))
    ids, texts = ids.cast(pa.large_string()), texts.combine_chunks().cast(pa.large_string())
    sizes = pc.binary_length(texts).to_numpy()
    start = time.process_time()
    halves = Halves(ids, texts, 0)
    fit_s = (time.process_time() - start) / 2
    own = halves._half(ids) == 0
    read = texts.filter(pa.array(own & (np.cumsum(np.where(own, sizes, 0)) <= MODEL_BYTES)))
    others = np.flatnonzero(~own)[::-1]
    others = others[np.cumsum(sizes[others]) <= CODED]
    coded, sizes = texts.take(pa.array(others)), sizes[others]
    start = time.process_time()
    bits = halves.models[0].bits_per_byte(coded)
    score_s = time.process_time() - start
    start = time.process_time()
    lengths = code_lengths([text.encode() for text in read.to_pylist()], [t.encode() for t in coded.to_pylist()])
    ppmd_s = time.process_time() - start
    ppmd = 8 * lengths / (sizes + len(SEPARATOR))
    long = sizes >= LONG
    n_coded = int(sizes.sum())
    return {
        "documents": len(others),
        "mb": round(n_coded / 1e6, 2),
        "read_mb": round(int(pc.sum(pc.binary_length(read)).as_py()) / 1e6, 2),
        "bits_per_byte": round(float((bits * sizes).sum() / n_coded), 3),
        "ppmd_bits_per_byte": round(float(8 * lengths.sum() / n_coded), 3),
        "spearman": spearman(bits, ppmd),
        f"spearman_from_{LONG}_bytes": spearman(bits[long], ppmd[long]),
        "spearman_of_length_with_ppmd": spearman(sizes.astype(float), ppmd),
        "fit_s": round(fit_s, 2),
        "mb_per_s_and_core": round(n_coded / 1e6 / score_s, 1),
        "ppmd_mb_per_s": round((n_coded + int(pc.sum(pc.binary_length(read)).as_py())) / 1e6 / ppmd_s, 1),
    }


def offline(raw: Path, out: Path, *options: str) -> pa.Table:
    """Groups of documents, as the command finds them."""
    command = [
        sys.executable,
        "-m",
        "curate",
        "curriculum",
        "offline",
        str(raw),
        "--out",
        str(out),
        "--quiet",
        *options,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return pq.read_table(out / "groups.parquet")


def scale(table: pa.Table, work: Path, copies: int) -> dict[str, float]:
    """Seconds and memory of the whole command."""
    raw = work / f"{copies}"
    raw.mkdir()
    for i in range(copies):
        ids = pc.binary_join_element_wise(
            table["id"], pa.scalar(f"-{i}", pa.large_string()), pa.scalar("", pa.large_string())
        )
        pq.write_table(table.set_column(table.column_names.index("id"), "id", ids), raw / f"part-{i:03d}.parquet")
    code = """
import resource, sys, time
from curate.curriculum import offline
start = time.perf_counter()
offline(sys.argv[1], out=sys.argv[2], within="source")
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(raw), str(work / f"{copies}-out")], check=True, capture_output=True, text=True
    )
    seconds, cpu_s, peak = map(float, done.stdout.split())
    size = copies * int(pc.sum(pc.binary_length(table["text"])).as_py())
    return {"mb": round(size / 1e6), "s": round(seconds, 1), "cpu_s": round(cpu_s, 1), "peak_mb": round(peak)}


def by_source(groups: pa.Table, table: pa.Table) -> dict[str, dict[str, float]]:
    """Documents, mean bits per byte and mean quantile of each source, the easiest first."""
    named = groups.join(table.select(["id", "source"]), "doc_id", "id").filter(pc.is_valid(pc.field("group")))
    found = named.group_by("source").aggregate([("difficulty", "count"), ("difficulty", "mean"), ("quantile", "mean")])
    rows = sorted(found.to_pylist(), key=lambda row: row["difficulty_mean"])
    return {
        row["source"]: {
            "documents": row["difficulty_count"],
            "bits_per_byte": round(row["difficulty_mean"], 2),
            "quantile": round(row["quantile_mean"], 2),
        }
        for row in rows
    }


def damaged(groups: pa.Table, pool: Path) -> dict[str, dict[str, float]]:
    """By kind of damage: documents, and the share of them in the easiest and in the hardest tenth."""
    mess = with_large_ids(pq.read_table(pool / "truth/mess.parquet"))
    named = groups.join(mess, "doc_id", "id", join_type="inner").filter(pc.is_valid(pc.field("group")))
    found = {}
    for kind in sorted(set(named["kind"].to_pylist())):
        own = named.filter(pc.field("kind") == kind)["group"].to_pylist()
        found[kind] = {"documents": len(own)}
        found[kind] |= {name: round(own.count(name) / len(own), 2) for name in ("bin-00", "bin-09")}
    return found


def tail_of(groups: pa.Table, table: pa.Table) -> dict[str, float]:
    """Shares of the sources that most of a tail is of, and how many sources are a hundredth of it or more."""
    tail = groups.filter(pc.field("group") == "tail").join(table.select(["id", "source"]), "doc_id", "id")
    counts = sorted(((v["counts"].as_py(), v["values"].as_py()) for v in tail["source"].value_counts()), reverse=True)
    shares = {source: round(count / len(tail), 2) for count, source in counts[:4]}
    return {"documents": len(tail), "sources_of_1%": sum(c >= 0.01 * len(tail) for c, _ in counts), **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "pool")
    parser.add_argument("--copies", type=int, nargs="*", default=[1, 5, 18])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table = with_large_ids(corpus(args.pool))
    size = int(pc.sum(pc.binary_length(table["text"])).as_py())
    with tempfile.TemporaryDirectory() as work:
        raw = Path(work) / "raw.parquet"
        pq.write_table(table, raw)
        groups = offline(raw, Path(work) / "bins")
        scales = [scale(table, Path(work), copies) for copies in args.copies]
        tails = {
            name: tail_of(offline(raw, Path(work) / name, "--tail", "0.1", *options), table)
            for name, options in {
                "of all": (),
                "within length": ("--within", "length"),
                "within source and length": ("--within", "source", "--within", "length"),
            }.items()
        }
    result = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "documents": len(table),
        "mb": round(size / 1e6, 1),
        "scale": scales,
        "ppmd": with_ppmd(table),
        "sources": by_source(groups, table),
        "damaged": damaged(groups, args.pool),
        "tails": tails,
    }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
