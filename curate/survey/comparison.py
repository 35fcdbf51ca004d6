"""How much nearer to a target a selection is than raw: every metric, with its interval or its noise level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curate.engines import LocalEngine
from curate.errors import InputError
from curate.io.corpus import Corpus
from curate.metrics.adequacy import Adequacy
from curate.metrics.characteristic import Discrepancy, characteristic_discrepancy
from curate.metrics.divergences import DIVERGENCES, divergences, probabilities
from curate.metrics.ks import KS, holm, ks
from curate.metrics.reduction import KLReduction, kl_reduction, parity_kl_reduction, thin
from curate.metrics.sinkhorn import sinkhorn_divergence
from curate.progress import Progress
from curate.survey.corpus import SAMPLE_BYTES, Survey, survey
from curate.survey.sample import Facts, coarse_counts, facts

N_CLOUD = 500  # vectors of a corpus for Sinkhorn and the characteristic function
N_FREQUENCIES = 512
N_PERMUTATIONS = 100
N_RESAMPLES = 100
N_PIECES = 5  # of raw, as selections at random
N_ATTRIBUTE = 5_000  # documents by which an attribute is compared: its exact p-value takes time with their product
ATTRIBUTES = ("bytes", "tokens", "bytes a token", "compression ratio")


@dataclass(frozen=True)
class Corner:
    """A surveyed corpus with what was measured on its sample."""

    survey: Survey
    facts: Facts

    @property
    def name(self) -> str:
        return self.survey.name


def look_at(
    corpus: Corpus,
    name: str,
    engine: LocalEngine,
    shown: Progress,
    *,
    sample_bytes: float = SAMPLE_BYTES,
    wanted: Mapping[int, np.ndarray] | None = None,
    holdout: float | None = None,
) -> Corner:
    """Survey a corpus, with a bar, and measure its sample; parameters as of `survey`."""
    with shown.stage(name[:8], sum(p.n_bytes for p in corpus.partitions)) as stage:
        found = survey(
            corpus, name, engine, sample_bytes=sample_bytes, wanted=wanted, holdout=holdout, advance=stage.advance
        )
    return Corner(found, facts(found.texts, engine))


@dataclass(frozen=True)
class Distance:
    """How far from the target raw (nan without one) and the selection are; ``floor``: what is only noise."""

    raw: float
    selected: float
    floor: float


@dataclass(frozen=True)
class Attribute:
    """Whether an attribute is distributed as in the target; ``p_raw``, ``p_selected`` after Holm's correction."""

    raw: KS | None
    selected: KS
    p_raw: float
    p_selected: float


@dataclass(frozen=True)
class Comparison:
    """A selection, and raw where it is known, against one target.

    ``reduction``: KL reduction, with ``parity`` as the paper has it; None without raw. ``at_random``: what random
    documents of raw have that are as many n-grams: under 0, since the n-grams of whole documents cluster.
    ``divergences``: by name, of counts thinned to as many n-grams in raw as in the selection. ``sinkhorn``: of hashed
    n-gram vectors. ``characteristic_raw``, ``characteristic_selected``: with their nulls. ``attributes``: by name.
    ``n_bad_rows``: of each corpus, that could not be read and are not in the comparison.
    """

    target: str
    reduction: KLReduction | None
    parity: float
    at_random: float
    divergences: Mapping[str, Distance]
    sinkhorn: Distance
    characteristic_raw: Discrepancy | None
    characteristic_selected: Discrepancy
    attributes: Mapping[str, Attribute]
    adequacy: Adequacy
    n_bad_rows: Mapping[str, int]

    @property
    def distances(self) -> dict[str, Distance]:
        """All distances but those of attributes, by the names that they are shown under."""
        before, after = self.characteristic_raw, self.characteristic_selected
        characteristic = Distance(before.squared if before else math.nan, after.squared, after.null_high)
        return {
            **{DIVERGENCES[name].title: distance for name, distance in self.divergences.items()},
            "Sinkhorn divergence": self.sinkhorn,
            "characteristic function": characteristic,
        }


def compare(
    target: Corner,
    selected: Corner,
    raw: Corner | None = None,
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    attribute_resamples: int | None = None,
) -> Comparison:
    """Compare samples of a selection, and of raw, with one of a target.

    Parameters
    ----------
    seed : of thinning, resampling and permutations; the same for the same seed.
    n_resamples : for intervals. attribute_resamples: for those of attributes, when it is another number; 0 for none.

    Raises
    ------
    InputError : one of them has no text.
    """
    corners = [c for c in (target, selected, raw) if c is not None]
    for corner in corners:
        if not corner.facts.counts.sum():
            raise InputError(
                f"{corner.name}: no text to compare in {corner.survey.n_documents:,} documents; "
                "pass --text-column with the column that has it"
            )
    rng = np.random.default_rng(seed)
    reduction, parity, at_random = None, math.nan, math.nan
    if raw is not None:
        reduction = kl_reduction(
            [target.facts.parts], raw.facts.parts, selected.facts.parts, rng=rng, n_resamples=n_resamples
        )
        parity = parity_kl_reduction([target.facts.counts], raw.facts.counts, selected.facts.counts)
        at_random = _at_random(target, raw, reduction.n_ngrams, np.random.default_rng(seed))
    return Comparison(
        target.name,
        reduction,
        parity,
        at_random,
        _divergences(target, selected, raw, rng),
        _sinkhorn(target, selected, raw),
        None if raw is None else _characteristic(target, raw, rng),
        _characteristic(target, selected, rng),
        _attributes(target, selected, raw, rng, n_resamples if attribute_resamples is None else attribute_resamples),
        target.facts.adequacy(_kl(target, raw or selected)),
        {corner.name: corner.survey.n_bad_rows for corner in corners},
    )


