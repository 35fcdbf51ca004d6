"""The folder of a run: one owner at a time, one recipe, and a manifest that commits it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from curate.errors import BusyError, RunError, UnreachableError, UsageError
from curate.io.guard import holding
from curate.io.paths import (
    atomic,
    folder_path,
    is_read_only,
    is_remote,
    make_folder,
    reaching,
    read_whole,
    remove_tree,
)
from curate.io.targets import Paths

MANIFEST, SCORES_COMMIT, EVIDENCE, WORK = "manifest.json", "scores/scores.json", "evidence.json", "_work"
STEPS = "steps.json"  # which of the later steps of a recipe are done
UPDATE = f"{WORK}/update.json"  # what an update that is under way has to know of itself
FITTED = f"{WORK}/fitted.json"  # what is noted of the fit of a scorer that is in place
LEDGER, QUARANTINE = "ledger.parquet", "quarantine.parquet"
DUPLICATES, CONTAMINATION = "duplicates.parquet", "contamination.parquet"  # what was found, by document
CLEANED = "cleaned"  # folder of what is done with which row
SIGNED = "signatures"  # of documents, for others that come
_LOCK = ".curate.lock"  # of those who share a folder at a URL each has one whose name goes on
_FOR_NOW = (errno.ENOLCK, errno.ESTALE, errno.EIO)  # of a server that is restarted: another try may help
_REPORTS = ("report.html", "report.md", "report.json")
_DRAWN = ("manifest.json", "shards", LEDGER, "README.md", "croissant.json", EVIDENCE, STEPS, *_REPORTS)
_CURRICULUM = (
    "curriculum.parquet", "weights.json", "weights-stage-*.json", "groups.parquet", "state.parquet", "curriculum",
)  # fmt: skip
LEFT_BY_CLEANING = (CLEANED, SIGNED, DUPLICATES, CONTAMINATION)  # what cleaning leaves
_FOUND = f"{WORK}/clean/found.json"  # that what cleaning leaves is there
_SCORED = ("scores", "scorer", QUARANTINE, FITTED, *LEFT_BY_CLEANING, _FOUND)


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with atomic(path) as part:
        part.write_text(_as_json(value), encoding="utf-8")


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """A value as JSON can hold it: what is not a finite number is None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read JSON, or None when the file is not there.

    Raises
    ------
    RunError : it is no JSON. UnreachableError : it cannot be read now.
    """
    try:
        with reaching(path):
            content = read_whole(path)
        return None if content is None else json.loads(content.decode())
    except ValueError as error:
        raise RunError(f"{path}: cannot be read ({error}); delete that file and run again") from error
    except OSError as error:  # the file may be sound
        raise UnreachableError(
            f"{path}: cannot be read ({error.strerror or error}); see that it can be, and run the same command again"
        ) from error


def _work_of(recipe: dict[str, Any]) -> str:
    """What an unfinished run is known by: how bad rows are treated may change when the first one is met."""
    return digest({key: value for key, value in recipe.items() if key != "on_bad_row"})


class RunFolder:
    """Paths of a run, and what is in it already."""

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.path = folder_path(out)  # as it was given, for messages
        there = self.path if is_remote(self.path) else self.path.absolute()  # for processes that work elsewhere
        self.scores, self.scorer, self.shards = (there / n for n in ("scores", "scorer", "shards"))
        self.work = there / WORK
        self._lease: Any = None

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest, when the run is complete."""
        value: dict[str, Any] | None = read_json(self.path / MANIFEST)
        return value

    @property
    def scored(self) -> dict[str, Any] | None:
        """What `scores/` was made from, when it is complete."""
        value: dict[str, Any] | None = read_json(self.path / SCORES_COMMIT)
        return value

    @property
    def begun(self) -> bool:
        """Whether a run has begun here, complete or not."""
        return any((self.path / name).is_file() for name in (f"{WORK}/run.json", SCORES_COMMIT, UPDATE))

    @property
    def updating(self) -> bool:
        """Whether an update has begun here that did not come to its end."""
        noted = read_json(self.path / UPDATE)
        if noted is None:
            return False
        manifest = self.manifest
        return manifest is None or bool(manifest["uuid"] == noted["former"])

    def refuse_updating(self) -> None:
        """Leave an update that is half done alone.

        Raises
        ------
        RunError : there is one.
        """
        if self.updating:
            raise RunError(
                f"{self.path}: an update is half done here; go on with curate select --update {self.path}, "
                "choose another folder or pass --overwrite"
            )

    @contextmanager
    def locked(self, *, shared: bool = False, tell: bool = False) -> Iterator[None]:
        """Own the folder, or, ``shared``, do some partitions of a run that others are at too.

        A killed owner's lock is gone with it. On an object store, which has no locks, each has a lease (see
        `curate.io.lease`), which is looked at before each file that is written: an owner who stood still, and whose
        folder another run has by now, changes nothing in it. ``tell``: say on stderr that others are waited for there,
        also where that is no terminal.

        Raises
        ------
        RunError : another run has it (BusyError), or it holds files that are not a run's.
        """
        with reaching(self.path):
            self._refuse_foreign()
            with self._leased(shared, tell) if is_remote(self.path) else self._flocked(shared):
                yield

    @contextmanager
    def _flocked(self, shared: bool) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / _LOCK
        with self._open_lock(lock, shared):
            if shared:  # others are at work: their files that are half done are left alone, and so is the lock's
                yield
                return
            try:
                self._remove_strays()
                yield
            finally:
                lock.unlink(missing_ok=True)

    @contextmanager
    def _leased(self, shared: bool, tell: bool) -> Iterator[None]:
        from curate.io.lease import Lease, Share

        make_folder(self.path)
        lease = (Share if shared else Lease)(self.path / _LOCK, tell=tell)
        lease.take()
        self._lease = lease
        try:
            with holding([lease]):
                yield
        except Exception as error:
            if not isinstance(error, BusyError) and lease.was_taken():  # files that it reads are gone, or others
                lease.check()
            raise
        finally:
            self._lease = None
            lease.give_back()

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _open_lock(self, lock: Path, shared: bool) -> TextIO:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            handle = None
            try:
                handle = open(lock, "a+")  # noqa: SIM115 (the caller closes it; to share it over NFS it must be readable)
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(handle.fileno()), lock.stat()):
                    return handle
            except FileNotFoundError:
                pass  # its last owner took it away between our opening and our locking it
            except BlockingIOError as error:
                _close(handle)
                raise BusyError(
                    f"{self.path}: another run is writing here; wait for it or choose another folder"
                ) from error
            except OSError as error:
                _close(handle)
                if error.errno in _FOR_NOW:
                    raise UnreachableError(
                        f"{self.path}: cannot be locked now ({error.strerror}); run the same command again, or choose "
                        "a local folder"
                    ) from error
                raise RunError(f"{self.path}: cannot be locked ({error.strerror}); choose a local folder") from error
            _close(handle)

    def _refuse_foreign(self) -> None:
        if is_read_only(self.path):
            raise UsageError(f"{self.path}: cannot be written to; choose a folder on a disk or an object store")
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise RunError(f"{self.path}: is a file; choose a folder")
        names = {p.name for p in self.path.iterdir() if p.name and not p.name.startswith(_LOCK)}
        if names == {WORK} and all(p.name.startswith(".") for p in self.work.iterdir()):
            return  # killed at its very beginning
        if names and not (self.begun or self._is_manifest()):
            raise RunError(f"{self.path}: holds files that are not a run of curate; choose another folder")

    def _is_manifest(self) -> bool:
        """Whether there is a manifest that is a run's; one that cannot be read may be."""
        try:
            manifest = self.manifest
        except RunError:
            return True
        return isinstance(manifest, dict) and "recipe_sha256" in manifest

    def begin(self, recipe: dict[str, Any], scoring: str, *, overwrite: bool) -> None:
        """Make the folder ready for a recipe: go on with it, or refuse, or clear what another left.

        ``scoring`` names what the score table depends on; a table of that name is kept in any case.
        """
        half_updated = self.updating
        if not overwrite:
            self.refuse_updating()
        started = read_json(self.work / "run.json")
        manifest, scored = self.manifest, self.scored
        if manifest is not None:
            other = manifest["recipe_sha256"] if manifest["recipe_sha256"] != digest(recipe) else None
        elif started is not None:
            other = started["work"] if started["work"] != _work_of(recipe) else None
        else:
            other = None if scored is None or scored["key"] == scoring else scored["key"]
        if other and not overwrite:
            raise RunError(
                f"{self.path} was written by recipe {other[:8]}, this is {digest(recipe)[:8]}: "
                "choose another folder or pass --overwrite"
            )
        changed = manifest is not None and (scored is None or scored["key"] != scoring)
        if changed and not overwrite:
            raise RunError(
                f"{self.path} is a finished run over files that are not what they were (raw or target): take in raw "
                f"files that are new with curate select --update {self.path}, choose another folder or pass --overwrite"
            )
        mine = {"work": _work_of(recipe), "recipe_sha256": digest(recipe), "scoring": scoring}
        if started == mine:
            return
        other_scores = scoring != (scored["key"] if scored else (started or {}).get("scoring"))
        if manifest is not None or other_scores:  # it is of scores or a selection that go; before a first draw it stays
            self._remove(*(path.name for pattern in _CURRICULUM for path in self.path.glob(pattern)))
        write_json(self.work / "run.json", mine | {"clearing": True})  # killed from here on, it goes on clearing
        self._remove(*_DRAWN)
        if other_scores:
            self._remove(*_SCORED)
        if other or changed or half_updated or (started or {}).get("clearing"):
            self._remove(*(f"{WORK}/{p.name}" for p in self.work.iterdir() if p.name != "run.json"))
        write_json(self.work / "run.json", mine)

    def withdraw(self) -> None:
        """Take the manifest away, and all that is told of a selection; its shards and ledger stay."""
        told = [name for name in _DRAWN if name not in ("shards", LEDGER)]
        self._remove(*told, *(path.name for pattern in _CURRICULUM for path in self.path.glob(pattern)))

    def finished(self, recipe: dict[str, Any]) -> bool:
        """Whether the run of this recipe is complete already."""
        manifest = self.manifest
        return manifest is not None and manifest["recipe_sha256"] == digest(recipe)

    def _remove(self, *names: str) -> None:
        self._check_lease()
        for name in names:  # the manifest first: from then on it is no run
            path = self.path / name
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    def commit(self, manifest: dict[str, Any]) -> None:
        """Write the manifest: from here on it is a run."""
        path = self.path / MANIFEST
        if self._lease is None or path.exists():
            write_json(path, manifest)
        else:
            self._lease.put_new(path, _as_json(manifest).encode())
        self.clean()

    def _remove_strays(self) -> None:
        if not is_remote(self.path):  # there files are made in scratch folders
            for stray in self.path.rglob(".*.part"):
                stray.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what only an unfinished run needs, and what workers that were killed left half written."""
        remove_tree(self.work, ignore_errors=True)
        self._remove_strays()


def _close(handle: TextIO | None) -> None:
    if handle is not None:
        handle.close()


def is_run(path: str | os.PathLike[str], *, finished: bool = True) -> bool:
    """Whether a path is the folder of a run, one that has scores at least, or a selection when it is ``finished``."""
    try:
        folder = folder_path(path)
        return any((folder / name).is_file() for name in ((MANIFEST,) if finished else (MANIFEST, SCORES_COMMIT)))
    except Exception:  # of a URL: what is read from it next says so
        return False


def of_run(selected: Paths, raw: Paths | None) -> tuple[Mapping[str, Any], Paths, Paths | None]:
    """``(recipe, files selected, files of raw)`` where ``selected`` is the folder of a run; else as given, no recipe.

    Raises
    ------
    RunError : the raw files of a run are gone, and no others are given.
    """
    if (isinstance(selected, Sequence) and not isinstance(selected, str)) or not is_run(selected):
        return {}, selected, raw
    folder = folder_path(selected)
    manifest = RunFolder(folder).manifest or {}
    shards = [str(folder / shard["path"]) for shard in manifest["shards"]]
    return manifest["recipe"], shards, _inputs(manifest, folder) if raw is None else raw


def _inputs(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    """The files that a run was made from."""
    inputs = [file["path"] for file in manifest["inputs"]]
    gone = [path for path in inputs if "://" not in path and not Path(path).is_file()]
    if gone:
        raise RunError(f"{gone[0]}: gone since {folder} was made; say where raw is with --raw")
    return inputs
