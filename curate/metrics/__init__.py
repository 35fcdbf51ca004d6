"""Measures of weights, distributions and samples: plain functions on arrays."""
