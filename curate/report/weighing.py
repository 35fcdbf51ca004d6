"""What a report says of a curriculum: weights of groups beside their shares, or how weights of documents are spread."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curate.io.curriculum import CURRICULUM, DOCUMENTS, GROUPS, TEXT, Curriculum, read_curriculum
from curate.io.paths import folder_path
from curate.io.tables import batches
from curate.report.safe import label
from curate.report.summary import DocumentWeights, GroupWeight, Weighing

GROUPS_SHOWN = 20
STAGES_SHOWN, SPREADS_SHOWN = 24, 6  # of groups, of documents
BINS = 30
OUTERMOST = 0.995
SOURCE = "source"  # the column that a run knows the shares of

Shares = Mapping[str, Mapping[str, float]]  # by "raw" and "selected", then by group


def weighing_of(path: str | os.PathLike[str], sources: Shares) -> Weighing:
    """What is to be said of a curriculum.

    Parameters
    ----------
    path : its folder or file. sources : shares of documents by the column source, as far as they are known.
    """
    made = read_curriculum(path)
    if made.unit == "doc_id":
        stages = some_of(made.n_stages, SPREADS_SHOWN)
        return Weighing(_about(made), made.n_stages, stages, documents=tuple(_spread(made, stage) for stage in stages))
    stages = some_of(made.n_stages, STAGES_SHOWN)
    weights = [made.shares(stage, DOCUMENTS, {}) if _counted(made) else made.stage(stage) for stage in stages]
    names = list(dict.fromkeys(made.names.to_pylist()))
    groups = _largest(names, weights, _shares(made, folder_path(path), sources))
    return Weighing(_about(made), made.n_stages, stages, len(names), groups)


def own_curriculum(folder: Path) -> Path | None:
    """The curriculum in the folder of a run, or below it where a recipe puts one."""
    return next((at for at in (folder, folder / "curriculum") if (at / CURRICULUM).is_file()), None)


def some_of(n: int, most: int) -> tuple[int, ...]:
    """At most ``most`` of 0 to n - 1, evenly, the first and the last among them."""
    return tuple(np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist())


def _counted(made: Curriculum) -> bool:
    """Whether weights that are of text can be shown as shares of documents, as those of raw and selected are."""
    return made.about.get("weights_of") in TEXT and "raw_documents" in made.columns


def _about(made: Curriculum) -> str:
    """What made it, in one line."""
    passed = ("method", *(["weights_of"] if _counted(made) else []))
    settings = ", ".join(f"{key} {_value(v)}" for key, v in made.about.items() if key not in passed and v is not None)
    of = "documents" if made.unit == "doc_id" else "groups"
    stages = f" in {made.n_stages:,} stages" if made.n_stages > 1 else ""
    by = f", by {_value(made.about['method'])}" if "method" in made.about else ""
    shown = " Here they are shares of documents." if _counted(made) else ""
    return label(f"Weights of {of}{stages}{by}{f' ({settings})' if settings else ''}.", 400) + shown


def _value(value: Any) -> str:
    return label(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 60)


def _shares(made: Curriculum, path: Path, sources: Shares) -> Shares:
    """Shares of documents by group, where they are known."""
    column = made.about.get("column")
    if column is not None:
        return sources if column == SOURCE else {}
    table = (path if path.is_dir() else path.parent) / GROUPS
    if not table.is_file():
        return {}
    counts: Counter[str] = Counter()
    for rows in batches(table, ["group"]):
        counts.update({str(item["values"]): item["counts"] for item in rows["group"].value_counts().to_pylist()})
    return {"raw": {name: count / counts.total() for name, count in counts.items()}}


def _largest(names: Sequence[str], weights: Sequence[Mapping[str, float]], shares: Shares) -> tuple[GroupWeight, ...]:
    """The groups with the largest weight of any stage, and the others in one."""

    def together(name: str, some: Sequence[str]) -> GroupWeight:
        known = {corpus: sum(of.get(one, 0.0) for one in some) for corpus, of in shares.items()}
        return GroupWeight(name, tuple(sum(of.get(one, 0.0) for one in some) for of in weights), **known)

    ordered = sorted(names, key=lambda name: (-max(of.get(name, 0.0) for of in weights), name))
    rest = ordered[GROUPS_SHOWN:]
    found = tuple(together(name, [name]) for name in ordered[:GROUPS_SHOWN])
    return (*found, together(f"{len(rest):,} more", rest)) if rest else found


def _spread(made: Curriculum, stage: int) -> DocumentWeights:
    """How the weights of documents are spread in a stage."""
    weights = made.weights[made.stages == stage]
    n = len(weights)
    times = np.sort(weights) * n
    high = max(2.0, float(times[-1]) if times[-1] <= 2 * np.quantile(times, OUTERMOST) else
               float(np.quantile(times, OUTERMOST)))  # fmt: skip
    edges = np.linspace(0, high, BINS + 1)
    counts = np.histogram(np.minimum(times, high), edges)[0]
    return DocumentWeights(
        stage,
        tuple(float(f"{edge:.6g}") for edge in edges),
        tuple(counts.tolist()),
        n,
        int(np.count_nonzero(weights)),
        float(1 / np.sum(weights**2)),
        float(times[-1]),
        float(times[-max(1, n // 10) :].sum() / n),
    )
