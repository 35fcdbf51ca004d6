"""curate: which documents should a language model be trained on, in what proportion, and on what evidence."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from curate.compare import compare as compare
    from curate.cutting import passages as passages
    from curate.discovery import domains as domains
    from curate.errors import CurateError as CurateError
    from curate.evidence import Evidence as Evidence
    from curate.evidence import evaluate as evaluate
    from curate.frames import duckdb as duckdb
    from curate.io.corpus import scan as scan
    from curate.recipe import Recipe as Recipe
    from curate.scorers import SCORERS as SCORERS
    from curate.scorers import ByteGrams as ByteGrams
    from curate.scorers import Classifier as Classifier
    from curate.scorers import Dsir as Dsir
    from curate.scorers import Primed as Primed
    from curate.scorers import ZipFit as ZipFit
    from curate.scorers import load_scorer as load_scorer
    from curate.scorers import race as race
    from curate.selection import Scoring as Scoring
    from curate.selection import Selection as Selection
    from curate.selection import clean as clean
    from curate.selection import draw as draw
    from curate.selection import score as score
    from curate.selection import select as select
    from curate.selection.update import update as update
    from curate.upgrade import align as align
    from curate.verification import verify as verify

# Public names and where they live; imported on first use, so that `import curate` is quick.
_PUBLIC = {
    "ByteGrams": "curate.scorers",
    "Classifier": "curate.scorers",
    "CurateError": "curate.errors",
    "Dsir": "curate.scorers",
    "Evidence": "curate.evidence",
    "Primed": "curate.scorers",
    "Recipe": "curate.recipe",
    "SCORERS": "curate.scorers",
    "Scoring": "curate.selection",
    "Selection": "curate.selection",
    "ZipFit": "curate.scorers",
    "align": "curate.upgrade",
    "clean": "curate.selection",
    "compare": "curate.compare",
    "domains": "curate.discovery",
    "draw": "curate.selection",
    "duckdb": "curate.frames.duckdb",
    "evaluate": "curate.evidence",
    "load_scorer": "curate.scorers",
    "passages": "curate.cutting",
    "race": "curate.scorers",
    "scan": "curate.io.corpus",
    "score": "curate.selection",
    "select": "curate.selection",
    "update": "curate.selection.update",
    "verify": "curate.verification",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    module = importlib.import_module(_PUBLIC[name])
    value = module if _PUBLIC[name].endswith(f".{name}") and name == "duckdb" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
