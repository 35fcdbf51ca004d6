"""DSIR: importance weights from hashed n-grams of a target and of the raw corpus (arXiv:2302.03169)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.errors import InputError, UsageError, unknown
from curate.features.ngrams import NgramFeatures
from curate.metrics.adequacy import Adequacy, adequacy, kl_divergence, smoothed
from curate.scorers.base import (
    RawSample,
    Scorer,
    Texts,
    by_name,
    check_array,
    number,
    proportions,
    shares,
    text_batches,
)

if TYPE_CHECKING:
    from curate.kernels.streams import NgramStream

NORMALIZATIONS = ("chunk", "mean", "sum", "sqrt")
CHUNK_TOKENS = 128  # the paper's unit of text
REFERENCE_EPSILON = 1e-8
AUTO_NGRAMS_PER_BUCKET = 2_000  # noise of 0.001 to 0.003 nats, a tenth of what a target of 100,000 n-grams has
REFERENCE = {"hash": "sha256", "smoothing": "epsilon", "normalize": "sum", "temperature": 1.0, "min_tokens": 100}


@dataclass
class TargetCounts:
    """What a target's documents add up to: bucket counts, and the sums that its adequacy needs."""

    counts: np.ndarray  # int64[n_buckets]
    squares: np.ndarray
    products: np.ndarray
    total_square: float = 0.0
    n_documents: int = 0

    @classmethod
    def zero(cls, n_buckets: int) -> TargetCounts:
        counts, squares, products = (np.zeros(n_buckets, np.int64) for _ in range(3))
        return cls(counts, squares, products)

    def add(self, stream: NgramStream) -> None:
        from curate.kernels.calls import moments

        more = moments(stream, len(self.counts))
        self.counts += more.counts
        self.squares += more.squares
        self.products += more.products
        lengths = np.diff(stream.ends, prepend=0).astype(float)
        self.total_square += float(np.square(lengths).sum())
        self.n_documents += int((lengths > 0).sum())

    def merge(self, other: TargetCounts) -> None:
        self.counts += other.counts
        self.squares += other.squares
        self.products += other.products
        self.total_square += other.total_square
        self.n_documents += other.n_documents


