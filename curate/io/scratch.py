"""Local files for a while, for runs whose folder is not on this machine: in TMPDIR, and gone with their process."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

PREFIX, LOCK = "curate-scratch-", ".lock"
YOUNG_S = 60.0  # a folder that young may be about to be locked
_made: dict[int, tuple[Path, Any]] = {}  # by process, as a forked one has its own
_making = threading.Lock()


@contextmanager
def scratch_file(name: str) -> Iterator[Path]:
    """A path for a file, which is deleted in the end."""
    path = _folder() / f"{uuid4().hex}-{name}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder, which is deleted in the end."""
    path = _folder() / uuid4().hex
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _folder() -> Path:
    """The folder of this process, which it has locked; those of killed ones are deleted when it is made."""
    pid = os.getpid()
    with _making:
        if pid not in _made:
            _made.clear()
            _sweep(Path(tempfile.gettempdir()))
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            _made[pid] = folder, _locked(folder / LOCK, "w")
            atexit.register(_remove, pid, folder)
        folder = _made[pid][0]
    folder.mkdir(exist_ok=True)  # somebody may have tidied up
    return folder


def _locked(path: Path, mode: str) -> Any:
    handle = open(path, mode)  # noqa: SIM115 (open as long as the process lives)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if mode == "w":
            return handle  # a file system without locks: nobody can sweep it either
        handle.close()
        raise
    return handle


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is in use, or somebody else's
            if time.time() - folder.stat().st_mtime > YOUNG_S:
                with _locked(folder / LOCK, "r"):
                    shutil.rmtree(folder)


def _remove(pid: int, folder: Path) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
