"""What is measured on the texts of a sample: n-grams, tokens, compression, languages, vectors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from curate.engines import LocalEngine
from curate.features import NgramFeatures
from curate.kernels.calls import moments
from curate.metrics.adequacy import Adequacy, adequacy
from curate.survey.languages import Languages, languages

N_BUCKETS = 10_000  # of the divergences, as in the paper (arXiv:2302.03169)
FINENESS = 100
N_FINE = N_BUCKETS * FINENESS  # in which an n-gram is rarely hidden by others; bucket // FINENESS is the coarse one
N_PARTS = 100
N_READ = 3_000  # documents that are compressed and whose language is told
N_VECTORS = 1_000
DIMENSIONS = 64
FEATURES = NgramFeatures(n=2, n_buckets=N_FINE)
_BATCH_BYTES = 4_000_000


@dataclass(frozen=True)
class Facts:
    """Measured on a sample of documents, in its order.

    n_bytes, n_tokens : int64[n_docs].
    fine : int64[N_FINE] n-grams by bucket. parts : int64[N_PARTS, N_BUCKETS], of documents dealt into as many groups
        at random, for resampling.
    compression : float64[at most N_READ], bytes over bytes under zstd level 3.
    vectors : float64[at most N_VECTORS, DIMENSIONS], signed hashed n-gram frequencies of unit length.
    """

    n_bytes: np.ndarray
    n_tokens: np.ndarray
    fine: np.ndarray
    parts: np.ndarray
    compression: np.ndarray
    languages: Languages
    vectors: np.ndarray
    squares: np.ndarray
    products: np.ndarray
    total_square: float

    @property
    def counts(self) -> np.ndarray:
        """int64[N_BUCKETS]: n-grams by coarse bucket."""
        return self.parts.sum(axis=0)

    def adequacy(self, kl: float) -> Adequacy:
        """Whether these documents are enough to tell their distribution; ``kl``: from what they are compared with."""
        return adequacy(self.counts, self.squares, self.products, self.total_square, len(self.n_tokens), kl)


class _Counted(NamedTuple):
    n_tokens: np.ndarray
    fine: np.ndarray
    parts: np.ndarray
    squares: np.ndarray
    products: np.ndarray
    total_square: float
    vectors: np.ndarray


def facts(texts: Any, engine: LocalEngine) -> Facts:
    """Measure texts, an Arrow array of strings without nulls in random order."""
    n_bytes = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    cuts = _cuts(n_bytes)
    read = texts.slice(0, N_READ)
    n_tokens, vectors = np.zeros(len(texts), np.int64), np.zeros((min(len(texts), N_VECTORS), DIMENSIONS))
    fine, parts = np.zeros(N_FINE, np.int64), np.zeros((N_PARTS, N_BUCKETS), np.int64)
    squares, products, total_square = np.zeros(N_BUCKETS, np.int64), np.zeros(N_BUCKETS, np.int64), 0.0

    def count(cut: tuple[int, int]) -> tuple[int, _Counted]:
        return cut[0], _count(texts.slice(cut[0], cut[1] - cut[0]), cut[0])

    for first, counted in engine.ordered(count, pairwise(cuts)):  # 16 MB each: added up as they come
        n_tokens[first : first + len(counted.n_tokens)] = counted.n_tokens
        vectors[first : first + len(counted.vectors)] = counted.vectors
        fine += counted.fine
        parts += counted.parts
        squares += counted.squares
        products += counted.products
        total_square += counted.total_square
    return Facts(
        n_bytes,
        n_tokens,
        fine,
        parts,
        compression_ratios(read),
        languages(read),
        vectors,
        squares,
        products,
        total_square,
    )


def _cuts(n_bytes: np.ndarray) -> list[int]:
    """Where batches of documents begin and end."""
    if not len(n_bytes):
        return []
    batch = np.cumsum(n_bytes) // _BATCH_BYTES
    return [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(n_bytes)]


def _count(texts: Any, first: int) -> _Counted:
    """Count the n-grams of a batch, whose first document is number ``first`` of the sample."""
    stream = FEATURES.stream(texts)
    buckets, n_docs = stream.buckets.astype(np.int64), len(stream.ends)
    each = np.diff(stream.ends, prepend=0)
    coarse = buckets // FINENESS
    part = np.repeat((first + np.arange(n_docs)) % N_PARTS, each)
    fine = np.bincount(buckets, minlength=N_FINE)
    parts = np.bincount(part * N_BUCKETS + coarse, minlength=N_PARTS * N_BUCKETS).reshape(N_PARTS, N_BUCKETS)
    summed = moments(stream._replace(buckets=coarse.astype(np.uint16)), N_BUCKETS)
    n_vectors = max(0, min(n_docs, N_VECTORS - first))
    return _Counted(
        stream.n_tokens.copy(),
        fine,
        parts,
        summed.squares,
        summed.products,
        float(np.square(each.astype(np.float64)).sum()),
        _vectors(buckets, stream.ends[:n_vectors]),
    )


def _vectors(buckets: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """float64[n_docs, DIMENSIONS]: the documents' n-gram counts, hashed with signs, brought to unit length."""
    n_docs = len(ends)
    if not n_docs:
        return np.zeros((0, DIMENSIONS))
    buckets = buckets[: ends[-1]]
    document = np.repeat(np.arange(n_docs), np.diff(ends, prepend=0))
    place = document * DIMENSIONS + buckets % DIMENSIONS
    sign = 1.0 - 2.0 * ((buckets // DIMENSIONS) % 2)
    found = np.bincount(place, sign, minlength=n_docs * DIMENSIONS).reshape(n_docs, DIMENSIONS)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def coarse_counts(texts: Any) -> np.ndarray:
    """int64[N_BUCKETS]: the n-grams of texts, an Arrow array of strings, by coarse bucket."""
    counts = np.zeros(N_BUCKETS, np.int64)
    n_bytes = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    for start, stop in pairwise(_cuts(n_bytes)):
        buckets = FEATURES.stream(texts.slice(start, stop - start)).buckets
        counts += np.bincount(buckets // FINENESS, minlength=N_BUCKETS)
    return counts


def compression_ratios(texts: Any) -> np.ndarray:
    """float64[n_docs]: bytes over bytes under zstd level 3; repetitive texts are high, noise is about 1."""
    from zstandard import ZstdCompressor

    packed = ZstdCompressor(level=3)
    each = (text.encode() for text in texts.to_pylist())
    return np.array([len(text) / len(packed.compress(text)) for text in each], np.float64)
