"""What is asked of a selection: the part that scores depend on, the draw, and what must fit together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from curate.engines.resources import Resources
from curate.errors import UsageError, unknown
from curate.io.credentials import refuse_credentials
from curate.io.targets import Paths, Targets, listed_paths, named_targets
from curate.sampling.budget import Budget, parse_budget, parse_bytes
from curate.sampling.draws import BY_CHANCE, WEIGHTED
from curate.sampling.transforms import PROPORTIONAL, WeightSpec
from curate.scorers import Fusion, Scorer, scorer
from curate.steps.clean import CleanSpec
from curate.steps.decision import DrawSpec
from curate.steps.holdout import checked_fraction
from curate.steps.write import WriteSpec

CLEANING = ("filters", "dedup", "decontaminate")


@dataclass(frozen=True)
class ScoringSpec:
    """The part of a recipe that scores depend on."""

    raw: list[str]
    target: dict[str, list[str]]
    method: str
    settings: dict[str, Any]
    text_column: str
    id_column: str
    target_text_column: str | None
    on_bad_row: str
    per: str | None
    holdout: float | None = None
    domains: str | None = None
    filters: dict[str, Any] | None = None
    dedup: dict[str, Any] | None = None
    decontaminate: dict[str, Any] | None = None

    @classmethod
    def asked(
        cls,
        raw: Paths,
        target: Targets | None,
        method: str,
        settings: Mapping[str, Any] | None,
        columns: tuple[str, str, str | None],
        on_bad_row: str,
        per: str | None,
        holdout: float | None,
        domains: str | os.PathLike[str] | None,
        cleaning: CleanSpec,
    ) -> ScoringSpec:
        """From the arguments of `select` and `score`. ``columns``: of raw's text, its id, and the target's text."""
        return cls(
            listed_paths(raw),
            named_targets(target),
            method,
            dict(settings or {}),
            *columns,
            on_bad_row,
            per,
            checked_fraction(holdout),
            None if domains is None else os.fspath(domains),
            **cleaning.as_dict(),
        )

    @property
    def cleaning(self) -> CleanSpec:
        """What is done to raw before anything is scored."""
        return CleanSpec.of(self.filters, self.dedup, self.decontaminate)

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> ScoringSpec:
        """Back from `recipe_of`."""
        names = [f.name for f in fields(cls) if f.name in recipe]
        return cls(**{name: recipe[name] for name in names}, per=recipe["draw"]["per"])

    def as_dict(self, model: Scorer | Fusion) -> dict[str, Any]:
        """What names it, with all settings of the scorer."""
        spec = asdict(self) | {"settings": model.settings()}
        for since in ("holdout", "domains", *CLEANING):
            if spec[since] is None:
                del spec[since]  # recipes from before there was such a thing are the same still
        return spec

    def __post_init__(self) -> None:
        if self.on_bad_row not in ("raise", "quarantine"):
            raise unknown("--on-bad-row", self.on_bad_row, ("raise", "quarantine"))
        refuse_credentials(self.raw, "raw")
        refuse_credentials((path for paths in self.target.values() for path in paths), "--target")
        refuse_credentials(filter(None, [self.domains]), "--domains")
        for step in CLEANING:
            refuse_credentials(_texts_in(getattr(self, step)), step)
        check_target(self.target, scorer(self.method, **self.settings), self.holdout)


def _texts_in(value: Any) -> Iterator[str]:
    """All texts in settings, which may be paths."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts_in(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts_in(one)


def draw_spec(
    model: Scorer | Fusion,
    budget: str | int | Budget | None,
    draw: str | None,
    seed: int,
    threshold: float | None,
    per: str | None,
    proportions: Mapping[str, float] | None,
    weights: Mapping[str, Any] | None,
) -> DrawSpec:
    """The draw that was asked for, or the one that suits the scores and weights."""
    how = WeightSpec(**(weights or {}))
    if model.scores_are_weights and how.needs_log_ratios and how.transform == "kl" and draw in (None, *WEIGHTED):
        how = replace(how, transform=PROPORTIONAL)
    if how.transform == PROPORTIONAL and not model.scores_are_weights:
        raise UsageError(
            f"--transform {PROPORTIONAL} is for scores that are weights, and those of {model.method} are not: "
            "take method leverage, or another transform"
        )
    if draw is None:
        draw = model.default_draw
        if not how.is_plain and (draw not in WEIGHTED or how.calibrate):
            draw = BY_CHANCE[0]
    if model.separate_targets and (draw in BY_CHANCE or not how.is_plain):
        raise UsageError(
            f"{str(how) or f'draw {draw!r}'} goes by one score, and separate targets have one each: pool the targets, "
            "or run once for each"
        )
    if draw in WEIGHTED and how.needs_log_ratios and not model.log_weights:
        raise UsageError(
            f"{str(how) or f'draw {draw!r}'} samples with odds exp(score), but scores of {model.method} are no log "
            "weights: take --draw topk, a method whose scores are (dsir, bytegrams, classifier), or --max-kl 1, which "
            "tilts by any score"
        )
    return DrawSpec(None if budget is None else parse_budget(budget), draw, seed, threshold, per, proportions, how)


