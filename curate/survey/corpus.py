"""One pass over a corpus: sizes, lengths and sources of all documents, and a sample of whole documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.engines import LocalEngine
from curate.io.columns import columns_of
from curate.io.corpus import Corpus, Partition
from curate.kernels.text import one_chunk
from curate.metrics.weights import LengthHistogram
from curate.sampling.noise import TIE, keyed_hashes
from curate.steps.documents import Documents, documents, raw_batches
from curate.steps.holdout import held_out
from curate.steps.sample import FitSample
from curate.steps.scoretable import MAX_GROUPS, OTHER

SAMPLE_BYTES = 16_000_000  # 8 million n-grams: in 10,000 buckets their noise is 0.0006 nats
BATCH_BYTES = 4_000_000
SOURCE = "source"


@dataclass
class Survey:
    """What was found of a corpus.

    Exact, over all documents: ``n_documents``, ``n_empty`` (without text), ``n_bad_rows``, ``n_bytes``, ``lengths``
    (bytes) and ``sources`` (documents and bytes by value of the column ``source``, where there is one; of more than
    MAX_GROUPS values the last ones, in the order of their names, are one, OTHER).
    ``ids``, ``texts``: the sample, documents with text in the order of a hash of their ids; any of its beginnings is a
    uniform sample too. ``whole``: it is all of them.
    ``found``, ``found_sources``: texts and sources of the rows that were asked for, by partition and row.
    """

    name: str
    n_documents: int = 0
    n_empty: int = 0
    n_bad_rows: int = 0
    n_bytes: int = 0
    lengths: LengthHistogram = field(default_factory=LengthHistogram)
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    ids: Any = None
    texts: Any = None
    whole: bool = True
    found: dict[tuple[int, int], str] = field(default_factory=dict)
    found_sources: dict[tuple[int, int], str] = field(default_factory=dict)


@dataclass
class _Part:
    """What was found in one partition; ``sampled``: (level, id, text)."""

    survey: Survey
    sampled: list[pa.Table]


SAMPLED = pa.schema([("level", pa.int64()), ("id", pa.large_string()), ("text", pa.large_string())])


def survey(
    corpus: Corpus,
    name: str,
    engine: LocalEngine,
    *,
    sample_bytes: float = SAMPLE_BYTES,
    wanted: Mapping[int, np.ndarray] | None = None,
    holdout: float | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Survey:
    """Look at every document once.

    Parameters
    ----------
    sample_bytes : text of the sample, up to twice as much; all of the corpus when it has no more.
    wanted : int64[...] rows by partition, ascending, whose texts are wanted whole.
    holdout : share of a target's texts that is held out and not looked at (`steps.holdout`).
    advance : told the bytes of each partition that is done.

    Returns
    -------
    Survey : the same whatever the workers, and but for what was asked for (and ids that are places, where there are
        no others) whatever the cut and order of the files.

    Raises
    ------
    InputError : a bad row, unless bad rows are quarantined.
    """
    sample = FitSample(sample_bytes)
    carry = (SOURCE,) if SOURCE in columns_of(corpus) else ()
    whole, sampled, level = Survey(name), [SAMPLED.empty_table()], 0

    def look(partition: Partition) -> _Part:
        rows = None if wanted is None else wanted.get(partition.index)
        return _look(corpus, partition, carry, engine, sample, rows, holdout)

    for partition, part in engine.each(look, corpus.partitions):
        _merge(whole, part.survey)
        sampled += part.sampled
        if sample.lowest > level:
            level = sample.lowest
            sampled = [_at_least(table, level) for table in sampled]
        advance(partition.n_bytes)
    _keep_sample(whole, _at_least(pa.concat_tables(sampled), sample.lowest))
    whole.whole = sample.lowest == 0
    return whole


def _look(
    corpus: Corpus,
    partition: Partition,
    carry: tuple[str, ...],
    engine: LocalEngine,
    sample: FitSample,
    wanted: np.ndarray | None,
    holdout: float | None,
) -> _Part:
    part = _Part(Survey(""), [])

    def parse(raw: Any) -> tuple[Documents, np.ndarray]:
        docs = documents(corpus, partition, raw, carry)
        docs = docs if holdout is None else docs.where(~held_out(docs.texts, holdout))
        return docs, sample.of(docs.ids)

    for docs, levels in engine.pipeline(parse, raw_batches(corpus, partition, carry, BATCH_BYTES)):
        _count(part.survey, docs)
        sample.add(np.bincount(levels, docs.n_bytes, minlength=sample.n_levels).astype(np.int64))
        taken = (levels >= sample.lowest) & (docs.n_bytes > 0)
        if taken.any():
            mask = pa.array(taken)
            texts = docs.texts.filter(mask).cast(pa.large_string())
            part.sampled.append(pa.table([pa.array(levels[taken]), docs.ids.filter(mask), texts], schema=SAMPLED))
        if wanted is not None:
            for i in np.flatnonzero(np.isin(docs.rows, wanted)):
                place = partition.index, int(docs.rows[i])
                part.survey.found[place] = docs.texts[i].as_py()
                if SOURCE in docs.carried:
                    source = docs.carried[SOURCE][i].as_py()
                    part.survey.found_sources[place] = "" if source is None else str(source)
    return part


def _count(into: Survey, docs: Documents) -> None:
    into.n_documents += len(docs)
    into.n_empty += int((docs.n_bytes == 0).sum())
    into.n_bad_rows += len(docs.bad)
    into.n_bytes += int(docs.n_bytes.sum())
    into.lengths.add(docs.n_bytes)
    for values in docs.carried.values():
        into.sources = _added(into.sources, _sizes_by(values, docs.n_bytes))


def _merge(into: Survey, part: Survey) -> None:
    into.n_documents += part.n_documents
    into.n_empty += part.n_empty
    into.n_bad_rows += part.n_bad_rows
    into.n_bytes += part.n_bytes
    into.lengths.merge(part.lengths)
    into.sources = _added(into.sources, part.sources)
    into.found.update(part.found)
    into.found_sources.update(part.found_sources)


def _sizes_by(values: Any, n_bytes: np.ndarray) -> dict[str, dict[str, int]]:
    """Documents and bytes by value of a column; a missing one is ""."""
    coded = pc.fill_null(values, "").dictionary_encode()
    place = coded.indices.to_numpy()
    counts = zip(coded.dictionary.to_pylist(), np.bincount(place), np.bincount(place, n_bytes), strict=True)
    return {value: {"documents": int(n), "bytes": int(size)} for value, n, size in counts}


def _added(a: dict[str, dict[str, int]], b: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Sizes by value of both, sorted. Which values are OTHER goes by their names: no order of adding changes it."""
    named = sorted((a.keys() | b.keys()) - {OTHER})[:MAX_GROUPS]
    added = {value: {"documents": 0, "bytes": 0} for value in named}
    for sizes in (a, b):
        for value, size in sizes.items():
            into = added[value] if value in added else added.setdefault(OTHER, {"documents": 0, "bytes": 0})
            for unit, n in size.items():
                into[unit] += n
    return added


def _at_least(sampled: pa.Table, lowest: int) -> pa.Table:
    return sampled.filter(pc.greater_equal(sampled["level"], lowest))


def _keep_sample(of: Survey, sampled: pa.Table) -> None:
    ids, texts = (one_chunk(sampled[name]) for name in ("id", "text"))
    order = pa.array(_hash_order(ids, texts))
    of.ids, of.texts = ids.take(order), texts.take(order)


def _hash_order(ids: Any, texts: Any) -> np.ndarray:
    """int64[n]: by a hash of the id, then of the text, for ids that occur twice."""
    if not len(ids):
        return np.zeros(0, np.int64)
    return np.lexsort((keyed_hashes(texts, 0, TIE), keyed_hashes(ids, 0, TIE)))
