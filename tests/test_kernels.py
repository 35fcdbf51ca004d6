"""Tokens, hashes, buckets and sums are those of the definitions, whatever the text and however it is cut."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.kernels.calls import (
    add_counts_by_level,
    bucket_stream,
    hash_strings,
    id_stream,
    moments,
    sha256_bucket,
    sums,
)
from curate.kernels.ngrams import SEGMENT_BYTES
from curate.kernels.streams import NgramStream, bucket_dtype
from curate.kernels.text import string_buffers

# Sigmas, what `lower` makes longer, marks that are no word, marks that are invisible to the rule of the final
# sigma (U+0345 is also cased), separators that only `re` takes for white space, digits that are no decimals.
SPECIAL = [
    *"aZ9_ .,'\n\t\r\0\x1c\x1d\x1e\x1f\x7f\x85\xa0\xadΣσςéß·½²ªºǅ漢ی😀𐐀𝔘",
    *"\u0130\u0301\u0307\u0345\u200d\u2028\u3000\ufe0f\ufeff\uffff\U0001d7d8\U000e0001\U0010ffff",
]
characters = st.one_of(st.sampled_from(SPECIAL), st.characters(exclude_categories=["Cs"]))
texts = st.text(characters, max_size=200)
orders = st.integers(1, 8)
bucket_numbers = st.one_of(st.sampled_from([2, 1000, 10_000, 65_536, 65_537, 1 << 24]), st.integers(2, 1 << 24))
seeds = st.integers(0, 2**64 - 1)


def stream_of(documents, *, n=2, n_buckets=10_000, **settings):
    return bucket_stream(*string_buffers(pa.array(documents, pa.large_string())), n=n, n_buckets=n_buckets, **settings)


def per_document(stream):
    return [part.tolist() for part in np.split(stream.buckets, stream.ends[:-1])] if len(stream.ends) else []


def assert_same_tokens(text: str) -> None:
    """By 24 bits of the hash of every token, in order."""
    found = stream_of([text], n=1, n_buckets=1 << 24)
    expected = reference.tokens(text)
    assert found.n_tokens.tolist() == [len(expected)]
    hashes = hash_strings(*string_buffers(pa.array(expected, pa.large_string())), 0)
    assert np.array_equal(found.buckets, hashes >> np.uint64(40))


# ---- hashes


@given(st.lists(st.binary(max_size=40), max_size=8), seeds)
@example([b"12345678", b"123456789", b"1234567", b"", b"1234567890123456"], 2**64 - 1)
@example([b"a long string" * 1000, *[b""] * 20], 7)
def test_hashes_of_strings_equal_the_definition(strings, seed) -> None:
    data = np.frombuffer(b"".join(strings) or b"\0", np.uint8)
    offsets = np.cumsum([0, *map(len, strings)])
    assert hash_strings(data, offsets, seed).tolist() == [reference.hash_bytes(s, seed) for s in strings]


@pytest.mark.parametrize(
    ("gram", "of_10", "of_1000", "of_10000"),
    [
        ("the", 8, 288, 8288),
        ("cat", 6, 366, 2366),
        ("the cat", 3, 143, 143),
        ("cat sat", 4, 294, 8294),
        ("é", 8, 588, 588),
        ("naïve café", 2, 602, 3602),
        ("the cat sat", 7, 567, 3567),
    ],
)
def test_sha256_buckets_are_those_of_the_reference_package(gram, of_10, of_1000, of_10000) -> None:
    order = gram.count(" ") + 1
    for n_buckets, expected in ((10, of_10), (1000, of_1000), (10_000, of_10000)):
        assert stream_of([gram], n=order, n_buckets=n_buckets, sha256=True).buckets[-1] == expected
        assert sha256_bucket(gram, n_buckets) == reference.sha256_bucket(gram.split(), n_buckets) == expected


@given(st.integers(0, 300), bucket_numbers)
@example(55, 10_000)
@example(56, 10_000)
@example(63, 10_000)
@example(64, 10_000)
@example(119, 10_000)
@example(120, 10_000)
def test_sha256_pads_tokens_of_any_length(length, n_buckets) -> None:
    token = "x" * length
    assert per_document(stream_of([token], n_buckets=n_buckets, sha256=True)) == [
        reference.buckets(token, n_buckets=n_buckets, hash="sha256")
    ]


# ---- tokens


def test_tokens_of_the_worked_example() -> None:
    assert reference.tokens("The cat's  hat, 3.14!") == ["the", "cat", "'", "s", "hat", ",", "3", ".", "14", "!"]
    assert_same_tokens("The cat's  hat, 3.14!")


ENCODABLE = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))


def test_every_code_point_in_one_text_has_the_class_and_lower_case_of_python() -> None:
    assert_same_tokens(ENCODABLE)


@pytest.mark.parametrize("context", ["a{}", "{}Σ", "a{}Σ", "aΣ{}", "aΣ{}b", "{}.", "é{}\u0301"])
def test_every_code_point_has_the_effect_on_its_neighbours_that_it_has_in_python(context) -> None:
    before, after = context.split("{}")
    assert_same_tokens(before + f"{after}\n{before}".join(ENCODABLE) + after)


@given(texts, bucket_numbers)
@example("ΑΣ", 1 << 24)
@example("ΑΣ. ΑΣΑ ΣΑ Σ", 1 << 24)
@example("Α\u0345Σ\u0345 Α'Σ'Α Α.Σ.", 1 << 24)
@example("\u0130\u0130\u0130STANBUL", 1 << 24)
@example("a\x1cb\x1db\x1ec\x1fd\x85e\xa0f\0g", 1 << 24)
@example("a². h₀ ½ e\u0301 हिन्दी", 1 << 24)
def test_buckets_equal_the_definition(text, n_buckets) -> None:
    assert per_document(stream_of([text], n_buckets=n_buckets)) == [reference.buckets(text, n_buckets=n_buckets)]


@given(st.lists(texts, max_size=4), orders, bucket_numbers, seeds)
def test_buckets_of_any_order_number_and_seed_equal_the_definition(documents, n, n_buckets, seed) -> None:
    found = stream_of(documents, n=n, n_buckets=n_buckets, seed=seed)
    assert per_document(found) == [reference.buckets(t, n=n, n_buckets=n_buckets, seed=seed) for t in documents]
    assert found.n_tokens.tolist() == [len(reference.tokens(t)) for t in documents]


@given(st.lists(texts, max_size=4), orders, bucket_numbers)
def test_sha256_buckets_equal_the_definition(documents, n, n_buckets) -> None:
    found = stream_of(documents, n=n, n_buckets=n_buckets, sha256=True)
    expected = [reference.buckets(t, n=n, n_buckets=n_buckets, hash="sha256") for t in documents]
    assert per_document(found) == expected
    assert found.n_tokens.tolist() == [len(reference.tokens(t)) for t in documents]


@pytest.mark.parametrize(("n_buckets", "dtype"), [(2, "u2"), (65_536, "u2"), (65_537, "u4"), (1 << 24, "u4")])
def test_buckets_take_two_bytes_when_they_fit(n_buckets, dtype) -> None:
    assert bucket_dtype(n_buckets) == stream_of(["a b"], n_buckets=n_buckets).buckets.dtype == np.dtype(dtype)


# ---- places in the buffer


@given(st.sampled_from(["a", "é", " ", ".", "漢", "A", "Σ", "a."]), st.integers(55, 70), texts)
def test_steps_of_64_bytes_do_not_show(filler, length, text) -> None:
    padded = filler * (length // len(filler.encode())) + text
    assert per_document(stream_of([padded])) == [reference.buckets(padded)]


@pytest.mark.parametrize("n_bytes", [1, 7, 8, 9, 62, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("unit", ["a", "A.", "a ", "é", "\u0130", "Σ", "😀"])
def test_what_follows_a_text_in_the_buffer_does_not_matter(n_bytes, unit) -> None:
    text = (unit * n_bytes).encode()[:n_bytes].decode(errors="ignore")
    size = len(text.encode())
    expected = reference.buckets(text)
    for rest in (b"", b"z", b"z" * 200, b" Z" * 50, "Σ".encode() * 50, b"\xff" * 100):
        data = np.frombuffer(text.encode() + rest, np.uint8)
        assert bucket_stream(data, np.array([0, size]), n=2, n_buckets=10_000).buckets.tolist() == expected


@given(st.integers(-4, 4), st.sampled_from(["a", "b c", "é", "a.", "漢字", "'"]), texts, st.sampled_from([1, 2, 3]))
@settings(max_examples=25)
def test_segments_of_a_long_text_do_not_show(shift, filler, text, n) -> None:
    size = SEGMENT_BYTES + shift
    long = filler * (size // len(filler.encode()))
    document = long + text + "ΑΣ" + long + "Σ'Α " + text + long
    assert per_document(stream_of([document], n=n)) == [reference.buckets(document, n=n)]


@pytest.mark.parametrize("unit", ["a", "A.", "é", "\u0130", "Σ", "a b ", "\u2003", "\x1c", "a\x1f"])
@pytest.mark.parametrize("n_segments", [1, 2, 3.5])
def test_long_texts_with_and_without_white_space_equal_the_definition(unit, n_segments) -> None:
    text = unit * (int(n_segments * SEGMENT_BYTES) // len(unit.encode()) + 1)
    assert_same_tokens(text)
    assert_same_tokens(text + " end")
    if n_segments == 2:
        hashed = {"n": 3, "n_buckets": 10_000}
        neighbours = stream_of(["a b", text, "c d"], **hashed)
        assert per_document(neighbours)[1:] == per_document(stream_of([text, "c d"], **hashed))


# ---- batches and Arrow


@given(st.lists(texts, min_size=1, max_size=8), st.data(), st.booleans(), st.sampled_from([1, 2, 3]))
def test_batch_boundaries_do_not_matter(documents, data, sha256, n) -> None:
    cut = sorted(data.draw(st.lists(st.integers(0, len(documents)), max_size=3)))
    whole = per_document(stream_of(documents, n=n, sha256=sha256))
    parts = [documents[a:b] for a, b in zip([0, *cut], [*cut, len(documents)], strict=True)]
    assert whole == [buckets for part in parts for buckets in per_document(stream_of(part, n=n, sha256=sha256))]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@given(st.lists(st.one_of(st.none(), texts), max_size=8), st.data())
def test_arrow_slices_and_nulls_are_read_in_place(kind, documents, data) -> None:
    start = data.draw(st.integers(0, len(documents)))
    stop = data.draw(st.integers(start, len(documents)))
    array = pa.array(documents, kind)
    expected = [reference.buckets(text or "") for text in documents]
    for strings, want in (
        (array, expected),
        (array[start:stop], expected[start:stop]),
        (pa.chunked_array([array[:start], array[start:]], kind), expected),
        (pa.chunked_array([], kind), []),
    ):
        assert per_document(bucket_stream(*string_buffers(strings), n=2, n_buckets=10_000)) == want


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_a_null_is_an_empty_text(kind) -> None:
    data, offsets = string_buffers(pa.array(["a", None, "", "é"], kind))
    assert np.diff(offsets).tolist() == [1, 0, 0, 2]
    assert bytes(data[offsets[0] : offsets[-1]]).decode() == "aé"


@given(st.lists(texts, max_size=4))
def test_buckets_in_an_array_of_ones_own_outlive_later_calls(documents) -> None:
    room = np.empty(2 * sum(len(t.encode()) for t in documents) + 1, np.uint16)
    kept = stream_of(documents, out=room)
    stream_of(["something else entirely"] * 20)
    assert per_document(kept) == [reference.buckets(t) for t in documents]


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=5), orders, bucket_numbers)
def test_buckets_of_token_ids_equal_the_definition(documents, n, n_buckets) -> None:
    hashes = [reference.hash_bytes(f"▁{i}".encode()) for i in range(10)]
    offsets = np.cumsum([0, *map(len, documents)])
    ids = np.array([i for document in documents for i in document], np.int32)
    found = id_stream(ids, offsets, np.array(hashes, np.uint64), n=n, n_buckets=n_buckets)
    expected = [
        [reference.hash_gram([hashes[i] for i in gram]) * n_buckets >> 64 for gram in reference.ngrams(document, n)]
        for document in documents
    ]
    assert per_document(found) == expected
    assert found.n_tokens.tolist() == [len(d) for d in documents]


# ---- what is added up


documents_of_buckets = st.lists(st.lists(st.integers(0, 6), max_size=20), max_size=6)


def as_stream(documents):
    flat = np.array([b for document in documents for b in document], np.uint16)
    ends = np.cumsum(list(map(len, documents)), dtype=np.int64)
    return NgramStream(flat, ends, np.array(list(map(len, documents)), np.int64))


@given(documents_of_buckets, st.lists(st.floats(-1e12, 1e12), min_size=7, max_size=7))
def test_sums_equal_the_definition_to_the_last_bit(documents, table) -> None:
    stream = as_stream(documents)
    found = sums(stream.buckets, stream.ends, np.array(table))
    assert found.tolist() == [reference.lane_sum(table[b] for b in document) for document in documents]


@given(documents_of_buckets)
def test_moments_equal_the_definition(documents) -> None:
    found = moments(as_stream(documents), 7)
    per = [reference.counts(document, 7) for document in documents]
    for b in range(7):
        assert found.counts[b] == sum(c[b] for c in per)
        assert found.squares[b] == sum(c[b] ** 2 for c in per)
        assert found.products[b] == sum(c[b] * sum(c) for c in per)


@given(documents_of_buckets, st.data())
def test_counts_by_level_equal_the_definition(documents, data) -> None:
    levels = data.draw(st.lists(st.integers(0, 3), min_size=len(documents), max_size=len(documents)))
    lowest = data.draw(st.integers(0, 3))
    found = np.ones((4, 7), np.int64)  # what is there already stays
    add_counts_by_level(as_stream(documents), np.array(levels, np.int64), lowest, found)
    for level in range(4):
        there = [b for d, at in zip(documents, levels, strict=True) for b in d if at == level >= lowest]
        assert found[level].tolist() == [1 + c for c in reference.counts(there, 7)]


# ---- uniformity


def chi_square_in_deviations(buckets: np.ndarray, n_buckets: int) -> float:
    """How many standard deviations the chi-square of a histogram is above that of chance."""
    expected = len(buckets) / n_buckets
    chi_square = float(((np.bincount(buckets, minlength=n_buckets) - expected) ** 2).sum() / expected)
    return (chi_square - (n_buckets - 1)) / (2 * (n_buckets - 1)) ** 0.5


COUNTED = {
    "numbers": [f"{i}" for i in range(50_000)],
    "ordinals": [f"{i}th" for i in range(50_000)],
    "long words": [f"interchangeabl{i:x}ness" for i in range(50_000)],
    "letters": ["".join(chr(97 + i // 26**j % 26) for j in range(4)) for i in range(50_000)],
    "ideographs": [chr(0x4E00 + i % 5000) + chr(0x4E00 + i // 5000) for i in range(50_000)],
}


@pytest.fixture(scope="module")
def real_words(samples) -> list[str]:
    shards = [pq.read_table(path)["text"].to_pylist() for path in sorted(samples.glob("raw/*.parquet"))]
    return sorted({token for shard in shards for text in shard for token in reference.tokens(text)})


@pytest.mark.parametrize("n_buckets", [64, 1000, 1024, 10_000, 65_536])
@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_words_fill_the_buckets_as_chance_would(real_words, n_buckets, seed) -> None:
    assert len(real_words) > 20_000
    found = stream_of(real_words, n=1, n_buckets=n_buckets, seed=seed)
    assert len(found.buckets) == len(real_words)
    assert abs(chi_square_in_deviations(found.buckets, n_buckets)) < 6


@pytest.mark.parametrize("words", COUNTED.values(), ids=COUNTED)
@pytest.mark.parametrize("n_buckets", [1000, 1024])
@pytest.mark.parametrize("seed", [0, 1])
def test_words_that_count_up_fill_the_buckets_no_less_evenly_than_chance(words, n_buckets, seed) -> None:
    assert len(set(words)) == len(words)
    found = stream_of(words, n=1, n_buckets=n_buckets, seed=seed)
    assert chi_square_in_deviations(found.buckets, n_buckets) < 6


@pytest.mark.parametrize("words", COUNTED.values(), ids=COUNTED)
def test_distinct_bigrams_fill_the_buckets_evenly(words) -> None:
    pairs = [f"{a} {b}" for a in words[:224] for b in words[-224:]]
    bigrams = stream_of(pairs, n=2, n_buckets=1000).buckets[2::3]
    assert len(bigrams) == len(pairs)
    assert abs(chi_square_in_deviations(bigrams, 1000)) < 6


def test_bigrams_have_a_direction_and_repeated_words_do_not_cancel() -> None:
    pairs = [f"{a} {b}" for a in "abcdefgh" for b in "abcdefgh"]
    found = stream_of(pairs, n=2, n_buckets=1 << 24).buckets[2::3]
    assert len(set(found.tolist())) == len(pairs)
