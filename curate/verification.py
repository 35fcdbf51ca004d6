"""Check a finished run against its manifest: every hash, every count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import CurateError, RunError
from curate.io.corpus import hash_file
from curate.io.paths import reaching
from curate.io.run import SCORES_COMMIT, RunFolder, digest
from curate.io.tables import batches, count_rows, key_of, regrouped, schema_of
from curate.steps.scoretable import keys_of_parts


@dataclass(frozen=True)
class Verification:
    """What was checked, and what is wrong; ``problems`` is empty for a sound run."""

    out: Path
    n_checked: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(out: str | os.PathLike[str], *, inputs: bool = False) -> Verification:
    """Recheck the shards, the ledger and the scores of a run; with ``inputs`` the raw and target files too.

    Raises
    ------
    RunError : the folder holds no finished run.
    """
    folder = RunFolder(out)
    manifest = folder.manifest
    if manifest is None:
        again = f"curate select --update {out}" if folder.updating else "curate select again"
        raise RunError(f"{out}: no manifest.json, hence no finished run; run {again} to complete it")
    problems: list[str] = []
    n_checked = 0
    with reaching(folder.path):
        for check in _checks(folder, manifest, inputs):
            n_checked += 1
            if check:
                problems.append(check)
    return Verification(folder.path, n_checked, tuple(problems))


def _checks(folder: RunFolder, manifest: dict[str, Any], inputs: bool) -> Iterator[str | None]:
    """One item a check: None, or what is wrong."""
    stats = manifest["stats"]
    yield None if digest(manifest["recipe"]) == manifest["recipe_sha256"] else "manifest.json: the recipe was changed"
    for shard in manifest["shards"]:
        yield _file(folder.path / shard["path"], shard)
        if shard["path"].endswith(".parquet"):
            yield _rows(folder.path / shard["path"], shard["rows"])
    known = {s["path"] for s in manifest["shards"]}
    for path in sorted(folder.shards.iterdir()) if folder.shards.is_dir() else []:
        yield None if f"shards/{path.name}" in known else f"shards/{path.name}: not in the manifest"
    total = sum(s["rows"] for s in manifest["shards"])
    yield (
        None
        if total == stats["n_selected"]
        else f"shards hold {total:,} rows, the manifest says {stats['n_selected']:,}"
    )
    yield from _ledger(folder.path / "ledger.parquet", stats)
    yield from _scores(folder, stats)
    expected = stats["n_documents"]
    of_inputs = sum(i["rows"] for i in manifest["inputs"])
    yield None if of_inputs == expected else f"inputs: {of_inputs:,} rows in all, but {expected:,} documents"
    if inputs:
        for entry in [*manifest["inputs"], *manifest["targets"]]:
            yield _file(entry["path"], entry)


def _file(path: Path | str, entry: dict[str, Any]) -> str | None:
    try:
        size, sha256 = hash_file(str(path))
    except CurateError as error:
        return str(error)
    if size != entry["bytes"]:
        return f"{path}: {size:,} bytes, the manifest says {entry['bytes']:,}"
    return None if sha256 == entry["sha256"] else f"{path}: other content than the manifest says (SHA-256)"


def _rows(path: Path, expected: int) -> str | None:
    try:
        rows = count_rows(path)
    except (OSError, pa.ArrowInvalid) as error:
        return f"{path}: not Parquet ({str(error).splitlines()[0]})"
    return None if rows == expected else f"{path}: {rows:,} rows, the manifest says {expected:,}"


def _ledger(path: Path, stats: dict[str, Any]) -> Iterator[str | None]:
    try:
        rows = kept = 0
        weight = 0.0
        for table in batches(path, ["kept", "weight"]):
            rows += table.num_rows
            kept += pc.sum(table["kept"]).as_py() or 0
            weight += pc.sum(table["weight"]).as_py() or 0.0
    except (OSError, pa.ArrowInvalid) as error:
        yield f"{path}: cannot be read ({str(error).splitlines()[0]})"
        return
    yield None if rows == stats["n_documents"] else f"{path}: {rows:,} rows for {stats['n_documents']:,} documents"
    yield None if kept == stats["n_selected"] else f"{path}: {kept:,} kept, the manifest says {stats['n_selected']:,}"
    yield None if abs(weight - 1) < 1e-6 else f"{path}: weights sum to {weight:.6f}, not 1"


def _scores(folder: RunFolder, stats: dict[str, Any]) -> Iterator[str | None]:
    """The score table: its rows, and that the ledger speaks of the same documents and scores."""
    parts = sorted(folder.scores.glob("part-*.parquet"))
    try:
        rows = sum(count_rows(part) for part in parts)
        wrong = (
            None if rows == stats["n_documents"] else f"scores/: {rows:,} rows for {stats['n_documents']:,} documents"
        )
        yield wrong or _keys(folder, parts)
        columns = ["doc_id", "path", "row"]
        if parts and "score" in schema_of(parts[0]).names:  # with separate targets it is the best of several
            columns.append("score")
        scored = regrouped(table for part in parts for table in batches(part, columns))
        ledger = regrouped(batches(folder.path / "ledger.parquet", columns))
        same = all(_plain(a).equals(_plain(b)) for a, b in zip_longest(scored, ledger, fillvalue=None))
    except (OSError, pa.ArrowInvalid) as error:
        yield f"scores/ and ledger.parquet: cannot be read ({str(error).splitlines()[0]})"
        return
    yield None if same else "ledger.parquet: other documents or scores than in scores/"


def _keys(folder: RunFolder, parts: list[Path]) -> str | None:
    """Whether all files of the score table are of the scores that are noted."""
    commit = folder.scored
    if commit is None:
        return f"{SCORES_COMMIT}: not there"
    found = [key_of(part) for part in parts]
    expected = keys_of_parts(commit, found[0] if found else "")
    if len(found) != len(expected):
        return f"scores/: {len(found):,} files for {len(expected):,} partitions"
    others = [part.name for part, key, wanted in zip(parts, found, expected, strict=True) if key != wanted]
    if not others:
        return None
    return (
        f"scores/{others[0]}: of other scores than {SCORES_COMMIT} says ({len(others):,} of {len(found):,} files are)"
    )


def _plain(table: pa.Table | None) -> pa.Table:
    """A table to compare: names of files as text, not as numbers of a dictionary."""
    if table is None:
        return pa.table({})
    return table.set_column(1, "path", table["path"].cast(pa.large_string())).combine_chunks().replace_schema_metadata()
