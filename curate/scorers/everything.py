"""No scorer at all: every document is worth the same, for runs that only clean, or sample at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from curate.features.ngrams import NgramFeatures
from curate.scorers.base import Scorer, Texts, by_name, whole


class Everything(Scorer):
    """The score of every document is 1, whatever it says. No target is needed.

    Parameters
    ----------
    min_tokens : documents with fewer have no score. tokenizer : by which they are counted, see `NgramFeatures`.
    """

    method = "all"
    log_weights = False
    needs_target = False

    def __init__(self, *, min_tokens: int = 0, tokenizer: str | None = None) -> None:
        self.min_tokens, self.tokenizer = whole("min_tokens", min_tokens, 0), tokenizer
        self.features = NgramFeatures(n=1, n_buckets=2, tokenizer=tokenizer)

    def fit(self, *, target: Texts | Mapping[str, Texts] = (), raw: Texts = (), workers: int = 1) -> Self:
        """There is nothing to fit."""
        self.target_names_ = list(by_name(target)) or ["target"]
        self.target_proportions_ = [1.0]
        return self

    def scores(self, texts: Any) -> np.ndarray:
        """float64[n_docs, 1], ones."""
        return np.ones((len(texts), 1))

    def arrays(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Nothing to take back."""
