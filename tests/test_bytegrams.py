"""Byte n-grams: counts and scores are those of the definition, whatever the text and however it is cut."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.kernels.bytematch import Matcher, Vocabulary, words
from curate.kernels.text import string_buffers
from curate.scorers.bytegrams import ByteGrams

few = st.text(st.sampled_from("ab\n\0é漢😀"), max_size=30)  # so that long n-grams meet again
repeated = st.builds(lambda text, n: text * n, few, st.integers(0, 40))  # also longer than a block
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
texts = st.lists(st.one_of(few, repeated, anything), max_size=6)
some_texts = texts.filter(any)
orders = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted)
mus = st.floats(1e-3, 1e3)


def buffers(documents):
    return string_buffers(pa.array(documents, pa.large_string()))


def matcher(target, max_order=8):
    return Matcher(Vocabulary.of([words(*buffers(target))], max_order))


def grams(vocabulary):
    """The entries as bytes."""
    return [
        int(key).to_bytes(order, "little")
        for order in range(vocabulary.max_order + 1)
        for key in vocabulary.keys[order]
    ]


def counted(of, *parts):
    """At how many bytes of some documents each entry is the longest that ends there, by entry as bytes."""
    counter = of.counter()
    for part in parts:
        of.count(*buffers(part), counter)
    return dict(zip(grams(of.vocabulary), of.longest(counter).tolist(), strict=True))


def encoded(documents):
    return [text.encode() for text in documents]


def corpus(n: int, seed: int = 0, words: str = "abcd") -> list[str]:
    rng = np.random.default_rng(seed)
    kinds = [[f"{kind}{i}é" for i in range(40)] for kind in words]
    return [" ".join(rng.choice(kinds[i % len(kinds)], rng.integers(5, 80))) + "\n" for i in range(n)]


# ---- vocabularies and counts


@given(texts, st.integers(1, 8))
def test_a_vocabulary_is_all_ngrams_of_the_texts_with_their_counts(target, max_order) -> None:
    vocabulary = matcher(target, max_order).vocabulary
    expected = {b"": sum(map(len, encoded(target))), b"\n": 0, b"\n\n": 0}
    for order in range(1, max_order + 1):
        expected |= reference.gram_counts(encoded(target), order)
    if max_order == 1:
        del expected[b"\n\n"]
    assert dict(zip(grams(vocabulary), vocabulary.counts.tolist(), strict=True)) == expected


@given(texts, st.integers(1, 8))
def test_the_parent_of_an_ngram_is_what_is_left_without_its_first_byte(target, max_order) -> None:
    vocabulary = matcher(target, max_order).vocabulary
    names = grams(vocabulary)
    for order in range(1, max_order + 1):
        children = names[vocabulary.entries(order)]
        assert [names[p] for p in vocabulary.parents(order)] == [name[1:] for name in children]


@given(texts, texts, st.integers(1, 8))
@example(["\nA"], ["x\nA", "\nA", "A"], 8)  # the blank line is in the vocabulary, or "\nA" would not be found
@example(["ab" * 100], ["ab" * 100], 8)
@settings(max_examples=300)
def test_the_longest_ngram_at_every_byte_is_that_of_the_definition(target, raw, max_order) -> None:
    of = matcher(target, max_order)
    known = set(grams(of.vocabulary))
    found = reference.Counter(g for text in encoded(raw) for g in reference.longest_gram(text, known, max_order))
    assert counted(of, raw) == {name: found[name] for name in known}


@given(target=some_texts, raw=texts, max_order=st.integers(1, 8))
def test_the_number_at_every_byte_is_that_of_its_longest_ngram(target, raw, max_order) -> None:
    of = matcher(target, max_order)
    of.set_values(np.arange(len(of.vocabulary)))
    names = grams(of.vocabulary)
    found = [names[i] for i in of.numbers(*buffers(raw))]
    assert found == [g for text in encoded(raw) for g in reference.longest_gram(text, set(names), max_order)]


@given(some_texts, texts)
def test_counts_added_to_parents_are_those_of_every_ngram(target, raw) -> None:
    of = matcher(target)
    counter = of.counter()
    of.count(*buffers(raw), counter)
    counts = of.vocabulary.add_to_parents(of.longest(counter)).tolist()
    expected = {b"": sum(map(len, encoded(raw)))}
    for order in range(1, 9):
        expected |= reference.gram_counts(encoded(raw), order)
    assert counts == [expected.get(name, 0) for name in grams(of.vocabulary)]


def test_counts_are_exact_where_tables_are_full_and_filters_are_wrong() -> None:
    rng = np.random.default_rng(0)
    target, raw = ([" ".join(map(str, rng.integers(0, 10**6, 3_000)))] for _ in range(2))
    of = matcher(target)
    known = set(grams(of.vocabulary))
    found = reference.Counter(reference.longest_gram(raw[0].encode(), known, 8))
    assert counted(of, raw) == {name: found[name] for name in known}


@given(some_texts, texts, st.data())
def test_batch_boundaries_do_not_matter_to_counts(target, raw, data) -> None:
    cut = data.draw(st.integers(0, len(raw)))
    of = matcher(target)
    assert counted(of, raw[:cut], raw[cut:]) == counted(of, raw[::-1])


# ---- scores


@given(some_texts, some_texts, texts, orders, mus)
@example(["a"], ["b"], ["a", "b", "é", ""], [1, 8], 1.0)
@settings(max_examples=300)
def test_scores_equal_the_definition(target, raw, documents, between, mu) -> None:
    low, high = between
    model = ByteGrams(min_order=low, max_order=high, mu=mu).fit(target=target, raw=raw)
    scores = model.scores(pa.array(documents, pa.string()))
    assert scores.shape == (len(documents), 1)
    for text, score in zip(encoded(documents), scores[:, 0], strict=True):
        if not text:
            assert math.isnan(score)
            continue
        how = {"min_order": low, "max_order": high, "mu": mu}
        expected = reference.byte_log_ratio(text, encoded(target), encoded(raw), **how)
        scale = 640 * (abs(math.log(mu / (1 + mu))) + 10)  # of the terms, which may cancel each other
        assert score == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)


def test_the_target_scores_higher_than_raw() -> None:
    model = ByteGrams(min_tokens=0).fit(target=corpus(20, 1, "a"), raw=corpus(80))
    wanted, others = model.score(corpus(10, 2, "a")), model.score(corpus(10, 2, "bcd"))
    assert wanted.min() > 0 > others.max()


def test_documents_with_too_few_tokens_have_no_score() -> None:
    model = ByteGrams(min_tokens=3).fit(target=["a b c"], raw=["d e f"])
    assert np.isnan(model.score(["a b", "a b c", "", "a, b"])).tolist() == [True, False, True, False]


def test_fits_do_not_depend_on_order_batches_containers_or_workers() -> None:
    target, raw = corpus(30, 1, "ab"), corpus(2_500)
    model = ByteGrams().fit(target=target, raw=raw)
    chunked = pa.chunked_array([raw[1_000:], raw[:1_000]])
    with_nulls = [pa.array([None, *target])[1:], pa.array([None, ""])]
    others = [
        ByteGrams().fit(target=target[::-1], raw=raw[::-1]),
        ByteGrams().fit(target=iter(target), raw=iter(raw)),
        ByteGrams().fit(target=[pa.array(target)], raw=[chunked]),
        ByteGrams().fit(target=with_nulls, raw=[pa.array(raw)[:70], *raw[70:]]),
        ByteGrams().fit(target=target, raw=raw, workers=3),
        ByteGrams().fit(target=target, raw=chunked.chunks, workers=2),
    ]
    for other in others:
        assert np.array_equal(other.vocabularies_[0].counts, model.vocabularies_[0].counts)
        assert np.array_equal(other.raw_counts_[0], model.raw_counts_[0])
        assert np.array_equal(other.score(raw), model.score(raw), equal_nan=True)


def test_a_score_does_not_depend_on_neighbours_or_threads() -> None:
    model = ByteGrams(min_tokens=0).fit(target=corpus(30, 1, "ab"), raw=corpus(100))
    documents = [*corpus(200, 5), "", "x", "\n\n"]
    scores = model.score(documents)
    assert np.array_equal(model.score(documents[::-1]), scores[::-1], equal_nan=True)
    assert np.array_equal(model.score(pa.array([None, *documents], pa.string_view())[1:]), scores, equal_nan=True)
    with ThreadPoolExecutor(4) as pool:
        each = [score[0] for score in pool.map(lambda text: model.score([text]), documents)]
    assert np.array_equal(each, scores, equal_nan=True)


def test_a_failing_source_of_raw_fails_the_fit() -> None:
    def broken():
        yield "a"
        raise InputError("raw/07.jsonl: is damaged")

    with pytest.raises(InputError, match="is damaged"):
        ByteGrams().fit(target=["a"], raw=broken(), workers=2)


# ---- several targets


def test_targets_are_pooled_or_separate() -> None:
    a, b, raw = corpus(10, 1, "a"), corpus(20, 2, "b"), corpus(60)
    pooled = ByteGrams().fit(target={"a": a, "b": b}, raw=raw)
    assert (pooled.target_names_, pooled.target_proportions_) == (["a+b"], [1.0])
    assert np.array_equal(pooled.score(raw), ByteGrams().fit(target=a + b, raw=raw).score(raw), equal_nan=True)

    separate = ByteGrams(separate_targets=True).fit(target={"a": a, "b": iter(b)}, raw=iter(raw))
    assert separate.target_names_ == ["a", "b"]
    sizes = [sum(len(text.encode()) for text in of) for of in (a, b)]
    assert separate.target_bytes_ == sizes
    assert separate.target_proportions_ == pytest.approx([size / sum(sizes) for size in sizes])
    alone = np.stack([ByteGrams().fit(target=of, raw=raw).score(raw) for of in (a, b)], axis=1)
    assert np.array_equal(separate.score(raw), alone, equal_nan=True)


def test_proportions_are_as_given() -> None:
    model = ByteGrams(separate_targets=True, target_proportions=[3, 1])
    assert model.fit(target={"a": ["x"], "b": ["yyyy"]}, raw=["z"]).target_proportions_ == [0.75, 0.25]
    with pytest.raises(UsageError, match="2 target_proportions for 1 targets"):
        model.fit(target=["x"], raw=["z"])


# ---- files


@pytest.mark.parametrize("more", [{}, {"separate_targets": True, "min_order": 2, "max_order": 5, "mu": 0.3}])
def test_what_is_saved_scores_the_same(tmp_path, more) -> None:
    documents = [*corpus(50), "", "é"]
    model = ByteGrams(min_tokens=0, **more).fit(target={"a": corpus(9, 1), "b": corpus(9, 2)}, raw=corpus(60))
    model.save(tmp_path)
    loaded = ByteGrams.load(tmp_path)
    assert np.array_equal(loaded.score(documents), model.score(documents), equal_nan=True)
    assert loaded.settings() == model.settings()
    assert loaded.target_bytes_ == model.target_bytes_
    assert loaded.raw_bytes_ == model.raw_bytes_ == sum(map(len, encoded(corpus(60))))
    assert (loaded.target_names_, loaded.target_proportions_) == (model.target_names_, model.target_proportions_)
    again = {name: array.tolist() for name, array in loaded.arrays().items()}
    assert again == {name: array.tolist() for name, array in model.arrays().items()}


def test_files_that_are_no_scorer_are_refused(tmp_path) -> None:
    ByteGrams().fit(target=["a b"], raw=["c"]).save(tmp_path)
    with np.load(tmp_path / "arrays.npz") as held:
        arrays = dict(held)
    np.savez(tmp_path / "arrays.npz", **arrays | {"weights_0": arrays["weights_0"][1:]})
    with pytest.raises(InputError, match="array 'weights' is float64"):
        ByteGrams.load(tmp_path)
    (tmp_path / "arrays.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="not a saved scorer"):
        ByteGrams.load(tmp_path)


# ---- errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_order": 0}, "min_order=0: must be a whole number, 1 to 8"),
        ({"max_order": 9}, "max_order=9: must be a whole number, 1 to 8"),
        ({"min_order": 5, "max_order": 4}, "no n-grams are left"),
        ({"min_order": "3"}, "must be a whole number"),
        ({"max_order": True}, "must be a whole number"),
        ({"max_order": 4.5}, "must be a whole number"),
        ({"max_order": math.inf}, "must be a whole number"),
        ({"mu": 0}, "mu=0.0: must be above 0"),
        ({"mu": math.nan}, "must be above 0"),
        ({"mu": math.inf}, "must be above 0"),
        ({"mu": "1"}, "must be a number"),
        ({"mu": True}, "must be a number"),
        ({"min_tokens": -1}, "must be a whole number, 0 or more"),
        ({"min_tokens": "20"}, "must be a whole number"),
        ({"sample_bytes": 0}, "must be a whole number, 1 or more"),
        ({"sample_bytes": True}, "must be a whole number"),
        ({"separate_targets": "yes"}, "must be true or false"),
        ({"target_proportions": [1.0]}, "needs separate_targets=True"),
        ({"target_proportions": [1, -1], "separate_targets": True}, "must be non-negative"),
        ({"target_proportions": 0, "separate_targets": True}, "not all 0"),
        ({"target_proportions": ["1"], "separate_targets": True}, "must be a number"),
        ({"max_oder": 8}, "did you mean 'max_order'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        ByteGrams.from_settings(settings)


def test_settings_give_the_same_scorer_again() -> None:
    model = ByteGrams(min_order=2, mu=0.5, separate_targets=True, target_proportions=[1, 2], sample_bytes=10)
    assert ByteGrams.from_settings(model.settings()).settings() == model.settings()
    assert (model.raw_sample.unit, model.raw_sample.quota) == ("bytes", 10)


@pytest.mark.parametrize(
    ("target", "raw", "message"),
    [
        ({"t": ["", ""], "u": ["a"]}, ["a"], "target 't' has no text"),
        ([], ["a"], "target 'target' has no text"),
        ({}, ["a"], "no target is given"),
        (["a"], ["", ""], "the raw corpus has no text to fit on"),
        (["a"], [], "the raw corpus has no text to fit on"),
    ],
)
def test_nothing_to_fit_on_is_refused(target, raw, message) -> None:
    with pytest.raises(InputError, match=message):
        ByteGrams().fit(target=target, raw=raw)
