"""Where texts are cut into passages."""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel

NEWLINE, SPACE, CONTINUES = np.uint8(10), np.uint8(32), np.uint8(0x80)


@kernel
def cut(data, offsets, size, ends, documents):
    """The ends of passages in ``data``, and which text each is of; returns how many there are.

    A passage ends after the first newline from ``size`` bytes on, else after a space from ``3 size / 2`` on, else at
    ``2 size``, between characters. What would be left with fewer than ``size / 2`` bytes stays with it. Every text has
    a passage, be it empty.
    """
    n = 0
    for doc in range(len(offsets) - 1):
        start, stop = offsets[doc], offsets[doc + 1]
        while True:
            end = stop
            if stop - start > size + size // 2:
                end = _end(data, start, stop, size)
                if stop - end < size // 2:
                    end = stop
            ends[n], documents[n] = end, doc
            n += 1
            if end == stop:
                break
            start = end
    return n


@kernel
def _end(data, start, stop, size):
    """The end of the passage that begins at ``start`` of a text that ends at ``stop``."""
    limit = min(stop, start + 2 * size)
    for i in range(start + size - 1, limit):
        if data[i] == NEWLINE:
            return i + 1
    for i in range(start + size + size // 2 - 1, limit):
        if data[i] == SPACE:
            return i + 1
    while start + 1 < limit < stop and (data[limit] & np.uint8(0xC0)) == CONTINUES:
        limit -= 1
    return limit
