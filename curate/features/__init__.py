"""From documents to what scorers look at."""

from curate.features.ngrams import NgramFeatures

__all__ = ["NgramFeatures"]
