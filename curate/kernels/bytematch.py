"""All byte n-grams of some texts, and which of them end at each byte of others; nothing here needs the compiler.

An n-gram of up to 8 bytes is a number, its key: the last byte is the highest. So the key of its parent, which is
the n-gram without its first byte, is ``key >> 8``, and numbers in order are n-grams in order of their ends:
one sort of the words that end at each byte has the n-grams of every order together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from curate.kernels.native import Kernel

HIGHEST = 8
BLANK_LINE = np.uint64(0x0A0A_FFFF_FFFF_FFFF)  # the word before a text: "\n\n", and FF, which UTF-8 does not have
_ONE_NEWLINE = np.uint64(0x0AFF_FFFF_FFFF_FFFF)
EMPTY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15)
BLOCK = 64  # bytes that are looked up together
PAIRS = 1 << 16
ENTRIES_PER_LINE = 2  # of the four that have room
FILTER_BITS = 8  # an entry, and up to twice as many
_BYTE = np.uint64(0xFF)

_words, _enter, _mark = (Kernel("bytegrams", name) for name in ("words", "enter", "mark"))
_count, _sums, _numbers = (Kernel("bytegrams", name) for name in ("count", "sums", "numbers"))


def words(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64[n_bytes]: at every byte of texts the key of the 8 bytes that end there, after a blank line.

    Parameters
    ----------
    data : uint8[...], the UTF-8 bytes of all texts. offsets : int64[n_docs + 1] into it.
    """
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint64)
    _words(data, offsets, out)
    return out


class Vocabulary:
    """Every n-gram of up to ``max_order`` bytes that occurs in some texts, each of them after a blank line.

    Entries are numbered by order, then key. Entry 0 is the empty n-gram, which ends at every byte; with it every
    entry has a parent. Those of the blank line alone are there, with the counts that they have in the texts.

    Attributes
    ----------
    words, word_counts : uint64[n_words], ascending, and int64[n_words]: the different 8 bytes, and how often.
    keys : uint64[n] by order, ascending. starts : int64[max_order + 2], where the entries of each order start.
    counts : int64[n_entries], at how many bytes of the texts each ends.
    """

    def __init__(self, words: np.ndarray, word_counts: np.ndarray, max_order: int) -> None:
        """From different words in ascending order and how often each occurs."""
        self.words, self.word_counts, self.max_order = words, word_counts, max_order
        blank = np.array([BLANK_LINE, _ONE_NEWLINE])
        at = np.searchsorted(words, blank)
        words, word_counts = np.insert(words, at, blank), np.insert(word_counts, at, 0)
        self.keys = [np.zeros(1, np.uint64)]
        counts = [word_counts.sum(keepdims=True)]
        for order in range(1, max_order + 1):
            keys = words >> np.uint64(8 * (HIGHEST - order))
            starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
            whole = keys[starts] & _BYTE != _BYTE  # not from before the blank line
            self.keys.append(keys[starts][whole])
            counts.append(np.add.reduceat(word_counts, starts)[whole])
        self.counts = np.concatenate(counts)
        self.starts = np.cumsum([0, *map(len, self.keys)])

    @classmethod
    def of(cls, parts: Sequence[np.ndarray], max_order: int) -> Vocabulary:
        """Of texts whose `words` come in parts."""
        return cls(*np.unique(np.concatenate([np.empty(0, np.uint64), *parts]), return_counts=True), max_order)

    def __len__(self) -> int:
        return len(self.counts)

    def entries(self, order: int) -> slice:
        """The numbers of the entries of an order."""
        return slice(int(self.starts[order]), int(self.starts[order + 1]))

    def parents(self, order: int) -> np.ndarray:
        """int64[n]: the entry numbers of the parents of an order's entries, ascending."""
        return self.starts[order - 1] + np.searchsorted(self.keys[order - 1], self.keys[order] >> np.uint64(8))

    def add_to_parents(self, longest: np.ndarray) -> np.ndarray:
        """int64[n_entries]: at how many bytes each ends, from the number at which it is the longest that does."""
        counts = longest.copy()
        for order in range(self.max_order, 0, -1):
            np.add.at(counts, self.parents(order), counts[self.entries(order)])
        return counts


class Index(NamedTuple):
    """A vocabulary's hash table and filters.

    A line of the table is a cache line: four keys, then their values. An order's keys are in lines of its own,
    which are searched one after another until one has room. Those of order 2 are all pairs of bytes, in order.
    Each filter is of two orders, 3 and 4, 5 and 6, 7 and 8: words found by the hash of the lower one.
    """

    table: np.ndarray  # uint64[8 * n_lines], at the start of a cache line
    first: np.ndarray  # int64[9], first line of each order
    lines: np.ndarray  # uint64[9], how many
    factors: np.ndarray  # uint64[9], that keys are hashed by
    filters: np.ndarray  # uint64[...]
    filter_first: np.ndarray  # int64[3]
    filter_shift: np.ndarray  # int64[3], from the hash to the word


class _Block(NamedTuple):
    """Scratch for the bytes that are looked up together."""

    keys: np.ndarray  # uint64[BLOCK], of the longest n-gram that may end at each
    orders: np.ndarray  # int64[BLOCK], its length
    lines: np.ndarray  # int64[BLOCK], of the table
    hashes_5: np.ndarray  # uint64[BLOCK]
    hashes_7: np.ndarray


def _block() -> _Block:
    kinds = np.uint64, np.int64, np.int64, np.uint64, np.uint64
    return _Block(*(np.empty(BLOCK, kind) for kind in kinds))


