"""DSIR: the estimator equals its formulas, says what it cannot do, and comes back from disk as it was."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.scorers import SCORERS, Dsir, scorer
from curate.scorers.dsir import AUTO_NGRAMS_PER_BUCKET, TargetCounts, chunk_ngrams, log_ratio

RAW = ["the cat sat on the mat", "dogs bark at the moon loudly", "import numpy as np", "the stock market fell today"]
TARGET = ["import os", "import sys as system", "np array of zeros"]
WORKED = {"n_buckets": 8, "compat": True, "min_tokens": 0}
texts = st.lists(st.text(st.sampled_from("ab c.Σé漢\n"), min_size=1, max_size=40), min_size=1, max_size=6)


def small(**settings) -> Dsir:
    return Dsir(**{"n_buckets": 50, "min_tokens": 0} | settings).fit(target=TARGET, raw=RAW)


# ---- the worked example


def test_the_worked_example() -> None:
    model = Dsir(**WORKED).fit(target=TARGET, raw=RAW)
    assert model.raw_counts_.tolist() == [13, 3, 4, 1, 4, 3, 6, 4]
    assert model.target_counts_.tolist() == [[2, 1, 1, 2, 2, 3, 2, 4]]
    log_diff = [-1.067429, -0.294239, -0.581921, 1.497520, 0.111226, 0.804373, -0.294239, 0.804373]
    assert model.log_ratio_ == pytest.approx(np.array([log_diff]), abs=1e-6)
    assert model.score(RAW) == pytest.approx([-2.953514, -5.400680, 0.015203, -2.940399], abs=1e-6)
    _, lengths = model.score_stream(model.features.stream(RAW))
    assert lengths.tolist() == [6, 6, 4, 5]
    assert model.adequacy_[0].kl_from_raw > 0


# ---- formulas


@given(
    st.integers(2, 8).flatmap(
        lambda b: st.tuples(*[st.lists(st.integers(0, 99), min_size=b, max_size=b).filter(any) for _ in range(2)])
    ),
    st.floats(0.01, 10),
)
def test_log_ratios_equal_the_definition(counts, alpha) -> None:
    target, raw = counts
    arrays = np.array([target]), np.array(raw)
    assert log_ratio(*arrays, alpha)[0] == pytest.approx(reference.add_alpha_log_ratio(target, raw, alpha), abs=1e-12)
    assert log_ratio(*arrays, "epsilon")[0] == pytest.approx(reference.epsilon_log_ratio(target, raw), abs=1e-12)


@pytest.mark.parametrize(("n", "expected"), [(1, 128), (2, 255), (3, 381)])
def test_a_chunk_is_128_tokens_of_ngrams(n, expected) -> None:
    assert chunk_ngrams(n) == expected
    assert len(reference.ngrams(range(128), n)) == expected


@pytest.mark.parametrize("normalize", ["chunk", "mean", "sum", "sqrt"])
@given(texts, st.integers(1, 3), st.sampled_from(["fast", "sha256"]), st.sampled_from([1.0, 2.5]))
@settings(max_examples=30)
def test_scores_equal_the_definition_to_the_last_bit(normalize, documents, n, hash, temperature) -> None:
    model = small(n=n, hash=hash, normalize=normalize, temperature=temperature)
    table = model.log_ratio_[0].tolist()
    for text, score in zip(documents, model.score(documents).tolist(), strict=True):
        found = reference.buckets(text, n=n, n_buckets=50, hash=hash)
        if not found:
            assert math.isnan(score)
            continue
        total = reference.lane_sum(table[b] for b in found)
        assert score == reference.normalized(total, len(found), normalize, n) / temperature


@given(texts)
@settings(max_examples=50)
def test_fitting_counts_every_ngram_of_raw_and_target(documents) -> None:
    raw = [*documents, "a"]
    target = ["a b", *documents]
    model = Dsir(n_buckets=30, smoothing=0.3).fit(target=target, raw=raw)
    for found, of in ((model.raw_counts_, raw), (model.target_counts_[0], target)):
        assert found.tolist() == reference.counts([b for t in of for b in reference.buckets(t, n_buckets=30)], 30)
    per_document = [reference.counts(reference.buckets(t, n_buckets=30), 30) for t in target]
    with_tokens = [c for c in per_document if any(c)]
    adequacy = model.adequacy_[0]
    assert adequacy.n_documents == len(with_tokens)
    if math.isfinite(adequacy.risk):
        assert adequacy.risk == pytest.approx(reference.cluster_risk(with_tokens)[0], rel=1e-9, abs=1e-12)


@given(texts, st.data())
@settings(max_examples=50)
def test_target_counts_do_not_depend_on_the_batches(documents, data) -> None:
    features = Dsir(n_buckets=30).features
    border = data.draw(st.integers(0, len(documents)))
    whole, first, rest = (TargetCounts.zero(30) for _ in range(3))
    whole.add(features.stream(documents))
    first.add(features.stream(documents[:border]))
    rest.add(features.stream(documents[border:]))
    first.merge(rest)
    for field in ("counts", "squares", "products"):
        assert np.array_equal(getattr(whole, field), getattr(first, field))
    assert (whole.total_square, whole.n_documents) == (first.total_square, first.n_documents)


# ---- which texts have a score


def test_the_score_of_a_text_does_not_depend_on_its_neighbours() -> None:
    model = small()
    documents = ["import numpy", "", "the cat " * 500, "np", "Σ" * 70]
    together = model.score(documents)
    alone = [model.score([text])[0] for text in documents]
    assert np.array_equal(together, alone, equal_nan=True)
    assert np.array_equal(model.score(documents[::-1]), together[::-1], equal_nan=True)


def test_texts_that_are_too_short_have_no_score() -> None:
    scores = small(min_tokens=3).score(["", "a", "a b", "a b c", "a b c d", "...", "x.y"])
    assert np.isnan(scores).tolist() == [True, True, True, False, False, True, False]
    assert np.isnan(small().score(["", " \n", "a"])).tolist() == [True, True, False]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("min_tokens", [0, 1, 2, 5])
def test_compat_keeps_by_the_references_estimate_of_the_length(n, min_tokens) -> None:
    model = small(n=n, compat=True, min_tokens=min_tokens)
    for length in range(8):
        n_ngrams = len(reference.ngrams(range(length), n))
        estimate = (n_ngrams + n * (n - 1) / 2) // n
        assert math.isnan(model.score(["x " * length])[0]) == (estimate < min_tokens)


def test_no_texts_have_no_scores() -> None:
    assert small().score([]).shape == (0,)
    assert small(separate_targets=True).score([]).shape == (0, 1)


def test_arrow_strings_and_nulls_are_scored() -> None:
    model = small()
    scores = model.score(pa.array(["import os", None, "the cat"]))
    assert np.array_equal(scores, model.score(["import os", "", "the cat"]), equal_nan=True)
    assert np.isnan(scores).tolist() == [False, True, False]


# ---- several targets


TARGETS = {"code": TARGET, "news": ["the stock market rose today", "the market fell"], "more": ["dogs and cats"]}


def test_separate_targets_have_a_score_each_equal_to_that_of_the_target_alone() -> None:
    model = Dsir(separate_targets=True, min_tokens=0, n_buckets=50).fit(target=TARGETS, raw=RAW)
    assert model.target_names_ == list(TARGETS)
    scores = model.score(RAW)
    for i, target in enumerate(TARGETS.values()):
        alone = Dsir(min_tokens=0, n_buckets=50).fit(target=target, raw=RAW)
        assert np.array_equal(scores[:, i], alone.score(RAW))
        assert model.adequacy_[i] == alone.adequacy_[0]


def test_proportions_are_the_targets_shares_of_ngrams_unless_given() -> None:
    sizes = [sum(len(reference.ngrams(reference.tokens(t), 2)) for t in target) for target in TARGETS.values()]
    model = Dsir(separate_targets=True).fit(target=TARGETS, raw=RAW)
    assert model.target_proportions_ == pytest.approx([s / sum(sizes) for s in sizes])
    given_ones = Dsir(separate_targets=True, target_proportions=[1, 0, 3]).fit(target=TARGETS, raw=RAW)
    assert given_ones.target_proportions_ == [0.25, 0.0, 0.75]
    with pytest.raises(UsageError, match="2 target_proportions for 3 targets"):
        Dsir(separate_targets=True, target_proportions=[1, 1]).fit(target=TARGETS, raw=RAW)


def test_targets_are_pooled_unless_separate() -> None:
    pooled = Dsir(n_buckets=50, min_tokens=0).fit(target=TARGETS, raw=RAW)
    one = Dsir(n_buckets=50, min_tokens=0).fit(target=[t for texts in TARGETS.values() for t in texts], raw=RAW)
    assert pooled.target_names_ == ["code+news+more"]
    assert pooled.target_proportions_ == [1.0]
    assert np.array_equal(pooled.score(RAW), one.score(RAW))
    assert pooled.adequacy_ == one.adequacy_


# ---- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": "chunks"}, "did you mean 'chunk'"),
        ({"hash": "sha"}, "did you mean 'sha256'"),
        ({"temperature": 0}, "temperature=0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"smoothing": 0}, "smoothing=0"),
        ({"smoothing": "laplace"}, "smoothing='laplace'"),
        ({"num_tokens_to_fit": "most"}, "'auto' or 'all'"),
        ({"num_tokens_to_fit": 0}, "num_tokens_to_fit=0"),
        ({"num_tokens_to_fit": -5}, "num_tokens_to_fit=-5"),
        ({"min_tokens": -1}, "min_tokens=-1"),
        ({"target_proportions": [1]}, "separate_targets=True"),
        ({"target_proportions": [1, -1], "separate_targets": True}, "non-negative"),
        ({"target_proportions": [0, 0], "separate_targets": True}, "not all 0"),
        ({"target_proportions": [], "separate_targets": True}, "not all 0"),
        ({"n": 0}, "n=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        Dsir(**settings)


def test_an_unknown_setting_or_method_suggests_the_near_name() -> None:
    with pytest.raises(UsageError, match="no setting of dsir called 'n_bucket'; did you mean 'n_buckets'"):
        scorer("dsir", n_bucket=5)
    with pytest.raises(UsageError, match="no scorer called 'dsri'; did you mean 'dsir'"):
        scorer("dsri")
    assert {"dsir", "zipfit", "primed", "classifier"} <= set(SCORERS)
    assert scorer("dsir", n_buckets=5).settings()["n_buckets"] == 5


def test_compat_is_the_reference_package_and_each_setting_can_still_be_given() -> None:
    compat = Dsir(compat=True).settings()
    expected = {"hash": "sha256", "smoothing": "epsilon", "normalize": "sum", "temperature": 1.0, "min_tokens": 100}
    assert expected.items() <= compat.items()
    assert (compat["num_tokens_to_fit"], compat["n"], compat["n_buckets"]) == ("all", 2, 10_000)
    assert Dsir(compat=True).raw_sample.quota == math.inf
    given_ones = {"min_tokens": 5, "normalize": "mean"}
    assert Dsir(compat=True, **given_ones).settings() == compat | given_ones


def test_settings_make_the_same_scorer_again() -> None:
    chosen = Dsir(n=3, n_buckets=77, temperature=2, smoothing=0.1, separate_targets=True, target_proportions=[1, 2])
    assert Dsir.from_settings(chosen.settings()).settings() == chosen.settings()


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("auto", AUTO_NGRAMS_PER_BUCKET * 77), ("all", math.inf), (1234, 1234), (None, AUTO_NGRAMS_PER_BUCKET * 77)],
)
def test_the_quota_of_ngrams_to_fit_on(quota, expected) -> None:
    assert Dsir(n_buckets=77, num_tokens_to_fit=quota).raw_sample.quota == expected


@pytest.mark.parametrize("empty", [[], [""], [" \n\t", ""]])
def test_a_target_or_corpus_without_tokens_is_an_input_error(empty) -> None:
    with pytest.raises(InputError, match="target 'target' has no tokens"):
        Dsir().fit(target=empty, raw=RAW)
    with pytest.raises(InputError, match="target 'second' has no tokens"):
        Dsir().fit(target={"first": TARGET, "second": empty}, raw=RAW)
    with pytest.raises(InputError, match="the raw corpus has no tokens"):
        Dsir().fit(target=TARGET, raw=empty)


# ---- files


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"compat": True, "min_tokens": 1},
        {"n": 3, "n_buckets": 100_000, "hash_seed": 2**64 - 1, "normalize": "sqrt", "temperature": 3.7},
        {"separate_targets": True, "target_proportions": [0.1, 0.2, 0.7]},
    ],
)
def test_a_scorer_comes_back_from_disk_as_it_was(settings, tmp_path) -> None:
    model = Dsir(**{"min_tokens": 0} | settings).fit(target=TARGETS, raw=RAW)
    model.save(tmp_path / "new" / "folder")
    back = Dsir.load(tmp_path / "new" / "folder")
    assert np.array_equal(back.score(RAW), model.score(RAW))
    assert back.settings() == model.settings()
    for name in ("log_ratio_", "raw_counts_", "target_counts_"):
        assert np.array_equal(getattr(back, name), getattr(model, name))
        assert getattr(back, name).dtype == getattr(model, name).dtype
    for name in ("target_names_", "target_proportions_", "adequacy_"):
        assert getattr(back, name) == getattr(model, name)


def test_saving_leaves_two_files_and_nothing_else(tmp_path) -> None:
    small().save(tmp_path)
    small().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.npz", "scorer.json"]


def _without(path, key) -> None:
    state = json.loads(path.read_text())
    del state[key]
    path.write_text(json.dumps(state))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "arrays.npz").unlink(),
        lambda folder: (folder / "arrays.npz").write_bytes(b""),
        lambda folder: (folder / "arrays.npz").write_bytes(b"not arrays"),
        lambda folder: (folder / "arrays.npz").write_bytes((folder / "arrays.npz").read_bytes()[:-50]),
        lambda folder: (folder / "scorer.json").unlink(),
        lambda folder: (folder / "scorer.json").write_text("{"),
        lambda folder: (folder / "scorer.json").write_text("[]"),
        lambda folder: _without(folder / "scorer.json", "settings"),
        lambda folder: _without(folder / "scorer.json", "target_names"),
    ],
    ids=["no arrays", "empty", "no zip", "cut zip", "no state", "cut state", "other state", "no settings", "no names"],
)
def test_what_is_no_saved_scorer_is_an_input_error_with_the_folder(damage, tmp_path) -> None:
    small().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path.name}: not a saved scorer"):
        Dsir.load(tmp_path)
