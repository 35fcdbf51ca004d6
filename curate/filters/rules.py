"""The named rules: the published ones with their thresholds, and for which kinds of text they were made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from curate.errors import UsageError, unknown

if TYPE_CHECKING:
    import polars as pl

RAE = "Rae et al. 2021 (Gopher), arXiv:2112.11446, appendix A.1.1"
RAE_TABLE = "Rae et al. 2021 (Gopher), arXiv:2112.11446, table A1"
RAFFEL = "Raffel et al. 2020 (C4), JMLR 21(140), section 2.2"
PENEDO = "Penedo et al. 2024 (FineWeb), arXiv:2406.17557, section 3.6"
XIE = "Xie et al. 2023 (DSIR), arXiv:2302.03169, and the code of its experiments"
HERE = "curate"
DATATROVE = "datatrove, FineWebQualityFilter; not in the paper"

KINDS: dict[str, str] = {
    "unspaced": "unspaced_fraction > 0.3",
    "maths": "command_word_ratio >= 0.05 OR (digit_fraction >= 0.1 AND letter_fraction < 0.6)",
    "code": "code_fraction >= 0.04 AND english_fraction < 0.25",
    "foreign": "non_ascii_fraction > 0.15 OR other_language_fraction > english_fraction "
    "OR (english_fraction < 0.05 AND non_ascii_fraction > 0.02)",
    "list": "english_fraction < 0.22 AND words_per_line < 9 AND ended_line_fraction < 0.35",
    "prose": "true",
}
"""Kinds of text, in SQL on the statistics; a document is of the first that is true.

