"""Shingles: the hashed runs of consecutive words of texts, as sets; and how alike the sets of two texts are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from curate.errors import UsageError
from curate.kernels.calls import start_state
from curate.kernels.native import Kernel
from curate.kernels.text import string_buffers
from curate.kernels.unicode import unicode_tables

MAX_NGRAM = 32
AHEAD = 136  # bytes that a kernel may read beyond a text
CHUNK_BYTES = 1 << 20  # of text worked on at a time, so that its hashes stay in the processor's caches
_shingle_sets, _longest, _jaccard = (Kernel("shingles", name) for name in ("shingle_sets", "longest", "jaccard"))


class ShingleSets(NamedTuple):
    """The sets of some documents, one after another.

    offsets : int64[n_docs + 1]. hashes : uint64[offsets[-1]], ascending within a document, without repeats.
    """

    offsets: np.ndarray
    hashes: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """int64[n_docs]"""
        return np.diff(self.offsets)

    @classmethod
    def joined(cls, parts: Sequence[ShingleSets]) -> ShingleSets:
        """The sets of all parts, one after another."""
        sizes = np.concatenate([np.empty(0, np.int64), *(part.sizes for part in parts)])
        hashes = np.concatenate([np.empty(0, np.uint64), *(part.hashes for part in parts)])
        return cls(np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]), hashes)


def shingle_sets(texts: Any, ngram: int = 5, seed: int = 1) -> ShingleSets:
    """The hashed shingles of texts: all runs of ``ngram`` consecutive words, each once.

    Words are what `str.split` finds: runs of characters that are not white space, with their punctuation and case.
    In scripts that are written without spaces (Han, Kana, Thai, Lao, Tibetan, Khmer, Myanmar and some more, see
    `curate.kernels.unicode.UNSPACED`) every character is a word. A text of fewer than ``ngram`` words has none.

    Parameters
    ----------
    texts : Arrow strings; a null is the empty string. ngram : words in a shingle, 1 to 32. seed : of the hash.
    """
    chunks = shingle_chunks(texts, ngram, seed)
    return ShingleSets.joined([ShingleSets(sets.offsets, sets.hashes.copy()) for sets in chunks])


def shingle_chunks(texts: Any, ngram: int = 5, seed: int = 1) -> Iterator[ShingleSets]:
    """As `shingle_sets`, some documents at a time; the hashes are valid until the next are asked for."""
    if not 1 <= ngram <= MAX_NGRAM:
        raise UsageError(f"ngram={ngram}: a shingle has 1 to {MAX_NGRAM} words")
    hashes = scratch = np.empty(0, np.uint64)
    counts = np.empty(0, np.int32)
    flags, state = unicode_tables().flags, start_state(seed)
    for data, offsets in text_chunks(*string_buffers(texts)):
        room = (int(offsets[-1] - offsets[0]) + len(offsets)) // 2  # words take two bytes, the last of a text one
        longest = (int(_longest(offsets)) + 1) // 2
        if len(hashes) < room:
            hashes = np.empty(room, np.uint64)
        if len(scratch) < longest:
            scratch, counts = np.empty(longest, np.uint64), np.empty(2 * longest + 2, np.int32)
        ends = np.zeros(len(offsets), np.int64)
        size = _shingle_sets(data, offsets, flags, state, ngram, hashes, 0, ends[1:], scratch, counts)
        yield ShingleSets(ends, hashes[:size])


def text_chunks(data: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Texts in pieces of about `CHUNK_BYTES`, whose bytes go on for `AHEAD` more, where need be in a copy."""
    first, n_docs = 0, len(offsets) - 1
    while first < n_docs:
        stop = max(first + 1, int(np.searchsorted(offsets, offsets[first] + CHUNK_BYTES, side="right")) - 1)
        part = offsets[first : stop + 1]
        if part[-1] + AHEAD <= len(data):
            yield data, part
        else:
            copy = np.zeros(int(part[-1] - part[0]) + AHEAD, np.uint8)
            copy[:-AHEAD] = data[part[0] : part[-1]]
            yield copy, part - part[0]
        first = stop


def jaccard_of_pairs(sets: ShingleSets, pairs: np.ndarray) -> np.ndarray:
    """float64[n_pairs]: shared shingles by all shingles of two documents; 0 where neither has one.

    Parameters
    ----------
    pairs : int64[n_pairs, 2], numbers of documents.
    """
    out = np.empty(len(pairs))
    _jaccard(sets.offsets, sets.hashes, np.ascontiguousarray(pairs, np.int64), out)
    return out
