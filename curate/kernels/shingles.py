"""Shingles: the runs of n consecutive words of a text, hashed, as sorted sets; and how alike two sets are.

A word is a run of characters that are not white space, as `str.split` finds them; but a character of a script that
is written without spaces is a word of its own. 64 bytes are classified at a time, as bit masks.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.hashing import K1, K2, K3, K4, hash_bytes
from curate.kernels.tokens import ONE, SIXTY_THREE, ZERO, decode
from curate.kernels.unicode import ALONE, SPACE
from curate.kernels.vector import fold_product, lead2_mask, load_u64, space_mask, trailing_zeros

EIGHT, SIXTY_FOUR = np.uint64(8), np.uint64(64)
FEW = 24  # hashes that are sorted by insertion alone


@kernel
def _word(data, start, stop, state):
    """The hash of a word; of short ones, nearly all, without a loop."""
    length = stop - start
    if length > 8:
        return hash_bytes(data, start, stop, state)
    word = load_u64(data, start) & (~ZERO >> (SIXTY_FOUR - EIGHT * np.uint64(length)))
    return fold_product(fold_product((state ^ np.uint64(length)) ^ word, K1) ^ K4, K2)


@kernel
def _words(data, start, stop, flags, state, out, at):
    """Write the hashes of the words of ``data[start:stop]`` to ``out[at:]``; returns the next position."""
    word_before = spaces_over = breaks_over = ZERO  # what the step before says of the first bytes of this one
    begin = start
    for base in range(start, stop, 64):
        valid = ~ZERO if stop - base >= 64 else (ONE << np.uint64(stop - base)) - ONE
        spaces, breaks = space_mask(data, base) | spaces_over, breaks_over  # a word may end and begin at a break
        spaces_over = breaks_over = ZERO
        leads = lead2_mask(data, base) & valid
        while leads:
            i = trailing_zeros(leads)
            leads &= leads - ONE
            point, size = decode(data, base + i)
            kind = flags[point]
            if kind & SPACE:
                bits = (ONE << np.uint64(size)) - ONE
                spaces |= bits << np.uint64(i)
                if i + size > 64:
                    spaces_over = bits >> np.uint64(64 - i)
            elif kind & ALONE:
                breaks |= ONE << np.uint64(i)
                if i + size < 64:
                    breaks |= ONE << np.uint64(i + size)
                else:
                    breaks_over = ONE << np.uint64(i + size - 64)
        words = ~spaces & valid
        after = (words << ONE) | word_before
        starts, ends = words & (~after | breaks), after & (~words | breaks)
        if not word_before:  # no word comes in from the step before
            begin = base + trailing_zeros(starts)
            starts &= starts - ONE
        while ends:
            out[at] = _word(data, begin, base + trailing_zeros(ends), state)
            at += 1
            begin = base + trailing_zeros(starts)
            starts &= starts - ONE
            ends &= ends - ONE
        word_before = words >> SIXTY_THREE
    if word_before:
        out[at] = _word(data, begin, stop, state)
        at += 1
    return at


@kernel
def _shingles(words, start, stop, n):
    """Overwrite the hashes of words by those of the n-grams that begin at them; returns where they end."""
    end = max(start, stop - n + 1)
    for i in range(start, end):
        gram = words[i]
        for j in range(i + 1, i + n):
            gram = fold_product(gram ^ K2, words[j] ^ K3)
        words[i] = gram
    return end


@kernel
def _insertion_sort(values, start, stop):
    for i in range(start + 1, stop):
        value = values[i]
        j = i - 1
        while j >= start and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value


@kernel
def _sorted_set(hashes, start, stop, scratch, counts):
    """Sort hashes and drop repeats; returns where the set ends.

    Hashes are spread evenly, so a bucket for each by their high bits leaves next to nothing to sort.
    """
    n = stop - start
    source = hashes
    first = start
    if n > FEW:
        bits = 1
        while (1 << bits) < n:
            bits += 1
        shift = np.uint64(64 - bits)
        for i in range((1 << bits) + 1):
            counts[i] = 0
        for i in range(start, stop):
            counts[np.int64(hashes[i] >> shift) + 1] += 1
        for i in range(1 << bits):
            counts[i + 1] += counts[i]
        for i in range(start, stop):
            bucket = np.int64(hashes[i] >> shift)
            scratch[counts[bucket]] = hashes[i]
            counts[bucket] += 1
        source, first = scratch, 0
    _insertion_sort(source, first, first + n)
    end = start
    for i in range(first, first + n):
        if i == first or source[i] != source[i - 1]:
            hashes[end] = source[i]
            end += 1
    return end


@kernel
def shingle_sets(data, offsets, flags, state, n, out, first, ends, scratch, counts):
    """The sets of documents, one after another from ``out[first]`` on; where each ends goes to ``ends``.

    ``data`` goes on for 72 bytes after the last document. ``scratch`` and ``counts`` are as long as the longest set.
    """
    at = first
    for doc in range(len(offsets) - 1):
        end = _words(data, offsets[doc], offsets[doc + 1], flags, state, out, at)
        end = _shingles(out, at, end, n)
        at = _sorted_set(out, at, end, scratch, counts)
        ends[doc] = at
    return at


@kernel
def longest(offsets):
    """The size of the largest item."""
    size = 0
    for i in range(len(offsets) - 1):
        size = max(size, offsets[i + 1] - offsets[i])
    return size


@kernel
def in_common(hashes_a, i, i_stop, hashes_b, j, j_stop):
    """How many hashes two sorted sets share. Without branches: which comes next cannot be foretold."""
    shared = 0
    while i < i_stop and j < j_stop:
        a, b = hashes_a[i], hashes_b[j]
        shared += a == b
        i += a <= b
        j += b <= a
    return shared


@kernel
def jaccard(offsets, hashes, pairs, out):
    """Size of the intersection by that of the union, of pairs of sets; 0 of two empty ones."""
    for p in range(len(out)):
        a, b = pairs[p, 0], pairs[p, 1]
        i, i_stop, j, j_stop = offsets[a], offsets[a + 1], offsets[b], offsets[b + 1]
        shared = in_common(hashes, i, i_stop, hashes, j, j_stop)
        union = (i_stop - i) + (j_stop - j) - shared
        out[p] = shared / union if union else 0.0
