"""What stands behind a bucket: the n-grams that fall into it most often."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.survey.sample import FEATURES, N_FINE, Facts

N_SHOWN = 40  # n-grams gained, and as many lost
OCCURRENCES = 10  # of a bucket, by which it is named
READ_BYTES = 8_000_000  # of each sample that are searched for them
PIECE = 100  # documents
MAX_TEXT = 20_000  # characters; longer documents name nothing, tokenising them takes too long
FAR_MORE = np.log(3)
MAX_NAME = 30  # characters
LETTERS = re.compile(r"[^\W\d_]{2}|[^\W\d_\x00-\u2fff]")  # begins with two letters, or one that is a word
TOKEN = re.compile(r"\w+|[^\w\s]+")


@dataclass(frozen=True)
class Shift:
    """An n-gram with its occurrences in a million n-grams; ``nats``: its part of KL(selected || raw), or reversed.

    An n-gram that one of them lacks is taken to be there half a time in as many n-grams as the smaller of them has:
    a smaller corpus does not look poorer than it is.
    """

    ngram: str
    raw: float
    selected: float
    target: float | None
    nats: float


def shifts(
    raw: Facts, selected: Facts, targets: Sequence[Facts], texts: Sequence[Any], n: int = N_SHOWN
) -> tuple[list[Shift], list[Shift]]:
    """The n-grams that a selection gained most against raw, and those that it lost most.

    Gained ones are those with most of KL(selected || raw), lost ones with most of KL(raw || selected).

    Parameters
    ----------
    texts : string arrays, those of the samples, in which the n-grams are looked up.
    """
    in_raw, in_selected = _rates(raw), _rates(selected)
    in_target = np.mean([_rates(t) for t in targets], axis=0) if targets else None
    half = 0.5 / max(1, min(raw.fine.sum(), selected.fine.sum()))
    log_ratio = np.log(in_selected + half) - np.log(in_raw + half)
    gained, lost = in_selected * log_ratio, -in_raw * log_ratio
    wanted = [_largest(nats, n) for nats in (gained, lost)]
    names = ngram_names(np.concatenate(wanted), texts)
    found = []
    for buckets, nats in zip(wanted, (gained, lost), strict=True):
        found.append(
            [
                Shift(
                    names[b],
                    1e6 * float(in_raw[b]),
                    1e6 * float(in_selected[b]),
                    None if in_target is None else 1e6 * float(in_target[b]),
                    float(nats[b]),
                )
                for b in buckets.tolist()
                if b in names
            ]
        )
    return found[0], found[1]


def distinctive(counts: np.ndarray, others: np.ndarray, texts: Any, n: int) -> list[str]:
    """The n-grams of letters that some documents have far more of than others, those with most of the KL first.

    Parameters
    ----------
    counts, others : int64[N_FINE], n-grams by bucket of the documents and of those that they are compared with.
    texts : Arrow strings of the documents, in which the n-grams are looked up.
    """
    here, there = (c / max(1, c.sum()) for c in (counts, others))
    log_ratio = np.log(here + 0.5 / max(1, others.sum())) - np.log(there + 0.5 / max(1, others.sum()))
    buckets = _largest(np.where(log_ratio > FAR_MORE, here * log_ratio, 0), 15 * n)
    names = ngram_names(buckets, [texts])
    chosen: list[str] = []
    for name in (names.get(b, "") for b in buckets.tolist()):
        said = any(name in other or other in name for other in chosen)
        if not said and len(name) <= MAX_NAME and LETTERS.match(name) and name.isprintable():
            chosen.append(name)
    return chosen[:n]


def commonest(of: Facts, texts: Sequence[Any], n: int = N_SHOWN) -> list[tuple[str, float]]:
    """The n-grams of two words and more letters that a corpus has most of, with their rate in a million."""
    rates = _rates(of)
    buckets = _largest(rates, 30 * n)
    names = ngram_names(buckets, texts)
    pairs = [(names[b], 1e6 * float(rates[b])) for b in buckets.tolist() if " " in names.get(b, "")]
    return pairs[:n]


def ngram_names(buckets: np.ndarray, texts: Sequence[Any]) -> dict[int, str]:
    """The commonest n-gram among the first occurrences of each of some buckets; tokens are joined by blanks.

    Buckets that do not occur in the beginnings of ``texts`` have no name.
    """
    wanted = np.zeros(N_FINE, np.bool_)
    wanted[buckets] = True
    seen: dict[int, Counter[str]] = {int(b): Counter() for b in buckets}
    for sample in texts:
        for some in _pieces(_beginning(sample)):
            _look_up(some, wanted, seen)
            wanted[[b for b, counter in seen.items() if counter.total() >= OCCURRENCES]] = False
    return {b: min(c, key=lambda g: (-c[g], g)) for b, c in seen.items() if c}


def _look_up(texts: Any, wanted: np.ndarray, seen: dict[int, Counter[str]]) -> None:
    stream = FEATURES.stream(texts)
    places = np.flatnonzero(wanted[stream.buckets])
    document = np.searchsorted(stream.ends, places, side="right")
    tokens: dict[int, list[str]] = {}
    starts = np.concatenate([[0], stream.ends[:-1]])
    for place, doc, bucket in zip(places.tolist(), document.tolist(), stream.buckets[places].tolist(), strict=True):
        counter = seen[bucket]
        if counter.total() >= OCCURRENCES or (doc in tokens and not tokens[doc]):
            continue
        if doc not in tokens:
            text = texts[doc].as_py()
            tokens[doc] = TOKEN.findall(text.lower()) if len(text) <= MAX_TEXT else []
        if gram := _gram(tokens[doc], place - int(starts[doc])):
            counter[gram] += 1


def _gram(tokens: list[str], place: int) -> str:
    """The n-gram at a place of a document's stream: its first token, then of each token that, and it with the last."""
    last = (place + 1) // 2
    if last >= len(tokens):
        return ""
    return tokens[last] if place % 2 or not place else f"{tokens[last - 1]} {tokens[last]}"


def _beginning(texts: Any) -> Any:
    import pyarrow.compute as pc

    sizes = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
    return texts.slice(0, int(np.searchsorted(sizes, READ_BYTES)) + 1)


def _pieces(texts: Any) -> Iterator[Any]:
    """A few documents at a time: most buckets are named after the first, and need not be looked for any more."""
    for start in range(0, len(texts), PIECE):
        yield texts.slice(start, PIECE)


def _rates(of: Facts) -> np.ndarray:
    return of.fine / max(1, of.fine.sum())


def _largest(values: np.ndarray, n: int) -> np.ndarray:
    """Places of the largest values above 0, at most `n`, largest first."""
    order = np.argsort(-values, kind="stable")[:n]
    return order[values[order] > 0]
