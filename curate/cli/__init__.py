"""The command line: parse, one library call, print."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

from curate import __version__
from curate.cli.cleaning import cleaning, cleaning_of, decontaminate, dedup, filter, max_removed_of
from curate.cli.curriculum import curriculum
from curate.cli.options import (
    ExistingPath,
    bars,
    drawing,
    engine_of,
    of_a_selection,
    print_json,
    reading,
    running,
    scoring,
    settings_of,
    shares_of,
    targets_of,
    with_engine,
    with_json,
    with_quiet,
    with_workers,
)
from curate.cli.recipe import run as run_recipe
from curate.cli.updating import Update
from curate.errors import CurateError, UsageError

EPILOG = "Results go to stdout, progress to stderr. Documentation: README.md"


class _Commands(click.Group):
    """Turns the library's errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CurateError as error:
            click.echo(f"curate: {error}", err=True)
            ctx.exit(2 if isinstance(error, UsageError) else 1)
        except BrokenPipeError:
            raise  # whoever reads the output has seen enough
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"curate: {where}{error.strerror or error}; run the same command again to go on", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("curate: interrupted; the same command goes on from here", err=True)
            ctx.exit(130)


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CURATE"},
)
@click.version_option(__version__, prog_name="curate")
@click.option("--log", type=click.Choice(["text", "json"]), help="Write events to stderr, as lines of text or JSON.")
def main(log: str | None) -> None:
    """Choose training data for language models: score raw corpora against examples of what you want.

    \b
    Example:
      curate select raw/ --target examples.jsonl --budget 10% --out out
    """
    if log is not None:
        from curate.logs import write_to_stderr

        write_to_stderr(log)


