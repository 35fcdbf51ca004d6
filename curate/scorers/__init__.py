"""Scorers: what a document is worth for a target. Higher is better, always."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curate.errors import InputError, UsageError, unknown
from curate.scorers.base import Scorer
from curate.scorers.bytegrams import ByteGrams
from curate.scorers.classifier import Classifier
from curate.scorers.dsir import Dsir
from curate.scorers.everything import Everything
from curate.scorers.fusion import Fusion
from curate.scorers.leverage import Leverage
from curate.scorers.primed import Primed
from curate.scorers.zipfit import ZipFit, race

SCORERS: dict[str, type[Scorer]] = {
    kind.method: kind for kind in (Dsir, ByteGrams, ZipFit, Primed, Classifier, Leverage, Everything)
}


def scorer(method: str, **settings: Any) -> Scorer | Fusion:
    """An unfitted scorer by the name of its method; "dsir+primed" fuses several.

    Raises
    ------
    UsageError : no such method, or a setting that it does not have.
    """
    kinds = _kinds(method)
    if len(kinds) == 1:
        return kinds[method].from_settings(settings)
    return Fusion.from_settings(kinds, settings)


def load_scorer(folder: str | Path) -> Scorer | Fusion:
    """A fitted scorer from the folder that it was saved to (``out/scorer``).

    Raises
    ------
    InputError : none is there.
    """
    from curate.io.paths import folder_path

    folder = folder_path(folder)
    try:
        kinds = _kinds(json.loads((folder / "scorer.json").read_text())["method"])
    except (OSError, KeyError, TypeError, ValueError, UsageError) as error:
        raise InputError(f"{folder}: not a saved scorer ({error})") from error
    if len(kinds) == 1:
        return next(iter(kinds.values())).load(folder)
    return Fusion.load(folder, kinds)


def _kinds(method: str) -> dict[str, type[Scorer]]:
    names = method.split("+")
    for name in names:
        if name not in SCORERS:
            raise unknown("scorer", name, SCORERS)
    if len(set(names)) < len(names):
        raise UsageError(f"method {method!r}: a scorer is named twice")
    return {name: SCORERS[name] for name in names}


__all__ = [
    "SCORERS",
    "ByteGrams",
    "Classifier",
    "Dsir",
    "Everything",
    "Fusion",
    "Leverage",
    "Primed",
    "Scorer",
    "ZipFit",
    "load_scorer",
    "race",
    "scorer",
]
