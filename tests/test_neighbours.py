"""Neighbours are those of the definition, and k-means keeps its invariants, whatever is installed to compute them."""

import importlib.util
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from curate.errors import InputError, MissingExtraError, UsageError
from curate.features import neighbours
from curate.features.neighbours import SPARE, kmeans, labels_of, nearest

HAS_FAISS = importlib.util.find_spec("faiss") is not None
BACKENDS = ["numpy", pytest.param("faiss", marks=pytest.mark.skipif(not HAS_FAISS, reason="needs faiss-cpu"))]
grid = st.integers(-3, 3).map(float)


def points(n, dim=3):
    return hnp.arrays(np.float64, (n, dim), elements=grid)


def distances_by_definition(queries, base):
    return np.sqrt(np.square(queries[:, None, :] - base[None, :, :]).sum(axis=2))


# ---- neighbours


@pytest.mark.parametrize("backend", BACKENDS)
@given(points(5), points(SPARE + 2), st.integers(1, SPARE + 2))
@settings(max_examples=60)
def test_neighbours_are_the_nearest_and_of_equally_near_ones_the_earlier(backend, queries, base, k) -> None:
    found = nearest(queries, base, k, backend=backend)
    exact = distances_by_definition(queries, base)
    assert found.distances == pytest.approx(np.sort(exact, axis=1)[:, :k])
    if k + SPARE >= len(base):
        assert np.array_equal(found.rows, np.argsort(exact, axis=1, kind="stable")[:, :k])


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbours_of_real_numbers_are_those_of_the_definition(backend) -> None:
    rng = np.random.default_rng(0)
    queries, base = rng.normal(size=(50, 40)), rng.normal(size=(3000, 40))
    exact = distances_by_definition(queries, base)
    found = nearest(queries, base, 10, backend=backend)
    assert np.array_equal(found.rows, np.argsort(exact, axis=1, kind="stable")[:, :10])
    assert found.distances == pytest.approx(np.sort(exact, axis=1)[:, :10])


def test_blocks_do_not_matter(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    queries, base = rng.normal(size=(20, 4)), rng.normal(size=(100, 4))
    whole = nearest(queries, base, 3, backend="numpy")
    labels = labels_of(base, queries)
    monkeypatch.setattr(neighbours, "_BLOCK", 150)
    again = nearest(queries, base, 3, backend="numpy")
    assert np.array_equal(whole.rows, again.rows)
    assert np.array_equal(whole.distances, again.distances)
    assert np.array_equal(labels_of(base, queries), labels)


@pytest.mark.parametrize(
    ("k", "shape", "message"),
    [(0, (4, 3), "k=0: there are 4"), (5, (4, 3), "k=5: there are 4"), (1, (4, 2), "3 dimensions .* searched 2")],
)
def test_neighbours_that_cannot_be_found_are_refused(k, shape, message) -> None:
    with pytest.raises(UsageError, match=message):
        nearest(np.zeros((1, 3)), np.zeros(shape), k)


def test_a_backend_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="there are auto, faiss, numpy"):
        nearest(np.zeros((1, 3)), np.zeros((1, 3)), 1, backend="gpu")


