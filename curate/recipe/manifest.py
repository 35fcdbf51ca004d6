"""A recipe from the manifest of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.errors import InputError, UsageError
from curate.recipe.keys import CLEANING
from curate.sampling.budget import Budget
from curate.scorers import scorer

READING = ("text_column", "id_column", "target_text_column", "on_bad_row", "holdout", "domains")
KNOWN = {"raw", "target", "method", "settings", *READING, *CLEANING, "name", "draw", "write"}


def sections_of(manifest: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The sections of a recipe that makes the run of a manifest.

    Raises
    ------
    InputError : it is no manifest, or has what this version of curate does not know.
    """
    try:
        recipe = manifest["recipe"]
        if strange := sorted(recipe.keys() - KNOWN):
            raise InputError(
                f"{file}: made with {', '.join(strange)}, which this curate does not know; take a newer one"
            )
        allowed = manifest["stats"].get("cleaning", {}).get("max_removed") if "stats" in manifest else None
        how = {} if allowed is None else {"run": {"max_removed": allowed}}
        return _sections(recipe) | how | manifest.get("steps", {})
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise InputError(f"{file}: not the manifest of a run ({error!r}); name one that curate select wrote") from error


def _sections(recipe: Mapping[str, Any]) -> dict[str, Any]:
    drawing, writing, target = recipe["draw"], recipe["write"], recipe["target"]
    draw = {name: value for name, value in drawing.items() if name not in ("weights", "per", "budget")}
    draw |= drawing.get("weights", {})
    draw["budget"] = _budget(drawing["budget"])
    settings = _settings(recipe["method"], recipe["settings"])
    found: dict[str, Any] = {
        "inputs": {"raw": recipe["raw"], "target": target or None} | {name: recipe.get(name) for name in READING},
        "score": {"method": recipe["method"], "settings": settings, "per": drawing["per"]},
        "draw": draw if draw["draw"] != _usual_draw(recipe, draw) else draw | {"draw": None},
        "write": {"format": writing["format"], "shard_size": _bytes(writing["shard_bytes"])},
    }
    found |= {step: recipe[step] for step in CLEANING if step in recipe}
    if recipe["name"] != "-".join(filter(None, ["+".join(target), recipe["method"]])):
        found["name"] = recipe["name"]
    return found


def _settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not as they are by default."""
    compat = {name: value for name, value in settings.items() if name.split(".")[-1] == "compat" and value}
    usual = scorer(method, **compat).settings()
    return compat | {name: value for name, value in settings.items() if name in compat or value != usual[name]}


def _usual_draw(recipe: Mapping[str, Any], draw: Mapping[str, Any]) -> str | None:
    """The draw that it would be without being asked for."""
    from curate.selection.asked import draw_spec

    weights, drawing = recipe["draw"].get("weights", {}), recipe["draw"]
    try:
        model = scorer(recipe["method"], **recipe["settings"])
        return draw_spec(model, draw["budget"], None, 0, None, drawing["per"], drawing["proportions"], weights).draw
    except UsageError:
        return None


def _budget(budget: Mapping[str, Any] | None) -> str | int | None:
    if budget is None:
        return None
    made = Budget(budget["amount"], budget["unit"])
    number = f"{made.amount:.15g}"
    if "e" in number:
        number = f"{made.amount:.0f}"
    if made.unit == "bytes":
        return _bytes(int(made.amount)) if made.amount == int(made.amount) else f"{number}B"
    return {"percent": f"{number}%", "tokens": f"{number}-tokens"}.get(made.unit, number)


def _bytes(n: int) -> str:
    """A number of bytes, as short as it can be told exactly."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n and n % size == 0:
            return f"{n // size}{unit}"
    return f"{n}B"
