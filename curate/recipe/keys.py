"""The table of a recipe: its sections, their keys, what each may be, and which function takes them.

A step that is new is an entry here, and one in `curate.recipe.steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from curate.engines.resources import RAY_OPTIONS
from curate.recipe.values import (
    Kind,
    amount,
    choice,
    flag,
    named_texts,
    number,
    numbers,
    path,
    paths,
    settings,
    share_or_shares,
    targets,
    text,
    texts,
    whole,
)


@dataclass(frozen=True)
class Key:
    """One key: what it may be, and its default, which is left out of a recipe; a function of the section's others."""

    kind: Kind
    default: Any = None

    def default_in(self, given: Mapping[str, Any]) -> Any:
        """The default beside the other keys that are given."""
        return self.default(given) if isinstance(self.default, Callable) else self.default  # type: ignore[arg-type]


@dataclass(frozen=True)
class Section:
    """Keys of a section, by name. ``takes``: the function that gets them, as MODULE:NAME."""

    takes: str
    keys: Mapping[str, Key]
    is_step: bool = False  # done only when it is there; true or {} for all as it is by default


@dataclass(frozen=True)
class OneOf:
    """A step that is one of several, each with keys of its own."""

    sections: Mapping[str, Section]
    is_step: bool = True


SELECT = "curate.selection:select"
ON_BAD_ROW = choice("raise", "quarantine")


def _usual_budget(given: Mapping[str, Any]) -> str | None:
    """All above a threshold need no budget."""
    return None if given.get("draw") == "threshold" else "10%"


TOP: dict[str, Key] = {"name": Key(text), "out": Key(path)}

