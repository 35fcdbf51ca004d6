"""`curate dedup`, `filter` and `decontaminate`, and what `select` and `score` have of them."""

from __future__ import annotations

from typing import Any

import click

from curate.cli.options import (
    bars,
    engine_of,
    options,
    pairs_of,
    print_json,
    reading,
    running,
    settings_of,
    targets_of,
    with_engine,
    writing,
)
from curate.errors import UsageError

KINDS = ("exact", "near", "semantic")
LISTS = ("against", "fields", "languages", "mask", "rules")  # settings of which there may be one
STEPS = ("filters", "dedup", "decontaminate")
with_max_removed = click.option(
    "--max-removed",
    multiple=True,
    metavar="[SOURCE=]SHARE",
    help="Share of the corpus, and of each source, that cleaning may remove; beyond it the run is refused.  "
    "[default: 0.5]",
)
filtering = options(
    click.option(
        "--rule",
        "--filter",
        "rules",
        multiple=True,
        metavar="NAME",
        help="Rules that documents must pass: gopher, gopher_repetition, c4, fineweb, ... or a single one; "
        "curate filter --list explains all.",
    ),
    click.option("--language", "languages", multiple=True, metavar="CODE", help="Keep documents in it, such as en."),
    click.option(
        "--mask", multiple=True, metavar="KIND", help="Put <EMAIL>, <IP> or <KEY> in the place of: email, ip, keys."
    ),
    click.option(
        "--where",
        multiple=True,
        metavar="NAME=SQL",
        help="A rule of your own: remove documents for which an SQL expression is true, such as short='n_words < 20'.",
    ),
)
cleaning = options(
    filtering,
    click.option(
        "--dedup",
        type=click.Choice(KINDS),
        help="Remove duplicates: exact; near (and exact); semantic (all three). More with --set dedup.threshold=0.8.",
    ),
    click.option(
        "--decontaminate",
        multiple=True,
        metavar="[NAME=]PATH",
        help="Remove documents that hold items of these evaluation files; repeat for several.",
    ),
    with_max_removed,
)


def filters_of(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of filters; they are taken out of the options."""
    found: dict[str, Any] = {name: list(given.pop(name)) for name in ("rules", "languages", "mask")}
    found["where"] = pairs_of(given.pop("where"), "--where")
    return {name: value for name, value in found.items() if value}


def cleaning_of(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `curate.select` about cleaning; they are taken out of the options, and of the settings.

    ``settings`` such as dedup.threshold belong to these; what else there is belongs to the scorer.
    """
    from curate.steps.clean import dedup_settings

    found: dict[str, dict[str, Any]] = {
        "filters": filters_of(given),
        "dedup": {} if (kind := given.pop("dedup")) is None else dedup_settings(kind),
        "decontaminate": {"against": targets_of(paths)} if (paths := given.pop("decontaminate")) else {},
    }
    for name in [name for name in settings if name.partition(".")[0] in STEPS]:
        step, _, key = name.partition(".")
        put(found[step], step, key, settings.pop(name))
    asked: dict[str, Any] = {name: value for name, value in found.items() if value}
    if shares := max_removed_of(given.pop("max_removed")):
        asked["max_removed"] = shares
    return asked


def put(settings: dict[str, Any], step: str, key: str, value: Any) -> None:
    """A setting of a step by its name; what is none of the step's own is one of a rule."""
    if step == "filters" and "." in key:
        settings.setdefault("settings", {})[key.removeprefix("settings.")] = value
    else:
        settings[key] = [value] if key in LISTS and not isinstance(value, list) else value


def max_removed_of(given: tuple[str, ...]) -> Any:
    """A share, or shares by source; None when none is given."""
    shares: dict[str, float] = {}
    for item in given:
        source, _, share = item.rpartition("=")
        try:
            shares[source] = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
        except ValueError as error:
            raise UsageError(f"--max-removed {item}: must be a share such as 0.8, or SOURCE=0.8") from error
    return shares[""] if list(shares) == [""] else shares or None


def _clean(raw: tuple[str, ...], given: dict[str, Any], step: str, settings: dict[str, Any]) -> None:
    """Call `curate.clean` for one step, and print what came of it."""
    from curate.selection import clean

    quiet, as_json = given.pop("quiet"), given.pop("as_json")
    for name, value in settings_of(given.pop("settings"), None).items():
        put(settings, step, name.removeprefix(f"{step}."), value)
    if (shares := max_removed_of(given.pop("max_removed"))) is not None:
        given["max_removed"] = shares
    given |= engine_of(given)
    given[step] = settings
    result = clean(raw, progress=bars(quiet), **given)
    if as_json:
        print_json({"out": str(result.out), "seconds": result.seconds, **result.manifest})
        return
    from curate.report.terminal import cleaned_text

    click.echo(cleaned_text(result))
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)


