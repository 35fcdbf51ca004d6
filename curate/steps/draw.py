"""Draw: which documents of the score table the budget buys, by streaming passes over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from curate.engines import LocalEngine
from curate.errors import InputError, unknown
from curate.sampling.cut import NONE, Ranked, find_cuts
from curate.steps.decision import Cuts, DrawSpec
from curate.steps.scoretable import ScoreTable, Statistics


def draw_table(table: ScoreTable, spec: DrawSpec, found: Statistics, engine: LocalEngine) -> Cuts:
    """Find the cuts of a draw that has an order in which documents win.

    Raises
    ------
    InputError : nothing would be selected.
    """
    if not found.n_eligible:
        raise InputError(nothing_eligible(found))
    groups = tuple(sorted(found.groups)) if spec.per else ("",)
    if spec.proportions:
        for name in spec.proportions:
            if name not in groups:
                raise unknown(f"value of column {spec.per!r}", name, groups)
    decision = Cuts(table, spec, groups, ())
    for target, total in enumerate(_shared(spec, found, table.target_proportions)):
        budgets = _budgets(spec, found, groups, total)
        parts = range(len(table.parts))

        def passes(now: Cuts = decision, target: int = target, parts: range = parts) -> Iterator[Ranked]:
            for _, ranked in engine.each(lambda part: list(now.ranked(part, target)), parts):
                yield from ranked

        cuts = find_cuts(passes, budgets)
        decision = Cuts(table, spec, groups, (*decision.cuts, cuts))
    if all(cut == NONE or (cut.place < 0 and cut.order == 0) for cuts in decision.cuts for cut in cuts.values()):
        raise InputError(f"nothing selected: the budget ({spec.budget}) is smaller than the best document")
    return decision


def nothing_eligible(found: Statistics) -> str:
    """Why no document has a score."""
    why = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(found.reasons.items()))
    return (
        f"nothing selected: none of {found.n_documents:,} documents has a score ({why or 'there are none'}); "
        "lower --set min_tokens, or check --text-column"
    )


def _shared(spec: DrawSpec, found: Statistics, proportions: Sequence[float]) -> list[int]:
    """The budget of each target; without one, all there is."""
    if spec.budget is None:
        return [np.iinfo(np.int64).max] * len(proportions)
    return split(spec.budget.total(found.n_documents), proportions)


def split(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to ``shares`` that add up to ``total``."""
    ends = np.cumsum(np.array(shares, float)) / sum(shares) * total
    return np.diff(np.floor(ends + 1e-6), prepend=0).astype(np.int64).tolist()


def _budgets(spec: DrawSpec, found: Statistics, groups: Sequence[str], total: int) -> dict[int, int]:
    """The budget of each group for one target: in proportion, by default to the groups' sizes in raw."""
    if spec.budget is None or not spec.per:
        return dict.fromkeys(range(len(groups)), total)
    unit = {"n_bytes": "bytes", "n_tokens": "tokens"}.get(spec.budget.size_column or "", "documents")
    given = spec.proportions or {name: found.groups[name][unit] for name in groups}
    return dict(enumerate(split(total, [given.get(name, 0) for name in groups])))
