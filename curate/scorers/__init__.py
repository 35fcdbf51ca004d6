"""Scorers: what a document is worth for a target. Higher is better, always."""

from __future__ import annotations

from typing import Any

from curate.errors import unknown
from curate.scorers.bytegrams import ByteGrams
from curate.scorers.dsir import Dsir

SCORERS: dict[str, type[Dsir]] = {"dsir": Dsir}


def scorer(method: str, **settings: Any) -> Dsir:
    """An unfitted scorer by the name of its method.

    Raises
    ------
    UsageError : no such method, or a setting that it does not have.
    """
    if method not in SCORERS:
        raise unknown("scorer", method, SCORERS)
    return SCORERS[method].from_settings(settings)


__all__ = ["SCORERS", "ByteGrams", "Dsir", "scorer"]
