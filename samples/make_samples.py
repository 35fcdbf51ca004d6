"""Make the sample corpus in this folder from a larger pool of real text.

    python make_samples.py POOL [OUT]

POOL holds raw/*.parquet (columns id, text, source, licence), targets/NAME/{train,heldout}.jsonl
and truth/{contamination,dups}.parquet. OUT is this folder unless given. Needs pyarrow and
zstandard. Nothing here is random: documents are drawn and shuffled by a keyed hash of their id,
so the same pool and the same library versions give the same bytes.
"""

import hashlib
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

RATE = 0.12  # share of each source's documents
AT_LEAST = 20  # documents per source, where it has as many
TARGETS = {"minif2f-lean": None, "gsm8k": 300}  # name -> items kept per split (None: all)
COLUMNS = ["id", "text", "source", "licence"]

# Exact licence strings that may enter the cut. All others stay out, mixed and vague ones too.
LICENCES = {
    "public domain",
    "public domain (US Government)",
    "public domain (District of Columbia Code)",
    "public domain / CC0 (PEPs)",
    "Unlicense (public domain)",
    "CC0-1.0",
    "CC0-1.0 (made here)",
    "MIT",
    "MIT OR Apache-2.0",
    "Apache-2.0",
    "BSD-3-Clause",
    "CC-BY-4.0",
    "CC-BY-4.0 / public domain",
}
# Where the text itself speaks against its label, or would confuse a reader of the label.
NOTICE = re.compile(r"All rights reserved\. Terms of Service|SPDX-License-Identifier: [AL]?GPL|Project Gutenberg")
LUA_OR_LIBUV = re.compile(r"\buv_|\blua[A-Z]?_")
VENDORED = re.compile(r"Niels Provos|Sony Mobile|inet_(?:ntop|pton)[46]")


def allowed(row: dict) -> bool:
    """Is the document's licence one of LICENCES, and is the label safe to believe?"""
    source, licence, text = row["source"], row["licence"], row["text"]
    if licence not in LICENCES or NOTICE.search(text):
        return False
    if source == "qa-chat":  # the MIT part quotes commits of many repositories
        return licence == "Apache-2.0"
    if source == "c":  # keep Lua and libuv; leave out code they and jq took from elsewhere
        return bool(LUA_OR_LIBUV.search(text)) and not VENDORED.search(text)
    if source == "junk":  # scraps of other sources stay out
        return licence == "CC0-1.0 (made here)"
    return True


def rank(purpose: str, name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16, key=purpose.encode()).digest()


def draw(pool: Path) -> list[dict]:
    """A hash sample of every source; an injected duplicate follows its original."""
    truth = {n: pq.read_table(pool / "truth" / f"{n}.parquet") for n in ("contamination", "dups")}
    contaminated = set(truth["contamination"]["id"].to_pylist())
    original = {row["id"]: row["of_id"] for row in truth["dups"].to_pylist()}
    by_source = defaultdict(list)
    for path in sorted((pool / "raw").glob("*.parquet")):
        for row in pq.read_table(path, columns=COLUMNS).to_pylist():
            if row["id"] not in contaminated and allowed(row):
                by_source[row["source"]].append(row)
    chosen = []
    for rows in by_source.values():
        rows.sort(key=lambda r: (rank("draw", original.get(r["id"], r["id"])), r["id"]))
        chosen += rows[: max(AT_LEAST, round(RATE * len(rows)))]
    return sorted(chosen, key=lambda r: rank("shuffle", r["id"]))


def jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()


def main(pool: Path, out: Path) -> None:
    raw = out / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    docs = draw(pool)
    schema = pa.schema([(c, pa.string()) for c in COLUMNS])
    for i in range(4):
        part = docs[i * len(docs) // 4 : (i + 1) * len(docs) // 4]
        name = f"part-{i:05d}"
        if i < 2:
            table = pa.Table.from_pylist(part, schema=schema)
            pq.write_table(
                table,
                raw / f"{name}.parquet",
                compression="zstd",
                compression_level=19,
                use_dictionary=["source", "licence"],
            )
        else:
            packed = zstandard.ZstdCompressor(level=19).compress(jsonl(part))
            (raw / f"{name}.jsonl.zst").write_bytes(packed)

    for target, limit in TARGETS.items():
        folder = out / "targets" / target
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "heldout"):
            lines = (pool / "targets" / target / f"{split}.jsonl").read_text("utf-8")
            items = [json.loads(line) for line in lines.split("\n") if line]
            items = sorted(items, key=lambda r: rank("target", r["id"]))[:limit]
            (folder / f"{split}.jsonl").write_bytes(jsonl(items))
            print(f"target {target} {split}: {len(items)} items")

    size = sum(len(d["text"].encode()) for d in docs)
    print(f"raw: {len(docs)} documents, {size} bytes of text")
    for (source, licence), n in sorted(Counter((d["source"], d["licence"]) for d in docs).items()):
        print(f"{n:6d}  {source}  {licence}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).resolve().parent)
