"""JSON Lines: the wanted columns of a block by a skim of its bytes, where nothing in it is out of the ordinary."""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.skimming import ABSENT, IS_NULL, TEXT
from curate.kernels.vector import (
    backslash_mask,
    bad_lead_mask,
    bit_count,
    copy_64,
    d_mask,
    json_mask,
    lead2_mask,
    lead3_mask,
    lead4_mask,
    newline_mask,
    trailing_zeros,
    u_mask,
)

ZERO, ONE = np.uint64(0), np.uint64(1)
MAX_DEPTH = 64  # lists and objects within each other: a bit each
MAX_NUMBER = 64  # bytes; with two digits of exponent such a number is within the range of a float
NEWLINE, QUOTE, BACKSLASH, COMMA, MINUS, DOT, COLON = (ord(c) for c in '\n"\\,-.:')
OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = (ord(c) for c in "[]{}")
TRUE, FALSE, NULL = (int.from_bytes(word, "big") for word in (b"true", b"fals", b"null"))

UNESCAPED = np.zeros(256, np.uint8)  # what a backslash and this byte stand for
for _letter, _byte in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
    UNESCAPED[_letter] = _byte


@kernel
def _peek(data, i):
    return data[i] if i < len(data) else np.uint8(0)


@kernel
def _after_space(data, i):
    while i < len(data) and (data[i] == 32 or data[i] == 9 or data[i] == 13):
        i += 1
    return i


@kernel
def _whole_characters(data, i, n, high):
    """How many of ``n`` <= 64 bytes are whole characters, at least 61 of 64; -1 where they are not UTF-8.

    ``n`` < 64: ASCII follows. ``high``: bit j set: byte j is >= 0x80.
    """
    lead2, lead3, lead4 = lead2_mask(data, i), lead3_mask(data, i), lead4_mask(data, i)
    if n == 64:  # a character that may go on beyond these bytes is left for the next step
        last = lead2 >> np.uint64(61)
        n = 63 if last & np.uint64(4) else 62 if last & np.uint64(2) else 61 if last else 64
    continued = (lead2 << ONE) | (lead3 << np.uint64(2)) | (lead4 << np.uint64(3))
    wrong = (continued ^ (high & ~lead2)) | bad_lead_mask(data, i)
    if n < 64:
        wrong &= ~ZERO >> np.uint64(63 - n)  # up to byte n, which begins a character
    return -1 if wrong else n


@kernel
def _hex(data, i):
    """The number that four hexadecimal digits stand for; -1 where there are none."""
    value = 0
    for j in range(i, i + 4):
        byte = _peek(data, j)
        if 48 <= byte <= 57:
            digit = byte - 48
        elif 97 <= byte | 32 <= 102:
            digit = (byte | 32) - 87
        else:
            return -1
        value = value << 4 | digit
    return value


@kernel
def _escaped_point(data, i):
    r"""The code point of the ``\u`` escape at ``i`` and the position after it; -1 for half of a pair."""
    point = _hex(data, i + 2)
    if point < 0xD800 or point > 0xDFFF:
        return point, i + 6
    low = _hex(data, i + 8)
    if point > 0xDBFF or _peek(data, i + 6) != 92 or _peek(data, i + 7) != 117 or low < 0xDC00 or low > 0xDFFF:
        return -1, i
    return 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00), i + 12


@kernel
def _put(point, out, k):
    """Write a code point as UTF-8; returns its length in bytes."""
    if point < 0x80:
        out[k] = point
        return 1
    if point < 0x800:
        out[k] = 0xC0 | (point >> 6)
        out[k + 1] = 0x80 | (point & 0x3F)
        return 2
    if point < 0x10000:
        out[k] = 0xE0 | (point >> 12)
        out[k + 1] = 0x80 | ((point >> 6) & 0x3F)
        out[k + 2] = 0x80 | (point & 0x3F)
        return 3
    out[k] = 0xF0 | (point >> 18)
    out[k + 1] = 0x80 | ((point >> 12) & 0x3F)
    out[k + 2] = 0x80 | ((point >> 6) & 0x3F)
    out[k + 3] = 0x80 | (point & 0x3F)
    return 4


