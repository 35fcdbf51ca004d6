"""Who owns a folder where nothing can be locked: an object that its owner changes every few seconds.

No clocks are compared: whoever finds it looks whether it changes. If it does not, its owner was killed.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from curate.errors import BusyError, RunError
from curate.io.paths import read_whole

REFRESH_S = 5.0  # between the changes of an owner
WATCH_S = 30.0  # without a change, before it is taken over: an owner may miss some, its network too
SETTLE_S = 2.0  # after it was taken over, in case that two did so at once: the last one has it
_TRIES = 20


class Lease:
    """The lease of the folder that ``lock`` is in; `take` it, and `give_back`."""

    def __init__(self, lock: Path) -> None:
        self._path: Any = lock  # a UPath
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "uuid": uuid4().hex}
        self._changes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.lost = False

    def take(self) -> None:
        """Take the lease: at once where there is none, and one that is not changed after a while.

        Raises
        ------
        BusyError : somebody else has it. RunError : nobody can.
        """
        for _ in range(_TRIES):
            if self._created():
                break
            before = read_whole(self._path)
            after = self._watched(before) if before is not None else None
            if after is None:
                continue  # it was given back
            if after != before:
                raise self._taken(after)
            self._write()
            time.sleep(SETTLE_S)
            if (now := read_whole(self._path)) != self._content():
                raise self._taken(now)
            break
        else:
            raise RunError(f"{self._path.parent}: cannot be locked; choose another folder")
        self._thread.start()

    def give_back(self) -> None:
        """Let others have it; that fails in silence, as it will not be changed any more."""
        self._over.set()
        self._thread.join()
        with suppress(Exception):
            if self._is_mine():
                self._path.fs.rm_file(self._path.path)

    def _created(self) -> bool:
        try:
            self._path.fs.pipe_file(self._path.path, self._content(), mode="create")
        except FileNotFoundError as error:
            raise RunError(f"{self._path.parent}: no such bucket; make it, or choose another folder") from error
        except OSError as error:  # of S3 a failed condition is a plain one
            if not isinstance(error, FileExistsError) and read_whole(self._path) is None:
                raise
        return read_whole(self._path) == self._content()  # a server may not know of conditions

    def _watched(self, before: bytes) -> bytes | None:
        """What it is once it has changed, or after a while."""
        until = time.monotonic() + WATCH_S
        while time.monotonic() < until:
            time.sleep(REFRESH_S / 5)
            if (now := read_whole(self._path)) != before:
                return now
        return before

    def _keep(self) -> None:
        while not self._over.wait(REFRESH_S):
            with suppress(Exception):  # the network is away; the next time tells
                if not self._is_mine():
                    self.lost = True
                    return
                self._changes += 1
                self._write()

    def _is_mine(self) -> bool:
        now = read_whole(self._path)
        return now is not None and json.loads(now)["uuid"] == self._owner["uuid"]

    def _content(self) -> bytes:
        return json.dumps(self._owner | {"changes": self._changes}).encode()

    def _write(self) -> None:
        self._path.fs.pipe_file(self._path.path, self._content())

    def _taken(self, content: bytes | None) -> BusyError:
        who = ""
        with suppress(TypeError, ValueError, KeyError):
            owner = json.loads(content or b"")
            who = f" (process {owner['pid']} on {owner['host']})"
        return BusyError(f"{self._path.parent}: another run is writing here{who}; wait for it or choose another folder")
