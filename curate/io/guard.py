"""Who may write below a folder that has an owner: whoever is about to is asked for what it owns, file by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Claim(Protocol):
    """That a folder is owned by somebody; it may be sent to other processes."""

    @property
    def folder(self) -> str: ...

    def check(self) -> None:
        """Raise BusyError when it is not owned any more."""


_held: ContextVar[tuple[Claim, ...]] = ContextVar("held", default=())  # of a thread and those that work for it


def held() -> tuple[Claim, ...]:
    """What the caller works for."""
    return _held.get()


@contextmanager
def holding(claims: Sequence[Claim]) -> Iterator[None]:
    """Work for these owners too."""
    token = _held.set((*_held.get(), *claims))
    try:
        yield
    finally:
        _held.reset(token)


def check_owned(path: str) -> None:
    """Refuse to change a file or folder of an owner that is none any more.

    Raises
    ------
    BusyError
    """
    for claim in _held.get():
        if path == claim.folder or path.startswith(claim.folder.rstrip("/") + "/"):
            claim.check()
