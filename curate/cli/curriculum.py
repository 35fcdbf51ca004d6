"""``curate curriculum``: what to train on, in what proportion, when."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from curate.cli.options import (
    ExistingPath,
    bars,
    options,
    print_json,
    reading,
    running,
    with_id_column,
    with_json,
    with_quiet,
    with_text_column,
    with_workers,
)
from curate.errors import UsageError


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
@click.argument("folder", type=ExistingPath(file_okay=False))
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
    "--pacing",
    metavar="root|linear|geometric|step",
    help="How the share of documents that is open grows.  [default: root]",
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
@click.option("--overwrite", is_flag=True, help="Replace a curriculum that something else made.")
@click.option("--text-column", default="text", show_default=True, help="Column of the text.")
@click.option(
    "--on-bad-row",
    type=click.Choice(["raise", "quarantine"]),
    default="raise",
    show_default=True,
    help="Stop at a row that cannot be read, or leave it out and count it.",
)
@with_workers
@with_quiet
@with_json
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
    without |= {"weights_of": "text", "risk": None, "overwrite": False}
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


@curriculum.command()
@click.argument("weights", metavar="CURRICULUM", type=ExistingPath())
@click.argument("shards", nargs=-1, required=True)
@click.option(
    "--to",
    required=True,
    type=click.Choice(["mds", "hf", "megatron"]),
    help="MosaicML streaming (MDS shards and streams.json), Hugging Face datasets (interleave.json), Megatron "
    "(blend.txt).",
)
@click.option(
    "--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the files of the groups."
)
@click.option(
    "--stage", type=click.IntRange(min=0), help="The only stage to write, from 0; by default a file for each."
)
@click.option("--column", help="Column of the group; by default what CURRICULUM says, else its groups.parquet.")
@click.option(
    "--split-format",
    type=click.Choice(["parquet", "jsonl.zst"]),
    help="Of the files of the groups.  [default: parquet for hf, jsonl.zst for megatron]",
)
@click.option("--shard-size", help="Bytes of text in a shard, of mds of all in it.  [default: 128MB, of mds 67108864]")
@click.option("--compression", type=click.Choice(["none", "zstd"]), help="Of mds shards.  [default: none]")
@click.option("--skip-empty", is_flag=True, help="Leave out groups without documents; the others get their share.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the mixing that datasets does.")
@with_text_column
@with_id_column
@click.option(
    "--on-bad-row",
    type=click.Choice(["raise", "quarantine"]),
    help="Stop at a row that cannot be read, or set it aside in quarantine.parquet; by default as in the run.",
)
@running
def export(weights: str, shards: tuple[str, ...], to: str, quiet: bool, as_json: bool, **rest: Any) -> None:
    """Hand CURRICULUM over to another training loop: the documents of SHARDS by group, and how to mix these.

    SHARDS are files, or the folder of a run. With other weights for the same documents only these are written again.

    \b
    Example:
      curate curriculum export out samples/raw --column source --to hf --out mixed
    """
    from curate.curriculum.handover import export as hand_over

    given = shards[0] if len(shards) == 1 else shards  # one may be the folder of a run
    made = hand_over(weights, given, to=to, progress=bars(quiet), **rest)
    if as_json:
        print_json(asdict(made))
        return
    documents = sum(of.documents for of in made.groups.values())
    click.echo(f"{documents:,} documents in {len(made.groups):,} groups: {made.out}")
    for path in made.mixes:
        click.echo(f"proportions: {path}")
    for line in _left_out(made):
        click.echo(f"warning: {line}", err=True)
    click.echo(f"\n{made.how}")


def _left_out(made: Any) -> list[str]:
    """What an export left out, in sentences."""
    named = ", ".join(map(repr, made.unnamed[:5]))
    why = {
        "no_group": "documents are in no group",
        "unnamed": f"documents are in groups that the curriculum does not name{f' (such as {named})' if named else ''}",
        "weight_0": "documents are in groups of weight 0",
        "no_text": "documents have no text",
        "bad_row": "rows could not be read; they are in quarantine.parquet",
    }
    lines = [f"{count:,} {why[reason]}" for reason, count in made.left_out.items() if count]
    if made.without_documents:
        few = ", ".join(map(repr, made.without_documents[:5]))
        lines.append(f"{len(made.without_documents):,} groups have no documents ({few}); the others got their share")
    return lines
