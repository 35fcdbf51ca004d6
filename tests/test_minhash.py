"""Signatures, bands and near pairs: equal to the definitions and to datasketch, independent of order and batches."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup import DedupSpec, Signer, near_pairs
from curate.dedup.pairs import candidate_pairs
from curate.errors import UsageError
from curate.features import shingles as shingling
from curate.features.minhash import (
    MinHash,
    band_keys,
    bands_and_rows,
    chance_of_candidate,
    estimated_jaccard,
    lsh_params,
    sha1_sets,
)
from curate.features.shingles import ShingleSets, shingle_sets

words = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "漢字", "\0", "1", "2"])
texts = st.lists(st.lists(words, max_size=14).map(" ".join), max_size=8)
EVERY_PAIR = {"bands": 128, "rows": 1}  # that shares a place of the signature: at J >= 0.3 all but one in 10**19


def strings(documents):
    return pa.array(documents, pa.large_string())


def random_sets(seed, sizes, shared):
    """Two sets of random hashes that share so many, as sets of documents 0 and 1."""
    drawn = np.random.default_rng(seed).integers(0, 2**64, sum(sizes) - shared, dtype=np.uint64)
    parts = np.sort(drawn[: sizes[0]]), np.sort(drawn[sizes[0] - shared :])
    return ShingleSets(np.cumsum([0, *sizes]), np.concatenate(parts))


def found_pairs(pairs):
    return dict(zip(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True), pairs.jaccard.tolist(), strict=True))


# ---- signatures


@settings(max_examples=30)
@given(texts, st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_signatures_equal_the_definition(documents, num_perm, seed):
    sets, minhash = shingle_sets(strings(documents), 3, seed), MinHash(num_perm, seed)
    expected = [
        reference.signature(reference.shingle_hashes(text, 3, seed), minhash.factors, minhash.terms)
        for text in documents
    ]
    assert minhash.signatures(sets).tolist() == expected


@pytest.mark.parametrize(("sizes", "shared"), [((400, 400), 320), ((1000, 500), 300), ((30, 40), 10), ((5, 5), 4)])
def test_estimates_are_within_their_binomial_bound(sizes, shared):
    similarity, n_seeds, num_perm = shared / (sum(sizes) - shared), 40, 128
    estimates = []
    for seed in range(n_seeds):
        a, b = MinHash(num_perm, seed).signatures(random_sets(seed, sizes, shared))
        estimates.append(float(estimated_jaccard(a, b)))
    error = np.sqrt(similarity * (1 - similarity) / num_perm)
    assert abs(np.mean(estimates) - similarity) < 3.5 * error / np.sqrt(n_seeds)
    assert 0.65 * error < np.std(estimates) < 1.45 * error


def test_empty_sets_have_nothing_in_common():
    signatures = MinHash(16).signatures(shingle_sets(strings(["a b", "", "a b c d e f"])))
    assert estimated_jaccard(signatures[:2], signatures[[1, 2]]).tolist() == [0, 0]


@pytest.mark.reference
@pytest.mark.parametrize("scheme", ["affine32", "legacy"])
@pytest.mark.parametrize(("num_perm", "seed"), [(128, 1), (37, 42)])
def test_compatible_signatures_equal_datasketch(scheme, num_perm, seed):
    datasketch = pytest.importorskip("datasketch", minversion="2")
    sets = [[], [b"one"], [b"one", b"two", b"one"], [str(i).encode() for i in range(500)], ["漢字 ".encode(), b"\0"]]
    found = MinHash(num_perm, seed, compat=scheme).signatures(sha1_sets(sets))
    for items, signature in zip(sets, found, strict=True):
        expected = datasketch.MinHash(num_perm, seed, scheme=scheme)
        expected.update_batch(items)
        assert signature.tolist() == expected.hashvalues.tolist()


@pytest.mark.reference
def test_our_permutations_are_those_of_datasketch():
    datasketch = pytest.importorskip("datasketch", minversion="2")
    ours, theirs = MinHash(64, 7), datasketch.MinHash(64, 7)
    assert np.array_equal(np.stack([ours.factors, ours.terms]), theirs.permutations)


# ---- bands


@pytest.mark.reference
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.1, 0.9)])
def test_lsh_parameters_equal_datasketch(weights):
    lsh = pytest.importorskip("datasketch.lsh")
    for threshold, num_perm in itertools.product((0.3, 0.5, 0.7, 0.9), (16, 64, 128)):
        assert lsh_params(threshold, num_perm, weights) == lsh._optimal_param(threshold, num_perm, *weights)


def test_the_bands_chosen_miss_at_most_one_in_200_at_the_threshold_and_one_more_row_would_miss_more():
    assert bands_and_rows(0.7) == (32, 4)
    assert lsh_params(0.7) == (14, 9)  # datasketch's published choice
    for threshold, num_perm in itertools.product(np.linspace(0.1, 1, 10), (32, 128, 256)):
        bands, rows = bands_and_rows(threshold, num_perm)
        assert bands * rows <= num_perm
        assert rows == 1 or chance_of_candidate(threshold, bands, rows) >= 0.995
        more = rows + 1
        assert more > num_perm or chance_of_candidate(threshold, num_perm // more, more) < 0.995


def test_keys_are_equal_where_all_rows_of_a_band_are_and_nowhere_else():
    signatures = np.arange(48, dtype=np.uint32).reshape(4, 12)
    signatures[1, :4], signatures[2] = signatures[0, :4], signatures[0]
    keys = band_keys(signatures, 3, 4, np.arange(5))
    assert (keys[0] == keys[1]).tolist() == [True, False, False]
    assert np.array_equal(keys[0], keys[2])
    assert len(np.unique(keys)) == 3 + 2 + 3  # of bands with the same rows at other places too
    assert band_keys(signatures, 3, 4, np.array([0, 1, 1, 2, 3]))[1].tolist() == [0, 0, 0]


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=12), st.integers(1, 4))
def test_candidates_share_a_key_and_one_of_the_two_is_among_the_first_of_its_bucket(rows, max_bucket):
    keys = np.array(rows, np.uint64).reshape(-1, 3) << np.uint64(40)
    docs = np.array([i for i in range(len(rows)) if i % 4 != 3], np.int64)
    expected = set()
    for band in range(3):
        for value in range(4):
            bucket = [int(i) for i in docs if rows[i][band] == value]
            expected |= {(a, b) for a, b in itertools.combinations(bucket, 2) if a in bucket[:max_bucket]}
    found = [tuple(pair) for pair in candidate_pairs(keys, docs, max_bucket).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


# ---- near pairs


@settings(max_examples=40)
@given(texts, st.integers(1, 5), st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_near_pairs_equal_the_definition(documents, n, threshold):
    found = near_pairs(strings(documents), threshold, ngram=n, **EVERY_PAIR)
    assert found_pairs(found) == reference.near_pairs(documents, n, threshold)


def test_near_pairs_do_not_depend_on_order_or_batches(monkeypatch):
    random = np.random.default_rng(1)
    base = [" ".join(random.choice(["a", "b", "c", "d", "e", "f"], 60)) for _ in range(20)]
    documents = [text[: len(text) - cut] + f" {cut}" for text in base for cut in range(0, 40, 4)]
    found = {(documents[a], documents[b]) for a, b in found_pairs(near_pairs(strings(documents)))}
    assert found
    order = random.permutation(len(documents))
    shuffled = [documents[i] for i in order]
    monkeypatch.setattr(shingling, "CHUNK_BYTES", 500)
    again = {(shuffled[a], shuffled[b]) for a, b in found_pairs(near_pairs(strings(shuffled)))}
    assert {frozenset(pair) for pair in again} == {frozenset(pair) for pair in found}


def test_copies_of_one_text_are_all_paired_with_the_first_and_not_all_with_each_other():
    found = near_pairs(strings(["one and the same text for all"] * 500), max_bucket=3)
    assert found.jaccard.min() == 1
    assert set(found.a) == {0, 1, 2}
    assert len(found.a) == 499 + 498 + 497


@pytest.mark.parametrize(
    "documents",
    [
        [], [""] * 50, ["short text"] * 50, ["🙂" * 1000] * 50, ["\0"] * 50, ["a b c d"] * 50,
        [f"the number is {i}" for i in range(50)], [f"chapter {i} has just begun, they said" for i in range(50)],
    ],
)  # fmt: skip
def test_short_texts_and_numbers_that_differ_are_not_near(documents):
    assert len(near_pairs(strings(documents)).a) == 0


# ---- what is kept of documents


def test_what_a_text_is_signed_with_depends_on_nothing_else(monkeypatch):
    documents = ["one two three four five six", "", "漢字漢字漢字", "short", "x " * 3000, None]
    spec = DedupSpec(seed=5)
    whole = Signer(spec).sign(strings(documents))
    monkeypatch.setattr(shingling, "CHUNK_BYTES", 8)
    for i, document in enumerate(documents):
        alone = Signer(spec).sign(strings([document]))
        assert alone.digest[0] == whole.digest[i]
        assert np.array_equal(alone.keys[0], whole.keys[i])
    assert whole.n_shingles.tolist() == [2, 0, 2, 0, 1, 0]
    assert whole.keys.shape == (6, 32)
    assert (whole.keys == 0).all(axis=1).tolist() == [False, True, False, True, False, True]


def test_exact_dedup_alone_counts_shingles_only_where_short_documents_are_an_exception():
    text = strings(["one two three four five six", "short"])
    assert Signer(DedupSpec(near=False)).sign(text).n_shingles.tolist() == [-1, -1]
    assert Signer(DedupSpec(near=False, short="keep")).sign(text).n_shingles.tolist() == [2, 0]
    assert Signer(DedupSpec(near=False)).sign(text).keys.shape == (2, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"treshold": 0.8}, "no setting of dedup called 'treshold'; did you mean 'threshold'?"),
        ({"threshold": 0}, "threshold=0: must be above 0 and at most 1"),
        ({"threshold": "0.7"}, "threshold='0.7': must be a number"),
        ({"exact": False, "near": False}, "there is nothing to look for"),
        ({"bands": 32}, "bands and rows go together"),
        ({"bands": 32, "rows": 8}, "32 bands of 8 rows take 256 places, num_perm=128 has fewer; pass num_perm=256"),
        ({"normal": "leters"}, "did you mean 'letters'?"),
        ({"short": "drop"}, "no policy for short documents called 'drop'"),
        ({"against": "a.parquet"}, "must be a list of paths"),
        ({"encoder": "m", "vectors": "v"}, "pass one of them"),
        ({"ngram": True}, "ngram=True: must be a whole number"),
        ({"seed": -1}, "seed=-1: must be 0 to 4,294,967,295"),
    ],
)
def test_settings_that_make_no_sense_are_told(given, message):
    with pytest.raises(UsageError) as told:
        DedupSpec.from_settings(given)
    assert message in str(told.value)


def test_a_spec_says_all_that_the_result_depends_on():
    spec = DedupSpec.from_settings({"threshold": 0.8, "against": ["x"]})
    assert (spec.identity()["banding"], spec.as_dict()["against"]) == ([21, 6], ["x"])
    assert DedupSpec.from_settings(spec.as_dict()) == spec
    assert DedupSpec(threshold=0.8).banding == bands_and_rows(0.8)
