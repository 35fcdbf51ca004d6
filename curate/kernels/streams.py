"""What kernels hand over, and the memory they use again; nothing here needs the compiler."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, NamedTuple

import numpy as np


def bucket_dtype(n_buckets: int) -> type[np.unsignedinteger]:
    """The smallest unsigned type that holds a bucket."""
    return np.uint16 if n_buckets <= 1 << 16 else np.uint32


class Moments(NamedTuple):
    """Sums over documents, by bucket: of the counts c, of c*c, and of c times the document's n-grams."""

    counts: np.ndarray  # int64[n_buckets]
    squares: np.ndarray
    products: np.ndarray


class NgramStream(NamedTuple):
    """The buckets of the n-grams of some documents, document after document.

    ``buckets``: uint16 or uint32 [n_ngrams]; ``ends``: int64[n_docs], where each document's end;
    ``n_tokens``: int64[n_docs].
    """

    buckets: np.ndarray
    ends: np.ndarray
    n_tokens: np.ndarray


class Workspace(NamedTuple):
    """Scratch for one document at a time, in arrays as long as the longest needs."""

    folded: np.ndarray  # uint8, the text in lower case
    classes: np.ndarray  # uint8, the class of each byte of it
    starts: np.ndarray  # int32, of tokens
    stops: np.ndarray  # int32
    hashes: np.ndarray  # uint64, of tokens
    gram: np.ndarray  # uint8, the text of an n-gram
    tail: np.ndarray  # uint8[128], the end of a buffer
    grams: np.ndarray  # uint64[8], hashes of the n-grams that end here
    state: np.ndarray  # uint32[8], of SHA-256
    block: np.ndarray  # uint8[64]


class _Scratch(threading.local):
    """Big arrays that a thread uses again: fresh memory costs more than what is done with it."""

    def __init__(self) -> None:
        self.buckets: dict[Any, np.ndarray] = {}
        self.workspace = _workspace(1 << 17)


def _workspace(room: int) -> Workspace:
    size = room + 8
    return Workspace(
        folded=np.empty(size, np.uint8),
        classes=np.empty(size, np.uint8),
        starts=np.empty(size, np.int32),
        stops=np.empty(size, np.int32),
        hashes=np.empty(size, np.uint64),
        gram=np.empty(size, np.uint8),
        tail=np.empty(128, np.uint8),
        grams=np.zeros(8, np.uint64),
        state=np.empty(8, np.uint32),
        block=np.empty(64, np.uint8),
    )


def workspace(room: int) -> Workspace:
    """The thread's workspace, with room for a document of so many bytes; memory that is not touched costs nothing."""
    if len(_scratch.workspace.folded) < room + 8:
        _scratch.workspace = _workspace(room)
    return _scratch.workspace


_scratch = _Scratch()


def room_for(n_bytes: int, n: int, n_buckets: int, own: bool) -> np.ndarray:
    """A bucket array for the n-grams of ``n_bytes`` of text (at most a token a byte).

    With ``own`` it belongs to the caller; else it is the thread's, valid until the thread's next call.
    """
    dtype, size = np.dtype(bucket_dtype(n_buckets)), n * n_bytes + 1
    if own:
        return np.empty(size, dtype)
    kept = _scratch.buckets.get(dtype)
    if kept is None or len(kept) < size:
        kept = _scratch.buckets[dtype] = np.empty(max(size, 1 << 20), dtype)
    return kept


@cache
def _known(n_buckets: int, slots: int) -> np.ndarray:
    return np.zeros(slots, np.uint64)


def gram_cache(n_buckets: int, n_bytes: int) -> np.ndarray:
    """uint64[2**k]: the buckets of n-grams whose SHA-256 was worked out before, by any thread; 128 MB at most."""
    return _known(n_buckets, 1 << (24 if n_bytes > 1_000_000 else 16))
