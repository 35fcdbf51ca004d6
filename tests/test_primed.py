"""Primed compression: sizes are the codec's, pieces add up, dictionaries depend on nothing but the texts."""

import json
import threading

import numpy as np
import pyarrow as pa
import pytest
import reference
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.scorers import primed
from curate.scorers.primed import Primed, compressor, dictionary, digested, pieces, saved_share, zlib_size

MATHS = [
    f"solve the equation {a} x + {b} = {a * b} for x; the angle of a triangle is {a}"
    for a in range(3, 30)
    for b in (2, 7)
]
NEWS = [
    f"the minister said on tuesday that talks number {i} would continue after the vote in parliament" for i in range(60)
]


def fitted(**settings) -> Primed:
    return Primed(**{"min_tokens": 0} | settings).fit(target=MATHS[:30], raw=[*NEWS, *MATHS[30:]])


def zstd_size(of: bytes, level: int):
    made = compressor(digested(of, level), level)
    return lambda text: len(made.compress(text)) - len(made.compress(b""))


# ---- the score


def test_shares_equal_the_formula() -> None:
    primed_, plain, by_raw = np.array([50.0, 100.0]), np.array([100.0, 100.0]), np.array([25.0, 400.0])
    assert saved_share(primed_, plain).tolist() == [0.5, 0.0]
    assert saved_share(primed_, plain, by_raw) == pytest.approx([0.0, 0.5])


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 20))
def test_pieces_are_those_of_the_definition(lengths, size) -> None:
    offsets = np.cumsum([3, *lengths])
    starts, sizes, of = pieces(offsets, size)
    for i, length in enumerate(lengths):
        expected = [len(p) for p in reference.pieces(bytes(length), size)]
        assert sizes[of == i].tolist() == expected
        assert starts[of == i].tolist() == (offsets[i] + np.cumsum([0, *expected[:-1]])).tolist()


@pytest.mark.parametrize("codec", ["zstd", "deflate"])
@pytest.mark.parametrize("against", ["nothing", "raw", "both"])
def test_scores_equal_the_definition(codec, against) -> None:
    model = fitted(codec=codec, against=against, piece_bytes=100)
    sizes = {
        name: (lambda text, of=of: zlib_size(of, text, 6) - 2) if codec == "deflate" else zstd_size(of, 3)
        for name, of in (("target", model.dictionary_), ("plain", b""), ("raw", model.raw_dictionary_))
    }
    args = {
        "nothing": (sizes["plain"], None),
        "raw": (sizes["raw"], None),
        "both": (sizes["plain"], sizes["raw"]),
    }[against]
    documents = [*MATHS[25:35], *NEWS[:3], "x", "漢字 " * 300, "the " * 1000]
    for text, score in zip(documents, model.score(documents), strict=True):
        expected = reference.saved_share(text.encode(), 100, sizes["target"], *args)
        assert score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("codec", ["zstd", "deflate"])
def test_documents_like_the_target_score_higher(codec) -> None:
    scores = fitted(codec=codec).score([*MATHS[40:], *NEWS[50:]])
    n = len(MATHS[40:])
    assert scores[:n].min() > scores[n:].max()


@pytest.mark.parametrize("codec", ["zstd", "deflate"])
def test_scores_do_not_depend_on_neighbours_batches_containers_or_threads(codec, monkeypatch) -> None:
    model = fitted(codec=codec, piece_bytes=50)
    documents = [*MATHS, "", *NEWS, "x" * 5000]
    scores = model.score(documents)
    assert np.isnan(scores[len(MATHS)])
    assert np.array_equal(model.score(documents[::-1]), scores[::-1], equal_nan=True)
    assert np.array_equal(model.score(pa.array(["other", *documents])[1:]), scores, equal_nan=True)
    monkeypatch.setattr(primed, "BATCH", 7)
    assert np.array_equal(model.score(documents), scores, equal_nan=True)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(model.score(documents))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(of, scores, equal_nan=True) for of in found)