class Dsir(Scorer):
    """Log importance weights of documents: how much likelier their n-grams are in the target than in raw.

    Parameters
    ----------
    n, n_buckets, hash, hash_seed, tokenizer : the features, see `NgramFeatures`.
    smoothing : pseudo-count added to every bucket of both distributions, or "epsilon": the reference's 1e-8
        inside the logarithms, with which one unseen bucket costs about 9 nats.
    normalize : "chunk", the mean log-ratio per n-gram times the number of n-grams of a 128-token chunk (255
        for n = 2), so that length does not decide; "mean"; "sum", the paper's formula on whole documents;
        "sqrt", the sum over the square root of the number of n-grams.
    temperature : divides the log weights; above 1 softens a Gumbel draw.
    min_tokens : documents with fewer have no score.
    num_tokens_to_fit : n-grams of raw to fit on: a number, "all", or "auto" (2,000 a bucket). The sample is
        whole documents by a hash of their id, the same whatever the files, and up to twice as large.
    separate_targets : a score for each target, instead of one for all of them pooled.
    target_proportions : share of the budget for each separate target; by default their shares of n-grams.
    compat : the reference package (data-selection 1.0.3): "sha256", "epsilon", "sum", 100 tokens, all of raw.

    Attributes
    ----------
    log_ratio_ : float64[n_targets, n_buckets], nats.
    raw_counts_, target_counts_ : int64[n_buckets], int64[n_targets, n_buckets].
    target_names_, target_proportions_, adequacy_ : one a target.
    """

    method = "dsir"
    log_weights = True
    default_draw = "gumbel"

    def __init__(
        self,
        *,
        n: int = 2,
        n_buckets: int = 10_000,
        hash: str | None = None,
        hash_seed: int = 0,
        tokenizer: str | None = None,
        smoothing: float | str | None = None,
        normalize: str | None = None,
        temperature: float | None = None,
        min_tokens: int | None = None,
        num_tokens_to_fit: int | str | None = None,
        separate_targets: bool = False,
        target_proportions: Sequence[float] | float | None = None,
        compat: bool = False,
    ) -> None:
        given = {
            "hash": hash,
            "smoothing": smoothing,
            "normalize": normalize,
            "temperature": temperature,
            "min_tokens": min_tokens,
        }
        ours = {"hash": "fast", "smoothing": 0.5, "normalize": "chunk", "temperature": 1.0, "min_tokens": 20}
        chosen = {k: v if v is not None else (REFERENCE if compat else ours)[k] for k, v in given.items()}
        self.features = NgramFeatures(n, n_buckets, str(chosen["hash"]), hash_seed, tokenizer)
        self.smoothing: float | str = chosen["smoothing"]  # type: ignore[assignment]
        self.normalize = str(chosen["normalize"])
        self.temperature = float(number("temperature", chosen["temperature"]))
        self.min_tokens = int(number("min_tokens", chosen["min_tokens"]))
        self.num_tokens_to_fit = num_tokens_to_fit if num_tokens_to_fit is not None else "all" if compat else "auto"
        self.separate_targets = separate_targets
        self.target_proportions = proportions(separate_targets, target_proportions)
        self.compat = compat
        self._check()

    def _check(self) -> None:
        if not isinstance(self.compat, bool):
            raise UsageError(f"compat={self.compat!r}: must be true or false")
        if self.normalize not in NORMALIZATIONS:
            raise unknown("normalization", self.normalize, NORMALIZATIONS)
        if not self.temperature > 0:
            raise UsageError(f"temperature={self.temperature}: must be above 0")
        if isinstance(self.smoothing, str):
            if self.smoothing != "epsilon":
                raise UsageError(f"smoothing={self.smoothing!r}: a pseudo-count such as 0.5, or 'epsilon'")
        elif not number("smoothing", self.smoothing) > 0:
            raise UsageError(f"smoothing={self.smoothing}: must be above 0, or some log-ratios are infinite")
        if isinstance(self.num_tokens_to_fit, str) and self.num_tokens_to_fit not in ("auto", "all"):
            raise UsageError(f"num_tokens_to_fit={self.num_tokens_to_fit!r}: a number, 'auto' or 'all'")
        if not isinstance(self.num_tokens_to_fit, str) and number("num_tokens_to_fit", self.num_tokens_to_fit) <= 0:
            raise UsageError(f"num_tokens_to_fit={self.num_tokens_to_fit}: must be above 0, or 'auto' or 'all'")
        if self.min_tokens < 0:
            raise UsageError(f"min_tokens={self.min_tokens}: must be 0 or more")

    def settings(self) -> dict[str, Any]:
        """All settings with their values: what a recipe and a manifest hold."""
        return asdict(self.features) | {
            "smoothing": self.smoothing,
            "normalize": self.normalize,
            "temperature": self.temperature,
            "min_tokens": self.min_tokens,
            "num_tokens_to_fit": self.num_tokens_to_fit,
            "separate_targets": self.separate_targets,
            "target_proportions": self.target_proportions,
            "compat": self.compat,
        }

    # ---- fitting

    @property
    def raw_sample(self) -> RawSample:
        """N-grams of raw to fit on."""
        if self.num_tokens_to_fit == "all":
            return RawSample("n-grams", math.inf)
        if self.num_tokens_to_fit == "auto":
            return RawSample("n-grams", AUTO_NGRAMS_PER_BUCKET * self.features.n_buckets)
        return RawSample("n-grams", int(self.num_tokens_to_fit))

    def fit(self, *, target: Texts | Mapping[str, Texts], raw: Texts = (), workers: int = 1) -> Dsir:
        """Fit on texts; all of raw is used.

        Parameters
        ----------
        target : texts, or texts by name of target. raw : texts.
        """
        targets = {name: self.count_target(texts) for name, texts in by_name(target).items()}
        counts = np.zeros(self.features.n_buckets, np.int64)
        for texts in text_batches(raw):
            counts += np.bincount(self.features.stream(texts).buckets, minlength=len(counts))
        return self.fit_counts(targets, counts)

    def count_target(self, texts: Texts) -> TargetCounts:
        """The counts of a target's texts."""
        total = TargetCounts.zero(self.features.n_buckets)
        for some in text_batches(texts):
            total.add(self.features.stream(some))
        return total

    def fit_counts(self, targets: Mapping[str, TargetCounts], raw_counts: np.ndarray) -> Dsir:
        """Fit on bucket counts: of each target by name, and of raw (int64[n_buckets])."""
        for name, target in targets.items():
            if not target.counts.sum():
                raise InputError(f"target {name!r} has no tokens: nothing to select for")
        if not raw_counts.sum():
            raise InputError(
                "the raw corpus has no tokens to fit on: its files are empty, or --text-column names another column"
            )
        sizes = [float(t.counts.sum()) for t in targets.values()]
        if self.separate_targets:
            used = dict(targets)
        else:
            pooled = TargetCounts.zero(self.features.n_buckets)
            for target in targets.values():
                pooled.merge(target)
            used = {"+".join(targets): pooled}
        self.target_names_ = list(used)
        self.raw_counts_ = raw_counts.astype(np.int64)
        self.target_counts_ = np.stack([t.counts for t in used.values()])
        self.log_ratio_ = log_ratio(self.target_counts_, self.raw_counts_, self.smoothing)
        self.target_proportions_ = shares(self.target_proportions, sizes) if self.separate_targets else [1.0]
        self.adequacy_ = [self._adequacy(t) for t in used.values()]
        return self

    def _adequacy(self, target: TargetCounts) -> Adequacy:
        kl = kl_divergence(smoothed(target.counts, 0.5), smoothed(self.raw_counts_, 0.5))
        sums = (target.counts, target.squares, target.products)
        return adequacy(*sums, target.total_square, target.n_documents, kl)

    # ---- scoring

    def scores(self, texts: Any) -> np.ndarray:
        """Log importance weights, nats."""
        return self.score_documents(texts)[0]

    def score_documents(self, texts: Any, vectors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(scores, tokens)`` of Arrow strings; nan where not eligible."""
        return self.score_stream(self.features.stream(texts))

    def score_stream(self, stream: NgramStream) -> tuple[np.ndarray, np.ndarray]:
        """``(scores float64[n_docs, n_targets], lengths in tokens)`` of buckets; nan where not eligible."""
        from curate.kernels.calls import sums

        n_ngrams = np.diff(stream.ends, prepend=0)
        scores = np.stack([sums(stream.buckets, stream.ends, table) for table in self.log_ratio_], axis=1)
        scores = self._normalized(scores, n_ngrams)
        scores[~self.eligible(stream.n_tokens, n_ngrams)] = np.nan
        return scores, stream.n_tokens

    def eligible(self, n_tokens: np.ndarray, n_ngrams: np.ndarray) -> np.ndarray:
        """Which documents are long enough. With ``compat`` by the reference's estimate of the length."""
        n = self.features.n
        lengths = (n_ngrams + n * (n - 1) // 2) // n if self.compat else n_tokens
        if self.compat:
            return lengths >= self.min_tokens
        return (lengths >= self.min_tokens) & (n_ngrams > 0)

    def _normalized(self, total: np.ndarray, n_ngrams: np.ndarray) -> np.ndarray:
        count = np.maximum(n_ngrams, 1)[:, None].astype(float)
        if self.normalize == "sum":
            scores = total
        elif self.normalize == "sqrt":
            scores = total / np.sqrt(count)
        elif self.normalize == "mean":
            scores = total / count
        else:
            scores = total / count * chunk_ngrams(self.features.n)
        return scores if self.temperature == 1.0 else scores / self.temperature

    # ---- files

    def arrays(self) -> dict[str, np.ndarray]:
        """Log-ratios and counts."""
        return {"log_ratio": self.log_ratio_, "raw_counts": self.raw_counts_, "target_counts": self.target_counts_}

    def state(self) -> dict[str, Any]:
        """What is known of the targets."""
        return {"adequacy": [asdict(a) for a in self.adequacy_]}

    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take back what `arrays` and `state` gave."""
        self.log_ratio_ = arrays["log_ratio"]
        self.raw_counts_ = arrays["raw_counts"]
        self.target_counts_ = arrays["target_counts"]
        self.adequacy_ = [Adequacy(**a) for a in state["adequacy"]]
        n_targets, n_buckets = len(self.target_names_), self.features.n_buckets
        check_array("log_ratio", self.log_ratio_, np.float64, (n_targets, n_buckets))
        check_array("raw_counts", self.raw_counts_, np.int64, (n_buckets,))
        check_array("target_counts", self.target_counts_, np.int64, (n_targets, n_buckets))


def log_ratio(target_counts: np.ndarray, raw_counts: np.ndarray, smoothing: float | str) -> np.ndarray:
    """log p_target - log p_raw per bucket, nats.

    Parameters
    ----------
    target_counts : int64[n_targets, n_buckets]. raw_counts : int64[n_buckets].
    smoothing : pseudo-count of both, or "epsilon" for log(p + 1e-8) as in the reference package.
    """
    if smoothing == "epsilon":
        p = target_counts / target_counts.sum(axis=-1, keepdims=True)
        q = raw_counts / raw_counts.sum()
        return np.log(p + REFERENCE_EPSILON) - np.log(q + REFERENCE_EPSILON)
    alpha = float(smoothing)
    return np.log(smoothed(target_counts, alpha)) - np.log(smoothed(raw_counts, alpha))


def chunk_ngrams(n: int) -> int:
    """N-grams of orders 1..n in a chunk of 128 tokens."""
    return sum(CHUNK_TOKENS - order + 1 for order in range(1, n + 1))
