"""Shards in the MDS format, which MosaicML's streaming reads (version 2 of the format, its default layout).

A shard is ``uint32 n``, ``uint32[n + 1]`` offsets from the beginning of the file, a JSON object that describes the
columns, and the samples. A sample is the uint32 sizes of its columns of variable size, then the values of all columns
in the order of their names. ``index.json`` lists the shards. Bytes are those of ``streaming.MDSWriter``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

from curate.errors import UsageError
from curate.io.paths import atomic

INDEX = "index.json"
SHARD_BYTES = 1 << 26  # the default of MDSWriter
MAX_SHARD_BYTES = (1 << 32) - 1  # offsets are uint32
COMPRESSIONS = ("none", "zstd")
_SIZES = {"int64": 8, "uint64": 8, "float64": 8}  # bytes of a value; other encodings have no fixed size
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class MdsSpec:
    """How shards are written. ``shard_bytes``: of a shard before compression, at most (one sample may be more)."""

    shard_bytes: int = SHARD_BYTES
    compression: str | None = None
    hashes: tuple[str, ...] = ("sha256",)

    def __post_init__(self) -> None:
        if not 0 < self.shard_bytes <= MAX_SHARD_BYTES:
            raise UsageError(f"--shard-size {self.shard_bytes:,}: must be 1 to {MAX_SHARD_BYTES:,} bytes for mds")


def encodings(schema: pa.Schema, with_nulls: Collection[str]) -> dict[str, str]:
    """The MDS encoding of each column, by the order of their names; what has nulls, lists or dates is JSON."""
    return {field.name: _encoding(field, field.name in with_nulls) for field in sorted(schema, key=lambda f: f.name)}


def _encoding(field: pa.Field, nulls: bool) -> str:
    kind = field.type
    if nulls:
        return "json"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "str"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    if pa.types.is_integer(kind):
        return "uint64" if pa.types.is_uint64(kind) else "int64"
    return "float64" if pa.types.is_floating(kind) else "json"


def samples(table: pa.Table, columns: Mapping[str, str]) -> Iterator[bytes]:
    """The rows of a table as MDS samples; ``columns``: encodings by name, in the order in which they are written."""
    cells = [_cells(table[name], encoding) for name, encoding in columns.items()]
    varying = [values for values, encoding in zip(cells, columns.values(), strict=True) if encoding not in _SIZES]
    sizes = np.array([list(map(len, values)) for values in varying], "<u4").T.tobytes()
    width = 4 * len(varying)
    for i, row in enumerate(zip(*cells, strict=True)):
        yield sizes[i * width : (i + 1) * width] + b"".join(row)


def _cells(column: Any, encoding: str) -> list[bytes]:
    """The values of a column as bytes."""
    if encoding == "str":
        return column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
    if encoding == "bytes":
        return column.to_pylist()
    if encoding == "json":
        return [json.dumps(value, default=_as_text).encode() for value in column.to_pylist()]
    data, size = column.to_numpy().astype(np.dtype(encoding).newbyteorder("<")).tobytes(), _SIZES[encoding]
    return [data[at : at + size] for at in range(0, len(data), size)]


def _as_text(value: Any) -> str:
    """What JSON has not, such as dates; bytes as base64."""
    import base64

    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


class MdsWriter:
    """Writes a folder of shards; ``index.json`` comes last, and without it the folder is none.

    Memory: the samples of one shard.
    """

    def __init__(self, folder: Path, columns: Mapping[str, str], spec: MdsSpec) -> None:
        self._folder, self._columns, self._spec = folder, dict(columns), spec
        self._config = {
            "version": 2,
            "format": "mds",
            "compression": spec.compression,
            "hashes": list(spec.hashes),
            "size_limit": spec.shard_bytes,
            "column_names": list(self._columns),
            "column_encodings": list(self._columns.values()),
            "column_sizes": [_SIZES.get(encoding) for encoding in self._columns.values()],
        }
        self._head = json.dumps(self._config, sort_keys=True).encode()
        self._waiting: list[bytes] = []
        self._shards: list[dict[str, Any]] = []
        self._size = self._empty = 8 + len(self._head)

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        for sample in samples(table, self._columns):
            if self._waiting and self._size + len(sample) + 4 > self._spec.shard_bytes:
                self._flush()
            self._waiting.append(sample)
            self._size += len(sample) + 4

    def close(self) -> list[str]:
        """Write the last shard and the index; returns the names of all files."""
        if self._waiting:
            self._flush()
        with atomic(self._folder / INDEX) as part:
            part.write_text(json.dumps({"version": 2, "shards": self._shards}, sort_keys=True), encoding="utf-8")
        return [*((shard["zip_data"] or shard["raw_data"])["basename"] for shard in self._shards), INDEX]

    def _flush(self) -> None:
        name = f"shard.{len(self._shards):05d}.mds"
        ends = np.cumsum([0, *map(len, self._waiting)]) + 4 + 4 * (len(self._waiting) + 1) + len(self._head)
        head = np.uint32(len(self._waiting)).astype("<u4").tobytes() + ends.astype("<u4").tobytes() + self._head
        raw = {"basename": name, "bytes": int(ends[-1]), "hashes": _hashes([head, *self._waiting], self._spec.hashes)}
        zipped = None
        if self._spec.compression:
            # with the size of the content in the frame, without which streaming does not read it
            packer = zstandard.ZstdCompressor(_ZSTD_LEVEL).compressobj(size=int(ends[-1]))
            packed = [*map(packer.compress, [head, *self._waiting]), packer.flush()]
            self._write(name := f"{name}.zstd", packed)
            size, hashes = sum(map(len, packed)), _hashes(packed, self._spec.hashes)
            zipped = {"basename": name, "bytes": size, "hashes": hashes}
        else:
            self._write(name, [head, *self._waiting])
        self._shards.append({"samples": len(self._waiting), "raw_data": raw, "zip_data": zipped} | self._config)
        self._waiting, self._size = [], self._empty

    def _write(self, name: str, data: Iterable[bytes]) -> None:
        with atomic(self._folder / name) as part, open(part, "wb") as file:
            file.writelines(data)


def _hashes(data: Iterable[bytes], names: Iterable[str]) -> dict[str, str]:
    found = {name: hashlib.new(name) for name in names}
    for piece in data:
        for hasher in found.values():
            hasher.update(piece)
    return {name: hasher.hexdigest() for name, hasher in found.items()}
