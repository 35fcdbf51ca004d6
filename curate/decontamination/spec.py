"""What evaluation items are looked for, what counts as having one, and what becomes of a document that does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from curate.errors import UsageError, refuse_unknown, unknown
from curate.io.targets import GENERIC, Targets, listed_paths

MODES = ("remove", "cut", "tag")
MAX_NGRAM = 64
MIN_NGRAM = 8
NAMES_OF_PARTS = (*GENERIC, "test", "heldout", "held_out", "dev", "val", "valid", "validation", "eval", "items")


@dataclass(frozen=True)
class DecontaminationSpec:
    """What evaluation items are looked for, what counts as having one, and what becomes of a document that does.

    Parameters
    ----------
    against : files, folders or globs of evaluation items, or those by name of benchmark. A file that is not named has
        the benchmark's name in its own, or in its folder's where its own says nothing (``gsm8k/test.jsonl``).
    ngram : words in a row that a document and an item share by which it has the item, 8 to 64; 13 is GPT-3's
        (arXiv:2005.14165, appendix C).
    coverage : share of an item's words, 0.2 to 1, by which a document has it though no ``ngram`` words are in a row.
    min_words : items of fewer cannot be told from chance and are not looked for; those of fewer than ``ngram`` only as
        a whole. 5 to ``ngram``.
    boilerplate : n-grams in a larger share of a benchmark's items say nothing, such as a prompt; nor do those in more
        than 10 items, but those in 2 do, and nothing of the usual licences does.
    mode : "remove" the document, "cut" what it has of items, or "tag" it with the benchmarks.
    min_left : a document with fewer words left after "cut" is removed.
    fields : columns of the items; without them ``text`` where there is one, else all that hold text. Several are joined
        and each is looked for by itself too, so that a question is found without its answer.
    id_column : of the items; without it the first there is of id, task_id, question_id, item_id, uid, else the row.

    Raises
    ------
    UsageError : a setting makes no sense.
    """

    against: Targets
    ngram: int = 13
    coverage: float = 0.5
    min_words: int = 8
    boilerplate: float = 0.05
    mode: str = "remove"
    min_left: int = 20
    fields: tuple[str, ...] = ()
    id_column: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.fields, str) or not all(isinstance(name, str) for name in self.fields):
            raise UsageError(f"fields={self.fields!r}: must be a list of names of columns")
        object.__setattr__(self, "fields", tuple(self.fields))
        if self.mode not in MODES:
            raise unknown("mode of decontamination", self.mode, MODES)
        for name, low, high in (
            ("ngram", MIN_NGRAM, MAX_NGRAM),
            ("min_words", 5, self.ngram),
            ("min_left", 0, 1 << 31),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise UsageError(f"{name}={value!r}: must be a whole number")
            if not low <= value <= high:
                raise UsageError(f"{name}={value:,}: must be {low:,} to {high:,}")
        for name, lowest in (("coverage", 0.2), ("boilerplate", 0.0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise UsageError(f"{name}={value!r}: must be a number")
            if not lowest <= value <= 1:
                raise UsageError(f"{name}={value:g}: must be {lowest:g} to 1")
        if not self.benchmarks():
            raise UsageError("decontamination against nothing: name at least one file of evaluation items")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> DecontaminationSpec:
        """From settings by name.

        Raises
        ------
        UsageError : there is no setting of that name, or a value makes no sense.
        """
        refuse_unknown("setting of decontamination", settings, (field.name for field in fields(cls)))
        if "against" not in settings:
            raise UsageError("decontamination against what? pass against with files of evaluation items")
        return cls(**settings)

    def benchmarks(self) -> dict[str, list[str]]:
        """Paths by the name that was given; those without one under ""."""
        if isinstance(self.against, Mapping):
            return {name: listed_paths(paths) for name, paths in self.against.items()}
        paths = listed_paths(self.against)
        return {"": paths} if paths else {}

    def as_dict(self) -> dict[str, Any]:
        """All settings, in plain values."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        return settings | {"against": self.benchmarks(), "fields": list(self.fields)}


def benchmark_name(path: str | os.PathLike[str]) -> str:
    """What the benchmark of a file is called: the file's name, or its folder's where that says nothing.

    >>> benchmark_name("evals/gsm8k.jsonl.zst"), benchmark_name("evals/gsm8k/test.jsonl")
    ('gsm8k', 'gsm8k')
    """
    parts: Sequence[str] = os.fspath(path).rstrip("/").replace("://", "/").split("/")
    name = parts[-1].split(".")[0] or "items"
    return parts[-2] if name in NAMES_OF_PARTS and len(parts) > 1 and parts[-2] not in ("", ".", "..") else name