English prose has a third to a half of stop words, code and markup a tenth and one character in twenty of
``{}[]();=<>_``; TeX has a backslash for every fifth word. "foreign" is what is written with spaces and not English.
"""
PROSE, SPACED = ("prose",), ("prose", "foreign")
BOUNDS = {"min": ">=", "max": "<=", "above": ">", "below": "<"}  # of a statistic, to be kept
_LOOSE = ("code", "maths", "list")


@dataclass(frozen=True)
class Rule:
    """A document stays where a statistic is within bounds.

    ``bounds`` : by `BOUNDS`; a rule without any does nothing until it is given one. ``kinds`` : to which it applies;
    none: to all. ``by_kind`` : other bounds for a kind. ``note`` : where it differs from its source.
    """

    name: str
    statistic: str
    bounds: Mapping[str, float]
    source: str
    kinds: tuple[str, ...] = ()
    by_kind: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]

    def condition(self, bounds: Mapping[str, float] | None = None) -> str:
        """To be kept, such as ``50 <= n_words``, in SQL."""
        parts = (f"{self.statistic} {BOUNDS[b]} {v:g}" for b, v in (self.bounds if bounds is None else bounds).items())
        return " AND ".join(parts) or "true"


def _repetition() -> Iterator[Rule]:
    """Table A1; code, formulas and lists repeat more: of those in the pool about 1 in 100 is above the other bounds."""
    lines = {"fraction": (0.3, 0.6), "characters": (0.2, 0.5)}
    for what in ("line", "paragraph"):
        for of, (bound, loose) in lines.items():
            yield Rule(
                f"gopher_repetition.{what}_{of}", f"repeated_{what}_{of}", {"max": bound}, RAE_TABLE,
                by_kind={kind: {"max": loose} for kind in _LOOSE},
            )  # fmt: skip
    for n, bound in {2: 0.20, 3: 0.18, 4: 0.16}.items():
        yield Rule(
            f"gopher_repetition.top_{n}gram", f"top_{n}gram_characters", {"max": bound}, RAE_TABLE, SPACED + _LOOSE,
            {kind: {"max": 0.4} for kind in _LOOSE}, "words between white space; n-grams that occur once do not count",
        )  # fmt: skip
    for n in range(5, 11):
        yield Rule(
            f"gopher_repetition.repeated_{n}gram", f"repeated_{n}gram_characters", {"max": round(0.2 - n / 100, 2)},
            RAE_TABLE, SPACED + _LOOSE, {kind: {"max": 0.5} for kind in _LOOSE},
            "words between white space; the first occurrence does not count, as in datatrove",
        )  # fmt: skip


def _table() -> Iterator[Rule]:
    yield Rule("length.characters", "n_characters", {}, HERE)
    yield Rule("length.words", "n_words", {}, HERE)
    yield Rule("length.lines", "n_lines", {}, HERE)

    yield Rule("symbols.replacement", "replacement_fraction", {"max": 0.01}, HERE)
    yield Rule("symbols.control", "control_fraction", {"max": 0.02}, HERE)
    yield Rule("symbols.run", "longest_run", {"max": 1000}, HERE)
    yield Rule("symbols.letters", "printed_letter_fraction", {"min": 0.5}, HERE, (*SPACED, "unspaced"))

    yield Rule("gopher.n_words", "n_words", {"min": 50, "max": 100_000}, RAE, SPACED)
    yield Rule("gopher.word_length", "mean_word_length", {"min": 3, "max": 10}, RAE, SPACED)
    yield Rule("gopher.hashes", "hash_word_ratio", {"max": 0.1}, RAE, (*SPACED, "list"))
    yield Rule("gopher.ellipses", "ellipsis_word_ratio", {"max": 0.1}, RAE, (*SPACED, "list"))
    yield Rule(
        "gopher.bullets", "bullet_line_fraction", {"max": 0.9}, RAE, SPACED, note="- and * are bullets too"
    )  # fmt: skip
    yield Rule("gopher.ellipsis_lines", "ellipsis_line_fraction", {"max": 0.3}, RAE, (*SPACED, "list"))
    yield Rule("gopher.alpha_words", "alpha_word_fraction", {"min": 0.8}, RAE, SPACED)
    yield Rule("gopher.stop_words", "n_stop_words", {"min": 2}, RAE, PROSE, note="in any case, without punctuation")

    yield from _repetition()

    yield Rule("c4.lorem_ipsum", "lorem_ipsum", {"max": 0}, RAFFEL, (*SPACED, "list"))
    yield Rule(
        "c4.curly_bracket", "n_braces", {"max": 0}, RAFFEL, PROSE, note="their code looks for { in lines it keeps"
    )
    yield Rule(
        "c4.sentences", "c4_sentences", {"min": 3}, RAFFEL, PROSE,
        note="of lines that end in . ! ? or a double quotation mark and not in an ellipsis, have 5 words, none over "
        '1,000 characters, and say nothing of "javascript", cookies or policies. The lines that go in C4 stay here; '
        "sentences are counted by their marks, not by punkt; citations such as [1] are not cut out first",
    )  # fmt: skip

    yield Rule("fineweb.ended_lines", "ended_line_fraction", {"above": 0.12}, PENEDO, PROSE)
    yield Rule("fineweb.short_lines", "short_line_fraction", {"below": 0.67}, PENEDO, PROSE)
    yield Rule(
        "fineweb.repeated_lines", "repeated_line_characters", {"below": 0.1}, PENEDO, PROSE,
        note="as in the paper; the default of its code is 0.01",
    )  # fmt: skip
    yield Rule(
        "fineweb.newlines", "newline_word_ratio", {"max": 0.3}, DATATROVE, PROSE
    )  # fmt: skip

    dsir_note = "tokens are \\w+ or punctuation of the text in lower case, where theirs are nltk's word_tokenize"
    yield Rule("dsir_quality.length", "dsir_length", {"above": 40, "below": 500}, XIE, PROSE,
               note=f"{dsir_note}; made for 128-token chunks of English: longer documents go")  # fmt: skip
    yield Rule("dsir_quality.repeating", "dsir_repeating", {"above": 0.02, "below": 0.2}, XIE, PROSE, note=dsir_note)
    yield Rule("dsir_quality.informative", "dsir_informative", {"above": 0.3, "below": 0.7}, XIE, PROSE, note=dsir_note)
    yield Rule("dsir_quality.numeric", "dsir_numeric", {"above": 0.8}, XIE, PROSE,
               note=f"{dsir_note}; only tokens of a single digit are numbers: 2024 is none")  # fmt: skip


RULES: dict[str, Rule] = {rule.name: rule for rule in _table()}
GROUPS = tuple(dict.fromkeys(rule.group for rule in RULES.values()))


def chosen(names: Iterable[str]) -> list[Rule]:
    """Rules by their names or those of groups, in the order of the table; "all" is every one.

    Raises
    ------
    UsageError : a name that there is not.
    """
    wanted = set()
    for name in names:
        if name != "all" and name not in RULES and name not in GROUPS:
            raise unknown("filter rule", name, ["all", *GROUPS, *RULES])
        wanted.add(name)
    return [rule for rule in RULES.values() if wanted & {"all", rule.group, rule.name}]


def overridden(rule: Rule, settings: Mapping[str, float]) -> Rule:
    """With other bounds: ``NAME.min``, or for a kind ``NAME.KIND.min``."""
    bounds, by_kind = dict(rule.bounds), {kind: dict(of) for kind, of in rule.by_kind.items()}
    kinds = rule.kinds
    for key, value in settings.items():
        name, _, bound = key.rpartition(".")
        if name == rule.name:
            bounds[bound] = value
        elif name.startswith(f"{rule.name}."):
            kind = name[len(rule.name) + 1 :]
            by_kind.setdefault(kind, dict(rule.bounds))[bound] = value
            kinds = (*kinds, kind) if kinds and kind not in kinds else kinds
    return Rule(rule.name, rule.statistic, bounds, rule.source, kinds, by_kind, rule.note)


def check_settings(settings: Mapping[str, Any]) -> None:
    """
    Raises
    ------
    UsageError : a key that is no bound of a rule, or a value that is no number.
    """
    for key, value in settings.items():
        name, _, bound = key.rpartition(".")
        rule = name if name in RULES else name.rpartition(".")[0]
        if rule not in RULES or bound not in BOUNDS:
            raise unknown("setting of a filter rule", key, [f"{name}.{b}" for name in RULES for b in ("min", "max")])
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"{key}: {value!r} is no number")


def keep(rule: Rule, by_kind: bool) -> pl.Expr:
    """Whether a document stays; with ``by_kind`` by the column ``kind``, else every document must comply."""
    import polars as pl

    def within(bounds: Mapping[str, float]) -> pl.Expr:
        value = pl.col(rule.statistic)
        tests = {"min": value.ge, "max": value.le, "above": value.gt, "below": value.lt}
        return reduce(and_, (tests[b](v) for b, v in bounds.items()), pl.lit(value=True))

    expression = within(rule.bounds)
    if not by_kind:
        return expression
    for kind, bounds in rule.by_kind.items():
        expression = pl.when(pl.col("kind") == kind).then(within(bounds)).otherwise(expression)
    if rule.kinds:
        expression |= pl.col("kind").is_in(rule.kinds).not_().fill_null(value=True)
    return expression


def kind() -> pl.Expr:
    """The kind of each document, of its statistics."""
    import polars as pl

    branches = [pl.when(pl.sql_expr(condition)).then(pl.lit(name)) for name, condition in KINDS.items()]
    return pl.coalesce(branches).alias("kind")


def explain_rules(names: Iterable[str] = ("all",)) -> list[dict[str, Any]]:
    """The rules as plain data: name, condition to be kept, bounds, kinds, bounds by kind, what it is of, source."""
    from curate.filters.statistics import STATISTICS

    return [
        {
            "name": rule.name,
            "group": rule.group,
            "keep": rule.condition(),
            "bounds": dict(rule.bounds),
            "kinds": list(rule.kinds or KINDS),
            "by_kind": {k: dict(v) for k, v in rule.by_kind.items()},
            "statistic": STATISTICS[rule.statistic].what,
            "source": rule.source,
            "note": rule.note,
        }
        for rule in chosen(names)
    ]
