"""What commands share: options that go together, and how their values are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from curate.errors import UsageError

Command = Callable[..., Any]


class ExistingPath(click.Path):
    """A path that must be there; of a URL the library looks."""

    def __init__(self, *, file_okay: bool = True) -> None:
        super().__init__(exists=True, file_okay=file_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in str(value) else super().convert(value, param, ctx)


def options(*several: Command) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(several):
            command = option(command)
        return command

    return add


with_workers = click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core.")
with_quiet = click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
with_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
with_text_column = click.option("--text-column", help="Column of the text; by default that of the run, or text.")
with_id_column = click.option("--id-column", help="Column of the id; by default that of the run, or id.")
reading = options(
    click.option(
        "--text-column", "--text-key", "--text-field", default="text", show_default=True, help="Column of the text."
    ),
    click.option(
        "--id-column",
        "--id-key",
        "--id-field",
        default="id",
        show_default=True,
        help="Column of the id; without it an id is FILE#ROW.",
    ),
    click.option(
        "--on-bad-row",
        type=click.Choice(["raise", "quarantine"]),
        default="raise",
        show_default=True,
        help="Stop at a row that cannot be read, or set it aside in quarantine.parquet.",
    ),
)
scoring = options(
    click.option(
        "--target",
        "-t",
        "targets",
        multiple=True,
        metavar="[NAME=]PATH",
        help="Examples of what is wanted; repeat for several. Most methods need some.",
    ),
    click.option("--target-text-column", help="Column of the text in the targets, when it is another."),
    click.option(
        "--holdout",
        type=float,
        metavar="SHARE",
        help="Part of the target that is not fitted to (0.2), for curate evaluate to measure with.",
    ),
    click.option(
        "--method", default="dsir", show_default=True, help="Scorer, or several fused: dsir+primed; see curate methods."
    ),
    click.option(
        "--set",
        "-s",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting of the scorer (of one that is fused: dsir.n=3); repeat for several.",
    ),
    click.option("--tokenizer", metavar="MODEL", help="SentencePiece model: counts its pieces instead of words."),
    click.option(
        "--domains",
        type=click.Path(),
        metavar="DIR",
        help="What curate domains found: documents get a column cluster, for --per cluster.",
    ),
    click.option("--per", metavar="COLUMN", help="Draw within each value of a column (such as source)."),
)
writing = options(
    click.option(
        "--format",
        type=click.Choice(["parquet", "jsonl.zst"]),
        default="parquet",
        show_default=True,
        help="Of the shards.",
    ),
    click.option("--shard-size", default="128MB", show_default=True, help="Bytes of text in a shard."),
    click.option("--name", help="Of the dataset; by default TARGET-METHOD, or what was cleaned by."),
)
drawing = options(
    click.option(
        "--budget", "-b", default=None, help="How much: 10000 (documents), 10%, 500MB, 2B-tokens.  [default: 10%]"
    ),
    click.option(
        "--draw",
        type=click.Choice(["gumbel", "topk", "threshold", "uniform", "cover", "pivotal", "systematic", "poisson"]),
        help="Sample by weight, take the best, all above a threshold, at random, or of the best those that together "
        "cover the target; the last three keep each document with a known chance.  [default: gumbel for dsir and "
        "bytegrams, else topk]",
    ),
    click.option(
        "--transform",
        metavar="NAME",
        help="Weights by the divergence that a selection makes small: kl, js, hellinger, chi2, jeffreys, tv, alpha=A; "
        "proportional to the score for leverage, where that is the default.",
    ),
    click.option("--max-kl", type=float, metavar="NATS", help="Tilt raw towards high scores by so many nats at most."),
    click.option(
        "--min-ess", type=float, metavar="SHARE", help="Clip weights until they are worth that share of the documents."
    ),
    click.option(
        "--regularise", metavar="KIND:BETA", help="Weights at the price of a penalty: chi2:BETA or mixed:BETA."
    ),
    click.option(
        "--calibrate",
        metavar="COLUMN",
        help="Weigh by a score's quantile in its group, such as source, or in all; needs --max-kl.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the draw."),
    click.option("--threshold", type=float, help="Lowest score, for --draw threshold."),
    click.option(
        "--proportion",
        "proportions",
        multiple=True,
        metavar="VALUE=SHARE",
        help="Share of the budget for a value of --per; by default as in raw.",
    ),
    writing,
)
of_a_selection = options(
    click.option("--raw", "-r", multiple=True, help="What the selection was made from; of a run that is known."),
    click.option("--target-text-column", help="Column of the text in the target, when it is another."),
    with_text_column,
    with_id_column,
    click.option(
        "--on-bad-row",
        type=click.Choice(["raise", "quarantine"]),
        help="Stop at a row that cannot be read, or leave it out and count it; by default as in the run.",
    ),
)
with_engine = options(
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where partitions are worked on: here, or on a Ray cluster that sees the files and --out.",
    ),
    click.option("--ray-address", help="Of the cluster; local starts one here.  [default: auto]"),
    click.option("--ray-cpus", type=click.IntRange(min=1), help="Cores, and threads, of each task.  [default: 1]"),
    click.option("--ray-memory", metavar="SIZE", help="Memory that each task is placed by, such as 4GB."),
    click.option(
        "--ray-retries", type=click.IntRange(min=0), help="Tries again of a task whose worker died.  [default: 3]"
    ),
)
running = options(
    with_workers,
    click.option("--memory-limit", default="2GB", show_default=True, help="Memory to stay within."),
    click.option("--overwrite", is_flag=True, help="Replace what another recipe left in the folder."),
    with_quiet,
    with_json,
)


def bars(quiet: bool) -> bool | None:
    return False if quiet else None


def engine_of(options: dict[str, Any]) -> dict[str, Any]:
    """Engine and its options as arguments of the library; they are taken out of the options."""
    from curate.engines.resources import RAY_OPTIONS, engine_options

    engine = options.pop("engine")
    return {
        "engine": engine,
        "engine_options": engine_options(engine, {name: options.pop(name) for name in RAY_OPTIONS}),
    }


def pairs_of(items: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {item}: must be KEY=VALUE")
        pairs[key] = value
    return pairs


def settings_of(items: tuple[str, ...], tokenizer: str | None) -> dict[str, Any]:
    settings: dict[str, Any] = {key: _value(value) for key, value in pairs_of(items, "--set").items()}
    if tokenizer:
        settings["tokenizer"] = tokenizer
    return settings


def _value(text: str) -> Any:
    """A number, true, false, none, a list of numbers, or text."""
    lowered = text.lower()
    if lowered in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[lowered]
    for kind in (int, float):
        try:
            return kind(text.replace("_", ""))
        except ValueError:
            continue
    if "," in text:
        return [_value(part) for part in text.split(",")]
    return text


def targets_of(items: tuple[str, ...], option: str = "--target") -> Any:
    """Paths, or paths by name when names were given."""
    if not any("=" in item.partition("/")[0] for item in items):
        return list(items)
    named: dict[str, list[str]] = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals:
            raise UsageError(f"{option} {item}: name all targets or none")
        named.setdefault(name, []).append(path)
    return named


def shares_of(items: tuple[str, ...]) -> dict[str, float] | None:
    try:
        return {key: float(value) for key, value in pairs_of(items, "--proportion").items()} or None
    except ValueError as error:
        raise UsageError(f"--proportion: a share must be a number ({error})") from error


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
