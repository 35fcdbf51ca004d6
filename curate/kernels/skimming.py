"""The wanted columns of a block of JSON Lines as Arrow strings; nothing here needs the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate.kernels.calls import count_lines
from curate.kernels.native import Kernel

ABSENT, TEXT, IS_NULL = 0, 1, 2
_skim_lines = Kernel("jsonl", "skim_lines")


class Skim(NamedTuple):
    """What is looked for, and room for what is found."""

    names: np.ndarray  # uint8: of the wanted columns, one after the other
    name_ends: np.ndarray  # int64[n_columns + 1]
    values: np.ndarray  # uint8[n_columns, bytes of the block + 64]: of each column one after the other
    offsets: np.ndarray  # int64[n_columns, n_lines + 1]
    states: np.ndarray  # uint8[n_columns, n_lines]: ABSENT, TEXT or IS_NULL
    lines: np.ndarray  # int64[n_lines]: the line of each row, blank ones count
    spare: np.ndarray  # uint8[64]: takes what is not wanted
    tail: np.ndarray  # uint8[128]: scratch for the end of the block


def skim(data: bytes, columns: Sequence[str]) -> tuple[np.ndarray, pa.Table] | None:
    """The lines that are not blank, and the values there of some keys as strings, null where there are none.

    None where a parser must decide: a line that is no object or not JSON, a wanted value that is a list, an
    object or a number with a point, equal or escaped keys. All that is taken is valid JSON and UTF-8.
    """
    names = [name.encode() for name in columns]
    n_lines = count_lines(data)
    found = Skim(
        names=np.frombuffer(b"".join(names) + b"\0", np.uint8),
        name_ends=np.cumsum([0, *map(len, names)]),
        values=np.empty((len(names), len(data) + 64), np.uint8),
        offsets=np.zeros((len(names), n_lines + 1), np.int64),
        states=np.zeros((len(names), n_lines), np.uint8),
        lines=np.empty(n_lines, np.int64),
        spare=np.empty(64, np.uint8),
        tail=np.empty(128, np.uint8),
    )
    n_rows = int(_skim_lines(np.frombuffer(data, np.uint8), found)) if data else 0
    if n_rows < 0:
        return None
    return found.lines[:n_rows], pa.table({name: _strings(found, c, n_rows) for c, name in enumerate(columns)})


def _strings(found: Skim, c: int, n_rows: int) -> pa.Array:
    offsets = found.offsets[c, : n_rows + 1]
    values = found.values[c, : offsets[-1]]
    if len(values) < found.values.shape[1] // 4:
        values = values.copy()  # the room for all of the block goes
    there = found.states[c, :n_rows] == TEXT
    validity = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(pa.large_string(), n_rows, [validity, pa.py_buffer(offsets), pa.py_buffer(values)])
