"""What a selection costs in likeness to raw, in nats, and what a cut at the best scores is like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from curate.metrics.calibration import best_of_n_kl, selection_bound
from curate.metrics.weights import LengthHistogram


@dataclass(frozen=True)
class Spent:
    """Nats from raw to what was selected.

    ``documents``: KL(selected || documents with a score); of a draw by chances, of its mean sample: what a tilt
    was given is more by what capping at a chance of 1 saves.
    ``ngrams_at_most``: no distribution of n-grams of up to ``n`` tokens can be further from that of raw, KL
    (`selection_bound`); documents of 65,536 tokens or more are counted to 1%.
    ``chances``: of a draw by chances, what they add up to in the budget's unit (``expected``), for how many documents
    they are 1 (``n_certain``) or next to 0 (``n_never``: weights do not speak for these), Kish's
    ``effective_sample_size`` of them. ``weights``: how scores became weights, and what was found for that.
    ``mean_rank``, ``best_of``, ``best_of_nats``: of a top-k, the mean quantile of its scores; that is what the best
    of so many random documents has on average, for so many nats.
    """

    documents: float
    ngrams_at_most: float | None
    n: int
    chances: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    mean_rank: float | None = None
    best_of: int | None = None
    best_of_nats: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For the manifest; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}


def n_ngrams(lengths: LengthHistogram, n: int) -> float:
    """How many n-grams of order 1 to n there are in documents of these lengths in tokens."""
    bins = np.flatnonzero(lengths.counts)
    tokens = np.asarray(LengthHistogram.lengths(bins), float)
    each = sum(np.maximum(tokens - order, 0) for order in range(n))
    return float(np.sum(lengths.counts[bins] * each))


def spent(
    n_eligible: int,
    n_selected: int,
    raw: LengthHistogram,
    selected: LengthHistogram,
    n: int,
    *,
    draw: Mapping[str, Any] | None = None,
    top_k: bool = False,
) -> Spent:
    """What was spent.

    Parameters
    ----------
    n_eligible : documents with a score. n_selected : from 1 up.
    raw, selected : lengths in tokens. n : the highest order of n-grams.
    draw : what the draw found out about weights and chances. top_k : whether the best scores were taken.
    """
    about = dict(draw or {})
    documents = float(about.pop("kl", math.log(n_eligible / n_selected)))
    weights = about.pop("weights", {})
    all_of_it, kept = n_ngrams(raw, n), n_ngrams(selected, n)
    bound = selection_bound(all_of_it, kept) if kept else None
    if not top_k:
        return Spent(documents, bound, n, about, weights)
    rank = 1 - n_selected / n_eligible / 2
    best_of = max(1, round(rank / (1 - rank)))  # the best of n has a mean rank of n / (n + 1)
    return Spent(documents, bound, n, about, weights, rank, best_of, best_of_n_kl(best_of))


def weights_text(weights: Mapping[str, Any]) -> str:
    """How scores became weights as words, from a recipe; empty where they are as they were."""
    return "".join(f", {name.replace('_', ' ')} {_word(value)}" for name, value in weights.items())


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def spent_text(of: Mapping[str, Any]) -> list[str]:
    """What was spent as lines of text, from `Spent.as_dict`."""
    grams = "tokens" if of["n"] == 1 else f"n-grams of up to {of['n']} tokens"
    bound = f", at most {of['ngrams_at_most']:.2f} in {grams}" if "ngrams_at_most" in of else ""
    lines = [f"{of['documents']:.2f} nats from the documents with a score{bound}"]
    if "weights" in of:
        lines.append(f"weights{weights_text(of['weights'])[1:]}")
    if "best_of" in of:
        lines.append(
            f"mean rank {of['mean_rank']:.3f}, as the best of {of['best_of']:,} random documents has for "
            f"{of['best_of_nats']:.2f} nats"
        )
    if "chances" in of:
        about = of["chances"]
        never = f", {about['n_never']:,} never are" if about["n_never"] else ""
        lines.append(
            f"chances add up to {about['expected']:,.1f} {about['unit']}, {about['n_certain']:,} documents are certain "
            f"to be kept{never}; effective sample size {about['effective_sample_size']:,.1f}"
        )
    return lines
