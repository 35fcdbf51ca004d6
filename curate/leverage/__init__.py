"""Ridge leverage scores: how far a document is from what the others say, exactly and by small dictionaries."""

from curate.leverage.accuracy import EstimatedError, estimated_error, linear_epsilon, measured_epsilon
from curate.leverage.dictionary import Dictionary, union
from curate.leverage.exact import absolute_ridge, effective_dimension, leverage_scores
from curate.leverage.fixed import FixedDictionary
from curate.leverage.gram import Directions, Gram
from curate.leverage.recursive import recursive, tail_ridge
from curate.leverage.sequential import ink_estimate, merge, merge_tree, node_rng, squeak
from curate.leverage.similarity import Linear, Rbf, Similarity, median_bandwidth, unit_rows

__all__ = [
    "Dictionary",
    "Directions",
    "EstimatedError",
    "FixedDictionary",
    "Gram",
    "Linear",
    "Rbf",
    "Similarity",
    "absolute_ridge",
    "effective_dimension",
    "estimated_error",
    "ink_estimate",
    "leverage_scores",
    "linear_epsilon",
    "measured_epsilon",
    "median_bandwidth",
    "merge",
    "merge_tree",
    "node_rng",
    "recursive",
    "squeak",
    "tail_ridge",
    "union",
    "unit_rows",
]
