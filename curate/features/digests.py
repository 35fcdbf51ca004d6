"""128-bit digests of texts in a normal form, by which equal ones are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import unknown
from curate.features.shingles import text_chunks
from curate.kernels.calls import start_state
from curate.kernels.native import Kernel
from curate.kernels.streams import workspace
from curate.kernels.text import string_buffers
from curate.kernels.unicode import tables_with_marks, unicode_tables

FORMS = {"none": 0, "whitespace": 1, "letters": 2}
DIGEST = pa.binary(16)
_digests, _longest = Kernel("digests", "digests"), Kernel("shingles", "longest")


def content_digests(texts: Any, normal: str = "whitespace", seed: int = 1) -> pa.Array:
    """``fixed_size_binary[16]``: equal for texts whose normal forms are equal, else different.

    By chance two different ones among a billion are equal in one of 10**20 corpora. It is a fast hash: who sets out
    to make two texts with one digest can.

    Parameters
    ----------
    texts : Arrow strings; a null is the empty string.
    normal : "whitespace": runs of white space, of control characters and of those without width (U+200B to U+200D,
        U+2060, U+FEFF) count as one space, and not at all at both ends. "letters": only letters, their marks and
        digits count, in lower case; a text without any is taken as by "whitespace". "none": every byte counts.

    Raises
    ------
    UsageError : there is no such normal form.
    """
    if normal not in FORMS:
        raise unknown("normal form", normal, FORMS)
    tables = tables_with_marks() if normal == "letters" else unicode_tables()
    out = np.empty((len(texts), 2), np.uint64)
    states = start_state(2 * seed), start_state(2 * seed + 1)
    done, scratch = 0, np.empty(0, np.uint8)
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]  # to join them would copy all texts
    for part, at in (piece for chunk in chunks for piece in text_chunks(*string_buffers(chunk))):
        room = int(_longest(at)) * 3 // 2 + 136
        if len(scratch) < room:
            scratch = np.empty(room, np.uint8)
        rows = out[done : done + len(at) - 1]
        _digests(part, at, FORMS[normal], tables, *states, workspace(room), scratch, rows)
        done += len(rows)
    return pa.Array.from_buffers(DIGEST, len(out), [None, pa.py_buffer(out)])