@kernel
def _string(data, i, out, k, keep, tail):
    """Unescape the string whose first byte is ``data[i]``; returns the positions after its quote and in ``out``.

    ``keep`` is -1, or 0 to look only: then all goes to the first bytes of ``out``. 64 bytes a step, each
    up to the next byte that is not meant as it is.
    """
    while True:
        if i + 65 <= len(data):
            stops = json_mask(data, i)
            high = copy_64(data, i, out, k & keep)
            n = trailing_zeros(stops)
            if trailing_zeros(high) < n:
                n = _whole_characters(data, i, n, high)
        else:
            left = len(data) - i
            for j in range(left):
                tail[j] = data[i + j]
            for j in range(left, 65):
                tail[j] = 0
            stops = json_mask(tail, 0)
            high = copy_64(tail, 0, out, k & keep)
            n = trailing_zeros(stops)
            if trailing_zeros(high) < n:
                n = _whole_characters(tail, 0, n, high)
            if n == left:
                return -1, k
        if n < 0:
            return -1, k
        i += n
        k += n
        byte = data[i]
        if byte == QUOTE:
            return i + 1, k
        if byte == BACKSLASH:
            letter = _peek(data, i + 1)
            plain = UNESCAPED[letter]
            if plain:
                out[k & keep] = plain
                i += 2
                k += 1
            else:
                point, i = _escaped_point(data, i)
                if letter != 117 or point < 0:
                    return -1, k
                k += _put(point, out, k & keep)
        elif byte < 32:
            return -1, k


@kernel
def _after_digits(data, i):
    while 48 <= _peek(data, i) <= 57:
        i += 1
    return i


@kernel
def _number(data, i):
    """The position after a number, and whether its text is that of a 64-bit integer; -1 where it is none, or long."""
    start = i
    first = i + (_peek(data, i) == MINUS)
    i = whole = _after_digits(data, first)
    leading_zero = _peek(data, first) == 48
    if i == first or (leading_zero and i > first + 1):
        return -1, False
    if _peek(data, i) == DOT:
        i = _after_digits(data, whole + 1)
        if i == whole + 1:
            return -1, False
    if _peek(data, i) | 32 == 101:  # e or E
        sign = _peek(data, i + 1)
        first_of_exponent = i + (2 if sign == 43 or sign == MINUS else 1)
        i = _after_digits(data, first_of_exponent)
        if not 1 <= i - first_of_exponent <= 2:
            return -1, False
    if i - start > MAX_NUMBER:
        return -1, False
    return i, i == whole and whole - first <= 18 and not (leading_zero and first > start)


@kernel
def _after_literal(data, i):
    """The position after ``true``, ``false`` or ``null``; -1 where it is none."""
    word = 0
    for j in range(i, i + 4):
        word = word << 8 | _peek(data, j)
    if word in (TRUE, NULL):
        return i + 4
    return i + 5 if word == FALSE and _peek(data, i + 4) == 101 else -1


@kernel
def _column(data, start, stop, skim):
    """Which wanted column is called ``data[start:stop]``; -1 for none."""
    for c in range(len(skim.name_ends) - 1):
        first = skim.name_ends[c]
        if skim.name_ends[c + 1] - first == stop - start:
            j = 0
            while start + j < stop and data[start + j] == skim.names[first + j]:
                j += 1
            if start + j == stop:
                return c
    return -1


@kernel
def _key(data, i, depth, skim, row):
    """The position of the value whose key is at ``i``, and which wanted column it is, or -1.

    Not every parser takes the same one of two equal keys, nor are all sure what equal is: that is left.
    """
    if _peek(data, i) != QUOTE:
        return -1, -1
    start = i + 1
    i, size = _string(data, start, skim.spare, 0, 0, skim.tail)
    stop = i - 1
    if i < 0 or (depth == 1 and size < stop - start):
        return -1, -1
    i = _after_space(data, i)
    if _peek(data, i) != COLON:
        return -1, -1
    c = _column(data, start, stop, skim) if depth == 1 else -1
    if c >= 0 and skim.states[c, row] != ABSENT:
        return -1, -1
    return _after_space(data, i + 1), c


