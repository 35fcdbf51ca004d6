"""A classifier of target against raw: logistic regression on hashed n-grams, its logit as a log density ratio."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curate._optional import require
from curate.errors import InputError, UsageError
from curate.features.ngrams import NgramFeatures
from curate.sampling.noise import keyed_hashes
from curate.scorers.base import (
    RawSample,
    Scorer,
    Texts,
    by_name,
    check_array,
    number,
    text_batches,
    whole,
)

if TYPE_CHECKING:
    from curate.kernels.streams import NgramStream

FOLD, SAMPLE = 5, 6  # purposes of hashes, beside those of curate.sampling.noise
CHUNK_NGRAMS = 255  # of 128 tokens, the unit in which scores are, as in `Dsir`
MAX_DOCUMENT_NGRAMS = 20_000  # of a document in training: the first ones
MAX_NGRAMS = 10_000_000  # of all documents of the target in training, and of raw


def log_density_ratio(logits: np.ndarray, n_target: float, n_raw: float) -> np.ndarray:
    """log p_target(x) / p_raw(x) from the logits of a classifier trained on so many of each (not reweighted)."""
    return logits - np.log(n_target / n_raw)


@dataclass
class Sample:
    """The documents with the smallest hashes of what they say, as buckets: the same whatever the order they come in.

    As many as ``size``, and as have ``n_ngrams`` together. Documents that say the same are one.
    """

    size: int
    seed: int = 0
    n_ngrams: int = MAX_NGRAMS
    held: dict[int, np.ndarray] = field(default_factory=dict)  # buckets by hash
    _largest: list[int] = field(default_factory=list)  # heap of the negated hashes
    _held_ngrams: int = 0
    _bound: int = 1 << 64  # hashes from here on are out, whatever room there is later

    def add(self, texts: Any, features: NgramFeatures) -> None:
        """Take in some documents, Arrow strings."""
        stream = features.stream(texts)
        starts = np.concatenate([[0], stream.ends[:-1]]).astype(np.int64)
        hashes = keyed_hashes(texts, self.seed, SAMPLE)
        for i in np.argsort(hashes, kind="stable"):
            key = int(hashes[i])
            if key >= self._bound:
                break
            stop = min(stream.ends[i], starts[i] + MAX_DOCUMENT_NGRAMS)
            if stop > starts[i] and key not in self.held:
                self._hold(key, stream.buckets[starts[i] : stop].copy())

    def _hold(self, key: int, buckets: np.ndarray) -> None:
        self.held[key] = buckets
        self._held_ngrams += len(buckets)
        heapq.heappush(self._largest, -key)
        while len(self.held) > self.size or self._held_ngrams > self.n_ngrams:
            self._bound = -heapq.heappop(self._largest)
            self._held_ngrams -= len(self.held.pop(self._bound))

    def sorted(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """``(hashes uint64[n] ascending, the buckets of each)``."""
        keys = sorted(self.held)
        return np.array(keys, np.uint64), [self.held[key] for key in keys]


class Classifier(Scorer):
    """Log density ratio of target to raw by logistic regression on the frequencies of hashed n-grams.

    Raw weighs as much as the target in training, however many documents it has, so the logit needs no
    correction for their numbers, and the penalty's strength goes by the target's. Documents are
    dealt into ``folds`` by a hash of what they say, and each is scored by the model that was trained on the
    other folds: none is scored by a model that saw it, or a copy of it.

    Parameters
    ----------
    n, n_buckets, hash, hash_seed, tokenizer : the features, see `NgramFeatures`.
    c : inverse strength of the L2 penalty, as in scikit-learn.
    folds : 2 or more.
    max_documents : of the target, and of raw, to train on; fewer where they have over 10 million n-grams.
    min_tokens : documents with fewer have no score.
    temperature : divides the scores; above 1 softens a Gumbel draw.
    seed : of the sample and the folds.

    Attributes
    ----------
    tables_ : float64[folds, n_buckets], weight of an n-gram in a chunk of 128 tokens. intercepts_ : float64[folds].
    auc_ : of the cross-fitted logits of the documents trained on; near 1, ratios are too extreme to be
        weights, and only their order means something.
    n_target_, n_raw_ : documents trained on. target_names_ : names.
    """

    method = "classifier"
    needs = ("sklearn", "classifier")
    log_weights = True

    def __init__(
        self,
        *,
        n: int = 2,
        n_buckets: int = 1 << 18,
        hash: str = "fast",
        hash_seed: int = 0,
        tokenizer: str | None = None,
        c: float = 10.0,
        folds: int = 3,
        max_documents: int = 20_000,
        min_tokens: int = 20,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not number("temperature", temperature) > 0:
            raise UsageError(f"temperature={temperature}: must be above 0")
        self.temperature = float(temperature)
        if not 0 < number("c", c) < float("inf"):
            raise UsageError(f"c={c!r}: must be above 0")
        self.features = NgramFeatures(n, n_buckets, hash, hash_seed, tokenizer)
        self.c, self.folds, self.max_documents = (
            float(c),
            whole("folds", folds, 2),
            whole("max_documents", max_documents, 2),
        )
        self.min_tokens, self.seed = whole("min_tokens", min_tokens, 0), whole("seed", seed, 0)

    def settings(self) -> dict[str, Any]:
        """All settings with their values: what a recipe and a manifest hold."""
        names = ("c", "folds", "max_documents", "min_tokens", "temperature", "seed")
        return asdict(self.features) | {name: getattr(self, name) for name in names}

    def identity(self) -> dict[str, Any]:
        """Settings, and the version of what fits the weights."""
        return super().identity() | {"library": f"scikit-learn {_version()}"}

    # ---- fitting

    def sample(self) -> Sample:
        """An empty sample to add documents of the target, or of raw, to."""
        return Sample(self.max_documents, self.seed)

    @property
    def raw_sample(self) -> RawSample:
        """Enough documents to pick ``max_documents`` of."""
        return RawSample("documents", self.max_documents)

    def fit(self, *, target: Texts | Mapping[str, Texts], raw: Texts = (), workers: int = 1) -> Classifier:
        """Fit on texts: the target's, pooled when by name, and raw's."""
        named = by_name(target)
        samples = self.sample(), self.sample()
        for sample, texts in [*((samples[0], of) for of in named.values()), (samples[1], raw)]:
            for some in text_batches(texts):
                sample.add(some, self.features)
        return self.fit_samples(*samples, name="+".join(named))

    def fit_samples(self, target: Sample, raw: Sample, name: str = "target") -> Classifier:
        """Fit on samples, which may have been merged from many; the result does not depend on how.

        Raises
        ------
        InputError : fewer documents than folds in either. MissingExtraError : scikit-learn is not installed.
        """
        for of, held in ((f"target {name!r}", target.held), ("the raw corpus", raw.held)):
            if len(held) < self.folds:
                raise InputError(
                    f"{of} has {len(held):,} different documents with tokens: too few for {self.folds} folds"
                )
        hashes, x, y = self._matrix(target, raw)
        folds = fold_of(hashes, self.folds)
        self.tables_ = np.zeros((self.folds, self.features.n_buckets))
        self.intercepts_ = np.zeros(self.folds)
        logits = np.empty(len(y))
        for fold in range(self.folds):
            train = folds != fold
            if len(np.unique(y[train])) < 2:
                raise InputError(f"target {name!r} is too small for {self.folds} folds: one holds all of it")
            weights, self.intercepts_[fold] = self._logistic(x[train], y[train])
            self.tables_[fold, self._columns] = weights * _scale()
            logits[~train] = x[~train] @ weights + self.intercepts_[fold]
        self.auc_ = auc(logits, y)
        self.n_target_, self.n_raw_ = len(target.held), len(raw.held)
        self.target_names_, self.target_proportions_ = [name], [1.0]
        return self

    def _matrix(self, target: Sample, raw: Sample) -> tuple[np.ndarray, Any, np.ndarray]:
        """Hashes, n-gram frequencies (sparse, only columns that occur) and classes; target first."""
        from scipy.sparse import csr_matrix

        parts = [target.sorted(), raw.sorted()]
        documents = [buckets for _, of in parts for buckets in of]
        ends = np.cumsum([0, *(len(d) for d in documents)])
        self._columns, indices = np.unique(np.concatenate(documents), return_inverse=True)
        values = np.repeat(_scale() / np.diff(ends), np.diff(ends))
        x = csr_matrix((values, indices, ends), shape=(len(documents), len(self._columns)))
        x.sum_duplicates()
        y = np.repeat([1, 0], [len(of) for _, of in parts])
        return np.concatenate([hashes for hashes, _ in parts]), x, y

    def _logistic(self, x: Any, y: np.ndarray) -> tuple[np.ndarray, float]:
        linear = require("sklearn.linear_model", extra="classifier", purpose="method 'classifier'")
        model = linear.LogisticRegression(C=self.c, max_iter=1000, tol=1e-5)
        threads = require("threadpoolctl", extra="classifier", purpose="method 'classifier'")
        with threads.threadpool_limits(1):  # sums by several come out otherwise
            model.fit(x, y, sample_weight=np.where(y == 1, 1.0, y.sum() / (len(y) - y.sum())))
        return model.coef_[0], float(model.intercept_[0])

    # ---- scoring

    def scores(self, texts: Any) -> np.ndarray:
        """Log density ratios, nats."""
        return self.score_documents(texts)[0]

    def score_documents(self, texts: Any, vectors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(scores, tokens)`` of Arrow strings; nan where too short."""
        stream = self.features.stream(texts)
        folds = fold_of(keyed_hashes(texts, self.seed, SAMPLE), self.folds)
        return self.score_stream(stream, folds)[:, None], stream.n_tokens

    def score_stream(self, stream: NgramStream, folds: np.ndarray) -> np.ndarray:
        """Scores of buckets; ``folds``: int64[n_docs], from `fold_of` of hashes of the texts."""
        from curate.kernels.calls import sums_by_table

        n_ngrams = np.diff(stream.ends, prepend=0)
        total = sums_by_table(stream.buckets, stream.ends, folds, self.tables_)
        scores = (total / np.maximum(n_ngrams, 1) + self.intercepts_[folds]) / self.temperature
        scores[(stream.n_tokens < self.min_tokens) | (n_ngrams == 0)] = np.nan
        return scores

    # ---- files

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights."""
        return {"tables": self.tables_, "intercepts": self.intercepts_}

    def state(self) -> dict[str, Any]:
        """What is known of the training."""
        return {"auc": self.auc_, "n_target": self.n_target_, "n_raw": self.n_raw_}

    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take back what `arrays` and `state` gave."""
        self.tables_, self.intercepts_ = arrays["tables"], arrays["intercepts"]
        check_array("tables", self.tables_, np.float64, (self.folds, self.features.n_buckets))
        check_array("intercepts", self.intercepts_, np.float64, (self.folds,))
        self.auc_, self.n_target_, self.n_raw_ = state["auc"], state["n_target"], state["n_raw"]


def _version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scikit-learn")
    except PackageNotFoundError:
        return None  # which `fit` will complain of


def fold_of(hashes: np.ndarray, folds: int) -> np.ndarray:
    """int64[n]: the fold of a document, by the low bits of its hash; a sample goes by the high ones."""
    return (hashes % np.uint64(folds)).astype(np.int64)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative; ties count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n = int(positive.sum())
    return float((ranks[positive == 1].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def _scale() -> float:
    """Brings frequencies of a chunk's n-grams to vectors of about length 1, which is what the penalty is for."""
    return float(np.sqrt(CHUNK_NGRAMS))
