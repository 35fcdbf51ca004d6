"""What each method does and when to use it, for `curate methods`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One entry of the list."""

    name: str
    what: str
    when: str
    settings: str
    source: str


METHODS = (
    Method(
        "dsir",
        "log importance weight: how much likelier a document's hashed word n-grams are in the target than in raw",
        "you have a few hundred or more example texts and want documents of that kind, at the speed of reading",
        "n, n_buckets, hash, smoothing, normalize, temperature, min_tokens, num_tokens_to_fit, separate_targets",
        "Xie et al. 2023, arXiv:2302.03169; --set compat=true is their package, bucket for bucket",
    ),
)
DRAWS = {
    "gumbel": "sample without replacement with odds exp(score); the default",
    "topk": "the best scores",
    "threshold": "every score of at least --threshold",
    "uniform": "a random sample of the documents with a score, for comparison",
}
