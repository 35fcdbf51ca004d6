"""Passages: texts cut at the ends of lines or between words, byte for byte."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate.errors import UsageError
from curate.kernels.native import Kernel
from curate.kernels.text import string_buffers

MIN_BYTES = 16
_cut = Kernel("passages", "cut")


class Passages(NamedTuple):
    """Texts in pieces, in their order.

    texts : Arrow strings[n_passages]. document : int64[n_passages], the text that each is of.
    start, stop : int64[n_passages], its bytes in that text.
    """

    texts: pa.Array
    document: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def cut_passages(texts: pa.Array | pa.ChunkedArray, size: int) -> Passages:
    """Cut texts into passages of ``size`` bytes or somewhat more.

    A passage ends after the first newline from ``size`` bytes on, else after a space from ``3 size / 2`` on, else at
    ``2 size``, between characters; an end of fewer than ``size / 2`` bytes stays with what is before it. Put one after
    another the passages of a text are that text. An empty text is one empty passage.

    Parameters
    ----------
    texts : Arrow strings; a null is the empty string. size : bytes, 16 or more.

    Raises
    ------
    UsageError : ``size`` is smaller.
    """
    if size < MIN_BYTES:
        raise UsageError(f"passages of {size} bytes: must be {MIN_BYTES} or more")
    data, offsets = string_buffers(texts)
    n_texts, first = len(offsets) - 1, int(offsets[0])
    offsets = np.ascontiguousarray(offsets, np.int64)
    room = n_texts + (int(offsets[-1]) - first) // max(1, size // 2)
    ends, document = np.empty(room, np.int64), np.empty(room, np.int64)
    n = int(_cut(data, offsets, size, ends, document))
    ends, document = ends[:n], document[:n]
    bounds = np.concatenate([[first], ends])
    pieces = pa.Array.from_buffers(pa.large_string(), n, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    begin = offsets[document]
    return Passages(pieces, document, bounds[:-1] - begin, ends - begin)
