"""Hand a curriculum over to other training loops: documents in files by group, and in what proportion to mix these."""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from curate.curriculum.mds import COMPRESSIONS, SHARD_BYTES, MdsSpec, MdsWriter, encodings
from curate.curriculum.mixes import COUNTS, MIXES, GroupFiles, Loader, clear_mixes, write_mixes
from curate.curriculum.split import (
    LEFT_OUT,
    NAMES_KEPT,
    ByColumn,
    ByTable,
    SplitJob,
    by_bytes,
    split_partition,
    tables_of_group,
    whole_schema,
)
from curate.engines import LocalEngine
from curate.engines.resources import Resources
from curate.errors import InputError, RunError, UsageError, unknown
from curate.io.columns import columns_of
from curate.io.corpus import Corpus, hash_file, scan
from curate.io.curriculum import CURRICULUM, GROUPS, Curriculum, read_curriculum
from curate.io.paths import atomic, folder_path, is_url, refuse_inputs_below
from curate.io.run import WORK, digest, of_run, read_json, write_json
from curate.io.schemas import loaded, to_lines
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.sampling.budget import parse_bytes
from curate.steps.fit import write_quarantine
from curate.steps.write import ROW_GROUP_BYTES, WriteSpec

FORMAT = 1
EXPORT = "export.json"  # the last file that is written: what has none is not complete
SPLITS = {"hf": ("parquet", "jsonl.zst"), "megatron": ("jsonl.zst",), "mds": ()}  # formats that a loader reads
NAME_LENGTH = 40


@dataclass(frozen=True)
class Exported:
    """What was handed over. ``left_out``: documents that are in no file, by reason; ``how``: lines that load it."""

    out: Path
    to: str
    groups: Mapping[str, GroupFiles]
    mixes: tuple[Path, ...]
    left_out: Mapping[str, int]
    unnamed: tuple[str, ...]  # some groups of documents that the curriculum does not name
    without_documents: tuple[str, ...]  # groups of the curriculum that were left out
    how: str = field(repr=False)