@main.command()
@click.argument("raw", nargs=-1)
@click.option("--out", "-o", type=click.Path(file_okay=False), help="Folder for the selection.  [required]")
@click.option(
    "--update",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Take files that are new into the selection in DIR: what its RAW has now, and any RAW given.",
)
@click.option("--rehash", is_flag=True, help="With --update: read the old files, to see whether they are as they were.")
@scoring
@cleaning
@drawing
@reading
@click.option("--scores-from", type=click.Path(), help="An earlier run whose scores are used again.")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Print the plan with time, memory and disk, and stop.")
@click.option("--lineage", is_flag=True, help="Send OpenLineage events, to where OPENLINEAGE_URL says.")
@click.option("--save-recipe", type=click.Path(dir_okay=False), metavar="FILE", help="Write it down, for curate run.")
@with_engine
@running
def select(
    raw: tuple[str, ...],
    out: str,
    update: str | None,
    rehash: bool,
    targets: tuple[str, ...],
    settings: tuple[str, ...],
    tokenizer: str | None,
    proportions: tuple[str, ...],
    dry_run: bool,
    save_recipe: str | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Select the documents of RAW that are like the target.

    RAW are files, folders, globs or URLs: .parquet .jsonl .json .csv .txt .arrow, most also .gz and .zst.
    When files have come, --update scores these alone, by the scorer that is fitted, and draws again.

    \b
    Example:
      curate select samples/raw --target samples/targets/gsm8k/train.jsonl --budget 10% --out out
      curate select --update out
    """
    if (updating := Update.asked(click.get_current_context())) is not None:
        if dry_run:
            updating.show_pending(rest["workers"], as_json)
            return
        on = engine_of(rest)
        how = {name: rest[name] for name in ("workers", "memory_limit", "lineage")}
        how["max_removed"] = max_removed_of(rest["max_removed"])
        result = updating.run(quiet, **how, **on)
        _show_selection(result, as_json)
        if not result.seconds:
            click.echo(f"nothing new: the raw files are those that {result.out} is made of", err=True)
        return
    from curate.recipe import Recipe

    scorer_settings = settings_of(settings, tokenizer)
    rest |= cleaning_of(rest, scorer_settings)
    recipe = Recipe.of_arguments(
        raw,
        target=targets_of(targets) or None,
        settings=scorer_settings,
        proportions=shares_of(proportions),
        out=out,
        **rest,
    )
    recipe.check()
    if save_recipe is not None:
        from curate.cli.recipe import save

        save(recipe, save_recipe, overwrite)
    if dry_run:
        found = recipe.plan().selection
        assert found is not None
        print_json(asdict(found)) if as_json else click.echo(found.as_text())
        return
    _show_selection(recipe.run(progress=bars(quiet), overwrite=overwrite).selection, as_json)


def _weights(options: dict[str, Any]) -> dict[str, Any]:
    """What was asked of weights; it is taken out of the options."""
    asked = {name: options.pop(name) for name in ("transform", "max_kl", "min_ess", "regularise", "calibrate")}
    return {name: value for name, value in asked.items() if value is not None}


def _budget(options: dict[str, Any]) -> str | None:
    budget: str | None = options["budget"]
    return budget if budget is not None or options.get("draw") == "threshold" else "10%"


def _show_selection(result: Any, as_json: bool) -> None:
    if as_json:
        print_json({"out": str(result.out), "seconds": result.seconds, **result.manifest})
        return
    from curate.report.terminal import selection_text

    click.echo(selection_text(result))
    if click.get_current_context().find_root().params.get("log") is None:  # else they are events there
        for warning in result.warnings:
            click.echo(f"warning: {warning}", err=True)


@main.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the scores.")
@scoring
@cleaning
@reading
@with_engine
@running
def score(raw: tuple[str, ...], targets: tuple[str, ...], settings: tuple[str, ...], tokenizer: str | None,
          quiet: bool, as_json: bool, **rest: Any) -> None:  # fmt: skip
    """Fit a scorer and score every document of RAW, without drawing.

    \b
    Example:
      curate score samples/raw --target samples/targets/gsm8k/train.jsonl --out scored
    """
    from curate.selection import score as run

    scorer_settings = settings_of(settings, tokenizer)
    rest |= engine_of(rest)
    rest |= cleaning_of(rest, scorer_settings)
    result = run(raw, target=targets_of(targets), settings=scorer_settings, progress=bars(quiet), **rest)
    if as_json:
        print_json(asdict(result))
        return
    left_out = ", ".join(f"{n:,} {reason}" for reason, n in sorted(result.reasons.items()))
    click.echo(
        f"{result.n_eligible:,} of {result.n_documents:,} documents scored" + (f" ({left_out})" if left_out else "")
    )
    click.echo(f"scores: {result.out}/scores/*.parquet\nnext:   curate draw {result.out} --budget 10%")


@main.command()
@click.argument("run", type=ExistingPath(file_okay=False))
@click.option("--out", "-o", type=click.Path(file_okay=False), help="Folder for the selection; by default RUN itself.")
@click.option("--per", metavar="COLUMN", help="Draw within each value of a column (such as source).")
@drawing
@with_engine
@running
def draw(run: str, proportions: tuple[str, ...], quiet: bool, as_json: bool, **rest: Any) -> None:
    """Draw from the scores of RUN again: another budget, draw or seed, in seconds.

    \b
    Example:
      curate draw out --budget 5% --seed 1 --out out-5
    """
    from curate.selection import draw as again

    rest["budget"] = _budget(rest)
    rest["weights"] = _weights(rest)
    rest |= engine_of(rest)
    result = again(run, proportions=shares_of(proportions), progress=bars(quiet), **rest)
    _show_selection(result, as_json)


@main.command()
@click.argument("run", type=ExistingPath(file_okay=False))
@click.option(
    "--heldout",
    multiple=True,
    metavar="[NAME=]PATH",
    help="Text of the target that was not selected by; without it what select --holdout left out.",
)
@click.option("--heldout-text-column", help="Column of the text in it, when it is another than in the target.")
@click.option(
    "--seeds", type=int, default=5, show_default=True, help="Samples of the selection; of random ones twice as many."
)
@click.option("--sample", default="1.5MB", show_default=True, help="Bytes of text in a sample.")
@click.option("--heldout-size", default="300kB", show_default=True, help="Bytes of text to measure a target with.")
@click.option(
    "--fail-unless",
    type=click.Choice(["better"]),
    help="Exit with 3 when the verdict is another one, for schedulers.",
)
@click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads that read; by default one a core.")
@click.option("--memory-limit", default="2GB", show_default=True, help="Memory to stay within.")
@with_quiet
@click.option("--json", "as_json", is_flag=True, help="Print the evidence as JSON.")
def evaluate(
    run: str, heldout: tuple[str, ...], fail_unless: str | None, quiet: bool, as_json: bool, **rest: Any
) -> None:
    """Measure whether the selection of RUN is better at the target than random ones: a verdict, with its figures.

    A small language model reads samples of the selection and of control arms of the same size, and codes text of
    the target that nothing was fitted to, in bits per byte. All is kept in RUN/evidence.json.

    \b
    Example:
      curate evaluate out --heldout samples/targets/gsm8k/heldout.jsonl
    """
    from curate.evidence import evaluate as measure

    found = measure(run, heldout=targets_of(heldout, "--heldout") if heldout else None, progress=bars(quiet), **rest)
    if as_json:
        print_json(found.as_dict())
    else:
        from curate.report.terminal import evidence_text

        click.echo(evidence_text(found))
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    if fail_unless and found.verdict != fail_unless:
        sys.exit(3)


@main.command()
@click.argument("raw", nargs=-1, required=True)
@reading
@with_workers
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def scan(raw: tuple[str, ...], workers: int | None, as_json: bool, **rest: Any) -> None:
    """Find the input files and cut them into partitions, the same on any machine.

    \b
    Example:
      curate scan samples/raw
    """
    from curate.engines import LocalEngine
    from curate.io.columns import columns_of
    from curate.io.corpus import scan as find

    with LocalEngine(workers) as engine:
        corpus = find(raw, over=engine.map, **rest)
    if as_json:
        print_json(corpus.as_dict() | {"columns": columns_of(corpus), "passed_over": corpus.passed_over})
        return
    from curate.report.terminal import corpus_text

    click.echo(corpus_text(corpus, columns_of(corpus)))


@main.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the domains.")
@click.option("-k", "--k", default="auto", show_default=True, metavar="auto|N", help="Number of domains.")
@click.option("--encoder", type=click.Path(), metavar="DIR", help="Sentence encoder for the vectors.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the clustering.")
@reading
@with_workers
@click.option("--overwrite", is_flag=True, help="Replace other domains in the folder.")
@with_quiet
@click.option("--json", "as_json", is_flag=True, help="Print the domains as JSON.")
def domains(raw: tuple[str, ...], k: str, quiet: bool, as_json: bool, **rest: Any) -> None:
    """Find the domains of RAW when nothing says where its documents come from.

    Documents of a sample are clustered by their words; auto takes as many clusters as halves of it agree on.
    Then all documents are assigned: DIR/clusters/*.parquet, and curate select RAW --domains DIR --per cluster.

    \b
    Example:
      curate domains samples/raw --out domains
    """
    from curate.discovery import as_dict
    from curate.discovery import domains as run

    if k != "auto" and not k.isdecimal():
        raise UsageError(f"--k {k}: must be auto or a whole number")
    found = run(raw, k=None if k == "auto" else int(k), progress=bars(quiet), **rest)
    if as_json:
        print_json(as_dict(found))
        return
    from curate.report.terminal import domains_text

    click.echo(domains_text(found))
    if found.n_bad_rows:
        click.echo(f"warning: {found.n_bad_rows:,} rows could not be read; they are in no domain", err=True)


@main.command()
@click.argument("old", type=click.Path(exists=True, dir_okay=False))
@click.argument("new", type=click.Path(exists=True, dir_okay=False))
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the map.")
@click.option("--id-column", default="id", show_default=True, help="Column of the id, in both.")
@click.option("--vector-column", default="vector", show_default=True, help="Column of the vector, in both.")
@click.option("--label-column", metavar="COLUMN", help="Column of OLD by which the upgrade is tested: what is alike.")
@click.option("-k", "--k", type=click.IntRange(min=1), default=10, show_default=True, help="Neighbours of recall.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is held out, a fifth.")
@with_json
def align(old: str, new: str, as_json: bool, **rest: Any) -> None:
    """Map vectors of a NEW embedder to the index of an OLD one, without embedding it again.

    OLD and NEW are Parquet files with the vectors of the same documents. The map is a rotation, or as far from one as
    is best for documents that were held out. With --label-column it says whether queries of the new embedder find
    more of their label in the old index than those of the old one.

    \b
    Example:
      curate align old.parquet new.parquet --label-column source --out upgrade
    """
    from curate.report.terminal import upgrade_text
    from curate.upgrade import align as run
    from curate.upgrade import as_dict

    found = run(old, new, **rest)
    print_json(as_dict(found)) if as_json else click.echo(upgrade_text(found))


@main.command()
@click.argument("target")
@click.argument("selected")
@of_a_selection
@click.option("--sample", default="16MB", show_default=True, help="Text of each corpus that is looked at, at least.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of resampling and permutations.")
@with_workers
@with_quiet
@with_json
def compare(target: str, selected: str, raw: tuple[str, ...], sample: str, quiet: bool, as_json: bool,
            **rest: Any) -> None:  # fmt: skip
    """Say by every metric how near SELECTED is to TARGET, and whether it is nearer than raw.

    SELECTED is the folder of a run, or files of a corpus.

    \b
    Example:
      curate compare samples/targets/gsm8k/heldout.jsonl out
    """
    from curate.compare import compare as run
    from curate.io.run import finite
    from curate.sampling.budget import parse_bytes

    result = run(target, selected, raw=raw or None, sample_bytes=parse_bytes(sample), progress=bars(quiet), **rest)
    if as_json:
        print_json(finite(asdict(result)))
        return
    from curate.report.terminal import comparison_text

    click.echo(comparison_text(result))


@main.command()
@click.argument("selected", nargs=-1, required=True)
@click.option(
    "--target", "--heldout", "-t", multiple=True, required=True, help="Examples of what is wanted, or text held out."
)
@of_a_selection
@click.option(
    "--set",
    "-s",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of vectors and ridge, as of method leverage (dim=512, ridge_per_document=0.005); repeat for several.",
)
@click.option("--worst", type=click.IntRange(min=0), default=5, show_default=True, help="Documents that are listed.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random documents.")
@with_workers
@with_quiet
@with_json
def coverage(selected: tuple[str, ...], raw: tuple[str, ...], settings: tuple[str, ...], quiet: bool, as_json: bool,
             **rest: Any) -> None:  # fmt: skip
    """Say which documents of a target SELECTED does not cover, beside as many random documents of raw.

    SELECTED is the folder of a run, or files of a corpus.

    \b
    Example:
      curate coverage out --heldout samples/targets/gsm8k/heldout.jsonl
    """
    from curate.coverage import coverage as run
    from curate.io.run import finite

    result = run(
        selected[0] if len(selected) == 1 else selected,
        raw=raw or None,
        settings=settings_of(settings, None) or None,
        progress=bars(quiet),
        **rest,
    )
    if as_json:
        print_json(finite(asdict(result)))
        return
    from curate.report.terminal import coverage_text

    click.echo(coverage_text(result))


@main.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", "-o", type=click.Path(dir_okay=False), help="File; by default report.html in RUN, or here.")
@click.option(
    "--format", type=click.Choice(["html", "md", "json"]), default="html", show_default=True, help="Of the report."
)
@click.option("--text-column", default="text", show_default=True, help="Column of the text, of a corpus.")
@click.option("--id-column", default="id", show_default=True, help="Column of the id, of a corpus.")
@click.option(
    "--on-bad-row",
    type=click.Choice(["raise", "quarantine"]),
    default="raise",
    show_default=True,
    help="Of a corpus: stop at a row that cannot be read, or leave it out and count it.",
)
@click.option("--curriculum", type=ExistingPath(), help="One to show; by default that in the folder of RUN.")
@click.option("--sample", default="16MB", show_default=True, help="Text of each corpus that is looked at, at least.")
@with_quiet
@with_workers
def report(paths: tuple[str, ...], sample: str, quiet: bool, **rest: Any) -> None:
    """Report on a RUN, or on the files of a corpus: one page that needs no network.

    \b
    Example:
      curate report out
    """
    from curate.report.write import report as write
    from curate.sampling.budget import parse_bytes

    click.echo(write(paths, sample_bytes=parse_bytes(sample), progress=bars(quiet), **rest))


@main.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the passages.")
@click.option("--size", default="200", show_default=True, help="Bytes of a passage, at least; up to twice as many.")
@reading
@running
def passages(raw: tuple[str, ...], quiet: bool, as_json: bool, **rest: Any) -> None:
    """Cut the documents of RAW into passages, to select these instead of whole documents.

    \b
    Example:
      curate passages samples/raw --out cut
    """
    from curate.cutting import passages as cut

    made = cut(raw, progress=bars(quiet), **rest)
    if as_json:
        print_json(asdict(made))
        return
    mean = made.n_bytes / max(1, made.n_passages)
    click.echo(f"{made.n_documents:,} documents in {made.n_passages:,} passages of {mean:,.0f} bytes on average")
    if made.n_bad_rows:
        click.echo(f"warning: {made.n_bad_rows:,} rows could not be read; they are in quarantine.parquet", err=True)
    click.echo(f"passages: {made.out}/passages\nnext:     curate select {made.out}/passages --target ... --out ...")


@main.command()
@click.argument("out", type=ExistingPath(file_okay=False))
@click.option("--inputs", is_flag=True, help="Check the raw and target files too.")
@with_json
def verify(out: str, inputs: bool, as_json: bool) -> None:
    """Recheck all hashes and counts of a run.

    \b
    Example:
      curate verify out
    """
    from curate.verification import verify as check

    result = check(out, inputs=inputs)
    if as_json:
        print_json(asdict(result) | {"ok": result.ok})
    else:
        for problem in result.problems:
            click.echo(problem)
        click.echo(f"{result.n_checked} checks, {len(result.problems)} problems")
    sys.exit(0 if result.ok else 1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def methods(as_json: bool) -> None:
    """Explain the methods and draws, and when to use which.

    \b
    Example:
      curate methods
    """
    from curate.methods import DRAWS, METHODS

    if as_json:
        print_json({"methods": [asdict(m) | {"settings": m.settings} for m in METHODS], "draws": DRAWS})
        return
    for method in METHODS:
        click.echo(f"{method.name}\n  what      {method.what}\n  when      {method.when}")
        click.echo(f"  cost      {method.cost}\n  gain      {method.gain}")
        click.echo(f"  settings  {method.settings}\n  source    {method.source}\n")
    click.echo("gain: over a random selection, as a multiple of what the reference package of DSIR gains (README)\n")
    click.echo("draws")
    for name, what in DRAWS.items():
        click.echo(f"  {name:<9} {what}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(as_json: bool) -> None:
    """Check the installation.

    \b
    Example:
      curate doctor
    """
    from curate.doctor import checks

    found = checks()
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        for check in found:
            click.echo(f"{'ok' if check.ok else 'XX'}  {check.name:<22} {check.found}")
    sys.exit(0 if all(check.ok for check in found) else 1)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example:
      curate completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "curate", "_CURATE_COMPLETE").source())


for command in (dedup, filter, decontaminate, curriculum):
    main.add_command(command)
main.add_command(run_recipe)
