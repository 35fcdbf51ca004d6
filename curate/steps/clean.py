"""Clean: read raw once for what decontamination, filters and dedup have to know of each document."""

from __future__ import annotations

import unicodedata
from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.decontamination import DecontaminationSpec, Index, read_items
from curate.dedup import DedupSpec, Signer
from curate.dedup.spec import PREFER
from curate.engines.base import BatchEngine
from curate.errors import InputError, UsageError
from curate.features.digests import DIGEST
from curate.features.edits import Edits, edited
from curate.features.minhash import MAX_PERM
from curate.filters import Filters, FilterSpec
from curate.io.cleaned import VERDICTS, Cleaned
from curate.io.corpus import Corpus, Partition
from curate.io.run import digest, read_json, write_json
from curate.io.tables import UNIQUE, TableWriter
from curate.kernels.text import one_chunk
from curate.steps.documents import Documents, documents, raw_batches

FORMAT = 1  # of the files that these steps make
SOURCE = "source"  # the column by which removals are counted, and guarded
OTHER = "(others)"
SIGNATURES = (*UNIQUE, "digest", *(f"band_{i:02d}" for i in range(MAX_PERM)))  # columns whose values hardly repeat
MAX_SOURCES = 1_000  # that are told apart
FILES = ("against", "encoder")  # settings that say where files are
Asking = Mapping[str, Any] | bool | None  # how filters, dedup and decontamination are asked for


