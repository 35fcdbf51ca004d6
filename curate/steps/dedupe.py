"""Dedup over partitions: texts of candidates are read again for their shingles, and of what is left for vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup import Signer
from curate.dedup.join import REASONS, SCHEMA, Join, Summary
from curate.dedup.ranking import SignatureFile
from curate.dedup.sets import StoredSets, write_shingles
from curate.features.vectors import EncoderVectors, HashedVectors
from curate.io.corpus import Partition
from curate.io.paths import atomic, is_remote, opened
from curate.io.run import digest
from curate.io.tables import batches, schema_of, write_table
from curate.steps.clean import SIGNATURES, CleanJob
from curate.steps.documents import Documents, documents, raw_batches

GONE = pa.schema([("row", pa.int64()), ("reason", pa.string())])  # of a partition, ascending


@dataclass(frozen=True)
class Member:
    """A partition whose documents are compared: of raw, or, ``against``, of a corpus that stays as it is.

    ``own``: that is what was kept of raw before.
    """

    job: CleanJob
    partition: Partition
    against: bool = False
    own: bool = False

    @property
    def signatures(self) -> SignatureFile:
        """Files of other corpora are called by their paths: several may have files of the same names."""
        source = self.job.corpus.source(self.partition)
        name = source.path if self.against and not self.own else source.name
        path = self.job.signature(self.partition)
        return SignatureFile(path, name, self.against, self.partition.first_row, self.own)

    def alone(self) -> Member:
        """With no more than it takes to read it, to be sent elsewhere."""
        corpus, there = self.job.corpus.alone(self.partition)
        return replace(self, job=replace(self.job, corpus=corpus), partition=there)


@dataclass(frozen=True)
class Wanted:
    """Some documents of a member, by row (int64[n], ascending), and the file that is made of them."""

    member: Member
    rows: np.ndarray
    path: Path

    def alone(self) -> Wanted:
        return replace(self, member=self.member.alone())


def texts_of(wanted: Wanted) -> Iterator[Documents]:
    """The documents that are wanted, with their texts as they will be written, some at a time."""
    job, partition = wanted.member.job, wanted.member.partition
    assert job.spec.dedup is not None
    corpus = replace(job.corpus, cleaned=job.looked)
    column = job.spec.dedup.vectors

    def work(raw: Any) -> Documents:
        docs = documents(corpus, partition, raw, (), column)
        return docs.where(np.isin(docs.rows, wanted.rows, assume_unique=True))

    raw = raw_batches(corpus, partition, [column] if column else [], job.batch_bytes)
    yield from job.engine.pipeline(work, raw)


def write_sets(wanted: Wanted) -> None:
    """Write the shingle sets of candidates."""
    spec = wanted.member.job.spec.dedup
    assert spec is not None
    signer = Signer(spec)

    def sets() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for docs in texts_of(wanted):
            yield docs.rows, *signer.shingles(docs.texts)

    write_shingles(wanted.path, sets())


def write_vectors(vectors_of: EncoderVectors | HashedVectors, wanted: Wanted) -> None:
    """Write the vectors of documents, and their rows beside them; ``vectors_of`` makes those that no column has."""
    rows: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    for docs in texts_of(wanted):
        if len(docs):
            rows.append(docs.rows)
            vectors.append(docs.vectors if docs.vectors is not None else vectors_of(docs.texts))
    _write_vectors(wanted.path, rows, vectors)


def _write_vectors(path: Path, rows: list[np.ndarray], vectors: list[np.ndarray]) -> None:
    for name, array in (("rows", np.concatenate([np.zeros(0, np.int64), *rows])), ("vectors", _stacked(vectors))):
        with atomic(path.with_suffix(f".{name}.npy")) as part, open(part, "wb") as file:
            np.save(file, array, allow_pickle=False)


def write_kept(signatures: Path, verdicts: Path, out: Path) -> None:
    """Those signatures of a partition whose documents were kept."""
    gone = [table.filter(pc.is_valid(table["reason"]))["row"] for table in batches(verdicts, ["row", "reason"])]
    removed = np.concatenate([np.zeros(0, np.int64), *(rows.to_numpy() for rows in gone)])
    tables = (table.filter(pa.array(~np.isin(table["row"].to_numpy(), removed))) for table in batches(signatures))
    write_table(out, schema_of(signatures), tables, unique=SIGNATURES)


def _stacked(vectors: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(vectors).astype(np.float32) if vectors else np.zeros((0, 1), np.float32)


def _load_vectors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rows, vectors = (np.load(path.with_suffix(f".{name}.npy"), mmap_mode="r") for name in ("rows", "vectors"))
    return np.asarray(rows), vectors


@dataclass(frozen=True)
class Dedup:
    """Duplicates among members.

    ``folder``: local, for what is made on the way. ``each``: works on some `Wanted`, as they come; it is also told what
    that is called, and how many bytes there are in their partitions.
    """

    members: Sequence[Member]
    folder: Path
    memory_limit: int
    workers: int
    each: Callable[[str, Callable[[Wanted], None], Iterable[Wanted], int], None]

    def find(self, out: Path, gone: Callable[[int], Path]) -> dict[str, int]:
        """Write who is a duplicate of whom to ``out``; returns counts.

        ``gone``: number of a partition to the file for its rows that go, in the columns of `GONE`; those of a corpus
        that stays as it is have none.
        """
        with ThreadPoolExecutor(self.workers) as threads:  # at a URL each takes its time
            at_hand = list(threads.map(partial(_at_hand, folder=self.folder), self.members))
        members = [member for member, file in zip(self.members, at_hand, strict=True) if file is not None]
        if not members:
            write_table(out, SCHEMA, [])
            return asdict(Summary())
        spec = members[0].job.spec.dedup
        assert spec is not None
        files = [file for file in at_hand if file is not None]
        join = Join(files, self.folder / "join", spec, self.memory_limit, self.workers)
        join.find()
        if spec.near:
            paths = self._write("compare", write_sets, members, join.candidates, "bin")
            join.verify(lambda part: StoredSets.open(paths[part]))
        if spec.semantic:
            vectors_of = EncoderVectors(spec.encoder) if spec.encoder else HashedVectors()
            of = self._write("embed", partial(write_vectors, vectors_of), members, join.kept, "vectors")
            join.find_semantic(lambda part: _load_vectors(of[part]))
        summary = join.write(out)
        for part, member in enumerate(members):
            if not member.against:
                rows, reasons = join.removed(part)
                table = pa.table([rows, pa.array(REASONS, pa.string()).take(pa.array(reasons))], schema=GONE)
                write_table(gone(member.partition.index), GONE, [table])
        return asdict(summary)

    def _write(
        self,
        name: str,
        work: Callable[[Wanted], None],
        members: Sequence[Member],
        rows_of: Callable[[int], np.ndarray],
        ending: str,
    ) -> list[Path]:
        """Files of some documents of each member; one without any has one too, where nothing is read."""
        paths = [self.folder / ending / f"part-{i:05d}.{ending}" for i in range(len(members))]
        (self.folder / ending).mkdir(parents=True, exist_ok=True)

        def wanted() -> Iterator[Wanted]:
            for i, (member, path) in enumerate(zip(members, paths, strict=True)):
                one = Wanted(member, rows_of(i), path)
                if len(one.rows):
                    yield one
                else:
                    work_on_nothing(one)

        self.each(name, work, wanted(), sum(member.partition.n_bytes for member in members))
        return paths


def work_on_nothing(wanted: Wanted) -> None:
    """The file of a member that nothing is wanted of."""
    if wanted.path.suffix == ".bin":
        write_shingles(wanted.path, [])
    else:
        _write_vectors(wanted.path, [], [])


def _at_hand(member: Member, folder: Path) -> SignatureFile | None:
    """A signature file on this machine, where queries can read it: one at a URL is copied. None: there is none."""
    file = member.signatures
    if not file.path.exists():
        return None
    if not is_remote(file.path):
        return file
    here = folder / "signatures" / f"{digest([str(file.path)])[:16]}.parquet"
    here.parent.mkdir(parents=True, exist_ok=True)
    with atomic(here) as part, open(part, "wb") as out, opened(file.path) as stream:
        shutil.copyfileobj(stream, out)
    return replace(file, path=here)
