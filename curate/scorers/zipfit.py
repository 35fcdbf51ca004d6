"""ZIP-FIT: how well a document compresses together with the target's texts (arXiv:2410.18194)."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from curate.errors import InputError, UsageError
from curate.features.ngrams import NgramFeatures
from curate.scorers import base
from curate.scorers.base import Scorer, by_name, text_batches, whole
from curate.scorers.codecs import Codec, Texts

CHUNK = 64  # documents that race against one threshold, which moves in between: the same for any workers
COMPAT_CODECS = ("gzip", "zstd", "lz4")


def ncd(alone: float, others: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Normalised compression distances.

    Parameters
    ----------
    alone : bytes of x. others : float64[n], bytes of each t. joint : float64[n], bytes of x followed by t.
    """
    return (joint - np.minimum(alone, others)) / np.maximum(alone, others)


class ZipFit(Scorer):
    """Alignment of documents with a target: one less the mean normalised compression distance to its texts.

    Every pair is compressed, so the cost is documents times target texts; see `Primed` for one compression
    a document. Alignment favours documents that are as long as the target's texts.

    Parameters
    ----------
    codec, level : see `Codec`.
    max_target_texts : use at most so many of the target's texts, by a hash of what they say.
    compat : the package zip-fit 1.0.9 at the same codec and level; a document without text has a score too.
    min_tokens : documents with fewer have no score; by default 20, with ``compat`` 0.
    tokenizer : that tokens are counted by.

    Attributes
    ----------
    targets_ : `Texts`. target_sizes_ : float64[n_texts], bytes of each alone. target_names_ : names.
    """

    method = "zipfit"
    log_weights = False

    def __init__(
        self,
        *,
        codec: str = "gzip",
        level: int | None = None,
        max_target_texts: int | None = None,
        compat: bool = False,
        min_tokens: int | None = None,
        tokenizer: str | None = None,
    ) -> None:
        if not isinstance(compat, bool):
            raise UsageError(f"compat={compat!r}: must be true or false")
        if compat and codec not in COMPAT_CODECS:
            raise UsageError(f"the package zip-fit has no codec {codec!r} (there are: {', '.join(COMPAT_CODECS)})")
        self.coder = Codec(codec, level)
        self.codec, self.level = self.coder.name, self.coder.level
        self.max_target_texts = None if max_target_texts is None else whole("max_target_texts", max_target_texts, 1)
        self.compat = compat
        self.min_tokens = whole("min_tokens", (0 if compat else 20) if min_tokens is None else min_tokens, 0)
        self.tokenizer = tokenizer
        self.features = NgramFeatures(n=1, tokenizer=tokenizer)

    def identity(self) -> dict[str, Any]:
        """Settings, and the version of the codec."""
        return super().identity() | self.coder.identity()

    def fit(self, *, target: base.Texts | Mapping[str, base.Texts], raw: base.Texts = (), workers: int = 1) -> ZipFit:
        """Take in the target: texts, or texts by name of target, which are pooled; raw is not looked at.

        Raises
        ------
        InputError : no text that is not empty.
        """
        named = by_name(target)
        found: list[bytes] = []
        for of in named.values():
            for some in text_batches(of):
                docs = Texts.of(some)
                found += [text for i in range(len(docs)) if (text := docs.bytes(i)) or self.compat]
        if not any(found):
            raise InputError(f"target {'+'.join(named)!r} has no text: nothing to select for")
        if self.max_target_texts is not None and len(found) > self.max_target_texts:
            found = sorted(found, key=_digest)[: self.max_target_texts]
        self.target_names_, self.target_proportions_ = ["+".join(named)], [1.0]
        return self._take(Texts.of_bytes(found))

    def _take(self, texts: Texts) -> ZipFit:
        start, stop = texts.offsets[0], texts.offsets[-1]
        self.targets_ = Texts(texts.data[start:stop], texts.offsets - start)
        self.target_sizes_ = self.coder.sizes(self.targets_).astype(float)
        self._prepared = self.coder.prepared(self.targets_)
        return self

    def scores(self, texts: Any) -> np.ndarray:
        """Alignments; nan where a document has no text (with ``compat`` it has a score)."""
        docs = Texts.of(texts)
        return np.fromiter((self._score(docs.array(i)) for i in range(len(docs))), float, len(docs))[:, None]

    def _score(self, document: np.ndarray) -> float:
        if not len(document) and not self.compat:
            return float("nan")
        return float(np.mean(self.similarities(document)))

    def similarities(self, document: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """float64[m]: 1 - NCD of a document (uint8[...]) and some target texts (int64[m]; None is all)."""
        alone = float(self.coder.size(document.tobytes()))
        others = self.target_sizes_ if which is None else self.target_sizes_[which]
        joint = self.coder.joint_sizes(document, self.targets_, which, self._prepared)
        return 1 - ncd(alone, others, joint.astype(float))

    def arrays(self) -> dict[str, np.ndarray]:
        """The target's texts."""
        return {"data": self.targets_.data, "offsets": self.targets_.offsets}

    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take back what `arrays` gave."""
        data, offsets = arrays["data"], arrays["offsets"]
        base.check_array("data", data, np.uint8, (None,))
        base.check_array("offsets", offsets, np.int64, (None,))
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
            raise ValueError("offsets are not those of texts")
        self._take(Texts(data, offsets))


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _each(work: Callable[[int], Any], items: Iterable[int], workers: int) -> Iterator[Any]:
    """Results in order, by some threads."""
    if workers == 1:
        return iter([work(i) for i in items])
    with ThreadPoolExecutor(workers) as pool:
        return iter(list(pool.map(work, items)))


# ---- race


@dataclass(frozen=True)
class Race:
    """What a race found, and what it spared.

    ``rows``: int64[k], ascending, the documents that won. ``scores``: float64[k], their exact alignments.
    ``threshold``: the lowest of them. ``compressions`` of ``pairs`` were made; ``in_full`` documents met every text.
    """

    rows: np.ndarray
    scores: np.ndarray
    threshold: float
    compressions: int
    pairs: int
    in_full: int

    @property
    def saved_fraction(self) -> float:
        return 1 - self.compressions / self.pairs


@dataclass(frozen=True)
class Controls:
    """What is known of all target texts before a document meets them, and how similarity goes with it.

    A similarity is taken as ``a + by_size * min/max of both sizes + by_text * typical similarity of the text``
    plus noise; only the noise has to be averaged out. Fitted to a few documents that met every text.
    """

    typical: np.ndarray  # float64[n_texts], mean similarity of each text to the pilot documents
    coefficients: np.ndarray  # float64[2]

    @classmethod
    def fit(cls, similarities: np.ndarray, ratios: np.ndarray) -> Controls:
        """From similarities and size ratios, float64[n_pilot, n_texts], of documents that met every text."""
        typical = similarities.mean(axis=0)
        columns = np.stack([_centred(ratios).ravel(), _centred(np.broadcast_to(typical, ratios.shape)).ravel()], axis=1)
        found, *_ = np.linalg.lstsq(columns, _centred(similarities).ravel(), rcond=None)
        return cls(typical, found)

    def expected(self, ratios: np.ndarray) -> np.ndarray:
        """float64[n_texts]: how much more than usual for the document each text is expected to be like it."""
        return self.coefficients[0] * ratios + self.coefficients[1] * self.typical


def _centred(of: np.ndarray) -> np.ndarray:
    return of - of.mean(axis=1, keepdims=True)


def spread_order(sizes: np.ndarray) -> np.ndarray:
    """int64[n]: texts in an order of which every beginning has small, middling and large ones.

    The texts by size, taken by bit-reversed place (van der Corput).
    """
    n = len(sizes)
    bits = max(1, (n - 1).bit_length())
    places = np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)])
    return np.argsort(sizes, kind="stable")[places[places < n]]


class _Racer:
    """One document's way through the target texts."""

    def __init__(self, model: ZipFit, document: np.ndarray, order: np.ndarray) -> None:
        self.model, self.document, self.order = model, document, order
        alone = model.coder.size(document.tobytes())
        sizes = model.target_sizes_
        self.ratios = np.minimum(alone, sizes) / np.maximum(alone, sizes)
        self.known = np.full(len(order), np.nan)
        self.met = 0

    def meet(self, n: int) -> None:
        """Compress with the next ``n`` texts."""
        which = self.order[self.met : self.met + n]
        self.known[which] = self.model.similarities(self.document, which)
        self.met += len(which)

    def interval(self, controls: Controls, z: float) -> tuple[float, float]:
        """``(estimate, half width)`` of the alignment, of width 0 when every text was met."""
        n = len(self.order)
        if self.met == n:
            return float(np.mean(self.known)), 0.0
        met = self.order[: self.met]
        expected = controls.expected(self.ratios)
        rest = self.known[met] - expected[met]
        width = z * rest.std(ddof=1) * np.sqrt((1 - self.met / n) / self.met)
        return float(rest.mean() + expected.mean()), float(width)


def race(
    model: ZipFit, texts: Any, k: int, *, z: float = 4.0, batch: int = 8, pilot: int = 32, workers: int = 1
) -> Race:
    """The ``k`` best documents by `ZipFit` with fewer compressions: **likely, not certainly, the right ones**.

    A document is dropped once the upper end of its interval, ``z`` standard errors above its estimate, is
    under the k-th best exact score so far. Whoever is left has met every text, so the scores returned are
    exact; one that should have won may be missing. Standard errors are of the normal approximation, after
    what sizes and the texts themselves explain is taken out (`Controls`).

    Every document first meets 2 * ``batch`` texts; the most promising ``k`` are scored in full, and the
    others race against them, best estimate first.

    Parameters
    ----------
    model : fitted. texts : sequence of str, or Arrow strings; those that are too short do not take part.
    k : how many win. z : half width of intervals in standard errors. batch : texts between two looks.
    pilot : documents scored in full to learn what similarity depends on; by a hash of what they say.

    Raises
    ------
    InputError : fewer than ``k`` documents take part.
    """
    for name, value in (("k", k), ("batch", batch), ("pilot", pilot), ("workers", workers)):
        whole(name, value, 1)
    docs = Texts.of(texts)
    long_enough = model.features.stream(base.arrow_strings(texts)).n_tokens >= model.min_tokens
    rows = np.flatnonzero((np.diff(docs.offsets) > 0) & long_enough)
    if k > len(rows):
        raise InputError(f"cannot keep {k:,} documents: only {len(rows):,} of {len(docs):,} have text enough")
    order = spread_order(model.target_sizes_)
    n = len(order)
    digests = {int(i): hashlib.sha256(docs.bytes(int(i))).digest() for i in rows}
    racers = {i: _Racer(model, docs.array(i), order) for i in digests}

    first = sorted(digests, key=lambda i: digests[i])[:pilot]
    list(_each(lambda i: racers[i].meet(n), first, workers))
    similarities = np.stack([racers[i].known for i in first])
    controls = Controls.fit(similarities, np.stack([racers[i].ratios for i in first]))

    def look(i: int) -> float:
        if racers[i].met < n:
            racers[i].meet(2 * batch)
        return racers[i].interval(controls, z)[0]

    estimates = dict(zip(digests, _each(look, digests, workers), strict=True))
    promising = sorted(digests, key=lambda i: (-estimates[i], digests[i], i))
    best: list[tuple[float, int]] = []

    def run(threshold: float, i: int) -> float | None:
        racer = racers[i]
        while racer.met < n:
            estimate, width = racer.interval(controls, z)
            if estimate + width < threshold:
                return None
            racer.meet(batch if threshold > -np.inf else n)
        return racer.interval(controls, z)[0]

    for start in [0, *range(k, len(promising), CHUNK)]:
        threshold = best[0][0] if len(best) == k else -np.inf
        some = promising[start : start + CHUNK] if start else promising[:k]
        for i, score in zip(some, _each(partial(run, threshold), some, workers), strict=True):
            if score is not None:
                (heapq.heappush if len(best) < k else heapq.heappushpop)(best, (score, -i))
    won = sorted((-i, score) for score, i in best)
    return Race(
        np.array([i for i, _ in won], np.int64),
        np.array([score for _, score in won]),
        best[0][0] if best else float("nan"),
        sum(racer.met for racer in racers.values()),
        len(racers) * n,
        sum(racer.met == n for racer in racers.values()),
    )
