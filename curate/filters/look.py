"""Which documents of a batch go by filters, why, and what is masked in the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate._optional import check_installed
from curate.errors import InputError, unknown
from curate.features.edits import Edits
from curate.filters.expressions import check_columns, columns_of, evaluated, expression
from curate.filters.language import UNKNOWN, languages
from curate.filters.pii import masked
from curate.filters.rules import keep, kind
from curate.filters.spec import FilterSpec
from curate.filters.statistics import STATISTICS, statistics
from curate.kernels.text import one_chunk

if TYPE_CHECKING:
    import polars as pl

OWN = ("kind", "language", "language_share", "language_reliable", "text")
"""Columns beside the statistics that rules of users can read; they hide a document's columns of these names."""


@dataclass(frozen=True)
class Filtered:
    """What filters say of a batch.

    ``reason`` : string[n_docs], the first rule that a document fails, null where it stays. ``edits`` : masks, of
    documents that stay. ``statistics`` : what was measured, one row a document, with ``kind`` and the language where
    they were looked at. ``counts`` : documents by reason. ``masked`` : masks by kind.
    """

    reason: pa.Array
    edits: Edits
    statistics: pl.DataFrame
    counts: Mapping[str, int]
    masked: Mapping[str, int]


class Filters:
    """The filters of a spec, made once for many batches; a document's result does not depend on the others.

    Parameters
    ----------
    spec : what is asked.
    columns : names of the documents' columns, where they are known, so that a rule that reads another is refused now.

    Attributes
    ----------
    columns : the documents' columns that `look` needs, sorted.

    Raises
    ------
    UsageError : a language that CLD2 does not know; a rule on a column that there is not.
    MissingExtraError : languages are asked for and pycld2 is not installed.
    """

    def __init__(self, spec: FilterSpec, columns: Iterable[str] | None = None) -> None:
        self.spec = spec
        self._rules = spec.chosen()
        self._where = [(name, of, expression(name, of)) for name, of in spec.where.items()]
        read = {column for *_, found in self._where for column in columns_of(found)}
        self._by_kind = spec.kinds == "auto"
        self._finds_kind = ((self._by_kind and bool(self._rules)) or "kind" in read) and not spec.kind_column
        self._finds_language = bool(spec.languages) or any(column.startswith("language") for column in read)
        wanted = {rule.statistic for rule in self._rules} | (read & set(STATISTICS))
        if self._finds_kind:
            wanted |= set(columns_of(kind()))
        self._statistics = [name for name in STATISTICS if name in wanted]
        own = {spec.kind_column} if spec.kind_column else set()
        self.columns = sorted(own | (read - set(STATISTICS) - set(OWN)))
        if self._finds_language:
            check_installed("pycld2", extra="lang", purpose="language identification")
            _check_languages(spec.languages)
        if columns is not None:
            self._check(columns)

    def _check(self, columns: Iterable[str]) -> None:
        known = set(columns)
        if self.spec.kind_column and self.spec.kind_column not in known:
            raise unknown("column", self.spec.kind_column, known)
        for name, condition, found in self._where:
            check_columns(name, condition, found, sorted({*STATISTICS, *OWN, *known}))

    def look(self, texts: Any, columns: Mapping[str, Any] | None = None, *, uncut: Any = None) -> Filtered:
        """What becomes of documents.

        Parameters
        ----------
        texts : Arrow array of strings; a null is the empty string. columns : arrays as long, those of `columns`.
        uncut : the texts as the files have them, in which masks are found, where something is cut out of ``texts``.

        Raises
        ------
        UsageError : a rule cannot be worked out on these columns.
        """
        import polars as pl

        texts, columns = one_chunk(texts), columns or {}
        if missing := [name for name in self.columns if name not in columns]:
            raise InputError(f"filters need the column {missing[0]!r} (there are: {', '.join(columns) or 'none'})")
        frame = self._measured(texts, columns)
        reason = pl.Series("reason", [None] * len(texts), pl.String)
        tests = self._tests(texts, frame, columns)
        for name, failed in tests:
            reason = reason.zip_with(reason.is_not_null() | ~failed, pl.Series([name]))
        edits, n_masked = self._masks(texts if uncut is None else one_chunk(uncut), reason)
        counts = Counter(reason.drop_nulls().to_list())
        return Filtered(
            reason.to_arrow().cast(pa.string()), edits, frame, {n: counts[n] for n, _ in tests if counts[n]}, n_masked
        )

    def _measured(self, texts: Any, columns: Mapping[str, Any]) -> pl.DataFrame:
        import polars as pl

        frame = statistics(texts, self._statistics)
        if self.spec.kind_column:
            labels = pl.Series("kind", columns[self.spec.kind_column]).cast(pl.String)
            frame = frame.with_columns(labels) if frame.width else labels.to_frame()
        elif self._finds_kind:
            frame = frame.with_columns(kind())
        return pl.concat([frame, languages(texts)], how="horizontal") if self._finds_language else frame

    def _tests(self, texts: Any, frame: pl.DataFrame, columns: Mapping[str, Any]) -> list[tuple[str, pl.Series]]:
        """Names of rules and the documents that fail them, in the order in which they are asked."""
        import polars as pl

        keeps = frame.select(keep(rule, self._by_kind).alias(rule.name) for rule in self._rules)
        found = [(rule.name, ~keeps[rule.name]) for rule in self._rules]
        if self.spec.languages:
            found += self._by_language(frame)
        if self._where:
            own = {name: pl.Series(name, columns[name]) for name in self.columns}
            frame = pl.DataFrame({**own, "text": pl.Series(texts)}).with_columns(frame.get_columns())
            found += [(name, evaluated(name, of, condition, frame)) for name, of, condition in self._where]
        return [
            (name, failed if len(failed) == len(texts) else failed.new_from_index(0, len(texts)))
            for name, failed in found
        ]

    def _by_language(self, frame: pl.DataFrame) -> list[tuple[str, pl.Series]]:
        language = frame["language"]
        is_unknown = language == UNKNOWN
        base = language.str.split("-").list.first()
        listed = language.is_in(self.spec.languages) | base.is_in(self.spec.languages)
        found = [
            ("language.other", ~listed & ~is_unknown),
            ("language.share", listed & (frame["language_share"] < self.spec.min_language_share)),
        ]
        return [*found, ("language.unknown", is_unknown)] if self.spec.unknown_language == "remove" else found

    def _masks(self, texts: Any, reason: pl.Series) -> tuple[Edits, dict[str, int]]:
        if not self.spec.mask:
            return Edits.of(()), {}
        stays = reason.is_null().arg_true().to_numpy().astype(np.int64)
        edits, counts = masked(texts.take(pa.array(stays)), self.spec.mask)
        return Edits(stays[edits.docs], edits.starts, edits.stops, edits.texts), counts


def _check_languages(codes: Iterable[str]) -> None:
    import pycld2

    known = {code for _, code in pycld2.LANGUAGES} - {UNKNOWN}
    for code in codes:
        if code not in known:
            raise unknown("language", code, known)
