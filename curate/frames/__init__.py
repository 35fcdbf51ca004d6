"""Scorers inside queries: Polars expressions and DuckDB functions, equal to the pipeline's scores."""
