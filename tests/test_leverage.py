"""Ridge leverage scores equal their definition, and dictionaries keep the guarantees that their accuracy gives."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.leverage import (
    Dictionary,
    Directions,
    FixedDictionary,
    Gram,
    Linear,
    Rbf,
    absolute_ridge,
    effective_dimension,
    estimated_error,
    ink_estimate,
    leverage_scores,
    linear_epsilon,
    measured_epsilon,
    median_bandwidth,
    merge,
    merge_tree,
    node_rng,
    recursive,
    squeak,
    tail_ridge,
    union,
    unit_rows,
)
from curate.leverage.recursive import capped

POINTS = np.array([[0.0], [0.1], [0.2], [2.0], [5.0]])
K = Rbf(1.0).between(POINTS, POINTS)
SCORES = [0.30351615, 0.28672666, 0.29946368, 0.66042194, 0.66664805]
seeds = st.integers(0, 2**32)
ridges = st.sampled_from([0.05, 0.5, 3.0])


def dictionary(points, names, weights, ridge=0.5, similarity=None, max_copies=60):
    """A dictionary with given weights, which are multiples of 1 / max_copies."""
    found = Dictionary.empty(points.shape[1], similarity or Rbf(1.0), ridge, max_copies=max_copies)
    found = found.with_points(points, np.asarray(names))
    probabilities = 1 / np.maximum(weights, 1)
    copies = np.rint(np.asarray(weights) * max_copies * probabilities).astype(int)
    arrays = found.arrays() | {"copies": copies, "probabilities": probabilities}
    return Dictionary.from_arrays(arrays)


def cloud(seed, n=60, dim=3):
    """Some clusters and some loners."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, dim)) * 3
    return centres[rng.integers(0, 5, n)] + rng.normal(size=(n, dim)) * rng.choice([0.1, 1.0], (n, 1))


def epsilon_of(found, points):
    return measured_epsilon(found.similarity.between(points, points), found.names, found.weights, found.ridge)


# ---- worked examples


def test_leverage_scores_of_the_worked_example() -> None:
    assert leverage_scores(K, 0.5) == pytest.approx(SCORES, abs=1e-8)
    assert effective_dimension(K, 0.5) == pytest.approx(2.216776, abs=1e-6)


def test_scores_by_the_dictionary_of_the_worked_example() -> None:
    found = dictionary(POINTS[[0, 3]], [0, 3], [3.0, 1.0])
    expected = [0.28521063, 0.29952974, 0.34338091, 0.66314107, 2 / 3]
    assert found.weights == pytest.approx([3, 1])
    assert found.estimate(POINTS) == pytest.approx(expected, abs=1e-8)
    assert reference.dictionary_leverage(K, [0, 3], [3, 1], 0.5)[4] == pytest.approx(1.99983373, abs=1e-8)  # uncut
    assert epsilon_of(found, POINTS) == pytest.approx(0.6666483, abs=1e-7)
    gap = np.linalg.norm(K - reference.regularised_nystrom(K, [0, 3], [3, 1], 0.5), 2)
    assert gap == pytest.approx(0.9999383, abs=1e-7)
    assert gap <= 1.4999174


def test_scores_after_three_points_of_the_worked_example() -> None:
    start = Dictionary.empty(1, Rbf(1.0), 0.5).with_points(POINTS[:3], np.arange(3))
    assert start.estimate(POINTS[:3]) == pytest.approx([0.30355434, 0.28738046, 0.30355434], abs=1e-8)


def test_the_ridge_of_the_tail_of_the_worked_example() -> None:
    assert tail_ridge(Rbf(1.0), POINTS, np.ones(5), 2) == pytest.approx(0.48803654, abs=1e-8)


# ---- exact scores


@given(seeds, ridges)
def test_leverage_scores_equal_the_definition(seed, ridge) -> None:
    x = cloud(seed)
    for similarity in (Linear(), Rbf(2.0)):
        k = similarity.between(x, x)
        assert leverage_scores(k, ridge) == pytest.approx(reference.leverage(k, ridge), abs=1e-10)


