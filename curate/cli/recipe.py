"""``curate run``: a recipe, from its file to all that it asks for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from curate.cli.options import bars, print_json, with_json, with_quiet
from curate.errors import UsageError

if TYPE_CHECKING:
    from curate.recipe import Recipe


@click.command()
@click.argument("recipe", type=click.Path())
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Print what would be done, with an estimate, and stop.")
@click.option("--overwrite", is_flag=True, help="Replace what another recipe left in the folder.")
@with_quiet
@with_json
def run(recipe: str, overrides: tuple[str, ...], dry_run: bool, overwrite: bool, quiet: bool, as_json: bool) -> None:
    """Do what RECIPE says: select, evaluate, make a curriculum, report.

    RECIPE is a YAML file, or the manifest.json of a run, which is done again. KEY=VALUE replaces one of its values:
    draw.budget=5%, score.settings.n_buckets=20000, out=elsewhere. Paths in it are relative to the folder that you
    are in, as on a command line. ${NAME} and ${NAME:-default} in values are taken from the environment; secrets are
    refused. What is finished is not done again. Exits with 3 when the verdict is not what evaluate.fail_unless asks.

    \b
    Example:
      curate run pipelines/recipes/dsir-domain.yaml draw.budget=5% --dry-run
      curate run out/manifest.json out=again
    """
    from curate.recipe import Recipe

    asked = Recipe.load(recipe, overrides)
    if dry_run:
        found = asked.plan()
        print_json(found.as_dict()) if as_json else click.echo(found.as_text())
        return
    done = asked.run(progress=bars(quiet), overwrite=overwrite)
    if as_json:
        print_json(done.as_dict())
    else:
        click.echo("\n\n".join(_texts(done)))
    for warning in _warnings(done):
        click.echo(f"warning: {warning}", err=True)
    if not done.passed:
        sys.exit(3)


def _texts(done: Any) -> list[str]:
    """What is printed of each step."""
    from curate.report.terminal import course_text, evidence_text, selection_text, weights_text

    found = []
    if done.selection is not None:
        found.append(selection_text(done.selection))
    if done.evidence is not None:
        found.append(evidence_text(done.evidence))
    if (made := done.curriculum) is not None:
        if hasattr(made, "groups"):
            found.append(course_text(made))
        else:
            text = made.as_text() if hasattr(made, "as_text") else weights_text(made.curriculum)
            found.append(f"{text}\nweights: {done.curriculum_out}/curriculum.parquet")
    if done.report is not None:
        found.append(f"report: {done.report}")
    return found


def _warnings(done: Any) -> list[str]:
    found = [] if done.selection is None else list(done.selection.warnings)
    found += [] if done.evidence is None else done.evidence.warnings
    made = done.curriculum
    found += getattr(made, "warnings", ())
    if getattr(made, "n_bad_rows", 0):
        found.append(f"{made.n_bad_rows:,} rows could not be read; they are in no group of the curriculum")
    return found


def save(recipe: Recipe, path: str, overwrite: bool) -> None:
    """Write a recipe to a file.

    Raises
    ------
    UsageError : something else is there.
    """
    from pathlib import Path

    from curate.io.paths import atomic

    to, text = Path(path), recipe.as_yaml()
    if to.exists() and not overwrite and (to.is_dir() or to.read_bytes() != text.encode()):
        raise UsageError(f"--save-recipe {path}: holds something else; choose another file or pass --overwrite")
    to.parent.mkdir(parents=True, exist_ok=True)
    with atomic(to) as part:
        part.write_text(text, encoding="utf-8")
