"""What Python's `re` and `str.lower` say of every code point, as tables that a kernel can read."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import numpy as np

WORD, SPACE, CHANGES, CASED, IGNORABLE = 1, 2, 4, 8, 16
N_CODE_POINTS = 0x110000
EXPANDS = N_CODE_POINTS  # `lower` of N_CODE_POINTS + i is row i of `expansions`
CAPITAL_SIGMA, SIGMA, FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2


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
    cased = encodable[(encodable < 0x20000) | (encodable >> 12 == 0xE0)]  # beyond: ideographs, private use
    lower, expansions = _lower(cased)
    flags[lower != points.view(np.int32)] |= CHANGES
    flags[CAPITAL_SIGMA] |= CHANGES
    final_alone, final_after_letter = _sigma_probe(cased, ""), _sigma_probe(cased, "a")
    flags[cased[final_alone]] |= CASED
    flags[cased[final_after_letter & ~final_alone]] |= IGNORABLE
    return UnicodeTables(flags, lower, expansions)


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
