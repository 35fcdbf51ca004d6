"""Recipes: one file that describes a whole curation, from raw files to the evidence; what all ways to run one go by."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import __version__
from curate.engines.resources import engine_options
from curate.errors import InputError
from curate.io.paths import folder_path
from curate.io.targets import path_text
from curate.recipe.document import Places, read_document, write_document
from curate.recipe.keys import CLEANING, NOT_PASSED, SECTIONS, SELECTING, TOP, WEIGHTS, Section
from curate.recipe.normal import normal
from curate.recipe.overrides import Overrides, as_overrides, overridden

if TYPE_CHECKING:
    from curate.recipe.plan import RecipePlan
    from curate.recipe.steps import Curated

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A whole curation: what is selected from what, how, and what is done with it afterwards.

    ``values`` are sections by name, see `curate.recipe.keys`; a recipe brings them into their normal form, in which
    defaults are left out and paths are lists. ``places`` says where each was written, for messages.

    Raises
    ------
    UsageError : an unknown key, a value of another type, a URL with a password in it.
    """

    values: Mapping[str, Any]
    places: Places = field(default_factory=dict, compare=False, repr=False)
    file: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", normal(copy.deepcopy(self.values), self.places, self.file))

    def __hash__(self) -> int:
        return hash(self.digest)

    # ---- where recipes come from

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        overrides: Overrides = (),
        environ: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Read a recipe from a YAML file, or from the ``manifest.json`` of a run.

        Parameters
        ----------
        overrides : such as ``["draw.budget=5%"]``, or ``{"draw.budget": "5%"}``.
        environ : for ``${NAME}`` in values; None: that of the process.
        arguments : of `curate.select`, which go before what the recipe and ``overrides`` say.

        Raises
        ------
        InputError : the file cannot be read, or is no YAML. UsageError : what it says makes no sense.
        """
        file = os.fspath(path)
        text, places = _read(file), Places()
        if file.endswith(".json") and (manifest := _manifest(text)) is not None:
            values = _again(manifest, os.path.dirname(file) or ".", file)
        else:
            values, places = read_document(text, file, os.environ if environ is None else environ)
        values, places = overridden(values, places, overrides)
        return cls(*overridden(values, places, as_overrides(arguments or {})), file)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], overrides: Overrides = ()) -> Recipe:
        """A recipe from its sections, as `as_dict` gives them."""
        return cls(*overridden(values, {}, overrides))

    @classmethod
    def of_arguments(cls, raw: Any, **arguments: Any) -> Recipe:
        """A recipe from the arguments of `curate.select`; those of ``weights`` may stand beside the others."""
        given = {"raw": raw, **(arguments.pop("weights", None) or {}), **arguments}
        values: dict[str, Any] = {name: given.pop(name) for name in TOP if name in given}
        for name in SELECTING:
            section = SECTIONS[name]
            assert isinstance(section, Section)
            if name in CLEANING:
                values[name] = given.pop(name, None)
                continue
            values[name] = {key: given.pop(key) for key in section.keys if key in given}
        if given:
            raise TypeError(f"select has no argument {min(given)!r}")
        return cls(_as_text(values))

    @classmethod
    def of_manifest(
        cls,
        manifest: Mapping[str, Any],
        *,
        out: str | os.PathLike[str] | None = None,
        overrides: Overrides = (),
        file: str = "",
    ) -> Recipe:
        """The recipe of a run from its manifest: run again it has the same ``recipe_sha256``.

        ``out`` is the folder of the new run; of the same one there is nothing left to do.

        Raises
        ------
        InputError : the manifest has what this version of curate does not know.
        """
        return cls(*overridden(_again(manifest, out, file), {}, overrides), file)

    # ---- what is in it

    @property
    def out(self) -> Path:
        """The folder for the results; of a URL a path that answers as a `Path` does."""
        return folder_path(self.values["out"])

    @property
    def selects(self) -> bool:
        """Whether a selection is part of it."""
        return "raw" in self.section("inputs")

    def section(self, name: str) -> Mapping[str, Any]:
        """A section; empty when it is not there."""
        found: Mapping[str, Any] = self.values.get(name, {})
        return found

    @property
    def steps(self) -> dict[str, Any]:
        """What is done after the selection, by step."""
        later = [name for name, of in SECTIONS.items() if of.is_step and name not in CLEANING]
        return copy.deepcopy({name: self.values[name] for name in later if name in self.values})

    @property
    def digest(self) -> str:
        """SHA-256 of what is done, wherever and however it runs.

        (Not ``recipe_sha256`` of a manifest, which has all defaults in it and nothing of later steps.)
        """
        from curate.io.run import digest

        return digest({name: value for name, value in self.values.items() if name not in ("out", "run")})

    def as_dict(self) -> dict[str, Any]:
        """Its sections in their normal form."""
        return copy.deepcopy(dict(self.values))

    def as_yaml(self) -> str:
        """As a file that `load` reads; the same recipe gives the same text."""
        return f"# A recipe of curate {__version__}; do it with: curate run FILE\n{write_document(self.values)}"

    def select_arguments(self) -> dict[str, Any]:
        """The arguments of `curate.select`.

        Raises
        ------
        UsageError : there is no selection in it.
        """
        from curate.errors import UsageError

        if not self.selects:
            raise UsageError("no selection in this recipe (inputs.raw)")
        found = {name: self.values[name] for name in TOP if name in self.values}
        for name in SELECTING:
            section = SECTIONS[name]
            assert isinstance(section, Section)
            given = self.section(name)
            if name in CLEANING:
                found |= {name: dict(given)} if name in self.values else {}
                continue
            for key, of in section.keys.items():
                if key not in NOT_PASSED.get(name, ()) and (key in given or key == "budget"):
                    found[key] = given[key] if key in given else of.default_in(given)
        if options := engine_options(found.get("engine", "local"), self.section("run")):
            found["engine_options"] = options
        weights = {key: found.pop(key) for key in WEIGHTS if key in found}
        return copy.deepcopy(found | ({"weights": weights} if weights else {}))

    # ---- doing it

    def check(self) -> None:
        """Refuse what a run would refuse, as far as can be known before anything is read.

        Raises
        ------
        CurateError : led by the line of the key, where there is one.
        """
        from curate.recipe.check import check

        check(self)

    def plan(self) -> RecipePlan:
        """What would be done, with an estimate of what the selection takes; nothing is written."""
        from curate.recipe.plan import plan

        return plan(self)

    def run(self, *, progress: bool | None = False, overwrite: bool = False) -> Curated:
        """Do all of it; what is finished already is not done again.

        Parameters
        ----------
        progress : bars on stderr; None: when that is a terminal.
        overwrite : replace what another recipe left in the folder.

        Raises
        ------
        CurateError : in one of its kinds; what is finished is kept for the next try.
        """
        from curate.recipe.steps import run

        return run(self, progress, overwrite)


def _again(manifest: Mapping[str, Any], out: str | os.PathLike[str] | None, file: str) -> dict[str, Any]:
    """The sections of the run of a manifest, for another folder."""
    from curate.recipe.manifest import sections_of

    values = sections_of(manifest, file or "manifest")
    return values if out is None else values | {"out": path_text(out)}


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            return stream.read().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text; a recipe is a YAML file") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{file}: {why.lower()}") from error


def _manifest(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "recipe_sha256" in found else None


def _as_text(value: Any) -> Any:
    """Paths as text, and no value for None."""
    if isinstance(value, Mapping):
        return {str(name): _as_text(one) for name, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_as_text(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
