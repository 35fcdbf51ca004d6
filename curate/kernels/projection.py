"""From the buckets of a document's n-grams to a short vector: a sparse projection with random signs."""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.hashing import K1, K3
from curate.kernels.vector import fold_product

SIXTEEN, FIFTEEN, ONE = np.uint64(16), np.uint64(15), np.uint64(1)
LOW = np.uint64(0xFFFF)
NOTHING = 1e-20  # a squared length that is rounding alone: n-grams that cancel out


@kernel
def project(buckets, ends, state, borders, values, counts, row, out):
    """Fill ``out`` (float32[n_docs, dim]) with vectors of unit length; of zeros for a document without n-grams.

    A bucket that a document has c times adds ``values[c]``, with a sign, to one coordinate in each block of
    coordinates, ``borders[j]`` to ``borders[j + 1]``. Sign and place come from 16 bits a block of
    ``fold_product(bucket ^ state ^ K3, K1)``. ``counts`` (uint16[n_buckets], all 0 before and after) stops at the
    last of ``values``; ``row`` (float64[dim]) is scratch.
    """
    n_blocks, dim, last = len(borders) - 1, len(row), len(values) - 1
    start = 0
    for doc in range(len(ends)):
        end = ends[doc]
        for i in range(start, end):
            bucket = buckets[i]
            count = counts[bucket]
            counts[bucket] = count + (count < last)
        row[:] = 0.0
        for i in range(start, end):
            bucket = buckets[i]
            count = counts[bucket]
            if count:
                counts[bucket] = 0
                value = values[count]
                mixed = fold_product(np.uint64(bucket) ^ state ^ K3, K1)
                for j in range(n_blocks):
                    low, width = borders[j], borders[j + 1] - borders[j]
                    bits = mixed & LOW
                    mixed >>= SIXTEEN
                    place = low + np.int64(((bits >> ONE) * np.uint64(width)) >> FIFTEEN)
                    row[place] += value if bits & ONE else -value
        square = 0.0
        for k in range(dim):
            square += row[k] * row[k]
        scale = 1.0 / np.sqrt(square) if square > NOTHING else 0.0
        for k in range(dim):
            out[doc, k] = row[k] * scale
        start = end