def _at_random(target: Corner, raw: Corner, n_ngrams: int, rng: np.random.Generator) -> float:
    """Mean KL reduction of a few disjoint pieces of raw's sample, whole documents of ``n_ngrams`` n-grams each."""
    ends = np.cumsum(np.maximum(0, 2 * raw.facts.n_tokens - 1))
    if not len(ends) or n_ngrams >= ends[-1]:
        return 0.0
    cuts = np.searchsorted(ends, n_ngrams * np.arange(N_PIECES + 1))
    pieces = [(int(a), int(b)) for a, b in pairwise(cuts) if a < b < len(ends)] or [(0, len(ends))]
    found = []
    for first, last in pieces:
        counts = coarse_counts(raw.survey.texts.slice(first, last - first))
        if counts.any():
            of = kl_reduction([target.facts.parts], raw.facts.parts, counts[None, :], rng=rng, n_resamples=0)
            found.append(of.value)
    return float(np.mean(found)) if found else 0.0


def _kl(target: Corner, other: Corner) -> float:
    return DIVERGENCES["kl"](probabilities(target.facts.counts), probabilities(other.facts.counts))


def _divergences(target: Corner, selected: Corner, raw: Corner | None, rng: np.random.Generator) -> dict[str, Distance]:
    counts = [selected.facts.counts, *([] if raw is None else [raw.facts.counts])]
    n = min(int(c.sum()) for c in counts)
    measured = [divergences(target.facts.counts, thin(c, n, rng)) for c in counts]
    return {
        name: Distance(
            math.nan if raw is None else measured[-1][name].value, measured[0][name].value, measured[0][name].floor
        )
        for name in measured[0]
    }


def _cloud(corner: Corner, half: int | None = None) -> np.ndarray:
    """The first vectors of a sample; of its first 2 N_CLOUD every other one, for ``half`` 0 or 1."""
    vectors = corner.facts.vectors
    return vectors[:N_CLOUD] if half is None else vectors[: 2 * N_CLOUD][half::2]


def _sinkhorn(target: Corner, selected: Corner, raw: Corner | None) -> Distance:
    """The floor is that of two halves of the target."""
    between = [
        math.nan if c is None else sinkhorn_divergence(_cloud(target), _cloud(c), max_iterations=200).value
        for c in (raw, selected)
    ]
    halves = [_cloud(target, half) for half in (0, 1)]
    floor = sinkhorn_divergence(*halves, max_iterations=200).value if len(halves[1]) else math.nan
    return Distance(between[0], between[1], floor)


def _characteristic(target: Corner, other: Corner, rng: np.random.Generator) -> Discrepancy:
    return characteristic_discrepancy(
        _cloud(target), _cloud(other), rng=rng, n_frequencies=N_FREQUENCIES, n_permutations=N_PERMUTATIONS
    )


def attribute_values(facts: Facts) -> dict[str, np.ndarray]:
    """Values of documents by attribute, of the first N_ATTRIBUTE of a sample."""
    n_bytes, n_tokens = facts.n_bytes[:N_ATTRIBUTE], facts.n_tokens[:N_ATTRIBUTE]
    values = (n_bytes, n_tokens, n_bytes / np.maximum(n_tokens, 1), facts.compression)
    return {name: v.astype(np.float64) for name, v in zip(ATTRIBUTES, values, strict=True)}


def _attributes(
    target: Corner, selected: Corner, raw: Corner | None, rng: np.random.Generator, n_resamples: int
) -> dict[str, Attribute]:
    values = [None if c is None else attribute_values(c.facts) for c in (target, raw, selected)]
    of_target, of_raw, of_selected = values
    assert of_target is not None
    assert of_selected is not None
    found = {
        name: tuple(
            None if other is None else ks(of_target[name], other[name], rng=rng, n_resamples=n_resamples)
            for other in (of_raw, of_selected)
        )
        for name in ATTRIBUTES
    }
    p = [_corrected([pair[i] for pair in found.values()]) for i in (0, 1)]
    attributes = {}
    for i, (name, (before, after)) in enumerate(found.items()):
        assert after is not None
        attributes[name] = Attribute(before, after, p[0][i], p[1][i])
    return attributes


def _corrected(found: Sequence[KS | None]) -> list[float]:
    if any(one is None for one in found):
        return [math.nan] * len(found)
    return [float(p) for p in holm(np.array([one.p_value for one in found if one is not None]))]
