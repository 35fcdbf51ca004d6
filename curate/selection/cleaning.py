"""Cleaning: what is removed of raw, or put otherwise, before anything is fitted; and the guard that is before it.

What is found of each document is written first, with the duplicates and the matches that users may look at. Only when
that is no more than may be removed, files say what is done with which row: all that reads raw afterwards goes by them.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.decontamination import Index, Summary, benchmark_name, read_items
from curate.engines import Engine
from curate.engines.allocator import BASE_BYTES
from curate.engines.resources import Resources
from curate.errors import InputError, RemovalError, RunError, UsageError, unknown
from curate.features.vectors import EncoderVectors
from curate.filters import Filters
from curate.io.cleaned import VERDICTS, Cleaned, Verdicts
from curate.io.corpus import Corpus, Partition, hash_file, scan
from curate.io.paths import find, is_remote, linked, remove_tree
from curate.io.run import (
    CLEANED,
    CONTAMINATION,
    DUPLICATES,
    SIGNED,
    WORK,
    RunFolder,
    digest,
    of_run,
    read_json,
    write_json,
)
from curate.io.scratch import scratch_folder
from curate.io.tables import TableWriter, batches, schema_of, write_table
from curate.io.targets import listed_paths
from curate.progress import Progress
from curate.selection.asked import ScoringSpec
from curate.steps.clean import FORMAT, SOURCE, CleanJob, CleanSpec, Sources, look_partition
from curate.steps.dedupe import GONE, Dedup, Member, Wanted, write_kept
from curate.steps.write import shard_number

MAX_REMOVED = 0.5
MaxRemoved = float | Mapping[str, float]
FEW = 10  # removals: a source of which fewer go is not guarded by itself
SHOWN = 5  # sources in a message
Each = Callable[..., list[Any]]


class Cleaning:
    """Cleaning in the folder of a run. ``each``: applies a step to partitions, as `Session` does."""

    def __init__(self, folder: RunFolder, resources: Resources, engine: Engine, progress: Progress, each: Each) -> None:
        self.folder, self.resources, self.engine, self.progress, self._each = folder, resources, engine, progress, each
        self.there = folder.scores.parent
        self.work = folder.work / "clean"
        self._others: dict[str, Corpus] = {}  # that raw is compared with, by path

    # ---- what it is called

    def named(self, job: ScoringSpec, corpus: Corpus, columns: list[str]) -> Corpus:
        """The corpus as it will be when it is cleaned, where that is asked for. ``columns``: that it has.

        Raises
        ------
        UsageError : it has no such column.
        """
        spec = job.cleaning
        if not spec:
            return corpus
        if spec.filters is not None:
            Filters(spec.filters, columns)
        vectors = spec.dedup.vectors if spec.dedup is not None else None
        for column in [*spec.columns, *([vectors] if vectors else [])]:
            if column not in columns:
                raise unknown("column to clean by", column, columns)
        key = self._key(spec, corpus, _carry(columns))
        return replace(corpus, cleaned=Cleaned(str(self.there / CLEANED), key))

    def _key(self, spec: CleanSpec, corpus: Corpus, carry: tuple[str, ...]) -> str:
        """What a corpus is cleaned by, with what is in the files that it is compared with."""
        found: dict[str, Any] = {}
        if spec.decontaminate is not None:
            items = spec.decontaminate.benchmarks().items()
            sources = [(name, source) for name, paths in items for path in paths for source in find([path])[0]]
            hashes = self.engine.map(hash_file, [source.path for _, source in sources])
            found["items"] = [
                [name or benchmark_name(source.path), source.name, sha256]
                for (name, source), (_, sha256) in zip(sources, hashes, strict=True)
            ]
        if spec.dedup is not None:
            others = (self._other(path, corpus) for path in spec.dedup.against)
            found["others"] = [[other.identity(partition) for partition in other.partitions] for other in others]
            if spec.dedup.encoder is not None:
                found["encoder"] = EncoderVectors(spec.dedup.encoder).identity()
        return digest([FORMAT, spec.identity(), found, carry])

    # ---- doing it

    def clean(self, spec: CleanSpec, corpus: Corpus, max_removed: MaxRemoved) -> None:
        """Find what is to be removed of a corpus, or put otherwise, unless that is done.

        Raises
        ------
        RemovalError : more than it may be; what was found is kept for the next try.
        """
        key, noted = _key_of(corpus), read_json(self._noted)
        done = noted is not None and noted["key"] == key
        found = noted["found"] if done else self._found(spec, corpus, key, Place(self.there))
        guard(found, max_removed, str(self.folder.path))
        if not done:
            self._settle(corpus, corpus.partitions)
            self._note(key, found, max_removed)
        remove_tree(self.work, ignore_errors=True)

    def clean_new(
        self,
        spec: CleanSpec,
        corpus: Corpus,
        since: int,
        former: Path,
        found: Mapping[str, Any],
        max_removed: MaxRemoved | None,
    ) -> Any:
        """The same for partitions from number ``since`` on, which came to those that are cleaned.

        What is new is compared with what was kept of the others, which stays. It stands apart until `install`; returns
        how much there is to remove of all.

        Parameters
        ----------
        former : folder with what was found of the others, which is ``found`` in numbers.
        max_removed : None: as much as might be removed of the others.

        Raises
        ------
        RemovalError : more than it may be.
        """
        grown = self._found(spec, corpus, _key_of(corpus), Place(self.work / "grown", since, former, found))
        guard(grown, self._allowed(max_removed), str(self.folder.path), f"{WORK}/clean/grown/")
        self._settle(corpus, corpus.partitions[since:])
        return grown

    def install(self, corpus: Corpus, found: Mapping[str, Any], max_removed: MaxRemoved | None) -> None:
        """Put what `clean_new` has found in its place."""
        for name in (DUPLICATES, CONTAMINATION):
            if (self.work / "grown" / name).exists():
                linked(self.work / "grown" / name, self.there / name)
        for name in (CLEANED, SIGNED):
            for path in (self.there / name).glob("part-*.parquet"):
                if shard_number(str(path)) >= len(corpus.partitions):  # of an update that took in more and did not end
                    path.unlink()
        self._note(_key_of(corpus), found, self._allowed(max_removed))

    def _allowed(self, max_removed: MaxRemoved | None) -> MaxRemoved:
        """What may be removed; None: as much as before."""
        if max_removed is not None:
            return max_removed
        noted: MaxRemoved = read_json(self._noted)["max_removed"]
        return noted

    def noted(self) -> dict[str, Any]:
        """What is noted of a corpus that is cleaned; with what could be removed, where that is not as by default."""
        noted = read_json(self._noted)
        allowed = noted["max_removed"]
        return dict(noted["found"]) | ({} if allowed == MAX_REMOVED else {"max_removed": allowed})

    @property
    def _noted(self) -> Path:
        return self.there / CLEANED / "cleaned.json"

    def _note(self, key: str, found: Mapping[str, Any], max_removed: MaxRemoved) -> None:
        write_json(self._noted, {"key": key, "found": found, "max_removed": max_removed})

    def _found(self, spec: CleanSpec, corpus: Corpus, key: str, place: Place) -> dict[str, Any]:
        """What there is to remove, in numbers; what it is is in files then.

        Raises
        ------
        InputError : files that raw is compared with are not what they were.
        """
        marker = self.work / "found.json"
        noted = read_json(marker)
        if noted is not None and noted["key"] == key:
            return dict(noted["found"])
        job, partitions = self._job(spec, corpus), corpus.partitions[place.since :]
        if not place.since and self._key(spec, corpus, job.carry) != job.key:  # of an update that is seen before
            raise InputError(
                f"{self.folder.path}: files that raw is compared with (against) have changed since it was scanned; run "
                "again, from the scan on"
            )
        remove_tree(self.work / "gone", ignore_errors=True)
        found: dict[str, Any] = {}
        index = None if spec.decontaminate is None else self._index(job)
        sources, masked = Sources(place.found.get("sources", {})), Counter(place.found.get("masked", {}))

        def take(part: Mapping[str, Any]) -> None:
            sources.merge(part["sources"])
            masked.update(part["masked"])

        self._each("clean", partial(look_partition, job), partitions, job.alone, taking=take)
        if index is not None:
            found["contamination"] = self._matches(job, index, place)
        if spec.filters is not None and spec.filters.mask:
            found["masked"] = dict(sorted(masked.items()))
        if spec.dedup is not None:
            found["duplicates"] = self._duplicates(job, sources, place)
        found = {"sources": sources.as_dict(), **found}
        write_json(marker, {"key": key, "found": found})
        return found

    def _job(self, spec: CleanSpec, corpus: Corpus) -> CleanJob:
        assert corpus.cleaned is not None
        from curate.io.columns import columns_of

        inside = self.engine.inside
        return CleanJob(
            replace(corpus, cleaned=None),
            spec,
            _carry(columns_of(corpus)),
            spec.columns,
            self.resources.batch_bytes(inside),
            inside,
            self.work,
            self.work / SIGNED,
            self.work / "benchmarks.npz",
            corpus.cleaned.key,
        )

    def _index(self, job: CleanJob) -> Index:
        """Index the evaluation items, for all who look."""
        assert job.spec.decontaminate is not None
        index = Index.build(read_items(job.spec.decontaminate), job.spec.decontaminate)
        index.save(job.index)
        return index

    def _matches(self, job: CleanJob, index: Index, place: Place) -> dict[str, Any]:
        """Gather the matches of all partitions into one file; returns what was found of each benchmark."""
        summary = Summary(index)
        new = map(job.matches, job.corpus.partitions[place.since :])
        (place.folder / CONTAMINATION).unlink(missing_ok=True)  # of what was there before: without rows there is none
        with TableWriter(place.folder / CONTAMINATION) as writer:
            for path in [*place.before(CONTAMINATION), *new]:
                for table in batches(path) if path.exists() else ():
                    writer.add(table)
                    summary.add_rows(table, ["path", "row"])
        return dict(summary.as_dict()["benchmarks"])

    def _duplicates(self, job: CleanJob, sources: Sources, place: Place) -> dict[str, Any]:
        """Find duplicates; what goes for that is added to what goes already."""
        assert job.spec.dedup is not None
        members = [Member(job, partition) for partition in job.corpus.partitions[place.since :]]
        members += self._kept(job, place.since)
        for i, path in enumerate(job.spec.dedup.against):
            members += self._existing(job, path, self.work / f"against-{i}")
        new = self.work / "duplicates.parquet"
        with self._local() as folder:
            memory, workers = self.resources.memory_limit - BASE_BYTES, self.engine.here.workers
            summary = Dedup(members, folder, memory, workers, self._on).find(new, self._gone)
        for table in batches(new, ["source", "reason"]):
            for row in table.group_by(["source", "reason"]).aggregate([([], "count_all")]).to_pylist():
                sources.count(row["source"], row["reason"], row["count_all"], new=False)
        files = [*place.before(DUPLICATES), new]
        write_table(place.folder / DUPLICATES, schema_of(new), (table for path in files for table in batches(path)))
        return _counted(place.found.get("duplicates", {}), summary)

    def _kept(self, job: CleanJob, since: int) -> list[Member]:
        """What was kept of the partitions before number ``since``, as a corpus that stays as it is."""
        folder = self.work / "kept"
        settled = replace(job, signatures=self.there / SIGNED)
        old = replace(job, folder=folder, signatures=folder / SIGNED)

        def kept(partition: Partition) -> Member:
            if not settled.signature(partition).exists():
                raise RunError(
                    f"{settled.signature(partition)}: the signatures of what was kept are gone, without which what "
                    "came cannot be compared with it; put them back, or select anew, with --overwrite"
                )
            verdicts = self.there / CLEANED / f"part-{partition.index:05d}.parquet"
            linked(verdicts, old.path(partition))
            write_kept(settled.signature(partition), verdicts, old.signature(partition))
            return Member(old, partition, against=True, own=True)

        return self.engine.here.map(kept, job.corpus.partitions[:since])

    def _existing(self, job: CleanJob, path: str, folder: Path) -> list[Member]:
        """The partitions of a corpus that stays as it is, signed; of a run that is what it kept."""
        corpus, job = self._other(path, job.corpus), replace(job, spec=CleanSpec(dedup=job.spec.dedup), columns=())
        other = replace(job, corpus=corpus, carry=(), folder=folder, signatures=folder / SIGNED)
        self._each("sign", partial(look_partition, other), corpus.partitions, other.alone, taking=lambda _: None)
        return [Member(other, partition, against=True) for partition in corpus.partitions]

    def _other(self, path: str, raw: Corpus) -> Corpus:
        """A corpus that raw is compared with; text and ids are in columns of the same names."""
        if path not in self._others:
            columns = {"text_column": raw.text_column, "id_column": raw.id_column}
            self._others[path] = scan(_files_of(path), **columns, over=self.engine.map)
        return self._others[path]

    def _gone(self, index: int) -> Path:
        """Of the rows of a partition that go as duplicates."""
        return self.work / "gone" / f"part-{index:05d}.parquet"

    @contextmanager
    def _local(self) -> Iterator[Path]:
        """A folder on this machine."""
        if is_remote(self.work):
            with scratch_folder() as folder:
                yield folder
            return
        yield self.work

    def _on(self, name: str, work: Callable[[Wanted], None], wanted: Iterable[Wanted], n_bytes: int) -> None:
        """Do work on documents of many partitions: elsewhere too, where others see the files that are made."""
        shared = not is_remote(self.work)
        engine: Engine = self.engine if shared else self.engine.here
        with self.progress.stage(name, n_bytes) as stage:
            for one, _ in engine.each(work, wanted, alone=lambda one: partial(work, one.alone())):
                stage.advance(one.member.partition.n_bytes)

    def _settle(self, corpus: Corpus, partitions: Sequence[Partition]) -> None:
        """Write down what is done with which row of each partition; from then on raw is read that way."""
        cleaned = corpus.cleaned
        assert cleaned is not None

        def settled(partition: Partition) -> None:
            name = f"part-{partition.index:05d}.parquet"
            settle(self.work / "looked" / name, self._gone(partition.index), cleaned.path(partition.index))
            (self.there / SIGNED / name).unlink(missing_ok=True)
            if (self.work / SIGNED / name).exists():
                linked(self.work / SIGNED / name, self.there / SIGNED / name)

        self.engine.here.map(settled, partitions)


@dataclass(frozen=True)
class Place:
    """Where what is found is written. Of an update: from which partition on, and what was found of those before.

    ``former``: folder of the files that tell it, ``found`` has it in numbers.
    """

    folder: Path
    since: int = 0
    former: Path | None = None
    found: Mapping[str, Any] = field(default_factory=dict)

    def before(self, name: str) -> list[Path]:
        """The file of that name that tells what was found before."""
        return [] if self.former is None else [self.former / name]


def _key_of(corpus: Corpus) -> str:
    """What a corpus is cleaned by, and what it was before."""
    assert corpus.cleaned is not None
    return digest([corpus.cleaned.key, [corpus.identity(partition) for partition in corpus.partitions]])


def _counted(before: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """The numbers of a dedup and of another one later, of what came."""
    if not before:
        return dict(new)
    found = {name: before.get(name, 0) + n for name, n in new.items()}
    largest = max(before["largest_cluster"], new["largest_cluster"])
    return found | {"against": before["against"], "documents": before["documents"] + new["documents"] - new["against"],
                    "largest_cluster": largest}  # fmt: skip


def _files_of(path: str) -> list[str]:
    """The files of a corpus, or of what a run has kept."""
    return listed_paths(of_run(path, None)[1])


def settle(looked: Path, gone: Path, out: Path) -> None:
    """Write the verdicts of one partition: what was found of each document, and which are duplicates."""
    found = pa.concat_tables([VERDICTS.empty_table(), *batches(looked)]).combine_chunks()
    duplicates = pa.concat_tables([GONE.empty_table(), *(batches(gone) if gone.exists() else [])]).combine_chunks()
    both = np.union1d(found["row"].to_numpy(), duplicates["row"].to_numpy()).astype(np.int64)
    before = Verdicts(found).at(both)
    at = np.searchsorted(duplicates["row"].to_numpy(), both)
    reason = duplicates["reason"].take(pa.array(at, mask=~np.isin(both, duplicates["row"].to_numpy())))
    columns = [pa.array(both), pc.coalesce(before["reason"], reason), before["edits"], before["tags"]]
    write_table(out, VERDICTS, [pa.table(columns, schema=VERDICTS)])


def _carry(columns: Sequence[str]) -> tuple[str, ...]:
    """Of the columns of raw the one that removals are counted by, where it is there."""
    return (SOURCE,) if SOURCE in columns else ()


def _added(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in several:
        for name, n in counts.items():
            total[name] = total.get(name, 0) + n
    return dict(sorted(total.items()))


# ---- the guard


def checked_share(value: MaxRemoved) -> dict[str, float]:
    """Shares that may be removed by source; "" is for all others, and for the corpus.

    Raises
    ------
    UsageError : it is no share.
    """
    shares = {"": MAX_REMOVED, **value} if isinstance(value, Mapping) else {"": value}
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise UsageError(f"--max-removed {name + '=' if name else ''}{share}: must be a share, 0 to 1")
    return shares


def guard(found: Mapping[str, Any], max_removed: MaxRemoved, place: str, below: str = "") -> None:
    """Refuse to remove more of the corpus, or of a source, than may be.

    A source of which fewer than `FEW` documents go is not looked at by itself. ``place``: the folder of the run, and
    ``below`` it what was found.

    Raises
    ------
    RemovalError : it would be.
    """
    shares = checked_share(max_removed)
    sources: Mapping[str, Mapping[str, Any]] = found["sources"]
    over = [source for source, of in sources.items() if source and _is_over(of, shares.get(source, shares[""]), FEW)]
    whole = _together(sources.values())
    if not over and not _is_over(whole, shares[""], 1):
        return
    told = [
        _told(f"source {source!r}", sources[source], shares.get(source, shares[""]))
        for source in sorted(over, key=lambda source: -_share(sources[source]))
    ]
    if _is_over(whole, shares[""], 1):
        told.insert(0, _told("the corpus", whole, shares[""]))
    more = f"; and {len(told) - SHOWN:,} more sources" if len(told) > SHOWN else ""
    way = "--max-removed 1"
    if over:
        way = f"--max-removed {shlex.quote(over[0])}=1 ({way}: whatever it is)"
    raise RemovalError(
        f"{place}: cleaning would remove more than {'; more than '.join(told[:SHOWN])}{more}. Nothing is "
        f"removed yet; look at {_evidence(found, below)} there, then change what is cleaned by, or allow it with {way}"
    )


def _is_over(of: Mapping[str, Any], share: float, few: int) -> bool:
    return sum(of["removed"].values()) >= few and _share(of) > share


def _share(of: Mapping[str, Any]) -> float:
    return float(sum(of["removed"].values()) / max(1, of["n_documents"]))


def _together(several: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of several sources as of one."""
    several = list(several)
    return {
        "n_documents": sum(of["n_documents"] for of in several),
        "n_bytes": sum(of["n_bytes"] for of in several),
        "removed": _added(of["removed"] for of in several),
    }


def _told(what: str, of: Mapping[str, Any], share: float) -> str:
    reasons = sorted(of["removed"].items(), key=lambda item: (-item[1], item[0]))
    why = ", ".join(f"{n:,} {reason}" for reason, n in reasons[:3])
    n = f"{sum(of['removed'].values()):,} of {of['n_documents']:,} documents"
    return f"{share:.0%} of {what}: {n}, {_share(of):.1%} ({why})"


def _evidence(found: Mapping[str, Any], below: str) -> str:
    """The files that say what would be removed."""
    files = {"duplicates": DUPLICATES, "contamination": CONTAMINATION}
    return " and ".join(below + file for name, file in files.items() if name in found) or f"{WORK}/clean/looked"
