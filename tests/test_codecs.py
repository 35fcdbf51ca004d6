"""Codecs: sizes are those of the libraries to the byte, whichever way they are found."""

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import UsageError
from curate.kernels import deflating
from curate.scorers.codecs import CODECS, Codec, Texts

X = b"theorem add_comm (a b : Nat) : a + b = b + a := by ring"
Y = b"theorem mul_comm (a b : Nat) : a * b = b * a := by ring"
Z = b"Across all his bands and projects, Townsend has released twenty studio albums."

words = st.sampled_from([b"the ", b"theorem ", b"a", b"b", b" + ", b"\n", b"\x00", b"\xff\xfe", b"of the "])
texts = st.one_of(
    st.lists(words, max_size=400).map(b"".join),
    st.binary(max_size=300),
    st.tuples(st.binary(min_size=1, max_size=4), st.integers(0, 700)).map(lambda of: of[0] * of[1]),
)


def codec(name: str, level: int | None = None) -> Codec:
    module = {"isal": "isal", "libdeflate": "deflate", "lz4": "lz4"}.get(name)
    if module:
        pytest.importorskip(module)
    return Codec(name, level)


def raw_size(text: bytes, level: int) -> int:
    return len(zlib.compress(text, level, wbits=-15))


def array(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8)


def packed(*of: bytes) -> Texts:
    return Texts(array(b"".join(of) + b"."), np.cumsum([0, *map(len, of)]))


def zlib_is_the_usual_one() -> bool:
    return deflating.agrees_with_zlib(6)


# ---- sizes


def test_the_worked_example() -> None:
    if not zlib_is_the_usual_one():
        pytest.skip("another zlib: sizes may move by a byte or two")
    size = codec("gzip", 6).size
    assert [size(t) for t in (X, Y, Z, b"")] == [68, 68, 91, 20]
    assert codec("gzip", 6).joint_sizes(array(X), packed(X, Y, Z)).tolist() == [71, 82, 128]


@pytest.mark.parametrize("name", CODECS)
@given(prefix=texts, others=st.lists(texts, min_size=1, max_size=4), data=st.data())
@settings(max_examples=25)
def test_joint_sizes_are_those_of_both_texts_compressed_together(name, prefix, others, data) -> None:
    low, high = CODECS[name].levels
    of = codec(name, data.draw(st.integers(low, min(high, 9))))
    expected = [of.size(prefix + other) for other in others]
    assert of.joint_sizes(array(prefix), packed(*others)).tolist() == expected
    assert [of.primed(prefix)(other) for other in others] == expected


@given(texts, texts, st.integers(1, 9))
def test_gzip_sizes_are_those_of_the_standard_library(prefix, text, level) -> None:
    of = Codec("gzip", level)
    assert of.size(text) == len(gzip.compress(text, level))
    assert of.primed(prefix)(text) == len(gzip.compress(prefix + text, level))
    assert of.joint_sizes(array(prefix), packed(text)).tolist() == [len(gzip.compress(prefix + text, level))]


def test_wanted_texts_come_in_the_order_asked_for() -> None:
    for name in ("gzip", "zstd"):
        all_of_them = Codec(name).joint_sizes(array(X), packed(X, Y, Z))
        which = np.array([2, 0, 0])
        assert Codec(name).joint_sizes(array(X), packed(X, Y, Z), which).tolist() == all_of_them[which].tolist()


# ---- the kernel


needs_usual_zlib = pytest.mark.usefixtures("usual_zlib")


@pytest.fixture(scope="module")
def usual_zlib() -> None:
    if not zlib_is_the_usual_one():
        pytest.skip("a zlib that compresses otherwise")


@needs_usual_zlib
@given(texts, st.lists(texts, min_size=1, max_size=5), st.integers(1, 9))
@example(b"", [b"", b"a", b"ab", b"abc"], 6)
@example(b"a" * 300, [b"a" * 300, b"", b"a"], 6)
@example(b"abcabc", [b"abcabcabc"] * 2, 1)
@settings(max_examples=300)
def test_deflate_sizes_equal_zlibs(prefix, others, level) -> None:
    args = array(prefix), *packed(*others), np.arange(len(others)), level
    expected = [raw_size(prefix + other, level) for other in others]
    assert deflating.joint_sizes(*args).tolist() == expected
    assert deflating.joint_sizes(*args, deflating.own_matches(*packed(*others), level)).tolist() == expected


