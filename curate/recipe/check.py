"""What a run of a recipe would refuse, refused before anything is read, with the line of the key that is to blame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from curate._optional import check_installed
from curate.errors import InputError, UsageError
from curate.io.paths import is_url
from curate.recipe.document import Path
from curate.recipe.keys import CLEANING, SECTIONS, OneOf
from curate.recipe.normal import place_of, refused

if TYPE_CHECKING:
    from curate.recipe import Recipe
    from curate.steps.clean import CleanSpec

_OPTION = re.compile(r"--([a-z][a-z-]*)")
_VALUE = re.compile(r"\bcalled '([^']+)'")
_CALLED = {"proportion": "proportions", "set": "settings", "from": "raw", "weight": "weights"}  # options and keys


def check(recipe: Recipe) -> None:
    """Refuse what a run would refuse; see `Recipe.check`."""
    if recipe.selects:
        _check_selection(recipe)
    if "evaluate" in recipe.values:
        _check_evaluate(recipe)
    if "curriculum" in recipe.values:
        _check_curriculum(recipe)
    if "report" in recipe.values:
        with blaming(recipe, "report"):
            _size(recipe, ("report", "sample"))
            if recipe.section("report").get("format", "html") == "html":
                check_installed("vl_convert", extra="report", purpose="an HTML report")


def _check_selection(recipe: Recipe) -> None:
    from curate.io.targets import named_targets
    from curate.sampling.budget import parse_budget
    from curate.scorers import scorer
    from curate.selection.asked import check_draw, check_target, draw_spec
    from curate.selection.cleaning import MAX_REMOVED, checked_share
    from curate.steps.clean import CleanSpec
    from curate.steps.holdout import checked_fraction

    asked = recipe.select_arguments()
    for name in CLEANING:
        with blaming(recipe, name, at=(name,)):
            _check_cleaning(CleanSpec.of(**{step: asked.get(step) if step == name else None for step in CLEANING}))
    with blaming(recipe, "run", at=("run", "max_removed")):
        checked_share(asked.get("max_removed", MAX_REMOVED))
    method, settings = asked.get("method", "dsir"), asked.get("settings", {})
    with blaming(recipe, "score", at=("score", "method")):
        scorer(method)
    with blaming(recipe, "score", at=("score", "settings", *_setting_at_fault(method, settings))):
        model = scorer(method, **settings)
    if asked.get("budget") is not None:
        with blaming(recipe, "draw", at=("draw", "budget")):
            parse_budget(asked["budget"])
    with blaming(recipe, "draw", "score", at=("draw", "draw")):
        spec = draw_spec(
            model,
            asked.get("budget"),
            asked.get("draw"),
            asked.get("seed", 0),
            asked.get("threshold"),
            asked.get("per"),
            asked.get("proportions"),
            asked.get("weights"),
        )
    with blaming(recipe, "inputs", at=("inputs",)):
        checked_fraction(asked.get("holdout"))
        target = named_targets(asked.get("target"))
        check_target(target, model, asked.get("holdout"))
    with blaming(recipe, "draw", at=("draw", "draw")):
        check_draw(spec, target, model)
    for member in model.members.values():
        with blaming(recipe, "score", at=("score", "method")):
            member.check_installed()
    _size(recipe, ("write", "shard_size"))
    _size(recipe, ("run", "memory_limit"))


def _check_cleaning(spec: CleanSpec) -> None:
    """Refuse rules, languages and files that there are not.

    Raises
    ------
    UsageError, InputError, MissingExtraError : there is no such rule or file, or a package is missing.
    """
    from curate.filters import Filters
    from curate.io.paths import find

    if spec.filters is not None:
        Filters(spec.filters)
    for paths in [] if spec.decontaminate is None else spec.decontaminate.benchmarks().values():
        for path in paths:
            find([path])


def _setting_at_fault(method: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    from curate.scorers import scorer

    for name, value in settings.items():
        try:
            scorer(method, **{name: value})
        except UsageError:
            return (name,)
    return ()


def _check_evaluate(recipe: Recipe) -> None:
    asked = recipe.section("evaluate")
    if "heldout" not in asked and "holdout" not in recipe.section("inputs"):
        raise refused(
            recipe.places,
            ("evaluate",),
            "evaluate: nothing to measure with; set inputs.holdout to 0.2, which leaves part of the target out of the "
            "fit, or evaluate.heldout to other text of the target",
            recipe.file,
        )
    for key in ("sample", "heldout_size"):
        _size(recipe, ("evaluate", key))
    check_installed("pyppmd", extra="evaluate", purpose="the proxy model of curate evaluate")


def _check_curriculum(recipe: Recipe) -> None:
    ((kind, asked),) = recipe.section("curriculum").items()
    path = ("curriculum", kind)
    if kind != "mix" and is_url(out := asked.get("out") or recipe.values["out"]):
        text = f"{'.'.join(path)}: cannot be kept at {out}; name a local folder with {'.'.join(path)}.out"
        raise refused(recipe.places, (*path, "out"), text, recipe.file)
    needs = {"offline": "raw", "gaussian": "grades", "ucb": "groups"}.get(kind)
    if kind == "offline":
        from curate.curriculum.course import asked_plan

        names = ("bins", "stages", "pacing", "start", "order", "tail", "gate", "floor")
        with blaming(recipe, "curriculum", at=path):
            asked_plan(*(asked.get(name) for name in names))
    if needs and needs not in asked and "raw" not in asked and not (kind == "offline" and recipe.selects):
        raise refused(recipe.places, path, f"{'.'.join(path)}: nothing to weigh; give {needs}", recipe.file)


def _size(recipe: Recipe, path: Path) -> None:
    from curate.sampling.budget import parse_bytes

    value = recipe.section(path[0]).get(path[1])
    if value is not None:
        with blaming(recipe, path[0], at=path):
            parse_bytes(value)


@contextmanager
def blaming(recipe: Recipe, *sections: str, at: Path = ()) -> Iterator[None]:
    """Lead errors by the line of the key that is to blame, where the recipe has one.

    That is the key whose option the message names, or whose value it begins with or quotes; else ``at``.
    """
    try:
        yield
    except (UsageError, InputError) as error:
        place = _place(recipe, sections, at, str(error))
        if place is None:
            raise
        raise type(error)(f"{place}: {_in_keys(str(error), sections)}") from error


def _in_keys(message: str, sections: tuple[str, ...]) -> str:
    """A message with the options of the command line by the names that they have in recipes."""
    paths: dict[str, str] = {}
    for name in (*sections, *SECTIONS):
        section = SECTIONS[name]
        for path, one in section.sections.items() if isinstance(section, OneOf) else [("", section)]:
            for key in one.keys:
                paths.setdefault(key, ".".join(filter(None, (name, path, key))))

    def named(match: re.Match[str]) -> str:
        key = _CALLED.get(match[1], match[1].replace("-", "_"))
        return paths.get(key, match[0])

    return _OPTION.sub(named, message)


def _place(recipe: Recipe, sections: tuple[str, ...], at: Path, message: str) -> str | None:
    found = _named(recipe, sections, message) or _beginning(recipe, sections, message)
    if found is None and at and place_of(recipe.places, at):
        found = at
    return None if found is None else place_of(recipe.places, found)


def _named(recipe: Recipe, sections: tuple[str, ...], message: str) -> Path | None:
    """The first key there is whose option a message names."""
    for option in _OPTION.findall(message):
        key = _CALLED.get(option, option.replace("-", "_"))
        for path in recipe.places:
            if path[0:1] and path[0] in sections and path[-1] == key and len(path) <= 3:
                return path
    return None


def _beginning(recipe: Recipe, sections: tuple[str, ...], message: str) -> Path | None:
    """The key whose value a message begins with, or says that there is none of."""
    called = _VALUE.search(message)
    for section in sections:
        for path, value in _leaves(recipe.values.get(section), (section,)):
            if value and (message.startswith(f"{value}: ") or (called and called[1] == value)):
                return path if place_of(recipe.places, path) else None
    return None


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _leaves(one, (*path, name))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from _leaves(one, (*path, str(i)))
    else:
        yield path, value