def test_no_texts_have_no_scores() -> None:
    assert fitted().score([]).shape == (0,)
    assert np.isnan(fitted().score(pa.array([None, ""], pa.string()))).all()


# ---- dictionaries


NO_NEWLINES = st.binary(max_size=30).map(lambda text: text.replace(b"\n", b""))


@given(st.lists(NO_NEWLINES, max_size=20), st.integers(1, 200), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_a_dictionary_does_not_depend_on_the_order_of_texts(texts, room, rng) -> None:
    shuffled = rng.sample(texts, len(texts))
    assert dictionary(texts, room) == dictionary(shuffled, room)
    made, given = dictionary(texts, room)
    assert given == sum(map(len, texts))
    assert min(room, given) <= len(made) <= room
    if given + 2 * len(texts) <= room:
        assert sorted(filter(None, made.split(b"\n\n"))) == sorted(filter(None, texts))


def test_a_dictionary_of_a_long_stream_holds_little_of_it() -> None:
    texts = (b"%07d " % i * 1000 for i in range(2_000))
    assert len(dictionary(texts, 10_000)[0]) == 10_000


def test_a_text_in_any_place_of_a_large_dictionary_is_found() -> None:
    rng = np.random.default_rng(0)
    words = np.array([b"%d" % i for i in range(20_000)])
    text = b" ".join(rng.choice(words, 800_000))
    assert len(text) > 4_000_000
    made = compressor(digested(text, 3), 3)
    for place in (0, len(text) // 3, len(text) - 2_000):
        assert len(made.compress(text[place : place + 1_000])) < 100
    usual = zstandard.ZstdCompressionDict(text, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    usual.precompute_compress(level=3)
    assert (
        len(zstandard.ZstdCompressor(level=3, dict_data=usual).compress(text[:1_000])) > 300
    )  # why tables are widened


def test_the_raw_dictionary_is_as_large_as_the_targets_and_no_document_is_all_of_it() -> None:
    model = Primed().fit(target=MATHS, raw=[*(n * 50 for n in NEWS), "z" * 100_000])
    assert len(model.raw_dictionary_) == len(model.dictionary_)
    assert model.raw_dictionary_.count(b"z") <= primed.RAW_DOCUMENT


def test_deflate_takes_what_it_can_see() -> None:
    model = Primed(codec="deflate", against="nothing").fit(target=[m * 20 for m in MATHS])
    assert len(model.dictionary_) == 32768


# ---- settings and files


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "zst"}, "did you mean 'zstd'"),
        ({"against": "noting"}, "did you mean 'nothing'"),
        ({"level": 0}, "must be a whole number, 1 to 19"),
        ({"codec": "deflate", "level": 10}, "must be a whole number, 1 to 9"),
        ({"piece_bytes": 0}, "must be a whole number, 1 to"),
        ({"peice_bytes": 5}, "did you mean 'piece_bytes'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        Primed.from_settings(settings)


def test_what_cannot_be_fitted_says_why() -> None:
    with pytest.raises(InputError, match="no raw was given; against='nothing' needs none"):
        Primed().fit(target=MATHS)
    with pytest.raises(InputError, match="target 't' has no text"):
        Primed().fit(target={"t": [""]}, raw=NEWS)
    with pytest.raises(InputError, match="raw corpus has no text"):
        Primed().fit(target=MATHS, raw=[""])


@pytest.mark.parametrize("codec", ["zstd", "deflate"])
def test_what_is_saved_scores_the_same(codec, tmp_path) -> None:
    model = fitted(codec=codec, piece_bytes=300)
    model.save(tmp_path)
    loaded = Primed.load(tmp_path)
    assert np.array_equal(loaded.score(MATHS), model.score(MATHS))
    assert loaded.identity() == model.identity() != Primed(codec=codec).identity()
    json.dumps(model.identity())
    with pytest.raises(InputError, match="not a saved scorer"):
        Primed.load(tmp_path / "nowhere")
