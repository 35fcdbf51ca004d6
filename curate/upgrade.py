"""Align the vectors of a new embedder with an old index: two files of vectors in, a map and its acceptance test out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import CorruptError, InputError, unknown
from curate.features.alignment import accuracy, choose_relaxation, compatibility
from curate.features.vectors import ColumnVectors
from curate.io.paths import atomic
from curate.io.run import finite, write_json
from curate.sampling.noise import HOLDOUT, uniform

HELD_OUT = 0.2
MIN_ANCHORS = 20


@dataclass(frozen=True)
class Upgrade:
    """How well an old index serves a new embedder.

    relaxation : of the map that was chosen. recalls : by relaxation, of held-out documents, the share whose own old
    vector is among the ``k`` nearest to their mapped new one.
    accuracies : ((old, nan), (new, own)): shares of held-out documents whose nearest of the others has their label,
    queries by the old and the new embedder, into the old index and into a new one; None without labels.
    accepted : whether new queries do better in the old index than old ones.
    """

    out: Path
    n_anchors: int
    n_held_out: int
    k: int
    relaxation: float
    recalls: Mapping[float, float]
    label_column: str | None
    accuracies: tuple[tuple[float, float], tuple[float, float]] | None
    accepted: bool | None


def align(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    id_column: str = "id",
    vector_column: str = "vector",
    label_column: str | None = None,
    k: int = 10,
    seed: int = 0,
) -> Upgrade:
    """Fit a map from new vectors to old ones, and test it on a fifth of the documents, by a hash of their ids.

    ``out`` gets ``alignment.npz`` (matrix, mean_new, mean_old) and ``alignment.json``.

    Parameters
    ----------
    old, new : Parquet files with an id and a vector; documents that only one has are passed over.
    label_column : of ``old``: says which documents are alike, for the acceptance test.

    Raises
    ------
    InputError : a column that is missing or holds no vectors, an id that occurs twice, too few documents in both.
    """
    ids, x_old, labels = _read(Path(old), id_column, vector_column, label_column)
    new_ids, x_new, _ = _read(Path(new), id_column, vector_column, None)
    place = pc.index_in(ids, new_ids)
    both = pc.is_valid(place).to_numpy(zero_copy_only=False)
    if both.sum() < MIN_ANCHORS:
        raise InputError(
            f"{new}: {both.sum():,} documents are in {old} too; at least {MIN_ANCHORS} are needed, by {id_column!r}"
        )
    x_new, x_old = x_new[place.drop_null().to_numpy()].astype(np.float64), x_old[both].astype(np.float64)
    held_out = uniform(ids.filter(pa.array(both)), seed, HOLDOUT) < HELD_OUT
    alignment, recalls = choose_relaxation(x_new, x_old, held_out, k=k)
    accuracies = accepted = None
    if labels is not None:
        of = np.unique(labels[both], return_inverse=True)[1]
        mapped, (test, rest) = alignment(x_new), (held_out, ~held_out)
        (a, b, c) = (
            accuracy(queries[test], of[test], gallery[rest], of[rest])
            for queries, gallery in ((x_old, x_old), (mapped, x_old), (x_new, x_new))
        )
        accuracies = (a, math.nan), (b, c)
        accepted = compatibility(np.array(accuracies)) == 1
    found = Upgrade(
        Path(out),
        int(both.sum()),
        int(held_out.sum()),
        k,
        alignment.relaxation,
        recalls,
        label_column,
        accuracies,
        accepted,
    )
    with atomic(found.out / "alignment.npz") as part, open(part, "wb") as stream:
        np.savez(stream, matrix=alignment.matrix, mean_new=alignment.mean_new, mean_old=alignment.mean_old)
    write_json(found.out / "alignment.json", {key: value for key, value in as_dict(found).items() if key != "out"})
    return found


def as_dict(found: Upgrade) -> dict[str, Any]:
    """As JSON can hold it; the relaxation without bounds is "inf"."""
    recalls = {f"{relaxation:g}": value for relaxation, value in found.recalls.items()}
    return finite(asdict(found) | {"out": str(found.out), "relaxation": f"{found.relaxation:g}", "recalls": recalls})


def _read(path: Path, id_column: str, vector_column: str, label_column: str | None) -> tuple[Any, np.ndarray, Any]:
    """``(ids, float32[n, dim], labels or None)`` of a Parquet file."""
    columns = [id_column, vector_column, *([label_column] if label_column else [])]
    try:
        there = pq.read_schema(path).names
        for column in columns:
            if column not in there:
                raise InputError(f"{path}: {unknown('column', column, there)}")
        table = pq.read_table(path, columns=columns)
    except pa.ArrowInvalid as error:
        raise CorruptError(f"{path}: not a Parquet file ({error})") from error
    vectors = ColumnVectors(vector_column)(table[vector_column], where=str(path))
    ids = table[id_column].cast(pa.large_string()).combine_chunks()
    if ids.null_count:
        raise InputError(f"{path}: {ids.null_count:,} documents without an id in {id_column!r}")
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise InputError(f"{path}: {len(twice):,} ids occur more than once, such as {twice[0]['values'].as_py()!r}")
    labels = None
    if label_column:
        labels = np.array([str(v) for v in table[label_column].to_pylist()], dtype=np.str_)
    return ids, vectors, labels
