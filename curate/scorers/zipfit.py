"""ZIP-FIT: how well a document compresses together with the target's texts (arXiv:2410.18194)."""

from __future__ import annotations

import hashlib
import heapq
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import InputError, UsageError, unknown
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


class ZipFit:
    """Alignment of documents with a target: one less the mean normalised compression distance to its texts.

    Every pair is compressed, so the cost is documents times target texts; see `Primed` for one compression
    a document. Alignment favours documents that are as long as the target's texts.

    Parameters
    ----------
    codec, level : see `Codec`.
    max_target_texts : use at most so many of the target's texts, by a hash of what they say.
    compat : the package zip-fit 1.0.9 at the same codec and level; a document without text has a score too.

    Attributes
    ----------
    targets_ : `Texts`. target_sizes_ : float64[n_texts], bytes of each alone. target_names_ : names.
    """

    def __init__(
        self,
        *,
        codec: str = "gzip",
        level: int | None = None,
        max_target_texts: int | None = None,
        compat: bool = False,
    ) -> None:
        if not isinstance(compat, bool):
            raise UsageError(f"compat={compat!r}: must be true or false")
        if compat and codec not in COMPAT_CODECS:
            raise UsageError(f"the package zip-fit has no codec {codec!r} (there are: {', '.join(COMPAT_CODECS)})")
        if max_target_texts is not None and (isinstance(max_target_texts, bool) or max_target_texts < 1):
            raise UsageError(f"max_target_texts={max_target_texts!r}: must be 1 or more")
        self.codec = Codec(codec, level)
        self.max_target_texts = max_target_texts
        self.compat = compat

    def settings(self) -> dict[str, Any]:
        """All settings with their values: what a recipe and a manifest hold."""
        return {
            "codec": self.codec.name,
            "level": self.codec.level,
            "max_target_texts": self.max_target_texts,
            "compat": self.compat,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ZipFit:
        """From ``key: value`` pairs, with the near name for an unknown key."""
        known = list(cls().settings())
        for key in settings:
            if key not in known:
                raise unknown("setting of zipfit", key, known)
        return cls(**settings)

    def identity(self) -> dict[str, Any]:
        """What determines a score beside the document, for naming work: settings, codec, target."""
        return {"method": "zipfit", **self.settings(), **self.codec.identity(), "target": self.target_sha256_}

    def fit(self, *, target: Iterable[str] | Mapping[str, Iterable[str]]) -> ZipFit:
        """Take in the target: texts, or texts by name of target, which are pooled.

        Raises
        ------
        InputError : no text that is not empty.
        """
        named = target if isinstance(target, Mapping) else {"target": target}
        texts = [text for of in named.values() for text in of if text or self.compat]
        if not any(texts):
            raise InputError(f"target {'+'.join(named)!r} has no text: nothing to select for")
        if self.max_target_texts is not None and len(texts) > self.max_target_texts:
            texts = sorted(texts, key=_digest)[: self.max_target_texts]
        self.target_names_ = ["+".join(named)]
        return self._take(Texts.of(texts))

    def _take(self, texts: Texts) -> ZipFit:
        start, stop = texts.offsets[0], texts.offsets[-1]
        self.targets_ = Texts(texts.data[start:stop], texts.offsets - start)
        self.target_sizes_ = self.codec.sizes(self.targets_).astype(float)
        self._prepared = self.codec.prepared(self.targets_)
        digest = hashlib.sha256(np.diff(self.targets_.offsets).tobytes())
        digest.update(self.targets_.data.tobytes())
        self.target_sha256_ = digest.hexdigest()
        return self

    def score(self, texts: Any, *, workers: int = 1) -> np.ndarray:
        """Alignments, higher is better; nan where a document has no text (with ``compat`` it has a score).

        Parameters
        ----------
        texts : sequence of str, or Arrow strings. workers : threads, each with documents of its own.

        Returns
        -------
        float64[n_docs]; what a document gets does not depend on the others.
        """
        docs = Texts.of(texts)
        return np.fromiter(_each(lambda i: self._score(docs.array(i)), range(len(docs)), workers), float, len(docs))

    def _score(self, document: np.ndarray) -> float:
        if not len(document) and not self.compat:
            return float("nan")
        return float(np.mean(self.similarities(document)))

    def similarities(self, document: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """float64[m]: 1 - NCD of a document (uint8[...]) and some target texts (int64[m]; None is all)."""
        alone = float(self.codec.size(document.tobytes()))
        others = self.target_sizes_ if which is None else self.target_sizes_[which]
        joint = self.codec.joint_sizes(document, self.targets_, which, self._prepared)
        return 1 - ncd(alone, others, joint.astype(float))

    def save(self, folder: str | Path) -> None:
        """Write ``scorer.json`` and ``arrays.npz``; no code in either."""
        from curate.io.paths import atomic

        folder = Path(folder)
        with atomic(folder / "arrays.npz") as part, open(part, "wb") as stream:
            np.savez(stream, data=self.targets_.data, offsets=self.targets_.offsets)
        state = {"method": "zipfit", "settings": self.settings(), "target_names": self.target_names_}
        with atomic(folder / "scorer.json") as part:
            part.write_text(json.dumps(state, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> ZipFit:
        """Read what `save` wrote.

        Raises
        ------
        InputError : it is not there, or not a scorer's.
        """
        folder = Path(folder)
        try:
            state = json.loads((folder / "scorer.json").read_text())
            model = cls.from_settings(state["settings"])
            model.target_names_ = state["target_names"]
            with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
                return model._take(Texts(arrays["data"], arrays["offsets"]))
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{folder}: not a saved scorer ({error})") from error


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


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
        alone = model.codec.size(document.tobytes())
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
    model : fitted. texts : sequence of str, or Arrow strings; those without text do not take part.
    k : how many win. z : half width of intervals in standard errors. batch : texts between two looks.
    pilot : documents scored in full to learn what similarity depends on; by a hash of what they say.

    Raises
    ------
    InputError : fewer than ``k`` documents have text.
    """
    docs = Texts.of(texts)
    rows = np.flatnonzero(np.diff(docs.offsets) > 0)
    if k > len(rows):
        raise InputError(f"cannot keep {k:,} documents: only {len(rows):,} of {len(docs):,} have text")
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
