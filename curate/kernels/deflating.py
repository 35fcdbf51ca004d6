"""Sizes of zlib's deflate as functions of arrays; nothing here needs the compiler."""

from __future__ import annotations

import threading
from functools import cache
from typing import NamedTuple

import numpy as np

from curate.kernels.native import Kernel

WINDOW = 1 << 15
MAX_MATCH = 258
MAX_DISTANCE = WINDOW - (MAX_MATCH + 4)  # zlib looks ahead by a match and a byte
LITERALS, DISTANCES = 286, 30
HEAP = 2 * LITERALS + 1
PADDING = 512  # bytes after a text that a comparison may look at

_own_matches, _joint_sizes = Kernel("deflate", "own_matches"), Kernel("deflate", "joint_sizes")
_dictionary_sizes = Kernel("deflate", "dictionary_sizes")


class Workspace(NamedTuple):
    """What a compressor works with; one a thread."""

    text: np.ndarray  # uint8[...], the prefix and a text after it
    previous: np.ndarray  # uint32[...], of each place the one before it with the same hash
    head: np.ndarray  # uint32[WINDOW], the last place of each hash
    heads: np.ndarray  # uint16[5 * WINDOW], five tables, one after another
    chains: np.ndarray
    trees: np.ndarray  # int64[7, HEAP + 1], for the Huffman trees
    state: np.ndarray  # int64[8], where a compressor is, see curate.kernels.deflate
    literals: np.ndarray  # int64[LITERALS], how often each occurs in the block
    distances: np.ndarray  # int64[DISTANCES]
    kept_state: np.ndarray  # these three after the prefix
    kept_literals: np.ndarray
    kept_distances: np.ndarray


class _Scratch(threading.local):
    """The workspace that a thread uses again."""

    def __init__(self) -> None:
        counters = [np.zeros(size, np.int64) for size in 2 * (8, LITERALS, DISTANCES)]
        tables = np.empty(5 * WINDOW, np.uint16), np.empty(5 * WINDOW, np.uint16)
        trees = np.zeros((7, HEAP + 1), np.int64)
        head = np.empty(WINDOW, np.uint32)
        self.workspace = Workspace(np.empty(0, np.uint8), np.empty(0, np.uint32), head, *tables, trees, *counters)


_scratch = _Scratch()


def _workspace(prefix: np.ndarray, more: int) -> Workspace:
    """The thread's workspace with a prefix in it, and room for ``more`` bytes."""
    kept, size = _scratch.workspace, len(prefix) + more
    if len(kept.previous) < size:
        size += size // 2
        kept = kept._replace(text=np.zeros(size + PADDING, np.uint8), previous=np.empty(size, np.uint32))
        _scratch.workspace = kept
    kept.text[: len(prefix)] = prefix
    return kept


_NOT_KNOWN = np.zeros(0, np.uint64)
_EMPTY = np.zeros(1, np.uint8), np.zeros(2, np.int64), np.zeros(1, np.int64)


def own_matches(texts: np.ndarray, offsets: np.ndarray, level: int) -> np.ndarray:
    """What texts match in themselves, for `joint_sizes` at the same level: uint64[...], one a byte of ``texts``.

    Parameters
    ----------
    texts : uint8[...], one after another. offsets : int64[n + 1] into it.
    """
    out = np.zeros(len(texts), np.uint64)
    if level > 3:
        text = np.zeros(MAX_DISTANCE + PADDING, np.uint8)
        head, previous = np.empty(WINDOW, np.int32), np.empty(WINDOW, np.int32)
        _own_matches(texts, offsets, level, text, head, previous, np.empty(WINDOW, np.int64), out)
    return out


def joint_sizes(
    prefix: np.ndarray,
    others: np.ndarray,
    offsets: np.ndarray,
    which: np.ndarray,
    level: int,
    own: np.ndarray = _NOT_KNOWN,
) -> np.ndarray:
    """Bytes of raw deflate (no header) of ``prefix`` followed by each of some texts.

    Parameters
    ----------
    prefix : uint8[...]. others : uint8[...], texts one after another. offsets : int64[n + 1] into it.
    which : int64[m], the texts that are wanted. level : 1 to 9.
    own : from `own_matches`; makes it faster, not different.

    Returns
    -------
    int64[m], equal to ``len(zlib.compress(prefix + text, level, wbits=-15))``.
    """
    longest = int((offsets[which + 1] - offsets[which]).max(initial=0))
    out = np.empty(len(which), np.int64)
    _joint_sizes(len(prefix), others, offsets, which, level, own, _workspace(prefix, longest), out)
    return out


def size(text: np.ndarray, level: int) -> int:
    """Bytes of raw deflate of a text (uint8[...])."""
    return int(joint_sizes(text, *_EMPTY, level)[0])


@cache
def agrees_with_zlib(level: int) -> bool:
    """Whether the zlib of this Python is one whose sizes these are: zlib-ng and others decide otherwise."""
    import random
    import zlib

    rng = random.Random(0)
    words = [bytes(rng.choices(b"abcdefghij \n", k=rng.randint(1, 9))) for _ in range(60)]
    texts = [b" ".join(rng.choices(words, k=k)) for k in (0, 1, 30, 300, 3_000, 30_000)]
    texts += [bytes(rng.choices(range(256), k=3_000)), b"a" * 70_000, rng.randbytes(20_000)]
    return all(
        size(np.frombuffer(text, np.uint8), level) == len(zlib.compress(text, level, wbits=-15)) for text in texts
    )


def dictionary_sizes(
    dictionary: np.ndarray, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, level: int
) -> np.ndarray:
    """Bytes of raw deflate of pieces of ``data``, each with a preset dictionary (uint8[...]; its last 32 KiB count).

    Parameters
    ----------
    starts, lengths : int64[n], the pieces. level : 1 to 9.

    Returns
    -------
    int64[n], equal to those of ``zlib.compressobj(level, wbits=-15, zdict=dictionary)``.
    """
    dictionary = dictionary[-WINDOW:]
    out = np.empty(len(starts), np.int64)
    work = _workspace(dictionary, int(lengths.max(initial=0)))
    _dictionary_sizes(len(dictionary), data, starts, lengths, level, work, out)
    return out
