"""``curate curriculum``: what to train on, in what proportion, when."""

from __future__ import annotations

from typing import Any

import click

from curate.cli.options import options, print_json


@click.group()
def curriculum() -> None:
    """What to train on, in what proportion, when: weights of groups that training loops read.

    \b
    Example:
      curate curriculum --help
    """


def _begun(command: Any) -> Any:
    """Options of all curricula that follow training."""
    return options(
        click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the curriculum."),
        click.option("--from", "raw", multiple=True, metavar="CORPUS", help="List what gets weights from a corpus."),
        click.option("--column", metavar="NAME", help="Column of the documents that holds their group."),
        click.option("--overwrite", is_flag=True, help="Replace another curriculum in the folder."),
        click.option("--json", "as_json", is_flag=True, help="Print the weights as JSON."),
    )(command)


@curriculum.command()
@click.argument("grades", nargs=-1)
@click.option("--sigma", type=float, default=0.35, show_default=True, help="How sharp: smaller keeps nearer to centre.")
@click.option("--centre", type=float, default=0.5, show_default=True, help="Pass rate with the largest weight.")
@click.option("--alpha", type=float, default=0.9, show_default=True, help="Share of the old pass rate in an update.")
@click.option("--id-column", default="id", show_default=True, help="Of the corpus; without it an id is FILE#ROW.")
@click.option("--small-groups", is_flag=True, help="Pass rates as (s + 1) / (n + 2), for few tries each.")
@_begun
def gaussian(grades: tuple[str, ...], raw: tuple[str, ...], as_json: bool, **rest: Any) -> None:
    """Weigh by pass rates: most to what is solved about half the time.

    GRADES are files with group or doc_id, and pass_rate (of n tries) or successes of n. What has none is taken to be
    solved half the time.

    \b
    Example:
      curate curriculum gaussian grades.jsonl --out curriculum
    """
    from curate.curriculum.online import gaussian as begin

    _show_updated(begin(grades, raw=raw or None, **rest), as_json)


@curriculum.command()
@click.argument("groups", nargs=-1)
@click.option("--window", type=int, default=300, show_default=True, help="Latest sequences of a group to look at.")
@click.option("--temperature", type=float, default=0.1, show_default=True, help="Smaller is nearer to the best only.")
@click.option("--min-prob", type=float, default=0.0, show_default=True, help="Least weight of any group.")
@_begun
def ucb(groups: tuple[str, ...], raw: tuple[str, ...], as_json: bool, **rest: Any) -> None:
    """Weigh GROUPS by how much there is to learn: equal now, by their advantages after updates.

    \b
    Example:
      curate curriculum ucb --from samples/raw --column source --min-prob 0.02 --out curriculum
    """
    from curate.curriculum.online import ucb as begin

    _show_updated(begin(groups, raw=raw or None, **rest), as_json)


@curriculum.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--feedback", "-f", multiple=True, metavar="FILE", help="What training reports; repeat for several.")
@click.option("--merge", "merge_from", multiple=True, metavar="DIR", help="A curriculum that was updated elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="Print the weights as JSON.")
def update(folder: str, feedback: tuple[str, ...], as_json: bool, **rest: Any) -> None:
    """Add feedback to the curriculum in FOLDER and renew its weights.

    Feedback has the columns group or doc_id, step, and one of advantage (of a sequence), pass_rate (of n rollouts) and
    successes of n; worker where several report. A step of a worker that was counted is not counted again.

    \b
    Example:
      curate curriculum update curriculum --feedback step-100.jsonl
    """
    from curate.curriculum.online import update as run

    _show_updated(run(folder, feedback, **rest), as_json, fed=bool(feedback))


def _show_updated(made: Any, as_json: bool, fed: bool = False) -> None:
    of = made.curriculum
    if as_json:
        columns = {name: values.tolist() for name, values in of.columns.items()}
        rows = [
            dict(zip((of.unit, "weight", *columns), row, strict=True))
            for row in zip(of.names.to_pylist(), of.weights.tolist(), *columns.values(), strict=True)
        ]
        counts = {"n_rows": made.n_rows, "n_skipped": made.n_skipped, "warnings": list(made.warnings)}
        print_json({"out": str(made.out), **counts, "about": dict(of.about), "weights": rows})
        return
    from curate.report.terminal import weights_text

    click.echo(weights_text(of))
    if fed:
        skipped = f", {made.n_skipped:,} skipped: of steps that were counted before" if made.n_skipped else ""
        click.echo(f"feedback: {made.n_rows:,} rows counted{skipped}")
    click.echo(f"weights: {made.out}/curriculum.parquet")
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
