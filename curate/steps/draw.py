"""Draw: which documents of the score table the budget buys, by streaming passes over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.engines.base import Engine
from curate.errors import InputError, UsageError, unknown
from curate.io.tables import batches, numpy
from curate.sampling.cut import NONE, Wanted, find_cuts
from curate.sampling.solving import ExactSums, merged
from curate.sampling.transforms import Weighting, weighting
from curate.steps.decision import Cuts, DrawSpec
from curate.steps.scoretable import ScoreTable, Statistics

PARTS_AT_ONCE = 500  # of the score table
RUNS_EACH = 8  # for each worker


def draw_table(table: ScoreTable, spec: DrawSpec, found: Statistics, engine: Engine) -> Cuts:
    """Find the cuts of a draw that has an order in which documents win.

    Raises
    ------
    InputError : nothing would be selected.
    """
    if not found.n_eligible:
        raise InputError(nothing_eligible(found))
    groups = group_names(spec, found)
    weights = None if spec.weights.is_plain else _weighting(table, spec, found, engine)
    decision = Cuts(table, spec, groups, (), weights)
    runs = _runs(len(table.parts), engine.workers)
    for target, budgets in enumerate(group_budgets(spec, found, table.target_proportions)):

        def passes(wanted: Wanted, now: Cuts = decision, target: int = target) -> Iterator[Any]:
            def of(run: range) -> Any:
                return wanted(some for part in run for some in now.ranked(part, target))

            return (found for _, found in engine.each(of, runs))

        cuts = find_cuts(passes, budgets)
        decision = replace(decision, cuts=(*decision.cuts, cuts))
    if all(cut == NONE or (cut.place < 0 and cut.order == 0) for cuts in decision.cuts for cut in cuts.values()):
        raise InputError(f"nothing selected: the budget ({spec.budget}) is smaller than the best document")
    return decision


def _runs(n_parts: int, workers: int) -> list[range]:
    """Parts that one counts together: few enough for all workers to have some, many enough for one to add up."""
    size = max(1, min(PARTS_AT_ONCE, n_parts // (RUNS_EACH * workers)))
    return [range(first, min(n_parts, first + size)) for first in range(0, n_parts, size)]


def nothing_eligible(found: Statistics) -> str:
    """Why no document has a score."""
    why = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(found.reasons.items()))
    cleaned = set(found.reasons) - {"no_text", "too_short"}
    way = "change what is cleaned by" if cleaned else "lower --set min_tokens, or check --text-column"
    return f"nothing selected: none of {found.n_documents:,} documents has a score ({why or 'there are none'}); {way}"


def one_score(table: ScoreTable, spec: DrawSpec) -> str:
    """The column of scores, for what goes by one.

    Raises
    ------
    UsageError : there are several.
    """
    if len(table.score_columns) > 1:
        raise UsageError(
            f"--draw {spec.draw} with weights goes by one score, and with separate targets there are "
            f"{len(table.score_columns)}: pool the targets, or run once for each"
        )
    return table.score_columns[0]


def _weighting(table: ScoreTable, spec: DrawSpec, found: Statistics, engine: Engine) -> Weighting:
    """The parameters of the weights, by passes over the score table."""
    column = one_score(table, spec)

    def over(function: Callable[[np.ndarray], Sequence[np.ndarray]]) -> list[float]:
        def terms(rows: pa.Table) -> list[ExactSums]:
            scores = numpy(rows[column])
            return [ExactSums().add(np.asarray(t, float)) for t in function(scores[~np.isnan(scores)])]

        def of(part: Path) -> list[ExactSums]:
            return merged(map(terms, batches(part, [column])))

        return [float(sums.totals()[0]) for sums in merged(engine.ordered(of, table.parts))]

    moments = found.moments[0]
    return weighting(spec.weights, over, moments.n, moments.minimum, moments.maximum)


def group_names(spec: DrawSpec, found: Statistics) -> tuple[str, ...]:
    """The values of the column that is drawn within, in order; one group without one.

    Raises
    ------
    UsageError : proportions are given of a value that there is not.
    """
    groups = tuple(sorted(found.groups)) if spec.per else ("",)
    for name in spec.proportions or {}:
        if name not in groups:
            raise unknown(f"value of column {spec.per!r}", name, groups)
    return groups


def group_budgets(spec: DrawSpec, found: Statistics, proportions: Sequence[float]) -> list[dict[int, int]]:
    """The budget of each group, for each target."""
    groups = group_names(spec, found)
    return [_budgets(spec, found, groups, total) for total in _shared(spec, found, proportions)]


def _shared(spec: DrawSpec, found: Statistics, proportions: Sequence[float]) -> list[int]:
    """The budget of each target; without one, all there is."""
    if spec.budget is None:
        return [np.iinfo(np.int64).max] * len(proportions)
    return split(spec.budget.total(found.n_documents), proportions)


def split(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to ``shares`` that add up to ``total``."""
    if not any(shares):
        return [0] * len(shares)
    ends = np.cumsum(np.array(shares, float)) / sum(shares) * total
    return np.diff(np.floor(ends + 1e-6), prepend=0).astype(np.int64).tolist()


def _budgets(spec: DrawSpec, found: Statistics, groups: Sequence[str], total: int) -> dict[int, int]:
    """The budget of each group for one target: in proportion, by default to what is left of each of raw."""
    if spec.budget is None or not spec.per:
        return dict.fromkeys(range(len(groups)), total)
    unit = {"n_bytes": "bytes", "n_tokens": "tokens"}.get(spec.budget.size_column or "", "documents")
    given = spec.proportions or {name: found.groups[name][unit] for name in groups}
    return dict(enumerate(split(total, [given.get(name, 0) for name in groups])))
