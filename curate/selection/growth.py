"""What has come to the input files of a finished run, and whether those that it was made of are as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.engines import LocalEngine
from curate.errors import InputError, RunError
from curate.io.corpus import Corpus, InputFile, hash_file
from curate.io.credentials import refuse_credentials
from curate.io.paths import Source, find, linked, size_of
from curate.io.run import (
    CONTAMINATION,
    DUPLICATES,
    LEDGER,
    MANIFEST,
    QUARANTINE,
    SCORES_COMMIT,
    UPDATE,
    WORK,
    RunFolder,
    read_json,
    write_json,
)
from curate.io.targets import Paths, listed_paths

KEPT_ASIDE = f"{WORK}/former"


@dataclass(frozen=True)
class Former:
    """A finished run that is to be updated.

    ``root``: where its files are: in its folder, or kept aside there when an update has taken its manifest away.
    ``touched``: paths of shards that such an update may have changed.
    """

    root: Path
    manifest: dict[str, Any]
    commit: dict[str, Any]  # what is noted of its scores
    touched: frozenset[str]

    @classmethod
    def of(cls, folder: RunFolder) -> Former:
        """The run in a folder.

        Raises
        ------
        RunError : there is none, or it is not finished.
        """
        aside = folder.manifest is None
        root = folder.path / KEPT_ASIDE if aside else folder.path
        noted = (read_json(folder.path / UPDATE) or {}) if aside else {}
        manifest, commit = read_json(root / MANIFEST), read_json(root / SCORES_COMMIT)
        if manifest is None or commit is None or (aside and not noted):
            way = "run curate select again to complete it first" if folder.begun else "run curate select first"
            raise RunError(f"{folder.path}: no finished run to update; {way}")
        return cls(root, manifest, commit, frozenset(noted.get("touched", ())))

    @property
    def ledger(self) -> Path:
        return self.root / LEDGER

    @property
    def quarantine(self) -> Path:
        return self.root / QUARANTINE

    def claim(self, folder: RunFolder) -> None:
        """Note that an update is under way; the run stays as it is."""
        self._note(folder, self.touched)

    def withdraw(self, folder: RunFolder, touched: frozenset[str]) -> Former:
        """Keep what the run was aside, and take its manifest away: from then on it is none.

        ``touched``: shards that are about to be changed.
        """
        aside = folder.path / KEPT_ASIDE
        if self.root != aside:
            for name in (MANIFEST, SCORES_COMMIT, LEDGER, QUARANTINE, DUPLICATES, CONTAMINATION):
                (aside / name).unlink(missing_ok=True)
                if (self.root / name).exists():
                    linked(self.root / name, aside / name)
        self._note(folder, self.touched | touched)
        folder.withdraw()
        return replace(self, root=aside, touched=self.touched | touched)

    def _note(self, folder: RunFolder, touched: frozenset[str]) -> None:
        write_json(folder.path / UPDATE, {"former": self.manifest["uuid"], "touched": sorted(touched)})


@dataclass(frozen=True)
class Growth:
    """The input files of a run as they are now.

    ``raw``: what names them. ``known``: those that it was made of, in its order; ``new``: those that have come, in the
    order of their names. ``passed_over``: files whose names say nothing.
    """

    raw: tuple[str, ...]
    known: tuple[InputFile, ...]
    new: tuple[Source, ...]
    n_new_bytes: int
    passed_over: tuple[str, ...]


def find_growth(
    out: Path, commit: Mapping[str, Any], raw: Paths | None, engine: LocalEngine, *, rehash: bool
) -> Growth:
    """Look what files there are.

    Parameters
    ----------
    commit : what is noted of the scores of the run in ``out``.
    raw : more of them than the run names.
    rehash : read those that it was made of, and compare their hashes; without, their paths and sizes are.

    Raises
    ------
    RunError : one is gone, or another than it was. UsageError : a URL with a password in it.
    """
    named = list(dict.fromkeys([*commit["spec"]["raw"], *listed_paths(raw or ())]))
    refuse_credentials(named, "raw")
    files = Corpus.from_dict(commit["corpus"]).files
    try:
        sources, passed_over = find(named)
    except InputError as error:
        raise _anew(f"{error} ({out} was made of it)", "put it back") from error
    there = {source.name: source for source in sources}
    gone = [file for file in files if file.source.name not in there]
    if gone:
        n = f" ({len(gone):,} of its {len(files):,} input files are)" if len(gone) > 1 else ""
        raise _anew(f"{gone[0].source.path}: gone since {out} was made{n}", "put it back")
    known = tuple(replace(file, source=there[file.source.name]) for file in files)
    for was, now in zip(files, known, strict=True):
        if was.source.path != now.source.path and not rehash:
            raise _anew(
                f"{now.source.path}: was {was.source.path} when {out} was made",
                "pass --rehash, which reads all of it to see whether it is the same",
            )

    def check(file: InputFile) -> None:
        path = file.source.path
        if (size := size_of(path)) != file.bytes:
            raise _anew(f"{path}: {size:,} bytes, but {file.bytes:,} when {out} was made", "put back what it was")
        if rehash and hash_file(path)[1] != file.sha256:
            raise _anew(f"{path}: other content than when {out} was made (SHA-256)", "put back what it was")

    engine.map(check, known)
    new = tuple(source for source in sources if source.name not in {file.source.name for file in files})
    n_new_bytes = sum(engine.map(lambda source: size_of(source.path), new))
    return Growth(tuple(named), known, new, n_new_bytes, tuple(passed_over))


def _anew(what: str, way: str) -> RunError:
    return RunError(f"{what}; an update takes in new files only: {way}, or select anew with --overwrite")


def parents_of(former: Former, others: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Where an updated run comes from: the run before, then runs that its inputs are from."""
    before = {name: former.manifest[name] for name in ("uuid", "recipe_sha256")}
    return [before, *(dict(parent) for parent in others if parent["uuid"] != before["uuid"])]