@needs_usual_zlib
@pytest.mark.slow
@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize(
    "length", [16_383, 30_000, 32_505, 32_506, 32_507, 32_768, 65_013, 65_274, 65_275, 65_536, 150_000]
)
def test_deflate_sizes_equal_zlibs_where_windows_and_blocks_end(level, length) -> None:
    rng = np.random.default_rng(length)
    noise = rng.integers(0, 256, length, np.uint8).tobytes()
    wordy = b" ".join([b"%d" % i for i in rng.zipf(1.3, length) % 5000])[:length]
    repeating = (wordy[:700] * (length // 700 + 1))[:length]
    for prefix in (noise, wordy, repeating):
        others = [b"", b"x", prefix[:300], wordy[:5000], prefix[-40_000:]]
        args = array(prefix), *packed(*others), np.arange(len(others)), level
        expected = [raw_size(prefix + other, level) for other in others]
        assert deflating.joint_sizes(*args).tolist() == expected
        own = deflating.own_matches(*packed(*others), level)
        assert deflating.joint_sizes(*args, own).tolist() == expected
        swapped = [deflating.joint_sizes(array(o), *packed(prefix, b"x"), np.arange(2), level)[0] for o in others]
        assert swapped == [raw_size(other + prefix, level) for other in others]


@needs_usual_zlib
@given(texts, st.lists(texts, min_size=1, max_size=4), st.integers(1, 9))
@settings(max_examples=200)
def test_deflate_sizes_with_a_dictionary_equal_zlibs(dictionary, others, level) -> None:
    data, offsets = packed(*others)
    found = deflating.dictionary_sizes(array(dictionary), data, offsets[:-1], np.diff(offsets), level)
    expected = []
    for other in others:
        stream = zlib.compressobj(level, zlib.DEFLATED, -15, **({"zdict": dictionary} if dictionary else {}))
        expected.append(len(stream.compress(other)) + len(stream.flush()))
    assert found.tolist() == expected


@needs_usual_zlib
def test_of_a_long_dictionary_the_last_32_kib_count() -> None:
    text = X * 900
    data, offsets = packed(Z, X)
    whole = deflating.dictionary_sizes(array(text), data, offsets[:-1], np.diff(offsets), 6)
    last = deflating.dictionary_sizes(array(text[-32768:]), data, offsets[:-1], np.diff(offsets), 6)
    assert whole.tolist() == last.tolist()


def test_another_zlib_is_asked_itself(monkeypatch) -> None:
    monkeypatch.setattr(deflating, "agrees_with_zlib", lambda level: False)
    monkeypatch.setattr(deflating, "joint_sizes", None)
    assert Codec("gzip").joint_sizes(array(X), packed(Y)).tolist() == [len(gzip.compress(X + Y, 6))]


# ---- names and levels


@pytest.mark.parametrize("name", ["gzip", "deflate", "libdeflate"])
def test_level_0_is_refused_with_the_reason(name) -> None:
    with pytest.raises(UsageError, match=r"level 0 of \w+ compresses nothing.*23 / \(max.*levels are 1 to"):
        Codec(name, 0)


def test_the_reason_is_true() -> None:
    def size(text: bytes) -> int:
        return len(gzip.compress(text, 0))

    for x, t in ((X, Y), (X, Z), (b"", Z)):
        similarity = 1 - (size(x + t) - min(size(x), size(t))) / max(size(x), size(t))
        assert similarity == pytest.approx(23 / (max(len(x), len(t)) + 23), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("gzipp", None, "did you mean 'gzip'"),
        ("gzip", 10, "level 10 of gzip: must be 1 to 9"),
        ("gzip", True, "whole number"),
        ("gzip", 1.5, "whole number"),
        ("zstd", 0, "must be 1 to 22"),
    ],
)
def test_names_and_levels_that_are_none_are_refused(name, level, message) -> None:
    with pytest.raises(UsageError, match=message):
        Codec(name, level)


def test_identity_names_codec_level_and_library() -> None:
    assert Codec("gzip").identity() == {"codec": "gzip", "level": 6, "library": f"zlib {zlib.ZLIB_RUNTIME_VERSION}"}
    assert Codec("gzip", 1).identity() != Codec("gzip").identity()
