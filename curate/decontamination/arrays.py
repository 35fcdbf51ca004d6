"""Evaluation items as arrays that the kernel reads: their words, what each counts, and a table of their n-grams."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.decontamination.items import Items
from curate.decontamination.licences import LICENCES
from curate.decontamination.memory import room, word_work
from curate.kernels.calls import start_state
from curate.kernels.native import Kernel
from curate.kernels.text import string_buffers
from curate.kernels.unicode import unicode_tables

ANCHOR = 5  # of `curate.kernels.overlap`
FEW_ITEMS, MANY_ITEMS = 2, 10  # n-grams in so few items are no boilerplate; in more they are, whatever the share
MANY_PLACES = 64  # n-grams in more items of all benchmarks together say nothing either
SEED = 0
_word_stream = Kernel("overlap", "word_stream")
_anchors, _fill = Kernel("overlap", "anchors"), Kernel("overlap", "fill")
_NUMBER, _LIGHT = np.uint64(1), np.uint64(2)


class Arrays(NamedTuple):
    """What the kernel reads. Words of all items lie one after the other; places of them count from 0."""

    words: np.ndarray  # uint64[n_words], hashes
    own: np.ndarray  # uint8[n_words], in half words: 0 boilerplate, 1 a number or a letter, 2 any other
    ends: np.ndarray  # int64[n_items + 1]
    part_ends: np.ndarray  # int64[n_items + 1], of the parts: the whole and each field
    part_start: np.ndarray  # int64[n_parts], words of the item
    part_stop: np.ndarray
    numbers: np.ndarray  # uint64, the different numbers of each item, ascending
    number_ends: np.ndarray  # int64[n_items + 1]
    bits: np.ndarray  # uint64[2**k], a bit for each anchor: most words of most documents go no further
    table: np.ndarray  # uint64[2**k], anchors by open addressing
    rows: np.ndarray  # int32[2**k], of `row_ends`; -1: free
    row_ends: np.ndarray  # int64[n_anchors + 1]
    places: np.ndarray  # int64, of the anchor's first word
    item_of: np.ndarray  # int32


class Built(NamedTuple):
    """``n_boilerplate``: int64[n_benchmarks], n-grams left out. ``n_own``: int64[n_items], words that count."""

    arrays: Arrays
    n_boilerplate: np.ndarray
    n_own: np.ndarray


def build(items: Items, benchmark: np.ndarray, min_words: int, boilerplate: float) -> Built:
    """Arrays of items; ``benchmark`` (int64[n_items]) numbers each one's, ``boilerplate`` is a share of its items.

    An n-gram is boilerplate in more items than that, but in 2 never and in more than 10 always; and one of a licence.
    """
    words, ends, parts = _words_of(items, min_words)
    item = np.repeat(np.arange(len(items)), np.diff(ends))
    grams, places = _grams(words, item)
    alike = _alike(words, ends, benchmark)
    sizes = np.bincount(benchmark[np.unique(alike)])
    limits = np.clip((boilerplate * sizes).astype(np.int64), FEW_ITEMS, MANY_ITEMS)
    kept, dropped = _kept(grams, alike[item[places]], benchmark[item[places]], limits)
    own = _own(words, places, kept)
    n_own = np.bincount(item, own > 0, minlength=len(items)).astype(np.int64)
    made = [
        words,
        own,
        ends,
        *parts,
        *_numbers(words, item, ends),
        *_table(grams, places, item, kept & _telling(words, places)),
    ]
    return Built(Arrays._make(made), dropped, n_own)


def _words_of(items: Items, min_words: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Hashes of words, where items end, and where their parts begin and end: the whole first, then fields."""
    fields = pa.array([text for texts in items.texts for text in texts], pa.large_string())
    words, field_ends = word_hashes(fields)
    n_fields = np.array([len(texts) for texts in items.texts], np.int64)
    last_field = np.concatenate([[0], np.cumsum(n_fields)])
    ends = field_ends[last_field]
    part_ends, starts, stops = [0], [], []
    for i in range(len(items)):
        cuts = field_ends[last_field[i] : last_field[i + 1] + 1] - ends[i]
        starts.append(0)
        stops.append(int(ends[i + 1] - ends[i]))
        for start, stop in pairwise(cuts):
            if min_words <= stop - start < stops[part_ends[-1]]:
                starts.append(int(start))
                stops.append(int(stop))
        part_ends.append(len(starts))
    return words, ends, tuple(np.array(a, np.int64) for a in (part_ends, starts, stops))


