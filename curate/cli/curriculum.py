"""``curate curriculum``: what to train on, in what proportion, when."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from curate.cli.options import bars, print_json, running


@click.group()
def curriculum() -> None:
    """What to train on, in what proportion, when: weights of groups that training loops read.

    \b
    Example:
      curate curriculum --help
    """


@curriculum.command()
@click.argument("weights", metavar="CURRICULUM", type=click.Path(exists=True))
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
@click.option("--text-column", help="Column of the text; by default that of the run, or text.")
@click.option("--id-column", help="Column of the id; by default that of the run, or id.")
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

    made = hand_over(weights, shards, to=to, progress=bars(quiet), **rest)
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
