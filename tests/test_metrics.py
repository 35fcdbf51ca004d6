"""Measures equal their formulas, whatever the partitions they were added up in."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import UsageError
from curate.metrics.adequacy import Adequacy, adequacy, cluster_variances, kl_divergence, n_min, smoothed
from curate.metrics.diagnostics import Diagnostics, round_down, shares, warnings
from curate.metrics.weights import LengthHistogram, ScoreMoments, effective_sample_size

# ---- adequacy


def adequacy_of(documents, kl=1.0) -> Adequacy:
    c = np.array(documents)
    lengths = c.sum(axis=1)
    sums = (c.sum(axis=0), (c * c).sum(axis=0), (c * lengths[:, None]).sum(axis=0))
    return adequacy(*sums, float((lengths**2).sum()), len(c), kl)


def test_adequacy_of_the_worked_example() -> None:
    documents = [[4, 0, 1], [0, 3, 2], [1, 1, 8], [2, 2, 1]]
    found = adequacy_of(documents)
    assert reference.cluster_risk(documents) == pytest.approx((0.111111111, 2.777778), abs=1e-6)
    assert found.risk == pytest.approx(0.111111111, abs=1e-9)
    assert found.design_effect == pytest.approx(2.777778, abs=1e-6)
    assert found.n_effective == pytest.approx(25 / 2.777778, abs=1e-5)
    assert (found.n_documents, found.n_ngrams, found.n_buckets) == (4, 25, 3)
    assert found.signal_to_noise == pytest.approx(9)
    c = np.array(documents)
    lengths = c.sum(axis=1)
    sums = (c.sum(axis=0), (c * c).sum(axis=0), lengths @ c)
    assert sums[0] / 25 == pytest.approx([0.28, 0.24, 0.48])
    variances = cluster_variances(*sums, float((lengths**2).sum()), 4)
    assert variances == pytest.approx([0.026282667, 0.015530667, 0.030549333], abs=1e-9)


documents_of_counts = st.integers(2, 6).flatmap(
    lambda b: st.lists(st.lists(st.integers(0, 9), min_size=b, max_size=b), min_size=2, max_size=8)
)


@given(documents_of_counts)
def test_adequacy_equals_the_formula_over_documents(documents) -> None:
    found = adequacy_of(documents)
    if sum(any(c[b] for c in documents) for b in range(len(documents[0]))) < 2:
        assert found.risk == found.delta == math.inf
        assert found.verdict == "fail"
        return
    risk, design_effect = reference.cluster_risk(documents)
    assert found.risk == pytest.approx(risk, rel=1e-9, abs=1e-12)
    assert found.design_effect == pytest.approx(design_effect, rel=1e-9, abs=1e-9)
    assert found.delta == pytest.approx(math.sqrt((found.n_buckets - 1) / (16 * found.n_effective)))


@given(documents_of_counts.filter(lambda d: sum(map(sum, d)) > 0), st.integers(2, 5))
def test_repeating_each_ngram_of_a_document_does_not_make_it_worth_more(documents, times) -> None:
    once, repeated = adequacy_of(documents), adequacy_of(np.array(documents) * times)
    assert repeated.risk == pytest.approx(once.risk, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("n_buckets", "delta", "needed"),
    [
        (1000, 0.05, 24_975),
        (1000, 0.02, 156_094),
        (1000, 0.01, 624_375),
        (10_000, 0.05, 249_975),
        (10_000, 0.02, 1_562_344),
        (10_000, 0.01, 6_249_375),
    ],
)
def test_independent_ngrams_reach_a_delta_at_the_number_that_the_criterion_asks_for(n_buckets, delta, needed) -> None:
    assert n_min(n_buckets, delta) == needed
    counts = np.full(n_buckets, needed // n_buckets)
    counts[: needed % n_buckets] += 1
    found = adequacy(counts, counts, counts, float(needed), needed, kl=1.0)  # documents of one n-gram each
    assert found.design_effect == pytest.approx(1, abs=1e-3)
    assert found.delta == pytest.approx(delta, rel=1e-3)
    if delta == 0.05:
        assert found.n_buckets_supported == pytest.approx(n_buckets, rel=1e-3)


@given(st.integers(1, 10**6), st.floats(1e-3, 0.5))
def test_so_many_ngrams_are_enough_and_one_fewer_is_not(n_buckets, delta) -> None:
    n = n_min(n_buckets, delta)
    assert n_buckets - 1 <= 16 * delta**2 * n * (1 + 1e-9)
    assert n == 0 or n_buckets - 1 > 16 * delta**2 * (n - 1) * (1 - 1e-9)


@pytest.mark.parametrize(("n_buckets", "delta"), [(0, 0.05), (10, 0), (10, 0.6), (10, math.nan)])
def test_a_number_of_ngrams_for_no_buckets_or_no_delta_is_refused(n_buckets, delta) -> None:
    with pytest.raises(UsageError, match="1 bucket or more"):
        n_min(n_buckets, delta)


@pytest.mark.parametrize(("delta", "verdict"), [(0.05, "pass"), (0.051, "warn"), (0.1, "warn"), (0.11, "fail")])
def test_the_verdict_is_by_delta(delta, verdict) -> None:
    assert replace(adequacy_of([[1, 2], [2, 1]]), delta=delta).verdict == verdict


@pytest.mark.parametrize("documents", [[[3, 4]], [[3, 0], [2, 0]], [[0, 0], [0, 0]]])
def test_a_target_of_one_document_or_one_bucket_has_no_adequacy(documents) -> None:
    found = adequacy_of(documents)
    assert (found.verdict, found.n_effective, found.signal_to_noise) == ("fail", 0.0, 0.0)


# ---- distributions


def test_kl_of_the_worked_example() -> None:
    raw, target = np.array([13, 3, 4, 1, 4, 3, 6, 4]), np.array([2, 1, 1, 2, 2, 3, 2, 4])
    assert kl_divergence(target / target.sum(), raw / raw.sum()) == pytest.approx(0.308741, abs=1e-6)


counts = st.lists(st.integers(0, 1000), min_size=2, max_size=20)


@given(counts, st.floats(1e-3, 10))
def test_smoothed_probabilities_add_up_to_one_and_none_is_zero(c, alpha) -> None:
    p = smoothed(np.array(c), alpha)
    assert p.sum() == pytest.approx(1)
    assert (p > 0).all()
    assert p == pytest.approx([(x + alpha) / (sum(c) + alpha * len(c)) for x in c])
    assert smoothed(np.array([c, c]), alpha) == pytest.approx(np.array([p, p]))


@given(counts, st.data())
def test_kl_is_never_negative_and_zero_of_a_distribution_and_itself(c, data) -> None:
    p = smoothed(np.array(c), 0.5)
    q = smoothed(np.array(data.draw(st.lists(st.integers(0, 1000), min_size=len(c), max_size=len(c)))), 0.5)
    assert kl_divergence(p, q) >= -1e-12
    assert kl_divergence(p, p) == 0
    assert kl_divergence(p, q) == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), abs=1e-9)


def test_kl_passes_over_what_is_not_in_p() -> None:
    assert kl_divergence(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))


# ---- weights


def test_effective_sample_size_of_the_worked_example() -> None:
    r = np.array([0.01, 0.5, 1, 4, 50])
    for weights, expected in ((r, 1.224098), (np.minimum(r, 5), 2.614434)):
        assert effective_sample_size(weights) == pytest.approx(expected, abs=1e-6)
        assert reference.effective_sample_size(weights) == pytest.approx(expected, abs=1e-6)
        moments = ScoreMoments.of(np.log(weights), np.ones(5, np.int64))
        assert moments.effective_sample_size == pytest.approx(expected, abs=1e-6)


scores = st.sampled_from([2, 2000]).flatmap(
    lambda most: st.lists(st.floats(-most, most).map(lambda x: round(x, 3)), min_size=1, max_size=40)
)


@given(scores)
def test_effective_sample_size_is_of_the_weights_up_to_a_factor(s) -> None:
    moments = ScoreMoments.of(np.array(s), np.ones(len(s), np.int64))
    expected = reference.effective_sample_size([math.exp(x - max(s)) for x in s])
    assert moments.effective_sample_size == pytest.approx(expected)
    assert 1 - 1e-9 <= moments.effective_sample_size <= len(s) + 1e-9


@given(scores, st.data())
def test_moments_do_not_depend_on_the_partitions(s, data) -> None:
    lengths = data.draw(st.lists(st.integers(0, 5000), min_size=len(s), max_size=len(s)))
    borders = sorted(data.draw(st.lists(st.integers(0, len(s)), max_size=4)))
    merged = ScoreMoments()
    for part in np.split(np.arange(len(s)), borders):
        merged = merged.merge(ScoreMoments.of(np.array(s)[part], np.array(lengths)[part]))
    assert (merged.n, merged.minimum, merged.maximum) == (len(s), min(s), max(s))
    assert merged.mean == pytest.approx(np.mean(s), abs=1e-9)
    assert merged.std == pytest.approx(np.std(s), abs=1e-3)
    whole = ScoreMoments.of(np.array(s), np.array(lengths))
    assert merged.effective_sample_size == pytest.approx(whole.effective_sample_size)
    if np.std(s) > 1 and np.std(lengths) > 1:
        assert merged.length_correlation == pytest.approx(np.corrcoef(s, lengths)[0, 1], abs=1e-4)


@pytest.mark.parametrize("score", [0.1, 0.3, -17.123, 1234.567])
@pytest.mark.parametrize("n", [1, 2, 1001])
def test_equal_scores_have_no_spread_and_no_correlation(score, n) -> None:
    found = ScoreMoments.of(np.full(n, score), np.arange(n))
    assert found.std == 0
    assert math.isnan(found.length_correlation)
    assert math.isnan(ScoreMoments.of(np.arange(n) * 0.1, np.full(n, 37)).length_correlation)


def test_no_scores_have_no_moments() -> None:
    nothing = ScoreMoments.of(np.array([]), np.array([], np.int64))
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.std)
    assert math.isnan(nothing.length_correlation)
    assert nothing.effective_sample_size == 0


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=50), st.integers(0, 50))
def test_quantiles_of_lengths_are_exact_up_to_65_535_tokens(lengths, border) -> None:
    histogram, more = LengthHistogram(), LengthHistogram()
    histogram.add(np.array(lengths[:border], np.int64))
    more.add(np.array(lengths[border:], np.int64))
    histogram.merge(more)
    ranks = {q: max(1, math.ceil(q * len(lengths))) for q in (0.25, 0.5, 0.75)}
    assert histogram.quantiles((0.25, 0.5, 0.75)) == {
        f"{100 * q:g}%": sorted(lengths)[rank - 1] for q, rank in ranks.items()
    }


@given(st.integers(65_536, 10**12))
def test_quantiles_of_long_lengths_are_within_one_percent(length) -> None:
    histogram = LengthHistogram()
    histogram.add(np.array([length]))
    assert histogram.quantiles((0.5,))["50%"] == pytest.approx(length, rel=0.0101)


def test_no_lengths_have_no_quantiles() -> None:
    assert LengthHistogram().quantiles() == {}


# ---- warnings


GOOD = Diagnostics(
    target="",
    n_documents=10_000,
    n_eligible=9000,
    n_selected=1000,
    draw="gumbel",
    score_mean=0.0,
    score_std=3.0,
    score_min=-9.0,
    score_max=9.0,
    effective_sample_size=500.0,
    length_correlation=0.1,
    top_k_overlap=0.5,
    length_raw={},
    length_selected={},
    sources_raw={},
    sources_selected={},
    normalize="chunk",
    adequacy=replace(adequacy_of([[1, 2], [2, 1]]), n_documents=100, delta=0.04, signal_to_noise=10.0),
)


def test_a_sound_selection_has_no_warnings() -> None:
    assert warnings(GOOD) == []
    assert warnings(replace(GOOD, adequacy=None)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_std": 0.0}, "all documents have the same score"),
        ({"effective_sample_size": 9.0}, "the weights have collapsed"),
        ({"length_correlation": -0.8}, "shorter documents win; compare the length quantiles"),
        ({"length_correlation": 0.8, "normalize": "sum"}, "longer documents win; use --set normalize=chunk"),
        ({"adequacy": replace(GOOD.adequacy, n_documents=29)}, "the target has 29 documents"),
        ({"adequacy": replace(GOOD.adequacy, delta=0.2, n_buckets_supported=3456)}, "--set n_buckets=3000"),
        ({"adequacy": replace(GOOD.adequacy, signal_to_noise=2.9)}, "little distinguishes the target from raw"),
    ],
)
def test_each_fault_is_said_once_with_its_way_out(change, message) -> None:
    (only,) = warnings(replace(GOOD, **change))
    assert message in only
    (named,) = warnings(replace(GOOD, target="maths", **change))
    assert named == f"target 'maths': {only}"


def test_a_ranking_by_top_k_has_no_weights_that_collapse() -> None:
    assert warnings(replace(GOOD, draw="topk", effective_sample_size=1.0)) == []
    assert warnings(replace(GOOD, n_selected=99, effective_sample_size=0.5)) == []


def test_diagnostics_are_plain_values_without_nan() -> None:
    found = replace(GOOD, length_correlation=math.nan, length_raw={"50%": 3}).as_dict()
    assert found["length_correlation"] is None
    assert found["length_raw"] == {"50%": 3}
    assert found["adequacy"]["delta"] == 0.04
    assert replace(GOOD, adequacy=replace(GOOD.adequacy, risk=math.inf)).as_dict()["adequacy"]["risk"] is None


def test_shares_are_fractions_largest_first() -> None:
    sizes = {"b": {"documents": 1, "bytes": 5}, "a": {"documents": 1, "bytes": 0}, "c": {"documents": 2, "bytes": 5}}
    assert list(shares(sizes).items()) == [("c", 0.5), ("a", 0.25), ("b", 0.25)]
    assert list(shares(sizes, "bytes").items()) == [("b", 0.5), ("c", 0.5), ("a", 0.0)]
    assert shares({}) == {}


@pytest.mark.parametrize(("value", "rounded"), [(0, 0), (9, 9), (10, 10), (19, 10), (999, 900), (3456, 3000)])
def test_round_down_leaves_one_digit(value, rounded) -> None:
    assert round_down(value) == rounded
