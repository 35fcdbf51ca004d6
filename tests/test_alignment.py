"""Alignments of embedders: the worked examples, what a rotation must keep, and when an upgrade is accepted."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.cli import main
from curate.errors import InputError, UsageError
from curate.features.alignment import (
    RELAXATIONS,
    accuracy,
    align,
    choose_relaxation,
    clipped,
    compatibility,
    least_squares,
    procrustes,
    recall,
)

X = np.array([[1.0, 0], [0, 1], [1, 1]])
R = np.array([[math.cos(0.3), math.sin(0.3)], [-math.sin(0.3), math.cos(0.3)]])
Y = X @ R @ np.diag([1.2, 0.9])
shapes = st.tuples(st.integers(8, 20), st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))


def data(shape):
    n, dim_x, dim_y, seed = shape
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dim_x)), rng.normal(size=(n, dim_y)), rng


def off_orthogonal(w):
    return np.linalg.norm(w.T @ w - np.eye(w.shape[1]))


# ---- worked examples


def test_the_rotation_of_the_worked_example() -> None:
    w = procrustes(X, Y)
    assert w == pytest.approx(np.array([[0.971658702, 0.236388168], [-0.236388168, 0.971658702]]), abs=1e-9)
    assert np.linalg.norm(X @ w - Y) == pytest.approx(0.260508942, abs=1e-9)


def test_the_least_squares_of_the_worked_example_is_exact() -> None:
    w = least_squares(X, Y)
    assert np.linalg.svd(w)[1] == pytest.approx([1.2, 0.9])
    assert np.linalg.norm(X @ w - Y) == pytest.approx(0, abs=1e-12)


def test_the_relaxed_map_of_the_worked_example() -> None:
    w = clipped(least_squares(X, Y), 0.05)
    assert w == pytest.approx(np.array([[1.003103314, 0.280744196], [-0.310296217, 0.907569665]]), abs=1e-9)
    assert np.linalg.norm(X @ w - Y) == pytest.approx(0.196741329, abs=1e-9)
    assert off_orthogonal(w) == pytest.approx(0.141465544, abs=1e-9)
    assert align(X, Y, 0.05, centre=False).matrix == pytest.approx(w)


# ---- properties


@given(shapes)
@settings(max_examples=50)
def test_no_orthogonal_map_is_nearer_than_that_of_procrustes(shape) -> None:
    x, y, rng = data(shape)
    w = procrustes(x, y)
    narrow = w if w.shape[0] >= w.shape[1] else w.T
    assert off_orthogonal(narrow) == pytest.approx(0, abs=1e-9)
    for _ in range(20):
        u, _, v = np.linalg.svd(rng.normal(size=w.shape), full_matrices=False)
        assert np.sum((x @ w) * y) >= np.sum((x @ (u @ v)) * y) - 1e-9


@given(shapes)
@settings(max_examples=50)
def test_procrustes_of_other_dimensions_is_that_of_padded_matrices(shape) -> None:
    x, y, _ = data(shape)
    dim = max(x.shape[1], y.shape[1])
    padded = [np.pad(a, ((0, 0), (0, dim - a.shape[1]))) for a in (x, y)]
    whole = procrustes(*padded)[: x.shape[1], : y.shape[1]]
    assert np.sum((x @ procrustes(x, y)) * y) == pytest.approx(np.sum((x @ whole) * y))


@given(shapes)
@settings(max_examples=50)
def test_a_rotation_and_a_shift_are_undone_exactly_and_distances_kept(shape) -> None:
    x, _, rng = data(shape)
    turn = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0]
    y = x @ turn + rng.normal(size=x.shape[1])
    found = align(x, y)
    assert found(x) == pytest.approx(y, abs=1e-8)
    other = rng.normal(size=(5, x.shape[1]))
    before, after = (np.linalg.norm(a[:, None] - a[None, :], axis=2) for a in (other, found(other)))
    assert after == pytest.approx(before, abs=1e-9)


@given(shapes, st.floats(0.01, 2))
@settings(max_examples=50)
def test_a_relaxed_map_stays_within_its_bounds_and_inf_is_least_squares(shape, relaxation) -> None:
    x, y, _ = data(shape)
    s = np.linalg.svd(align(x, y, relaxation).matrix)[1]
    assert s.max() <= 1 + relaxation + 1e-9
    assert s.min() >= max(0, 1 - relaxation) - 1e-9
    free = align(x, y, math.inf)
    assert free.matrix == pytest.approx(least_squares(x - x.mean(0), y - y.mean(0)), abs=1e-8)


@given(shapes)
@settings(max_examples=30)
def test_no_map_leaves_less_than_least_squares(shape) -> None:
    x, y, _ = data(shape)
    left = [np.linalg.norm(align(x, y, r)(x) - y) for r in RELAXATIONS]
    assert min(left) >= left[-1] - 1e-9


# ---- the choice, and the acceptance


def upgraded(n=400, dim=16, noise=0.0, seed=0):
    """Old vectors, and new ones that are turned and stretched."""
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(n, dim))
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    stretch = np.diag(rng.uniform(0.3, 3, dim))
    return old, old @ turn @ stretch @ turn.T + noise * rng.normal(size=(n, dim))


def test_a_relaxation_is_chosen_by_what_was_held_out() -> None:
    old, new = upgraded(dim=8, noise=0.5)
    held_out = np.arange(len(old)) % 5 == 0
    best, measured = choose_relaxation(new, old, held_out, k=1)
    assert measured[best.relaxation] == max(measured.values())
    assert measured[best.relaxation] > measured[0.0]
    assert list(measured) == list(RELAXATIONS)
    again = align(new[~held_out], old[~held_out], best.relaxation)
    assert np.array_equal(again.matrix, best.matrix)


def test_of_equally_good_ones_the_rotation_is_taken() -> None:
    old, _ = upgraded()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
    best, measured = choose_relaxation(old @ turn, old, np.arange(len(old)) % 2 == 0)
    assert set(measured.values()) == {1.0}
    assert best.relaxation == 0


def test_recall_is_the_share_of_own_rows_among_the_nearest() -> None:
    index = np.array([[1.0, 0], [0, 1], [-1, 0], [0.9, 0.1]])
    queries = np.array([[5.0, 0.1], [0, 2]])
    assert recall(queries, index, np.array([0, 1]), 1) == 1
    assert recall(queries, index, np.array([3, 1]), 1) == 0.5
    assert recall(queries, index, np.array([3, 1]), 2) == 1
    assert recall(queries, index, np.array([2, 2]), 99) == 1


def test_vectors_of_no_direction_are_similar_to_nothing() -> None:
    index = np.array([[0.0, 0], [1, 0.5], [-1, 0]])
    assert recall(np.array([[-0.2, 1.0]]), index, np.array([1]), 1) == 1
    assert accuracy(np.array([[-0.2, 1.0]]), np.array(["b"]), index, np.array(["a", "b", "c"])) == 1
    with pytest.raises(UsageError, match="all 2 vectors of the index are zero"):
        recall(np.ones((1, 2)), np.zeros((2, 2)), np.array([0]), 1)


def test_accuracy_is_the_share_of_nearest_with_the_same_label() -> None:
    gallery, labels = np.array([[1.0, 0], [0, 1]]), np.array(["a", "b"])
    queries = np.array([[2.0, 0.1], [0.1, 3], [3, 1]])
    assert accuracy(queries, np.array(["a", "b", "b"]), gallery, labels) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("matrix", "share"),
    [
        ([[0.7, 0], [0.8, 0.9]], 1.0),
        ([[0.7, 0], [0.7, 0.9]], 0.0),
        ([[0.5, 0, 0], [0.6, 0.7, 0], [0.4, 0.8, 0.9]], 2 / 3),
    ],
)
def test_compatible_are_pairs_where_the_new_query_beats_the_old(matrix, share) -> None:
    assert compatibility(np.array(matrix)) == pytest.approx(share)


def test_one_model_has_no_compatibility() -> None:
    assert math.isnan(compatibility(np.array([[0.7]])))


@pytest.mark.parametrize(
    ("new", "old", "relaxation", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), 0, "2 new vectors and 3 old ones"),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0, "0 new vectors"),
        (np.zeros((2, 3)), np.zeros((2, 3)), -1, "relaxation=-1: must be 0 or more"),
        (np.zeros((2, 3)), np.zeros((2, 3)), math.nan, "relaxation=nan"),
    ],
)
def test_what_cannot_be_aligned_is_refused(new, old, relaxation, message) -> None:
    with pytest.raises(UsageError, match=message):
        align(new, old, relaxation)


@pytest.mark.parametrize("held_out", [np.zeros(4, bool), np.ones(4, bool)])
def test_a_choice_without_two_parts_is_refused(held_out) -> None:
    with pytest.raises(UsageError, match="vectors to fit to, and others to measure with"):
        choose_relaxation(np.eye(4), np.eye(4), held_out)


# ---- files


def written(path, ids, vectors, **more):
    columns = {"id": ids, "vector": pa.array(vectors.tolist(), pa.list_(pa.float32())), **more}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def files(tmp_path):
    """Vectors of 300 documents of five kinds; the new embedder sees the kinds better, and is turned."""
    rng = np.random.default_rng(0)
    kind = np.arange(300) % 5
    clean = 3 * np.eye(8)[kind]
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    noise = rng.normal(size=(300, 8))
    ids = [f"d{i}" for i in range(300)]
    old = written(tmp_path / "old.parquet", ids, clean + 1.3 * noise, kind=[f"k{k}" for k in kind])
    order = rng.permutation(300)
    better = ((clean + 0.6 * noise) @ turn)[order]
    new = written(tmp_path / "new.parquet", [ids[i] for i in order] + ["only here"], np.vstack([better, np.ones(8)]))
    return old, new


def test_an_upgrade_that_sees_better_is_accepted_and_what_is_written_maps_new_to_old(files, tmp_path) -> None:
    found = curate.align(*files, out=tmp_path / "out", label_column="kind")
    (before, _), (after, own) = found.accuracies
    assert found.accepted
    assert before < after
    assert own > before
    assert (found.n_anchors, found.n_held_out) == (300, int(found.n_held_out))
    with np.load(tmp_path / "out/alignment.npz") as arrays:
        new = np.array(pq.read_table(files[1])["vector"].to_pylist()[:-1])
        mapped = (new - arrays["mean_new"]) @ arrays["matrix"] + arrays["mean_old"]
    old = dict(zip(*(pq.read_table(files[0])[c].to_pylist() for c in ("id", "vector")), strict=True))
    target = np.array([old[i] for i in pq.read_table(files[1])["id"].to_pylist()[:-1]])
    assert np.linalg.norm(mapped - target) < np.linalg.norm(new - target) / 2
    assert json.loads((tmp_path / "out/alignment.json").read_text())["accepted"] is True


def test_the_old_embedder_in_the_place_of_the_new_one_is_no_upgrade(files, tmp_path) -> None:
    found = curate.align(files[0], files[0], out=tmp_path / "out", label_column="kind")
    assert found.recalls[0.0] == 1
    assert found.relaxation == 0
    assert found.accepted is False


def test_without_labels_there_is_a_map_and_no_verdict(files, tmp_path) -> None:
    done = CliRunner().invoke(main, ["align", *map(str, files), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "not tested" in done.output
    assert "300 documents in both" in done.output
    assert curate.align(*files, out=tmp_path / "out").accepted is None


def test_the_verdict_is_printed_with_its_figures(files, tmp_path) -> None:
    words = ["align", *map(str, files), "--out", str(tmp_path / "out"), "--label-column", "kind"]
    assert "accepted: nearest of the same kind in the old index for" in CliRunner().invoke(main, words).output


def test_the_order_of_the_files_does_not_matter(files, tmp_path) -> None:
    one = curate.align(*files, out=tmp_path / "one", label_column="kind")
    table = pq.read_table(files[0])
    pq.write_table(table.take(np.random.default_rng(1).permutation(300)), tmp_path / "shuffled.parquet")
    other = curate.align(tmp_path / "shuffled.parquet", files[1], out=tmp_path / "other", label_column="kind")
    assert (other.relaxation, other.recalls, other.accuracies[1]) == (one.relaxation, one.recalls, one.accuracies[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["vector"]), "old.parquet: no column called 'vector'"),
        (lambda t: t.set_column(0, "id", pa.array(["same"] * 300)), "1 ids occur more than once, such as 'same'"),
        (lambda t: t.set_column(0, "id", pa.array([None] * 300, pa.string())), "300 documents without an id"),
        (lambda t: t.slice(0, 19), "19 documents are in .*old.parquet too; at least 20"),
        (lambda t: t.set_column(1, "vector", pa.array(["x"] * 300)), "string, not lists of numbers"),
        (lambda t: t.drop_columns(["kind"]), "no column called 'kind'"),
    ],
)
def test_files_that_cannot_be_aligned_are_told(files, tmp_path, change, message) -> None:
    pq.write_table(change(pq.read_table(files[0])), files[0])
    with pytest.raises(InputError, match=message):
        curate.align(*files, out=tmp_path / "out", label_column="kind")


def test_a_file_that_is_no_parquet_is_told(files, tmp_path) -> None:
    files[0].write_text("nothing")
    with pytest.raises(InputError, match=r"old.parquet: not a Parquet file"):
        curate.align(*files, out=tmp_path / "out")