def export(
    curriculum: str | os.PathLike[str],
    shards: Paths,
    *,
    to: str,
    out: str | os.PathLike[str],
    stage: int | None = None,
    column: str | None = None,
    split_format: str | None = None,
    shard_size: str | int | None = None,
    compression: str | None = None,
    skip_empty: bool = False,
    seed: int = 0,
    text_column: str | None = None,
    id_column: str | None = None,
    on_bad_row: str | None = None,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    overwrite: bool = False,
    progress: bool | None = False,
) -> Exported:
    """Write the documents of each group to files of their own, and the weights as another loader reads them.

    What is there of the same documents and groups is kept: with other weights only these are written again. Files
    appear whole, ``export.json`` last; after a kill the same call goes on.

    Parameters
    ----------
    curriculum : folder, or its ``curriculum.parquet``. shards : files of documents, or the folder of a run.
    to : "hf" (``interleave.json`` for `datasets.interleave_datasets`), "megatron" (``blend.txt``) or "mds" (MDS
        shards and ``streams.json`` for MosaicML streaming).
    stage : the only one to write; by default each, to a file of its own when there are several.
    column : of the group; by default what the curriculum says, else ``groups.parquet`` beside it.
    split_format : "parquet" or "jsonl.zst". shard_size : bytes of text in a shard; of mds of all of it.
    compression : of mds: "none" or "zstd". skip_empty : leave out groups without documents.
    seed : of the mixing, which `datasets` does.

    Raises
    ------
    UsageError : weights of documents, a stage or column that is not there.
    InputError : a group that has weight and no document. RunError : ``out`` holds something else.
    """
    if to not in MIXES:
        raise unknown("loader", to, MIXES)
    made = read_curriculum(curriculum)
    asked = _stages(made, stage, curriculum)
    stages = [made.stage(i) for i in asked]
    names = list(dict.fromkeys(name for weights in stages for name in weights))
    spec = _spec(to, split_format, shard_size, compression)
    if is_url(os.fspath(out)):
        raise UsageError(f"--out {out}: must be a local folder; copy it afterwards")
    folder, shown, resources = Path(out), Progress(progress), Resources(workers, parse_bytes(memory_limit))
    _refuse_place(folder, to)
    recipe, shards, _ = of_run(shards, [])
    with LocalEngine(workers) as engine:
        refuse_inputs_below(folder, listed_paths(shards))
        corpus = scan(
            listed_paths(shards),
            text_column=text_column or recipe.get("text_column", "text"),
            id_column=id_column or recipe.get("id_column", "id"),
            on_bad_row=on_bad_row or recipe.get("on_bad_row", "raise"),
            over=engine.map,
        )
        where = _where(curriculum, made, column, corpus)
        wanted = np.array([any(weights.get(name, 0) > 0 for weights in stages) for name in names])
        by = where if isinstance(where, str) else hash_file(str(where))
        identity = [by, names, wanted.tolist(), to, spec_identity(spec)]
        key = digest([FORMAT, [corpus.identity(p) for p in corpus.partitions], identity])
        done = _begin(folder, key, overwrite)
        if done is None:
            large = pa.array(names, pa.large_string())
            membership = ByColumn(where, large) if isinstance(where, str) else ByTable.read(where, large)
            split = SplitJob(corpus, membership, wanted, folder / WORK, key, resources.batch_bytes(engine))
            done = _written(_Job(split, names, folder_names(names), spec, folder), engine, shown, skip_empty)
    groups = {name: GroupFiles(**(of | {"files": tuple(of["files"])})) for name, of in done["groups"].items()}
    without = _empty([n for n, w in zip(names, wanted, strict=True) if w], groups, done["unnamed"], skip_empty)
    text = {name: of.bytes / max(of.documents, 1) for name, of in groups.items()}
    counted = [made.shares(i, COUNTS[to], text) for i in asked]
    mixes = [_shared({n: w for n, w in weights.items() if w > 0 and n in groups}) for weights in counted]
    form = spec.format if isinstance(spec, WriteSpec) else to
    loader = Loader(to, folder, groups, corpus.text_column, form, seed)
    files = write_mixes(loader, mixes)
    write_json(folder / EXPORT, done | {"complete": True})
    shutil.rmtree(folder / WORK, ignore_errors=True)
    unnamed = tuple(done["unnamed"])
    return Exported(folder, to, groups, files, done["left_out"], unnamed, tuple(without), loader.how(files[0]))


# ---- what is asked


def _stages(made: Curriculum, stage: int | None, path: str | os.PathLike[str]) -> list[int]:
    if made.unit != "group":
        raise UsageError(
            f"{path}: weights of documents; other loaders mix groups: give weights to groups, or train with "
            "the loader of curate.torch, which takes these"
        )
    if stage is None:
        return list(range(made.n_stages))
    if not 0 <= stage < made.n_stages:
        raise UsageError(f"--stage {stage}: {path} has stages 0 to {made.n_stages - 1}")
    return [stage]


def _spec(to: str, split_format: str | None, shard_size: str | int | None, compression: str | None) -> Any:
    """`MdsSpec`, or `WriteSpec` for the others."""
    if to == "mds":
        if split_format:
            raise UsageError(f"--split-format {split_format}: mds has its own; leave it out")
        if compression not in (None, *COMPRESSIONS):
            raise unknown("compression", str(compression), COMPRESSIONS)
        size = SHARD_BYTES if shard_size is None else parse_bytes(shard_size)
        return MdsSpec(size, None if compression == "none" else compression)
    if compression:
        raise UsageError(f"--compression {compression}: is of mds; the shards for {to} are compressed as they are")
    form = split_format or SPLITS[to][0]
    if form not in SPLITS[to]:
        readable = " or ".join(SPLITS[to])
        raise UsageError(f"--split-format {form}: {to} does not read that; pass {readable}, or nothing")
    return WriteSpec(form) if shard_size is None else WriteSpec(form, parse_bytes(shard_size))


def spec_identity(spec: MdsSpec | WriteSpec) -> list[Any]:
    """What of it determines bytes."""
    return [type(spec).__name__, *(str(getattr(spec, name)) for name in spec.__dataclass_fields__)]


def _refuse_place(folder: Path, to: str) -> None:
    """Some places cannot be written to, or read from."""
    if to == "megatron" and re.search(r"\s", str(folder)):
        raise UsageError(f"--out {folder}: Megatron cuts its list of paths at spaces; choose a folder without any")


