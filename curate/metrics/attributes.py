"""The attributes of documents in two corpora, such as length or score, compared for a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from curate.errors import InputError
from curate.metrics.ks import KS, STANDARD_N, holm, ks, ks_at_n

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Attribute:
    """An attribute of documents in two corpora, the first the one to be like.

    ``adjusted_p``: the p-value after Holm's correction for all attributes; ``quantiles_a``, ``quantiles_b``: values at
    `QUANTILES`, the lower one between two; ``ks_at_100``: nan where b has fewer than 100 documents.
    """

    ks: KS
    adjusted_p: float
    quantiles_a: dict[str, float]
    quantiles_b: dict[str, float]
    ks_at_100: float


def compare_attributes(
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    clusters_a: np.ndarray | None = None,
    clusters_b: np.ndarray | None = None,
) -> dict[str, Attribute]:
    """The attributes of two corpora, such as length or score, compared one by one.

    Parameters
    ----------
    a, b : name -> float64[n_docs], the same names in both. The seed and the name key what is drawn at random.
    clusters_a, clusters_b : [n_docs] each, as for `ks`; the same for all attributes.

    Raises
    ------
    InputError : other names in b than in a, or values that cannot be compared; it says of which attribute.
    """
    if set(a) != set(b):
        raise InputError(f"attributes differ: {', '.join(sorted(set(a) ^ set(b)))} in one corpus only")
    found = {}
    for name in a:
        rng = np.random.default_rng([seed, *name.encode(errors="surrogatepass")])
        try:
            compared = ks(a[name], b[name], rng=rng, clusters_a=clusters_a, clusters_b=clusters_b)
        except InputError as error:
            raise InputError(f"attribute {name!r}: {error}") from error
        at_n = ks_at_n(a[name], b[name], rng=rng) if len(b[name]) >= STANDARD_N else math.nan
        found[name] = Attribute(compared, math.nan, quantiles(a[name]), quantiles(b[name]), at_n)
    adjusted = holm(np.array([attribute.ks.p_value for attribute in found.values()]))
    return {
        name: replace(attribute, adjusted_p=float(p))
        for (name, attribute), p in zip(found.items(), adjusted, strict=True)
    }


def quantiles(values: np.ndarray) -> dict[str, float]:
    """The values at `QUANTILES`, the lower one between two, by such names as "5%"."""
    found = np.quantile(np.asarray(values, np.float64), QUANTILES, method="inverted_cdf")
    return {f"{100 * q:g}%": float(x) for q, x in zip(QUANTILES, found, strict=True)}
