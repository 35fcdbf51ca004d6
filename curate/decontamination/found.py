"""What was found, and what becomes of it: reasons, cuts, tags, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.decontamination.arrays import word_hashes
from curate.decontamination.memory import Rows
from curate.decontamination.spec import DecontaminationSpec
from curate.features.edits import Edits, edited
from curate.kernels.text import one_chunk, string_buffers

if TYPE_CHECKING:
    from curate.decontamination.index import Index

REASON = "contaminated"
KINDS = ("", "verbatim", "edited")
EXCERPT = 200  # characters
SOME = 20  # items of a benchmark that are named as too short
FOUND = pa.schema(
    [
        ("doc", pa.int64()),
        ("benchmark", pa.large_string()),
        ("item", pa.large_string()),
        ("kind", pa.large_string()),
        ("coverage", pa.float64()),
        ("n_words", pa.int64()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("excerpt", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class Found:
    """Places of documents that have evaluation items, by document, item (as the files have them) and place.

    ``table`` : columns of FOUND. ``doc``: number in the batch. ``kind``: "verbatim" or "edited". ``coverage``: share of
    the item, without boilerplate, that is there, a number or a letter as half a word. ``n_words``: words of it.
    ``start``, ``stop``: bytes of the document's text in UTF-8. ``excerpt``: how that begins. An item in several places
    has a row for each, and in all of them its best kind and the most that is in one.
    """

    table: pa.Table
    texts: Any

    def __len__(self) -> int:
        return self.table.num_rows

    def contaminated(self) -> np.ndarray:
        """bool[n_docs]: which documents have an item."""
        there = np.zeros(len(self.texts), bool)
        there[self.table["doc"].to_numpy()] = True
        return there

    def verdicts(self, spec: DecontaminationSpec) -> pa.Array:
        """string[n_docs]: why a document goes; null: it stays, maybe cut or tagged.

        "remove": all that have an item go. "cut": those of which fewer than ``min_left`` words are left.
        """
        gone = np.zeros(len(self.texts), bool)
        if spec.mode == "remove":
            gone = self.contaminated()
        elif spec.mode == "cut":
            touched = np.flatnonzero(self.contaminated())
            gone[touched] = self._words_left(touched) < spec.min_left
        return pa.array(np.where(gone, REASON, ""), pa.string(), mask=~gone)

    def cuts(self) -> Edits:
        """What "cut" takes out of documents: every place, so that nothing else changes by a byte."""
        columns = (self.table[name].to_pylist() for name in ("doc", "start", "stop"))
        return Edits.of((doc, start, stop, "") for doc, start, stop in zip(*columns, strict=True))

    def tags(self) -> pa.Array:
        """list<string>[n_docs]: the benchmarks of which a document has items, sorted; empty without any."""
        names: list[set[str]] = [set() for _ in range(len(self.texts))]
        for doc, benchmark in zip(self.table["doc"].to_pylist(), self.table["benchmark"].to_pylist(), strict=True):
            names[doc].add(benchmark)
        return pa.array([sorted(some) for some in names], pa.list_(pa.string()))

    def _words_left(self, docs: np.ndarray) -> np.ndarray:
        texts = one_chunk(self.texts)
        left = edited(texts, self.cuts().lists(len(texts))).take(pa.array(docs))
        return np.diff(word_hashes(left)[1])


def merged(texts: Any, rows: Rows, ids: Sequence[str], benchmarks: Sequence[str]) -> Found:
    """Rows of the kernel as a table: stretches overlap, and so does what was found in them."""
    order = np.lexsort((rows.stop, rows.start, rows.item, rows.doc))
    doc, item, kind, coverage, n_words, start, stop = (column[order] for column in rows)
    pair_starts = np.append(True, (doc[1:] != doc[:-1]) | (item[1:] != item[:-1]))[: len(doc)]
    pair = np.cumsum(pair_starts) - 1
    reach = 1 + int(stop.max(initial=0))
    so_far = np.maximum.accumulate(stop + pair * reach) - pair * reach  # no stop reaches into the next pair
    apart = pair_starts | np.append(True, start[1:] > so_far[:-1])[: len(doc)]
    firsts = np.flatnonzero(apart)
    if len(firsts):
        first_of_pair = np.flatnonzero(pair_starts)
        stop = np.maximum.reduceat(stop, firsts)
        kind = np.minimum.reduceat(kind, first_of_pair)[pair[firsts]]
        coverage = np.maximum.reduceat(coverage, first_of_pair)[pair[firsts]]
        n_words = np.maximum.reduceat(n_words, first_of_pair)[pair[firsts]]
    else:
        stop, kind, coverage, n_words = stop[:0], kind[:0], coverage[:0], n_words[:0]
    doc, item, start = doc[firsts], item[firsts], start[firsts]
    names, items = ([of[i] for i in item.tolist()] for of in (benchmarks, ids))
    excerpts = _excerpts(texts, doc, start, stop)
    columns = [doc, names, items, [KINDS[k] for k in kind.tolist()], coverage, n_words, start, stop, excerpts]
    return Found(pa.table([pa.array(c, f.type) for c, f in zip(columns, FOUND, strict=True)], schema=FOUND), texts)


def _excerpts(texts: Any, docs: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[str]:
    """How each place begins."""
    data, offsets = string_buffers(texts)
    firsts = offsets[docs] + starts
    lasts = firsts + np.minimum(stops - starts, 4 * EXCERPT)
    places = zip(firsts.tolist(), lasts.tolist(), strict=True)
    return [data[first:last].tobytes().decode(errors="ignore")[:EXCERPT] for first, last in places]


class Summary:
    """Counts over batches, by benchmark."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.n_documents = self.n_contaminated = 0
        self._docs: Counter[str] = Counter()
        self._open: set[tuple[Any, ...]] = set()  # what was counted of the last document, of which more may follow
        self._items: dict[str, dict[str, set[str]]] = {}

    def add(self, found: Found) -> None:
        """Count what was found in a batch."""
        self.n_documents += len(found.texts)
        self.n_contaminated += int(found.contaminated().sum())
        self._open = set()
        self.add_rows(found.table, ["doc"])

    def add_rows(self, table: pa.Table, document: Sequence[str]) -> None:
        """Count rows of `FOUND`, whose documents some columns name; those of one document follow each other."""
        rows = table.select([*document, "benchmark", "item", "kind"]).to_pylist()
        docs = {(row["benchmark"], *(row[name] for name in document)) for row in rows}
        self._docs.update(benchmark for benchmark, *_ in docs - self._open)
        if rows:
            last = tuple(rows[-1][name] for name in document)
            self._open = {doc for doc in docs | self._open if doc[1:] == last}
        for row in rows:
            self._items.setdefault(row["benchmark"], {}).setdefault(row["kind"], set()).add(row["item"])

    def as_dict(self) -> dict[str, Any]:
        """``n_documents``, ``n_contaminated``, and by benchmark what was found and what could not be looked for."""
        sizes = Counter(self.index.benchmarks)
        return {
            "n_documents": self.n_documents,
            "n_contaminated": self.n_contaminated,
            "benchmarks": {name: self._of(name, sizes[name]) for name in sorted(sizes)},
        }

    def _of(self, name: str, n_items: int) -> dict[str, Any]:
        kinds = self._items.get(name, {})
        undecidable = self.index.undecidable.get(name, ())
        return {
            "n_items": n_items,
            "n_documents": self._docs[name],
            "n_items_found": len(set().union(*kinds.values())),
            **{f"n_items_{kind}": len(kinds.get(kind, ())) for kind in KINDS[1:]},
            "n_boilerplate": self.index.n_boilerplate.get(name, 0),
            "n_undecidable": len(undecidable),
            "undecidable": list(undecidable[:SOME]),
        }