@given(seeds, ridges)
def test_leverage_scores_lie_between_none_and_what_a_point_alone_has(seed, ridge) -> None:
    k = Rbf(2.0).between(x := cloud(seed), x)
    scores = leverage_scores(k, ridge)
    assert (scores >= 0).all()
    assert (scores <= 1 / (1 + ridge) + 1e-12).all()


def test_scores_are_right_to_many_digits_when_the_ridge_is_three_millionths() -> None:
    x = cloud(0, n=200)
    k = Rbf(2.0).between(x, x)
    precise = reference.precise_leverage(k, 1 / 3e5)
    assert leverage_scores(k, 1 / 3e5) == pytest.approx(precise, abs=1e-9)
    whole = Dictionary.empty(3, Rbf(2.0), 1 / 3e5).with_points(x, np.arange(200))
    assert whole.estimate(x) == pytest.approx(precise, abs=1e-8)


def test_a_ridge_is_absolute_or_for_each_document() -> None:
    assert absolute_ridge(1000, ridge=2.0) == 2.0
    assert absolute_ridge(1000, per_document=0.001) == 1.0
    for given_ in ({}, {"ridge": 1.0, "per_document": 1.0}, {"ridge": 0.0}, {"per_document": -1.0}):
        with pytest.raises(UsageError):
            absolute_ridge(10, **given_)


# ---- linear: all of it in one matrix


@given(seeds, ridges, st.lists(st.integers(0, 60), max_size=4))
def test_scores_by_the_gram_matrix_are_the_leverage_scores_of_all_points(seed, ridge, cuts) -> None:
    x = np.rint(unit_rows(cloud(seed, dim=6)) * 2**14) / 2**14
    gram = Gram(6)
    for some in np.split(x, sorted(cuts)):
        gram.add(some)
    found = gram.directions(ridge)
    expected = leverage_scores(x @ x.T, ridge)
    assert found.estimate(x) == pytest.approx(expected, abs=1e-9)
    assert found.effective_dimension == pytest.approx(expected.sum(), abs=1e-8)


@given(seeds, st.lists(st.integers(0, 60), max_size=4))
def test_a_gram_matrix_is_the_same_to_the_last_bit_in_any_order_and_any_parts(seed, cuts) -> None:
    x = unit_rows(cloud(seed, dim=6)).astype(np.float32)
    whole, merged = Gram(6), Gram(6)
    whole.add(x)
    for some in np.split(np.random.default_rng(seed).permutation(x), sorted(cuts)):
        part = Gram(6)
        part.add(some)
        merged.merge(part)
    assert (merged.sums == whole.sums).all()
    assert merged.n_points == whole.n_points == 60


@given(seeds, st.lists(st.integers(0, 60), max_size=4))
def test_a_score_does_not_depend_on_what_else_is_scored(seed, cuts) -> None:
    x = unit_rows(cloud(seed, dim=37))
    gram = Gram(37)
    gram.add(x)
    found = gram.directions(0.7)
    parts = [found.estimate(some) for some in np.split(x, sorted(cuts)) if len(some)]
    assert np.concatenate(parts).tobytes() == found.estimate(x).tobytes()


def test_directions_come_back_from_their_arrays() -> None:
    gram = Gram(3)
    gram.add(x := unit_rows(cloud(1)))
    found = gram.directions(0.5)
    again = Directions.from_arrays(found.arrays())
    assert (again.estimate(x) == found.estimate(x)).all()
    with pytest.raises(ValueError, match="not those"):
        Directions.from_arrays(found.arrays() | {"values": np.ones(2)})


def test_vectors_that_sums_could_not_hold_are_refused() -> None:
    for wrong in ([[2.0, 0.0]], [[np.nan, 0.0]], [[0.0]]):
        with pytest.raises(InputError):
            Gram(2).add(np.array(wrong))


@given(seeds, ridges)
def test_the_missed_share_is_what_the_ridge_leaves_of_a_vector(seed, ridge) -> None:
    x, other = (unit_rows(cloud(seed + i, dim=6)) for i in (0, 1))
    gram = Gram(6)
    gram.add(x)
    missed = gram.directions(ridge).missed(other)
    inverse = np.linalg.inv(x.T @ x + ridge * np.eye(6))
    assert missed == pytest.approx(ridge * np.einsum("ij,jk,ik->i", other, inverse, other), abs=1e-3)
    assert ((missed >= 0) & (missed <= 1)).all()


