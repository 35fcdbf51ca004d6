"""Near duplicates among texts in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from curate.dedup.spec import DedupSpec
from curate.features.minhash import MinHash, band_keys
from curate.features.shingles import ShingleSets, jaccard_of_pairs, shingle_chunks
from curate.kernels.native import Kernel

_bucket_hubs, _bucket_pairs = Kernel("signing", "bucket_hubs"), Kernel("signing", "bucket_pairs")


class Pairs(NamedTuple):
    """Near duplicates, in the order of a, then b.

    a, b : int64[n_pairs], numbers of texts, ``a < b``. jaccard : float64[n_pairs], of their shingles.
    """

    a: np.ndarray
    b: np.ndarray
    jaccard: np.ndarray


def near_pairs(texts: Any, threshold: float = 0.7, **settings: Any) -> Pairs:
    """The pairs of texts whose sets of shingles are alike, in memory, on one core.

    Candidates share a band of their MinHash signatures, and each is verified by the true Jaccard similarity, so that
    all pairs returned are near duplicates; of those exactly at the threshold 0.5% are missed at most, of those above
    fewer (see `bands_and_rows`). Texts of fewer words than a shingle has are in no pair. In a bucket of more than
    ``max_bucket`` texts only the first so many are compared with the others: of many copies of one text every one is
    in a pair with the first, but not all with each other.

    Parameters
    ----------
    texts : Arrow strings; a null is the empty string. Beside them it takes 16 bytes a word at its peak.
    threshold : Jaccard similarity, above 0 and at most 1. settings : ``ngram``, ``num_perm``, ``bands``, ``rows``,
        ``max_bucket`` and ``seed`` of `DedupSpec`.

    Raises
    ------
    UsageError : a setting makes no sense.
    """
    spec = DedupSpec.from_settings({"threshold": threshold, **settings})
    sets, keys = _signed(texts, spec)
    pairs = candidate_pairs(keys, np.flatnonzero(sets.sizes), spec.max_bucket)
    small, large = np.sort(sets.sizes[pairs], axis=1).T
    pairs = pairs[small >= spec.threshold * large]  # of sets that differ more in size the similarity is lower
    similarity = jaccard_of_pairs(sets, pairs)
    near = similarity >= spec.threshold
    (a, b), similarity = pairs[near].T, similarity[near]
    order = np.lexsort((b, a))
    return Pairs(a[order], b[order], similarity[order])


def _signed(texts: Any, spec: DedupSpec) -> tuple[ShingleSets, np.ndarray]:
    """The sets of texts and the keys of their bands, while the hashes of a set are in the processor's caches."""
    minhash, (bands, rows) = MinHash(spec.num_perm, spec.seed), spec.banding
    parts, keys = [], [np.empty((0, bands), np.uint64)]
    for sets in shingle_chunks(texts, spec.ngram, spec.seed):
        keys.append(band_keys(minhash.signatures(sets), bands, rows, sets.offsets, spec.seed))
        parts.append(ShingleSets(sets.offsets, sets.hashes.copy()))
    return ShingleSets.joined(parts), np.concatenate(keys)


def candidate_pairs(keys: np.ndarray, docs: np.ndarray, max_bucket: int = 64) -> np.ndarray:
    """int64[n_pairs, 2]: the pairs of documents that share a key in some band, each once, the smaller first.

    Parameters
    ----------
    keys : uint64[n_docs, bands]. docs : int64[...], ascending, the documents to pair.
    max_bucket : of the documents with one key, how many, the first, are paired with all others.
    """
    # A key gives up its lowest bits to the number of its document, so that plain numbers are sorted, ten times as fast
    # as by argsort. The 2**24 documents that fit into memory leave 40 bits, which coincide for few.
    low = np.uint64((1 << max(1, len(keys) - 1).bit_length()) - 1)
    hubs = np.zeros(keys.shape, np.uint8)
    found = [np.empty((0, 2), np.int64)]
    for band in range(keys.shape[1]):
        packed = np.sort((keys[docs, band] & ~low) | docs.astype(np.uint64))
        pairs = np.empty((_bucket_hubs(packed, low, max_bucket, band, hubs), 2), np.int64)
        found.append(pairs[: _bucket_pairs(packed, low, band, keys, hubs, pairs)].copy())
    return np.concatenate(found)