def check_draw(spec: DrawSpec, target: Mapping[str, Any], model: Scorer | Fusion) -> None:
    """Refuse a draw that has nothing to go by.

    Raises
    ------
    UsageError : it covers a target, and there is none, or scores are not for it, or each is to have its own budget.
    """
    if spec.draw != "cover":
        return
    if not target:
        raise UsageError("draw 'cover' covers a target, and none is given (--target PATH); or take --draw topk")
    if not model.needs_target:
        raise UsageError(
            f"draw 'cover' takes its candidates by nearness to the target, which scores of {model.method} are not: "
            "take a method that looks at the target (bytegrams)"
        )
    if model.separate_targets:
        raise UsageError(
            "draw 'cover' covers all targets together: leave out separate_targets, or select for each by itself"
        )


def resources_of(
    workers: int | None,
    memory_limit: str | int,
    spill: bool | None,
    engine: str,
    engine_options: Mapping[str, Any] | None,
) -> Resources:
    """What a run may use, from the arguments of `select`; sizes may be text."""
    options = dict(engine_options or {})
    if options.get("memory_per_task") is not None:
        options["memory_per_task"] = parse_bytes(options["memory_per_task"])
    return Resources(workers, parse_bytes(memory_limit), spill, engine, options)


@dataclass(frozen=True)
class Asked:
    """All that is asked of a selection, but for how it runs."""

    job: ScoringSpec
    spec: DrawSpec
    writing: WriteSpec
    name: str | None = None

    def recipe(self, model: Scorer | Fusion) -> dict[str, Any]:
        """What it is known by in a manifest; ``model``: the scorer that is asked for."""
        return recipe_of(self.job, model, self.spec, self.writing, self.name)


def check_calibration(spec: DrawSpec, carry: Sequence[str]) -> None:
    """Refuse to calibrate by a column that the scores do not have.

    Raises
    ------
    UsageError : they have none of that name.
    """
    by, there = spec.weights.calibrate, (*carry, "path", "all")
    if by and by not in there:
        raise UsageError(
            f"--calibrate {by}: not a column of the scores (there are: {', '.join(there)}); score with --per {by} first"
        )


def check_target(target: Mapping[str, Any], model: Scorer | Fusion, holdout: float | None) -> None:
    """Refuse to do without a target where one is needed.

    Raises
    ------
    UsageError : the scorer needs one, or a part of it is to be held out.
    """
    if not target and model.needs_target:
        raise UsageError(f"no target: method {model.method!r} needs at least one file of examples (--target PATH)")
    if not target and holdout is not None:
        raise UsageError("--holdout leaves out part of a target, and none is given (--target PATH)")


def vector_column(model: Scorer | Fusion) -> str | None:
    """The column of raw that scorers look at beside the text.

    Raises
    ------
    UsageError : two of them look at different ones.
    """
    columns = sorted({column for member in model.members.values() if (column := member.vector_column)})
    if len(columns) > 1:
        raise UsageError(f"scorers go by different columns ({', '.join(columns)}): fuse such as have the same")
    return columns[0] if columns else None


def recipe_of(
    job: ScoringSpec, model: Scorer | Fusion, spec: DrawSpec, writing: WriteSpec, name: str | None
) -> dict[str, Any]:
    """Everything that a run's result depends on, but for the files themselves."""
    name = name or "-".join(filter(None, ["+".join(job.target), job.method]))
    drawing = {
        "budget": None if spec.budget is None else {"amount": spec.budget.amount, "unit": spec.budget.unit},
        "draw": spec.draw,
        "seed": spec.seed,
        "threshold": spec.threshold,
        "per": spec.per,
        "proportions": None if spec.proportions is None else dict(spec.proportions),
    }
    if not spec.weights.is_plain:  # recipes from before there was such a thing are the same still
        drawing["weights"] = spec.weights.as_dict()
    scoring = job.as_dict(model)
    scoring.pop("per")
    return scoring | {"name": name, "draw": drawing, "write": asdict(writing)}


def draw_spec_of(recipe: Mapping[str, Any]) -> DrawSpec:
    """The draw of a recipe, back from `recipe_of`."""
    drawing = recipe["draw"]
    budget = None if drawing["budget"] is None else Budget(**drawing["budget"])
    rest = {key: drawing[key] for key in ("draw", "seed", "threshold", "per", "proportions")}
    return DrawSpec(budget, **rest, weights=WeightSpec(**drawing.get("weights", {})))


def write_spec_of(recipe: Mapping[str, Any]) -> WriteSpec:
    """How shards are written by a recipe, back from `recipe_of`."""
    return WriteSpec(**recipe["write"])