def _where(path: str | os.PathLike[str], made: Curriculum, column: str | None, corpus: Corpus) -> Path | str:
    """Where it stands which group a document is in: a table, or the name of a column."""
    column = column or made.about.get("column")
    if column:
        if column not in (there := columns_of(corpus)):
            raise unknown("column of the documents", column, there)
        return column
    place = folder_path(path)
    table = place / GROUPS if place.is_dir() else place.parent / GROUPS
    if table.is_file():
        return table
    raise UsageError(
        f"{path}: does not say which group a document is in; pass --column with the column of the documents that does, "
        f"or put a {GROUPS} with doc_id and group beside {CURRICULUM}"
    )


# ---- the files of the groups


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """A name for a folder for each group: itself where it is plain, else what is plain of it and a hash.

    Names have ``a-z 0-9 . _ -`` only and differ whatever their case; each depends on its group alone.
    """
    found = {name: _folder_name(name) for name in names}
    assert len(set(found.values())) == len(found), "two groups with one hash of 64 bits"
    return found


def _folder_name(name: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower())[:NAME_LENGTH].strip("._-")
    if plain and plain == name and not re.search(r"-[0-9a-f]{16}$", name):
        return name
    return f"{plain or 'group'}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class _Job:
    split: SplitJob
    names: Sequence[str]
    folders: Mapping[str, str]  # by name
    spec: MdsSpec | WriteSpec
    out: Path


