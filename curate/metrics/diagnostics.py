"""What a user should know about a selection before trusting it, and the warnings that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from curate.io.run import finite
from curate.metrics.adequacy import MIN_DOCUMENTS, MIN_SIGNAL_TO_NOISE, WARN, Adequacy

COLLAPSED_FRACTION = 0.01  # of the number drawn
LENGTH_CORRELATION = 0.7
GUMBEL_STD = math.pi / math.sqrt(6)


@dataclass(frozen=True)
class Diagnostics:
    """Of one score (one target, or all pooled).

    ``effective_sample_size``: documents that the weights exp(score) are worth; None where scores, unlike the
    log weights of DSIR (nats), are none;
    ``length_correlation``: of score and tokens; ``top_k_overlap``: the share of what was drawn that the
    best scores alone would have taken; lengths in tokens at the quantiles; ``sources``: share of the
    documents of each source.
    """

    target: str
    n_documents: int
    n_eligible: int
    n_selected: int
    draw: str
    score_mean: float
    score_std: float
    score_min: float
    score_max: float
    effective_sample_size: float | None
    length_correlation: float
    top_k_overlap: float
    length_raw: dict[str, int]
    length_selected: dict[str, int]
    sources_raw: dict[str, float]
    sources_selected: dict[str, float]
    normalize: str | None
    adequacy: Adequacy | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what is not a number is None."""
        return dict(finite(asdict(self)))


def shares(sizes: dict[str, dict[str, int]], unit: str = "documents") -> dict[str, float]:
    """The share of each value, largest first."""
    whole = sum(s[unit] for s in sizes.values()) or 1
    ordered = sorted(sizes.items(), key=lambda item: (-item[1][unit], item[0]))
    return {name: s[unit] / whole for name, s in ordered}


def warnings(of: Diagnostics) -> list[str]:
    """What is wrong with a selection, each with its numbers and what to do."""
    found = [*_about_weights(of), *_about_target(of)]
    name = f"target {of.target!r}: " if of.target else ""
    return [name + text for text in found]


def _about_weights(of: Diagnostics) -> Sequence[str]:
    found = []
    if of.n_eligible > 1 and of.score_std == 0:
        found.append("all documents have the same score: nothing distinguishes them; give another target")
    worth = of.effective_sample_size
    collapsed = worth is not None and worth < COLLAPSED_FRACTION * of.n_selected
    if of.draw == "gumbel" and collapsed and of.n_selected >= 100:
        found.append(
            f"the weights have collapsed: their effective sample size is {worth:,.1f} documents for "
            f"{of.n_selected:,} drawn (std of log weights {of.score_std:,.1f}, Gumbel noise {GUMBEL_STD:.2f}), so the "
            f"draw is a ranking ({of.top_k_overlap:.0%} of it is the top-k); to sample more softly, at a price in "
            "relevance, give --max-kl 1 (nats), or raise --set temperature"
        )
    if abs(of.length_correlation) > LENGTH_CORRELATION:
        longer = "longer" if of.length_correlation > 0 else "shorter"
        way_out = (
            "use --set normalize=chunk"
            if of.normalize in ("sum", "sqrt")
            else "compare the length quantiles, or draw --per a column"
        )
        found.append(
            f"the score is mostly length: its correlation with the number of tokens is {of.length_correlation:+.2f}, "
            f"{longer} documents win; {way_out}"
        )
    return found


def _about_target(of: Diagnostics) -> Sequence[str]:
    a = of.adequacy
    if a is None:
        return []
    found = []
    if a.n_documents < MIN_DOCUMENTS:
        found.append(
            f"the target has {a.n_documents:,} documents; under {MIN_DOCUMENTS} its noise cannot even be estimated: "
            "give more examples"
        )
    elif a.delta > WARN:
        found.append(
            f"the target is small for {a.n_buckets:,} buckets: {a.n_ngrams:,} n-grams in {a.n_documents:,} documents "
            f"are worth {a.n_effective:,.0f} independent ones (noise {a.risk:.2f} nats, delta {a.delta:.2f}, "
            f"want under {WARN}); give more examples, or --set n_buckets={max(100, round_down(a.n_buckets_supported))}"
        )
    if a.signal_to_noise < MIN_SIGNAL_TO_NOISE:
        found.append(
            f"little distinguishes the target from raw: KL(target || raw) is {a.kl_from_raw:.3f} nats, "
            f"{a.signal_to_noise:.1f} times its noise (want {MIN_SIGNAL_TO_NOISE:g}); the ranking is mostly noise: "
            "give more examples, or take a random sample (--draw uniform)"
        )
    return found


def round_down(value: int) -> int:
    """To one significant digit."""
    if value < 10:
        return value
    digit = 10 ** (len(str(value)) - 1)
    return value // digit * digit