with_settings = click.option(
    "--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting; repeat for several."
)
of_a_step = options(with_settings, with_max_removed, reading, writing, with_engine, running)


@click.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for what is left.")
@click.option("--kind", type=click.Choice(KINDS), default="near", show_default=True,
              help="Exact; near and exact; semantic and both.")  # fmt: skip
@click.option("--threshold", type=float, help="Jaccard similarity of near duplicates, from which on.  [default: 0.7]")
@click.option("--prefer", metavar="longest|shortest|COLUMN", help="Which of several stays.  [default: the smallest id]")
@click.option(
    "--short",
    type=click.Choice(["exact", "keep"]),
    help="Documents of fewer words than a shingle has: removed only when exactly equal, or never.  [default: exact]",
)
@click.option("--against", multiple=True, metavar="PATH", help="Remove what is in this corpus, or run, already.")
@of_a_step
def dedup(
    raw: tuple[str, ...], kind: str, threshold: float | None, prefer: str | None, short: str | None,
    against: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Remove duplicates from RAW; of several one stays, whatever order and files they are in.

    Near duplicates share at least --threshold of their 5-word shingles, which is checked, not estimated, and each
    removed document is near to one that stays. DIR/duplicates.parquet says which to which, and how near.

    \b
    Example:
      curate dedup samples/raw --out unique
    """
    from curate.steps.clean import dedup_settings

    settings: dict[str, Any] = {**dedup_settings(kind)}
    named = {"threshold": threshold, "prefer": prefer, "short": short, "against": list(against) or None}
    settings |= {name: value for name, value in named.items() if value is not None}
    _clean(raw, rest, "dedup", settings)


@click.command()
@click.argument("raw", nargs=-1)
@click.option("--out", "-o", type=click.Path(file_okay=False), help="Folder for what is left.  [required]")
@click.option("--list", "as_list", is_flag=True, help="Explain all rules, with their thresholds, and stop.")
@filtering
@of_a_step
def filter(raw: tuple[str, ...], out: str | None, as_list: bool, **rest: Any) -> None:
    """Remove documents of RAW that fail rules, such as those published with Gopher, C4 and FineWeb.

    The rules are for prose: by default code, formulas and Chinese have to pass only those that suit them. The ledger
    says which rule removed which document.

    \b
    Example:
      curate filter samples/raw --rule gopher --mask email --out filtered
    """
    if as_list:
        from curate.filters import explain_rules
        from curate.report.terminal import rules_text

        print_json(explain_rules()) if rest["as_json"] else click.echo(rules_text(explain_rules()))
        return
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in ("raw", "out") and not context.params[parameter.name]:
            hint = "'RAW...'" if parameter.name == "raw" else None
            raise click.MissingParameter(ctx=context, param=parameter, param_hint=hint)
    settings = filters_of(rest)
    if not settings and not rest["settings"]:
        raise UsageError("nothing to filter by; pass --rule, --language, --mask or --where (curate filter --list)")
    _clean(raw, rest | {"out": out}, "filters", settings)


@click.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for what is left.")
@click.option("--against", "-a", multiple=True, required=True, metavar="[NAME=]PATH", help="Evaluation files.")
@click.option(
    "--mode",
    type=click.Choice(["remove", "cut", "tag"]),
    help="Remove documents, cut out what they hold of an item, or name the benchmarks in a column.  [default: remove]",
)
@click.option("--ngram", type=click.IntRange(8, 64), help="Words of an item in a row that settle it.  [default: 13]")
@of_a_step
def decontaminate(
    raw: tuple[str, ...], against: tuple[str, ...], mode: str | None, ngram: int | None, **rest: Any
) -> None:
    """Remove documents of RAW that hold items of evaluation files, word for word or lightly edited.

    DIR/contamination.parquet says which item is where in which document.

    \b
    Example:
      curate decontaminate samples/raw --against samples/targets/gsm8k/heldout.jsonl --out clean
    """
    settings = {"against": targets_of(against, "--against"), "mode": mode, "ngram": ngram}
    _clean(raw, rest, "decontaminate", {name: value for name, value in settings.items() if value is not None})
