"""KL reduction: the paper's to the letter, and one that does not depend on the size of a selection."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curate.errors import InputError, UsageError
from curate.metrics.reduction import kl_reduction, parity_kl, parity_kl_reduction, thin

RAW = ["the cat sat on the mat", "dogs bark at the moon loudly", "import numpy as np", "the stock market fell today"]
TARGET = ["import os", "import sys as system", "np array of zeros"]


def counted(texts) -> np.ndarray:
    return np.array([reference.counts(reference.buckets(t, n_buckets=8, hash="sha256"), 8) for t in texts])


@pytest.mark.parametrize(("selected", "kl", "expected"), [([2], 4.789681, -4.480940), ([0, 2], 1.366984, -1.058243)])
def test_the_papers_kl_reduction_of_the_worked_example(selected, kl, expected) -> None:
    raw, target = counted(RAW), counted(TARGET).sum(axis=0)
    of_selected = raw[selected].sum(axis=0)
    assert parity_kl(target / target.sum(), raw.sum(axis=0) / raw.sum()) == pytest.approx(0.308741, abs=1e-6)
    assert parity_kl(target / target.sum(), of_selected / of_selected.sum()) == pytest.approx(kl, abs=1e-6)
    assert parity_kl_reduction([target], raw.sum(axis=0), of_selected) == pytest.approx(expected, abs=1e-6)
    assert reference.kl_reduction([target], raw.sum(axis=0), of_selected) == pytest.approx(expected, abs=1e-6)


def test_smoothing_sees_that_the_matching_document_of_the_worked_example_matches() -> None:
    raw = counted(RAW)
    found = [
        kl_reduction([counted(TARGET)], raw, raw[[i]], rng=np.random.default_rng(0), n_ngrams=7, n_resamples=0).value
        for i in range(4)
    ]
    assert int(np.argmax(found)) == 2


corpora = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(2, 9)).flatmap(
    lambda shape: st.tuples(
        *[arrays(np.int64, (rows, shape[2]), elements=st.integers(0, 20)).filter(np.any) for rows in shape[:2]]
    )
)


@given(corpora, st.floats(0.01, 3))
def test_without_thinning_the_reduction_is_that_of_the_definition_and_within_its_bound(counts, pseudo_count) -> None:
    raw, target = counts
    selected = raw[: max(1, len(raw) // 2)]
    if selected.sum() == 0:
        return
    rng = np.random.default_rng(0)
    same = kl_reduction([target], raw, raw, rng=rng, pseudo_count=pseudo_count, n_resamples=0)
    assert (same.value, same.bound) == (0, 0)
    assert math.isnan(same.low)
    assert math.isnan(same.per_nat)
    whole, part = raw.sum(axis=0), selected.sum(axis=0)
    full = reference.kl_reduction([target.sum(axis=0)], whole, part, pseudo_count=pseudo_count)
    assert full <= math.log(whole.sum() / part.sum()) + 1e-9


@given(corpora, st.integers(0, 2**32))
def test_the_reduction_is_of_samples_of_equal_size(counts, seed) -> None:
    raw, target = counts
    selected = raw[:1]
    if selected.sum() == 0:
        return
    found = kl_reduction([target, raw], raw, selected, rng=np.random.default_rng(seed), n_resamples=0)
    rng = np.random.default_rng(seed)
    thinned = [thin(c.sum(axis=0), found.n_ngrams, rng) for c in (raw, selected)]
    assert found.n_ngrams == selected.sum() == thinned[0].sum() == thinned[1].sum()
    each = [reference.kl_reduction([t.sum(axis=0)], *thinned, pseudo_count=0.5) for t in (target, raw)]
    assert found.per_target == pytest.approx(each, abs=1e-9)
    assert found.value == pytest.approx(np.mean(each), abs=1e-9)
    assert found.n_targets == (target.sum(), raw.sum())


@given(arrays(np.int64, st.integers(1, 9), elements=st.integers(0, 50)), st.integers(0, 500), st.integers(0, 9))
def test_thinning_keeps_so_many_of_what_was_counted(counts, n, seed) -> None:
    thinned = thin(counts, n, np.random.default_rng(seed))
    assert thinned.sum() == min(n, counts.sum())
    assert ((thinned >= 0) & (thinned <= counts)).all()


def test_a_very_large_corpus_can_be_thinned() -> None:
    counts = np.array([3 * 10**9, 10**9])
    thinned = thin(counts, 10**6, np.random.default_rng(0))
    assert thinned.sum() == 10**6
    assert thinned[0] == pytest.approx(750_000, abs=3_000)


def corpus(rng, p, n_documents, concentration=200.0) -> np.ndarray:
    """Documents of 100 n-grams, each with its own topic around `p`."""
    return np.array([rng.multinomial(100, rng.dirichlet(p * concentration)) for _ in range(n_documents)])


def test_the_value_hardly_depends_on_the_size_of_the_selection_where_the_papers_does() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.full(200, 0.5)), rng.dirichlet(np.full(200, 0.5))
    raw, target = corpus(rng, 0.5 * p + 0.5 * q, 600), corpus(rng, p, 300)
    large, small = corpus(rng, p, 400), corpus(rng, p, 30)
    ours = [kl_reduction([target], raw, s, rng=rng, n_ngrams=3000, n_resamples=0).value for s in (large, small)]
    papers = [parity_kl_reduction([target.sum(axis=0)], raw.sum(axis=0), s.sum(axis=0)) for s in (large, small)]
    assert abs(ours[0] - ours[1]) < 0.15 * ours[0]
    assert abs(papers[0] - papers[1]) > 0.5 * papers[0]


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_holds_what_fresh_samples_of_the_same_size_give_about_as_often_as_it_says(grouped) -> None:
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.full(30, 1.0)), rng.dirichlet(np.full(30, 1.0))

    def drawn():
        made = [corpus(rng, share * p + (1 - share) * q, 120, 40.0) for share in (1, 0.5, 0.8)]
        return [m.reshape(40, 3, 30).sum(axis=1) for m in made] if grouped else made

    found = []
    for _ in range(60):
        target, raw, selected = drawn()
        found.append(kl_reduction([target], raw, selected, rng=rng, n_resamples=100, level=0.9))
    mean = np.mean([f.value for f in found])
    held = np.mean([f.low <= mean <= f.high for f in found])
    assert 0.78 <= held <= 0.99
    assert all(f.low <= f.high for f in found)


def test_a_corpus_counted_in_groups_has_the_value_of_its_documents() -> None:
    rng = np.random.default_rng(3)
    made = [corpus(rng, rng.dirichlet(np.full(20, 1.0)), 60) for _ in range(3)]
    by_document, by_group = (
        kl_reduction([parts[0]], parts[1], parts[2], rng=np.random.default_rng(0), n_resamples=0)
        for parts in (made, [m.reshape(20, 3, 20).sum(axis=1) for m in made])
    )
    assert by_document.value == by_group.value


def test_without_a_pseudo_count_a_selection_that_lacks_a_bucket_is_infinitely_far() -> None:
    raw, selected = np.array([[5, 5]]), np.array([[10, 0]])
    found = kl_reduction([raw], raw, selected, rng=np.random.default_rng(0), pseudo_count=0, n_resamples=0)
    assert found.value == -math.inf


ONE = np.array([[1, 2], [2, 1]])


@pytest.mark.parametrize(
    ("targets", "raw", "selected", "more", "error", "message"),
    [
        ([], ONE, ONE, {}, InputError, "at least one"),
        ([ONE], ONE * 0, ONE, {}, InputError, "raw: no n-grams"),
        ([ONE], ONE, ONE * 0, {}, InputError, "selected: no n-grams"),
        ([ONE], ONE, ONE[0], {}, InputError, "one row per document"),
        ([ONE], ONE, ONE / 2, {}, InputError, "whole numbers"),
        ([ONE[:, :1]], ONE, ONE, {}, InputError, "same n_buckets"),
        ([ONE], ONE, ONE, {"n_ngrams": 7}, InputError, "raw has 6 and the selection 6"),
        ([ONE], ONE, ONE, {"n_ngrams": 0}, InputError, "cannot thin"),
        ([ONE], ONE, ONE, {"level": 1}, UsageError, "between 0 and 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(targets, raw, selected, more, error, message) -> None:
    with pytest.raises(error, match=message):
        kl_reduction(targets, raw, selected, rng=np.random.default_rng(0), **more)
    if not targets:
        with pytest.raises(error, match=message):
            parity_kl_reduction(targets, raw[0], selected[0])
