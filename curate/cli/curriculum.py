"""``curate curriculum``: what to train on, in what proportion, when."""

from __future__ import annotations

from typing import Any

import click

from curate.cli.options import bars, print_json
from curate.errors import UsageError


@click.group()
def curriculum() -> None:
    """What to train on, in what proportion, when: weights of groups that training loops read.

    \b
    Example:
      curate curriculum --help
    """


@curriculum.command()
@click.argument("raw", nargs=-1)
@click.option("--out", "-o", type=click.Path(file_okay=False), help="Folder for the weights; else only shown.")
@click.option("--column", default="source", show_default=True, help="Column whose values are the sources.")
@click.option(
    "--by",
    type=click.Choice(["raw", "selected", "scores"]),
    default="raw",
    show_default=True,
    help="Shares of the text; of what a run selected; or raw tilted towards sources that a run scored high.",
)
@click.option("--max-kl", type=float, metavar="NATS", help="How far --by scores goes from raw.")
@click.option(
    "--temperature", type=float, default=1.0, show_default=True, help="Above 1 for more even shares: share ** (1 / T)."
)
@click.option(
    "--weight", "weights", multiple=True, metavar="SOURCE=SHARE", help="Give a source this weight; repeat for several."
)
@click.option(
    "--rest",
    type=click.Choice(["raw", "none"]),
    default="raw",
    show_default=True,
    help="What --weight leaves goes to the other sources in their shares; none: they get nothing.",
)
@click.option("--curriculum", type=click.Path(), metavar="DIR", help="Weights of the last stage of a curriculum.")
@click.option("--proxies", type=click.Path(), metavar="FILE", help="Mixtures that small models were trained on.")
@click.option("--losses", type=click.Path(), metavar="FILE", help="The losses of these models.")
@click.option(
    "--loss", "loss", multiple=True, metavar="COLUMN[=WEIGHT]", help="A loss to make small; repeat for a weighted mean."
)
@click.option(
    "--risk",
    type=float,
    help="Standard deviations that are added to a predicted loss (1): higher stays nearer to the proxies.",
)
@click.option("--design", type=int, metavar="N", help="Propose N mixtures to train small models on, in mixtures.csv.")
@click.option("--budget", "-b", help="What will be trained on, 500GB or 300B-tokens; tells epochs.")
@click.option("--max-epochs", type=float, help="How often a source is gone through, at most; needs --budget.")
@click.option(
    "--weights-of",
    type=click.Choice(["text", "documents"]),
    default="text",
    show_default=True,
    help="What the weights written are shares of; documents is for loops that draw documents.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of --design, and of the search with --proxies.")
@click.option("--text-column", default="text", show_default=True, help="Column of the text.")
@click.option(
    "--on-bad-row",
    type=click.Choice(["raise", "quarantine"]),
    default="raise",
    show_default=True,
    help="Stop at a row that cannot be read, or leave it out and count it.",
)
@click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def mix(raw: tuple[str, ...], weights: tuple[str, ...], loss: tuple[str, ...], rest: str, design: int | None,
        quiet: bool, as_json: bool, **options: Any) -> None:  # fmt: skip
    """Find in what proportion to mix the sources of RAW.

    RAW are files, or the folder of a run: then all documents that it scored. Shares are of the bytes of text, or of
    tokens where --budget is in tokens.

    \b
    Example:
      curate curriculum mix samples/raw --weight math-word=0.2 --temperature 2 --out mixture
      curate curriculum mix out --by scores --max-kl 0.5 --out mixture
      curate curriculum mix samples/raw --budget 20MB --max-epochs 4 --curriculum rewards --out mixture
      curate curriculum mix samples/raw --design 64 --out proxies
      curate curriculum mix --proxies proxies/mixtures.csv --losses losses.csv --loss wikipedia --out mixture
    """
    options |= {"progress": bars(quiet)}
    if design is not None:
        _design(raw, design, bool(weights or loss) or rest != "raw", options, as_json)
        return
    from curate.curriculum.mixing import mix as run

    made = run(
        raw or None,
        weights=_numbers(weights, "--weight"),
        rest=rest == "raw",
        loss=_numbers(tuple(item if "=" in item else f"{item}=1" for item in loss), "--loss"),
        **options,
    )
    if as_json:
        print_json(made.as_dict())
    else:
        click.echo(made.as_text())
    if made.n_bad_rows:
        click.echo(f"warning: {made.n_bad_rows:,} rows could not be read and were left out", err=True)
    if options["out"] and not as_json:
        click.echo(f"weights: {options['out']}/weights.json")


def _design(raw: tuple[str, ...], n: int, more: bool, options: dict[str, Any], as_json: bool) -> None:
    from curate.curriculum.mixing import propose

    without = {"by": "raw", "max_kl": None, "temperature": 1.0, "curriculum": None, "proxies": None, "losses": None}
    without |= {"weights_of": "text", "risk": None}
    if more or any(options.pop(name) != usual for name, usual in without.items()):
        raise UsageError("--design goes with RAW, --out, --column, --budget, --max-epochs and --seed only")
    if not raw or not options["out"]:
        raise UsageError(f"--design {n} needs {'--out DIR' if raw else 'RAW'}")
    path, names, mixtures = propose(raw, n, **options)
    if as_json:
        print_json({"path": str(path), "sources": names, "mixtures": mixtures.tolist()})
        return
    used = (mixtures > 0).sum(axis=1)
    click.echo(
        f"{n:,} mixtures of {len(names):,} sources, of {used.min()} to {used.max()} sources each: {path}\n"
        f"next:    train a small model on each, write the losses into a table with the same first column, then\n"
        f"         curate curriculum mix --proxies {path} --losses LOSSES --loss COLUMN --out DIR"
    )


def _numbers(items: tuple[str, ...], option: str) -> dict[str, float] | None:
    """Numbers by name; a name may hold an = itself."""
    found = {}
    for item in items:
        name, equals, value = item.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UsageError(f"{option} {item}: must be NAME=NUMBER") from error
        if not equals:
            raise UsageError(f"{option} {item}: must be NAME=NUMBER")
    return found or None
