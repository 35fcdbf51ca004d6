"""The documents of a batch: id, text, length, and the columns that travel with the scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.features.edits import edited
from curate.features.vectors import ColumnVectors
from curate.io.corpus import Corpus, Partition
from curate.io.formats import BadRow, Batch, Lines, parse, raise_bad, read_raw, with_missing
from curate.kernels.text import one_chunk

RESERVED = ("doc_id", "score", "n_tokens", "n_bytes", "path", "row", "reason")


@dataclass(frozen=True)
class Documents:
    """Some documents of a partition, as columns of equal length."""

    ids: pa.Array
    rows: np.ndarray  # int64, 0-based in the file
    texts: pa.Array  # string or large_string, no nulls
    has_text: np.ndarray
    n_bytes: np.ndarray  # int64, of the text in UTF-8
    carried: dict[str, pa.Array]
    bad: list[BadRow]
    vectors: np.ndarray | None = None  # float32[n_docs, dim], of the column that was asked for
    reasons: pa.Array | None = None  # why cleaning removes a document, null where it does not; None: of none
    typed: Mapping[str, pa.Array] = field(default_factory=dict)  # columns of any type, as they were asked for

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: np.ndarray) -> Documents:
        """Those for which bool[n_docs] is true; bad rows stay."""
        if mask.all():
            return self
        keep = pa.array(mask)
        texts = self.texts.cast(pa.large_string()) if pa.types.is_string_view(self.texts.type) else self.texts
        return Documents(
            self.ids.filter(keep),
            self.rows[mask],
            texts.filter(keep),
            self.has_text[mask],
            self.n_bytes[mask],
            {name: column.filter(keep) for name, column in self.carried.items()},
            self.bad,
            None if self.vectors is None else self.vectors[mask],
            None if self.reasons is None else self.reasons.filter(keep),
            {name: column.filter(keep) for name, column in self.typed.items()},
        )

    @property
    def remaining(self) -> Documents:
        """Those that cleaning does not remove."""
        if self.reasons is None:
            return self
        return self.where(pc.is_null(self.reasons).to_numpy(zero_copy_only=False))


def raw_batches(
    corpus: Corpus, partition: Partition, carry: Sequence[str], batch_bytes: int, *, whole_rows: bool = False
) -> Iterator[Batch | Lines]:
    """Batches with what `documents` needs, not yet parsed; with ``whole_rows`` all other columns too."""
    columns = None if whole_rows else [corpus.text_column, corpus.id_column, *carry]
    return read_raw(corpus, partition, columns, batch_bytes=batch_bytes)


def documents(
    corpus: Corpus,
    partition: Partition,
    raw: Batch | Lines,
    carry: Sequence[str],
    vectors: str | None = None,
    typed: Sequence[str] = (),
) -> Documents:
    """Parse a batch and name its documents; ``vectors``: a column that holds some; ``typed``: such as stay as they are.

    A document without an id is ``<name of its file>#<row>``. Texts are as cleaning leaves them.

    Raises
    ------
    InputError : a bad row, unless bad rows are quarantined; a text column that holds no text.
    """
    own = [corpus.text_column, corpus.id_column]
    columns = list(dict.fromkeys([*own, *carry, *([vectors] if vectors else []), *typed]))
    batch = parse(raw, columns)
    if batch.bad and corpus.on_bad_row == "raise":
        raise_bad(batch.bad[0])
    source = corpus.source(partition)
    table = with_missing(batch.table, columns)
    texts = _strings(table, corpus.text_column, source.path, strict=True)
    has_text = pc.is_valid(texts).to_numpy(zero_copy_only=False)
    texts = pc.fill_null(texts, "") if texts.null_count else texts
    reasons = None
    if corpus.cleaned is not None:
        verdicts = corpus.cleaned.of(partition).at(batch.rows)
        texts, reasons = edited(texts, verdicts["edits"]), one_chunk(verdicts["reason"])
    ids = _strings(table, corpus.id_column, source.path)
    missing = pc.equal(ids, "")
    if pc.any(missing).as_py():
        ids = pc.if_else(missing, None, ids)
    if ids.null_count:
        prefix = pa.scalar(f"{source.name}#", pa.large_string())
        rows = pa.array(batch.rows).cast(pa.large_string())
        ids = pc.coalesce(ids, pc.binary_join_element_wise(prefix, rows, pa.scalar("", pa.large_string())))
    n_bytes = pc.binary_length(texts).to_numpy().astype(np.int64)
    carried = {name: _strings(table, name, source.path) for name in carry}
    as_they_are = {name: one_chunk(table[name]) for name in typed}
    found = None
    if vectors:
        found = ColumnVectors(vectors)(_lists(table[vectors]), where=source.path, rows=batch.rows)
    return Documents(ids, batch.rows, texts, has_text, n_bytes, carried, batch.bad, found, reasons, as_they_are)


def _strings(table: pa.Table, name: str, path: str, *, strict: bool = False) -> pa.Array:
    """A column as strings; ``strict``: it must be text already."""
    column = one_chunk(table[name])
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_string(kind) and strict:
        return column  # 32-bit offsets will do: the kernel takes both
    if strict and not (pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)):
        raise InputError(f"{path}: column {name!r} is {kind}, not text; pass --text-column with the one that is")
    try:
        return column.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        values = [None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in column.to_pylist()]
        return pa.array(values, pa.large_string())


def _lists(column: Any) -> Any:
    """A column of lists of numbers; JSON and CSV have them as text. What is none stays as it is."""
    import polars as pl

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    try:
        return pl.Series(column).str.json_decode(pl.List(pl.Float64)).to_arrow()
    except pl.exceptions.PolarsError:
        return column


def score_schema(score_columns: Sequence[str], carry: Sequence[str]) -> pa.Schema:
    """Columns of the score table."""
    fields: list[tuple[str, Any]] = [("doc_id", pa.large_string())]
    fields += [(name, pa.float64()) for name in score_columns]
    fields += [("n_tokens", pa.int64()), ("n_bytes", pa.int64())]
    fields += [("path", pa.dictionary(pa.int32(), pa.large_string())), ("row", pa.int64()), ("reason", pa.string())]
    fields += [(name, pa.large_string()) for name in carry]
    return pa.schema(fields)