def test_a_vector_at_right_angles_to_a_corpus_is_missed_wholly() -> None:
    gram = Gram(3)
    gram.add(np.tile([1.0, 0.0, 0.0], (1000, 1)))
    missed = gram.directions(1.0).missed(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert missed == pytest.approx([1, 1 / 1001, 0])


# ---- dictionaries: the seven tests of the method


@given(seeds, ridges)
def test_a_dictionary_of_all_points_with_weight_1_gives_the_scores(seed, ridge) -> None:
    x = cloud(seed)
    for similarity in (Linear(), Rbf(2.0)):
        found = Dictionary.empty(3, similarity, ridge).with_points(x, np.arange(len(x)))
        expected = leverage_scores(similarity.between(x, x), ridge)
        assert found.estimate(x) == pytest.approx(expected, abs=1e-9)
        assert found.effective_dimension == pytest.approx(expected.sum(), abs=1e-8)


@settings(deadline=None)
@given(seeds, ridges, st.sampled_from([5, 20, 80]))
def test_scores_lie_within_the_measured_epsilon(seed, ridge, max_copies) -> None:
    x = cloud(seed)
    k = Rbf(2.0).between(x, x)
    start = Dictionary.empty(3, Rbf(2.0), ridge, max_copies=max_copies)
    found = squeak(start, x, np.random.default_rng(seed), block=16)
    epsilon = epsilon_of(found, x)
    assert epsilon == pytest.approx(reference.dictionary_epsilon(k, found.names, found.weights, ridge), abs=1e-8)
    scores = leverage_scores(k, ridge)
    uncut = reference.dictionary_leverage(k, found.names, found.weights, ridge)
    assert found.estimate(x) == pytest.approx(np.minimum(uncut, 1 / (1 + ridge)), abs=1e-8)
    assert ((1 - epsilon) * uncut <= scores + 1e-9).all()
    assert (scores <= (1 + epsilon) * uncut + 1e-9).all()


@settings(deadline=None)
@given(seeds, ridges)
def test_the_similarities_rebuilt_from_a_dictionary_lie_within_the_bound(seed, ridge) -> None:
    x = cloud(seed)
    k = Rbf(2.0).between(x, x)
    found = squeak(Dictionary.empty(3, Rbf(2.0), ridge, max_copies=80), x, np.random.default_rng(seed), block=16)
    epsilon = epsilon_of(found, x)
    left = k - reference.regularised_nystrom(k, found.names, found.weights, ridge)
    values = np.linalg.eigvalsh(left)
    assert values.min() >= -1e-9
    if epsilon < 1:
        assert values.max() <= ridge / (1 - epsilon) + 1e-9


def test_a_dictionary_grows_with_the_effective_dimension_and_not_with_the_data() -> None:
    x, tenfold_ridge = cloud(3, n=300), 10.0
    rng = np.random.default_rng
    once = squeak(Dictionary.empty(3, Rbf(2.0), 1.0), x, rng(0))
    tenfold = squeak(Dictionary.empty(3, Rbf(2.0), tenfold_ridge), np.tile(x, (10, 1)), rng(0))
    k = Rbf(2.0).between(x, x)
    assert effective_dimension(np.tile(k, (10, 10)), tenfold_ridge) == pytest.approx(effective_dimension(k, 1.0))
    assert len(once) < 300
    # 3,000 points of the same effective dimension: copies spread over duplicates, never over all of them
    assert len(tenfold) < 2 * 50 * tenfold.effective_dimension
    assert tenfold.copies.sum() == pytest.approx(once.copies.sum(), rel=0.25)
    wider = squeak(Dictionary.empty(3, Rbf(0.5), tenfold_ridge), np.tile(x, (10, 1)), rng(0))
    assert wider.effective_dimension > 2 * tenfold.effective_dimension
    assert len(wider) > 1.5 * len(tenfold)


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(2, 7))
def test_dictionaries_merged_in_a_tree_keep_the_bounds_of_the_union(seed, n_parts) -> None:
    x, ridge = cloud(seed, n=120), 1.0
    k = Rbf(2.0).between(x, x)
    start = Dictionary.empty(3, Rbf(2.0), ridge, max_copies=200)
    parts, at = [], 0
    for i, some in enumerate(np.array_split(x, n_parts)):
        parts.append(squeak(start, some, node_rng(seed, 0, i), first_name=at, block=32))
        at += len(some)
    merged = merge_tree(parts, seed)
    assert merged.n_points == len(x)
    epsilon = epsilon_of(merged, x)
    uncut = reference.dictionary_leverage(k, merged.names, merged.weights, ridge)
    scores = leverage_scores(k, ridge)
    assert ((1 - epsilon) * uncut <= scores + 1e-9).all()
    assert (scores <= (1 + epsilon) * uncut + 1e-9).all()
    again = merge_tree(parts, seed)
    assert (again.names == merged.names).all()
    assert (again.weights == merged.weights).all()


