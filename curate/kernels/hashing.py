"""Stable, seeded 64-bit hashes: of tokens and n-grams, and of document ids.

The hash of bytes, in full (``tests/reference.py`` has it in plain Python; it never changes)::

    fold_product(a, b) = low 64 bits of a*b  XOR  high 64 bits of a*b
    h = seed_state ^ length;  for each 8 bytes w, little-endian, zero-padded:  h = fold_product(h ^ w, K1)
    hash = fold_product(h ^ K4, K2)

and of the n-gram that ends with token t:  ``fold_product(hash of the shorter n-gram before ^ K2, hash(t) ^ K3)``.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.vector import fold_product, load_u64

K1 = np.uint64(0x9E3779B97F4A7C15)
K2 = np.uint64(0xD6E8FEB86659FD93)
K3 = np.uint64(0xA0761D6478BD642F)
K4 = np.uint64(0xE7037ED1A0B428DB)
EIGHT = np.uint64(8)


@kernel
def seed_state(seed):
    """The state that a hash starts from: a uint64 of a uint64 seed."""
    return fold_product(seed ^ K4, K2)


@kernel
def hash_bytes(data, start, stop, state):
    """64-bit hash of ``data[start:stop]``; the buffer must go on for 8 bytes."""
    length = stop - start
    h = state ^ np.uint64(length)
    i = start
    while length > 8:
        h = fold_product(h ^ load_u64(data, i), K1)
        i += 8
        length -= 8
    if length > 0:
        word = load_u64(data, i)
        if length < 8:
            word &= (np.uint64(1) << (EIGHT * np.uint64(length))) - np.uint64(1)
        h = fold_product(h ^ word, K1)
    return fold_product(h ^ K4, K2)


@kernel
def extend(shorter, token):
    """The hash of an n-gram from that of its first n - 1 tokens and of its last token."""
    return fold_product(shorter ^ K2, token ^ K3)


@kernel
def hash_each(data, offsets, state, copy, out):
    """The hash of each string; ``copy`` is scratch, for strings at the end of the buffer."""
    end = len(data)
    for i in range(len(out)):
        start, stop = offsets[i], offsets[i + 1]
        if stop + 8 <= end:
            out[i] = hash_bytes(data, start, stop, state)
            continue
        for j in range(stop - start):
            copy[j] = data[start + j]
        out[i] = hash_bytes(copy, 0, stop - start, state)
