"""The buffers of Arrow strings as arrays, without a copy where there need be none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def string_buffers(strings: Any) -> tuple[np.ndarray, np.ndarray]:
    """``(uint8 data, int64 offsets[n + 1])`` of a string array; a null is the empty string.

    Takes ``pa.Array`` or ``pa.ChunkedArray`` of string, large_string or string_view.
    """
    array = one_chunk(strings)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        array = array.cast(pa.large_string())
    if array.null_count:
        array = pc.fill_null(array, "")
    _, offset_buffer, data_buffer = array.buffers()
    dtype = np.int32 if pa.types.is_string(array.type) else np.int64
    if offset_buffer is None or len(array) == 0:
        offsets = np.zeros(1, np.int64)
    else:
        raw = np.frombuffer(memoryview(offset_buffer), dtype, len(array) + 1, array.offset * dtype().itemsize)
        offsets = raw.astype(np.int64, copy=False)
    empty = data_buffer is None or data_buffer.size == 0
    data = np.zeros(1, np.uint8) if empty else np.frombuffer(memoryview(data_buffer), np.uint8)
    return data, offsets


def one_chunk(array: Any) -> Any:
    """A ``pa.Array`` of a chunked or plain one."""
    if isinstance(array, pa.ChunkedArray):
        return (
            array.chunk(0)
            if array.num_chunks == 1
            else array.combine_chunks()
            if array.num_chunks
            else pa.array([], array.type)
        )
    return array
