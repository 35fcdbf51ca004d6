"""How surprising a text is to a language model of bytes that read others: its bits per byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from curate.errors import UsageError
from curate.kernels.bytematch import BLANK_LINE, HIGHEST, Matcher, Vocabulary, sums, words
from curate.kernels.text import string_buffers

ORDER = 5
ESCAPE = 2.0


class ByteModel:
    """How often each byte followed each context of up to ``order`` bytes in some texts, and so the chance that it does.

    With n(.) how often a context occurred, d(.) after how many different bytes, and ``escape`` m::

        P(byte | context) = (n(context byte) + m d(context) P(byte | context without its first)) / (n(context) + m d)

    which is that shorter context alone where n is 0, and 1/256 below the empty one (interpolated Witten-Bell, 1991,
    "The zero-frequency problem"). A text begins after a blank line. The counts are exact and the chances of all bytes
    add up to 1. With counts in tables of 2**22 places, by a hash, 30 MB of mixed text were found to take 1.86 bits per
    byte after 30 MB of it, and with 2**24 places 2.23: what shares its place with frequent text looked likely.

    Parameters
    ----------
    texts : Arrow strings, some at a time. order : 1 to 7 bytes; memory is about 42 bytes a different n-gram of up to
        ``order + 1``: 3.5 million in 8 MB of mixed text. escape : above 0. On 2.5 MB of such text, after 8 MB of it,
        bits per byte were 2.87 with m d always 1, and 2.66, 2.52 and 2.42 with an escape of 0.5, 1 and 2.

    Attributes
    ----------
    n_bytes : that were read.
    """

    def __init__(self, texts: Iterable[Any], order: int = ORDER, escape: float = ESCAPE) -> None:
        if not 1 <= order < HIGHEST:
            raise UsageError(f"order {order}: contexts are of up to 1 to {HIGHEST - 1} bytes")
        if not escape > 0:
            raise UsageError(f"escape {escape}: must be above 0, or bytes that were never seen are impossible")
        self.order, self.escape = order, escape
        vocabulary = Vocabulary.of([words(*string_buffers(some)) for some in texts], order + 1)
        self.n_bytes = int(vocabulary.counts[0])
        contexts = [_contexts(vocabulary, length) for length in range(1, order + 2)]
        followed, different = _followers(vocabulary, contexts)
        backing = _backing(vocabulary, order, escape * different / (followed + escape * different))
        # Where the longest n-gram at a byte is x, its cost is that of x after its own context, and of backing off to
        # that from the longest context that there was: the longest n-gram at the byte before.
        costs = 8.0 - backing  # of entry 0, when not even the byte is known
        chances = np.full(len(vocabulary), 1 / 256)
        for length, before in enumerate(contexts, 1):
            entries = vocabulary.entries(length)
            m = escape * different[before]
            chances[entries] = vocabulary.counts[entries] + m * chances[vocabulary.parents(length)]
            chances[entries] /= followed[before] + m
            costs[entries] = backing[before] - backing[entries] - np.log2(chances[entries])
        matcher = Matcher(vocabulary)
        matcher.set_values(costs)
        self._index = matcher.index
        self._contexts = vocabulary.keys[: order + 1]
        self._backing = [backing[vocabulary.entries(length)].copy() for length in range(order + 1)]
        self._start = self._backing_of(np.array([BLANK_LINE]))[0]

    def bits_per_byte(self, texts: Any) -> np.ndarray:
        """float64[n_docs] of Arrow strings: -log2 P(text) / bytes; nan where a text is empty."""
        data, offsets = string_buffers(texts)
        bits = sums(self._index, data, offsets) + self._start_and_end(data, offsets)
        sizes = np.diff(offsets).astype(np.float64)
        sizes[sizes == 0] = np.nan
        return bits / sizes

    def _start_and_end(self, data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """What is missing in the costs of the first byte, and too much in those of the last: nothing follows it."""
        return self._backing_of(_last_words(data, offsets)) - self._start

    def _backing_of(self, last: np.ndarray) -> np.ndarray:
        """float64[n]: bits of backing off from the longest context that words end in to the empty one."""
        found = np.full(len(last), self._backing[0][0])
        for length in range(1, self.order + 1):
            keys, of = self._contexts[length], last >> np.uint64(8 * (HIGHEST - length))
            if not len(keys):
                break  # all that was read is shorter
            at = np.minimum(np.searchsorted(keys, of), len(keys) - 1)
            found = np.where(keys[at] == of, self._backing[length][at], found)
        return found


def _last_words(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64[n_docs]: the word (see `curate.kernels.bytematch.words`) at the last byte of each text."""
    sizes = np.diff(offsets)
    begun = np.minimum(sizes, HIGHEST - 1).astype(np.uint64)
    last = np.where(sizes < HIGHEST, BLANK_LINE >> (np.uint64(8) * begun), np.uint64(0))
    for back in range(HIGHEST):
        there = sizes > back
        byte = data[np.where(there, offsets[1:] - 1 - back, 0)].astype(np.uint64)
        last |= np.where(there, byte << np.uint64(8 * (HIGHEST - 1 - back)), np.uint64(0))
    return last


def _contexts(vocabulary: Vocabulary, length: int) -> np.ndarray:
    """int64[n]: for each n-gram of a length the number of the entry that it is without its last byte."""
    keys = vocabulary.keys[length] & np.uint64((1 << (8 * (length - 1))) - 1)
    return vocabulary.starts[length - 1] + np.searchsorted(vocabulary.keys[length - 1], keys)


def _followers(vocabulary: Vocabulary, contexts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``(followed, different)``, float64[n_entries]: how often each n-gram is followed, and by how many bytes.

    1 for ``different`` where it is by none, so that backing off costs nothing there.
    """
    followed, different = np.zeros(len(vocabulary)), np.zeros(len(vocabulary))
    for length, before in enumerate(contexts, 1):
        counts = vocabulary.counts[vocabulary.entries(length)]
        followed += np.bincount(before, counts, len(vocabulary))
        different += np.bincount(before, counts > 0, len(vocabulary))
    return followed, np.maximum(different, 1)


def _backing(vocabulary: Vocabulary, order: int, shares: np.ndarray) -> np.ndarray:
    """float64[n_entries], bits from 0 down: the log of all shares of shorter contexts, down from each entry.

    For entries above ``order``, which are no contexts, down from the longest end that is one.
    """
    found = np.log2(shares)
    for length in range(1, order + 1):
        found[vocabulary.entries(length)] += found[vocabulary.parents(length)]
    found[vocabulary.entries(order + 1)] = found[vocabulary.parents(order + 1)]
    return found
