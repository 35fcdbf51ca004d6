"""Evaluation items as they come out of files: their texts, field by field, their ids and their benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.decontamination.spec import DecontaminationSpec, benchmark_name
from curate.errors import InputError, unknown
from curate.io.corpus import scan
from curate.io.formats import read
from curate.kernels.text import one_chunk

IDS = ("id", "task_id", "question_id", "item_id", "uid")


@dataclass(frozen=True)
class Items:
    """Evaluation items. ``texts``: of each its fields, in their order; all four of equal length."""

    texts: Sequence[Sequence[str]]
    ids: Sequence[str]
    benchmarks: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of(cls, texts: Iterable[str], benchmark: str = "items") -> Items:
        """Items of one text each, numbered from 0."""
        fields = [[text] for text in texts]
        return cls(fields, [str(i) for i in range(len(fields))], [benchmark] * len(fields))


def read_items(spec: DecontaminationSpec) -> Items:
    """All items that a specification names, by benchmark, file and row.

    Raises
    ------
    InputError : a file is missing or damaged, or no column of it holds text. UsageError : a file lacks a field.
    """
    texts: list[list[str]] = []
    ids: list[str] = []
    benchmarks: list[str] = []
    for given, paths in spec.benchmarks().items():
        for path in paths:
            for benchmark, item_id, fields in _items(path, given, spec):
                texts.append(fields)
                ids.append(item_id)
                benchmarks.append(benchmark)
    return Items(texts, ids, benchmarks)


def _items(path: str, given: str, spec: DecontaminationSpec) -> Iterator[tuple[str, str, list[str]]]:
    """``(benchmark, id, fields)`` of the items of the files that a path names."""
    corpus = scan([path], text_column="")
    for partition in corpus.partitions:
        source = corpus.source(partition)
        as_read = replace(corpus, text_column="text") if source.format == "txt" else corpus
        for batch in read(as_read, partition, None):
            columns = {name: one_chunk(batch.table[name]) for name in batch.table.column_names}
            id_column = spec.id_column or next((name for name in IDS if name in columns), None)
            if id_column is not None and id_column not in columns:
                raise unknown(f"column of {source.path}", id_column, columns)
            ids = columns[id_column].to_pylist() if id_column else [None] * len(batch.rows)
            texts = [_strings(columns[name]) for name in _fields(columns, spec, id_column, source.path)]
            for row, item_id, values in zip(batch.rows.tolist(), ids, zip(*texts, strict=True), strict=True):
                fields = [text for text in values if text.strip()]
                name = f"{source.name}#{row}" if item_id is None else str(item_id)
                yield given or benchmark_name(source.path), name, fields


def _fields(columns: dict[str, Any], spec: DecontaminationSpec, id_column: str | None, path: str) -> list[str]:
    """The columns of items that are looked for."""
    for name in spec.fields:
        if name not in columns:
            raise unknown(f"column of {path}", name, columns)
    if spec.fields:
        return list(spec.fields)
    if "text" in columns and _holds_text(columns["text"].type):
        return ["text"]
    names = [name for name in columns if name != id_column and _holds_text(columns[name].type)]
    if not names:
        raise InputError(f"{path}: no column holds text (there are: {', '.join(columns)})")
    return names


def _holds_text(kind: Any) -> bool:
    """Whether strings are somewhere in a type."""
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_holds_text(kind.field(i).type) for i in range(kind.num_fields))
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _strings(column: Any) -> list[str]:
    """A column as texts; of a list or an object its strings, a line each. What is one word is a label, or a URL."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = pc.fill_null(column, "").to_pylist()
    else:
        texts = ["\n".join(_leaves(value)) for value in column.to_pylist()]
    return [text if not text.isascii() or len(text.split(None, 1)) == 2 else "" for text in texts]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
