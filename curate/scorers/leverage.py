"""Ridge leverage scores of documents: how little the rest of the corpus says the same. No target is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from curate.errors import InputError, UsageError, unknown
from curate.features.ngrams import NgramFeatures
from curate.features.vectors import ColumnVectors, EncoderVectors, HashedVectors
from curate.leverage import (
    Dictionary,
    Directions,
    FixedDictionary,
    Gram,
    Rbf,
    absolute_ridge,
    estimated_error,
    median_bandwidth,
    squeak,
    unit_rows,
)
from curate.sampling.noise import keyed_hashes
from curate.scorers.base import RawSample, Scorer, Texts, by_name, number, text_batches, whole

KERNELS = ("linear", "rbf")
MAX_DIM = 2_048  # of the linear kernel: a matrix takes 34 MB then, and each batch under way has one
SAMPLE = 7  # a purpose of hashes, beside those of curate.sampling.noise
CHECKED = 1_000  # documents at which a dictionary is compared with a larger one
LARGER = 2  # times as many copies of each point it has


class Leverage(Scorer):
    """Ridge leverage scores of documents' vectors within raw: from 0, said a thousand times over, to 1, alone.

    Their sum over the corpus is its effective dimension: the number of directions that rise above the ridge. With the
    linear kernel they are exact, by one pass over raw that sums up products of vectors. With the RBF kernel they are
    estimated by a dictionary (SQUEAK) of a sample of raw, and the error is estimated too.

    A target plays no part, and a score is no quality: what is alone may be noise. Scores are for sampling with chances
    in proportion to them, which takes less of what there is a lot of; the highest ones by themselves are a
    selection of odd documents.

    Parameters
    ----------
    kernel : "linear" or "rbf".
    ridge_per_document, ridge : relative to the number of documents, or absolute. A direction counts when more of the
        corpus is in it than this: 0.01 is a hundredth of all documents. Below 1 / dim the noise of hashing counts too.
    dim, n : of vectors of hashed n-grams, see `HashedVectors`; n is the highest order.
    vectors : a column of raw that holds vectors instead. encoder : the folder of a sentence encoder, instead.
    bandwidth : of the RBF kernel; by default the median distance of documents.
    max_documents : of raw, to make the dictionary of. copies : of each point in it; more are more accurate.
    min_tokens : documents with fewer have no score. tokenizer : by which they are counted, see `NgramFeatures`.
    seed : of the dictionary.

    Attributes
    ----------
    estimator_ : `Directions` or `FixedDictionary`. effective_dimension_ : of raw. n_documents_ : that it is fitted to.
    error_ : of the dictionary, by name, see `EstimatedError`; empty when scores are exact.
    """

    method = "leverage"
    log_weights = False
    scores_are_weights = True
    default_draw = "pivotal"
    needs_target = False

    def __init__(
        self,
        *,
        kernel: str = "linear",
        ridge_per_document: float | None = None,
        ridge: float | None = None,
        dim: int = 256,
        n: int = 1,
        vectors: str | None = None,
        encoder: str | None = None,
        bandwidth: float | None = None,
        max_documents: int = 10_000,
        copies: int = 25,
        min_tokens: int = 20,
        tokenizer: str | None = None,
        seed: int = 0,
    ) -> None:
        if kernel not in KERNELS:
            raise unknown("kernel", kernel, KERNELS)
        if vectors is not None and encoder is not None:
            raise UsageError(f"vectors={vectors}, encoder={encoder}: name one of them")
        if ridge is None and ridge_per_document is None:
            ridge_per_document = 0.01
        for name, value in (("ridge", ridge), ("ridge_per_document", ridge_per_document), ("bandwidth", bandwidth)):
            if value is not None and not 0 < number(name, value) < float("inf"):
                raise UsageError(f"{name}={value!r}: must be above 0")
        absolute_ridge(1, ridge, ridge_per_document)
        self.kernel, self.ridge, self.ridge_per_document, self.bandwidth = kernel, ridge, ridge_per_document, bandwidth
        self.dim, self.n = whole("dim", dim, 1, MAX_DIM if kernel == "linear" else None), whole("n", n, 1)
        self.vectors = None if vectors is None else str(vectors)
        self.encoder = None if encoder is None else str(encoder)
        self.max_documents, self.copies = whole("max_documents", max_documents, 2), whole("copies", copies, 1)
        self.min_tokens, self.seed = whole("min_tokens", min_tokens, 0), whole("seed", seed, 0)
        self.tokenizer = tokenizer
        self.features = NgramFeatures(n=1, n_buckets=2, tokenizer=tokenizer)
        self.source: HashedVectors | ColumnVectors | EncoderVectors
        if self.vectors is not None:
            self.source = ColumnVectors(self.vectors)
        elif self.encoder is not None:
            self.source = EncoderVectors(self.encoder)
        else:
            self.source = HashedVectors(dim=self.dim, n=self.n)
            if tokenizer is None:  # one reading of the text is enough, then
                self.features = self.source.ngrams

    def identity(self) -> dict[str, Any]:
        """Settings, and what determines the vectors."""
        return super().identity() | {"source": self.source.identity()}

    @property
    def vector_column(self) -> str | None:
        """The column of raw that holds vectors."""
        return self.vectors

    # ---- vectors

    def looked_at(self, texts: Any, given: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(vectors, bool[n_docs], int64[n_docs] tokens)``: unit vectors of documents that are long enough.

        Parameters
        ----------
        texts : Arrow strings. given : float[n_docs, dim], the vectors that a column has.

        Raises
        ------
        UsageError : vectors are in a column, and only texts are given.
        """
        stream = self.features.stream(texts)
        n_tokens = stream.n_tokens.copy()
        taken = n_tokens >= self.min_tokens
        if isinstance(self.source, HashedVectors) and self.features is self.source.ngrams:
            found = self.source.of_stream(stream)
            return found if taken.all() else found[taken], taken, n_tokens
        if isinstance(self.source, ColumnVectors):
            if given is None:
                raise UsageError(f"vectors={self.vectors}: scores go by that column, and here are only texts")
            return unit_rows(given[taken]), taken, n_tokens
        import pyarrow as pa

        some = texts if taken.all() else texts.cast(pa.large_string()).filter(pa.array(taken))
        found = self.source(some)
        return (found if isinstance(self.source, HashedVectors) else unit_rows(found)), taken, n_tokens

    # ---- fitting

    @property
    def raw_sample(self) -> RawSample | None:
        """With the RBF kernel enough documents to pick ``max_documents`` of; the linear one sums up all of raw."""
        return RawSample("documents", self.max_documents) if self.kernel == "rbf" else None

    def fit(self, *, target: Texts | Mapping[str, Texts] = (), raw: Texts = (), workers: int = 1) -> Leverage:
        """Fit on texts of raw; the target's name is all that is taken of it.

        Where vectors are in a column, ``raw`` is of ``(Arrow strings, float32[n_docs, dim])``.
        """
        if self.kernel == "rbf":
            return self._fit_sample(text_batches(raw), target)
        gram: Gram | None = None
        for some in text_batches(raw):
            gram = add_to(gram, self.looked_at(*(some if isinstance(some, tuple) else (some,)))[0])
        return self.fit_gram(gram, target)

    def fit_gram(self, gram: Gram | None, target: Texts | Mapping[str, Texts] = ()) -> Leverage:
        """Fit on sums of products of vectors, which may have been merged from many; see `add_to`."""
        gram = gram or Gram(self.dim)  # of a corpus in which every document is too short
        return self._fitted(gram.directions(self._ridge(gram.n_points)), {}, target)

    def _fit_sample(self, batches: Iterable[Any], target: Texts | Mapping[str, Texts]) -> Leverage:
        """Fit a dictionary to the documents with the smallest hashes of what they say, in that order."""
        hashes, vectors = np.zeros(0, np.uint64), np.zeros((0, self.dim), np.float32)
        for some in batches:
            texts, given = some if isinstance(some, tuple) else (some, None)
            found, taken, _ = self.looked_at(texts, given)
            if len(vectors) and len(found) and found.shape[1] != vectors.shape[1]:
                raise InputError(
                    f"vectors have {vectors.shape[1]} dimensions in one part and {found.shape[1]} in another"
                )
            new = keyed_hashes(texts, self.seed, SAMPLE)[taken]
            if not len(new):
                continue
            hashes = np.concatenate([hashes, new])
            vectors = np.concatenate([vectors if len(vectors) else found[:0], found]).astype(np.float32)
            first = np.argsort(hashes, kind="stable")[: self.max_documents]
            hashes, vectors = hashes[first], vectors[first]
        x = vectors.astype(np.float64)
        similarity = Rbf(self.bandwidth or median_bandwidth(x))
        ridge = self._ridge(len(x))
        made, larger = (
            squeak(
                Dictionary.empty(x.shape[1], similarity, ridge, max_copies=self.copies * factor),
                x,
                np.random.default_rng([self.seed, factor]),
            )
            for factor in (1, LARGER)
        )
        error = asdict(estimated_error(made, larger, x[:CHECKED])) if len(x) else {}
        return self._fitted(FixedDictionary.of(made), error, target)

    def _ridge(self, n: int) -> float:
        return absolute_ridge(max(n, 1), self.ridge, self.ridge_per_document)

    def _fitted(
        self, estimator: Directions | FixedDictionary, error: dict[str, float], target: Texts | Mapping[str, Texts]
    ) -> Leverage:
        self.estimator_, self.error_ = estimator, error
        self.effective_dimension_, self.n_documents_ = estimator.effective_dimension, estimator.n_points
        named = by_name(target) if target else {}
        self.target_names_, self.target_proportions_ = ["+".join(named) or "raw"], [1.0]
        return self

    def about(self) -> dict[str, Any]:
        """What a reader of the scores should know of the fit."""
        known = {"effective_dimension": round(self.effective_dimension_, 2), "n_documents_fitted": self.n_documents_}
        return known | ({"error": {k: round(v, 4) for k, v in self.error_.items()}} if self.error_ else {})

    # ---- scoring

    def scores(self, texts: Any) -> np.ndarray:
        """Leverage scores; nan where too short."""
        return self.score_documents(texts)[0]

    def score_documents(self, texts: Any, vectors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(scores, tokens)`` of Arrow strings; nan where too short. ``vectors``: of the column that has them."""
        found, taken, n_tokens = self.looked_at(texts, vectors)
        scores = np.full((len(n_tokens), 1), np.nan)
        if taken.any():
            scores[taken, 0] = self.estimator_.estimate(found)
        return scores, n_tokens

    # ---- files

    def arrays(self) -> dict[str, np.ndarray]:
        """Directions, or the dictionary."""
        return self.estimator_.arrays()

    def state(self) -> dict[str, Any]:
        """What is known of the fit."""
        return {"error": self.error_}

    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take back what `arrays` and `state` gave."""
        kind = FixedDictionary if self.kernel == "rbf" else Directions
        self.estimator_ = kind.from_arrays(arrays)
        self.effective_dimension_, self.n_documents_ = self.estimator_.effective_dimension, self.estimator_.n_points
        self.error_ = dict(state["error"])


def add_to(gram: Gram | None, vectors: np.ndarray) -> Gram | None:
    """Sums of products with those of some vectors more; None while there are no vectors.

    Raises
    ------
    UsageError : they have too many dimensions.
    """
    if not len(vectors):
        return gram
    if vectors.shape[1] > MAX_DIM:
        raise UsageError(
            f"vectors have {vectors.shape[1]:,} dimensions: the linear kernel takes up to {MAX_DIM:,}; "
            "shorten them, or --set kernel=rbf"
        )
    if gram is None:
        gram = Gram(vectors.shape[1])
    gram.add(vectors)
    return gram


def sum_of(into: Gram | None, other: Gram | None) -> Gram | None:
    """Sums of products of both, in the first; None is none."""
    if into is None or other is None:
        return other if into is None else into
    into.merge(other)
    return into