@kernel
def _plain_value(data, i, c, skim, row):
    """Take the string, number or literal at ``i`` for column ``c``, or -1: none; returns the position after it."""
    byte = _peek(data, i)
    if byte == QUOTE:
        if c < 0:
            return _string(data, i + 1, skim.spare, 0, 0, skim.tail)[0]
        skim.states[c, row] = TEXT
        i, skim.offsets[c, row + 1] = _string(data, i + 1, skim.values[c], skim.offsets[c, row], -1, skim.tail)
        return i
    if byte == MINUS or 48 <= byte <= 57:
        stop, sure = _number(data, i)
        if c >= 0 and not sure:
            return -1
    else:
        stop = _after_literal(data, i)
    if c >= 0 and stop >= 0:
        skim.states[c, row] = IS_NULL if byte == 110 else TEXT
        if byte != 110:  # n
            k = skim.offsets[c, row]
            for j in range(i, stop):
                skim.values[c, k] = data[j]
                k += 1
            skim.offsets[c, row + 1] = k
    return stop


@kernel
def _object(data, i, skim, row):
    """Skim the object at ``i``; returns the position after it."""
    depth, objects, c = 0, ZERO, -1  # the lowest bit of ``objects``: what is open is an object, not a list
    while True:
        byte = _peek(data, i)
        if byte in (OPEN_OBJECT, OPEN_LIST):
            if c >= 0 or depth == MAX_DEPTH:
                return -1
            depth += 1
            objects = objects << ONE | (ONE if byte == OPEN_OBJECT else ZERO)
            i = _after_space(data, i + 1)
            ends = _peek(data, i) == (CLOSE_OBJECT if byte == OPEN_OBJECT else CLOSE_LIST)
        else:
            i = _plain_value(data, i, c, skim, row)
            ends = True
        if i < 0:
            return -1
        while ends:
            i = _after_space(data, i)
            byte = _peek(data, i)
            i += 1
            if byte == COMMA:
                i = _after_space(data, i)
                break
            if byte != (CLOSE_OBJECT if objects & ONE else CLOSE_LIST):
                return -1
            depth -= 1
            objects >>= ONE
            if depth == 0:
                return i
        c = -1
        if objects & ONE:
            i, c = _key(data, i, depth, skim, row)
            if i < 0:
                return -1


@kernel
def skim_lines(data, skim):
    """Fill a `Skim` from a block of lines; returns the number of rows, or -1 where anything is not quite plain."""
    i = row = line = 0
    while True:
        i = _after_space(data, i)
        if i < len(data) and data[i] == OPEN_OBJECT:
            for c in range(len(skim.offsets)):
                skim.offsets[c, row + 1] = skim.offsets[c, row]
            i = _object(data, i, skim, row)
            if i < 0:
                return -1
            skim.lines[row] = line
            row += 1
            i = _after_space(data, i)
        if i == len(data):
            return row
        if data[i] != NEWLINE:
            return -1
        i += 1
        line += 1


@kernel
def count_newlines(data):
    """How many there are."""
    count, i = 0, 0
    while i + 64 <= len(data):
        count += bit_count(newline_mask(data, i))
        i += 64
    while i < len(data):
        count += data[i] == NEWLINE
        i += 1
    return count


@kernel
def surrogate_escape(data):
    r"""Whether ``\ud`` or ``\uD`` is in a text."""
    stop = len(data) - 66
    i = 0
    while i < stop:
        if backslash_mask(data, i) & u_mask(data, i + 1) & d_mask(data, i + 2):
            return True
        i += 64
    while i + 2 < len(data):
        if data[i] == 92 and data[i + 1] == 117 and data[i + 2] | 32 == 100:
            return True
        i += 1
    return False
