"""Agreement of groupings: by definition over pairs, equal to scikit-learn's, and at its ends where it must be."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.metrics.agreement import adjusted_rand, contingency, mutual_information, purity

labels = st.integers(2, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n).map(np.array) for _ in range(2)])
)


@given(labels)
def test_adjusted_rand_is_the_agreement_on_pairs_less_what_chance_gives(both) -> None:
    a, b = both
    pairs = list(itertools.combinations(range(len(a)), 2))
    of_a, of_b = ([bool(x[i] == x[j]) for i, j in pairs] for x in (a, b))
    together = sum(p and q for p, q in zip(of_a, of_b, strict=True))
    expected = sum(of_a) * sum(of_b) / len(pairs)
    most = (sum(of_a) + sum(of_b)) / 2
    by_definition = 1.0 if most == expected else (together - expected) / (most - expected)
    assert adjusted_rand(a, b) == pytest.approx(by_definition)


@given(labels)
def test_agreement_equals_that_of_scikit_learn(both) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    a, b = both
    assert adjusted_rand(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b))
    if len(np.unique(a)) > 1 or len(np.unique(b)) > 1:
        assert mutual_information(a, b) == pytest.approx(metrics.normalized_mutual_info_score(a, b), abs=1e-9)


@given(labels, st.permutations(range(5)))
def test_names_of_groups_do_not_matter_and_neither_comes_first(both, names) -> None:
    a, b = both
    renamed = np.array(names)[a]
    for measure in (adjusted_rand, mutual_information):
        assert measure(a, b) == pytest.approx(measure(b, a))
        assert measure(a, b) == pytest.approx(measure(renamed, b))
        assert measure(a, renamed) == pytest.approx(1)
    assert purity(a, renamed) == 1


@given(labels)
def test_purity_is_the_share_of_the_commonest_truth_of_each_group(both) -> None:
    a, truth = both
    right = sum(max(np.bincount(truth[a == g])) for g in set(a.tolist()))
    assert purity(a, truth) == pytest.approx(right / len(a))
    assert contingency(a, truth).sum() == len(a)


def test_groups_at_random_agree_by_nothing() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 5000), rng.integers(0, 20, 5000)
    assert abs(adjusted_rand(a, b)) < 0.01
    assert 0 <= mutual_information(a, b) < 0.02


def test_agreement_of_a_worked_example() -> None:
    a, b = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    assert adjusted_rand(a, b) == pytest.approx(4 / 7)
    assert mutual_information(a, b) == pytest.approx(2 * math.log(2) / (math.log(2) + 1.5 * math.log(2)))
    assert purity(a, b) == 0.75
