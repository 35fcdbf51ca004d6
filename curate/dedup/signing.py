"""What is kept of each document to find its duplicates: a digest, and the keys of its signature's bands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curate.dedup.spec import DedupSpec
from curate.features.digests import content_digests
from curate.features.minhash import MinHash, band_keys
from curate.features.shingles import ShingleSets, shingle_chunks, shingle_sets
from curate.kernels.text import one_chunk


class Signed(NamedTuple):
    """By document, in the order of the texts.

        digest : ``fixed_size_binary[16]``, equal where documents are exact duplicates.
    n_shingles : int32[n_docs], different ones; 0 of a short document, which has no near duplicates. -1 where nothing
            depends on it: only exact duplicates are asked for, and short ones are no exception.
        keys : uint64[n_docs, bands], equal in some band where documents may be near duplicates; 0 of short documents:
            leave them out. No columns where near duplicates are not asked for.
    """

    digest: pa.Array
    n_shingles: np.ndarray
    keys: np.ndarray


class Signer:
    """Signs texts by a `DedupSpec`. What a text is signed with depends on nothing but the spec and the text."""

    def __init__(self, spec: DedupSpec) -> None:
        self.spec = spec
        self._minhash = MinHash(spec.num_perm, spec.seed)

    def sign(self, texts: Any) -> Signed:
        """The digests, sizes and keys of texts, Arrow strings; a null is the empty string."""
        texts = one_chunk(texts)
        digest = content_digests(texts, self.spec.normal, self.spec.seed)
        bands, rows = self.spec.banding if self.spec.near else (0, 0)
        n_shingles, keys = np.full(len(texts), -1, np.int32), np.empty((len(texts), bands), np.uint64)
        if not self.spec.near and self.spec.short == "exact":
            return Signed(digest, n_shingles, keys)
        done = 0
        for sets in shingle_chunks(texts, self.spec.ngram, self.spec.seed):
            part = slice(done, done + len(sets.offsets) - 1)
            n_shingles[part] = sets.sizes
            if self.spec.near:
                signatures = self._minhash.signatures(sets)
                keys[part] = band_keys(signatures, bands, rows, sets.offsets, self.spec.seed)
            done = part.stop
        return Signed(digest, n_shingles, keys)

    def shingles(self, texts: Any) -> ShingleSets:
        """``(offsets, hashes)``: the shingle sets of texts, to compute true Jaccard similarities by."""
        return shingle_sets(texts, self.spec.ngram, self.spec.seed)
