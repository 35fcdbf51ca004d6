"""What a reader should know of a selection: diagnostics of its scores, and warnings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from curate.engines import Engine
from curate.metrics.diagnostics import Diagnostics, shares, warnings
from curate.metrics.weights import LengthHistogram
from curate.scorers import Dsir, Everything
from curate.selection.scored import Scored
from curate.steps.decision import DrawSpec
from curate.steps.scoretable import Statistics, add_sizes, duplicate_ids

FEW_OF_BUDGET = 0.9  # below it a run says that much of its budget could not be spent
LARGER_TARGET = {
    "bytegrams": "--set target_bytes takes more, at 150 bytes of memory each",
    "primed": "--set codec=zstd has room for 64 MB",
}


def diagnose(
    scored: Scored,
    found: Statistics,
    spec: DrawSpec,
    kept: Sequence[dict[str, Any]],
    lengths: LengthHistogram,
    overlap: float,
    engine: Engine,
) -> tuple[list[str], list[dict[str, Any]]]:
    sources: dict[str, dict[str, int]] = {}
    for part in kept:
        for value, sizes in part["sources"].items():
            add_sizes(sources, value, sizes)
    texts: list[str] = []
    all_of_it: list[dict[str, Any]] = []
    model = scored.model
    weighs = model.log_weights and spec.weights.is_plain
    for i, moments in enumerate(found.moments):
        one = Diagnostics(
            target=model.target_names_[i] if model.separate_targets else "",
            n_documents=found.n_documents,
            n_eligible=moments.n,
            n_selected=sum(part["n_documents"] for part in kept),
            draw=spec.draw,
            score_mean=moments.mean,
            score_std=moments.std,
            score_min=moments.minimum,
            score_max=moments.maximum,
            effective_sample_size=moments.effective_sample_size if weighs else None,
            length_correlation=moments.length_correlation,
            top_k_overlap=overlap,
            length_raw=found.lengths.quantiles(),
            length_selected=lengths.quantiles(),
            sources_raw=shares(found.sources),
            sources_selected=shares(sources),
            normalize=model.normalize if isinstance(model, Dsir) else None,
            adequacy=model.adequacy_[i] if isinstance(model, Dsir) else None,
        )
        texts += [] if isinstance(model, Everything) else warnings(one)
        all_of_it.append(one.as_dict())
    return texts + _data_warnings(scored, found, spec, kept, engine), all_of_it


def _data_warnings(
    scored: Scored, found: Statistics, spec: DrawSpec, kept: Sequence[dict[str, Any]], engine: Engine
) -> list[str]:
    texts = []
    for name, member in scored.model.members.items():
        used, given = member.target_use_ or (0, 0)
        if used < given:
            texts.append(
                f"{name} looked at {used:,} of the target's {given:,} bytes, whole texts by a hash of what they say; "
                f"{LARGER_TARGET.get(name, 'others take all of it')}"
            )
    short = found.n_documents - found.n_eligible
    if short > found.n_documents // 2 and "cleaning" not in scored.commit:
        why = ", ".join(f"{n:,} {reason}" for reason, n in sorted(found.reasons.items()))
        texts.append(f"{short:,} of {found.n_documents:,} documents have no score ({why}); see --set min_tokens")
    texts += _mistyped(scored.commit.get("cleaning", {}))
    twice = duplicate_ids(scored.table, found.n_documents, engine)
    if twice:
        texts.append(
            f"{twice:,} documents share their id with another one, and with it their part of the chance: "
            "pass --id-column, or one that the corpus does not have to number them"
        )
    if scored.commit["n_bad_rows"]:
        texts.append(f"{scored.commit['n_bad_rows']:,} rows could not be read; they are in quarantine.parquet")
    if scored.corpus.passed_over:
        names = ", ".join(os.path.basename(p) for p in scored.corpus.passed_over[:3])
        texts.append(
            f"{len(scored.corpus.passed_over):,} files were passed over, their names end in nothing known ({names})"
        )
    if spec.budget is not None and not spec.proportions:
        n = sum(k["n_documents"] for k in kept)
        if n == found.n_eligible and spec.draw != "threshold" and spec.budget.unit != "percent":
            texts.append(
                f"the budget ({spec.budget}) is more than there is: all {n:,} documents with a score were kept"
            )
            return texts
    return texts + _much_less(found, spec, kept)


def _mistyped(cleaning: Mapping[str, Any]) -> list[str]:
    """Say so when a share is allowed for a source that there is not."""
    allowed = cleaning.get("max_removed", {})
    there = cleaning.get("sources", {})
    strange = [name for name in allowed if name and name not in there] if isinstance(allowed, Mapping) else []
    return (
        [f"--max-removed names {', '.join(map(repr, strange))}, and no document is of such a source"] if strange else []
    )


def _much_less(found: Statistics, spec: DrawSpec, kept: Sequence[dict[str, Any]]) -> list[str]:
    """Say so when much of the budget could not be spent."""
    if spec.budget is None or spec.draw == "threshold":
        return []
    unit = spec.budget.size_column or "n_documents"
    asked, got = spec.budget.total(found.n_documents), sum(part[unit] for part in kept)
    if got >= FEW_OF_BUDGET * asked:
        return []
    why = "groups that have less than their part" if spec.per else "documents that have no weight or no score"
    return [f"only {got:,} of {asked:,} {unit.removeprefix('n_')} of the budget were selected: there are {why}"]
