"""What is asked of filters, as plain data that can be written down and read again."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from curate.errors import UsageError, refuse_unknown
from curate.filters.expressions import expression
from curate.filters.language import BEGINNING
from curate.filters.pii import check_masks
from curate.filters.rules import KINDS, Rule, check_settings, chosen, overridden

TAKEN = ("kept", "not_drawn", "below_threshold", "too_short", "no_text", "contaminated", "exact_duplicate",
         "near_duplicate", "semantic_duplicate", "language.other", "language.share", "language.unknown")  # fmt: skip
"""Reasons that the ledger has for something else than a rule of the user."""
KIND_MODES = ("auto", "all")
UNKNOWN_LANGUAGE = ("keep", "remove")


@dataclass(frozen=True)
class FilterSpec:
    """Which documents are to go, and what is masked in the others.

    ``rules`` : names of rules or of groups of them, see `curate.filters.RULES`; "all". ``settings`` : other bounds,
    such as ``{"gopher.n_words.min": 20, "gopher_repetition.top_2gram.code.max": 0.5}``. ``kinds`` : "auto" finds the
    kind of each text and applies to it the rules that were made for it; "all" applies every rule to every text, as
    published. ``kind_column`` : a column that has the kinds, with labels of `KINDS` or your own; to others than
    `KINDS`, and to null, apply only the rules for all kinds and those with settings for it.
    ``languages`` : CLD2's codes of those to keep; "zh" is also "zh-Hant". ``min_language_share`` : of the text that
    must be in that language, 0 to 1. ``unknown_language`` : "keep" or "remove" what CLD2 is not sure of.
    ``mask`` : "email", "ip", "keys". ``min_words`` ... ``max_characters`` : of the rules of length.
    ``where`` : rules of your own, name -> condition of documents to remove, in SQL, in Polars as text, or Polars; on
    the statistics, ``kind``, ``language``, ``text`` and the documents' columns. Null stays.
    """

    rules: tuple[str, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    kinds: str = "auto"
    kind_column: str | None = None
    languages: tuple[str, ...] = ()
    min_language_share: float = 0.0
    unknown_language: str = "keep"
    mask: tuple[str, ...] = ()
    min_words: int | None = None
    max_words: int | None = None
    min_characters: int | None = None
    max_characters: int | None = None
    where: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("rules", "languages", "mask"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        check_settings(self.settings)
        check_masks(self.mask)
        _check_choice("kinds", self.kinds, KIND_MODES)
        _check_choice("unknown_language", self.unknown_language, UNKNOWN_LANGUAGE)
        share = self.min_language_share
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise UsageError(f"min_language_share is {share!r}, not between 0 and 1")
        if not self.languages and (share or self.unknown_language != "keep"):
            name = "min_language_share" if share else "unknown_language"
            raise UsageError(f"{name} is set, but no language is asked for; name some in languages")
        if self.kinds == "all" and self.kind_column:
            raise UsageError('kinds="all" applies every rule to every text: leave out kind_column')
        names = {rule.name for rule in self.chosen()}
        for key in self.settings:
            if not any(key.startswith(f"{name}.") for name in names):
                raise UsageError(f"{key} is set, but the rule is not chosen; add it to rules")
        for name, condition in self.where.items():
            if not name or name in names or name in TAKEN:
                raise UsageError(f"filter rule {name!r}: the name is taken by a rule or a reason here; choose another")
            expression(name, condition)

    def chosen(self) -> list[Rule]:
        """The rules with the bounds that hold, in the order in which they are asked."""
        lengths = self.lengths()
        wanted = [*self.rules, *dict.fromkeys(key.rpartition(".")[0] for key in lengths)]
        return [overridden(rule, {**self.settings, **lengths}) for rule in chosen(wanted)]

    def lengths(self) -> dict[str, float]:
        return {
            f"length.{what}.{bound}": value
            for what in ("words", "characters")
            for bound in ("min", "max")
            if (value := getattr(self, f"{bound}_{what}")) is not None
        }

    def as_dict(self) -> dict[str, Any]:
        """All settings, of plain data.

        Raises
        ------
        UsageError : a rule of the user is no text, which a file can hold.
        """
        for name, condition in self.where.items():
            if not isinstance(condition, str):
                raise UsageError(
                    f"filter rule {name!r}: write it as text, in SQL or as 'pl.col(...) < 3': it must be possible to "
                    "do a run again"
                )
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found |= {name: list(found[name]) for name in ("rules", "languages", "mask")}
        return found | {"settings": dict(self.settings), "where": dict(self.where)}

    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on."""
        found = self.as_dict() | {"bounds": [asdict(rule) for rule in self.chosen()]}
        if self.kinds == "auto" and not self.kind_column:
            found["kind_conditions"] = dict(KINDS)
        if self.languages:
            found["language_model"] = {"pycld2": _version("pycld2"), "bytes": BEGINNING}
        return found

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> FilterSpec:
        """Of a recipe's settings, by the names of the fields.

        Raises
        ------
        UsageError : a name or value that makes no sense.
        """
        refuse_unknown("setting of filters", settings, (f.name for f in fields(cls)))
        for name, value in settings.items():
            if name in ("settings", "where") and not isinstance(value, Mapping):
                raise UsageError(f"{name} is {value!r}; give names with values")
            if name in ("rules", "languages", "mask") and not _is_names(value):
                raise UsageError(f"{name} is {value!r}; give a list of names")
            if name.startswith(("min_w", "min_c", "max_")) and not (value is None or type(value) is int):
                raise UsageError(f"{name} is {value!r}, no whole number")
        found = cls(**settings)
        if not (found.rules or found.languages or found.mask or found.where or found.lengths()):
            raise UsageError("filters by nothing: name rules, languages, mask, where, or a length such as min_words")
        return found


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value))


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{name} is {value!r}{hint} (there are: {', '.join(choices)})")


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
