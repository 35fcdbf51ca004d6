"""Nearest neighbours and k-means: by faiss where it is installed, on a GPU where it has one, else by NumPy."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from curate._optional import installed, require
from curate.errors import InputError, UsageError

BACKENDS = ("auto", "faiss", "numpy")
SPARE = 8  # candidates beyond k, whose order is decided in double precision
FAISS_FROM = 1_000  # centres: with fewer one matrix product is quicker
_BLOCK = 1 << 23  # distances at a time


@dataclass(frozen=True)
class Neighbours:
    """``rows``: int64[n_queries, k] of the base, nearest first, of equally near ones the earlier;
    ``distances``: float64[n_queries, k], Euclidean."""

    rows: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class KMeans:
    """``centres``: float64[k, dim]; ``labels``: int64[n]; ``sse``: the sum of squared distances to the own centre."""

    centres: np.ndarray
    labels: np.ndarray
    sse: float


def nearest(queries: np.ndarray, base: np.ndarray, k: int, *, backend: str = "auto") -> Neighbours:
    """The k nearest rows of ``base`` (float[n, dim]) to each of ``queries`` (float[n_queries, dim]), exactly.

    Candidates are found in single precision, by faiss or by blocks, and ordered in double, so that both give the
    same rows but among more than SPARE at the same distance from a query.

    Raises
    ------
    UsageError : k is not 1 to n, or dimensions differ. MissingExtraError : ``backend="faiss"`` without it.
    """
    if not 1 <= k <= len(base):
        raise UsageError(f"k={k:,}: there are {len(base):,} vectors to be neighbours")
    if queries.shape[1:] != base.shape[1:]:
        raise UsageError(
            f"queries have {queries.shape[1]} dimensions and the vectors that are searched {base.shape[1]}"
        )
    wanted = min(k + SPARE, len(base))
    q, b = (np.ascontiguousarray(x, np.float32) for x in (queries, base))
    find = _by_faiss if _uses_faiss(backend) else _by_blocks
    return _ordered(queries, base, find(q, b, wanted), k)


def _uses_faiss(backend: str) -> bool:
    if backend not in BACKENDS:
        raise UsageError(f"backend={backend!r}: there are {', '.join(BACKENDS)}")
    return backend == "faiss" or (backend == "auto" and installed("faiss"))


@cache
def load_faiss() -> Any:
    """The package faiss.

    Raises
    ------
    MissingExtraError : it is not installed. InputError : its two builds are, which overwrite each other's files.
    """
    builds = [d for d in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12") if _is_distribution(d)]
    if len(builds) > 1:
        raise InputError(f"{' and '.join(builds)} are both installed and break each other: pip uninstall {builds[0]}")
    return require("faiss", extra="faiss", purpose="backend='faiss'")


def _is_distribution(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _by_faiss(queries: np.ndarray, base: np.ndarray, k: int) -> np.ndarray:
    faiss = load_faiss()
    index = faiss.IndexFlatL2(base.shape[1])
    if hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0:  # without one faiss fails late and silently
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(base)
    return index.search(queries, k)[1].astype(np.int64)


def _by_blocks(queries: np.ndarray, base: np.ndarray, k: int) -> np.ndarray:
    half_squares = 0.5 * np.einsum("ij,ij->i", base, base)
    step = max(1, _BLOCK // len(base))
    found = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), step):
        near = half_squares - queries[start : start + step] @ base.T  # half the squared distance, less the query's
        found[start : start + step] = np.argpartition(near, k - 1, axis=1)[:, :k]
    return found


def _ordered(queries: np.ndarray, base: np.ndarray, rows: np.ndarray, k: int) -> Neighbours:
    """The first k of candidates (int64[n_queries, at least k]) by distance, then by row."""
    best, distances = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
    step = max(1, _BLOCK // max(1, rows.shape[1] * base.shape[1]))
    for start in range(0, len(rows), step):
        some = np.sort(rows[start : start + step], axis=1)
        gap = base[some].astype(np.float64) - queries[start : start + step, None, :]
        distance = np.sqrt(np.einsum("ijk,ijk->ij", gap, gap))
        order = np.argsort(distance, axis=1, kind="stable")[:, :k]
        best[start : start + step] = np.take_along_axis(some, order, 1)
        distances[start : start + step] = np.take_along_axis(distance, order, 1)
    return Neighbours(best, distances)


Assign = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kmeans(
    x: np.ndarray,
    k: int,
    *,
    n_init: int = 10,
    n_iter: int = 100,
    tolerance: float = 0.0,
    seed: int = 0,
    backend: str = "auto",
) -> KMeans:
    """The best of ``n_init`` runs of Lloyd's algorithm from k-means++ starts (Arthur and Vassilvitskii, 2007).

    The starts and the means are computed here, and only the assignment is faiss's, so that the answer does not
    depend on what is installed. A cluster that loses all of its members takes the point that is farthest from its own
    centre.

    Parameters
    ----------
    x : float[n, dim]. n_iter : rounds at most. tolerance : a run ends when no more than this share of labels changes.

    Raises
    ------
    UsageError : k is not 1 to the number of points.
    """
    if not 1 <= k <= len(x):
        raise UsageError(f"k={k:,}: there are {len(x):,} points to make clusters of")
    x = np.ascontiguousarray(x, np.float64)
    by_faiss = _uses_faiss(backend) and (backend == "faiss" or k >= FAISS_FROM)
    assign = _faiss_labels if by_faiss else labels_of
    best: KMeans | None = None
    for run in range(n_init):
        found = _lloyd(x, _plus_plus(x, k, np.random.default_rng([seed, run])), n_iter, tolerance, assign)
        if best is None or found.sse < best.sse:
            best = found
    assert best is not None
    return best


def labels_of(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64[n]: the nearest centre of each row, of equally near ones the earlier."""
    half_squares = 0.5 * np.einsum("ij,ij->i", centres, centres)
    step = max(1, _BLOCK // len(centres))
    found = np.empty(len(x), np.int64)
    for start in range(0, len(x), step):
        found[start : start + step] = np.argmin(half_squares - x[start : start + step] @ centres.T, axis=1)
    return found


def _faiss_labels(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return nearest(x, centres, 1, backend="faiss").rows[:, 0]


def _lloyd(x: np.ndarray, centres: np.ndarray, n_iter: int, tolerance: float, assign: Assign) -> KMeans:
    labels = assign(x, centres)
    for _ in range(n_iter):
        centres = _means(x, labels, centres)
        before, labels = labels, assign(x, centres)
        if (labels != before).sum() <= tolerance * len(x):
            break
    return KMeans(centres, labels, float(np.square(x - centres[labels]).sum()))


def _means(x: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """float64[k, dim]: the mean of each cluster."""
    k = len(centres)
    sizes = np.bincount(labels, minlength=k)
    order = np.argsort(labels, kind="stable")
    present = np.flatnonzero(sizes)
    means = centres.copy()
    starts = (np.cumsum(sizes) - sizes)[present]
    means[present] = np.add.reduceat(x[order], starts, axis=0) / sizes[present, None]
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        far = np.argsort(-np.square(x - centres[labels]).sum(axis=1), kind="stable")
        means[empty] = x[far[: len(empty)]]
    return means


def _plus_plus(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """float64[k, dim]: points drawn one after another, with odds of the squared distance to those before."""
    squares = np.einsum("ij,ij->i", x, x)
    chosen = [int(rng.integers(len(x)))]
    gaps = np.full(len(x), np.inf)
    for _ in range(k - 1):
        last = chosen[-1]
        gaps = np.minimum(gaps, np.maximum(squares - 2 * (x @ x[last]) + squares[last], 0.0))
        total = np.cumsum(gaps)
        chosen.append(min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(x) - 1))
    return x[chosen].copy()