def word_hashes(texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """``(uint64[n_words], int64[n_texts + 1])``: hashes of the words of Arrow strings, and where each text's end."""
    data, offsets = string_buffers(texts)
    offsets = np.ascontiguousarray(offsets, np.int64)
    hashes = np.empty(int(offsets[-1] - offsets[0]) + 1, np.uint64)
    ends = np.zeros(len(offsets), np.int64)
    if len(offsets) > 1:
        work = word_work(*room(data, offsets))
        _word_stream(data, offsets, unicode_tables(), start_state(SEED), work, hashes, ends[1:])
    return hashes[: ends[-1]].copy(), ends


def _grams(words: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The anchors of all items and the places of their first words; none goes from one item into the next."""
    if len(words) < ANCHOR:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    grams = np.empty(len(words) - ANCHOR + 1, np.uint64)
    _anchors(words, grams)
    places = np.flatnonzero(item[: len(grams)] == item[ANCHOR - 1 :])
    return grams[places], places


def _alike(words: np.ndarray, ends: np.ndarray, benchmark: np.ndarray) -> np.ndarray:
    """int64[n_items]: the first item of the benchmark with the same words: an item that is there twice counts once."""
    first: dict[tuple[int, bytes], int] = {}
    bounds = pairwise(ends)
    said = [hashlib.blake2b(words[a:b].tobytes(), digest_size=16).digest() for a, b in bounds]
    return np.array(
        [first.setdefault((b, s), i) for i, (b, s) in enumerate(zip(benchmark.tolist(), said, strict=True))]
    )


def _kept(
    grams: np.ndarray, item: np.ndarray, benchmark: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``(bool[n_grams], int64[n_benchmarks])``: which are no boilerplate, and how many different ones are.

    Those are that are in more items of a benchmark than ``limits`` has for it (int64[n_benchmarks]).
    """
    order = np.lexsort((item, benchmark, grams))
    g, b, i = grams[order], benchmark[order], item[order]
    other_gram = np.append(True, g[1:] != g[:-1])[: len(g)]
    group_starts = other_gram | np.append(True, b[1:] != b[:-1])[: len(g)]
    item_starts = group_starts | np.append(True, i[1:] != i[:-1])[: len(g)]
    group = np.cumsum(group_starts) - 1
    n_items = np.bincount(group, item_starts).astype(np.int64)
    in_all = np.bincount(np.cumsum(other_gram) - 1, item_starts)[np.cumsum(other_gram) - 1]
    few = (n_items[group] <= limits[b]) & (in_all <= MANY_PLACES) & ~np.isin(g, _licence_grams())
    kept = np.empty(len(grams), bool)
    kept[order] = few
    return kept, np.bincount(b[group_starts & ~few], minlength=len(limits))


def _licence_grams() -> np.ndarray:
    words, ends = word_hashes(pa.array(LICENCES, pa.large_string()))
    return _grams(words, np.repeat(np.arange(len(LICENCES)), np.diff(ends)))[0]


def _own(words: np.ndarray, places: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """uint8[n_words]: what a word counts, in half words; nothing where most n-grams around it are boilerplate."""
    around, good = np.zeros(len(words) + 1, np.int64), np.zeros(len(words) + 1, np.int64)
    for total, of in ((around, places), (good, places[kept])):
        total += np.bincount(of, minlength=len(total)) - np.bincount(of + ANCHOR, minlength=len(total))
    around, good = np.cumsum(around)[:-1], np.cumsum(good)[:-1]
    weight = np.where(words & _LIGHT, 1, 2)
    return np.where((around > 0) & (2 * good >= around), weight, 0).astype(np.uint8)


def _telling(words: np.ndarray, places: np.ndarray) -> np.ndarray:
    """bool[n_grams]: which have two different words, and one that is no number or letter; rows of zeros do not."""
    first = words[places]
    different, heavy = np.zeros(len(places), bool), (first & _LIGHT) == 0
    for i in range(1, ANCHOR):
        word = words[places + i]
        different |= word != first
        heavy |= (word & _LIGHT) == 0
    return different & heavy


def _numbers(words: np.ndarray, item: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different numbers of each item, ascending, and where they end."""
    is_number = (words & _NUMBER) > 0
    of, number = item[is_number], words[is_number]
    order = np.lexsort((number, of))
    of, number = of[order], number[order]
    new = np.append(True, (of[1:] != of[:-1]) | (number[1:] != number[:-1]))[: len(of)]
    n_items = len(ends) - 1
    return number[new], np.concatenate([[0], np.cumsum(np.bincount(of[new], minlength=n_items))]).astype(np.int64)


def _table(grams: np.ndarray, places: np.ndarray, item: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, ...]:
    """Filter, hash table and places of the anchors that are kept, of each in an item the first place."""
    grams, places = grams[kept], places[kept]
    of = item[places]
    order = np.lexsort((places, of, grams))
    grams, places, of = grams[order], places[order], of[order]
    first = np.append(True, (grams[1:] != grams[:-1]) | (of[1:] != of[:-1]))[: len(grams)]
    grams, places, of = grams[first], places[first], of[first]
    starts = np.flatnonzero(np.append(True, grams[1:] != grams[:-1])[: len(grams)])
    size = 1 << max(6, (2 * len(starts) - 1).bit_length())
    bits, table, rows = np.zeros(size // 8, np.uint64), np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    if len(starts):
        _fill(grams[starts], table, rows, bits)
    return bits, table, rows, np.append(starts, len(grams)).astype(np.int64), places, of.astype(np.int32)


def check(arrays: Arrays, n_items: int) -> None:
    """Refuse arrays that the kernel would read past.

    Raises
    ------
    ValueError : they do not belong together.
    """
    a = arrays
    kinds = [array.dtype for array in a]
    if kinds != [
        np.uint64,
        np.uint8,
        *[np.int64] * 4,
        np.uint64,
        np.int64,
        *[np.uint64] * 2,
        np.int32,
        *[np.int64] * 2,
        np.int32,
    ]:
        raise ValueError(f"arrays of {', '.join(map(str, kinds))}")
    sizes = len(a.table), len(a.bits)
    n_anchors, n_words = len(a.row_ends) - 1, len(a.words)
    fine = (
        all(array.ndim == 1 for array in a)
        and all(size > 0 and size & (size - 1) == 0 for size in sizes)
        and len(a.rows) == len(a.table)
        and n_anchors < len(a.table)
        and int(a.rows.min()) >= -1
        and int(a.rows.max()) < n_anchors
        and bool((a.rows < 0).any())
        and _ascends(a.row_ends, len(a.places))
        and len(a.places) == len(a.item_of)
        and len(a.own) == n_words
        and int(a.own.max(initial=0)) <= 2
        and all(len(e) == n_items + 1 for e in (a.ends, a.part_ends, a.number_ends))
        and _ascends(a.ends, n_words)
        and _ascends(a.part_ends, len(a.part_start))
        and _ascends(a.number_ends, len(a.numbers))
        and len(a.part_stop) == len(a.part_start)
    )
    if not fine:
        raise ValueError("arrays that do not belong together")
    sizes_of = np.diff(a.ends)
    part_sizes = np.repeat(sizes_of, np.diff(a.part_ends))
    inside = (a.part_start >= 0) & (a.part_start <= a.part_stop) & (a.part_stop <= part_sizes)
    places_fit = (a.item_of >= 0) & (a.item_of < n_items)
    if not (inside.all() and places_fit.all()):
        raise ValueError("arrays that do not belong together")
    if not ((a.places >= a.ends[a.item_of]) & (a.places + ANCHOR <= a.ends[a.item_of + 1])).all():
        raise ValueError("arrays that do not belong together")
    item = np.repeat(np.arange(n_items), sizes_of)
    numbers, number_ends = _numbers(a.words, item, a.ends)
    if not (np.array_equal(numbers, a.numbers) and np.array_equal(number_ends, a.number_ends)):
        raise ValueError("arrays that do not belong together")


def _ascends(ends: np.ndarray, last: int) -> bool:
    return len(ends) > 0 and ends[0] == 0 and ends[-1] == last and bool((np.diff(ends) >= 0).all())
