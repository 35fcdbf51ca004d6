"""The command line: parse, one library call, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from curate import __version__
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
def main() -> None:
    """Choose training data for language models: score raw corpora against examples of what you want.

    \b
    Example:
      curate select raw/ --target examples.jsonl --budget 10% --out out
    """


Command = Callable[..., Any]


def _options(*options: Command) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_reading = _options(
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
_scoring = _options(
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
_drawing = _options(
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
    click.option(
        "--format",
        type=click.Choice(["parquet", "jsonl.zst"]),
        default="parquet",
        show_default=True,
        help="Of the shards.",
    ),
    click.option("--shard-size", default="128MB", show_default=True, help="Bytes of text in a shard."),
    click.option("--name", help="Of the dataset; by default TARGET-METHOD."),
)
_of_a_selection = _options(
    click.option("--raw", "-r", multiple=True, help="What the selection was made from; of a run that is known."),
    click.option("--target-text-column", help="Column of the text in the target, when it is another."),
    click.option("--text-column", help="Column of the text; by default that of the run, or text."),
    click.option("--id-column", help="Column of the id; by default that of the run, or id."),
    click.option(
        "--on-bad-row",
        type=click.Choice(["raise", "quarantine"]),
        help="Stop at a row that cannot be read, or leave it out and count it; by default as in the run.",
    ),
)
_running = _options(
    click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core."),
    click.option("--memory-limit", default="2GB", show_default=True, help="Memory to stay within."),
    click.option("--overwrite", is_flag=True, help="Replace what another recipe left in the folder."),
    click.option("--quiet", "-q", is_flag=True, help="No progress bars."),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
)


def _progress(quiet: bool) -> bool | None:
    return False if quiet else None


def _pairs(items: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {item}: must be KEY=VALUE")
        pairs[key] = value
    return pairs


def _settings(items: tuple[str, ...], tokenizer: str | None) -> dict[str, Any]:
    settings: dict[str, Any] = {key: _value(value) for key, value in _pairs(items, "--set").items()}
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


def _targets(items: tuple[str, ...], option: str = "--target") -> Any:
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


def _shares(items: tuple[str, ...]) -> dict[str, float] | None:
    try:
        return {key: float(value) for key, value in _pairs(items, "--proportion").items()} or None
    except ValueError as error:
        raise UsageError(f"--proportion: a share must be a number ({error})") from error


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


@main.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the selection.")
@_scoring
@_drawing
@_reading
@click.option("--scores-from", type=click.Path(), help="An earlier run whose scores are used again.")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Print the plan with time, memory and disk, and stop.")
@click.option(
    "--engine", type=click.Choice(["local"]), default="local", show_default=True, help="Where partitions are worked on."
)
@_running
def select(
    raw: tuple[str, ...],
    out: str,
    targets: tuple[str, ...],
    settings: tuple[str, ...],
    tokenizer: str | None,
    proportions: tuple[str, ...],
    dry_run: bool,
    engine: str,
    quiet: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Select the documents of RAW that are like the target.

    RAW are files, folders, globs or URLs: .parquet .jsonl .json .csv .txt .arrow, most also .gz and .zst.

    \b
    Example:
      curate select samples/raw --target samples/targets/gsm8k/train.jsonl --budget 10% --out out
    """
    weights = _weights(rest)
    wanted = {"target": _targets(targets), "out": out, "settings": _settings(settings, tokenizer), **rest}
    wanted["budget"] = _budget(rest)
    if dry_run:
        from curate.plan import ESTIMATED_BY, estimate

        found = estimate(raw, **{key: (wanted | {"weights": weights})[key] for key in ESTIMATED_BY})
        _print_json(asdict(found)) if as_json else click.echo(found.as_text())
        return
    from curate.selection import select as run

    result = run(raw, **wanted, weights=weights, proportions=_shares(proportions), progress=_progress(quiet))
    _show_selection(result, as_json)


def _weights(options: dict[str, Any]) -> dict[str, Any]:
    """What was asked of weights; it is taken out of the options."""
    asked = {name: options.pop(name) for name in ("transform", "max_kl", "min_ess", "regularise", "calibrate")}
    return {name: value for name, value in asked.items() if value is not None}


def _budget(options: dict[str, Any]) -> str | None:
    budget: str | None = options["budget"]
    return budget if budget is not None or options.get("draw") == "threshold" else "10%"


def _show_selection(result: Any, as_json: bool) -> None:
    if as_json:
        _print_json({"out": str(result.out), "seconds": result.seconds, **result.manifest})
        return
    from curate.report.terminal import selection_text

    click.echo(selection_text(result))
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)


