"""Word-punctuation tokens of a document: lower it, then find runs of word and of other characters."""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.unicode import (
    CAPITAL_SIGMA,
    CASED,
    CHANGES,
    EXPANDS,
    FINAL_SIGMA,
    IGNORABLE,
    SIGMA,
    SPACE,
    WORD,
)
from curate.kernels.vector import (
    bit0_mask,
    bit1_mask,
    bit_count,
    fold_ascii,
    high_mask,
    space_mask,
    trailing_zeros,
    word_mask,
)

ZERO, ONE, SIXTY_THREE = (
    np.uint64(0),
    np.uint64(1),
    np.uint64(63),
)  # numba turns uint64 with a signed integer into a float
PADDING = 128  # bytes that the buffers of a document have beyond what it needs


@kernel
def decode(data, i):
    """The code point at ``data[i:]`` (valid UTF-8) and its length in bytes."""
    b = data[i]
    if b < 0x80:
        return b, 1
    if b < 0xE0:
        return ((b & 0x1F) << 6) | (data[i + 1] & 0x3F), 2
    if b < 0xF0:
        return ((b & 0x0F) << 12) | ((data[i + 1] & 0x3F) << 6) | (data[i + 2] & 0x3F), 3
    high = ((b & 0x07) << 18) | ((data[i + 1] & 0x3F) << 12)
    return high | ((data[i + 2] & 0x3F) << 6) | (data[i + 3] & 0x3F), 4


@kernel
def _encode(point, out, classes, k, kind):
    """Write a code point as UTF-8, with its class beside each byte; returns the next position."""
    if point < 0x80:
        out[k] = point
        return k + 1
    if point < 0x800:
        out[k], classes[k] = 0xC0 | (point >> 6), kind
        k += 1
    else:
        if point < 0x10000:
            out[k], classes[k] = 0xE0 | (point >> 12), kind
            k += 1
        else:
            out[k], classes[k] = 0xF0 | (point >> 18), kind
            out[k + 1], classes[k + 1] = 0x80 | ((point >> 12) & 0x3F), kind
            k += 2
        out[k], classes[k] = 0x80 | ((point >> 6) & 0x3F), kind
        k += 1
    out[k], classes[k] = 0x80 | (point & 0x3F), kind
    return k + 1


@kernel
def _is_final_sigma(data, start, stop, i, flags):
    """Whether the capital sigma at ``i`` ends a word, by the rule of `str.lower`."""
    j = i
    while True:
        if j == start:
            return False
        j -= 1
        while j > start and (data[j] & 0xC0) == 0x80:
            j -= 1
        kind = flags[decode(data, j)[0]]
        if not kind & IGNORABLE:
            if not kind & CASED:
                return False
            break
    j = i + 2
    while j < stop:
        point, size = decode(data, j)
        kind = flags[point]
        if not kind & IGNORABLE:
            return not kind & CASED
        j += size
    return True


@kernel
def fold(data, start, stop, tables, folded, classes, tail):
    """``text.lower()`` of ``data[start:stop]`` into ``folded``; returns its length in bytes.

    ``classes`` gets the WORD and SPACE bits of what is not ASCII, a byte beside each byte. ASCII goes
    64 bytes a step. ``tail`` is scratch of 2 * 64 bytes for the end of the buffer.
    """
    flags = tables.flags
    i, k, end = start, 0, len(data)
    while i < stop:
        left = stop - i
        if i + 64 <= end:
            high = fold_ascii(data, i, folded, k)
        else:
            for j in range(left):
                tail[j] = data[i + j]
            for j in range(left, 64):
                tail[j] = 32
            high = fold_ascii(tail, 0, folded, k)
        ascii_run = min(trailing_zeros(high), left)
        if ascii_run > 64:
            ascii_run = 64
        i += ascii_run
        k += ascii_run
        while i < stop and data[i] >= 0x80:
            point, size = decode(data, i)
            kind = flags[point]
            if not kind & CHANGES:
                for j in range(size):
                    folded[k + j] = data[i + j]
                    classes[k + j] = kind
                k += size
            elif point == CAPITAL_SIGMA:
                final = _is_final_sigma(data, start, stop, i, flags)
                k = _encode(FINAL_SIGMA if final else SIGMA, folded, classes, k, WORD)
            else:
                point = tables.lower[point]
                if point < EXPANDS:
                    k = _encode(point, folded, classes, k, flags[point])
                else:
                    row = point - EXPANDS
                    for j in range(4):
                        point = tables.expansions[row, j]
                        if point >= 0:
                            k = _encode(point, folded, classes, k, flags[point])
            i += size
    return k


@kernel
def emit(mask, base, out, n):
    """Append the positions of the set bits; eight at once, so that few branches are mispredicted."""
    count = bit_count(mask)
    for first in range(0, count, 8):
        for j in range(8):
            out[n + first + j] = base + trailing_zeros(mask)
            mask &= mask - ONE
    return n + count


@kernel
def class_masks(folded, classes, base, n_bytes):
    """Which of the 64 bytes at ``base`` belong to words and which to punctuation, as bit masks."""
    word, space, high = word_mask(folded, base), space_mask(folded, base), high_mask(folded, base)
    if high:
        word |= bit0_mask(classes, base) & high
        space |= bit1_mask(classes, base) & high
    valid = ~ZERO if n_bytes - base >= 64 else (ONE << np.uint64(n_bytes - base)) - ONE
    word &= valid
    return word, ~(word | space) & valid


@kernel
def spans(folded, classes, n_bytes, starts, ends):
    """``re.finditer(r"\\w+|[^\\w\\s]+", folded)``: fills ``starts`` and ``ends``, returns how many."""
    n_starts = n_ends = 0
    word_before = punctuation_before = ZERO  # the class of the byte before this step, as bit 0
    for base in range(0, n_bytes, 64):
        word, punctuation = class_masks(folded, classes, base, n_bytes)
        after_word = (word << ONE) | word_before
        after_punctuation = (punctuation << ONE) | punctuation_before
        n_starts = emit((word & ~after_word) | (punctuation & ~after_punctuation), base, starts, n_starts)
        n_ends = emit((after_word & ~word) | (after_punctuation & ~punctuation), base, ends, n_ends)
        word_before, punctuation_before = word >> SIXTY_THREE, punctuation >> SIXTY_THREE
    if n_ends < n_starts:  # the last token runs to the end, on a step's border
        ends[n_ends] = n_bytes
    return n_starts


assert (WORD, SPACE) == (1, 2)  # bit0_mask and bit1_mask rest on it
