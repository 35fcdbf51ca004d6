"""Shingle sets and digests of texts are those of the definitions, whatever the texts and however they are cut."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import UsageError
from curate.features import shingles as shingling
from curate.features.digests import FORMS, content_digests
from curate.features.shingles import jaccard_of_pairs, shingle_sets

# White space of every kind, what has no width, controls, marks, scripts without spaces, letters that `lower` changes.
SPECIAL = [
    *"aB9_.,' \n\t\r\0\x0b\x1c\x1f\x7f\x85\xa0\xad\u1680\u2009\u2028\u202f\u205f\u3000",
    *"\u200b\u200c\u200d\u2060\ufeff\ufe0f\u0301\u093f漢字々〇ひカボｶกະཀကខ😀𠀀Σςİéß½\U0010ffff",
]
characters = st.one_of(st.sampled_from(SPECIAL), st.characters(exclude_categories=["Cs"]))
texts = st.lists(st.one_of(st.text(characters, max_size=150), st.text("ab 漢", max_size=150)), max_size=8)


def strings(documents):
    return pa.array(documents, pa.large_string())


def as_lists(sets):
    return [part.tolist() for part in np.split(sets.hashes, sets.offsets[1:-1])] if len(sets.offsets) > 1 else []


@settings(max_examples=60)
@given(texts, st.integers(1, 7), st.integers(0, 2**32 - 1))
@example(["a" * 64 + "漢" * 30, "a" * 63 + "漢 b", " " * 62 + "\u3000x", "x\u3000" * 40], 2, 0)
def test_shingles_equal_the_definition(documents, n, seed):
    expected = [reference.shingle_hashes(text, n, seed) for text in documents]
    assert as_lists(shingle_sets(strings(documents), n, seed)) == expected


@settings(max_examples=60)
@given(texts, st.sampled_from(sorted(FORMS)), st.integers(0, 2**32 - 1))
@example(
    ["a" * 63 + " \n b", " " * 64 + "x" + " " * 64, "a" * 62 + "\u3000 b", "\ufeffx\u200b", "!?", "..."], "letters", 0
)
def test_digests_equal_the_definition(documents, normal, seed):
    expected = [reference.digest(text, normal, seed) for text in documents]
    assert content_digests(strings(documents), normal, seed).to_pylist() == expected


@settings(max_examples=20)
@given(texts, st.integers(1, 300))
def test_chunks_and_slices_of_arrow_do_not_matter(documents, chunk_bytes):
    whole = strings(documents)
    sets, digests = shingle_sets(whole, 2), content_digests(whole)
    sliced = pa.concat_arrays([strings(["before it"]), whole.cast(pa.large_string())]).slice(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingling, "CHUNK_BYTES", chunk_bytes)
        for same in (whole, sliced, whole.cast(pa.string()), pa.chunked_array([whole[:2], whole[2:]])):
            assert as_lists(shingle_sets(same, 2)) == as_lists(sets)
            assert content_digests(same).equals(digests)


@pytest.mark.parametrize("unit", ["a", "漢", "a漢", "a b", "x " * 30 + "y"])
def test_many_small_texts_have_room(unit):
    sizes = shingle_sets(strings([unit] * 100_000), 1).sizes
    assert set(sizes.tolist()) == {len(reference.shingles(unit, 1))}


def test_a_null_is_the_empty_string():
    assert as_lists(shingle_sets(strings(["a b", None]), 1))[1] == []
    digests = content_digests(strings([None, "", " \n"]))
    assert digests.null_count == 0
    assert len(set(digests.to_pylist())) == 1


def test_white_space_makes_no_exact_difference_but_other_characters_do():
    digests = content_digests(strings(["a b", "\ufeff a\r\n\u200bb\0", "a\u3000b", "A b", "ab", "a. b"])).to_pylist()
    assert len(set(digests[:3])) == 1
    assert len(set(digests)) == 4


def test_by_letters_case_and_punctuation_make_no_difference_and_texts_without_letters_are_not_all_equal():
    digests = content_digests(
        strings(["A b.", "(a, B)", "क", "कि", "1 2", "12", "!?", "...", "  "]), "letters"
    ).to_pylist()
    assert digests[0] == digests[1]
    assert digests[2] != digests[3]  # a vowel sign is part of the letter
    assert digests[4] == digests[5]
    assert len(set(digests)) == 7


def test_chinese_texts_have_shingles_of_characters_and_differ():
    poems = ["床前明月光，疑是地上霜。", "白日依山尽，黄河入海流。", "床前明月光，疑是地上霜。"]
    sets = shingle_sets(strings(poems))
    assert sets.sizes.tolist() == [8, 8, 8]
    assert jaccard_of_pairs(sets, np.array([[0, 1], [0, 2]])).tolist() == [0, 1]


@settings(max_examples=40)
@given(texts, st.integers(1, 3), st.data())
def test_similarities_equal_the_definition(documents, n, data):
    indices = st.integers(0, max(0, len(documents) - 1))
    pairs = data.draw(st.lists(st.tuples(indices, indices), max_size=10)) if documents else []
    sets = [reference.shingles(text, n) for text in documents]
    found = jaccard_of_pairs(shingle_sets(strings(documents), n), np.array(pairs, np.int64).reshape(-1, 2))
    assert found.tolist() == [reference.jaccard(sets[a], sets[b]) for a, b in pairs]


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("a b ", 2),
        ("word", 0),
        ("\0", 0),
        ("😀", 0),
        ("ก", 1),
        (" \n", 0),
        ("0 1 2 3 4 5 6 7 8 9 a b c d e f g h ", 18),
    ],
)
def test_one_huge_document_takes_linear_time(unit, size):
    document = strings([unit * (2_000_000 // len(unit.encode())), "another one"])
    assert shingle_sets(document).sizes.tolist() == [size, 0]
    assert len(content_digests(document)) == 2


@pytest.mark.parametrize("n", [0, 33])
def test_a_shingle_has_1_to_32_words(n):
    with pytest.raises(UsageError, match=f"ngram={n}: a shingle has 1 to 32 words"):
        shingle_sets(strings(["a"]), n)


@pytest.mark.pool
def test_similarities_of_the_pool_are_those_of_its_truth(pool):
    truth = pq.read_table(pool / "truth" / "dups.parquet").to_pydict()
    documents = pq.read_table(pool / "raw", columns=["id", "text"])
    rows = {name: i for i, name in enumerate(documents["id"].to_pylist())}
    sets = shingle_sets(documents["text"])
    pairs = np.array([(rows[a], rows[b]) for a, b in zip(truth["id"], truth["of_id"], strict=True)])
    unspaced = re.compile("[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in reference.UNSPACED) + "]")
    spaced = np.array([not unspaced.search(documents["text"][int(row)].as_py()) for row in pairs[:, 0]])
    compared = spaced & (sets.sizes[pairs].min(axis=1) > 0)  # to the truth two equal texts without shingles are alike
    assert np.sum(compared) > 900
    assert np.allclose(
        jaccard_of_pairs(sets, pairs)[compared], np.array(truth["jaccard5"])[compared], rtol=0, atol=1e-4
    )
