"""What users call the files of a target: paths, or paths by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Targets = Paths | Mapping[str, Paths]


def listed_paths(paths: Paths) -> list[str]:
    if not isinstance(paths, Sequence) or isinstance(paths, str):
        return [path_text(paths)]
    return [path_text(p) for p in paths]


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as it is written; one of a URL (``upath.UPath``) is no ``os.PathLike``."""
    return os.fspath(path) if isinstance(path, (str, os.PathLike)) else str(path)


GENERIC = ("train", "target", "targets", "data", "examples", "texts")  # names of files that say nothing


def named_targets(target: Targets | None, *, generic: Sequence[str] = GENERIC) -> dict[str, list[str]]:
    """Targets by name: the name given, else that of the file, or of its folder when the file's says nothing."""
    if target is None:
        return {}
    if isinstance(target, Mapping):
        return {name: listed_paths(paths) for name, paths in target.items()}
    named: dict[str, list[str]] = {}
    for path in listed_paths(target):
        parts = path.rstrip("/").replace("://", "/").split("/")
        name = parts[-1].split(".")[0] or "target"
        if name in generic and len(parts) > 1 and parts[-2] not in ("", ".", ".."):
            name = parts[-2]
        while name in named:
            name += "_"
        named[name] = [path]
    return named