@main.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the scores.")
@_scoring
@_reading
@_running
def score(raw: tuple[str, ...], targets: tuple[str, ...], settings: tuple[str, ...], tokenizer: str | None,
          quiet: bool, as_json: bool, **rest: Any) -> None:  # fmt: skip
    """Fit a scorer and score every document of RAW, without drawing.

    \b
    Example:
      curate score samples/raw --target samples/targets/gsm8k/train.jsonl --out scored
    """
    from curate.selection import score as run

    result = run(
        raw, target=_targets(targets), settings=_settings(settings, tokenizer), progress=_progress(quiet), **rest
    )
    if as_json:
        _print_json(asdict(result))
        return
    left_out = ", ".join(f"{n:,} {reason}" for reason, n in sorted(result.reasons.items()))
    click.echo(
        f"{result.n_eligible:,} of {result.n_documents:,} documents scored" + (f" ({left_out})" if left_out else "")
    )
    click.echo(f"scores: {result.out}/scores/*.parquet\nnext:   curate draw {result.out} --budget 10%")


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.option("--out", "-o", type=click.Path(file_okay=False), help="Folder for the selection; by default RUN itself.")
@click.option("--per", metavar="COLUMN", help="Draw within each value of a column (such as source).")
@_drawing
@_running
def draw(run: str, proportions: tuple[str, ...], quiet: bool, as_json: bool, **rest: Any) -> None:
    """Draw from the scores of RUN again: another budget, draw or seed, in seconds.

    \b
    Example:
      curate draw out --budget 5% --seed 1 --out out-5
    """
    from curate.selection import draw as again

    rest["budget"] = _budget(rest)
    rest["weights"] = _weights(rest)
    result = again(run, proportions=_shares(proportions), progress=_progress(quiet), **rest)
    _show_selection(result, as_json)


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
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
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
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

    found = measure(run, heldout=_targets(heldout, "--heldout") if heldout else None, progress=_progress(quiet), **rest)
    if as_json:
        _print_json(found.as_dict())
    else:
        from curate.report.terminal import evidence_text

        click.echo(evidence_text(found))
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    if fail_unless and found.verdict != fail_unless:
        sys.exit(3)


@main.command()
@click.argument("raw", nargs=-1, required=True)
@_reading
@click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core.")
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
        _print_json(corpus.as_dict() | {"columns": columns_of(corpus), "passed_over": corpus.passed_over})
        return
    from curate.report.terminal import corpus_text

    click.echo(corpus_text(corpus, columns_of(corpus)))


@main.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the domains.")
@click.option("-k", "--k", default="auto", show_default=True, metavar="auto|N", help="Number of domains.")
@click.option("--encoder", type=click.Path(), metavar="DIR", help="Sentence encoder for the vectors.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the clustering.")
@_reading
@click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core.")
@click.option("--overwrite", is_flag=True, help="Replace other domains in the folder.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
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
    found = run(raw, k=None if k == "auto" else int(k), progress=_progress(quiet), **rest)
    if as_json:
        _print_json(as_dict(found))
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
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
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
    _print_json(as_dict(found)) if as_json else click.echo(upgrade_text(found))


@main.command()
@click.argument("target")
@click.argument("selected")
@_of_a_selection
@click.option("--sample", default="16MB", show_default=True, help="Text of each corpus that is looked at, at least.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of resampling and permutations.")
@click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
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

    result = run(target, selected, raw=raw or None, sample_bytes=parse_bytes(sample), progress=_progress(quiet), **rest)
    if as_json:
        _print_json(finite(asdict(result)))
        return
    from curate.report.terminal import comparison_text

    click.echo(comparison_text(result))


@main.command()
@click.argument("selected", nargs=-1, required=True)
@click.option(
    "--target", "--heldout", "-t", multiple=True, required=True, help="Examples of what is wanted, or text held out."
)
@_of_a_selection
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
@click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
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
        settings=_settings(settings, None) or None,
        progress=_progress(quiet),
        **rest,
    )
    if as_json:
        _print_json(finite(asdict(result)))
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
@click.option("--sample", default="16MB", show_default=True, help="Text of each corpus that is looked at, at least.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
@click.option("--workers", "-w", type=click.IntRange(min=1), help="Threads; by default one a core.")
def report(paths: tuple[str, ...], sample: str, quiet: bool, **rest: Any) -> None:
    """Report on a RUN, or on the files of a corpus: one page that needs no network.

    \b
    Example:
      curate report out
    """
    from curate.report.write import report as write
    from curate.sampling.budget import parse_bytes

    click.echo(write(paths, sample_bytes=parse_bytes(sample), progress=_progress(quiet), **rest))


@main.command()
@click.argument("raw", nargs=-1, required=True)
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="Folder for the passages.")
@click.option("--size", default="200", show_default=True, help="Bytes of a passage, at least; up to twice as many.")
@_reading
@_running
def passages(raw: tuple[str, ...], quiet: bool, as_json: bool, **rest: Any) -> None:
    """Cut the documents of RAW into passages, to select these instead of whole documents.

    \b
    Example:
      curate passages samples/raw --out cut
    """
    from curate.cutting import passages as cut

    made = cut(raw, progress=_progress(quiet), **rest)
    if as_json:
        _print_json(asdict(made))
        return
    mean = made.n_bytes / max(1, made.n_passages)
    click.echo(f"{made.n_documents:,} documents in {made.n_passages:,} passages of {mean:,.0f} bytes on average")
    if made.n_bad_rows:
        click.echo(f"warning: {made.n_bad_rows:,} rows could not be read; they are in quarantine.parquet", err=True)
    click.echo(f"passages: {made.out}/passages\nnext:     curate select {made.out}/passages --target ... --out ...")


@main.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False))
@click.option("--inputs", is_flag=True, help="Check the raw and target files too.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(out: str, inputs: bool, as_json: bool) -> None:
    """Recheck all hashes and counts of a run.

    \b
    Example:
      curate verify out
    """
    from curate.verification import verify as check

    result = check(out, inputs=inputs)
    if as_json:
        _print_json(asdict(result) | {"ok": result.ok})
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
        _print_json({"methods": [asdict(m) | {"settings": m.settings} for m in METHODS], "draws": DRAWS})
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
        _print_json([asdict(check) for check in found])
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
