"""Reading a partition as batches of bounded size: one reader a format, one shape for all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from curate.errors import CorruptError, InputError
from curate.io.corpus import Corpus, Partition, no_column, record_batches, require_distinct
from curate.io.paths import is_url, kind, open_binary, reading
from curate.io.schemas import without_views

if TYPE_CHECKING:
    import polars as pl

BATCH_BYTES = 8_000_000
MAX_LINE_BYTES = 64_000_000  # one line, or one document; beyond it something is wrong with the file
MAX_JSON_BYTES = 512_000_000  # a .json file that is one array is read whole
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used: where it is, why, and the row as it is (its first 10,000 bytes)."""

    path: str
    row: int
    reason: str
    content: bytes

    @property
    def place(self) -> str:
        lines = (kind(self.path) or ("",))[0] in ("jsonl", "txt")
        return f"{self.path} line {self.row + 1}" if lines else f"{self.path} row {self.row}"


@dataclass(frozen=True)
class Batch:
    """Some rows of a partition."""

    rows: np.ndarray  # int64[n], 0-based in the file (for line formats the line)
    table: pa.Table  # the columns asked for; one that the file lacks is null
    bad: list[BadRow] = field(default_factory=list)


def read(
    corpus: Corpus,
    partition: Partition,
    columns: Sequence[str] | None,
    *,
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[Batch]:
    """Batches of a partition with ``columns`` (all when None), in the order of the file.

    Raises
    ------
    CorruptError : the file is damaged. InputError : a bad row, unless they are quarantined; no text column.
    """
    batches = (
        _parse(raw, columns) if isinstance(raw, Lines) else raw
        for raw in read_raw(corpus, partition, columns, batch_bytes=batch_bytes)
    )
    for batch in batches:
        if batch.bad and corpus.on_bad_row == "raise":
            raise_bad(batch.bad[0])
        yield batch


@dataclass(frozen=True)
class Lines:
    """A block of JSON Lines before it is parsed: parsing is the dear part and goes to the workers."""

    path: str
    data: bytes
    first_row: int
    text_column: str
    first_of_file: bool
    bad: list[BadRow] = field(default_factory=list)

    def line_starts(self) -> np.ndarray:
        """Where each line begins in ``data``, and where the last one ends."""
        newlines = np.flatnonzero(np.frombuffer(self.data, np.uint8) == 10) + 1
        ends = newlines if self.data.endswith(b"\n") else np.append(newlines, len(self.data))
        return np.concatenate([[0], ends])


def raise_bad(bad: BadRow) -> None:
    raise InputError(f"{bad.place}: {bad.reason}; mend it, or pass --on-bad-row quarantine to set such rows aside")


def read_raw(
    corpus: Corpus, partition: Partition, columns: Sequence[str] | None, *, batch_bytes: int = BATCH_BYTES
) -> Iterator[Batch | Lines]:
    """As `read`, but JSON Lines as unparsed blocks."""
    corpus.check_unchanged(partition)
    source = corpus.source(partition)
    wanted = None if columns is None else list(dict.fromkeys(columns))
    if source.format == "parquet":
        yield from _parquet(source.path, partition, wanted, batch_bytes)
    elif source.format == "arrow":
        yield from _arrow(source.path, partition, wanted)
    elif source.format == "csv":
        yield from _csv(source.path, source.compression, wanted, batch_bytes, corpus.text_column)
    elif source.format == "txt":
        for data, row, bad in _blocks(source.path, source.compression, partition, batch_bytes):
            yield _text_lines(source.path, data, row, corpus.text_column, wanted, bad)
    elif source.format == "json" and _is_array(source.path, source.compression):
        yield from _json_array(source.path, source.compression, corpus.text_column, batch_bytes)
    else:
        for data, row, bad in _blocks(source.path, source.compression, partition, batch_bytes):
            yield Lines(source.path, data, row, corpus.text_column, row == 0, bad)


def parse(raw: Batch | Lines, columns: Sequence[str] | None) -> Batch:
    """The batch of a block, parsed if it is not yet."""
    return _parse(raw, columns) if isinstance(raw, Lines) else raw


# ---- Parquet and Arrow


def _parquet(path: str, partition: Partition, columns: list[str] | None, batch_bytes: int) -> Iterator[Batch]:
    row = partition.first_row
    with closing(open_binary(path)) as stream, reading(path):
        file = pq.ParquetFile(stream, pre_buffer=False)
        there = set(file.schema_arrow.names)
        names = None if columns is None else [c for c in columns if c in there]
        for group in range(partition.start, partition.stop):
            metadata = file.metadata.row_group(group)
            if not metadata.num_rows:
                continue
            per_row = max(1, metadata.total_byte_size // metadata.num_rows)
            batch_rows = int(min(65_536, max(1, batch_bytes // per_row)))
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=names, use_threads=False):
                batch.validate(full=True)  # above all that text is UTF-8: what comes after takes it for granted
                table = with_missing(without_views(pa.Table.from_batches([batch])), columns)
                yield Batch(np.arange(row, row + batch.num_rows), table)
                row += batch.num_rows


def _arrow(path: str, partition: Partition, columns: list[str] | None) -> Iterator[Batch]:
    row = partition.first_row
    with closing(open_binary(path)) as stream, reading(path):
        for batch in record_batches(stream, partition.start, partition.stop):
            batch.validate(full=True)  # Arrow takes files at their word: damaged ones crash it later
            table = pa.Table.from_batches([batch])
            if columns is not None:
                table = with_missing(table.select([c for c in columns if c in table.column_names]), columns)
            yield Batch(np.arange(row, row + batch.num_rows), without_views(table))
            row += batch.num_rows


def with_missing(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Exactly these columns (all when None); one that is not there is null."""
    if columns is None or list(columns) == table.column_names:
        return table
    n = table.num_rows
    return pa.table({c: table[c] if c in table.column_names else pa.nulls(n, pa.string()) for c in columns})


# ---- lines: blocks of whole lines out of a possibly compressed file


def _bytes_of(path: str, compression: str | None) -> Any:
    if compression is None:
        return open_binary(path)
    if not is_url(path):  # three times as fast: nothing goes through the interpreter
        with reading(path):
            return pa.CompressedInputStream(pa.OSFile(path.removeprefix("file://")), compression)
    return pa.CompressedInputStream(pa.PythonFile(open_binary(path), mode="r"), compression)


def _blocks(
    path: str, compression: str | None, partition: Partition, batch_bytes: int
) -> Iterator[tuple[bytes, int, list[BadRow]]]:
    """``(whole lines, number of the first, bad rows before them)``; a line that is too long is a bad row."""
    from curate.kernels.calls import count_lines

    whole = compression is not None
    position, row = (0, 0) if whole else (partition.start, partition.first_row)
    buffer, used = bytearray(batch_bytes), 0  # a line that is not complete yet begins the buffer
    skipping, head = 0, b""  # bytes of an overlong line that went by, and how it began
    bad: list[BadRow] = []
    with closing(_bytes_of(path, compression)) as stream, reading(path):
        if not whole:
            stream.seek(partition.start)
        first = row == 0
        while True:
            size = batch_bytes if whole else min(batch_bytes, partition.stop - position)
            buffer.extend(bytes(max(0, used + size - len(buffer))))
            count = stream.readinto(memoryview(buffer)[used : used + size]) if size > 0 else 0
            if not count:
                break
            position += count
            start, end = 0, used + count
            if first:
                if end < len(_BOM) and position < partition.stop:
                    used = end
                    continue
                start, first = len(_BOM) if buffer.startswith(_BOM) else 0, False
            if skipping:
                newline = buffer.find(b"\n", start, end)
                if newline < 0:
                    skipping += end
                    continue
                bad.append(_overlong(path, row, skipping + newline, head))
                start, skipping, row = newline + 1, 0, row + 1
            cut = max(start, buffer.rfind(b"\n", start, end) + 1)
            if cut > start:
                data = bytes(memoryview(buffer)[start:cut])
                if len(data) > MAX_LINE_BYTES:
                    data = _blanked(path, data, row, bad)
                yield data, row, bad
                row, bad = row + count_lines(data), []
            used = end - cut
            buffer[:used] = buffer[cut:end]
            if used > MAX_LINE_BYTES:
                skipping, head, used = used, bytes(buffer[: min(used, 10_000)]), 0
        if skipping:
            bad.append(_overlong(path, row, skipping, head))
            row += 1
        if used or bad:
            yield bytes(buffer[:used]), row, bad


def _blanked(path: str, data: bytes, row: int, bad: list[BadRow]) -> bytes:
    """The same lines, but those that are too long are bad rows and blank here, so that others keep their number."""
    lines = data.split(b"\n")
    for i, line in enumerate(lines):
        if len(line) > MAX_LINE_BYTES:
            bad.append(_overlong(path, row + i, len(line), line))
            lines[i] = b""
    return b"\n".join(lines)


def _overlong(path: str, row: int, size: int, start: bytes) -> BadRow:
    reason = f"a line of {size:,} bytes, the limit is {MAX_LINE_BYTES:,} (one document a line?)"
    return BadRow(path, row, reason, start[:10_000])


def _text_lines(
    path: str, data: bytes, first_row: int, text_column: str, columns: list[str] | None, bad: list[BadRow]
) -> Batch:
    """Plain text: a document a line; blank lines are not documents."""
    texts, rows, bad = [], [], list(bad)
    lines = data.split(b"\n")
    for i, line in enumerate(lines):
        line = line.removesuffix(b"\r")
        if not line.strip():
            continue
        try:
            texts.append(line.decode())
            rows.append(first_row + i)
        except UnicodeDecodeError as error:
            bad.append(BadRow(path, first_row + i, f"not UTF-8 ({error.reason} at byte {error.start})", line[:10_000]))
    table = pa.table({text_column: pa.array(texts, pa.large_string())})
    return Batch(np.array(rows, np.int64), with_missing(table, columns), bad=bad)


# ---- JSON Lines


def _parse(raw: Lines, columns: Sequence[str] | None) -> Batch:
    """A block as rows: skimmed for the columns where that can be done with certainty, which is the usual case."""
    from curate.kernels.skimming import skim

    skimmed = skim(raw.data, list(dict.fromkeys(columns))) if columns else None
    if skimmed is None:
        return _parse_with_polars(raw, columns)
    lines, table = skimmed
    _require_text(raw, table, columns)
    return Batch(raw.first_row + lines, table, list(raw.bad))


def _parse_with_polars(raw: Lines, columns: Sequence[str] | None) -> Batch:
    """Parse a block with Polars; what it refuses is found by halving, and the rest is kept."""
    import polars as pl  # here, since it takes half a second and few files need it

    from curate.kernels.calls import count_lines, has_surrogate_escape

    data, bad = raw.data, list(raw.bad)
    schema = None if columns is None else dict.fromkeys(columns, pl.String)
    rows: np.ndarray | None = None
    frame = None
    if not (has_surrogate_escape(data) and _SURROGATE.search(data)):
        frame = _try_ndjson(data, schema)
        n_lines = count_lines(data)
        if frame is not None and frame.height == n_lines:
            rows = np.arange(raw.first_row, raw.first_row + n_lines)
    if rows is None:
        lines = data.split(b"\n")
        numbered = [(raw.first_row + i, line) for i, line in enumerate(lines) if line.strip()]
        frames, good = [], []
        for run in _good_runs(raw.path, numbered, schema, bad):
            frames.append(run[0])
            good.extend(run[1])
        frame = pl.concat(frames, how="vertical") if frames else pl.DataFrame(schema=schema or {})
        rows = np.array([row for row, _ in good], np.int64)
    assert frame is not None
    table = pa.table({name: frame[name].to_arrow() for name in frame.columns})  # a column at a time: one copy
    if not frame.columns and len(rows):  # a table without columns has no rows either
        table = pa.table({raw.text_column: pa.nulls(len(rows), pa.large_string())})
    _require_text(raw, table, columns)
    return Batch(rows, table, bad)


def _try_ndjson(data: bytes, schema: Any) -> pl.DataFrame | None:
    import polars as pl

    if not data:
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_ndjson(data, schema=schema, infer_schema_length=None if schema is None else 1)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


Numbered = list[tuple[int, bytes]]


def _good_runs(path: str, lines: Numbered, schema: Any, bad: list[BadRow]) -> Iterator[tuple[pl.DataFrame, Numbered]]:
    """Frames of the lines that parse, in order; each line that does not is appended to ``bad``."""
    if not lines:
        return
    if not any(_has_lone_surrogate(line) for _, line in lines):
        frame = _try_ndjson(b"\n".join(line for _, line in lines), schema)
        if frame is not None and frame.height == len(lines):
            yield frame, lines
            return
    if len(lines) == 1:
        row, line = lines[0]
        bad.append(BadRow(path, row, _why_bad(line), line[:10_000]))
        return
    middle = len(lines) // 2
    yield from _good_runs(path, lines[:middle], schema, bad)
    yield from _good_runs(path, lines[middle:], schema, bad)


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F])|.)", re.DOTALL
)


def _has_lone_surrogate(line: bytes) -> bool:
    if not _SURROGATE.search(line):
        return False
    return any(match.group(2) for match in _ESCAPE.finditer(line))


def _why_bad(line: bytes) -> str:
    if _has_lone_surrogate(line):
        return "half of a surrogate pair, which is no character"
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"not UTF-8 ({error.reason} at byte {error.start})"
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg} at column {error.colno})"
    except (RecursionError, ValueError) as error:
        return f"not JSON ({_short(error)})"
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__}, not an object"
    return "JSON that is outside the standard (NaN, a number out of range, or nesting beyond 1,024)"


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _require_text(raw: Lines, table: pa.Table, columns: Sequence[str] | None) -> None:
    """The first block of a file must have the text column somewhere."""
    name = raw.text_column
    if not name or not raw.first_of_file or not table.num_rows or (columns is not None and name not in columns):
        return
    if name in table.column_names and table[name].null_count < table.num_rows:
        return
    keys: dict[str, None] = {}
    for line in raw.data.split(b"\n", 100)[:100]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        keys.update(dict.fromkeys(value if isinstance(value, dict) else ()))
    if name not in keys:
        raise InputError(no_column(f"{raw.path} line {raw.first_row + 1}", name, keys))


# ---- JSON arrays and CSV


def _is_array(path: str, compression: str | None) -> bool:
    with closing(_bytes_of(path, compression)) as stream, reading(path):
        return bytes(stream.read(4096)).removeprefix(_BOM).lstrip()[:1] == b"["


def _json_array(path: str, compression: str | None, text_column: str, batch_bytes: int) -> Iterator[Lines]:
    """A file that is one JSON array of objects, handed on as JSON Lines; ``row`` is the place in the array."""
    with closing(_bytes_of(path, compression)) as stream, reading(path):
        pieces, size = [], 0
        while piece := stream.read(batch_bytes):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_JSON_BYTES:
                raise InputError(f"{path}: a JSON array over {MAX_JSON_BYTES:,} bytes; make it JSON Lines (.jsonl)")
    try:
        items = json.loads(b"".join(pieces).removeprefix(_BOM))
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path}: not JSON ({_short(error)})") from error
    start, block, size = 0, [], 0
    for i, item in enumerate(items):
        line = json.dumps(item).encode()
        block.append(line)
        size += len(line)
        if size >= batch_bytes:
            yield Lines(path, b"\n".join(block) + b"\n", start, text_column, start == 0)
            start, block, size = i + 1, [], 0
    if block:
        yield Lines(path, b"\n".join(block) + b"\n", start, text_column, start == 0)


def _csv(
    path: str, compression: str | None, columns: list[str] | None, batch_bytes: int, text_column: str
) -> Iterator[Batch]:
    """Comma-separated values with a header line; every column is text, nothing is guessed from the data."""
    with closing(_bytes_of(path, compression)) as stream, reading(path):
        probe = bytes(stream.read(1 << 16))
    if not probe.removeprefix(_BOM).strip():
        return
    header = _csv_header(path, probe)
    if text_column and text_column not in header:
        raise InputError(no_column(path, text_column, header))
    require_distinct(path, header)
    wanted = header if columns is None else [c for c in columns if c in header]
    next_row = -1  # the header is read as a row, since its values here may be others than Arrow's
    odd: dict[int, BadRow] = {}  # rows with too few or too many values, some of them ahead of the batch
    for table in _csv_tables(path, compression, header, batch_bytes, odd):
        rows = np.setdiff1d(np.arange(next_row, next_row + table.num_rows + len(odd)), list(odd))[: table.num_rows]
        next_row = int(rows[-1]) + 1
        bad = [odd.pop(row) for row in sorted(odd) if row < next_row]
        first = int(rows[0] < 0)
        table, rows = _decoded(path, table.slice(first), rows[first:], bad)
        bad = sorted((b for b in bad if b.row >= 0), key=lambda b: b.row)
        yield Batch(rows, with_missing(table.select(wanted), columns), bad=bad)
    if left := [odd[row] for row in sorted(odd) if row >= 0]:
        empty = pa.table({c: pa.array([], pa.large_string()) for c in columns or header})
        yield Batch(np.arange(0), empty, bad=left)


def _csv_tables(
    path: str, compression: str | None, header: list[str], block_bytes: int, odd: dict[int, BadRow]
) -> Iterator[pa.Table]:
    """Rows as bytes, the header among them.

    Where a row does not fit in a block, the file is read again with larger ones, from that row on. Arrow
    hands on rows with too many values as text, and fails on those that are none: then bytes are made
    characters, and back.
    """
    given, last_odd, encoding = 0, -1, "utf-8"

    def set_aside(invalid: Any) -> str:
        nonlocal last_odd
        row = invalid.number - 2  # it counts from 1, and the header
        if row >= last_odd:
            reason = f"{invalid.actual_columns} values for {invalid.expected_columns} columns"
            odd[row], last_odd = BadRow(path, row, reason, invalid.text.encode(encoding)[:10_000]), row + 1
        return "skip"

    parse_options = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=set_aside)
    convert_options = pa.csv.ConvertOptions(
        column_types={name: pa.large_binary() for name in header}, strings_can_be_null=False, check_utf8=False
    )
    while True:
        read_options = pa.csv.ReadOptions(use_threads=False, block_size=block_bytes, column_names=header)
        with closing(_bytes_of(path, compression)) as stream, reading(path):
            if encoding != "utf-8":
                file = stream if isinstance(stream, pa.NativeFile) else pa.PythonFile(stream, mode="r")
                stream = pa.transcoding_input_stream(file, encoding, "utf-8")
            seen = 0
            try:
                for batch in pa.csv.open_csv(stream, read_options, parse_options, convert_options):
                    new = pa.Table.from_batches([batch.slice(max(0, given - seen))])
                    seen += batch.num_rows
                    if new.num_rows:
                        given = seen
                        yield new if encoding == "utf-8" else _back_to_bytes(new, encoding)
                return
            except pa.ArrowInvalid as error:
                if encoding == "utf-8" and " columns, got " in str(error):
                    encoding = "latin-1"
                    continue
                if not any(sign in str(error) for sign in ("straddling", "Empty CSV file or block")):
                    raise
        if block_bytes > MAX_LINE_BYTES:
            raise InputError(
                f"{path}: a row after the first {max(0, given - 1):,} of more than {MAX_LINE_BYTES:,} bytes, the limit "
                "(a quotation mark that is not closed?); mend the file"
            )
        block_bytes *= 4


def _back_to_bytes(table: pa.Table, encoding: str) -> pa.Table:
    columns = [[value.decode().encode(encoding) for value in column.to_pylist()] for column in table.columns]
    return pa.table([pa.array(column, pa.large_binary()) for column in columns], names=table.column_names)


def _decoded(path: str, table: pa.Table, rows: np.ndarray, bad: list[BadRow]) -> tuple[pa.Table, np.ndarray]:
    """Columns of bytes as text; rows that are not UTF-8 are bad."""
    text = pa.schema([pa.field(name, pa.large_string()) for name in table.column_names])
    try:
        return table.cast(text), rows
    except pa.ArrowInvalid:
        good = np.ones(table.num_rows, bool)
        for i, values in enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True)):
            try:
                b"".join(values).decode()
            except UnicodeDecodeError as error:
                good[i] = False
                bad.append(BadRow(path, int(rows[i]), f"not UTF-8 ({error.reason})", b",".join(values)[:10_000]))
        return table.filter(pa.array(good)).cast(text), rows[good]


def _csv_header(path: str, probe: bytes) -> list[str]:
    import csv
    import io

    try:
        header = next(
            csv.reader(io.StringIO(probe.removeprefix(_BOM).decode("utf-8", "surrogateescape").lstrip("\r\n")))
        )
        "".join(header).encode()
        return header
    except (StopIteration, csv.Error, UnicodeEncodeError) as error:
        raise CorruptError(f"{path}: no header line ({error})") from error
