"""The classifier: a logit that is a log density ratio, and no document scored by a model that saw it."""

import json

import numpy as np
import pyarrow as pa
import pytest
from corpora import COOKING, MATHS, NEWS, text
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.errors import InputError, MissingExtraError, UsageError
from curate.scorers.classifier import SAMPLE, Classifier, Sample, auc, fold_of, log_density_ratio

pytest.importorskip("sklearn")
import random

RNG = random.Random(0)
TARGET = [text(MATHS, 40, RNG) for _ in range(60)]
RAW = [text(words, 40, RNG) for words in (COOKING, NEWS, MATHS) for _ in range(80)]
SMALL = {"n_buckets": 2_000, "min_tokens": 0}


def fitted(**more) -> Classifier:
    return Classifier(**SMALL | more).fit(target=TARGET, raw=RAW)


def test_the_worked_example() -> None:
    assert log_density_ratio(np.array([2.0, -1.0]), 100, 900) == pytest.approx([4.197224577, 1.197224577])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=20))
def test_auc_equals_the_definition(items) -> None:
    scores, positive = np.array([s for s, _ in items], float), np.array([p for _, p in items], int)
    if 0 < positive.sum() < len(items):
        pairs = [(a > b) + (a == b) / 2 for a in scores[positive == 1] for b in scores[positive == 0]]
        assert auc(scores, positive) == pytest.approx(np.mean(pairs))


def test_documents_like_the_target_score_higher() -> None:
    scores = fitted().score(RAW)
    assert scores[160:].min() > scores[:160].max()


def test_the_classes_sizes_do_not_matter() -> None:
    """Ten times the raw documents of the same kinds leave the logit about where it was."""
    rng = random.Random(5)
    more = RAW + [text(words, 40, rng) for words in (COOKING, NEWS, MATHS) for _ in range(720)]
    probe = [text(words, 40, rng) for words in (MATHS, NEWS) for _ in range(30)]
    few, many = fitted().score(probe), Classifier(**SMALL).fit(target=TARGET, raw=more).score(probe)
    assert abs(np.mean(few - many)) < np.log(10) / 2


def test_no_document_is_scored_by_a_model_that_saw_it() -> None:
    model = fitted()
    changed = RAW[7] + " zebra zebra"
    folds = [int(fold_of(_hashes(model, [t]), model.folds)[0]) for t in (RAW[7], changed)]
    without = Classifier(**SMALL).fit(target=TARGET, raw=RAW[:7] + RAW[8:])
    assert np.array_equal(model.tables_[folds[0]], without.tables_[folds[0]])
    assert not np.array_equal(model.tables_, without.tables_)
    assert model.score([RAW[7]])[0] == without.score([RAW[7]])[0]


def test_a_copy_of_a_target_document_in_raw_is_scored_by_a_model_without_either() -> None:
    copy = TARGET[3]
    model = Classifier(**SMALL).fit(target=TARGET, raw=[*RAW, copy])
    without = Classifier(**SMALL).fit(target=TARGET[:3] + TARGET[4:], raw=RAW)
    assert model.score([copy])[0] == without.score([copy])[0]


def _hashes(model: Classifier, texts: list[str]) -> np.ndarray:
    from curate.sampling.noise import keyed_hashes

    return keyed_hashes(pa.array(texts, pa.large_string()), model.seed, SAMPLE)


def _weights(model: Classifier) -> bytes:
    return b"".join(array.tobytes() for array in model.arrays().values())


def test_the_fit_depends_on_no_order_and_no_sharding() -> None:
    model = fitted(max_documents=50)
    rng = random.Random(1)
    again = Classifier(**SMALL, max_documents=50).fit(target=rng.sample(TARGET, 60), raw=rng.sample(RAW, 240))
    assert _weights(again) == _weights(model)
    assert model.n_raw_ == 50
    assert _weights(fitted(seed=1, max_documents=50)) != _weights(model)


@given(st.lists(st.text("ab ", max_size=6), max_size=30), st.integers(1, 10), st.integers(1, 40), st.randoms())
@settings(max_examples=100)
def test_a_sample_is_the_smallest_hashes_that_have_room_in_any_order(texts, size, n_ngrams, chance) -> None:
    model = Classifier(**SMALL)
    found = []
    for of in (texts, chance.sample(texts, len(texts))):
        sample = Sample(size, n_ngrams=n_ngrams)
        for one in of:
            sample.add(pa.array([one]), model.features)
        found.append(
            [of.tolist() if isinstance(of, np.ndarray) else [b.tolist() for b in of] for of in sample.sorted()]
        )
    assert found[0] == found[1]
    different = {t for t in texts if t.split()}
    hashes = dict(zip(_hashes(model, sorted(different)).tolist(), sorted(different), strict=True)) if different else {}
    expected, used = [], 0
    for key in sorted(hashes):
        used += len(model.features.stream([hashes[key]]).buckets)
        if used > n_ngrams or len(expected) == size:
            break
        expected.append(key)
    assert found[0][0] == expected


def test_scores_do_not_depend_on_neighbours_and_short_texts_have_none() -> None:
    model = fitted(min_tokens=3)
    documents = ["", "a b", "solve the equation", *RAW[:20]]
    scores = model.score(documents)
    assert np.isnan(scores).tolist() == [True, True] + [False] * 21
    assert np.array_equal(model.score(documents[::-1]), scores[::-1], equal_nan=True)
    assert np.array_equal(model.score(pa.array(["x", *documents])[1:]), scores, equal_nan=True)
    assert model.score([]).shape == (0,)


def test_length_alone_does_not_decide() -> None:
    model = fitted(n=1)
    once = TARGET[0]
    by_table = [model.score_stream(model.features.stream([t]), np.zeros(1, int))[0] for t in (once, f"{once} {once}")]
    assert by_table[0] == pytest.approx(by_table[1], abs=1e-9)


def test_what_is_saved_scores_the_same(tmp_path) -> None:
    model = fitted()
    model.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    assert np.array_equal(loaded.score(RAW), model.score(RAW))
    assert _weights(loaded) == _weights(model)
    assert (loaded.auc_, loaded.n_target_, loaded.n_raw_) == (model.auc_, 60, len(set(RAW)))
    json.dumps(model.identity())
    (tmp_path / "scorer.json").write_text("{}")
    with pytest.raises(InputError, match="not a saved scorer"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "folds=1: must be a whole number, 2 or more"),
        ({"c": 0}, "c=0: must be above 0"),
        ({"max_documents": 1}, "must be a whole number, 2 or more"),
        ({"min_tokens": -1}, "must be a whole number, 0 or more"),
        ({"fold": 3}, "did you mean 'folds'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        Classifier.from_settings(settings)


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(InputError, match="target 'target' has 2 different documents with tokens: too few for 3"):
        Classifier(**SMALL).fit(target=["a b", "c", "a b"], raw=RAW)


def test_a_missing_package_is_told_before_anything_is_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'curate-data\[classifier\]'"):
        curate.select(
            tmp_path / "none.parquet", target=tmp_path / "none.jsonl", out=tmp_path / "out", method="classifier"
        )
