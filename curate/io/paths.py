"""From what a user names (paths, folders, globs, URLs) to files with their format and compression."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from uuid import uuid4

import fsspec

from curate._optional import require
from curate.errors import CorruptError, CurateError, InputError, MissingExtraError, ResourceError, RunError, UsageError

FORMATS = {
    "parquet": "parquet",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "csv": "csv",
    "txt": "txt",
    "arrow": "arrow",
}
COMPRESSIONS = {"gz": "gzip", "zst": "zstd"}
_DAMAGED = ("truncated", "decompress", "zstd", "inflate", "deserialize")  # in messages of Arrow's OSError
_EXTRAS = {"s3": ("s3fs", "s3"), "hf": ("huggingface_hub", "hf"), "gs": ("gcsfs", "gcs")}


@dataclass(frozen=True)
class Source:
    """One input file: where it is, and the name under which its rows are known.

    ``name`` is the path relative to the input root (the folder given, or the part of a glob or path
    before its last fixed folder), with ``/`` between folders.
    """

    path: str
    name: str
    format: str
    compression: str | None


def is_url(path: str) -> bool:
    """Whether a path names another file system than the local one."""
    return "://" in path and not path.startswith("file://")


def kind(path: str) -> tuple[str, str | None] | None:
    """``(format, compression)`` by the name of a file, or None when the name says nothing."""
    parts = PurePosixPath(path.replace(os.sep, "/")).name.lower().split(".")[1:]
    compression = COMPRESSIONS.get(parts[-1]) if parts else None
    if compression:
        parts = parts[:-1]
    form = FORMATS.get(parts[-1]) if parts else None
    if form is None or (compression and form in ("parquet", "arrow")):
        return None
    return form, compression


def find(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[Source], list[str]]:
    """All input files that ``paths`` name, in the order of their names, and the files passed over.

    Folders are searched to any depth for names with a known ending; hidden files and those that begin
    with ``_`` are not data. A file named outright must have a known ending.

    Raises
    ------
    InputError : nothing there, a name without a known ending, or two files with the same name.
    """
    sources: dict[str, Source] = {}
    passed_over: list[str] = []
    for given in paths:
        found = list(_expand(os.fspath(given)))
        for path, name, named_outright in found:
            what = kind(path)
            if what is None:
                if named_outright:
                    endings = " ".join("." + e for e in FORMATS)
                    raise InputError(f"{path}: unknown kind of file (known: {endings}, most also .gz .zst)")
                passed_over.append(path)
                continue
            if name in sources and sources[name].path != path:
                raise InputError(
                    f"{path}: another input, {sources[name].path}, has the same name {name!r} below its "
                    "root; rows would not be told apart: give the folder above both"
                )
            sources[name] = Source(path, name, *what)
        if not any(kind(path) for path, _, _ in found):
            raise InputError(f"{given}: no input files there")
    if not sources:
        raise UsageError("no input: name at least one file, folder or glob")
    return sorted(sources.values(), key=lambda s: s.name), sorted(passed_over)


def _expand(given: str) -> Iterator[tuple[str, str, bool]]:
    """``(path, name, named outright)`` of every file under one argument."""
    fs, root = filesystem(given)
    prefix = given[: given.index("://") + 3] if is_url(given) else ""
    plain = root.rstrip("/") or "/"
    try:
        if _has_magic(plain) and not fs.exists(plain):
            fixed = plain[: _first_magic(plain)].rpartition("/")[0]
            for path in sorted(fs.glob(plain)):
                if fs.isfile(path):
                    yield prefix + path, _below(path, fixed), False
        elif fs.isdir(plain):
            for path in sorted(fs.find(plain)):
                name = _below(path, plain)
                if not any(part.startswith((".", "_")) for part in name.split("/")):
                    yield prefix + path, name, False
        elif fs.exists(plain):
            yield prefix + plain, plain.rpartition("/")[2], True
        else:
            raise InputError(f"{given}: no such file or folder")
    except Exception as error:
        raise _unreachable(given, "listed", error) from error


def _has_magic(path: str) -> bool:
    return any(c in path for c in "*?[")


def _first_magic(path: str) -> int:
    return min(i for i in (path.find(c) for c in "*?[") if i >= 0)


def _below(path: str, root: str) -> str:
    return path[len(root) :].lstrip("/") if path.startswith(root) else path


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a path, and the path within it.

    Raises
    ------
    MissingExtraError : the file system's package is not installed.
    """
    if not is_url(path):
        return fsspec.filesystem("file"), os.path.abspath(path.removeprefix("file://"))
    scheme = path.split("://", 1)[0]
    if scheme in _EXTRAS:
        package, extra = _EXTRAS[scheme]
        require(package, extra=extra, purpose=f"reading {scheme}:// paths")
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(path))
    except (ImportError, ValueError) as error:
        raise MissingExtraError(f"{path}: {error}") from error