@settings(deadline=None)
@given(seeds, ridges)
def test_scores_of_a_union_obey_the_bound_of_its_parts(seed, ridge) -> None:
    x = cloud(seed, n=80)
    start = Dictionary.empty(3, Rbf(2.0), ridge, max_copies=200)
    parts = [squeak(start, x[:40], node_rng(seed, 0, 0)), squeak(start, x[40:], node_rng(seed, 0, 1), first_name=40)]
    of_parts = []
    for part, some, at in zip(parts, (x[:40], x[40:]), (0, 40), strict=True):
        k = Rbf(2.0).between(some, some)
        of_parts.append(measured_epsilon(k, part.names - at, part.weights, ridge))
    epsilon = max(of_parts)
    both = union(parts)
    scores = leverage_scores(Rbf(2.0).between(x, x), ridge)
    if epsilon < 1:
        low = (1 - epsilon) * both.estimate(x, ridge=(1 + epsilon) * ridge)
        assert (low <= scores + 1e-9).all()
        assert (low >= (1 - epsilon) / (1 + 3 * epsilon) * scores - 1e-9).all()
    # with one ridge for both, the union's own epsilon is at most twice the larger of its parts'
    assert epsilon_of(both, x) <= 2 * epsilon + 1e-9


@settings(deadline=None)
@given(seeds, ridges)
def test_scores_of_a_dictionarys_own_points_are_those_that_it_gives_to_any(seed, ridge) -> None:
    x = cloud(seed, n=200)
    found = squeak(Dictionary.empty(3, Rbf(1.0), ridge, max_copies=100), x, np.random.default_rng(seed))
    assert found.own_scores() == pytest.approx(found.estimate(found.points), abs=1e-9)
    assert found.own_scores(2 * ridge) == pytest.approx(found.estimate(found.points, ridge=2 * ridge), abs=1e-9)


def test_scores_are_cut_at_what_a_point_alone_has() -> None:
    found = dictionary(POINTS[[0]], [0], [1.0])
    assert found.estimate(np.array([[50.0]])) == pytest.approx([1 / 1.5])
    none = Dictionary.empty(1, Rbf(1.0), 0.5)
    assert none.estimate(POINTS) == pytest.approx(np.full(5, 1 / 1.5))
    assert none.effective_dimension == 0


@settings(deadline=None)
@given(seeds, st.lists(st.integers(0, 60), max_size=4))
def test_scores_by_a_fixed_dictionary_are_the_dictionarys_and_depend_on_nothing_else(seed, cuts) -> None:
    x = unit_rows(cloud(seed, dim=19))
    found = squeak(Dictionary.empty(19, Rbf(0.7), 1.0), x, np.random.default_rng(seed), block=16)
    fixed = FixedDictionary.of(found)
    assert fixed.estimate(x) == pytest.approx(found.estimate(x), abs=1e-3)  # vectors are rounded
    rounded = np.rint(x * 2**14) / 2**14
    on_grid = squeak(Dictionary.empty(19, Rbf(0.7), 1.0), rounded, np.random.default_rng(seed), block=16)
    assert FixedDictionary.of(on_grid).estimate(rounded) == pytest.approx(on_grid.estimate(rounded), abs=2e-6)
    parts = [fixed.estimate(some) for some in np.split(x, sorted(cuts)) if len(some)]
    assert np.concatenate(parts).tobytes() == fixed.estimate(x).tobytes()
    again = FixedDictionary.from_arrays(fixed.arrays())
    assert again.estimate(x).tobytes() == fixed.estimate(x).tobytes()


