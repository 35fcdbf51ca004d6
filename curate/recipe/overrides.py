"""Single values of a recipe replaced by hand: ``draw.budget=5%``."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from typing import Any

from curate.engines.resources import RAY_OPTIONS
from curate.errors import UsageError
from curate.io.targets import path_text
from curate.recipe.document import Path, Places, read_document
from curate.recipe.keys import CLEANING, SECTIONS, SELECTING, TOP, WEIGHTS, Key, OneOf, Section
from curate.recipe.values import BY_NAME, Loose, WrongError, flat, settings

Overrides = Iterable[str] | Mapping[str, Any]


def overridden(values: Any, places: Places, overrides: Overrides) -> tuple[Any, Places]:
    """A recipe with some values replaced, and where each is now.

    Parameters
    ----------
    overrides : ``key=value`` with the key's sections before it, ``draw.budget=5%``, the value as YAML has it; empty
        or null takes the key away. Or values by such keys.

    Raises
    ------
    UsageError : it cannot be read, or the key is below one that has nothing below it.
    """
    if values is not None and not isinstance(values, Mapping):
        return values, places
    values, places = copy.deepcopy(dict(values or {})), dict(places)
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_pair, overrides)
    for dotted, value in pairs:
        place = dotted if isinstance(overrides, Mapping) else f"{dotted}={value}"
        path = _path(dotted)
        if isinstance(value, str) and not isinstance(value, Loose):
            value = _value(value, place)
        _set(values, path, value, place)
        places = {at: where for at, where in places.items() if at[: len(path)] != path} | {path: place}
    return values, places


def as_overrides(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `curate.select` as values by dotted keys; a mapping among them replaces all that is there.

    Raises
    ------
    TypeError : `select` has no such argument, or it is no part of a recipe. UsageError : nor has one of its mappings.
    """
    given = dict(arguments)
    for name, names in (("weights", {key: key for key in WEIGHTS}), ("engine_options", RAY_OPTIONS)):
        if (of := given.pop(name, None)) is not None:
            if strange := of.keys() - names.values():
                raise UsageError(f"{name}: no {min(strange)!r} there (there are: {', '.join(names.values())})")
            given |= {key: of.get(called) for key, called in names.items()}
    found: dict[str, Any] = {}
    for section in SELECTING:
        of = SECTIONS[section]
        assert isinstance(of, Section)
        if section in CLEANING:
            found |= {section: given.pop(section)} if section in given else {}
            continue
        found |= {f"{section}.{key}": given.pop(key) for key in of.keys if key in given}
    found |= {name: given.pop(name) for name in TOP if name in given}
    if given:
        raise TypeError(f"a recipe has no argument {min(given)!r}")
    return {key: _loose(value) for key, value in found.items()}


def _loose(value: Any) -> Any:
    """Text, paths too, as it came out of a template: no YAML, but a number where its key has one."""
    if isinstance(value, Mapping):
        return {str(name): _loose(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_loose(one) for one in value]
    return Loose(path_text(value)) if isinstance(value, (str, os.PathLike)) else value


def _pair(override: str) -> tuple[str, str]:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise UsageError(f"{override}: must be KEY=VALUE, such as draw.budget=5%")
    return dotted, value


def _value(text: str, place: str) -> Any:
    if text[:1] in ("[", "{", "'", '"'):
        return read_document(text, place, None)[0]
    return None if text in ("", "null", "~") else Loose(text)


def _path(dotted: str) -> Path:
    """The keys of a dotted one. What is below a key that has names below it is one name, dots and all."""
    parts = tuple(dotted.split("."))
    depth = 1 if parts[0] in TOP else 2
    if isinstance(SECTIONS.get(parts[0]), OneOf):
        depth = 3
    return (*parts[:depth], ".".join(parts[depth:])) if len(parts) > depth else parts


def _key(path: Path) -> Key | None:
    section = SECTIONS.get(path[0])
    if isinstance(section, OneOf):
        section, path = section.sections.get(path[1]), path[1:]
    if isinstance(section, OneOf) or section is None or len(path) < 2:
        return TOP.get(path[0])
    return section.keys.get(path[1])


def _set(values: dict[str, Any], path: Path, value: Any, place: str) -> None:
    at: Any = values
    for depth, name in enumerate(path[:-1], 1):
        key = _key(path[:depth]) if depth == len(path) - 1 else None
        if key is not None and key.kind not in BY_NAME:
            raise UsageError(f"{place}: {'.'.join(path[:depth])} has nothing below it")
        below = at.get(name)
        if below is None or isinstance(below, bool):
            below = {}
        if not isinstance(below, Mapping):
            what = "has no names" if key else "is no section"
            raise UsageError(f"{place}: {'.'.join(path[:depth])} {what} where it stands; replace all of it")
        below = dict(below)
        if key is not None and key.kind is settings:
            try:
                below = flat(below)
            except WrongError as error:
                raise UsageError(f"{place}: {error}") from error
        at[name] = below
        at = below
    if value is None:
        at.pop(path[-1], None)
    else:
        at[path[-1]] = value
