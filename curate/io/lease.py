"""Who owns a folder where nothing can be locked: an object that its owner changes every few seconds.

No clocks are compared: whoever finds it looks whether it changes. If it does not, its owner was killed, or stands
still; should that one go on some time, it looks before each file that it writes and finds that it owns nothing.

Those who share a folder have an object each, beside the one of an owner. Who comes writes its own first and looks for
others then, so that of an owner and one who shares at least one sees the other.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from curate.errors import BusyError, RunError
from curate.io.paths import read_whole
from curate.logs import event

REFRESH_S = 5.0  # between the changes of an owner
WATCH_S = 30.0  # without a change, before it is taken over: an owner may miss some, its network too
SETTLE_S = 2.0  # after it was taken over, in case that two did so at once: the last one has it
LATE_S = 15.0  # for a change; one that takes longer may fall on what another one has put there since
_TRIES = 20


class Claim:
    """That the object ``lock`` says of an owner that it has the folder around; it may be sent to other processes."""

    def __init__(self, lock: Path, owner: Mapping[str, Any]) -> None:
        self._path: Any = lock  # a UPath
        self._owner = owner

    @property
    def folder(self) -> str:
        return str(self._path.parent)

    def check(self) -> None:
        """Look whether it is so still.

        Raises
        ------
        BusyError : somebody else has taken the folder over.
        """
        if not self._is_mine():
            raise BusyError(
                f"{self.folder}: another run took it over while this one stood still; run the same command again"
            )

    def _is_mine(self) -> bool:
        now = read_whole(self._path)
        return now is not None and _owner_of(now).get("uuid") == self._owner["uuid"]


class Lease(Claim):
    """The lease of the folder that ``lock`` is in; `take` it, and `give_back`.

    ``tell``: say on stderr that others are waited for, also where that is no terminal.
    """

    def __init__(self, lock: Path, *, tell: bool = False) -> None:
        super().__init__(lock, {"host": socket.gethostname(), "pid": os.getpid(), "uuid": uuid4().hex})
        self._changes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._tell = tell
        self.lost = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Claim, (self._path, self._owner)

    def take(self) -> None:
        """Take the lease: at once where there is none, and one that is not changed after a while.

        Raises
        ------
        BusyError : somebody else has it, or shares it. RunError : nobody can.
        """
        self._refuse_shared()  # before those who come see a lock, and go
        self._take_lock()
        self._thread.start()
        try:
            self._refuse_shared()
        except BaseException:
            self.give_back()
            raise

    def check(self) -> None:
        if self.lost:
            self._owner = {"uuid": None}
        super().check()

    def was_taken(self) -> bool:
        """Whether somebody else has it now; False where that cannot be seen."""
        try:
            self.check()
        except BusyError:
            return True
        except Exception:
            return False
        return False

    def put_new(self, path: Path, data: bytes) -> None:
        """Write a file that nobody has written yet; where the store knows of conditions, only then.

        Raises
        ------
        BusyError : it is not owned any more.
        """
        at: Any = path
        self.check()
        try:
            at.fs.pipe_file(at.path, data, mode="create")
        except OSError:
            if read_whole(path) == data:
                return  # the answer was lost, and it was tried again
            self.check()  # of one who was late: it is in our folder
            at.fs.pipe_file(at.path, data)

    def give_back(self) -> None:
        """Let others have it; that fails in silence, as it will not be changed any more."""
        self._over.set()
        self._thread.join()
        with suppress(Exception):
            if self._is_mine():
                self._path.fs.rm_file(self._path.path)

    def _take_lock(self) -> None:
        for _ in range(_TRIES):
            if self._created():
                return
            before = read_whole(self._path)
            after = self._watched({self._path: before})[self._path] if before is not None else None
            if after is None:
                continue  # it was given back
            if after != before:
                raise _busy(self.folder, after)
            self._write()
            time.sleep(SETTLE_S)
            if (now := read_whole(self._path)) != self._content():
                raise _busy(self.folder, now)
            return
        raise RunError(f"{self.folder}: cannot be locked; choose another folder")

    def _refuse_shared(self) -> None:
        """See that nobody shares the folder; what killed ones have left is deleted.

        Raises
        ------
        BusyError : somebody does.
        """
        try:
            names = list(self._path.parent.glob(f"{self._path.name}.*"))
        except FileNotFoundError:
            return  # there is no such folder yet
        there = {path: content for path in names if (content := read_whole(path)) is not None}
        for path, after in self._watched(there).items():
            if after is not None and after != there[path]:
                raise _busy(self.folder, after)
            _delete(path, after)

    def _created(self) -> bool:
        try:
            self._path.fs.pipe_file(self._path.path, self._content(), mode="create")
        except FileNotFoundError as error:
            raise RunError(f"{self.folder}: no such bucket; make it, or choose another folder") from error
        except OSError as error:  # of S3 a failed condition is a plain one
            if not isinstance(error, FileExistsError) and read_whole(self._path) is None:
                raise
        return read_whole(self._path) == self._content()  # a server may not know of conditions

    def _watched(self, before: Mapping[Any, bytes]) -> dict[Any, bytes | None]:
        """What others' objects are once one of them has changed, or all are gone, or after a while."""
        now: dict[Any, bytes | None] = dict(before)
        if before:
            self._say_waiting(next(iter(before.values())))
        until = time.monotonic() + WATCH_S
        while any(content is not None for content in now.values()) and time.monotonic() < until:
            time.sleep(REFRESH_S / 5)
            for path in [path for path, content in now.items() if content is not None]:
                now[path] = read_whole(path)
                if now[path] not in (None, before[path]):
                    return now
        return now

    def _say_waiting(self, content: bytes) -> None:
        who, wait = _who(content), f"{WATCH_S:.0f} seconds"
        event("lock.wait", folder=self.folder, owner=_owner_of(content), seconds=WATCH_S)
        if self._tell or sys.stderr.isatty():
            print(
                f"curate: {self.folder}: looking whether the run that has it{who} is alive, for up to {wait}",
                file=sys.stderr,
            )

    def _keep(self) -> None:
        while not self._over.wait(REFRESH_S):
            with suppress(Exception):  # the network is away; the next time tells
                begun = _clock()
                if not self._is_mine():
                    self.lost = True
                    return
                self._changes += 1
                self._write()
                if _clock() - begun > LATE_S:  # it was ours when that began
                    self.lost = True
                    return

    def _content(self) -> bytes:
        return json.dumps({**self._owner, "changes": self._changes}).encode()

    def _write(self) -> None:
        self._path.fs.pipe_file(self._path.path, self._content())


