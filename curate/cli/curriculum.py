"""``curate curriculum``: what to train on, in what proportion, when."""

from __future__ import annotations

from typing import Any

import click

from curate.cli.options import bars, print_json, reading, running


@click.group()
def curriculum() -> None:
    """What to train on, in what proportion, when: weights of groups that training loops read.

    \b
    Example:
      curate curriculum --help
    """


@curriculum.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the curriculum.")
@click.option(
    "--difficulty",
    default="bits-per-byte",
    show_default=True,
    metavar="bits-per-byte|length|COLUMN",
    help="Surprise of a model that read other documents, bytes of text, or a column of numbers, higher being harder.",
)
@click.option(
    "--within",
    multiple=True,
    metavar="COLUMN",
    help="Rank documents among those with the same value of a column, such as source, or of about the same length "
    "(length); repeat for both.",
)
@click.option("--bins", type=int, help="Groups of as many documents each.  [default: 10]")
@click.option("--stages", type=int, help="Of training.  [default: 5]")
@click.option(
    "--pacing", metavar="root|linear|geometric", help="How the share of documents that is open grows.  [default: root]"
)
@click.option("--start", type=float, metavar="SHARE", help="Share that is open at first.  [default: 0.1]")
@click.option("--order", metavar="easy-first|hard-first", help="Which bins open first.  [default: easy-first]")
@click.option("--tail", type=float, metavar="SHARE", help="Instead: one group, the hardest share of the documents.")
@click.option("--gate", metavar="COLUMN>=NUMBER", help="What the tail must pass; a column alone must be true.")
@click.option("--floor", type=float, metavar="SHARE", help="Hardest of all, left out of the tail.  [default: 0.001]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of which documents the model reads.")
@reading
@running
def offline(raw: tuple[str, ...], quiet: bool, as_json: bool, **rest: Any) -> None:
    """From easy to hard: sort RAW into bins by difficulty that open stage by stage.

    Needs nothing from training. DIR gets curriculum.parquet, weights-stage-*.json, and groups.parquet with the bin of
    every document. The last stage is all of RAW in its natural proportions.

    \b
    Example:
      curate curriculum offline samples/raw --out course --stages 4
    """
    from curate.curriculum.course import as_dict
    from curate.curriculum.course import offline as run

    course = run(raw, progress=bars(quiet), **rest)
    if as_json:
        print_json(as_dict(course))
        return
    from curate.report.terminal import course_text

    click.echo(course_text(course))
    if course.n_bad_rows:
        click.echo(f"warning: {course.n_bad_rows:,} rows could not be read; see quarantine.parquet", err=True)
