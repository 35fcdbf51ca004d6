"""From what a user names (paths, folders, globs, URLs) to files with their format and compression."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from uuid import uuid4

import fsspec

from curate._optional import require
from curate.errors import (
    CorruptError,
    CurateError,
    InputError,
    MissingExtraError,
    ResourceError,
    RunError,
    UnreachableError,
    UsageError,
)
from curate.io.guard import check_owned
from curate.io.scratch import scratch_file, scratch_folder
from curate.io.targets import path_text

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
READ_ONLY = ("hf", "http", "https")  # no runs are written there; their lists of files are dear, and kept
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")  # a file appears whole, without folders
_OF_SERVERS = ("botocore", "aiobotocore", "boto3", "aiohttp", "gcsfs", "google", "azure", "adlfs", "fsspec", "paramiko")
UPLOADED_AT_ONCE = 16 << 20  # bytes of a part; twice as much is held in memory


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
        require(package, extra=extra, purpose=f"{scheme}:// paths")
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(path, **_options(scheme)))
    except (ImportError, ValueError) as error:
        raise MissingExtraError(f"{path}: {error}") from error


def _options(scheme: str) -> dict[str, Any]:
    """What a file system is told: no list of files may be from before another process wrote some.

    Of S3 also that one request at a time is enough: there are many workers.
    """
    if "::" in scheme or scheme in READ_ONLY:
        return {}
    return {"use_listings_cache": False, **({"max_concurrency": 1} if scheme in ("s3", "s3a") else {})}


def open_binary(path: str) -> BinaryIO:
    """Open any path for reading bytes, seekable.

    Raises
    ------
    UnreachableError : it cannot be opened.
    """
    try:
        if not is_url(path):
            return open(path.removeprefix("file://"), "rb", buffering=0)
        fs, inner = filesystem(path)
        return cast(BinaryIO, fs.open(inner, "rb", block_size=8 << 20))
    except Exception as error:
        raise _unreachable(path, "opened", error) from error


def stamp_of(path: str) -> str:
    """What changes when a file does, without reading it: size and time of its last change, on stores its tag.

    Raises
    ------
    InputError : it is not there.
    """
    try:
        if not is_url(path):
            found = os.stat(path.removeprefix("file://"))
            return f"{found.st_size}-{found.st_mtime_ns}"
        fs, inner = filesystem(path)
        about = fs.info(inner)
        tags = (about.get(name) for name in ("ETag", "etag", "LastModified", "mtime", "created"))
        return f"{about['size']}-{next((str(tag) for tag in tags if tag), '')}"
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
    return UnreachableError(f"{path}: cannot be {done} ({reason or _first_line(error)})")


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

    Of a URL it is a local file, which is uploaded at the end.

    Raises
    ------
    ResourceError : the disk is full; nothing is left behind.
    UnreachableError : it cannot be uploaded.
    """
    if is_remote(path):
        with _uploaded(path) as part:
            yield part
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")  # beside it: a rename within one file system
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if _is_full(error):
            raise ResourceError(
                f"{path}: no space left on the disk; free some and run the same command again, it goes on from here"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


# ---- folders for results, which may be URLs


def folder_path(folder: str | os.PathLike[str]) -> Path:
    """The path of a folder for results: that of a URL is a `upath.UPath`, which answers as a `Path` does.

    What differs goes through `opened`, `read_whole`, `arrow_source`, `atomic`, `linked`, `remove_tree` and `emptied`.
    """
    given = path_text(folder)
    if not is_url(given):
        return Path(given.removeprefix("file://"))
    filesystem(given)  # or it says what to install
    from upath import UPath

    return cast(Path, UPath(given.rstrip("/"), **_options(given.split("://", 1)[0])))


def is_remote(path: Path) -> bool:
    """Whether a path is of another file system than the local one."""
    return not isinstance(path, Path)


def is_read_only(path: Path) -> bool:
    """Whether a path is of a file system that no runs are written to."""
    return is_remote(path) and _scheme(path) in READ_ONLY


def _scheme(path: Path) -> str:
    return str(path).split("://", 1)[0]


def _within(path: Path) -> tuple[Any, str]:
    """The file system of a remote path, and the path within it."""
    remote: Any = path
    return remote.fs, remote.path


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Turn what a server or the way to it raises into one clear error; that a file is not there is none.

    Raises
    ------
    UnreachableError
    """
    try:
        yield
    except (CurateError, FileNotFoundError):
        raise
    except Exception as error:
        of_server = type(error).__module__.split(".")[0] in _OF_SERVERS
        if is_remote(path) and (of_server or (isinstance(error, OSError) and not error.filename)):
            raise UnreachableError(
                f"{path}: {_first_line(error)}; run the same command again, it goes on from here"
            ) from error
        raise


def opened(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a file of a run for reading bytes, seekable.

    Raises
    ------
    OSError : it is not there, or cannot be read.
    """
    if not is_remote(path):
        return open(path, "rb", buffering=buffering)
    fs, inner = _within(path)
    return fs.open(inner, "rb", block_size=8 << 20)


def whole(path: Path) -> BinaryIO:
    """As `opened`, for what is read to its end and not large: of a URL it is read at once."""
    if not is_remote(path):
        return open(path, "rb")
    fs, inner = _within(path)
    return io.BytesIO(fs.cat_file(inner))


def read_whole(path: Path) -> bytes | None:
    """What is in a file, or None when it is not there."""
    try:
        with whole(path) as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def arrow_source(path: Path) -> Any:
    """Open a file of a run for Arrow's readers."""
    import pyarrow as pa

    return pa.PythonFile(opened(path), mode="r") if is_remote(path) else pa.OSFile(str(path))


def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there; an object store has none, and its buckets are not made by the way."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    elif _scheme(folder) not in _OBJECT_STORES:
        fs, inner = _within(folder)
        fs.makedirs(inner, exist_ok=True)


@contextmanager
def _uploaded(path: Path) -> Iterator[Path]:
    with scratch_file(path.name) as part:
        try:
            yield part
        except OSError as error:
            if _is_full(error):
                raise ResourceError(
                    f"{part.parent}: no space left for {path.name} before it is uploaded; free some, or set TMPDIR, "
                    "and run the same command again, it goes on from here"
                ) from error
            raise
        _upload(part, path)


def _upload(part: Path, path: Path) -> None:
    fs, inner = _within(path)
    scheme = _scheme(path)
    _refuse_late(path)
    try:
        if scheme in ("s3", "s3a"):
            fs.put_file(str(part), inner, chunksize=UPLOADED_AT_ONCE)
        elif scheme in _OBJECT_STORES:
            fs.put_file(str(part), inner)
        else:
            folder, _, name = inner.rpartition("/")
            beside = f"{folder}/.{name}.{uuid4().hex}.part"
            make_folder(path.parent)
            fs.put_file(str(part), beside)
            fs.mv(beside, inner)
    except Exception as error:
        raise UnreachableError(
            f"{path}: cannot be written ({_first_line(error)}); run the same command again, it goes on from here"
        ) from error


def _refuse_late(path: Path) -> None:
    """Change nothing in a folder that somebody else has taken over."""
    with reaching(path):
        check_owned(str(path))


def linked(source: Path, to: Path) -> None:
    """The same file in another place: a hard link, or a copy by the server, where that can be; else a copy.

    What was there is replaced whole.
    """
    if is_remote(to) and type(source) is type(to):
        fs, inner = _within(to)
        _refuse_late(to)
        with reaching(to):
            fs.cp_file(_within(source)[1], inner)
        return
    with atomic(to) as part:
        try:
            if is_remote(source) or is_remote(to):
                raise OSError
            os.link(source, part)
        except OSError:
            with opened(source) as stream, open(part, "wb") as copy:
                shutil.copyfileobj(stream, copy, 8 << 20)


def remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, as `shutil.rmtree` does."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=ignore_errors)
        return
    fs, inner = _within(folder)
    _refuse_late(folder)
    with suppress(Exception if ignore_errors else FileNotFoundError), reaching(folder):
        fs.rm(inner, recursive=True)


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """An empty folder on this machine, removed in the end: ``folder``, or one in TMPDIR when that is a URL."""
    if is_remote(folder):
        with scratch_folder() as scratch:
            yield scratch
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is or will be; of a URL none: nothing should be kept there to save time."""
    if is_remote(folder):
        return 0
    return shutil.disk_usage(next(p for p in [folder, *folder.absolute().parents] if p.exists())).free


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
    for source in find(raw)[0]:
        if _is_below(source.path, out):
            raise UsageError(f"{source.path}: an input below --out {out}; choose another folder")


def _is_below(path: str, folder: Path) -> bool:
    if is_url(path) != is_remote(folder):
        return False
    if not is_url(path):
        return folder.resolve() in Path(path).resolve().parents
    (fs, inner), (of, outer) = filesystem(path), _within(folder)
    return type(fs) is type(of) and inner.startswith(outer.rstrip("/") + "/")
