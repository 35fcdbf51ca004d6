"""At every byte of a text the longest n-gram of a vocabulary that ends there; see `curate.kernels.bytematch`.

Where the vocabulary is larger than the caches, waiting for memory is what takes the time. Texts are therefore
taken 64 bytes at a time: filters of a byte an entry say which order may match, and only then is one line of the
table asked for; by the time that it is looked at, it is there. On 60 MB of mixed text, against probing the table
from the order of the byte before plus one downwards: 77 instead of 40 MB/s for a target of 66 kB, 50 instead of
19 for one of 1.5 MB.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.bytematch import BLANK_LINE, BLOCK, EMPTY, FACTOR
from curate.kernels.compiled import kernel
from curate.kernels.vector import equal_of_four, high_product, prefetch, trailing_zeros

ONE, SIX, EIGHT = np.uint64(1), np.uint64(6), np.uint64(8)
LAST_BIT, LOW_SIX = np.uint64(58), np.uint64(63)


@kernel
def _append(word, byte):
    return (word >> EIGHT) | (np.uint64(byte) << np.uint64(56))


@kernel
def words(data, offsets, out):
    """At every byte of texts the word of the 8 bytes that end there."""
    at = 0
    for doc in range(len(offsets) - 1):
        word = BLANK_LINE
        for i in range(offsets[doc], offsets[doc + 1]):
            word = _append(word, data[i])
            out[at] = word
            at += 1


# ---- building


@kernel
def enter(keys, order, index, places):
    """Put the keys of an order into the table; ``places`` (int64[n_keys]) are those of their values."""
    first, n_lines = index.first[order], np.int64(index.lines[order])
    for j in range(len(keys)):
        line = _line(keys[j], order, index)
        free = equal_of_four(index.table, 8 * line, EMPTY)
        while not free:
            line += 1
            if line == first + n_lines:
                line = first
            free = equal_of_four(index.table, 8 * line, EMPTY)
        at = 8 * line + trailing_zeros(free)
        index.table[at] = keys[j]
        places[j] = at + 4


@kernel
def mark(lower, upper, pair, index):
    """Set the bits of two neighbouring orders in the filter that they share, both in the word of the lower one."""
    first, shift = index.filter_first[pair], np.uint64(index.filter_shift[pair])
    for key in lower:
        h = key * FACTOR
        index.filters[first + np.int64(h >> shift)] |= ONE << ((h >> (shift - SIX)) & LOW_SIX)
    for key in upper:
        word = ((key >> EIGHT) * FACTOR) >> shift
        index.filters[first + np.int64(word)] |= ONE << ((key * FACTOR) >> LAST_BIT)


# ---- matching


@kernel
def _line(key, order, index):
    """The line of the table where the search for a key begins."""
    o = np.uint64(order)
    return index.first[o] + np.int64(high_product(key * index.factors[o], index.lines[o]))


@kernel
def _bits(word, lower_hash, upper_hash, shift):
    """What a word of a filter says of two orders: bits 0 and 1."""
    lower = (word >> ((lower_hash >> (shift - SIX)) & LOW_SIX)) & ONE
    return lower | ((word >> (upper_hash >> LAST_BIT)) & ONE) << ONE


@kernel
def _candidates(data, start, stop, word, index, block):
    """For the bytes of a block the highest order that may match, and the line of the table to look at first.

    ``word`` is the one before; returns the last.
    """
    filters, shifts = index.filters, index.filter_shift
    first_3, first_5, first_7 = index.filter_first[0], index.filter_first[1], index.filter_first[2]
    shift_3, shift_5, shift_7 = np.uint64(shifts[0]), np.uint64(shifts[1]), np.uint64(shifts[2])
    for i in range(stop - start):
        word = _append(word, data[np.uint64(start + i)])
        block.keys[np.uint64(i)] = word
    for i in range(stop - start):  # the filter of orders 3 and 4 is small, and near already
        w = block.keys[np.uint64(i)]
        hash_5, hash_7 = (w >> np.uint64(24)) * FACTOR, (w >> EIGHT) * FACTOR
        prefetch(filters, first_5 + np.int64(hash_5 >> shift_5))
        prefetch(filters, first_7 + np.int64(hash_7 >> shift_7))
        block.hashes_5[np.uint64(i)] = hash_5
        block.hashes_7[np.uint64(i)] = hash_7
    for i in range(stop - start):
        w = block.keys[np.uint64(i)]
        hash_3 = (w >> np.uint64(40)) * FACTOR
        hash_5, hash_7 = block.hashes_5[np.uint64(i)], block.hashes_7[np.uint64(i)]
        of_3 = filters[np.uint64(first_3) + (hash_3 >> shift_3)]
        of_5 = filters[np.uint64(first_5) + (hash_5 >> shift_5)]
        of_7 = filters[np.uint64(first_7) + (hash_7 >> shift_7)]
        may = _bits(of_3, hash_3, (w >> np.uint64(32)) * FACTOR, shift_3)
        may |= _bits(of_5, hash_5, (w >> np.uint64(16)) * FACTOR, shift_5) << np.uint64(2)
        may |= _bits(of_7, hash_7, w * FACTOR, shift_7) << np.uint64(4)
        order = 2 + trailing_zeros(~may)  # whatever ends in an n-gram of the vocabulary has all shorter ones too
        key = w >> np.uint64(64 - 8 * order)
        line = _line(key, order, index)
        prefetch(index.table, 8 * line)
        block.keys[np.uint64(i)] = key
        block.orders[np.uint64(i)] = order
        block.lines[np.uint64(i)] = line
    return word


@kernel
def _search(key, order, line, index):
    """The place of the value of the longest n-gram, from a first line on; pairs of bytes are all there."""
    while True:
        found = equal_of_four(index.table, 8 * line, key)
        if found:
            return 8 * line + 4 + trailing_zeros(found)
        if index.table[np.uint64(8 * line + 3)] == EMPTY:
            order -= 1
            key >>= EIGHT
            line = _line(key, order, index)
        else:
            line += 1
            if line == index.first[order] + np.int64(index.lines[order]):
                line = index.first[order]


@kernel
def _place(i, index, block):
    key, line = block.keys[np.uint64(i)], block.lines[np.uint64(i)]
    found = equal_of_four(index.table, 8 * line, key)
    if found:
        return 8 * line + 4 + trailing_zeros(found)
    return _search(key, block.orders[np.uint64(i)], line, index)


@kernel
def count(data, offsets, index, block):
    """Add 1 to the value of the longest n-gram at each byte."""
    for doc in range(len(offsets) - 1):
        word = BLANK_LINE
        for start in range(offsets[doc], offsets[doc + 1], BLOCK):
            stop = min(start + BLOCK, offsets[doc + 1])
            word = _candidates(data, start, stop, word, index, block)
            for i in range(stop - start):
                index.table[np.uint64(_place(i, index, block))] += ONE


@kernel
def sums(data, offsets, index, values, block, out):
    """For each document the sum of the values, as ``values`` reads them, of the longest n-grams at its bytes."""
    for doc in range(len(offsets) - 1):
        word, total = BLANK_LINE, 0.0
        for start in range(offsets[doc], offsets[doc + 1], BLOCK):
            stop = min(start + BLOCK, offsets[doc + 1])
            word = _candidates(data, start, stop, word, index, block)
            for i in range(stop - start):
                total += values[np.uint64(_place(i, index, block))]
        out[doc] = total


@kernel
def numbers(data, offsets, index, block, out):
    """At every byte the value of the longest n-gram there, which is its number."""
    at = 0
    for doc in range(len(offsets) - 1):
        word = BLANK_LINE
        for start in range(offsets[doc], offsets[doc + 1], BLOCK):
            stop = min(start + BLOCK, offsets[doc + 1])
            word = _candidates(data, start, stop, word, index, block)
            for i in range(stop - start):
                out[at] = index.table[np.uint64(_place(i, index, block))]
                at += 1
