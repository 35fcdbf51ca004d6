"""A curriculum as files: in what proportion to train on which groups or documents, stage by stage."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import CorruptError, CurateError, InputError
from curate.io.paths import folder_path, reaching
from curate.io.run import write_json
from curate.io.tables import parquet_file, write_table

CURRICULUM, WEIGHTS, GROUPS = "curriculum.parquet", "weights.json", "groups.parquet"
UNITS = ("group", "doc_id")
TEXT, DOCUMENTS = ("bytes", "tokens"), "documents"  # what weights can be shares of
_ABOUT = b"curate_curriculum"


@dataclass(frozen=True)
class Curriculum:
    """Weights of groups or of documents; in each stage they add up to 1.

    Attributes
    ----------
    unit : "group" or "doc_id": what ``names`` are of.
    names : large_string[n_rows], once at most in a stage.
    stages : int32[n_rows], ascending from 0; in the order of training.
    weights : float64[n_rows], not negative; any scale is made to add up to 1.
    columns : more numbers to each row, by name, such as what the weight was made from.
    about : what made it: ``method``, its settings, and ``column``, the column of the documents that holds their group
        (None: ``groups.parquet`` beside it says which document is in which); ``weights_of``, "bytes" or "tokens" of
        text where weights are shares of these; without it they are shares of documents.

    Raises
    ------
    InputError : a weight that is no number or negative, a stage whose weights are all 0, a name twice in a stage.
    """

    unit: str
    names: pa.Array
    stages: np.ndarray
    weights: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, np.float64)
        stages = np.asarray(self.stages, np.int32)
        names = self.names.cast(pa.large_string())
        if not len(names):
            raise InputError(f"a curriculum of no {self.unit}s; give at least one")
        wrong = ~np.isfinite(weights) | (weights < 0)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise InputError(
                f"{self.unit} {names[first].as_py()!r}: weight {weights[first]}; must be a number from 0 on"
            )
        n_stages = int(stages.max()) + 1
        if stages.min() < 0 or len(np.unique(stages)) != n_stages or (np.diff(stages) < 0).any():
            raise InputError("stages must be 0, 1, 2, ... in ascending order, each with at least one row")
        with np.errstate(over="ignore"):
            sums = np.bincount(stages, weights, n_stages)
        if not np.isfinite(sums).all():
            weights = weights / weights.max()
            sums = np.bincount(stages, weights, n_stages)
        if (sums <= 0).any():
            raise InputError(f"stage {int(np.argmax(sums <= 0))}: all weights are 0; nothing would be trained on")
        for stage in range(n_stages):
            counts = pc.value_counts(names.filter(pa.array(stages == stage)))
            twice = counts.filter(pc.greater(counts.field("counts"), 1))
            if len(twice):
                raise InputError(f"stage {stage}: {self.unit} {twice[0]['values'].as_py()!r} occurs more than once")
        if np.abs(sums - 1).max() > 1e-9:  # what was written is read as it was
            weights = weights / sums[stages]
        for name, value in (("names", names), ("stages", stages), ("weights", weights)):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, weights: Mapping[str, float] | Sequence[Mapping[str, float]], **about: Any) -> Curriculum:
        """Of weights of groups by name, or of such for each stage."""
        stages = [weights] if isinstance(weights, Mapping) else list(weights)
        return cls(
            "group",
            pa.array([name for stage in stages for name in stage], pa.large_string()),
            np.repeat(np.arange(len(stages)), [len(stage) for stage in stages]),
            np.array([w for stage in stages for w in stage.values()], np.float64),
            about=about,
        )

    @property
    def n_stages(self) -> int:
        return int(self.stages[-1]) + 1

    def stage(self, stage: int = 0) -> dict[str, float]:
        """Weights of a stage by name."""
        rows = self.stages == stage
        return dict(zip(self.names.filter(pa.array(rows)).to_pylist(), self.weights[rows].tolist(), strict=True))

    def shares(self, stage: int, of: str, text: Mapping[str, float]) -> dict[str, float]:
        """Weights of a stage as shares of what a training loop counts: of documents, or of text.

        A share of the text is one of the documents times the text of a document. How much that is, the curriculum
        says where it was made from a corpus (columns ``raw_documents`` and ``raw_bytes`` or ``raw_tokens``).

        Parameters
        ----------
        of : "documents" or "text". text : bytes of a document by group, where the curriculum does not say.
        """
        weights = self.stage(stage)
        unit = self.about.get("weights_of", DOCUMENTS)
        if (unit in TEXT) == (of == "text"):
            return weights
        known = f"raw_{unit if unit in TEXT else TEXT[0]}", "raw_documents"
        if all(name in self.columns for name in known):
            rows = self.stages == stage
            amounts, documents = (np.asarray(self.columns[name])[rows] for name in known)
            text = dict(zip(weights, (amounts / np.maximum(documents, 1)).tolist(), strict=True))
        each = {name: max(text.get(name, 0.0), 1.0) for name in weights}
        found = {name: w * each[name] if of == "text" else w / each[name] for name, w in weights.items()}
        total = sum(found.values())
        return {name: weight / total for name, weight in found.items()}


def write_curriculum(folder: str | os.PathLike[str], curriculum: Curriculum) -> None:
    """Write ``curriculum.parquet`` and, of groups, ``weights.json``: ``{name: weight}``.

    Of several stages that is ``weights-stage-0.json``, ``weights-stage-1.json``, ...
    """
    folder = folder_path(folder)
    fields = [(curriculum.unit, pa.large_string()), ("stage", pa.int32()), ("weight", pa.float64())]
    more = {name: pa.array(values, from_pandas=True) for name, values in curriculum.columns.items()}
    schema = pa.schema([*fields, *((name, values.type) for name, values in more.items())])
    schema = schema.with_metadata({_ABOUT: json.dumps(dict(curriculum.about), ensure_ascii=False).encode()})
    table = pa.table([curriculum.names, curriculum.stages, curriculum.weights, *more.values()], schema=schema)
    write_table(folder / CURRICULUM, schema, [table], unique=UNITS)
    written = set()
    if curriculum.unit == "group":
        for stage in range(curriculum.n_stages):
            name = WEIGHTS if curriculum.n_stages == 1 else f"weights-stage-{stage}.json"
            write_json(folder / name, curriculum.stage(stage))
            written.add(name)
    for old in [folder / WEIGHTS, *folder.glob("weights-stage-*.json")]:
        if old.name not in written and re.fullmatch(r"weights(-stage-\d+)?\.json", old.name):
            old.unlink(missing_ok=True)  # last: a training loop that reads its weights now and then always finds them


def read_curriculum(path: str | os.PathLike[str]) -> Curriculum:
    """Read what `write_curriculum` wrote: its folder or its ``curriculum.parquet``.

    Raises
    ------
    InputError : no such file, it lacks a column, or one has values that it cannot have.
    CorruptError : it is no Parquet file.
    """
    path = folder_path(path)
    path = path / CURRICULUM if path.is_dir() else path
    try:
        with reaching(path), parquet_file(path) as file:
            table = file.read()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; curate curriculum makes one") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptError(f"{path}: not a Parquet file ({error})") from error
    unit = next((name for name in UNITS if name in table.column_names), None)
    missing = [name for name in ("stage", "weight") if name not in table.column_names]
    if unit is None or missing:
        raise InputError(f"{path}: no column {missing[0] if missing else 'group or doc_id'!r}")
    more = [name for name in table.column_names if name not in (unit, "stage", "weight")]
    types = {unit: pa.large_string(), "stage": pa.int32(), "weight": pa.float64()}
    try:
        names, stages, weights = (table[name].cast(of).combine_chunks() for name, of in types.items())
        about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
    except (pa.ArrowException, ValueError) as error:
        raise InputError(
            f"{path}: {unit}, stage or weight are not text, whole numbers and numbers ({error})"
        ) from error
    for name, values in zip(types, (names, stages, weights), strict=True):
        if values.null_count:
            raise InputError(f"{path}: row {values.is_null().index(True).as_py()} has no {name}")
    return Curriculum(
        unit, names, stages.to_numpy(), weights.to_numpy(), {name: table[name].to_numpy() for name in more}, about
    )


def method_in(folder: Path) -> str | None:
    """What made the curriculum in a folder; None when there is none."""
    if not (folder / CURRICULUM).exists():
        return None
    try:
        return str(read_curriculum(folder).about.get("method"))
    except CurateError:
        return "something else"