class Share(Lease):
    """A lease beside those of others who share the folder that ``lock`` is in; an owner is refused as long as it is."""

    def __init__(self, lock: Path, *, tell: bool = False) -> None:
        super().__init__(lock, tell=tell)
        self._lock: Any = lock
        self._path = lock.with_name(f"{lock.name}.{self._owner['uuid']}")

    def take(self) -> None:
        """Take it, unless the folder has an owner; the lock of one that was killed is deleted.

        Raises
        ------
        BusyError : it has.
        """
        if not self._created():
            raise RunError(f"{self.folder}: cannot be locked; choose another folder")
        self._thread.start()
        try:
            if (before := read_whole(self._lock)) is not None:
                after = self._watched({self._lock: before})[self._lock]
                if after is not None and after != before:
                    raise _busy(self.folder, after)
                _delete(self._lock, after)
        except BaseException:
            self.give_back()
            raise


def _clock() -> float:
    """Seconds, also of a machine that sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


def _delete(path: Any, content: bytes | None) -> None:
    """Delete what one who was killed has left, unless that is another one's by now."""
    if content is not None and read_whole(path) == content:
        with suppress(FileNotFoundError):
            path.fs.rm_file(path.path)


def _owner_of(content: bytes | None) -> dict[str, Any]:
    with suppress(ValueError):
        owner = json.loads(content or b"")
        return owner if isinstance(owner, dict) else {}
    return {}


def _who(content: bytes | None) -> str:
    owner = _owner_of(content)
    return f" (process {owner['pid']} on {owner['host']})" if {"pid", "host"} <= set(owner) else ""


def _busy(folder: str, content: bytes | None) -> BusyError:
    return BusyError(f"{folder}: another run is writing here{_who(content)}; wait for it or choose another folder")
