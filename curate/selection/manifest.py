"""The manifest of a selection, and the command line that makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from curate import __version__
from curate.errors import RunError
from curate.features.ngrams import file_sha256
from curate.io.paths import folder_path, is_read_only
from curate.io.run import MANIFEST, digest, read_json
from curate.logs import event
from curate.metrics.spending import Spent
from curate.scorers import scorer
from curate.selection.asked import CLEANING
from curate.selection.scored import Scored
from curate.steps.clean import DUPLICATE_KINDS, CleanSpec, dedup_settings
from curate.steps.scoretable import Statistics, generations_of


def manifest_of(
    scored: Scored,
    recipe: dict[str, Any],
    found: Statistics,
    kept: Sequence[dict[str, Any]],
    shards: list[dict[str, Any]],
    diagnostics: list[dict[str, Any]],
    nats: Spent,
    texts: list[str],
) -> dict[str, Any]:
    tokenizer = scored.model.features.tokenizer
    rows = _rows_by_file(scored)
    stats = {
        "n_documents": found.n_documents,
        "n_eligible": found.n_eligible,
        "n_selected": sum(k["n_documents"] for k in kept),
        "n_bytes": found.n_bytes,
        "n_bytes_selected": sum(k["n_bytes"] for k in kept),
        "n_tokens": found.n_tokens,
        "n_tokens_selected": sum(k["n_tokens"] for k in kept),
        "n_bad_rows": scored.commit["n_bad_rows"],
        "reasons": dict(sorted(found.reasons.items())),
        "fit": scored.commit["fit"],
        "diagnostics": diagnostics,
        "spent": nats.as_dict(),
        "warnings": texts,
    }
    if "cleaning" in scored.commit:
        stats["cleaning"] = scored.commit["cleaning"]
    return {
        "version": 1,
        "uuid": str(uuid4()),
        "name": recipe["name"],
        "creation_date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool_version": __version__,
        "command": _command(scored, recipe),
        "recipe": recipe,
        "recipe_sha256": digest(recipe),
        "seed": recipe["draw"]["seed"],
        "inputs": [
            {"path": f.source.path, "name": f.source.name, "bytes": f.bytes, "sha256": f.sha256, "rows": rows[i]}
            for i, f in enumerate(scored.corpus.files)
        ],
        "targets": [
            {"name": name, "path": f.source.path, "bytes": f.bytes, "sha256": f.sha256}
            for name, corpus in scored.targets.items()
            for f in corpus.files
        ],
        "tokenizer": f"SentencePiece {file_sha256(tokenizer)[:16]}" if tokenizer else "word-punctuation",
        "shards": shards,
        "stats": stats,
        "parents": _parents(scored),
    }


def _rows_by_file(scored: Scored) -> list[int]:
    from curate.io.tables import count_rows

    rows = [0] * len(scored.corpus.files)
    for partition, part in zip(scored.corpus.partitions, scored.table.parts, strict=True):
        rows[partition.file] += count_rows(part)
    return rows


def _parents(scored: Scored) -> list[dict[str, str]]:
    """Manifests above the inputs: of runs whose shards these are."""
    parents: dict[str, dict[str, str]] = {}
    folders = {file.source.path.rpartition("/")[0].rpartition("/")[0] for file in scored.corpus.files}
    for folder in map(folder_path, sorted(name for name in folders if name.rstrip(":/"))):
        if is_read_only(folder):
            continue
        try:
            above = read_json(folder / MANIFEST)
        except RunError as error:  # it may be anybody's; of a bucket, one that we may not look at
            event("parents.unread", level="warning", folder=str(folder), error=str(error))
            continue
        if isinstance(above, dict) and "uuid" in above and "recipe_sha256" in above:
            parents[above["uuid"]] = {"uuid": above["uuid"], "recipe_sha256": above["recipe_sha256"]}
    return [parents[key] for key in sorted(parents)]


def _command(scored: Scored, recipe: Mapping[str, Any]) -> str:
    """How to make it again; of a run that was updated only its next update, as selecting anew would fit anew."""
    first, *more = generations_of(scored.commit)
    if not more:
        return reproduction_command(recipe, scored.commit.get("cleaning", {}).get("max_removed"))
    n = f"{first:,} of {first + sum(more):,}"
    return f"curate select --update OUT  # the scorer is fitted to the first {n} input files"


def reproduction_command(recipe: Mapping[str, Any], max_removed: float | Mapping[str, float] | None = None) -> str:
    """The command line of a recipe, in its shortest form, ready for a shell.

    ``max_removed``: what cleaning could remove, where that is not as by default.
    """
    words = ["curate", "select", *recipe["raw"]]
    for name, paths in recipe["target"].items():
        for path in paths:
            words += ["--target", f"{name}={path}"]
    drawing, writing = recipe["draw"], recipe["write"]
    if drawing["budget"]:
        words += ["--budget", _budget_word(drawing["budget"])]
    compat = {"compat": True} if recipe["settings"].get("compat") else {}
    defaults = scorer(recipe["method"], **compat).settings()
    suited = scorer(recipe["method"]).default_draw
    for option, value, default in (
        ("--method", recipe["method"], "dsir"),
        ("--draw", drawing["draw"], suited),
        ("--seed", drawing["seed"], 0),
        ("--threshold", drawing["threshold"], None),
        ("--per", drawing["per"], None),
        ("--text-column", recipe["text_column"], "text"),
        ("--id-column", recipe["id_column"], "id"),
        ("--target-text-column", recipe["target_text_column"], None),
        ("--holdout", recipe.get("holdout"), None),
        ("--domains", recipe.get("domains"), None),
        ("--on-bad-row", recipe["on_bad_row"], "raise"),
        ("--format", writing["format"], "parquet"),
        ("--shard-size", writing["shard_bytes"], 128_000_000),
        ("--name", recipe["name"], None),
    ):
        if value != default:
            words += [option, str(value)]
    for key, value in drawing.get("weights", {}).items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    for key, value in (drawing["proportions"] or {}).items():
        words += ["--proportion", f"{key}={value}"]
    words += _cleaning_words(recipe)
    for source, share in () if max_removed is None else _named(max_removed):
        words += ["--max-removed", f"{source}={share:g}" if source else f"{share:g}"]
    if compat:
        words += ["--set", "compat=true"]
    for key, value in recipe["settings"].items():
        if value != defaults[key]:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += ["--tokenizer", text] if key == "tokenizer" else ["--set", f"{key}={text}"]
    return shlex.join([*words, "--out", "OUT"])


OPTIONS = {  # of cleaning, that are not --set STEP.KEY=VALUE
    "filters": {"rules": "--rule", "languages": "--language", "mask": "--mask", "where": "--where"},
    "dedup": {},
    "decontaminate": {"against": "--decontaminate"},
}


def _cleaning_words(recipe: Mapping[str, Any]) -> list[str]:
    """The options that ask for the cleaning of a recipe, without what is as it is by default."""
    words: list[str] = []
    for step, given in CleanSpec.of(*(recipe.get(name) for name in CLEANING)).changed().items():
        if step == "dedup":
            kind = [kind for kind in DUPLICATE_KINDS if recipe[step][kind]][-1]
            words += ["--dedup", kind]
            given = {name: value for name, value in given.items() if name not in DUPLICATE_KINDS}
            given |= {n: recipe[step][n] for n, usual in dedup_settings(kind).items() if recipe[step][n] != usual}
        for key, value in given.items():
            option = OPTIONS[step].get(key)
            for name, one in _named(value):
                if option is None:
                    text = ",".join(map(str, one)) if isinstance(one, list) else str(one)
                    words += ["--set", f"{step}.{name or key}={text}"]
                    continue
                for item in one if isinstance(one, list) else [one]:
                    words += [option, f"{name}={item}" if name else str(item)]
    return words


def _named(value: Any) -> Iterable[tuple[str, Any]]:
    """A value, or several by name."""
    return value.items() if isinstance(value, Mapping) else [("", value)]


def _budget_word(budget: Mapping[str, Any]) -> str:
    amount = f"{budget['amount']:.15g}"
    return {"percent": f"{amount}%", "bytes": f"{amount}B", "tokens": f"{amount}-tokens"}.get(budget["unit"], amount)
