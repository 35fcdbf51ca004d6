"""The normal form of a recipe: checked against the table of keys, with what is as it is by default left out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curate.errors import UsageError
from curate.recipe.document import Path, Places
from curate.recipe.keys import CLEANING, SECTIONS, TOP, Key, OneOf, Section
from curate.recipe.values import WrongError, plain, refuse_credentials, refuse_unwritable, shown


def normal(values: Any, places: Places, file: str = "") -> dict[str, Any]:
    """A recipe in its normal form: sections and keys in the order of the table, paths as lists, without defaults.

    Raises
    ------
    UsageError : an unknown key, a value of another type, or steps without what they are steps of.
    """
    if not isinstance(values, Mapping):
        what = "empty" if values is None else shown(values)
        raise refused(places, (), f"is {what}; a recipe is a mapping of {', '.join([*TOP, *SECTIONS])}", file)
    _refuse_everywhere(values, places, ())
    for name in values:
        if name not in TOP and name not in SECTIONS:
            raise _no_key(places, (name,), "a recipe", [*TOP, *SECTIONS], _section_with(name))
    found: dict[str, Any] = _keys(values, TOP, places, ())
    for name, section in SECTIONS.items():
        if name in values:
            one = _section(values[name], section, places, (name,))
            if one is not None and (one or section.is_step):
                found[name] = one
    _refuse_parts(found, places, file)
    return found


def _section(value: Any, section: Section | OneOf, places: Places, path: Path) -> dict[str, Any] | None:
    value = plain(value)
    if section.is_step and value is False:
        return None
    if value is True and section.is_step and isinstance(section, Section):
        value = {}
    if value is None and section.is_step and path in places:
        names = f"give one of {', '.join(section.sections)}" if isinstance(section, OneOf) else ""
        way = f"{names or f'write {path[-1]}: true for the defaults'}, or leave it out"
        raise refused(places, path, f"{'.'.join(path)} is empty; {way}")
    if value is None:
        return None if section.is_step else {}
    if not isinstance(value, Mapping):
        known = section.sections if isinstance(section, OneOf) else section.keys
        raise refused(places, path, f"{'.'.join(path)} is {shown(value)}; must be a mapping of {', '.join(known)}")
    if isinstance(section, Section):
        return _keys(value, section.keys, places, path)
    for name in value:
        if name not in section.sections:
            raise _no_key(places, (*path, name), path[-1], section.sections)
    made = {name: one for name in value if (one := _one_of(value[name], section.sections[name], places, (*path, name)))}
    if len(made) > 1:
        raise refused(places, path, f"{path[-1]}: has {' and '.join(made)}; must be one of them")
    return {name: one[0] for name, one in made.items()} or None


def _one_of(value: Any, section: Section, places: Places, path: Path) -> tuple[dict[str, Any]] | None:
    """In a tuple, for it may be empty and there all the same."""
    found = _section(value, Section(section.takes, section.keys, is_step=True), places, path)
    return None if found is None else (found,)


def _keys(values: Mapping[str, Any], keys: Mapping[str, Key], places: Places, path: Path) -> dict[str, Any]:
    """The values of keys, in the order of the table, without defaults."""
    found = {}
    if path:
        for name in values:
            if name not in keys:
                raise _no_key(places, (*path, str(name)), ".".join(path), keys)
    for name, key in keys.items():
        value = values.get(name)
        if value is None:
            continue
        try:
            found[name] = key.kind(value)
        except WrongError as error:
            at = (*path, name, *error.part)
            value = "" if error.part else f" {shown(value)}"
            text = str(error)
            raise refused(places, at, f"{'.'.join((*path, name))}{value}: {text}") from error
    return {
        name: value
        for name, value in found.items()
        if not (value == (usual := keys[name].default_in(found)) and type(value) is type(usual)) and value != {}
    }


def _refuse_parts(found: Mapping[str, Any], places: Places, file: str) -> None:
    """Refuse steps without what they are steps of."""
    raw = found.get("inputs", {}).get("raw")
    if raw is None:
        for name in ("inputs", *CLEANING, "score", "draw", "write", "evaluate", "report"):
            if name in found:
                raise refused(places, (name,), f"{name}: nothing to select from; say where raw is: inputs.raw", file)
        if "curriculum" not in found:
            raise refused(
                places, (), "nothing to do; say what to select from with inputs.raw, or give a curriculum", file
            )
    if "out" not in found:
        raise refused(places, (), "no out: the folder for the results", file)


def _refuse_everywhere(value: Any, places: Places, path: Path) -> None:
    if isinstance(value, Mapping):
        for name, one in value.items():
            if not isinstance(name, str):
                raise refused(places, path, f"key {name!r}: must be text")
            _refuse_everywhere(name, places, (*path, name))
            _refuse_everywhere(one, places, (*path, name))
    elif isinstance(value, (list, tuple)):
        for i, one in enumerate(value):
            _refuse_everywhere(one, places, (*path, str(i)))
    elif isinstance(value, str):
        try:
            refuse_unwritable(value)
            refuse_credentials(value)
        except WrongError as error:
            raise refused(places, path, f"{'.'.join(path)}: {error}") from error


def _section_with(name: str) -> list[str]:
    """Where a key is that stands outside of its section."""
    sections = {path: of.keys for path, of in SECTIONS.items() if isinstance(of, Section)}
    return [f"{path}.{name.lower()}" for path, keys in sections.items() if name.lower() in keys]


def _no_key(places: Places, path: Path, where: str, known: Iterable[str], elsewhere: Sequence[str] = ()) -> UsageError:
    names = list(known)
    near = [*elsewhere, *difflib.get_close_matches(path[-1], names, n=1)]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return refused(places, path, f"no key {path[-1]!r} in {where}{hint} (there are: {', '.join(names)})")


def place_of(places: Places, path: Path) -> str | None:
    """Where a key is, or the nearest above it."""
    for n in range(len(path), 0, -1):
        if path[:n] in places:
            return places[path[:n]]
    return None


def refused(places: Places, path: Path, text: str, file: str = "") -> UsageError:
    """The error for a key, led by where it is."""
    place = place_of(places, path) or file
    return UsageError(f"{place}: {text}" if place else text)