# ---- how they are made


@given(seeds)
def test_weights_are_right_on_average(seed) -> None:
    """The sum of weights is an unbiased estimate of the number of points."""
    x = cloud(seed, n=40)
    start = Dictionary.empty(3, Rbf(2.0), 1.0, max_copies=400)
    found = squeak(start, x, np.random.default_rng(seed), block=8)
    assert found.weights.sum() == pytest.approx(40, rel=0.4)


def test_ink_estimate_keeps_a_fixed_number_of_copies_whatever_the_effective_dimension() -> None:
    sizes = []
    for bandwidth in (2.0, 0.3):
        start = Dictionary.empty(3, Rbf(bandwidth), 0.1, max_copies=200)
        found = ink_estimate(start, cloud(5, n=300), np.random.default_rng(0))
        assert (np.diff(found.probabilities) <= 1).all()
        sizes.append(int(found.copies.sum()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.5)
    assert max(sizes) < 3 * 200


def test_squeak_goes_on_from_where_it_was() -> None:
    x = cloud(7, n=128)
    start = Dictionary.empty(3, Rbf(2.0), 1.0)
    rng = np.random.default_rng(1)
    halves = squeak(squeak(start, x[:64], rng, block=32), x[64:], rng, block=32, first_name=64)
    whole = squeak(start, x, np.random.default_rng(1), block=32)
    assert (halves.names == whole.names).all()
    assert (halves.copies == whole.copies).all()


def test_a_score_only_falls_when_points_are_added() -> None:
    x = cloud(2)
    k = Rbf(2.0).between(x, x)
    before = leverage_scores(k[:-1, :-1], 0.5)
    after = leverage_scores(k, 0.5)[:-1]
    assert (after <= before + 1e-12).all()
    assert (after >= before / (1 + 1 / 0.5) - 1e-12).all()


@settings(deadline=None)
@given(seeds, st.integers(1, 60))
def test_a_recursive_dictionary_has_as_many_points_as_were_asked_for(seed, n_samples) -> None:
    x = cloud(seed)
    found = recursive(x, n_samples, Rbf(2.0), np.random.default_rng(seed))
    assert len(found) == n_samples
    assert found.n_points == 60
    assert (x[found.names] == found.points).all()
    again = recursive(x, n_samples, Rbf(2.0), np.random.default_rng(seed))
    assert (again.names == found.names).all()


def test_recursive_sampling_is_more_accurate_than_sampling_at_random() -> None:
    x = cloud(11, n=400, dim=2)
    k = Rbf(1.0).between(x, x)
    rng = np.random.default_rng(0)
    ours, others = [], []
    for _ in range(5):
        found = recursive(x, 80, Rbf(1.0), rng, ridge=0.5)
        ours.append(epsilon_of(found, x))
        others.append(measured_epsilon(k, rng.choice(400, 80, replace=False), np.full(80, 5.0), 0.5))
    assert np.mean(ours) < 0.8 * np.mean(others)


@given(seeds, st.integers(1, 30))
def test_capped_chances_are_in_proportion_and_sum_to_the_number_of_points(seed, n) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random(30) ** 4 * (rng.random(30) < 0.7)
    chances = capped(scores + 1e-9 * (scores.max() == 0), n)
    assert chances.sum() == pytest.approx(n)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (np.diff(chances[np.argsort(scores)]) >= -1e-12).all()


# ---- how accurate they are


def test_the_linear_epsilon_needs_no_similarities_of_all_points() -> None:
    x = unit_rows(cloud(4, n=200))
    found = squeak(Dictionary.empty(3, Linear(), 1.0), x, np.random.default_rng(0))
    assert linear_epsilon(x.T @ x, found) == pytest.approx(epsilon_of(found, x), abs=1e-9)


def test_the_estimated_error_is_none_for_all_points_and_grows_as_copies_are_fewer() -> None:
    x, other = cloud(6, n=300), cloud(60, n=50)
    whole = Dictionary.empty(3, Rbf(2.0), 1.0).with_points(x, np.arange(300))
    same = estimated_error(whole, whole, other)
    assert (same.lowest, same.median, same.highest, same.typical) == (1, 1, 1, 0)
    typical = []
    for max_copies in (5, 40, 320):
        start = Dictionary.empty(3, Rbf(2.0), 1.0, max_copies=max_copies)
        typical.append(estimated_error(squeak(start, x, np.random.default_rng(1)), whole, x).typical)
    assert typical[0] > typical[1] > typical[2] > 0


def test_the_estimated_error_implies_an_epsilon_that_is_not_above_the_measured_one() -> None:
    x = cloud(8, n=300)
    whole = Dictionary.empty(3, Rbf(2.0), 1.0).with_points(x, np.arange(300))
    found = squeak(Dictionary.empty(3, Rbf(2.0), 1.0, max_copies=20), x, np.random.default_rng(1))
    error = estimated_error(found, whole, x)
    assert max(1 - 1 / error.highest, 1 / error.lowest - 1) <= epsilon_of(found, x) + 1e-6


# ---- files and mistakes


def test_a_dictionary_comes_back_from_its_file(tmp_path) -> None:
    for similarity in (Linear(), Rbf(0.7)):
        found = squeak(Dictionary.empty(3, similarity, 1.0), x := cloud(1), np.random.default_rng(0))
        found.save(tmp_path / "dictionary.npz")
        again = Dictionary.load(tmp_path / "dictionary.npz")
        assert (again.estimate(x) == found.estimate(x)).all()
        assert (again.names == found.names).all()
        assert again.n_points == 60


def test_a_file_that_holds_something_else_is_refused(tmp_path) -> None:
    found = dictionary(POINTS, range(5), np.ones(5))
    path = tmp_path / "dictionary.npz"
    for wrong in (
        {"copies": np.zeros(5, np.int64)},
        {"probabilities": np.full(5, 2.0)},
        {"names": np.arange(4)},
        {"points": np.full((5, 1), np.nan)},
        {"constants": np.array([0.0, 0.5, 1.0])},
        {"points": np.array([object()] * 5)},
    ):
        np.savez(path, **(found.arrays() | wrong))
        with pytest.raises(InputError, match="not a saved dictionary"):
            Dictionary.load(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="not a saved dictionary"):
        Dictionary.load(path)


def test_numbers_that_make_no_sense_are_refused() -> None:
    for wrong in ({"ridge": 0.0}, {"ridge": 1.0, "epsilon": 1.0}, {"ridge": 1.0, "max_copies": 0}):
        with pytest.raises(UsageError):
            Dictionary.empty(2, Linear(), **wrong)
    start = Dictionary.empty(2, Linear(), 1.0)
    with pytest.raises(InputError, match="2 dimensions"):
        start.with_points(np.ones((3, 1)), np.arange(3))
    with pytest.raises(UsageError, match="ridge"):
        merge(start, Dictionary.empty(2, Linear(), 2.0), np.random.default_rng(0))
    with pytest.raises(UsageError, match="n_samples"):
        recursive(POINTS, 6, Linear(), np.random.default_rng(0))
    for nothing in (merge_tree, union):
        with pytest.raises(UsageError, match="no dictionaries"):
            nothing([])


def test_the_bandwidth_is_the_median_distance_of_different_points() -> None:
    assert median_bandwidth(np.array([[0.0], [0.0], [1.0], [3.0]])) == pytest.approx(2.0)
    assert median_bandwidth(np.ones((5, 2))) == 1.0


def test_vectors_are_brought_to_length_1_and_zeros_stay() -> None:
    assert unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])) == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))
