"""What cleaning has found of the documents of a corpus: a file a partition, with a row for each that is concerned."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.io.paths import folder_path, is_remote
from curate.io.run import CLEANED
from curate.io.tables import batches

if TYPE_CHECKING:
    from curate.io.corpus import Partition

EDIT = pa.struct([("start", pa.int64()), ("stop", pa.int64()), ("text", pa.large_string())])
"""Bytes ``start:stop`` of a text in UTF-8 become ``text``."""
VERDICTS = pa.schema(
    [("row", pa.int64()), ("reason", pa.string()), ("edits", pa.large_list(EDIT)), ("tags", pa.list_(pa.string()))]
)
_HELD = 4 + 2 * (os.cpu_count() or 1)  # partitions whose verdicts are held: more than are worked on at a time


class Verdicts:
    """Those of one partition, sorted by row; documents that are not there stay as they are."""

    def __init__(self, table: pa.Table) -> None:
        self._rows = table["row"].to_numpy()
        self._table = table.select(["reason", "edits", "tags"]).combine_chunks()
        self.tag = self._table["tags"].null_count < len(table)  # whether any document has tags

    def at(self, rows: np.ndarray) -> pa.Table:
        """Columns ``reason``, ``edits`` and ``tags`` of documents by their rows, int64[n]; null where there is none."""
        if not len(self._rows):
            return pa.table([pa.nulls(len(rows), field.type) for field in VERDICTS][1:], names=VERDICTS.names[1:])
        at = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        return self._table.take(pa.array(at, mask=self._rows[at] != rows))


@dataclass(frozen=True)
class Cleaned:
    """Where the verdicts of a corpus are. ``key`` names what they were found by."""

    folder: str
    key: str
    _held: dict[int, Verdicts] = field(default_factory=dict, compare=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    @classmethod
    def in_run(cls, run: str | os.PathLike[str], key: str) -> Cleaned:
        """Those in the folder of a run."""
        there = folder_path(run) / CLEANED
        return cls(str(there if is_remote(there) else there.absolute()), key)  # for processes that work elsewhere

    def __reduce__(self) -> tuple[Any, ...]:
        return Cleaned, (self.folder, self.key)  # elsewhere they are read again

    def path(self, partition: int) -> Path:
        return folder_path(self.folder) / f"part-{partition:05d}.parquet"

    def of(self, partition: Partition) -> Verdicts:
        """The verdicts of one partition."""
        with self._lock:
            found = self._held.pop(partition.index, None)
            if found is None:
                tables = list(batches(self.path(partition.index)))
                found = Verdicts(pa.concat_tables([VERDICTS.empty_table(), *tables]))
                while len(self._held) >= _HELD:
                    self._held.pop(next(iter(self._held)))
            self._held[partition.index] = found  # the last in order
            return found
