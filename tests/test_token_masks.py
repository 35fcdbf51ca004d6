"""Token masks: the right tokens by entropy and by KL, each of its own prediction, never more than was asked for."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curate.curriculum.tokens import entropy_and_kl, entropy_bounds, kl_lower_bound, mask_tokens
from curate.errors import InputError, UsageError

MODEL = np.array([[2.0, 0, 0], [0, 0, 0], [3, 0, -1], [1, 1, 0]])
REFERENCE = np.array([[2.0, 0, 0], [1, 0, 0], [0, 3, 0], [1, 0, 0]])
ENTROPY = [0.665572682, 1.098612289, 0.274313074, 1.017357208]
KL = [0, 0.119499092, 2.680772015, 0.111768708]
shapes = st.tuples(st.integers(1, 12), st.integers(2, 5))
logits = shapes.flatmap(lambda s: arrays(np.float64, s, elements=st.integers(-3, 3).map(float) | st.floats(-20, 20)))


def masked(mask) -> list[int]:
    return np.flatnonzero(mask).tolist()


def test_the_worked_example():
    found = mask_tokens(MODEL, REFERENCE, aligned="same", share=0.5)
    np.testing.assert_allclose(found.entropy, ENTROPY, atol=5e-10)
    np.testing.assert_allclose(found.kl, KL, atol=5e-10)
    assert masked(found.by_entropy) == [1, 3]
    assert masked(found.by_kl) == [1, 2]
    assert masked(found.masked) == [1, 2, 3]
    assert masked(mask_tokens(MODEL, REFERENCE, aligned="same", share=0.5, combine="both").masked) == [1]
    assert found.lowest_entropy == pytest.approx(ENTROPY[3])
    assert found.lowest_kl == pytest.approx(KL[1])


@given(logits, st.data())
def test_entropy_and_kl_equal_their_definitions_in_any_chunks(x, data):
    other = data.draw(arrays(np.float64, x.shape, elements=st.floats(-20, 20)))
    entropy, kl = entropy_and_kl(x, other, chunk_bytes=data.draw(st.integers(1, 400)))
    np.testing.assert_allclose(entropy, [reference.token_entropy(row) for row in x.tolist()], atol=1e-12)
    expected = [reference.token_kl(p, q) for p, q in zip(x.tolist(), other.tolist(), strict=True)]
    np.testing.assert_allclose(kl, expected, atol=1e-10)
    assert (entropy <= np.log(x.shape[1]) + 1e-12).all()


@given(logits, st.floats(0, 1), st.data())
def test_topk_masks_the_highest_and_at_most_twice_k(x, share, data):
    other = data.draw(arrays(np.float64, x.shape, elements=st.integers(-3, 3).map(float)))
    found = mask_tokens(x, other, aligned="same", share=share)
    assert set(masked(found.by_entropy)) == reference.top_k(found.entropy.tolist(), share)
    assert set(masked(found.by_kl)) == reference.top_k(found.kl.tolist(), share)
    assert found.masked.sum() <= 2 * int(share * len(x) + 1e-9)
    both = mask_tokens(x, other, aligned="same", share=share, combine="both").masked
    assert not (both & ~found.masked).any()


@given(logits)
def test_a_model_that_is_its_reference_masks_nothing_by_kl(x):
    found = mask_tokens(x, x, aligned="same", share=1.0)
    assert not found.by_kl.any()
    assert found.lowest_kl is None


@given(logits, st.data())
def test_the_row_before_a_token_predicts_it_where_row_t_predicts_the_next(x, data):
    """The reference masks label t by row t, which predicts token t + 1."""
    documents = np.sort(data.draw(arrays(np.int64, len(x), elements=st.integers(0, 3))))
    found = mask_tokens(x, x[::-1], aligned="next", documents=documents, share=1.0)
    entropy, kl = entropy_and_kl(x, x[::-1])
    for t in range(len(x)):
        if t == 0 or documents[t] != documents[t - 1]:
            assert np.isnan(found.entropy[t])
            assert not found.masked[t]
        else:
            assert found.entropy[t] == entropy[t - 1]
            assert found.kl[t] == kl[t - 1]


def test_a_token_is_masked_by_its_own_prediction():
    sure, unsure = [9.0, 0, 0], [0.0, 0, 0]
    x = np.array([sure, sure, unsure, sure, sure])
    assert masked(mask_tokens(x, aligned="next", share=0.25).masked) == [3]
    assert masked(mask_tokens(x, aligned="same", share=0.2).masked) == [2]


@given(logits, st.floats(0, 1), st.data())
def test_per_document_each_document_is_masked_as_if_alone(x, share, data):
    documents = np.sort(data.draw(arrays(np.int64, len(x), elements=st.integers(0, 3))))
    valid = data.draw(arrays(np.bool_, len(x)))
    found = mask_tokens(x, aligned="same", documents=documents, valid=valid, share=share, per_document=True)
    for document in np.unique(documents):
        rows = documents == document
        alone = mask_tokens(x[rows], aligned="same", valid=valid[rows], share=share)
        np.testing.assert_array_equal(found.masked[rows], alone.masked)
    assert not (found.masked & ~valid).any()


def test_of_equal_values_the_earlier_token_is_masked():
    assert masked(mask_tokens(np.zeros((4, 3)), aligned="same", share=0.5).masked) == [0, 1]


@pytest.mark.parametrize("share", [0, 0.2])
def test_a_share_of_no_whole_token_masks_nothing(share):
    assert not mask_tokens(MODEL, REFERENCE, aligned="same", share=share).masked.any()


def test_a_share_is_not_cut_short_by_rounding():
    x = np.random.default_rng(0).normal(size=(100, 4))
    assert mask_tokens(x, aligned="same", share=0.29).masked.sum() == 29  # 0.29 * 100 is 28.999999999999996


@given(logits, st.floats(0, 1))
def test_above_a_quantile_is_at_most_that_share(x, share):
    found = mask_tokens(x, aligned="same", mode="quantile", share=share)
    assert found.masked.sum() <= share * len(x) + 1e-9
    if found.masked.any() and not found.masked.all():
        assert found.entropy[found.masked].min() > found.entropy[~found.masked].max()


def test_above_thresholds_are_those_above_them():
    of = {"aligned": "same", "mode": "above"}
    assert masked(mask_tokens(MODEL, REFERENCE, **of, above_entropy=1.0).masked) == [1, 3]
    assert masked(mask_tokens(MODEL, REFERENCE, **of, above_kl=1.0).masked) == [2]
    assert masked(mask_tokens(MODEL, REFERENCE, **of, above_entropy=1.05, above_kl=1.0).masked) == [1, 2]
    assert not mask_tokens(MODEL, REFERENCE, **of).masked.any()


def test_no_tokens_are_masked_of_none():
    assert mask_tokens(np.zeros((0, 3)), np.zeros((0, 3)), aligned="next").masked.tolist() == []


def test_a_token_that_cannot_be_counts_for_nothing_and_one_that_should_not_be_for_everything():
    entropy, kl = entropy_and_kl(np.array([[0.0, 0, -np.inf]]), np.array([[0.0, 0, -np.inf]]))
    assert entropy[0] == pytest.approx(np.log(2))
    assert kl[0] == 0
    assert entropy_and_kl(np.array([[0.0, 0]]), np.array([[0.0, -np.inf]]))[1][0] == np.inf


def test_a_memory_map_of_half_precision_is_read(tmp_path):
    np.save(tmp_path / "logits.npy", MODEL.astype(np.float16))
    found = mask_tokens(np.load(tmp_path / "logits.npy", mmap_mode="r"), REFERENCE, aligned="same", share=0.5)
    assert masked(found.masked) == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (({"logits": np.zeros(3)}), InputError, r"shape \(3,\)"),
        (({"reference": np.zeros((4, 2))}), InputError, "must be the same"),
        (({"logits": np.array([[0.0, 1], [np.nan, 0]]), "reference": None}), InputError, "row 1: the highest is nan"),
        (({"logits": np.full((1, 2), -np.inf), "reference": None}), InputError, "row 0"),
        (({"valid": np.ones(3, bool)}), InputError, "there are 4 tokens"),
        (({"documents": np.ones(3, int)}), InputError, "there are 4 tokens"),
        (({"mode": "topp"}), UsageError, "did you mean 'topk'"),
        (({"aligned": "shifted"}), UsageError, "next, same"),
        (({"combine": "intersection"}), UsageError, "both, union"),
        (({"share": 1.5}), UsageError, "0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, error, words):
    given_ = {"logits": MODEL, "reference": REFERENCE, "aligned": "same"} | arguments
    with pytest.raises(error, match=words):
        mask_tokens(given_.pop("logits"), given_.pop("reference"), **given_)


# ---- from the most likely tokens only


def test_bounds_of_the_worked_example():
    p = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    low, high = entropy_bounds(np.log(p[None, :3]), 6)
    assert -(p * np.log(p)).sum() == pytest.approx(1.428551, abs=5e-7)
    assert low[0] == pytest.approx(1.359237, abs=5e-7)
    assert high[0] == pytest.approx(1.440330, abs=5e-7)


distributions = st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any).map(lambda c: np.array(c) / sum(c))


@given(distributions, st.data())
def test_entropy_is_within_its_bounds_and_they_meet_when_all_is_known(p, data):
    m = data.draw(st.integers(1, len(p)))
    p = np.sort(p)[::-1]
    with np.errstate(divide="ignore"):
        low, high = entropy_bounds(np.log(p[None, :m]), len(p))
    true = -sum(x * np.log(x) for x in p if x > 0)
    assert low[0] - 1e-9 <= true <= high[0] + 1e-9
    assert low[0] == pytest.approx(reference.packed(p[:m].tolist(), 1 - p[:m].sum(), len(p) - m), abs=1e-9)
    if m == len(p):
        assert low[0] == pytest.approx(high[0], abs=1e-9)


@given(distributions, st.data())
def test_merging_the_rest_never_adds_to_a_divergence(p, data):
    q = data.draw(arrays(np.float64, len(p), elements=st.floats(0.01, 1)))
    q /= q.sum()
    m = data.draw(st.integers(1, len(p)))
    tokens = np.array([data.draw(st.permutations(range(len(p))))[:m]])
    shuffled = np.array([data.draw(st.permutations(tokens[0].tolist()))])
    with np.errstate(divide="ignore"):
        bound = kl_lower_bound(np.log(p[tokens]), tokens, np.log(q[shuffled]), shuffled)[0]
    true = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
    assert -1e-12 <= bound <= true + 1e-7
    if m == len(p):
        assert bound == pytest.approx(true, abs=1e-6)


def test_a_divergence_of_different_tokens_is_refused():
    log_p = np.log([[0.5, 0.3]])
    with pytest.raises(InputError, match="row 0: the model's tokens are not those of the reference"):
        kl_lower_bound(log_p, np.array([[3, 5]]), log_p, np.array([[3, 6]]))
    with pytest.raises(InputError, match="shapes"):
        kl_lower_bound(log_p, np.array([[3, 5]]), log_p[:, :1], np.array([[3]]))


def test_probabilities_that_cannot_be_the_highest_are_refused():
    with pytest.raises(InputError, match="none of them likelier"):
        entropy_bounds(np.log([[0.3, 0.2]]), 3)  # leaves 0.5 to one token
    with pytest.raises(InputError, match="give log-probabilities"):
        entropy_bounds(np.array([[0.9, 0.7]]), 3)
    with pytest.raises(InputError, match="shape"):
        entropy_bounds(np.log([[0.5, 0.5]]), 1)
