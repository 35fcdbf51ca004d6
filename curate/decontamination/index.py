"""An index of evaluation items, and what documents have of them."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.decontamination.found import Found, merged
from curate.decontamination.items import Items, read_items
from curate.decontamination.spec import DecontaminationSpec
from curate.errors import InputError
from curate.io.paths import atomic
from curate.kernels.calls import start_state
from curate.kernels.native import Kernel
from curate.kernels.text import string_buffers
from curate.kernels.unicode import unicode_tables

ANCHOR = 5  # of `curate.kernels.overlap`
FEW_ITEMS, MANY_ITEMS = 2, 32  # n-grams in so few items are no boilerplate; in more they are, whatever the share
MANY_PLACES = 64  # n-grams in more items of all benchmarks together say nothing either
VERSION = 1
_SEED = 0
_longest, _word_stream = Kernel("overlap", "longest"), Kernel("overlap", "word_stream")
_anchors, _fill, _find = Kernel("overlap", "anchors"), Kernel("overlap", "fill"), Kernel("overlap", "find")
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


class _Limits(NamedTuple):
    ngram: int
    shortest: int
    coverage: float
    stretch: int


@dataclass(frozen=True)
class Index:
    """Evaluation items as arrays, made by `build`; ``settings`` are those that matching depends on.

    ``n_boilerplate``: n-grams by benchmark that are in too many of its items to say anything. ``undecidable``: ids by
    benchmark of items that are too short, or nothing but boilerplate.
    """

    arrays: Arrays
    ids: tuple[str, ...]
    benchmarks: tuple[str, ...]
    settings: Mapping[str, Any]
    n_boilerplate: Mapping[str, int]
    undecidable: Mapping[str, tuple[str, ...]]

    @classmethod
    def build(cls, items: Items, spec: DecontaminationSpec) -> Index:
        """The index of some items."""
        words, ends, parts = _words_of(items, spec.min_words)
        names, benchmark = np.unique(np.array(items.benchmarks, dtype=np.str_), return_inverse=True)
        item = np.repeat(np.arange(len(items)), np.diff(ends))
        grams, places = _grams(words, item)
        alike = _alike(words, ends, benchmark)
        kept, dropped = _kept(grams, alike[item[places]], benchmark[item[places]], spec.boilerplate)
        own = _own(words, places, kept)
        n_own = np.array([np.count_nonzero(own[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)])
        lost = n_own < spec.min_words
        undecidable = {
            str(name): tuple(items.ids[i] for i in np.flatnonzero(lost & (benchmark == b)))
            for b, name in enumerate(names)
        }
        return cls(
            Arrays(words, own, ends, *parts, *_numbers(words, item, ends), *_table(grams, places, item, kept)),
            tuple(items.ids),
            tuple(items.benchmarks),
            {name: getattr(spec, name) for name in ("ngram", "coverage", "min_words", "boilerplate")},
            {str(name): int(n) for name, n in zip(names, dropped, strict=True)},
            {name: ids for name, ids in undecidable.items() if ids},
        )

    @classmethod
    def of(cls, spec: DecontaminationSpec) -> Index:
        """The index of the items in the files that a specification names."""
        return cls.build(read_items(spec), spec)

    def find(self, texts: Any) -> Found:
        """What documents have of the items.

        A document has an item where ``ngram`` words of it, or all of a shorter one, are in a row (*verbatim*), or where
        more than ``coverage`` of its words are within about twice its length, or where a stretch of ``3 ngram / 2``
        more words agree than not (*edited*). Boilerplate does not count, numbers and letters count half, and it must be
        at least half as many different words. Where at least as many numbers are others as are the same it is another
        item of the same template.

        Parameters
        ----------
        texts : Arrow strings; a null is the empty string.
        """
        data, offsets = string_buffers(texts)
        offsets = np.ascontiguousarray(offsets, np.int64)
        ngram = int(self.settings["ngram"])
        limits = _Limits(ngram, int(self.settings["min_words"]), float(self.settings["coverage"]), (3 * ngram + 1) // 2)
        at = np.zeros(2, np.int64)
        rows, n_segments = _rows(1 << 10), 1 << 16
        work = _work(*_room(data, offsets), self, n_segments)
        while more := _find(
            data, offsets, unicode_tables(), start_state(_SEED), self.arrays, limits, work, rows, at
        ):
            if more == _MORE_SEGMENTS:
                n_segments *= 4
                work = _work(*_room(data, offsets), self, n_segments)
            else:
                rows = _Rows(*(np.concatenate([a, np.zeros_like(a)]) for a in rows))
        return merged(texts, _Rows(*(a[: at[1]] for a in rows)), self)

    @cached_property
    def identity(self) -> str:
        """What determines what is found."""
        of = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        for array in self.arrays:
            of.update(array.tobytes())
        return of.hexdigest()

    def _about(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "ids": list(self.ids),
            "benchmarks": list(self.benchmarks),
            "settings": dict(self.settings),
            "n_boilerplate": dict(self.n_boilerplate),
            "undecidable": {name: list(ids) for name, ids in self.undecidable.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write the index, arrays and JSON, to a ``.npz`` file; whole, or not at all."""
        about = np.frombuffer(json.dumps(self._about()).encode(), np.uint8)
        with atomic(Path(path)) as part, open(part, "wb") as stream:
            np.savez(stream, about=about, **self.arrays._asdict())

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read what `save` wrote.

        Raises
        ------
        InputError : it is not there, or not what was saved.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(stored["about"].tobytes())
                arrays = Arrays(*(np.ascontiguousarray(stored[name]) for name in Arrays._fields))
            if about["version"] != VERSION:
                raise ValueError(f"version {about['version']}, this is {VERSION}")
            _check(arrays, len(about["ids"]))
            undecidable = {name: tuple(ids) for name, ids in about["undecidable"].items()}
            return cls(
                arrays,
                tuple(about["ids"]),
                tuple(about["benchmarks"]),
                about["settings"],
                about["n_boilerplate"],
                undecidable,
            )
        except FileNotFoundError as error:
            raise InputError(f"{path}: no index of evaluation items there") from error
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a saved index of evaluation items ({error}); make it again") from error


