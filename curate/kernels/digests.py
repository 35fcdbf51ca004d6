"""128-bit digests of what texts come to when white space, or all but letters and digits, makes no difference.

A digest is two hashes of two seeds, made in one go over the normal form, which is written to scratch. Each takes 16
bytes a step, as wyhash does, with half of the multiplications of `hash_bytes`. ``tests/reference.py`` has it in plain
Python; it never changes.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.hashing import EIGHT, K1, K2, K4
from curate.kernels.tokens import ONE, SIXTY_THREE, ZERO, decode, fold
from curate.kernels.unicode import BLANK, MARK, WORD
from curate.kernels.vector import (
    alnum_mask,
    bit0_mask,
    blank_mask,
    copy_spaced,
    fold_product,
    high_mask,
    lead2_mask,
    load_u64,
    trailing_zeros,
)

AS_IT_IS, SPACED, LETTERS = 0, 1, 2  # the normal forms
SPACE_BYTE = 32


@kernel
def _digest(data, start, stop, one, two, out, row):
    """Of two states; the two chains, of 16 bytes a step, do not wait for each other."""
    length = stop - start
    a, b = one ^ np.uint64(length), two ^ np.uint64(length)
    i = start
    while length > 16:
        low, high = load_u64(data, i), load_u64(data, i + 8)
        a, b = fold_product(a ^ low, high ^ K1), fold_product(b ^ high, low ^ K4)
        i += 16
        length -= 16
    if length > 0:
        low, high = load_u64(data, i), ZERO
        if length < 8:
            low &= _below(length)
        elif length > 8:
            high = load_u64(data, i + 8) & _below(length - 8)
        a, b = fold_product(a ^ low, high ^ K1), fold_product(b ^ high, low ^ K4)
    out[row, 0], out[row, 1] = fold_product(a ^ K4, K2), fold_product(b ^ K4, K2)


@kernel
def _below(n):
    """The bits of the first ``n`` bytes, 1 to 8."""
    return ~ZERO >> (np.uint64(64) - EIGHT * np.uint64(n))


@kernel
def _move(source, base, keep, blanks, out, at):
    """Write those of 64 bytes from ``source[base:]`` that ``keep`` has to ``out[at:]``, blanks as spaces.

    A run of bytes is copied at once, with what follows it, which the next one overwrites. Returns where they end.
    """
    while keep:
        first = trailing_zeros(keep)
        shifted = keep >> np.uint64(first)
        length = trailing_zeros(~shifted)
        copy_spaced(source, base + first, out, at, blanks >> np.uint64(first))
        at += length
        keep = ZERO if first + length >= 64 else (shifted >> np.uint64(length)) << np.uint64(first + length)
    return at


@kernel
def spaced(data, start, stop, flags, out):
    """The text with one space for each run of blanks, none at its ends; returns how long it is.

    ``out`` has room for 64 bytes more than the text, ``data`` goes on for 128 after it.
    """
    at = 0
    blank_before, over = ONE, ZERO  # a blank at the start is dropped
    for base in range(start, stop, 64):
        valid = ~ZERO if stop - base >= 64 else (ONE << np.uint64(stop - base)) - ONE
        blanks = blank_mask(data, base) | over
        over = ZERO
        leads = lead2_mask(data, base) & valid
        while leads:
            i = trailing_zeros(leads)
            leads &= leads - ONE
            point, size = decode(data, base + i)
            if flags[point] & BLANK:
                bits = (ONE << np.uint64(size)) - ONE
                blanks |= bits << np.uint64(i)
                if i + size > 64:
                    over = bits >> np.uint64(64 - i)
        keep = (~blanks | ~((blanks << ONE) | blank_before)) & valid
        blank_before = blanks >> SIXTY_THREE
        at = _move(data, base, keep, blanks, out, at)
    return at - 1 if at and out[at - 1] == SPACE_BYTE else at


@kernel
def letters(folded, classes, n_bytes, out):
    """The letters, marks and digits of a text in lower case; returns how many bytes they are."""
    at = 0
    for base in range(0, n_bytes, 64):
        valid = ~ZERO if n_bytes - base >= 64 else (ONE << np.uint64(n_bytes - base)) - ONE
        keep, high = alnum_mask(folded, base), high_mask(folded, base)
        if high:
            keep |= high & (bit0_mask(classes, base) | high_mask(classes, base))
        at = _move(folded, base, keep & valid, ZERO, out, at)
    return at


@kernel
def digests(data, offsets, form, tables, one, two, work, normal, out):
    """The digests of documents by the number of a normal form; ``data`` goes on for 136 bytes after the last.

    A text without letters and digits is compared by its white space too, lest all of them be equal.
    """
    for doc in range(len(offsets) - 1):
        start, stop = offsets[doc], offsets[doc + 1]
        size = 0
        if form == LETTERS:
            size = fold(data, start, stop, tables, work.folded, work.classes, work.tail)
            size = letters(work.folded, work.classes, size, normal)
        if size == 0 and form != AS_IT_IS:
            size = spaced(data, start, stop, tables.flags, normal)
        if form == AS_IT_IS:
            _digest(data, start, stop, one, two, out, doc)
        else:
            _digest(normal, 0, size, one, two, out, doc)


assert (WORD, MARK) == (1, 128)  # bit0_mask and high_mask of classes rest on it
