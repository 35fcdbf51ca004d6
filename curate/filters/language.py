"""The language of a text, by CLD2, whose model comes with its package."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from curate._optional import require
from curate.kernels.text import one_chunk

if TYPE_CHECKING:
    import polars as pl

BEGINNING = 4_096
"""Bytes of a text that are looked at.

Of the 35,521 documents of the corpus pool, 8 kB at most, the language is another than by the whole text for 12 in
10,000, nearly all of them known by only one of the two; by 2 kB for 6 in 1,000, by 1 kB for 10 in 1,000. CLD2 keeps the
lock of the interpreter, so threads do not help.
"""
UNKNOWN = "un"
_NONCHARACTERS = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_REFUSED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef{_NONCHARACTERS}]")  # by CLD2

Detected = tuple[bool, int, tuple[tuple[str, str, int, float], ...]]


def detect(text: bytes) -> Detected:
    """What CLD2 says of a text in UTF-8, with spaces for what it refuses: control characters and noncharacters."""
    import pycld2

    try:
        return pycld2.detect(text)
    except pycld2.error:  # texts are not looked through first: one in 86 has such characters
        return pycld2.detect(_REFUSED.sub(" ", text.decode()))


def languages(texts: Any, *, beginning: int | None = BEGINNING) -> pl.DataFrame:
    """The main language of texts, by the first ``beginning`` bytes of each, or all of it.

    Parameters
    ----------
    texts : Arrow array of strings; a null is the empty string.

    Returns
    -------
    One row a text. ``language`` : a code such as "en" or "zh-Hant"; "un" where CLD2 is not sure, as of a few words,
    code or numbers. ``language_share`` : share of the text that is in it. ``language_reliable`` : whether CLD2 is sure.

    Raises
    ------
    MissingExtraError : pycld2 is not installed.
    """
    import polars as pl
    import pyarrow as pa

    require("pycld2", extra="lang", purpose="language identification")
    encoded = one_chunk(texts).cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
    rows = [_row(detect(_start(text or b"", beginning))) for text in encoded]
    schema = {"language": pl.String, "language_share": pl.Float64, "language_reliable": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _start(text: bytes, n_bytes: int | None) -> bytes:
    """The first bytes of a text, whole characters."""
    if n_bytes is None or len(text) <= n_bytes:
        return text
    while n_bytes and text[n_bytes] & 0xC0 == 0x80:
        n_bytes -= 1
    return text[:n_bytes]


def _row(detected: Detected) -> tuple[str, float, bool]:
    reliable, _, details = detected
    _, code, percent, _ = details[0]
    return (code if reliable else UNKNOWN), percent / 100, bool(reliable)
