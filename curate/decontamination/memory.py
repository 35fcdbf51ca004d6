"""What the kernel works in, and writes to."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

from curate.kernels.native import Kernel

MAX_NGRAM = 64
KEPT_BYTES = 1 << 22  # of the longest document for which a thread keeps its memory
_PADDING = 192
_longest = Kernel("overlap", "longest")


class WordWork(NamedTuple):
    """Scratch for the words of one document."""

    folded: np.ndarray  # uint8, a piece of it in lower case
    classes: np.ndarray  # uint8, of each byte that is not ASCII
    tail: np.ndarray  # uint8[128], the end of a buffer
    starts: np.ndarray  # int32, bytes of the document
    stops: np.ndarray
    hashes: np.ndarray  # uint64


class Work(NamedTuple):
    """Scratch for one document and the items that it shares anchors with."""

    folded: np.ndarray
    classes: np.ndarray
    tail: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    hashes: np.ndarray
    touched: np.ndarray  # int64[n_items]: those items
    head: np.ndarray  # int64[n_items]: the first segment of each; -1: none
    last: np.ndarray  # int64[n_items]: the last one
    tally: np.ndarray  # int64[n_items]: words in segments
    diagonal: np.ndarray  # int64[n_items], of the last segment: its place in the document less that in all items
    segment_end: np.ndarray  # int64[n_items]: where that ends in the document
    exact_end: np.ndarray  # int64[n_items]: where its last anchor ends
    begin: np.ndarray  # int64[n_segments], word of the document
    place: np.ndarray  # int64[n_segments], word of the item
    length: np.ndarray  # int64[n_segments]
    next: np.ndarray  # int64[n_segments]: the next of the same item; -1: none
    marks: np.ndarray  # uint8: words of an item that are found
    in_item: np.ndarray  # int64: how often each number of an item is there
    in_doc: np.ndarray  # int64
    seen: np.ndarray  # uint64[MAX_NGRAM]: different words


class Rows(NamedTuple):
    """What is found, in the order of documents; ``kind`` is a number, ``start`` and ``stop`` are bytes."""

    doc: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    coverage: np.ndarray
    n_words: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def rows_for(n: int) -> Rows:
    """Room for ``n`` rows."""
    return Rows._make(np.zeros(n, np.float64 if name == "coverage" else np.int64) for name in Rows._fields)


def room(data: np.ndarray, offsets: np.ndarray) -> tuple[int, int]:
    """Bytes of the longest piece that is worked on at a time, and of the longest document."""
    both = int(_longest(data, offsets))
    return both >> 32, both & ((1 << 32) - 1)


def word_work(piece: int, whole: int) -> WordWork:
    """Scratch for documents of up to ``whole`` bytes; memory that is not touched costs nothing."""
    n = whole + 16
    return WordWork(
        folded=np.empty(piece + _PADDING, np.uint8),
        classes=np.empty(piece + _PADDING, np.uint8),
        tail=np.empty(128, np.uint8),
        starts=np.empty(n, np.int32),
        stops=np.empty(n, np.int32),
        hashes=np.empty(n, np.uint64),
    )


class _Kept(threading.local):
    """A thread's scratch for one index: to make it anew for each batch would cost more than a small batch."""

    sizes: tuple[int, ...] = ()
    ends: np.ndarray | None = None
    work: Work | None = None


_kept = _Kept()


def work_for(piece: int, whole: int, ends: np.ndarray, n_segments: int) -> Work:
    """The thread's scratch for documents of ``whole`` bytes against the items that end at ``ends``."""
    sizes = piece, whole, n_segments
    fits = all(there >= needed for there, needed in zip(_kept.sizes, sizes, strict=True)) if _kept.sizes else False
    if _kept.work is not None and _kept.ends is ends and fits:
        return _kept.work
    made = _work(piece, whole, ends, n_segments)
    if whole <= KEPT_BYTES:
        _kept.sizes, _kept.ends, _kept.work = sizes, ends, made
    return made


def _work(piece: int, whole: int, ends: np.ndarray, n_segments: int) -> Work:
    n_items, longest = len(ends) - 1, int(np.diff(ends).max(initial=0)) + 1
    by_item = [np.zeros(n_items, np.int64) for _ in range(7)]
    by_item[1][:] = -1  # no segments
    by_segment = [np.empty(n_segments, np.int64) for _ in range(4)]
    of_item = [np.zeros(longest, np.uint8), np.zeros(longest, np.int64), np.zeros(longest, np.int64)]
    return Work._make([*word_work(piece, whole), *by_item, *by_segment, *of_item, np.zeros(MAX_NGRAM, np.uint64)])
