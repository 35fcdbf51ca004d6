"""Small corpora in any format and compression, from a list of rows."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Row = Mapping[str, Any]
FORMATS = (
    "parquet", "jsonl", "jsonl.gz", "jsonl.zst", "json", "json.gz", "lines.json", "csv", "csv.gz", "csv.zst", "arrow"
)  # fmt: skip

MATHS = [
    "sum",
    "of",
    "the",
    "angles",
    "triangle",
    "proof",
    "number",
    "prime",
    "divide",
    "equation",
    "solve",
    "for",
    "x",
    "squared",
    "plus",
    "two",
    "equals",
]
COOKING = [
    "onion",
    "butter",
    "pan",
    "simmer",
    "garlic",
    "salt",
    "pepper",
    "oven",
    "bake",
    "slice",
    "carrot",
    "stir",
    "until",
    "golden",
    "serve",
    "with",
    "rice",
]
NEWS = [
    "the",
    "minister",
    "said",
    "on",
    "tuesday",
    "that",
    "talks",
    "would",
    "continue",
    "after",
    "the",
    "vote",
    "in",
    "parliament",
    "city",
    "council",
    "budget",
]


def text(words: Sequence[str], n: int, rng: random.Random) -> str:
    """``n`` words with a full stop now and then."""
    picked = [rng.choice(words) for _ in range(n)]
    return " ".join(w + "." if i % 9 == 8 else w for i, w in enumerate(picked))


def rows(n: int, *, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """``n`` documents of three kinds, which `target_rows` is one of; ``source`` says which."""
    rng = random.Random(seed)
    kinds = (("maths", MATHS), ("cooking", COOKING), ("news", NEWS))
    made = []
    for i in range(n):
        source, words = kinds[i % 3]
        made.append({"id": f"d{i}", "text": text(words + NEWS[:6], 25 + i % 17, rng), "source": source, **more})
    return made


def target_rows(n: int = 40, *, words: Sequence[str] = MATHS) -> list[dict[str, Any]]:
    rng = random.Random(99)
    return [{"text": text(words, 30, rng)} for _ in range(n)]


def encoded(form: str, of: Sequence[Row]) -> bytes:
    """Rows as the bytes of a file whose name ends in ``form``."""
    if form.endswith(".gz"):
        return gzip.compress(encoded(form.removesuffix(".gz"), of), mtime=0)
    if form.endswith(".zst"):
        return zstandard.compress(encoded(form.removesuffix(".zst"), of))
    if form in ("parquet", "arrow"):
        return table_bytes(form, pa.Table.from_pylist(list(of)))
    if form in ("jsonl", "lines.json"):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in of).encode()
    if form == "json":
        return json.dumps(list(of), indent=1).encode()
    if form == "csv":
        names = list(dict.fromkeys(name for row in of for name in row))
        sink = io.StringIO(newline="")
        writer = csv.DictWriter(sink, names, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(of)
        return sink.getvalue().encode()
    if form == "txt":
        return "".join(row["text"] + "\n" for row in of).encode()
    raise ValueError(form)


def table_bytes(form: str, table: pa.Table, **options: Any) -> bytes:
    """A table as a Parquet or Arrow file."""
    sink = io.BytesIO()
    if form == "parquet":
        pq.write_table(table, sink, **options)
    else:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, **options)
    return sink.getvalue()


def write(path: Path, of: Sequence[Row] | bytes) -> Path:
    """Write rows (or bytes as they are) to a file; its format is by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(of, bytes):
        endings = sorted((*FORMATS, "txt"), key=len, reverse=True)
        of = encoded(next(f for f in endings if path.name.endswith("." + f)), of)
    path.write_bytes(of)
    return path


def lines(path: Path, *of: bytes) -> Path:
    """A file of exactly these lines."""
    return write(path, b"".join(line + b"\n" for line in of))


def sharded(folder: Path, of: Sequence[Row], n_files: int, form: str = "jsonl") -> Path:
    """Rows dealt out over files, in their order."""
    size = -(-len(of) // n_files)
    for i in range(n_files):
        if part := of[i * size : (i + 1) * size]:
            write(folder / f"part-{i:03d}.{form}", part)
    return folder


def tree(folder: Path, *, without: Iterable[str] = ()) -> dict[str, str]:
    """SHA-256 of every file below a folder; of the manifest without what differs from run to run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name in without:
            continue
        data = path.read_bytes()
        if name in ("manifest.json", "croissant.json"):
            value = json.loads(data)
            for key in ("uuid", "creation_date", "datePublished"):
                value.pop(key, None)
            data = json.dumps(value).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def shards(out: Path) -> pa.Table:
    """All shards of a run in Parquet, in order."""
    return pa.concat_tables([pq.read_table(p) for p in sorted((out / "shards").glob("*.parquet"))])


def scores(out: Path) -> pa.Table:
    """The score table of a run."""
    return pa.concat_tables([pq.read_table(p) for p in sorted((out / "scores").glob("part-*.parquet"))])


def ledger(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "ledger.parquet").to_pylist()


def kept_ids(out: Path) -> list[str]:
    """Ids of what was selected, sorted: the order of the files does not matter to them."""
    return sorted(row["doc_id"] for row in ledger(out) if row["kept"])


def jsonl_shards(out: Path) -> list[dict[str, Any]]:
    """All rows of shards in JSON Lines."""
    found = []
    for path in sorted((out / "shards").glob("*.jsonl.zst")):
        with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as stream:
            found += [json.loads(line) for line in stream]
    return found


SETTINGS: dict[str, Any] = {"n_buckets": 500}  # small, so that a target of 40 documents is enough


def select(raw: Any, out: Path, *, target: Any = None, budget: Any = 10, **options: Any) -> Any:
    """`curate.select` with small settings, and a target beside the output unless one is given."""
    from curate.selection import select as run

    if target is None:
        target = out.parent / "target.jsonl"
        if not target.exists():
            write(target, target_rows())
    if options.get("method", "dsir") == "dsir":
        options["settings"] = SETTINGS | options.pop("settings", {})
    return run(raw, target=target, out=out, budget=budget, **options)


def read_all(corpus: Any, columns: Sequence[str] | None, **options: Any) -> list[tuple[str, int, dict[str, Any]]]:
    """``(file, row number, row)`` of every row of a corpus, partition by partition."""
    from curate.io.formats import read

    found = []
    for partition in corpus.partitions:
        name = corpus.source(partition).name
        for batch in read(corpus, partition, columns, **options):
            found += [(name, int(i), row) for i, row in zip(batch.rows, batch.table.to_pylist(), strict=True)]
    return found


def compressed(form: str, data: bytes) -> bytes:
    """Bytes compressed as a name that ends in ``form`` says."""
    if form.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    return zstandard.compress(data) if form.endswith(".zst") else data
