"""A corpus laid out for reading any document at once: Arrow files that are mapped into memory, made on first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.engines import LocalEngine
from curate.errors import CorruptError, InputError, unknown
from curate.io.columns import columns_of
from curate.io.corpus import Corpus, Partition, scan
from curate.io.paths import atomic, filesystem, find, is_url, locked
from curate.io.run import digest, read_json, write_json
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.steps.documents import documents, raw_batches

FORMAT = 1
BATCH_BYTES = 4_000_000
_COMMIT = "store.json"


def cache_folder() -> Path:
    """Where stores are kept by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "curate" / "loader"


@dataclass
class Store:
    """The documents of a corpus by number, in the order of the corpus.

    Attributes
    ----------
    folder : holds ``part-*.arrow`` with a column ``doc_id``, ``text`` and those that were asked for, all of them text.
    columns : their names.
    n_docs : how many. n_bad_rows : that could not be read and are not among them.
    """

    folder: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...] = field(repr=False)  # of each batch of each part
    n_bad_rows: int = 0

    def __post_init__(self) -> None:
        counts = [n for part in self.rows for n in part]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._open: dict[str, list[_Column]] = {}

    @property
    def n_docs(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # a process maps the files itself

    def column(self, name: str) -> Iterator[pa.Array]:
        """A column, batch by batch."""
        index = self.columns.index(name)
        for part in range(len(self.rows)):
            for batch in self._batches(part):
                yield batch.column(index)

    def reader(self, columns: Sequence[str]) -> Callable[[np.ndarray], Iterator[tuple[str | None, ...]]]:
        """A function from numbers of documents to the values of these columns."""
        found = [self._mapped(name) for name in columns]

        def read(docs: np.ndarray) -> Iterator[tuple[str | None, ...]]:
            batches = np.searchsorted(self._ends, docs, "right")
            rows = docs - np.where(batches > 0, self._ends[batches - 1], 0)
            for batch, row in zip(batches.tolist(), rows.tolist(), strict=True):
                yield tuple(column[batch].get(row) for column in found)

        return read

    def _mapped(self, name: str) -> list[_Column]:
        if name not in self._open:
            self._open[name] = [_Column.of(values) for values in self.column(name)]
        return self._open[name]

    def _batches(self, part: int) -> Iterator[pa.RecordBatch]:
        path = self.folder / f"part-{part:05d}.arrow"
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            for index in range(file.num_record_batches):
                yield file.get_batch(index)
        except (OSError, pa.ArrowInvalid) as error:
            raise CorruptError(f"{path}: cannot be read ({error}); delete {self.folder}, it is made again") from error


@dataclass(frozen=True, slots=True)
class _Column:
    """Text of one batch: its buffers, read without Arrow's objects."""

    offsets: memoryview
    data: memoryview
    valid: Any  # None: all are

    @classmethod
    def of(cls, values: pa.Array) -> _Column:
        _, _, data = values.buffers()
        valid = values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else None
        return cls(offsets_of(values).data, memoryview(data) if data is not None else memoryview(b""), valid)

    def get(self, row: int) -> str | None:
        if self.valid is not None and not self.valid[row]:
            return None
        return str(self.data[self.offsets[row] : self.offsets[row + 1]], "utf-8")


def offsets_of(values: pa.Array) -> np.ndarray:
    """int64[n + 1]: where each text of a batch begins, and where the last one ends."""
    return np.frombuffer(values.buffers()[1], np.int64, len(values) + 1, values.offset * 8)


def open_store(
    paths: Paths,
    columns: Sequence[str] = (),
    *,
    text_column: str = "text",
    id_column: str = "id",
    on_bad_row: str = "raise",
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Store:
    """The store of a corpus; it is made when there is none for these files yet.

    Files are known by path, size and time of change. Processes that want one store at once wait for the one that
    makes it; what a killed one finished is kept.

    Parameters
    ----------
    columns : more columns than the id and the text; their values become text.
    cache : folder for stores, by default the user's cache folder; it needs the size of the text.

    Raises
    ------
    InputError : no such column, no documents, and what reading a corpus raises.
    """
    given = listed_paths(paths)
    names = tuple(dict.fromkeys(columns))
    sources, _ = find(given)
    key = digest(
        [FORMAT, names, text_column, id_column, on_bad_row, [[s.path, s.name, *_version(s.path)] for s in sources]]
    )
    folder = (Path(cache) if cache is not None else cache_folder()) / key[:24]
    if (found := _opened(folder)) is not None:
        return found
    with locked(folder):
        if (found := _opened(folder)) is not None:
            return found
        return _make(folder, key, given, names, text_column, id_column, on_bad_row, workers, Progress(progress))


def _version(path: str) -> tuple[int, str]:
    """Size of a file, and what changes with its content."""
    if not is_url(path):
        stat = os.stat(path.removeprefix("file://"))
        return stat.st_size, str(stat.st_mtime_ns)
    fs, inner = filesystem(path)
    info = fs.info(inner)
    return int(info.get("size") or 0), str(info.get("ETag") or info.get("mtime") or info.get("LastModified"))


def _opened(folder: Path) -> Store | None:
    there = read_json(folder / _COMMIT)
    if there is None:
        return None
    return Store(folder, tuple(there["columns"]), tuple(map(tuple, there["rows"])), there["n_bad_rows"])


def _make(
    folder: Path,
    key: str,
    paths: list[str],
    names: tuple[str, ...],
    text_column: str,
    id_column: str,
    on_bad_row: str,
    workers: int | None,
    shown: Progress,
) -> Store:
    if on_bad_row not in ("raise", "quarantine"):
        raise unknown("on_bad_row", on_bad_row, ("raise", "quarantine"))
    with LocalEngine(workers) as engine:
        corpus = scan(paths, text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, over=engine.map)
        there = columns_of(corpus)
        for name in names:
            if name not in there:
                raise InputError(f"{corpus.files[0].source.path}: {unknown('column', name, there)}")
        rows: dict[int, list[int]] = {}
        n_bad = 0
        with shown.stage("lay out", sum(p.n_bytes for p in corpus.partitions)) as stage:
            for partition, found in engine.each(partial(_lay_out, folder, corpus, names), corpus.partitions):
                rows[partition.index] = found["rows"]
                n_bad += found["n_bad_rows"]
                stage.advance(partition.n_bytes)
    columns = ("doc_id", "text", *names)
    made = Store(folder, columns, tuple(tuple(rows[p.index]) for p in corpus.partitions), n_bad)
    write_json(folder / _COMMIT, {"key": key, "columns": columns, "rows": made.rows, "n_bad_rows": n_bad})
    return made


def _lay_out(folder: Path, corpus: Corpus, names: tuple[str, ...], partition: Partition) -> dict[str, Any]:
    """Write one partition as Arrow, unless that is done; returns the rows of its batches."""
    path = folder / f"part-{partition.index:05d}.arrow"
    marker = path.with_suffix(".json")
    if (done := read_json(marker)) is not None:
        return done
    schema = pa.schema([(name, pa.large_string()) for name in ("doc_id", "text", *names)])
    found: dict[str, Any] = {"rows": [], "n_bad_rows": 0}
    with atomic(path) as part, pa.ipc.new_file(str(part), schema) as writer:
        for raw in raw_batches(corpus, partition, names, BATCH_BYTES):
            docs = documents(corpus, partition, raw, names)
            found["n_bad_rows"] += len(docs.bad)
            if len(docs):
                arrays = [a.cast(pa.large_string()) for a in (docs.ids, docs.texts, *docs.carried.values())]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                found["rows"].append(len(docs))
    write_json(marker, found)
    return found
