"""A corpus: input files with their hashes, cut into partitions that do not depend on the machine."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import InputError
from curate.io.cleaned import Cleaned
from curate.io.paths import Source, find, open_binary, reading, stamp_of

PARTITION_BYTES = 64_000_000  # uncompressed; part of the plan, hence of the output's bytes
_CHUNK = 1 << 20
SPLITTABLE = ("jsonl", "txt")  # by byte ranges, when not compressed


@dataclass(frozen=True)
class InputFile:
    """A source with what its bytes are: the identity that resume and manifest rest on."""

    source: Source
    bytes: int
    sha256: str
    cuts: tuple[tuple[int, int], ...] = ()  # (byte, line) where partitions of a line format begin
    units: tuple[tuple[int, int], ...] = ()  # (rows, uncompressed bytes) of row groups or record batches
    stamp: str = field(default="", compare=False)  # when it was scanned, see `stamp_of`; no part of what it is


@dataclass(frozen=True)
class Partition:
    """The unit of work: a range of one file. ``start`` and ``stop`` are row groups, bytes, or the whole."""

    index: int
    file: int
    start: int
    stop: int
    first_row: int
    n_rows: int | None  # known beforehand for Parquet and Arrow
    n_bytes: int  # uncompressed where known, else as on disk


@dataclass(frozen=True)
class Corpus:
    """Files and their partitions, and how to read them; it can be walked again and again.

    ``cleaned``: what is to be removed of it, or put otherwise, once that is found.
    """

    files: tuple[InputFile, ...]
    partitions: tuple[Partition, ...]
    text_column: str = "text"
    id_column: str = "id"
    on_bad_row: str = "raise"
    passed_over: tuple[str, ...] = field(default=(), compare=False)
    cleaned: Cleaned | None = None

    def source(self, partition: Partition) -> Source:
        return self.files[partition.file].source

    def identity(self, partition: Partition) -> dict[str, Any]:
        """What determines the rows of a partition, for naming work that is done on it."""
        file = self.files[partition.file]
        since = {} if self.cleaned is None else {"cleaned": self.cleaned.key}
        return {
            "sha256": file.sha256,
            "name": file.source.name,
            "format": [file.source.format, file.source.compression],
            "range": [partition.start, partition.stop, partition.first_row],
            "columns": [self.text_column, self.id_column],
            "on_bad_row": self.on_bad_row,
        } | since

    def check_unchanged(self, partition: Partition) -> None:
        """See that the file of a partition is as it was when it was scanned, as far as that shows without reading it.

        Raises
        ------
        InputError : it is not.
        """
        file = self.files[partition.file]
        if file.stamp and stamp_of(file.source.path) != file.stamp:
            raise InputError(f"{file.source.path}: changed since it was scanned; run again, from the scan on")

    def alone(self, partition: Partition) -> tuple[Corpus, Partition]:
        """One partition with no more of the corpus than it takes to read and name it, to be sent elsewhere."""
        file = replace(self.files[partition.file], cuts=(), units=())
        return replace(self, files=(file,), partitions=(), passed_over=()), replace(partition, file=0)

    def with_files(self, files: Iterable[InputFile]) -> Corpus:
        """Other files, or the same in another order, read as these are; partitions are numbered in that order."""
        listed = tuple(files)
        return replace(self, files=listed, partitions=tuple(_partitions(listed)))

    @property
    def n_bytes(self) -> int:
        """Bytes on disk."""
        return sum(f.bytes for f in self.files)

    def as_dict(self, *, stamped: bool = False) -> dict[str, Any]:
        """For JSON. ``stamped``: with what shows that a file has changed since, which is no part of what it is."""
        return {
            "files": [
                {key: value for key, value in asdict(f).items() if stamped or key != "stamp"} for f in self.files
            ],
            "partitions": [asdict(p) for p in self.partitions],
            "text_column": self.text_column,
            "id_column": self.id_column,
            "on_bad_row": self.on_bad_row,
        } | ({} if self.cleaned is None else {"cleaned": self.cleaned.key})

    @classmethod
    def from_dict(cls, state: dict[str, Any], run: str | os.PathLike[str] = "") -> Corpus:
        """Back from `as_dict`. ``run``: the folder of the run that has cleaned it."""
        files = tuple(
            InputFile(
                Source(**f["source"]),
                f["bytes"],
                f["sha256"],
                tuple(map(tuple, f["cuts"])),
                tuple(map(tuple, f["units"])),
                f.get("stamp", ""),
            )
            for f in state["files"]
        )
        partitions = tuple(Partition(**p) for p in state["partitions"])
        cleaned = None if "cleaned" not in state else Cleaned.in_run(run, state["cleaned"])
        return cls(files, partitions, state["text_column"], state["id_column"], state["on_bad_row"], cleaned=cleaned)


def scan(
    paths: Sequence[str | os.PathLike[str]],
    *,
    text_column: str = "text",
    id_column: str = "id",
    on_bad_row: str = "raise",
    over: Callable[[Callable[[Source], InputFile], Iterable[Source]], Iterable[InputFile]] = map,
) -> Corpus:
    """Find, hash and cut the input files.

    Parameters
    ----------
    paths : files, folders, globs, URLs; `find` says how they are read.
    text_column : "" for files whose rows need no text, such as tables of numbers.
    over : how to apply a function to many files, in order; an engine's ``map``.

    Returns
    -------
    Corpus : the same for the same files, whatever the machine.

    Raises
    ------
    InputError : a file is missing, damaged, or has no text column (Parquet and Arrow).
    """
    sources, passed_over = find(paths)
    files = inspect_all(sources, text_column, over)
    partitions = tuple(_partitions(files))
    return Corpus(files, partitions, text_column, id_column, on_bad_row, tuple(passed_over))


def inspect_all(
    sources: Iterable[Source],
    text_column: str,
    over: Callable[[Callable[[Source], InputFile], Iterable[Source]], Iterable[InputFile]] = map,
) -> tuple[InputFile, ...]:
    """`inspect` some files.

    Raises
    ------
    InputError : a file is missing, damaged, or has no text column (Parquet and Arrow).
    """
    files = tuple(over(inspect, sources))
    for file in files:
        if text_column and file.source.format in ("parquet", "arrow"):
            _require_column(file.source, text_column)
    return files


def inspect(source: Source) -> InputFile:
    """Read a file once: its size, its SHA-256 and where it can be cut."""
    stamp = stamp_of(source.path)
    if source.format in SPLITTABLE and source.compression is None:
        size, digest, cuts = _hash_and_cut(source.path)
        return InputFile(source, size, digest, cuts=cuts, stamp=stamp)
    size, digest = hash_file(source.path)
    return InputFile(source, size, digest, units=_units(source), stamp=stamp)


def hash_file(path: str) -> tuple[int, str]:
    """``(bytes, sha256)`` of a file."""
    digest, size, buffer = hashlib.sha256(), 0, bytearray(_CHUNK)
    with open_binary(path) as stream, reading(path):
        while count := _read_into(stream, buffer):
            digest.update(memoryview(buffer)[:count])
            size += count
    return size, digest.hexdigest()


def _read_into(stream: Any, buffer: bytearray) -> int:
    return int(stream.readinto(buffer) or 0)


def _hash_and_cut(path: str) -> tuple[int, str, tuple[tuple[int, int], ...]]:
    """Hash a file of lines, and note the first line that begins after each `PARTITION_BYTES`."""
    digest, position, lines, buffer = hashlib.sha256(), 0, 0, bytearray(_CHUNK)
    cuts = [(0, 0)]
    with open_binary(path) as stream, reading(path):
        while count := _read_into(stream, buffer):
            chunk = memoryview(buffer)[:count]
            digest.update(chunk)
            newlines = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10)
            wanted = cuts[-1][0] + PARTITION_BYTES
            if position + count > wanted and len(newlines):
                at = int(np.searchsorted(newlines + position + 1, wanted))
                if at < len(newlines):
                    cuts.append((position + int(newlines[at]) + 1, lines + at + 1))
            lines += len(newlines)
            position += count
    if len(cuts) > 1 and cuts[-1][0] >= position:
        cuts.pop()
    return position, digest.hexdigest(), tuple(cuts)


def _units(source: Source) -> tuple[tuple[int, int], ...]:
    """Rows and uncompressed bytes of the row groups or record batches of a file."""
    if source.format == "parquet":
        with open_binary(source.path) as stream, reading(source.path):
            metadata = pq.ParquetFile(stream).metadata
            groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
            return tuple((g.num_rows, g.total_byte_size) for g in groups)
    if source.format == "arrow":
        with open_binary(source.path) as stream, reading(source.path):
            return tuple((b.num_rows, b.nbytes) for b in record_batches(stream))
    return ()


def _require_column(source: Source, column: str) -> None:
    names = column_names(source)
    if column not in names:
        raise InputError(no_column(source.path, column, names))
    require_distinct(source.path, names)


def require_distinct(path: str, names: Iterable[str]) -> None:
    """Raise when two columns of a file have the same name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path}: more than one column is called {twice[0]!r}; rename them")