SECTIONS: dict[str, Section | OneOf] = {
    "inputs": Section(
        SELECT,
        {
            "raw": Key(paths),
            "target": Key(targets),
            "text_column": Key(text, "text"),
            "id_column": Key(text, "id"),
            "target_text_column": Key(text),
            "holdout": Key(number),
            "domains": Key(path),
            "on_bad_row": Key(ON_BAD_ROW, "raise"),
        },
    ),
    "filters": Section(
        "curate.filters:FilterSpec",
        {
            "rules": Key(texts, []),
            "settings": Key(settings, {}),
            "kinds": Key(choice("auto", "all"), "auto"),
            "kind_column": Key(text),
            "languages": Key(texts, []),
            "min_language_share": Key(number, 0.0),
            "unknown_language": Key(choice("keep", "remove"), "keep"),
            "mask": Key(texts, []),
            "min_words": Key(whole),
            "max_words": Key(whole),
            "min_characters": Key(whole),
            "max_characters": Key(whole),
            "where": Key(named_texts, {}),
        },
        is_step=True,
    ),
    "dedup": Section(
        "curate.dedup:DedupSpec",
        {
            "exact": Key(flag, True),
            "near": Key(flag, True),
            "semantic": Key(flag, False),
            "threshold": Key(number, 0.7),
            "ngram": Key(whole, 5),
            "num_perm": Key(whole, 128),
            "bands": Key(whole),
            "rows": Key(whole),
            "normal": Key(text, "whitespace"),
            "short": Key(choice("exact", "keep"), "exact"),
            "prefer": Key(text, "doc_id"),
            "against": Key(texts, []),
            "max_bucket": Key(whole, 64),
            "seed": Key(whole, 1),
            "cosine": Key(number, 0.95),
            "encoder": Key(path),
            "vectors": Key(text),
            "clusters": Key(whole),
        },
        is_step=True,
    ),
    "decontaminate": Section(
        "curate.decontamination:DecontaminationSpec",
        {
            "against": Key(targets),
            "mode": Key(choice("remove", "cut", "tag"), "remove"),
            "ngram": Key(whole, 13),
            "coverage": Key(number, 0.5),
            "min_words": Key(whole, 8),
            "boilerplate": Key(number, 0.05),
            "min_left": Key(whole, 20),
            "fields": Key(texts, []),
            "id_column": Key(text),
        },
        is_step=True,
    ),
    "score": Section(SELECT, {"method": Key(text, "dsir"), "settings": Key(settings), "per": Key(text)}),
    "draw": Section(
        SELECT,
        {
            "budget": Key(amount, _usual_budget),
            "draw": Key(text),
            "seed": Key(whole, 0),
            "threshold": Key(number),
            "proportions": Key(numbers),
            "transform": Key(text),
            "max_kl": Key(number),
            "min_ess": Key(number),
            "regularise": Key(text),
            "calibrate": Key(text),
        },
    ),
    "write": Section(
        SELECT, {"format": Key(choice("parquet", "jsonl.zst"), "parquet"), "shard_size": Key(amount, "128MB")}
    ),
    "evaluate": Section(
        "curate.evidence:evaluate",
        {
            "heldout": Key(targets),
            "heldout_text_column": Key(text),
            "seeds": Key(whole, 5),
            "sample": Key(amount, "1.5MB"),
            "heldout_size": Key(amount, "300kB"),
            "fail_unless": Key(choice("better")),
        },
        is_step=True,
    ),
    "curriculum": OneOf(
        {
            "offline": Section(
                "curate.curriculum.course:offline",
                {
                    "raw": Key(paths),
                    "out": Key(path),
                    "difficulty": Key(text, "bits-per-byte"),
                    "within": Key(texts),
                    "bins": Key(whole),
                    "stages": Key(whole),
                    "pacing": Key(text),
                    "start": Key(number),
                    "order": Key(text),
                    "tail": Key(number),
                    "gate": Key(text),
                    "floor": Key(number),
                    "seed": Key(whole, 0),
                    "text_column": Key(text),
                    "id_column": Key(text),
                    "on_bad_row": Key(ON_BAD_ROW),
                },
            ),
            "gaussian": Section(
                "curate.curriculum.online:gaussian",
                {
                    "grades": Key(paths),
                    "out": Key(path),
                    "raw": Key(paths),
                    "column": Key(text),
                    "id_column": Key(text),
                    "sigma": Key(number, 0.35),
                    "centre": Key(number, 0.5),
                    "alpha": Key(number, 0.9),
                    "small_groups": Key(flag, False),
                },
            ),
            "ucb": Section(
                "curate.curriculum.online:ucb",
                {
                    "groups": Key(texts),
                    "out": Key(path),
                    "raw": Key(paths),
                    "column": Key(text),
                    "window": Key(whole, 300),
                    "temperature": Key(number, 0.1),
                    "min_prob": Key(number, 0.0),
                },
            ),
            "mix": Section(
                "curate.curriculum.mixing:mix",
                {
                    "raw": Key(paths),
                    "out": Key(path),
                    "column": Key(text, "source"),
                    "by": Key(text, "raw"),
                    "max_kl": Key(number),
                    "temperature": Key(number, 1.0),
                    "weights": Key(numbers),
                    "rest": Key(flag, True),
                    "curriculum": Key(path),
                    "proxies": Key(path),
                    "losses": Key(path),
                    "loss": Key(numbers),
                    "risk": Key(number),
                    "budget": Key(amount),
                    "max_epochs": Key(number),
                    "weights_of": Key(text, "text"),
                    "seed": Key(whole, 0),
                    "text_column": Key(text),
                    "id_column": Key(text),
                    "on_bad_row": Key(ON_BAD_ROW),
                },
            ),
        }
    ),
    "report": Section(
        "curate.report.write:report",
        {"format": Key(choice("html", "md", "json"), "html"), "out": Key(path), "sample": Key(amount, "16MB")},
        is_step=True,
    ),
    # How, never what: no part of what a recipe is known by.
    "run": Section(
        SELECT,
        {
            "engine": Key(choice("local", "ray"), "local"),
            "ray_address": Key(text, "auto"),
            "ray_cpus": Key(whole, 1),
            "ray_memory": Key(amount),
            "ray_retries": Key(whole, 3),
            "workers": Key(whole),
            "memory_limit": Key(amount, "2GB"),
            "spill": Key(flag),
            "max_removed": Key(share_or_shares, 0.5),
            "scores_from": Key(path),
            "lineage": Key(flag, False),
        },
    ),
}

CLEANING = ("filters", "dedup", "decontaminate")  # sections that `select` has as one argument each
SELECTING = tuple(
    name for name, of in SECTIONS.items() if isinstance(of, Section) and (of.takes == SELECT or name in CLEANING)
)
WEIGHTS = ("transform", "max_kl", "min_ess", "regularise", "calibrate")  # keys of draw that `select` has in one
NOT_PASSED: Mapping[str, tuple[str, ...]] = {"run": tuple(RAY_OPTIONS), "evaluate": ("fail_unless",)}
PASSED_AS: Mapping[tuple[str, str], str] = {("report", "sample"): "sample_bytes"}
