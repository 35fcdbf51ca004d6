"""Engines map one function over partitions; there is no other scheduler."""

from curate.engines.base import Engine
from curate.engines.local import LocalEngine

__all__ = ["Engine", "LocalEngine"]
