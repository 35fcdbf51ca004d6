"""Renderings of what a run found."""
