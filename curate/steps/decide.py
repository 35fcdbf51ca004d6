"""Decide: which documents are kept, by the draw that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.engines import Engine
from curate.io.corpus import Corpus
from curate.sampling.draws import BY_CHANCE, DRAWS
from curate.scorers import Fusion, Scorer
from curate.steps.chances import sample
from curate.steps.cover import list_cover
from curate.steps.decision import Decision, DrawSpec, Listed
from curate.steps.draw import draw_table
from curate.steps.scoretable import ScoreTable, Statistics


@dataclass(frozen=True)
class DecideJob:
    """What a draw may need to know.

    ``found``: statistics of the table. ``model``: what it was scored by. ``targets``, ``holdout``: what that was
    fitted to. ``key`` names the scoring and the draw; ``scratch`` is a folder for what only the draw needs, where
    what is complete is found again by the next try. ``memory_limit``: bytes, beyond what the program itself takes.
    """

    table: ScoreTable
    spec: DrawSpec
    found: Statistics
    engine: Engine
    corpus: Corpus
    model: Scorer | Fusion
    targets: Mapping[str, Corpus]
    holdout: float | None
    key: str
    scratch: Path
    batch_bytes: int
    memory_limit: int


LISTERS: dict[str, Callable[[DecideJob], Listed]] = {**dict.fromkeys(BY_CHANCE, sample), "cover": list_cover}


def decide(job: DecideJob) -> Decision:
    """Find what is kept.

    Raises
    ------
    InputError : nothing would be selected.
    """
    if job.spec.draw in DRAWS:
        return draw_table(job.table, job.spec, job.found, job.engine)
    return LISTERS[job.spec.draw](job)
