"""Everything that can go wrong and be told to a user in one line.

CurateError
|-- UsageError          an option or argument that makes no sense (exit 2 at the command line)
|-- InputError          a file, row or text that cannot be used as it is
|   |-- CorruptError    a file that is damaged: truncated, not what its name says, unreadable
|   `-- UnreachableError  a file system or store that does not answer (a RunError too): another try may help
|-- RunError            an output folder that belongs to another run, or is locked
|   `-- BusyError       one that another run is writing to now: another try may help
|-- RemovalError        cleaning that would remove more of the corpus, or of a source, than it may
|-- ResourceError       no space on disk, a memory limit that is too small
`-- MissingExtraError   an optional package that is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CurateError(Exception):
    """Base of all errors that curate raises on purpose. The message leads with the place and ends with the way out."""


class UsageError(CurateError, ValueError):
    """An option or argument that makes no sense."""


class InputError(CurateError):
    """A file, row or text that cannot be used as it is."""


class CorruptError(InputError):
    """A file that is damaged: truncated, unreadable, not what its name says."""


class RunError(CurateError):
    """An output folder that belongs to another run, is locked, or is not a run."""


class UnreachableError(InputError, RunError):
    """A file system or store that does not answer, or not as it should, about an input or the folder of a run."""


class BusyError(RunError):
    """An output folder that another run is writing to."""


class RemovalError(CurateError):
    """Cleaning would remove more of the corpus, or of one of its sources, than it was allowed to."""


class ResourceError(CurateError):
    """No space left on disk, or a memory limit that is too small."""


class MissingExtraError(CurateError, ImportError):
    """An optional package that is not installed."""


def refuse_unknown(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the first of some names that is not in a registry.

    Raises
    ------
    UsageError : with the nearest one that is.
    """
    there = list(known)
    for name in names:
        if name not in there:
            raise unknown(kind, name, there)


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a registry, with the nearest one."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"no {kind} called {name!r}{hint} (there are: {', '.join(names)})")