@dataclass(frozen=True)
class CleanSpec:
    """What is to be cleaned, and how; None for what is not."""

    filters: FilterSpec | None = None
    dedup: DedupSpec | None = None
    decontaminate: DecontaminationSpec | None = None

    @classmethod
    def of(cls, filters: Asking, dedup: Asking, decontaminate: Asking) -> CleanSpec:
        """From settings by name; True for all as it is by default.

        Raises
        ------
        UsageError : a setting that there is not, or that makes no sense.
        """
        return cls(
            _spec(FilterSpec, "filters", filters),
            _spec(DedupSpec, "dedup", dedup),
            _spec(DecontaminationSpec, "decontaminate", decontaminate),
        )

    def __bool__(self) -> bool:
        return any((self.filters, self.dedup, self.decontaminate))

    @property
    def steps(self) -> dict[str, Any]:
        """What is asked for, by step."""
        steps = {"filters": self.filters, "dedup": self.dedup, "decontaminate": self.decontaminate}
        return {name: spec for name, spec in steps.items() if spec is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of raw that rules and preferences go by."""
        found = [] if self.filters is None else list(Filters(self.filters).columns)
        if self.dedup is not None and self.dedup.prefer not in PREFER:
            found.append(self.dedup.prefer)
        return tuple(dict.fromkeys(found))

    def as_dict(self) -> dict[str, Any]:
        """All settings, by step."""
        return {name: spec.as_dict() for name, spec in self.steps.items()}

    def identity(self) -> dict[str, Any]:
        """What the result depends on beside files, wherever those are."""
        settings = self.as_dict()
        settings |= {name: spec.identity() for name, spec in self.steps.items() if name != "decontaminate"}
        steps = {name: {k: v for k, v in of.items() if k not in FILES} for name, of in settings.items()}
        return steps | {"unicode": unicodedata.unidata_version}

    def changed(self) -> dict[str, dict[str, Any]]:
        """The settings that are not as they are by default, by step."""
        found = {}
        for name, spec in self.steps.items():
            usual = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(spec)}
            given = spec.as_dict()
            found[name] = {key: given[key] for key in usual if getattr(spec, key) != usual[key]}
        return found


DUPLICATE_KINDS = ("exact", "near", "semantic")


def dedup_settings(kind: str) -> dict[str, bool]:
    """The settings of `DedupSpec` that a kind of duplicates stands for: it, and those that are easier to find."""
    return {name: i <= DUPLICATE_KINDS.index(kind) for i, name in enumerate(DUPLICATE_KINDS)}


def _spec(kind: Any, name: str, asked: Asking) -> Any:
    if asked is None or asked is False:
        return None
    if asked is True:
        return kind.from_settings({})
    if not isinstance(asked, Mapping):
        raise UsageError(f"{name}={asked!r}: must be settings by name, or true for all as it is by default")
    return kind.from_settings(asked)


@dataclass(frozen=True)
class CleanJob:
    """What looking at a partition needs to know. ``corpus``: as the files have it. ``key``: names all that is asked.

    ``carry``: the column of sources, where there is one. ``columns``: that rules and preferences go by. ``index``: file
    with the evaluation items.
    """

    corpus: Corpus
    spec: CleanSpec
    carry: tuple[str, ...]
    columns: tuple[str, ...]
    batch_bytes: int
    engine: BatchEngine
    folder: Path
    signatures: Path
    index: Path
    key: str

    def path(self, partition: Partition, ending: str = "parquet") -> Path:
        """Of what is found of a partition before its documents are compared with others."""
        return self.folder / "looked" / f"part-{partition.index:05d}.{ending}"

    @property
    def looked(self) -> Cleaned:
        """What is found of documents before they are compared with others, to read their texts by."""
        return Cleaned(str(self.folder / "looked"), self.key)

    def matches(self, partition: Partition) -> Path:
        """Of the evaluation items that are in it."""
        return self.folder / "matches" / f"part-{partition.index:05d}.parquet"

    def signature(self, partition: Partition) -> Path:
        """Of the signatures of its documents."""
        return self.signatures / f"part-{partition.index:05d}.parquet"

    def alone(self, partition: Partition, work: Work | None = None) -> Callable[[], Any]:
        """`look_partition`, or other ``work``, of one partition, to be sent elsewhere."""
        corpus, there = self.corpus.alone(partition)
        return partial(work or look_partition, replace(self, corpus=corpus), there)

    def key_of(self, partition: Partition) -> str:
        return digest(
            [FORMAT, "clean", self.key, list(self.carry), list(self.columns), self.corpus.identity(partition)]
        )


Work = Callable[[CleanJob, Partition], Any]


@dataclass(frozen=True)
class Looked:
    """What is found of a batch of documents.

    ``reasons``: why one is to go, null where it stays. ``edits``: of its text, and ``tags``, null where there are none.
    ``matches``: of evaluation items. ``signatures``: of those that stay. ``masked``: how much, by kind.
    """

    reasons: pa.Array
    edits: pa.Array
    tags: pa.Array
    matches: pa.Table | None
    signatures: pa.Table | None
    masked: Mapping[str, int]


@dataclass(frozen=True)
class Looking:
    """All that documents are looked at with."""

    spec: CleanSpec
    filters: Filters | None
    index: Index | None
    signer: Signer | None

    @classmethod
    def of(cls, spec: CleanSpec, index: Index | None = None) -> Looking:
        """``index``: of the evaluation items; None: it is made."""
        signer = None
        if spec.dedup is not None:
            signer = Signer(spec.dedup)
        if index is None and spec.decontaminate is not None:
            index = Index.build(read_items(spec.decontaminate), spec.decontaminate)
        return cls(spec, None if spec.filters is None else Filters(spec.filters), index, signer)

    def at(self, docs: Documents, path: str = "") -> Looked:
        """``path``: of the file that they are in, for messages."""
        n = len(docs)
        reasons, tags = pa.nulls(n, pa.string()), pa.nulls(n, pa.list_(pa.string()))
        edits: list[Edits] = []
        matches, signatures = None, None
        masked: Mapping[str, int] = {}
        texts = docs.texts
        if self.index is not None:
            spec = self.spec.decontaminate
            assert spec is not None
            found = self.index.find(docs.texts)
            reasons, matches = found.verdicts(spec), found.table
            if spec.mode == "cut":
                edits.append(found.cuts())
                texts = edited(texts, edits[0].lists(n))
            elif spec.mode == "tag":
                names = found.tags()
                tags = pc.if_else(pc.greater(pc.list_value_length(names), 0), names, None)
        if self.filters is not None:
            filtered = self.filters.look(texts, docs.typed, uncut=docs.texts)
            reasons = pc.coalesce(reasons, filtered.reason)
            edits.append(filtered.edits)
            masked = filtered.masked
        lists = merged(edits).lists(n)
        if self.signer is not None:
            stays = pc.is_null(reasons).to_numpy(zero_copy_only=False)
            left = replace(docs, texts=edited(docs.texts, lists)).where(stays & docs.has_text)
            signatures = signed(left, self.signer, path)
        return Looked(reasons, lists, tags, matches, signatures, masked)


@lru_cache(maxsize=1)
def _index(path: Path, key: str) -> Index:
    """The evaluation items, loaded once in a process. ``key`` names them: others may be at the same path."""
    return Index.load(path)


def look_partition(job: CleanJob, partition: Partition) -> dict[str, Any]:
    """Look at the documents of one partition, unless that is done; returns how many there are and what was found."""
    found: dict[str, Any] | None = read_json(job.path(partition, "json"))
    if found is None or found["key"] != job.key_of(partition):
        found = _look(job, partition)
        write_json(job.path(partition, "json"), found)
    return found


def _look(job: CleanJob, partition: Partition) -> dict[str, Any]:
    index = _index(job.index, job.key) if job.spec.decontaminate is not None else None
    looking, source = Looking.of(job.spec, index), job.corpus.source(partition)
    counts, masked = Sources(), Counter[str]()
    for path in (job.matches(partition), job.signature(partition)):
        path.unlink(missing_ok=True)  # of what was in its place before: without rows there is none

    def work(raw: Any) -> tuple[Documents, Looked]:
        docs = documents(job.corpus, partition, raw, job.carry, typed=job.columns)
        return docs, looking.at(docs, source.path)

    with ExitStack() as stack:
        verdicts = stack.enter_context(TableWriter(job.path(partition), VERDICTS))
        matches = stack.enter_context(TableWriter(job.matches(partition)))
        signatures = None
        if job.spec.dedup is not None:  # a partition without documents has a file too: one that is missing was lost
            schema = signature_schema(job.spec.dedup)
            signatures = stack.enter_context(TableWriter(job.signature(partition), schema, unique=SIGNATURES))
        raw = raw_batches(job.corpus, partition, [*job.carry, *job.columns], job.batch_bytes)
        for docs, looked in job.engine.pipeline(work, raw):
            verdicts.add(_verdicts(docs, looked))
            if looked.matches is not None:
                matches.add(_named(looked.matches, docs, source.name))
            if signatures is not None and looked.signatures is not None:
                signatures.add(looked.signatures)
            counts.add(docs, looked.reasons)
            masked.update(looked.masked)
    return {
        "key": job.key_of(partition),
        "sources": counts.as_dict(),
        "masked": dict(sorted(masked.items())),
    }


def _verdicts(docs: Documents, looked: Looked) -> pa.Table:
    """The documents that something is found of."""
    table = pa.table([docs.rows, looked.reasons, looked.edits, looked.tags], schema=VERDICTS)
    some = [pc.is_valid(column) for column in (looked.reasons, looked.edits, looked.tags)]
    return table.filter(pc.or_(some[0], pc.or_(some[1], some[2])))


def merged(several: list[Edits]) -> Edits:
    """Edits of several kinds of the same documents; where they overlap one is made of them."""
    there = [edits for edits in several if len(edits)]
    if len(there) == 1:
        return there[0]
    return Edits.of(edit for edits in there for edit in edits)


def _named(found: pa.Table, docs: Documents, name: str) -> pa.Table:
    """Matches with the names of their documents instead of places in the batch."""
    at = one_chunk(found["doc"].cast(pa.int64()))
    table = found.drop_columns(["doc"])
    path = pa.array([name] * len(found), pa.large_string())
    return pa.table(
        [docs.ids.take(at), path, pa.array(docs.rows).take(at), *table.columns],
        names=["doc_id", "path", "row", *table.column_names],
    )


def signature_schema(spec: DedupSpec) -> pa.Schema:
    """The columns of `signed`."""
    columns = [
        ("doc_id", pa.large_string()),
        ("row", pa.int64()),
        ("prefer", pa.float64()),
        ("source", pa.large_string()),
        ("digest", DIGEST),
        ("n_shingles", pa.int32()),
    ]
    return pa.schema([*columns, *((f"band_{i:02d}", pa.uint64()) for i in range(spec.banding[0] if spec.near else 0))])


def signed(docs: Documents, signer: Signer, path: str) -> pa.Table:
    """The signatures of documents, and what they are put in order by."""
    found = signer.sign(docs.texts)
    columns: dict[str, Any] = {
        "doc_id": docs.ids.cast(pa.large_string()),
        "row": docs.rows,
        "prefer": _preference(signer.spec.prefer, docs, path),
        "source": docs.carried.get(SOURCE, pa.nulls(len(docs), pa.large_string())),
        "digest": found.digest,
        "n_shingles": found.n_shingles,
    }
    columns |= {f"band_{i:02d}": np.ascontiguousarray(found.keys[:, i]) for i in range(found.keys.shape[1])}
    return pa.table(columns, schema=signature_schema(signer.spec))


def _preference(prefer: str, docs: Documents, path: str) -> pa.Array:
    """float64[n_docs], of duplicates the one with most of it stays; null where nothing says, as a blank cell of CSV.

    Raises
    ------
    InputError : the column that is asked for has no numbers.
    """
    if prefer in ("longest", "shortest"):
        return pa.array(docs.n_bytes * (1.0 if prefer == "longest" else -1.0))
    if prefer not in docs.typed:
        return pa.nulls(len(docs), pa.float64())
    column = docs.typed[prefer]
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: column {prefer!r} has no numbers to prefer documents by ({error})") from error


class Sources:
    """Documents, bytes and removals by source: of the first `MAX_SOURCES` by name, and of the rest together.

    So they are the same in whatever order, and in whatever parts, documents are counted.
    """

    def __init__(self, found: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> None:
        self._found: dict[str, dict[str, Any]] = {}
        self._names: list[str] = []  # sorted, those that are told apart
        self.merge(found)

    def add(self, docs: Documents, removed: pa.Array) -> None:
        """Count some documents, with the reason of each, null where it stays."""
        sources = pc.fill_null(docs.carried[SOURCE], "") if SOURCE in docs.carried else pa.array([""] * len(docs))
        table = pa.table({"source": sources, "reason": removed, "bytes": docs.n_bytes})
        grouped = table.group_by(["source", "reason"]).aggregate([("bytes", "sum"), ([], "count_all")])
        for row in sorted(grouped.to_pylist(), key=lambda row: (row["source"], row["reason"] or "")):
            self.count(row["source"], row["reason"], row["count_all"], row["bytes_sum"], new=True)

    def count(self, source: str | None, reason: str | None, n: int, n_bytes: int = 0, *, new: bool) -> None:
        """Count ``n`` documents of a source; ``new``: not counted before as such that stay."""
        of = self._of(source or "")
        if new:
            of["n_documents"] += n
            of["n_bytes"] += n_bytes
        if reason is not None:
            of["removed"][reason] = of["removed"].get(reason, 0) + n

    def merge(self, found: Mapping[str, Mapping[str, Any]]) -> Sources:
        """Add what was counted elsewhere."""
        for source, sizes in found.items():
            _add(self._of(source), sizes)
        return self

    def _of(self, source: str) -> dict[str, Any]:
        if source != OTHER and source not in self._found:
            if len(self._names) >= MAX_SOURCES and source > self._names[-1]:
                return self._of(OTHER)
            insort(self._names, source)
            if len(self._names) > MAX_SOURCES:
                _add(self._of(OTHER), self._found.pop(self._names.pop()))
        return self._found.setdefault(source, {"n_documents": 0, "n_bytes": 0, "removed": {}})

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """By source, in the order of their names."""
        return {
            source: of | {"removed": dict(sorted(of["removed"].items()))} for source, of in sorted(self._found.items())
        }


def _add(of: dict[str, Any], sizes: Mapping[str, Any]) -> None:
    of["n_documents"] += sizes["n_documents"]
    of["n_bytes"] += sizes["n_bytes"]
    for reason, n in sizes["removed"].items():
        of["removed"][reason] = of["removed"].get(reason, 0) + n
