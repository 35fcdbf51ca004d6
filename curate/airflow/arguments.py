"""Arguments of library calls as they come out of templates: text, where a number or nothing is meant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from curate.errors import UsageError

KINDS: dict[str, type] = {
    "seed": int,
    "seeds": int,
    "workers": int,
    "partitions_per_task": int,
    "max_map_length": int,
    "threshold": float,
    "holdout": float,
    "max_removed": float,
    "filters": bool,
    "dedup": bool,
    "spill": bool,
    "lineage": bool,
    "overwrite": bool,
}
NULL = "None"
_NOTHING = ("", NULL, "null")  # what a parameter without a value is in a template
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those that have a value, as what they are meant to be.

    Raises
    ------
    UsageError : text that is no number where one is meant.
    """
    typed = {name: _typed(name, value) for name, value in arguments.items()}
    return {name: value for name, value in typed.items() if value is not None}


def _typed(name: str, value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    kind = KINDS.get(name, str)
    if isinstance(value, Mapping) and kind is float:
        return {key: _typed(name, one) for key, one in value.items()}  # shares by source
    if not isinstance(value, str):
        return value
    if value.strip() in _NOTHING:
        return None
    try:
        return _BOOLEANS[value.strip().lower()] if kind is bool else kind(value)
    except (KeyError, ValueError) as error:
        meant = "true or false" if kind is bool else "a number"
        raise UsageError(f"{name} {value!r}: must be {meant}") from error