# ---- building


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
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            if min_words <= stop - start < stops[part_ends[-1]]:
                starts.append(int(start))
                stops.append(int(stop))
        part_ends.append(len(starts))
    return words, ends, tuple(np.array(a, np.int64) for a in (part_ends, starts, stops))


def word_hashes(texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """``(uint64[n_words], int64[n_texts + 1])``: the hashes of the words of Arrow strings, and where each text's end."""
    data, offsets = string_buffers(texts)
    offsets = np.ascontiguousarray(offsets, np.int64)
    hashes = np.empty(int(offsets[-1] - offsets[0]) + 1, np.uint64)
    ends = np.zeros(len(offsets), np.int64)
    if len(offsets) > 1:
        work = _word_work(*_room(data, offsets))
        _word_stream(data, offsets, unicode_tables(), start_state(_SEED), work, hashes, ends[1:])
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
    bounds = zip(ends[:-1], ends[1:], strict=True)
    said = [hashlib.blake2b(words[a:b].tobytes(), digest_size=16).digest() for a, b in bounds]
    return np.array([first.setdefault((b, s), i) for i, (b, s) in enumerate(zip(benchmark.tolist(), said, strict=True))])


def _kept(
    grams: np.ndarray, item: np.ndarray, benchmark: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """``(bool[n_grams], int64[n_benchmarks])``: which are no boilerplate, and how many different ones are, by benchmark.

    The limit is a share of the benchmark's items, but 2 items at least and 32 at most.
    """
    n_benchmarks = int(benchmark.max(initial=-1)) + 1
    order = np.lexsort((item, benchmark, grams))
    g, b, i = grams[order], benchmark[order], item[order]
    other_gram = np.append(True, g[1:] != g[:-1])[: len(g)]
    group_starts = other_gram | np.append(True, b[1:] != b[:-1])[: len(g)]
    item_starts = group_starts | np.append(True, i[1:] != i[:-1])[: len(g)]
    group = np.cumsum(group_starts) - 1
    n_items = np.bincount(group, item_starts).astype(np.int64)
    sizes = np.array([len(np.unique(item[benchmark == x])) for x in range(n_benchmarks)])
    limits = np.clip((share * sizes).astype(np.int64), FEW_ITEMS, MANY_ITEMS)
    in_all = np.bincount(np.cumsum(other_gram) - 1, item_starts)[np.cumsum(other_gram) - 1]
    few = (n_items[group] <= limits[b]) & (in_all <= MANY_PLACES)
    kept = np.empty(len(grams), bool)
    kept[order] = few
    return kept, np.bincount(b[group_starts & ~few], minlength=n_benchmarks)


def _own(words: np.ndarray, places: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """uint8[n_words]: what a word counts, in half words; nothing where most n-grams around it are boilerplate."""
    around, good = np.zeros(len(words) + 1, np.int64), np.zeros(len(words) + 1, np.int64)
    for total, of in ((around, places), (good, places[kept])):
        total += np.bincount(of, minlength=len(total)) - np.bincount(of + ANCHOR, minlength=len(total))
    around, good = np.cumsum(around)[:-1], np.cumsum(good)[:-1]
    weight = np.where(words & _LIGHT, 1, 2)
    return np.where((around > 0) & (2 * good >= around), weight, 0).astype(np.uint8)


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


def _check(arrays: Arrays, n_items: int) -> None:
    """Refuse arrays that the kernel would read past."""
    a = arrays
    kinds = [array.dtype for array in a]
    if kinds != [np.uint64, np.uint8, *[np.int64] * 4, np.uint64, np.int64, *[np.uint64] * 2, np.int32, *[np.int64] * 2, np.int32]:
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


# ---- memory of the kernel


_MORE_SEGMENTS = 1
_PADDING = 192


class _WordWork(NamedTuple):
    folded: np.ndarray
    classes: np.ndarray
    tail: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    hashes: np.ndarray


class _Work(NamedTuple):
    folded: np.ndarray
    classes: np.ndarray
    tail: np.ndarray
    starts: np.ndarray  # int32, of the document's words
    stops: np.ndarray
    hashes: np.ndarray
    touched: np.ndarray  # int64[n_items]: those that a document shares anchors with
    head: np.ndarray  # int64[n_items]: the first segment of each; -1: none
    last: np.ndarray  # int64[n_items]: the last one
    tally: np.ndarray  # int64[n_items]: words in segments
    diagonal: np.ndarray  # int64[n_items]: of the last segment, where it lies
    segment_end: np.ndarray
    exact_end: np.ndarray
    begin: np.ndarray  # int64[n_segments], word of the document
    place: np.ndarray  # word of the item
    length: np.ndarray
    next: np.ndarray
    marks: np.ndarray  # uint8, words of an item that are found
    in_item: np.ndarray  # int64, how often each number is there
    in_doc: np.ndarray
    seen: np.ndarray  # uint64[MAX_NGRAM]


class _Rows(NamedTuple):
    doc: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    coverage: np.ndarray
    n_words: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def _rows(n: int) -> _Rows:
    return _Rows(*(np.zeros(n, np.float64 if name == "coverage" else np.int64) for name in _Rows._fields))


def _room(data: np.ndarray, offsets: np.ndarray) -> tuple[int, int]:
    """Bytes of the longest piece that is worked on at a time, and of the longest document."""
    both = int(_longest(data, offsets))
    return both >> 32, both & ((1 << 32) - 1)


def _word_work(piece: int, whole: int) -> _WordWork:
    n = whole + 16
    return _WordWork(
        *(np.empty(piece + _PADDING, np.uint8) for _ in range(2)),
        np.empty(128, np.uint8),
        *(np.empty(n, np.int32) for _ in range(2)),
        np.empty(n, np.uint64),
    )


class _Kept(threading.local):
    """The thread's memory for one index at a time: to make it anew for each batch would cost more than small batches."""

    key: tuple[int, ...] = ()
    work: _Work | None = None
    index: Index | None = None


_kept_work = _Kept()


def _work(piece: int, whole: int, index: Index, n_segments: int) -> _Work:
    kept = _kept_work
    if kept.work is not None and kept.index is index:
        fits = (a >= b for a, b in zip(kept.key, (piece, whole, n_segments), strict=True))
        if all(fits):
            return kept.work
    n_items = len(index.ids)
    size = int(np.diff(index.arrays.ends).max(initial=0)) + 1
    made = _Work(
        *_word_work(piece, whole),
        np.zeros(n_items, np.int64),
        np.full(n_items, -1, np.int64),
        *(np.zeros(n_items, np.int64) for _ in range(5)),
        *(np.empty(n_segments, np.int64) for _ in range(4)),
        np.zeros(size, np.uint8),
        np.zeros(size, np.int64),
        np.zeros(size, np.int64),
        np.zeros(64, np.uint64),
    )
    kept.key, kept.work, kept.index = (piece, whole, n_segments), made, index
    return made
