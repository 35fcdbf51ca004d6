"""Holding out: the part of a target that is not fitted to, so that the selection can be measured with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.errors import UsageError
from curate.io.corpus import Corpus
from curate.sampling.noise import HOLDOUT, uniform
from curate.steps.documents import documents, raw_batches


def checked_fraction(holdout: float | None) -> float | None:
    """The share of the target to hold out, as given.

    Raises
    ------
    UsageError : it is not between 0 and 1.
    """
    if holdout is not None and not 0 < holdout < 1:
        raise UsageError(f"--holdout {holdout:g}: must be between 0 and 1 (0.2 holds out a fifth of the target)")
    return holdout


def normalised(text: str) -> str:
    """A text without what copies differ in: case, and how much white space there is."""
    return " ".join(text.lower().split())


def held_out(texts: pa.Array, fraction: float) -> np.ndarray:
    """bool[n_texts]: which texts are held out, by a hash of what they say: copies are on the same side.

    A text stays held out when the fraction grows.
    """
    said = pa.array([normalised(text) for text in texts.to_pylist()], pa.large_string())
    return uniform(said, 0, HOLDOUT) < fraction


def target_texts(corpus: Corpus, batch_bytes: int, holdout: float | None = None) -> Iterator[pa.Array]:
    """The texts of a target that are fitted to, some at a time: all but those held out."""
    for texts in _texts(corpus, batch_bytes):
        yield texts if holdout is None else texts.filter(pa.array(~held_out(texts, holdout)))


def held_out_texts(corpus: Corpus, batch_bytes: int, holdout: float | None = None) -> Iterator[pa.Array]:
    """The texts that `target_texts` leaves out; with None all of them, of a file made for measuring."""
    for texts in _texts(corpus, batch_bytes):
        yield texts if holdout is None else texts.filter(pa.array(held_out(texts, holdout)))


def _texts(corpus: Corpus, batch_bytes: int) -> Iterator[pa.Array]:
    for partition in corpus.partitions:
        for raw in raw_batches(corpus, partition, (), batch_bytes):
            yield documents(corpus, partition, raw, ()).texts
