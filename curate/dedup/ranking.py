"""The order of documents in which the earlier of two duplicates stays: their ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.dedup.tables import Tables, scan
from curate.errors import ResourceError, UsageError
from curate.io.tables import batches, count_rows, numpy

MOST = (1 << 32) - 1  # documents: a pair of ranks is one 64-bit number


@dataclass(frozen=True)
class SignatureFile:
    """Signatures of one partition's documents.

    Parameters
    ----------
    path : Parquet file with a row for each document that takes part: doc_id, row, prefer, source, digest, n_shingles,
        band_00, band_01, ...
    name : what its file is called in results, and ordered by where ids are equal.
    start : its first row in that file.
    against : of the existing set, whose documents come first and always stay.
    own : of the existing set, and of the same corpus as the others: what was kept of it before.
    """

    path: Path
    name: str
    against: bool = False
    start: int = 0
    own: bool = False


@dataclass(frozen=True)
class Part:
    """A signature file, its place in what was given, and how many rows those before it and it have."""

    file: SignatureFile
    index: int
    first: int
    n_docs: int


class Ranks:
    """Ranks of all documents: 0 to ``n_docs - 1``; those of the existing set are the first ``n_against``.

    By rank: the existing set, then the largest ``prefer`` (none is last), ``doc_id``, name of the partition, row. The
    table "docs" has the documents by rank (part, row, doc_id, source), and the file "ranks" the ranks (uint32) of the
    signature files' rows, part after part. Parts are numbered in the order of (existing set first, name), whatever
    order they are given in.
    """

    def __init__(self, files: Sequence[SignatureFile], tables: Tables) -> None:
        self.tables = tables
        if not files:
            raise UsageError("no partitions to look for duplicates in; give at least one")
        order = sorted(range(len(files)), key=lambda i: (not files[i].against, files[i].name, files[i].start))
        ordered = [files[i] for i in order]
        for one, other in pairwise(ordered):
            if not one.against and (one.name, one.against, one.start) == (other.name, other.against, other.start):
                raise UsageError(
                    f"{one.name}: two partitions begin at row {one.start:,} of it; give each its own start"
                )
        counts = [count_rows(file.path) for file in ordered]
        firsts = np.cumsum([0, *counts])
        self.n_docs = int(firsts[-1])
        if self.n_docs > MOST:
            raise ResourceError(f"{self.n_docs:,} documents are over {MOST:,}; look for duplicates in shares of them")
        self.parts = [Part(files[i], i, int(first), n) for i, first, n in zip(order, firsts[:-1], counts, strict=True)]
        self.n_against = sum(part.n_docs for part in self.parts if part.file.against)
        self._path = tables.folder / "ranks"
        self._write()

    def _write(self) -> None:
        self.tables.write(
            "docs",
            "SELECT file_index::UINTEGER AS part, file_row_number::UINTEGER AS place, row, doc_id, source "
            f"FROM {scan([part.file.path for part in self.parts], numbered=True)} "
            f"ORDER BY part >= {sum(part.file.against for part in self.parts)}, "
            "CASE WHEN isnan(prefer) THEN NULL ELSE prefer END DESC NULLS LAST, doc_id, part, row",
        )
        ranks = np.memmap(self._path, np.uint32, "w+", shape=max(1, self.n_docs))
        firsts = np.array([part.first for part in self.parts])
        rank = 0
        for table in self.tables.read("docs", ["part", "place"]):
            places = firsts[numpy(table["part"])] + numpy(table["place"])
            ranks[places] = np.arange(rank, rank + len(places), dtype=np.uint32)
            rank += len(places)

    def docs(self, columns: str) -> str:
        """What to write after FROM for ``rank`` and some columns of "docs"."""
        return f"(SELECT file_row_number AS rank, {columns} FROM {self.tables.scan('docs', numbered=True)})"

    def of(self, part: Part) -> np.ndarray:
        """uint32[n_docs of the part]: the ranks of its signature file's rows."""
        return np.fromfile(self._path, np.uint32, part.n_docs, offset=4 * part.first)

    def batches(self, part: Part, columns: list[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """A part's signatures some at a time: ranks (uint32[n]) and those columns."""
        ranks, at = self.of(part), 0
        for table in batches(part.file.path, columns):
            yield ranks[at : at + table.num_rows], table
            at += table.num_rows