def _aligned(size: int) -> np.ndarray:
    """Zeros at the start of a cache line, uint64."""
    whole = np.zeros(size + 8, np.uint64)
    start = -whole.ctypes.data % 64 // 8
    return whole[start : start + size]


class Matcher:
    """Finds the longest entry of a vocabulary that ends at each byte of texts; about 32 bytes an entry.

    Threads may use one at once, each with a `counter` of its own.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.index = _empty_index(vocabulary)
        self.index.table.reshape(-1, 8)[: PAIRS // 4, :4] = np.arange(PAIRS, dtype=np.uint64).reshape(-1, 4)
        pairs = np.arange(PAIRS)
        self._pair_places = pairs // 4 * 8 + 4 + pairs % 4
        self._places = np.zeros(len(vocabulary), np.int64)  # of values in the table, orders from 3 up
        for order in range(3, vocabulary.max_order + 1):
            entries, keys = vocabulary.entries(order), vocabulary.keys[order]
            frequent = np.argsort(-vocabulary.counts[entries], kind="stable")  # they get the line searched first
            places = np.empty(len(keys), np.int64)
            _enter(keys[frequent], order, self.index, places)
            self._places[entries][frequent] = places
        for pair in range(3):
            lower, upper = (_keys(vocabulary, 3 + 2 * pair + more) for more in (0, 1))
            _mark(lower, upper, pair, self.index)

    # ---- counting

    def counter(self) -> Index:
        """What `count` counts in, at first nothing."""
        table = _aligned(len(self.index.table))
        table.reshape(-1, 8)[:, :4] = self.index.table.reshape(-1, 8)[:, :4]
        return self.index._replace(table=table)

    def count(self, data: np.ndarray, offsets: np.ndarray, counter: Index) -> None:
        """Add the bytes of texts (see `words`) to a counter, each to the longest entry that ends there."""
        _count(data, offsets, counter, _block())

    def longest(self, counter: Index) -> np.ndarray:
        """int64[n_entries]: at how many counted bytes each entry is the longest. Add them up over counters."""
        values = counter.table.view(np.int64)
        counts = np.zeros(len(self.vocabulary), np.int64)
        for order in range(3, self.vocabulary.max_order + 1):
            entries = self.vocabulary.entries(order)
            counts[entries] = values[self._places[entries]]
        owners = self._pair_owners()
        np.add.at(counts, owners, values[self._pair_places])
        return counts

    def _pair_owners(self) -> np.ndarray:
        """int64[PAIRS]: for each pair of bytes the longest entry that it ends in."""
        vocabulary = self.vocabulary
        owners = np.zeros((256, 256), np.int64)  # by last byte, then the one before
        for order in range(1, min(vocabulary.max_order, 2) + 1):
            entries = vocabulary.entries(order)
            numbers = np.arange(entries.start, entries.stop)
            if order == 1:
                owners[vocabulary.keys[1].astype(np.int64)] = numbers[:, None]
            else:
                owners.reshape(-1)[vocabulary.keys[2].astype(np.int64)] = numbers
        return owners.reshape(-1)

    # ---- adding up

    def set_values(self, values: np.ndarray) -> None:
        """The values for `sums` (float64[n_entries]), or the numbers for `numbers` (int64[n_entries])."""
        table = self.index.table.view(values.dtype)
        for order in range(3, self.vocabulary.max_order + 1):
            entries = self.vocabulary.entries(order)
            table[self._places[entries]] = values[entries]
        table[self._pair_places] = values[self._pair_owners()]

    def sums(self, data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """float64[n_docs]: for each text (see `words`) the sum of the values of the longest entry at every byte."""
        return sums(self.index, data, offsets)

    def numbers(self, data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """int32[n_bytes]: at every byte of texts (see `words`) the number that the longest entry there was given."""
        out = np.empty(int(offsets[-1] - offsets[0]), np.int32)
        _numbers(data, offsets, self.index, _block(), out)
        return out


def sums(index: Index, data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`Matcher.sums`, for those who keep nothing but the index of one."""
    out = np.empty(len(offsets) - 1)
    _sums(data, offsets, index, index.table.view(np.float64), _block(), out)
    return out


def _keys(vocabulary: Vocabulary, order: int) -> np.ndarray:
    """An order's keys; none where it is above the highest."""
    return vocabulary.keys[order] if order <= vocabulary.max_order else np.empty(0, np.uint64)


def _empty_index(vocabulary: Vocabulary) -> Index:
    sizes = [len(_keys(vocabulary, order)) for order in range(HIGHEST + 1)]
    lines = np.array([0, 0, PAIRS // 4, *(size // ENTRIES_PER_LINE + 1 for size in sizes[3:])])
    factors = np.full(HIGHEST + 1, FACTOR)
    factors[2] = 1 << 48  # the upper half of the product with PAIRS / 4 lines is a fourth of the key
    bits = [FILTER_BITS * (sizes[order] + sizes[order + 1]) for order in (3, 5, 7)]
    log_words = np.array([max(1, (size // 64).bit_length()) for size in bits])
    table = _aligned(8 * int(lines.sum()))
    table.reshape(-1, 8)[:, :4] = EMPTY
    return Index(
        table=table,
        first=np.cumsum(lines) - lines,
        lines=lines.astype(np.uint64),
        factors=factors,
        filters=_aligned(int((1 << log_words).sum())),
        filter_first=np.cumsum(1 << log_words) - (1 << log_words),
        filter_shift=64 - log_words,
    )