def no_column(place: str, column: str, names: Iterable[str]) -> str:
    """The message for a missing text column."""
    there = list(names)
    strings = ", ".join(there) or "none"
    likely = next((n for n in there if n.lower() in ("text", "content", "body", "document", "raw_content")), None)
    return (
        f"{place}: no column {column!r} (there are: {strings}); "
        f"pass --text-column {likely or (there[0] if there else 'NAME')}"
    )


def column_names(source: Source) -> list[str]:
    """The columns of a Parquet or Arrow file."""
    with open_binary(source.path) as stream, reading(source.path):
        if source.format == "parquet":
            return list(pq.ParquetFile(stream).schema_arrow.names)
        return list(
            pa.ipc.open_stream(stream).schema.names if _is_stream(stream) else pa.ipc.open_file(stream).schema.names
        )


def _is_stream(stream: Any) -> bool:
    """Whether Arrow data is in the stream format, as Hugging Face datasets writes it, and not in the file format."""
    magic = stream.read(6)
    stream.seek(0)
    return bool(magic != b"ARROW1")


def record_batches(stream: Any, start: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches ``start:stop`` of an Arrow file, in either of its formats."""
    if _is_stream(stream):
        yield from islice(pa.ipc.open_stream(stream), start, stop)
        return
    reader = pa.ipc.open_file(stream)
    for i in range(start, reader.num_record_batches if stop is None else stop):
        yield reader.get_batch(i)


def _partitions(files: Iterable[InputFile]) -> Iterator[Partition]:
    index = 0
    for number, file in enumerate(files):
        for start, stop, first_row, n_rows, n_bytes in _ranges(file):
            yield Partition(index, number, start, stop, first_row, n_rows, n_bytes)
            index += 1


def _ranges(file: InputFile) -> Iterator[tuple[int, int, int, int | None, int]]:
    if file.cuts:
        ends = [cut[0] for cut in file.cuts[1:]] + [file.bytes]
        for (start, line), stop in zip(file.cuts, ends, strict=True):
            yield start, stop, line, None, stop - start
    elif file.source.format in ("parquet", "arrow"):
        start = first_row = rows = size = 0
        for i, (unit_rows, unit_bytes) in enumerate(file.units):
            if size and size + unit_bytes > PARTITION_BYTES:
                yield start, i, first_row, rows, size
                start, first_row, rows, size = i, first_row + rows, 0, 0
            rows += unit_rows
            size += unit_bytes
        yield start, len(file.units), first_row, rows, size
    else:
        yield 0, file.bytes, 0, None, file.bytes
