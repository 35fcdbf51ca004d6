"""Shingle sets of documents in a file, of which only those that are needed are read.

A file: the hashes of all sets (uint64), the rows of their documents (int64[n]), offsets (int64[n + 1]), and last
n and MAGIC (int64), in the machine's byte order: it lives as long as a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.errors import CorruptError, InputError
from curate.features.shingles import ShingleSets
from curate.io.paths import atomic

MAGIC = 0x5348_494E_474C_4531


def write_shingles(path: Path, batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> int:
    """Write shingle sets of documents of one partition; returns how many.

    Parameters
    ----------
    batches : ``(rows, offsets, hashes)``: rows of the documents in the partition (int64[n], ascending over all
        batches), and their sets ``hashes[offsets[i]:offsets[i + 1]]`` (uint64, ascending, each once).
    """
    rows, ends, size = [np.zeros(0, np.int64)], [np.zeros(1, np.int64)], 0
    with atomic(path) as part, open(part, "wb") as file:
        for batch, offsets, hashes in batches:
            np.ascontiguousarray(hashes[offsets[0] : offsets[-1]], np.uint64).tofile(file)
            rows.append(np.asarray(batch, np.int64))
            ends.append(offsets[1:].astype(np.int64) - int(offsets[0]) + size)
            size = int(ends[-1][-1]) if len(ends[-1]) else size
        n = sum(map(len, rows))
        for array in (*rows, *ends, np.array([n, MAGIC])):
            array.tofile(file)
    return n


@dataclass(frozen=True)
class StoredSets:
    """``rows``: int64[n], of the documents; ``sets``: theirs, mapped from the file."""

    path: Path
    rows: np.ndarray
    sets: ShingleSets

    @classmethod
    def open(cls, path: Path) -> StoredSets:
        """Those that `write_shingles` wrote.

        Raises
        ------
        CorruptError : it did not write this file.
        """
        words = np.memmap(path, np.int64, "r") if path.stat().st_size >= 24 else np.zeros(2, np.int64)
        n = int(words[-2])
        start = len(words) - 2 - (2 * n + 1)  # of the rows
        if words[-1] != MAGIC or start < 0 or words[-3] != start:
            raise CorruptError(f"{path}: no file of shingle sets, or a part of one; delete it and run again")
        rows, offsets = words[start : start + n], words[start + n : start + 2 * n + 1]
        return cls(path, np.asarray(rows), ShingleSets(np.asarray(offsets), np.asarray(words[:start].view(np.uint64))))

    def find(self, rows: np.ndarray) -> np.ndarray:
        """int64[n]: which of the sets are those of rows (int64[n]).

        Raises
        ------
        InputError : the set of one is not there.
        """
        found = np.searchsorted(self.rows, rows)
        there = found < len(self.rows)
        there[there] = self.rows[found[there]] == rows[there]
        if not there.all():
            raise InputError(
                f"{self.path}: the shingles of row {int(rows[~there][0]):,} are not there; the corpus changed while "
                "it was read: run the same command again"
            )
        return found