def open_binary(path: str) -> BinaryIO:
    """Open any path for reading bytes, seekable.

    Raises
    ------
    InputError : it cannot be opened.
    """
    try:
        if not is_url(path):
            return open(path.removeprefix("file://"), "rb", buffering=0)
        fs, inner = filesystem(path)
        return cast(BinaryIO, fs.open(inner, "rb", block_size=8 << 20))
    except Exception as error:
        raise _unreachable(path, "opened", error) from error


def size_of(path: str) -> int:
    """Bytes of a file, from what its file system says of it.

    Raises
    ------
    InputError : it is not there.
    """
    try:
        fs, inner = filesystem(path)
        return int(fs.size(inner))
    except Exception as error:
        raise _unreachable(path, "found", error) from error


def _unreachable(path: str, done: str, error: Exception) -> Exception:
    """What to raise for an error of a file system; those of remote ones come in all classes."""
    if isinstance(error, CurateError) or not (isinstance(error, OSError) or is_url(path)):
        return error
    reason = error.strerror if isinstance(error, OSError) else None
    return InputError(f"{path}: cannot be {done} ({reason or _first_line(error)})")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what a reader raises on a damaged file into one clear error."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, EOFError) as error:
        raise CorruptError(f"{path}: damaged or not what its name says ({_first_line(error)})") from error
    except OSError as error:
        if any(sign in str(error).lower() for sign in _DAMAGED):
            raise CorruptError(f"{path}: truncated or damaged ({_first_line(error)})") from error
        raise _unreachable(path, "read", error) from error
    except Exception as error:
        raise _unreachable(path, "read", error) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it at the end: a file appears whole or not at all.

    Raises
    ------
    ResourceError : the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")  # beside it: a rename within one file system
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if error.errno in (28, 122) or "No space left" in str(error):  # ENOSPC, EDQUOT
            raise ResourceError(
                f"{path}: no space left on the disk; free some and run the same command again, it goes on from here"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, names: Sequence[str] = ("*",)) -> Iterator[None]:
    """Be the only one who makes files in a folder; those of such names that a killed one left half done are deleted.

    Raises
    ------
    RunError : the folder cannot be locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a")  # noqa: SIM115 (closed below; it stays, so that all wait for the same file)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise RunError(f"{folder}: cannot be locked ({error.strerror}); choose a local folder") from error
    with lock:
        for name in names:
            for stray in folder.glob(f".{name}.*.part"):
                stray.unlink(missing_ok=True)
        yield


def refuse_inputs_below(out: Path, raw: list[str]) -> None:
    """Refuse a folder for results that inputs are in.

    Raises
    ------
    UsageError : an input is below it.
    """
    inside = out.resolve()
    for source in find(raw)[0]:
        if "://" not in source.path and inside in Path(source.path).resolve().parents:
            raise UsageError(f"{source.path}: an input below --out {out}; choose another folder")
