"""What came out of a selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.io.run import RunFolder
from curate.logs import event


@dataclass(frozen=True)
class Selection:
    """What a selection did, and where it is."""

    out: Path
    n_documents: int
    n_selected: int
    n_bytes_selected: int
    n_tokens_selected: int
    shards: tuple[Path, ...]
    diagnostics: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    manifest: Mapping[str, Any] = field(repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict)  # by step; empty when nothing was left to do

    @classmethod
    def of(cls, folder: RunFolder, manifest: Mapping[str, Any], seconds: Mapping[str, float]) -> Selection:
        """From the manifest of a run."""
        stats = manifest["stats"]
        return cls(
            folder.path,
            stats["n_documents"],
            stats["n_selected"],
            stats["n_bytes_selected"],
            stats["n_tokens_selected"],
            tuple(folder.path / s["path"] for s in manifest["shards"]),
            tuple(stats["diagnostics"]),
            tuple(stats["warnings"]),
            manifest,
            dict(seconds),
        )


@dataclass(frozen=True)
class Scoring:
    """What scoring a corpus did, and where the score table is."""

    out: Path
    n_documents: int
    n_eligible: int
    reasons: Mapping[str, int]
    key: str
    seconds: Mapping[str, float] = field(default_factory=dict)


def log_end(done: Selection) -> None:
    """Log what came of a run."""
    for warning in done.warnings:
        event("run.warning", level="warning", message=warning)
    counts: dict[str, Any] = {
        "n_documents": done.n_documents,
        "n_selected": done.n_selected,
        "n_bytes": done.n_bytes_selected,
    }
    event("run.end", out=str(done.out), uuid=done.manifest["uuid"], **counts, seconds=dict(done.seconds))
