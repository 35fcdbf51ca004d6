"""How difficult each document is, and its place among all: for curricula that need no feedback from training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.curriculum.bytemodel import ByteModel
from curate.curriculum.values import Gate, numbers
from curate.engines import LocalEngine
from curate.io.corpus import Corpus, Partition
from curate.io.run import read_json, write_json
from curate.io.tables import batches, is_done, numpy, write_table
from curate.sampling.noise import HALF, keyed_hashes
from curate.steps.documents import Documents, documents, raw_batches
from curate.steps.sorting import Sorter, Totals, numbered, with_quantiles, write_rows

BITS, LENGTH = "bits-per-byte", "length"
MODEL_BYTES = 8_000_000  # of text that each of two models reads
TEXT_BYTES = 1_000_000  # of one text at most, so that none is all that a model reads, or too long for it to read any
PART = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("path", pa.dictionary(pa.int32(), pa.large_string())),
        ("row", pa.int64()),
        ("n_bytes", pa.int64()),
        ("difficulty", pa.float64()),
        ("within", pa.large_string()),
        ("passes", pa.bool_()),
        ("reason", pa.string()),
    ]
)


# ---- two models, so that no document is made easy by itself


class Halves:
    """Two models of bytes: each document is judged by the one that did not read it.

    Which half of a sample a document is in is a hash of (seed, doc_id). An exact copy of another id may be in the
    other half.
    """

    def __init__(self, ids: Any, texts: Any, seed: int) -> None:
        """From sampled documents in the order of a hash; the first MODEL_BYTES of each half are read.

        Of a long text the first TEXT_BYTES.
        """
        self.seed = seed
        texts = _beginnings(texts)
        halves, sizes = self._half(ids), pc.binary_length(texts).to_numpy()
        self.models = []
        for half in (0, 1):
            own = halves == half
            taken = own & (np.cumsum(np.where(own, sizes, 0)) <= MODEL_BYTES)
            self.models.append(ByteModel([texts.filter(pa.array(taken))]))

    def _half(self, ids: Any) -> np.ndarray:
        return (keyed_hashes(ids, self.seed, HALF) >> np.uint64(63)).astype(np.int64)

    def bits_per_byte(self, ids: Any, texts: Any) -> np.ndarray:
        """float64[n_docs]; nan where a text is empty."""
        halves, found = self._half(ids), np.full(len(ids), np.nan)
        for half, model in enumerate(reversed(self.models)):
            own = halves == half
            found[own] = model.bits_per_byte(texts.filter(pa.array(own)))
        return found


def _beginnings(texts: Any) -> Any:
    """Arrow strings with the first TEXT_BYTES of each, to a whole character."""
    long = pc.greater(pc.binary_length(texts), TEXT_BYTES)
    cut = [text.as_py().encode()[:TEXT_BYTES].decode(errors="ignore") for text in texts.filter(long)]
    return pc.replace_with_mask(texts, long, pa.array(cut, texts.type)) if cut else texts


# ---- measuring


@dataclass(frozen=True)
class DifficultyJob:
    """What measuring needs to know.

    ``difficulty``: BITS, LENGTH or a column. ``within``: columns whose values are ranked by themselves; LENGTH: texts
    of 2**k to 2**(k + 1) bytes. ``halves``: for BITS. ``folder``: for the parts; ``key`` names the work.
    """

    corpus: Corpus
    difficulty: str
    within: tuple[str, ...]
    gate: Gate | None
    halves: Halves | None
    engine: LocalEngine
    folder: Path
    key: str
    batch_bytes: int

    def path(self, partition: Partition) -> Path:
        return self.folder / f"part-{partition.index:05d}.parquet"

    @property
    def carried(self) -> tuple[str, ...]:
        """Columns that are read beside text and id."""
        names = [] if self.difficulty in (BITS, LENGTH) else [self.difficulty]
        names += [name for name in self.within if name != LENGTH]
        names += [self.gate.column] if self.gate else []
        return tuple(dict.fromkeys(names))


def is_measured(job: DifficultyJob, partition: Partition) -> bool:
    marker = read_json(job.path(partition).with_suffix(".json"))
    return bool(marker) and marker["key"] == job.key and is_done(job.path(partition), job.key)


def measure(job: DifficultyJob, partition: Partition) -> dict[str, Any]:
    """Write the difficulties of a partition, unless that is done; returns its bad rows, for `write_quarantine`."""
    path = job.path(partition)
    if not is_measured(job, partition):
        bad: list[Any] = []
        write_table(path, PART, _measured(job, partition, bad), job.key)
        found = [[b.path, b.row, b.reason, b.content.hex()] for b in bad]
        write_json(path.with_suffix(".json"), {"key": job.key, "bad": found})
    marker: dict[str, Any] = read_json(path.with_suffix(".json"))
    return marker


def _measured(job: DifficultyJob, partition: Partition, bad: list[Any]) -> Iterator[pa.Table]:
    names = pa.array([job.corpus.source(partition).name], pa.large_string())

    def work(raw: Any) -> tuple[pa.Table, list[Any]]:
        docs = documents(job.corpus, partition, raw, job.carried)
        difficulty, reason = _difficulty(job, docs)
        passes = job.gate.passes(docs.carried[job.gate.column]) if job.gate else np.ones(len(docs), bool)
        path = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(docs), np.int32)), names)
        columns = [docs.ids, path, docs.rows, docs.n_bytes, pa.array(difficulty, mask=np.isnan(difficulty))]
        columns += [_within(job, docs), passes, pa.array(reason, pa.string(), mask=reason == "")]
        return pa.table(columns, schema=PART), docs.bad

    for table, rows in job.engine.pipeline(work, raw_batches(job.corpus, partition, job.carried, job.batch_bytes)):
        bad.extend(rows)
        yield table


def _difficulty(job: DifficultyJob, docs: Documents) -> tuple[np.ndarray, np.ndarray]:
    """``(difficulty, reason)``: float64[n_docs], nan where there is a reason, else "" for that."""
    if job.difficulty == BITS:
        assert job.halves is not None
        found = job.halves.bits_per_byte(docs.ids, docs.texts)
    elif job.difficulty == LENGTH:
        found = docs.n_bytes.astype(np.float64)
    else:
        found = numbers(docs.carried[job.difficulty])
    reason = np.where(np.isfinite(found), "", "not_a_number").astype(object)
    if job.difficulty not in (BITS, LENGTH):
        reason[docs.carried[job.difficulty].is_null().to_numpy(zero_copy_only=False)] = "no_value"
    reason[docs.n_bytes == 0] = "no_text"
    return np.where(reason == "", found, np.nan), reason


def _within(job: DifficultyJob, docs: Documents) -> pa.Array:
    """The group that each document is ranked in, as text."""
    columns = [pa.array(np.full(len(docs), ""), pa.large_string())]
    for name in job.within:
        if name == LENGTH:
            exponent = np.frexp(np.maximum(docs.n_bytes, 1).astype(np.float64))[1]
            columns.append(pa.array(exponent).cast(pa.large_string()))
        else:
            columns.append(pc.fill_null(docs.carried[name].cast(pa.large_string()), ""))
    return pc.binary_join_element_wise(*columns, pa.scalar("\x1f", pa.large_string()))


# ---- ranking


class Ranks:
    """The mid-rank quantile of every document with a difficulty, within its group, by sorting on disk.

    Attributes
    ----------
    n_ranked : documents.
    """

    def __init__(self, parts: Sequence[Path], sorter: Sorter) -> None:
        """From the parts in the order of the corpus.

        Raises
        ------
        UsageError : too many groups.
        """
        shutil.rmtree(sorter.scratch, ignore_errors=True)
        sorter.scratch.mkdir(parents=True)
        self._sorter, self._parts = sorter, parts
        self._rows = sorter.scratch / "rows.parquet"
        self.n_ranked = 0
        write_rows(self._rows, self._gathered())

    def highest(self, share: float) -> float:
        """The difficulty that at most this share of all documents is above."""
        above = int(share * self.n_ranked)
        for table in _from_the_end(self._sorter.sorted(self._rows, "difficulty")):
            values = numpy(table["difficulty"])
            if above < len(values):
                return float(values[len(values) - 1 - above])
            above -= len(values)
        return np.inf

    def tables(self) -> Iterator[pa.Table]:
        """The rows of the parts in the order of the corpus, with ``quantile``; null where there is no difficulty."""
        ordered = self._sorter.sorted(self._rows, "grouped, difficulty, part, place")
        write_rows(self._rows, with_quantiles(ordered, "difficulty", 1.0))
        totals = Totals(self._sorter.sorted(self._rows, "part, place"))
        for part, path in enumerate(self._parts):
            first = 0
            for table in batches(path):
                quantile = totals.take(part, first, first + table.num_rows)
                first += table.num_rows
                yield table.append_column("quantile", pa.array(quantile, mask=np.isnan(quantile)))

    def _gathered(self) -> Iterator[pa.Table]:
        groups: dict[str, int] = {}
        for part, path in enumerate(self._parts):
            first = 0
            for table in batches(path, ["difficulty", "within"]):
                rows = {"part": np.full(table.num_rows, part), "place": np.arange(first, first + table.num_rows)}
                first += table.num_rows
                grouped = numbered(table["within"], groups, "--within")
                columns = {**rows, "grouped": grouped, "difficulty": table["difficulty"]}
                found = pa.table(columns | {"total": np.zeros(table.num_rows)})
                found = found.filter(pc.is_valid(table["difficulty"]))
                self.n_ranked += found.num_rows
                if found.num_rows:
                    yield found


def _from_the_end(path: Path) -> Iterator[pa.Table]:
    """The row groups of a Parquet file, the last one first; none when there is no file."""
    import pyarrow.parquet as pq

    if not path.exists():
        return
    with pq.ParquetFile(path) as file:
        for group in reversed(range(file.num_row_groups)):
            yield file.read_row_group(group)
