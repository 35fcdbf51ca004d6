"""Places in texts that are to be put otherwise: masked, or cut out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.io.cleaned import EDIT
from curate.kernels.text import one_chunk

__all__ = ["EDIT", "Edits", "edited", "edited_text"]


@dataclass(frozen=True)
class Edits:
    """Edits of the documents of a batch, sorted by document and place.

    ``docs`` : int64[n], which document of the batch. ``starts``, ``stops`` : int64[n], bytes of its text in UTF-8, at
    character boundaries, ``start <= stop``. ``texts`` : what comes there instead.
    """

    docs: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.docs)

    def __iter__(self) -> Iterator[tuple[int, int, int, str]]:
        """``(document, start, stop, text)`` of each."""
        return zip(self.docs.tolist(), self.starts.tolist(), self.stops.tolist(), self.texts, strict=True)

    @classmethod
    def of(cls, found: Iterable[tuple[int, int, int, str]]) -> Edits:
        """From ``(document, start, stop, text)`` in any order; of those that overlap one is made, as the first says."""
        merged: list[list[Any]] = []
        for doc, start, stop, text in sorted(found):
            if merged and merged[-1][0] == doc and start < merged[-1][2]:
                merged[-1][2] = max(stop, merged[-1][2])
            else:
                merged.append([doc, start, stop, text])
        columns = [list(column) for column in zip(*merged, strict=True)] or [[], [], [], []]
        docs, starts, stops = (np.array(column, np.int64) for column in columns[:3])
        return cls(docs, starts, stops, columns[3])

    def lists(self, n_docs: int) -> pa.Array:
        """``list<EDIT>[n_docs]``, null where a document has none."""
        counts = np.bincount(self.docs, minlength=n_docs)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        columns = [pa.array(self.starts), pa.array(self.stops), pa.array(self.texts, pa.large_string())]
        values = pa.StructArray.from_arrays(columns, fields=list(EDIT))
        return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=pa.array(counts == 0))


def edited(texts: Any, lists: Any) -> Any:
    """Texts, an Arrow array of strings, with the edits that `Edits.lists` has for each."""
    lists = one_chunk(lists)
    touched = pc.is_valid(lists)
    if not pc.any(touched).as_py():
        return texts
    texts = one_chunk(texts)
    there = zip(texts.filter(touched).to_pylist(), lists.filter(touched).to_pylist(), strict=True)
    changed = pa.array([edited_text(text or "", edits) for text, edits in there], texts.type)
    return pc.replace_with_mask(texts, touched, changed)


def edited_text(text: str, edits: Iterable[dict[str, Any]]) -> str:
    """One text with its edits, sorted and apart from each other."""
    data, pieces, at = text.encode(), [], 0
    for edit in edits:
        pieces += [data[at : edit["start"]], edit["text"].encode()]
        at = edit["stop"]
    return b"".join([*pieces, data[at:]]).decode()
