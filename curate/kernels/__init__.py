"""Compiled loops over Arrow string buffers; the only package that imports numba."""
