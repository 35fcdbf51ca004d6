"""What Python's `re` and `str.lower` say of every code point, as tables that a kernel can read."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np

WORD, SPACE, CHANGES, CASED, IGNORABLE, ALONE, BLANK, MARK = 1, 2, 4, 8, 16, 32, 64, 128
N_CODE_POINTS = 0x110000
EXPANDS = N_CODE_POINTS  # `lower` of N_CODE_POINTS + i is row i of `expansions`
CAPITAL_SIGMA, SIGMA, FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2
# The blocks of scripts that are written without spaces between words.
UNSPACED = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3005, 0x3007),  # marks of iteration, zero
    (0x3021, 0x3029),  # numerals
    (0x3031, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # more Bopomofo, strokes, more Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xA980, 0xA9FF),  # Javanese, more Myanmar
    (0xAA60, 0xAADF),  # more Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F),  # Katakana of half width
    (0x1AFF0, 0x1B2FF),  # more Kana, Nushu
    (0x20000, 0x3FFFF),  # Han
)
ZERO_WIDTH = (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)
CONTROLS = ((0x00, 0x1F), (0x7F, 0x9F))


class UnicodeTables(NamedTuple):
    flags: np.ndarray  # uint8[N_CODE_POINTS], the bits above
    lower: np.ndarray  # int32[N_CODE_POINTS], or N_CODE_POINTS + row of `expansions`
    expansions: np.ndarray  # int32[n, 4], padded with -1


@cache
def unicode_tables() -> UnicodeTables:
    """Tables of the running Python, so that tokens are exactly those its `re` would find.

    They are asked of `re` and `str` themselves, on one long string of all code points, rather than
    read from a database of another Unicode version.
    """
    points = np.arange(N_CODE_POINTS, dtype=np.uint32)
    encodable = points[(points < 0xD800) | (points > 0xDFFF)]  # UTF-8 has no surrogates
    flags = np.zeros(N_CODE_POINTS, np.uint8)
    chars = encodable.tobytes().decode("utf-32-le")
    for pattern, flag in ((r"\w+", WORD), (r"\s+", SPACE)):
        for match in re.finditer(pattern, chars):
            flags[encodable[match.start() : match.end()]] |= flag
    flags[(flags & SPACE) > 0] |= BLANK
    flags[list(ZERO_WIDTH)] |= BLANK
    for ranges, flag in ((CONTROLS, BLANK), (UNSPACED, ALONE)):
        for low, high in ranges:
            flags[low : high + 1] |= flag
    cased = encodable[(encodable < 0x20000) | (encodable >> 12 == 0xE0)]  # beyond: ideographs, private use
    lower, expansions = _lower(cased)
    flags[lower != points.view(np.int32)] |= CHANGES
    flags[CAPITAL_SIGMA] |= CHANGES
    final_alone, final_after_letter = _sigma_probe(cased, ""), _sigma_probe(cased, "a")
    flags[cased[final_alone]] |= CASED
    flags[cased[final_after_letter & ~final_alone]] |= IGNORABLE
    return UnicodeTables(flags, lower, expansions)


@cache
def tables_with_marks() -> UnicodeTables:
    """`unicode_tables` with `MARK` of what combines with a letter, such as the vowel signs of Devanagari."""
    tables = unicode_tables()
    flags = tables.flags.copy()
    for low, high in ((0x300, 0x1F000), (0xE0100, 0xE01F0)):  # beyond there are none, and to ask takes time
        for point in range(low, high):
            if unicodedata.category(chr(point))[0] == "M":
                flags[point] |= MARK
    return tables._replace(flags=flags)


def _lower(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`str.lower` of single code points; sigma by its plain form, its final one is the kernel's."""
    lower = np.arange(N_CODE_POINTS, dtype=np.int32)
    chars = points.tobytes().decode("utf-32-le")
    expanding = "\u0130"
    if len(chars.lower()) != len(chars) + 1:  # a Unicode to come may have more that grow
        expanding = "".join(c for c in chars if len(c.lower()) != 1)
    single = chars.translate({ord(c): "x" for c in expanding + chr(CAPITAL_SIGMA)})
    lower[points] = np.frombuffer(single.lower().encode("utf-32-le"), np.int32)
    lower[CAPITAL_SIGMA] = SIGMA
    expansions = np.full((len(expanding), 4), -1, np.int32)
    for i, c in enumerate(expanding):
        expansions[i, : len(c.lower())] = [ord(x) for x in c.lower()]
        lower[ord(c)] = EXPANDS + i
    return lower, expansions


def _sigma_probe(points: np.ndarray, before: str) -> np.ndarray:
    """Whether a capital sigma is lowered to the final form after ``before`` + each code point.

    Python takes the final form when the first character before it that is not case-ignorable is
    cased; so the probe with and without a letter in front tells both properties.
    """
    size = len(before) + 3
    cells = np.empty((len(points), size), np.uint32)
    cells[:, : len(before)] = [ord(c) for c in before]
    cells[:, -3], cells[:, -2], cells[:, -1] = points, CAPITAL_SIGMA, ord(" ")
    lowered = cells.tobytes().decode("utf-32-le").replace("\u0130", "I").lower()
    return np.frombuffer(lowered.encode("utf-32-le"), np.uint32).reshape(len(points), size)[:, -2] == FINAL_SIGMA
