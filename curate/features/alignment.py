"""From the vectors of a new embedder to those of an old one, so that an old index goes on serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.errors import UsageError
from curate.features.neighbours import nearest

RELAXATIONS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, float("inf"))
_TINY = 1e-12


@dataclass(frozen=True)
class Alignment:
    """``(x - mean_new) @ matrix + mean_old``.

    matrix : float64[dim_new, dim_old]. relaxation : how far its singular values are from 1 at most; 0 is a rotation,
    which changes no distance, and inf is free.
    """

    matrix: np.ndarray
    mean_new: np.ndarray
    mean_old: np.ndarray
    relaxation: float

    def __call__(self, new: np.ndarray) -> np.ndarray:
        """float64[n, dim_old] of vectors of the new embedder, float[n, dim_new]."""
        return (new - self.mean_new) @ self.matrix + self.mean_old


def procrustes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The orthogonal W that brings x @ W nearest to y: float64[dim_x, dim_y] (Schönemann, 1966).

    With X'Y = U S V' it is UV'. Where dimensions differ it is that of the smaller matrix padded with zeros, which has
    orthonormal columns, or rows.
    """
    u, _, v = np.linalg.svd(x.T @ y, full_matrices=False)
    return u @ v


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The W that brings x @ W nearest to y, of all: float64[dim_x, dim_y]."""
    return np.linalg.lstsq(x, y, rcond=None)[0]


def clipped(w: np.ndarray, relaxation: float) -> np.ndarray:
    """A matrix with its singular values brought to within ``relaxation`` of 1."""
    u, s, v = np.linalg.svd(w, full_matrices=False)
    return u * np.clip(s, max(0.0, 1 - relaxation), 1 + relaxation) @ v


def align(new: np.ndarray, old: np.ndarray, relaxation: float = 0.0, *, centre: bool = True) -> Alignment:
    """The map from new vectors to old ones, by those of the same documents.

    At 0 it is `procrustes`, since the clipped form, the polar factor of least squares, is that only where X'X is a
    multiple of I; above it is least squares, `clipped`.

    Parameters
    ----------
    new : float[n, dim_new]. old : float[n, dim_old], of the same documents in the same order.
    relaxation : 0 up to inf. centre : take the means off first, and put them on again.

    Raises
    ------
    UsageError : other numbers of vectors, none, or a relaxation below 0.
    """
    if len(new) != len(old) or not len(new):
        raise UsageError(f"{len(new):,} new vectors and {len(old):,} old ones: give those of the same documents")
    if not relaxation >= 0:
        raise UsageError(f"relaxation={relaxation}: must be 0 or more")
    mean_new, mean_old = ((a.mean(axis=0) if centre else np.zeros(a.shape[1])) for a in (new, old))
    x, y = new - mean_new, old - mean_old
    w = procrustes(x, y) if relaxation == 0 else clipped(least_squares(x, y), relaxation)
    return Alignment(w, mean_new, mean_old, relaxation)


def choose_relaxation(
    new: np.ndarray,
    old: np.ndarray,
    held_out: np.ndarray,
    *,
    k: int = 10,
    relaxations: Sequence[float] = RELAXATIONS,
) -> tuple[Alignment, dict[float, float]]:
    """The alignment with the best `recall` of documents that it was not fitted to, and the recall of each.

    Of equal ones the least relaxed is taken. held_out : bool[n].

    Raises
    ------
    UsageError : nothing is held out, or everything.
    """
    if held_out.all() or not held_out.any():
        raise UsageError("choosing a relaxation needs vectors to fit to, and others to measure with")
    found = [align(new[~held_out], old[~held_out], relaxation) for relaxation in sorted(relaxations)]
    rows = np.flatnonzero(held_out)
    measured = [recall(a(new[held_out]), old, rows, k) for a in found]
    return found[int(np.argmax(measured))], {a.relaxation: m for a, m in zip(found, measured, strict=True)}


def recall(queries: np.ndarray, index: np.ndarray, rows: np.ndarray, k: int) -> float:
    """The share of queries whose own row of the index is among the k nearest to it by cosine.

    Parameters
    ----------
    queries : float[n, dim]. index : float[n_index, dim]. rows : int64[n], the row that a query is of.
    """
    return float((_most_similar(queries, index, k) == rows[:, None]).any(axis=1).mean())


def accuracy(queries: np.ndarray, labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> float:
    """The share of queries whose nearest vector of the gallery by cosine has their label."""
    return float((gallery_labels[_most_similar(queries, gallery, 1)[:, 0]] == labels).mean())


def compatibility(accuracies: np.ndarray) -> float:
    """The share of pairs of models, the later one querying, that are compatible; nan for fewer than two models.

    Queries of a model into an earlier one's index must do better than that one's own: M[i, j] > M[j, j], i > j
    (Shen et al., 2020, arXiv:2003.11942, eq. 1; the share as in Biondi et al., 2023).

    Parameters
    ----------
    accuracies : float64[n_models, n_models], of queries by the row's model into the index of the column's, models
        from old to new; what is above the diagonal is not looked at.
    """
    later, earlier = np.tril_indices(len(accuracies), -1)
    better = accuracies[later, earlier] > accuracies[earlier, earlier]
    return float(better.mean()) if len(better) else float("nan")


def _most_similar(queries: np.ndarray, index: np.ndarray, k: int) -> np.ndarray:
    """int64[n, at most k] rows of the index, the most similar by cosine first; never those that are zero."""
    there = np.flatnonzero(index.any(axis=1))
    if not len(there):
        raise UsageError(f"all {len(index):,} vectors of the index are zero: nothing can be looked up in it")
    return there[nearest(_unit(queries), _unit(index[there]), min(k, len(there))).rows]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY)
