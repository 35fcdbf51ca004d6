"""From documents to what scorers look at."""

from curate.features.ngrams import NgramFeatures
from curate.features.vectors import ColumnVectors, EncoderVectors, HashedVectors, Vectors

__all__ = ["ColumnVectors", "EncoderVectors", "HashedVectors", "NgramFeatures", "Vectors"]
