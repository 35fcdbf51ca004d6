"""N-gram features: what they accept, what names their work, and SentencePiece tokens."""

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.features import NgramFeatures
from curate.features.ngrams import file_sha256, string_array

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=5)


def per_document(stream):
    return [part.tolist() for part in np.split(stream.buckets, stream.ends[:-1])] if len(stream.ends) else []


@given(texts, st.sampled_from(["fast", "sha256"]), st.integers(1, 4))
@settings(max_examples=50)
def test_python_strings_and_arrow_strings_give_the_same_buckets(documents, hash, n) -> None:
    features = NgramFeatures(n=n, hash=hash, hash_seed=3)
    expected = [reference.buckets(t, n=n, hash=hash, seed=3) for t in documents]
    assert per_document(features.stream(documents)) == expected
    assert per_document(features.stream(pa.array(documents, pa.string()))) == expected


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (2, [2, 0, 1, 0, 0, 0, 2, 1, 2, 2, 0, 1, 0, 0, 2, 2]),
        (3, [2, 0, 1, 0, 0, 1, 2, 2, 2, 2, 1, 1, 1, 0, 3, 3]),
    ],
)
def test_counts_of_the_worked_example(n, expected) -> None:
    text = "The cat sat. The cat ran!"
    stream = NgramFeatures(n=n, n_buckets=16, hash="sha256").stream([text])
    assert np.bincount(stream.buckets, minlength=16).tolist() == expected
    assert reference.counts(reference.buckets(text, n=n, n_buckets=16, hash="sha256"), 16) == expected


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 20])
def test_a_document_has_as_many_ngrams_as_fit_in_its_tokens(n, length) -> None:
    stream = NgramFeatures(n=n).stream(["x " * length])
    assert stream.n_tokens.tolist() == [length]
    assert stream.ends.tolist() == [sum(max(0, length - order + 1) for order in range(1, n + 1))]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hash": "fsat"}, "did you mean 'fast'"),
        ({"n": 0}, "n=0"),
        ({"n": 9}, "n=9"),
        ({"n_buckets": 1}, "n_buckets=1"),
        ({"n_buckets": (1 << 24) + 1}, "n_buckets=16,777,217"),
        ({"hash_seed": -1}, "hash_seed=-1"),
        ({"hash_seed": 1 << 64}, "hash_seed"),
        ({"hash": "sha256", "tokenizer": "model"}, "hash='fast'"),
    ],
)
def test_features_that_make_no_sense_are_refused_with_the_way_out(settings, message) -> None:
    with pytest.raises(UsageError, match="(?i)" + message.replace("(", r"\(")):
        NgramFeatures(**settings)


@pytest.mark.parametrize(("n_buckets", "n_bytes"), [(2, 2), (1 << 16, 2), ((1 << 16) + 1, 4), (1 << 24, 4)])
def test_bucket_bytes_are_those_of_the_stream(n_buckets, n_bytes) -> None:
    features = NgramFeatures(n_buckets=n_buckets)
    assert features.bucket_bytes == features.stream(["a"]).buckets.itemsize == n_bytes


@pytest.mark.parametrize("documents", [["fine", "half of a pair: \ud83d"], ["fine", 3], ["fine", b"\xff"]])
def test_what_is_no_text_is_an_input_error(documents) -> None:
    with pytest.raises(InputError, match="cannot be written as UTF-8"):
        string_array(documents)


def test_identity_tells_apart_what_gives_other_buckets() -> None:
    variants = [{}, {"n": 3}, {"n_buckets": 1000}, {"hash": "sha256"}, {"hash_seed": 1}]
    identities = [NgramFeatures(**v).identity() for v in variants]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])
    assert identities[0] == NgramFeatures().identity()


# ---- SentencePiece


CORPUS = [f"the number {i} is {'even' if i % 2 == 0 else 'odd'}, und das Maß ist {i * i} é." for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    import sentencepiece

    prefix = tmp_path_factory.mktemp("tokenizer") / "pieces"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_prefix=str(prefix), vocab_size=80, minloglevel=2, num_threads=1
    )
    return f"{prefix}.model"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_pieces_are_hashed_by_their_text(tokenizer, n) -> None:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=tokenizer)
    documents = [*CORPUS[:5], "", "The number 1!", "漢字 unknown", "a\n\nb"]
    stream = NgramFeatures(n=n, tokenizer=tokenizer, hash_seed=5).stream(documents)
    pieces = [[model.id_to_piece(i) for i in model.encode(t, out_type=int)] for t in documents]
    expected = [[reference.fast_bucket(gram, 10_000, 5) for gram in reference.ngrams(p, n)] for p in pieces]
    assert per_document(stream) == expected
    assert stream.n_tokens.tolist() == [len(p) for p in pieces]


def test_a_null_has_no_pieces(tokenizer) -> None:
    stream = NgramFeatures(tokenizer=tokenizer).stream(pa.array(["a", None, "a"]))
    first, second, third = per_document(stream)
    assert first == third != second == []


def test_identity_names_a_tokenizer_by_its_content(tokenizer, tmp_path) -> None:
    copy = tmp_path / "other name.model"
    with open(tokenizer, "rb") as stream:
        copy.write_bytes(stream.read())
    here, there = (NgramFeatures(tokenizer=str(path)).identity() for path in (tokenizer, copy))
    assert here == there != NgramFeatures().identity()
    assert here["tokenizer"] == file_sha256(str(copy))


def test_a_tokenizer_that_is_not_there_or_is_none_is_an_input_error(tmp_path) -> None:
    missing, damaged = tmp_path / "missing.model", tmp_path / "damaged.model"
    damaged.write_bytes(b"no model")
    for path in (missing, damaged):
        with pytest.raises(InputError, match=path.name):
            NgramFeatures(tokenizer=str(path)).stream(["a"])
    with pytest.raises(InputError, match=missing.name):
        NgramFeatures(tokenizer=str(missing)).identity()
