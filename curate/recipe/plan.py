"""What a recipe would do, step by step, with an estimate of the selection; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from curate.recipe.check import blaming
from curate.recipe.steps import curriculum_arguments, curriculum_folder, report_file

if TYPE_CHECKING:
    from curate.plan import Plan
    from curate.recipe import Recipe

CLEANED_BY = ("decontaminate", "filters", "dedup")  # in the order in which a document is asked


@dataclass(frozen=True)
class RecipePlan:
    """The steps with what each does, and what the selection is estimated to take (None: there is none)."""

    steps: Mapping[str, str]
    selection: Plan | None

    def as_text(self) -> str:
        """The steps, then the table of the estimate."""
        width = max(map(len, self.steps))
        lines = [f"{name:<{width}}  {what}" for name, what in self.steps.items()]
        if self.selection is None:
            return "\n".join([*lines, "", "Nothing was written."])
        return "\n".join([*lines, "", self.selection.as_text()])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"steps": dict(self.steps), "selection": None if self.selection is None else asdict(self.selection)}


def plan(recipe: Recipe) -> RecipePlan:
    """What a recipe would do; see `Recipe.plan`."""
    recipe.check()
    found = None
    if recipe.selects:
        from curate.plan import ESTIMATED_BY, estimate

        asked = recipe.select_arguments()
        with blaming(recipe, "inputs", "score", "draw", "write", "run"):
            found = estimate(
                asked["raw"],
                **{"target": None} | {name: asked[name] for name in ESTIMATED_BY if name in asked},
            )
    return RecipePlan(dict(_steps(recipe)), found)


def _steps(recipe: Recipe) -> Iterator[tuple[str, str]]:
    if recipe.selects:
        asked = recipe.select_arguments()
        for name in CLEANED_BY:
            if name in recipe.values:
                yield name, _cleaning(name, recipe.section(name))
        how = _words(recipe.section("score").get("settings", {}))
        yield "score", f"{', '.join(asked['raw'])} by {asked.get('method', 'dsir')}{how}{_towards(asked)}"
        drawing = {name: value for name, value in recipe.section("draw").items() if name != "budget"}
        yield "draw", f"{asked['budget'] or 'all'}{_words(drawing)}"
        yield "write", f"{recipe.out}{_words(recipe.section('write'))}"
    if "evaluate" in recipe.values:
        wanted = recipe.section("evaluate")
        by = "heldout" in wanted or f"{recipe.section('inputs')['holdout']:.0%} of the target"
        of = "text held out" if by is True else f"{by}, held out"
        yield "evaluate", f"against random selections, by {of}{_words(_without(wanted, 'heldout'))}"
    if "curriculum" in recipe.values:
        ((kind, asked),) = recipe.section("curriculum").items()
        over = ", ".join(curriculum_arguments(recipe).get("raw", []))
        where = f"{kind}{f', over {over}' if over else ''}, into {curriculum_folder(recipe)}"
        yield "curriculum", f"{where}{_words(_without(asked, 'raw', 'out'))}"
    if "report" in recipe.values:
        yield "report", f"{report_file(recipe)}{_words(_without(recipe.section('report'), 'format', 'out'))}"


def _cleaning(name: str, asked: Mapping[str, Any]) -> str:
    """What a step before the fit does to raw."""
    if name == "decontaminate":
        against = _towards({"target": asked["against"]}).replace(" for ", " of ", 1)
        rest = _words(_without(asked, "against", "mode"))
        return f"{asked.get('mode', 'remove')} what there is{against}{rest}"
    what = "exact and near duplicates" if name == "dedup" else "what fails rules"
    return f"remove {what}{_words(asked)}"


def _towards(asked: Mapping[str, Any]) -> str:
    target = asked.get("target")
    if not target:
        return ", without a target"
    named = target if isinstance(target, Mapping) else {"": target}
    return " for " + ", ".join(f"{name}={path}" if name else path for name, paths in named.items() for path in paths)


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _words(values: Mapping[str, Any]) -> str:
    """Keys and values in brackets; nothing for none."""
    if not values:
        return ""
    return f" ({', '.join(f'{name} {_word(value)}' for name, value in values.items())})"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_word(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