def test_without_faiss_numpy_answers_unless_faiss_is_asked_for(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(neighbours, "installed", lambda module: False)
    neighbours.load_faiss.cache_clear()
    assert nearest(np.ones((1, 2)), np.eye(2), 1).rows.tolist() == [[0]]
    with pytest.raises(MissingExtraError, match=r"pip install 'curate-data\[faiss\]'"):
        nearest(np.ones((1, 2)), np.eye(2), 1, backend="faiss")


def test_two_builds_of_faiss_are_told_apart_from_one_that_is_missing() -> None:
    neighbours.load_faiss.cache_clear()
    with (
        mock.patch.object(neighbours, "_is_distribution", lambda name: name != "faiss-gpu-cu12"),
        pytest.raises(InputError, match=r"faiss-cpu and faiss-gpu are both installed .* pip uninstall faiss-cpu"),
    ):
        neighbours.load_faiss()


class _FaissWithGpu:
    """Notes where an index went; searches as NumPy does."""

    def __init__(self, n_gpus):
        self.n_gpus, self.moved = n_gpus, 0

    def get_num_gpus(self):
        return self.n_gpus

    def IndexFlatL2(self, dim):  # noqa: N802
        return self

    def index_cpu_to_all_gpus(self, index):
        self.moved += 1
        return index

    def add(self, base):
        self.base = base

    def search(self, queries, k):
        exact = distances_by_definition(queries, self.base)
        return None, np.argsort(exact, axis=1)[:, :k]


@pytest.mark.parametrize("n_gpus", [0, 2])
def test_faiss_searches_on_a_gpu_only_when_it_has_one(monkeypatch, n_gpus) -> None:
    faiss = _FaissWithGpu(n_gpus)
    monkeypatch.setattr(neighbours, "load_faiss", lambda: faiss)
    assert nearest(np.ones((1, 2)), np.eye(2), 1, backend="faiss").rows.tolist() == [[0]]
    assert faiss.moved == (n_gpus > 0)


# ---- k-means


def test_the_invariant_of_the_worked_example() -> None:
    x = np.array([[0.0, 0], [0, 1], [4, 0], [4, 1]])
    found = kmeans(x, 2, backend="numpy")
    assert found.labels.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    same = found.labels[:, None] == found.labels
    z = same / same.sum(axis=1)
    assert np.sum((x @ x.T) * z) == pytest.approx(33)
    assert found.sse == pytest.approx(1)
    assert np.trace(z) == pytest.approx(2)
    assert z.sum(axis=1) == pytest.approx(np.ones(4))


@given(points(12), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=60)
def test_the_squared_error_is_what_the_clusters_leave_of_the_squared_norm(x, k, seed) -> None:
    """SSE = ||X||^2 - <XX^T, Z>, Z being 1 / size of the cluster for two of one cluster, else 0."""
    found = kmeans(x, k, n_init=2, seed=seed, backend="numpy")
    same = found.labels[:, None] == found.labels
    z = same / same.sum(axis=1)
    assert found.sse == pytest.approx(np.square(x).sum() - np.sum((x @ x.T) * z), abs=1e-9)
    assert np.trace(z) == pytest.approx(len(np.unique(found.labels)))


@given(points(12), st.integers(1, 12))
@settings(max_examples=60)
def test_everything_is_in_the_cluster_whose_centre_is_nearest(x, k) -> None:
    found = kmeans(x, k, n_init=1, n_iter=1000, backend="numpy")
    distances = distances_by_definition(x, found.centres)
    own = distances[np.arange(len(x)), found.labels]
    assert own == pytest.approx(distances.min(axis=1), abs=1e-9)


def test_clusters_that_are_far_apart_are_found_and_no_cluster_is_empty() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(20), 30)
    x = 100 * np.stack([truth % 5, truth // 5], axis=1) + rng.normal(size=(600, 2))
    found = kmeans(x, 20, seed=1, backend="numpy")
    assert len(np.unique(found.labels)) == 20
    assert len({(a, b) for a, b in zip(truth, found.labels, strict=True)}) == 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_k_means_is_the_same_by_any_backend_and_again(backend) -> None:
    x = np.random.default_rng(0).normal(size=(500, 8))
    one, other = kmeans(x, 7, n_init=3, backend="numpy"), kmeans(x, 7, n_init=3, backend=backend)
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.centres, other.centres)


def test_more_runs_are_never_worse() -> None:
    x = np.random.default_rng(0).normal(size=(300, 2))
    errors = [kmeans(x, 15, n_init=n, backend="numpy").sse for n in (1, 3, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[2]


@pytest.mark.parametrize("k", [0, 5])
def test_more_clusters_than_points_are_refused(k) -> None:
    with pytest.raises(UsageError, match=f"k={k}: there are 4 points"):
        kmeans(np.zeros((4, 2)), k)
