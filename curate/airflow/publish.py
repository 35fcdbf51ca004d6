"""Give those who train a copy of a run that does not change, while the run itself is updated in place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

LATEST = "latest.json"
_LEFT_OUT = (".curate.lock", "_work")  # of the one who selects; all else is looked at by curate verify


def published(to: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What ``latest.json`` in a folder says: ``run``, where the run is that was published last, and its ``uuid``."""
    from curate.io.paths import folder_path
    from curate.io.run import read_json

    found: dict[str, Any] | None = read_json(folder_path(to) / LATEST)
    return found


def is_settled(run: str | os.PathLike[str], to: str | os.PathLike[str]) -> bool:
    """Whether there is nothing to do for a run: it was measured, and published where it is better.

    Evidence is removed when a run is updated, so that one night which failed half way is made up for by the next.
    """
    from curate.io.run import EVIDENCE, RunFolder, read_json

    folder = RunFolder(run)
    manifest, evidence = folder.manifest, read_json(folder.path / EVIDENCE)
    if manifest is None or evidence is None:
        return False
    return evidence["verdict"] != "better" or (published(to) or {}).get("uuid") == manifest["uuid"]


def publish(run: str | os.PathLike[str], to: str | os.PathLike[str]) -> dict[str, Any]:
    """Put a finished run into ``to/UUID``, then name it in ``to/latest.json``.

    Files are hard links where that can be, which take no space, and copies else. An update of the run writes other
    files in place of them; the published ones stay as they are. What was published before is left there.

    Returns
    -------
    ``run``, the folder, and ``uuid``.

    Raises
    ------
    RunError : there is no finished run, or another process is writing it.
    """
    from curate.errors import RunError
    from curate.io.paths import folder_path, linked, reaching
    from curate.io.run import MANIFEST, RunFolder, write_json

    folder = RunFolder(run)
    if folder.manifest is None:  # or a folder is made there
        raise RunError(f"{run}: no finished run to publish; select first")
    with folder.locked():
        folder.refuse_updating()
        manifest = folder.manifest
        if manifest is None:
            raise RunError(f"{run}: no finished run to publish; select first")
        place = folder_path(to) / manifest["uuid"]
        with reaching(folder.path):
            files = [path for name in sorted(_names(folder.path) - {MANIFEST}) for path in _files(folder.path / name)]
            for path in [*files, folder.path / MANIFEST]:  # last, for it is what makes a run of them
                linked(path, place.joinpath(*path.parts[len(folder.path.parts) :]))
    found = {"run": str(place), "uuid": manifest["uuid"]}
    write_json(folder_path(to) / LATEST, found)
    return found


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - set(_LEFT_OUT)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
