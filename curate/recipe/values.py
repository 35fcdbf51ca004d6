"""What the value of a key may be: each kind takes what was read and gives what a function gets, or says what is wrong.

Scalars are those of YAML 1.2: ``yes``, ``no``, ``on``, ``off`` are text, ``1e6`` is a number, ``010`` is ten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from curate.errors import unknown
from curate.io.credentials import CREDENTIALS, credentials_in

Kind = Callable[[Any], Any]
WHOLE = re.compile(r"[-+]?[0-9][0-9_]*")
ROUND = re.compile(r"([-+]?[0-9]+)[eE]\+?([0-9]|1[0-8])")  # 1e6 is how a million is written, not a fraction
REAL = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
LARGEST = 2**63 - 1
_DIGITS = 300  # of a number; what is longer is text


class WrongError(ValueError):
    """What is wrong with a value, and with which part of it."""

    def __init__(self, text: str, *part: str) -> None:
        super().__init__(text)
        self.part = part


class Loose(str):
    """Text from the environment or a command line: whether it is a number is for its key to say."""


def scalar(text: str) -> Any:
    """What a plain scalar is by YAML 1.2: None, a bool, a number, else text."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    try:
        if len(text) <= _DIGITS and WHOLE.fullmatch(text):
            return int(text)
        if len(text) <= _DIGITS and (parts := ROUND.fullmatch(text)):
            return int(parts[1]) * 10 ** int(parts[2])
        if len(text) <= _DIGITS and REAL.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:  # such as 1__0
        pass
    return str(text)


def plain(value: Any) -> Any:
    """A value as it is when no key says what it must be."""
    return scalar(value) if isinstance(value, Loose) else value


def shown(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, (bool, type(None))):
        return {True: "true", False: "false", None: "empty"}[value]
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---- kinds: of single values


def text(value: Any) -> str:
    """Text."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float)):
        raise WrongError("must be text; write it in quotes")
    raise WrongError("must be text")


def path(value: Any) -> str:
    """A path or URL."""
    found = text(value)
    if not found:
        raise WrongError("must be a path")
    return found


def whole(value: Any) -> int:
    """A whole number of 64 bits."""
    number = plain(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise WrongError("must be a whole number" + _unquoted(number))
    if abs(number) > LARGEST:
        raise WrongError(f"must be a whole number up to {LARGEST:,}")
    return number


def number(value: Any) -> float:
    """A finite number."""
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise WrongError("must be a number" + _unquoted(found))
    if not math.isfinite(found) or abs(found) > 1e308:
        raise WrongError("must be a finite number")
    return float(found)


def _unquoted(value: Any) -> str:
    """What to add of a number that was written as text."""
    return ", without quotes" if isinstance(value, str) and isinstance(scalar(value), (int, float)) else ""


def flag(value: Any) -> bool:
    """True or false."""
    found = plain(value)
    if not isinstance(found, bool):
        raise WrongError("must be true or false")
    return found


def amount(value: Any) -> str | int:
    """How much: ``10000``, ``10%``, ``500MB``, ``2B-tokens``; a number is a whole one."""
    found = plain(value)
    if isinstance(found, float) and found.is_integer() and abs(found) <= LARGEST:
        found = int(found)
    if isinstance(found, float):
        raise WrongError("must be a whole number, or a number with a unit; a share is written as 10%")
    if isinstance(found, bool) or not isinstance(found, (int, str)):
        raise WrongError("must be a number with its unit, such as 10%, 500MB, 2B-tokens, or of documents, 10000")
    if isinstance(found, str):
        digits = scalar(found)
        return digits if isinstance(digits, int) and not isinstance(digits, bool) else found
    return found


def choice(*names: str) -> Kind:
    """One of some names."""

    def one_of(value: Any) -> str:
        found = text(value)
        if found not in names:
            raise _near("value", found, names)
        return found

    return one_of


def _near(kind: str, name: str, names: Any) -> WrongError:
    return WrongError(str(unknown(kind, name, names)))


# ---- kinds: of several values


def texts(value: Any) -> list[str]:
    """Texts, or one."""
    return _listed(value, text)


def paths(value: Any) -> list[str]:
    """Paths, or one; not none."""
    found = _listed(value, path)
    if not found:
        raise WrongError("must be a path or a list of paths; it has none")
    return found


def _listed(value: Any, kind: Kind) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [_part(kind, one, str(i)) for i, one in enumerate(value)]
    if isinstance(value, Mapping):
        raise WrongError("must be text, or a list of texts")
    return [kind(value)]


def _part(kind: Kind, value: Any, name: str) -> Any:
    try:
        return kind(value)
    except WrongError as error:
        raise WrongError(f"{shown(value)} {error}", name, *error.part) from error


def targets(value: Any) -> list[str] | dict[str, list[str]]:
    """A path, a list of paths, or paths by name."""
    return _by_name(value, paths) if isinstance(value, Mapping) else paths(value)


def numbers(value: Any) -> dict[str, float]:
    """Numbers by name."""
    return _by_name(value, number)


def named_texts(value: Any) -> dict[str, str]:
    """Texts by name."""
    return _by_name(value, text)


def share_or_shares(value: Any) -> float | dict[str, float]:
    """A number, or numbers by name."""
    return numbers(value) if isinstance(value, Mapping) else number(value)


def _by_name(value: Any, kind: Kind) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongError("must be a mapping from names")
    return {text(name): _part(kind, one, str(name)) for name, one in value.items() if one is not None}


def settings(value: Any) -> dict[str, Any]:
    """Settings of a scorer; those of fused ones as ``dsir.n``, or in a mapping of their own."""
    if not isinstance(value, Mapping):
        raise WrongError("must be a mapping from settings to values")
    found: dict[str, Any] = {}
    for name, one in flat(value).items():
        if name in found:
            raise WrongError(f"{name} is there twice", name)
        found[name] = _part(_setting, one, name)
    return dict(found)


def flat(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Settings with those of each scorer as ``dsir.n``.

    Raises
    ------
    WrongError : one is there in both forms.
    """
    found: dict[str, Any] = {}
    for name, one in value.items():
        parts = {f"{name}.{key}": of for key, of in one.items()} if isinstance(one, Mapping) else {str(name): one}
        if twice := found.keys() & parts.keys():
            raise WrongError(f"{min(twice)} is there twice", min(twice))
        found |= parts
    return found


def _setting(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_setting(one) for one in value]
    found = plain(value)
    if isinstance(found, float) and not math.isfinite(found):
        raise WrongError("must be a finite number")
    if found is not None and not isinstance(found, (bool, int, float, str)):
        raise WrongError("must be text, a number, true or false, or a list of these")
    return str(found) if isinstance(found, str) else found


BY_NAME: tuple[Kind, ...] = (targets, numbers, named_texts, share_or_shares, settings)  # kinds with names below them


# ---- what no value may hold


def refuse_credentials(value: str) -> None:
    """Refuse URLs that let in whoever reads them.

    Raises
    ------
    WrongError : there is a password in it, or a signature.
    """
    if found := credentials_in(value):
        raise WrongError(f"{found}: {CREDENTIALS}")


def refuse_unwritable(value: str) -> None:
    """Refuse text that no file can hold.

    Raises
    ------
    WrongError : half of a surrogate pair, or a character that is not for text.
    """
    if any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
        raise WrongError("holds characters that are no text")