def _begin(folder: Path, key: str, overwrite: bool) -> dict[str, Any] | None:
    """Make the folder ready, or refuse; what is there when it is all there."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; choose a folder")
    before = read_json(folder / EXPORT)
    ours = isinstance(before, dict) and {"key", "complete"} <= before.keys()
    if not ours and folder.exists() and any(not p.name.endswith(".part") for p in folder.iterdir()):
        raise RunError(f"{folder}: holds files that are not an export of curate; choose another folder")
    for stray in folder.rglob(".*.part"):
        stray.unlink(missing_ok=True)
    if before is not None and before["key"] == key and before["complete"]:
        files = (folder / of["folder"] / name for of in before["groups"].values() for name in of["files"])
        if all(file.is_file() for file in files):
            return {name: value for name, value in before.items() if name != "complete"}
    if before is not None and before["key"] != key and not overwrite:
        raise RunError(f"{folder}: holds other documents, groups or formats; pass --overwrite, or another --out")
    started = {"key": key, "complete": False}
    if before is not None and (before["key"] != key or "clearing" in before):
        write_json(folder / EXPORT, started | {"clearing": True})  # killed from here on, it goes on clearing
        for name in ("groups", "mds", WORK):
            shutil.rmtree(folder / name, ignore_errors=True)
    clear_mixes(folder)
    write_json(folder / EXPORT, started)
    return None


def _written(job: _Job, engine: LocalEngine, shown: Progress, skip_empty: bool) -> dict[str, Any]:
    """Split the corpus and write the files of each group; returns what ``export.json`` says."""
    parts = _split(job.split, engine, shown)
    there = {job.names[int(place)] for part in parts for place in part["groups"]}
    unnamed = list(dict.fromkeys(name for part in parts for name in part["unnamed"]))[:NAMES_KEPT]
    _empty([n for n, wanted in zip(job.names, job.split.wanted, strict=True) if wanted], there, unnamed, skip_empty)
    write_quarantine(job.out / "quarantine.parquet", parts)
    schema, nulls = whole_schema(parts), {name for part in parts for name in part["nulls"]}
    for part in parts:
        if part["groups"]:  # what it lacks is null there
            nulls |= set(schema.names) - set(loaded(part["schema"]).names)
    places = [place for place, name in enumerate(job.names) if name in there]
    files: dict[int, dict[str, Any]] = {}
    with shown.stage("write", len(places), in_bytes=False) as stage:
        for place, one in engine.each(partial(_write_group, job, parts, schema, frozenset(nulls)), places):
            files[place] = one
            stage.advance(1)
    return {
        "key": job.split.key,
        "groups": {job.names[place]: files[place] for place in places},
        "left_out": {reason: sum(part["left_out"][reason] for part in parts) for reason in LEFT_OUT},
        "unnamed": unnamed,
    }


def _split(split: SplitJob, engine: LocalEngine, shown: Progress) -> list[dict[str, Any]]:
    """What `split_partition` found, by partition."""
    split.folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, dict[str, Any]] = {}
    with shown.stage("split", sum(p.n_bytes for p in split.corpus.partitions)) as stage:
        for partition, one in engine.each(partial(split_partition, split), split.corpus.partitions):
            found[partition.index] = one
            stage.advance(partition.n_bytes)
    return [found[p.index] for p in split.corpus.partitions]


def _empty(wanted: Sequence[str], there: Collection[str], unnamed: Sequence[str], skip: bool) -> list[str]:
    """The groups that have weight and no documents.

    Raises
    ------
    InputError : there are some and they are not to be left out, or there are no others.
    """
    empty = [name for name in wanted if name not in there]
    if empty and (not skip or len(empty) == len(wanted)):
        near = difflib.get_close_matches(empty[0], unnamed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        some = ", ".join(map(repr, unnamed[:5]))
        others = f" (groups of documents that it does not name: {some})" if unnamed else ""
        way = "; name the groups as the documents do" if len(empty) == len(wanted) else ", or pass --skip-empty"
        raise InputError(
            f"{len(empty):,} of {len(wanted):,} groups with weight have no documents: {empty[0]!r}{hint}{others}{way}"
        )
    return empty


def _shared(weights: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    if total <= 0:
        raise InputError("a stage is left without a group that has documents; pass --stage for another")
    return {name: weight / total for name, weight in weights.items()}


def _write_group(
    job: _Job, parts: Sequence[dict[str, Any]], schema: pa.Schema, nulls: frozenset[str], place: int
) -> dict[str, Any]:
    """Write the files of a group, unless that is done; returns what `GroupFiles` holds."""
    marker = job.split.folder / f"group-{place}.json"
    done = read_json(marker)
    if done and done["key"] == job.split.key:
        return done["found"]
    folder = f"{'mds' if isinstance(job.spec, MdsSpec) else 'groups'}/{job.folders[job.names[place]]}"
    tables = tables_of_group(job.split, parts, place, schema)
    if isinstance(job.spec, MdsSpec):
        writer = MdsWriter(job.out / folder, encodings(schema, nulls), job.spec)
        for table in tables:
            writer.write(table)
        files = writer.close()
    else:
        files = _write_shards(tables, job.out / folder, job.spec, schema, job.split.corpus.text_column)
    of = [part["groups"][str(place)] for part in parts if str(place) in part["groups"]]
    counts = {name: sum(one[name] for one in of) for name in ("documents", "bytes")}
    found = {"folder": folder, **counts, "files": files}
    write_json(marker, {"key": job.split.key, "found": found})
    return found


def _write_shards(
    tables: Iterator[pa.Table], folder: Path, spec: WriteSpec, schema: pa.Schema, text_column: str
) -> list[str]:
    """Write shards of a group; returns their names."""
    names: list[str] = []
    for pieces in _shards(by_bytes(tables, text_column, ROW_GROUP_BYTES), spec.shard_bytes):
        names.append(f"part-{len(names):05d}.{spec.format}")
        with atomic(folder / names[-1]) as part:
            if spec.format == "parquet":
                with pq.ParquetWriter(part, schema, compression="zstd", compression_level=3) as writer:
                    for table in pieces:
                        writer.write_table(table, row_group_size=table.num_rows)
            else:
                compressor = zstandard.ZstdCompressor(level=3)
                with open(part, "wb") as file, compressor.stream_writer(file) as sink:
                    for table in pieces:
                        sink.write(to_lines(table))
    return names


def _shards(pieces: Iterator[tuple[pa.Table, int]], limit: int) -> Iterator[Iterator[pa.Table]]:
    """Row groups, those of a shard together; each shard must be read to its end before the next."""
    waiting = next(pieces, None)

    def shard() -> Iterator[pa.Table]:
        nonlocal waiting
        used = 0
        while waiting is not None and (not used or used + waiting[1] <= limit):
            used += waiting[1]
            yield waiting[0]
            waiting = next(pieces, None)

    while waiting is not None:
        yield shard()
