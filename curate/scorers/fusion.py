"""Several scorers whose scores are fused into one, once all documents have theirs (see `curate.steps.fuse`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import InputError, UsageError, unknown
from curate.features.ngrams import NgramFeatures
from curate.scorers.base import Scorer, number

RULES = ("quantile", "reciprocal")
RANK_CONSTANT = 60.0  # of Cormack, Clarke and Buettcher, SIGIR 2009
SHARED = ("min_tokens", "tokenizer")  # settings that go to every scorer that is fused


class Fusion:
    """Scorers whose scores are fused: ``fusion="quantile"`` or ``"reciprocal"`` rank.

    By reciprocal rank a document gets the sum of ``weight / (rank_constant + rank)``; ranks are from 1, best
    first. By quantile it gets the weighted mean of its quantiles, (documents below + half of those equal) /
    documents: a number in (0, 1) that means the same for every scorer. A document without a score from one
    scorer has none.

    Parameters
    ----------
    members : scorers by name.
    fusion : the rule. weights : of the scorers, 1 where not named. rank_constant : of reciprocal ranks.
    group : a column of raw; ranks and quantiles are then within its values.
    """

    log_weights = False
    scores_are_weights = False
    default_draw = "topk"
    separate_targets = False

    def __init__(
        self,
        members: Mapping[str, Scorer],
        *,
        fusion: str = "quantile",
        weights: Mapping[str, float] | None = None,
        rank_constant: float = RANK_CONSTANT,
        group: str | None = None,
    ) -> None:
        if len(members) < 2:
            raise UsageError("nothing to fuse: name two methods or more, such as dsir+primed")
        if fusion not in RULES:
            raise unknown("fusion", fusion, RULES)
        if not 0 <= number("rank_constant", rank_constant) < float("inf"):
            raise UsageError(f"rank_constant={rank_constant}: must be 0 or more")
        if group is not None and not isinstance(group, str):
            raise UsageError(f"group={group!r}: must be the name of a column")
        self.members = dict(members)
        self.fusion, self.rank_constant, self.group = fusion, float(rank_constant), group
        given = dict(weights or {})
        for name in given:
            if name not in self.members:
                raise unknown("scorer", name, self.members)
        self.weights = {name: float(number(f"{name}.weight", given.get(name, 1.0))) for name in self.members}
        if not all(0 <= w < float("inf") for w in self.weights.values()) or sum(self.weights.values()) <= 0:
            raise UsageError(f"weights={self.weights}: must be non-negative and not all 0")
        for name, member in self.members.items():
            if member.separate_targets:
                raise UsageError(f"{name}.separate_targets: scores that are fused are for all targets pooled")

        if len({member.features.tokenizer for member in self.members.values()}) > 1:
            raise UsageError("scorers that are fused count tokens alike: give one --tokenizer for all of them")

    @classmethod
    def from_settings(cls, members: Mapping[str, type[Scorer]], settings: Mapping[str, Any]) -> Fusion:
        """From its own settings (``fusion``, ``rank_constant``, ``group``) and those of scorers, as ``dsir.n``.

        ``dsir.weight`` is the weight of a scorer; ``min_tokens`` and ``tokenizer`` go to every one.
        """
        own: dict[str, Any] = {}
        weights: dict[str, float] = {}
        of: dict[str, dict[str, Any]] = {name: {} for name in members}
        for key, value in settings.items():
            name, dot, setting = key.partition(".")
            if not dot and key in SHARED:
                for name in members:
                    of[name].setdefault(key, value)
            elif not dot:
                if key not in ("fusion", "rank_constant", "group"):
                    own_names = ["fusion", "rank_constant", "group", *SHARED]
                    theirs = [f"{m}.{s}" for m, kind in members.items() for s in ("weight", *kind.setting_names())]
                    raise unknown(f"setting of {'+'.join(members)}", key, [*own_names, *theirs])
                own[key] = value
            elif name not in members:
                raise unknown("scorer", name, members)
            elif setting == "weight":
                weights[name] = value
            else:
                of[name][setting] = value
        made = {name: kind.from_settings(of[name]) for name, kind in members.items()}
        return cls(made, weights=weights, **own)

    @property
    def features(self) -> NgramFeatures:
        """By which tokens are counted."""
        return next(iter(self.members.values())).features

    @property
    def method(self) -> str:
        """Names of the scorers, joined by "+"."""
        return "+".join(self.members)

    @property
    def columns(self) -> list[str]:
        """The column that a draw goes by."""
        return ["score"]

    @property
    def member_columns(self) -> list[str]:
        """A column for the scores of each scorer."""
        return [f"score_{name}" for name in self.members]

    @property
    def needs_target(self) -> bool:
        """Whether any of the scorers does."""
        return any(member.needs_target for member in self.members.values())

    @property
    def target_names_(self) -> list[str]:
        """The target, all pooled."""
        return next(iter(self.members.values())).target_names_

    @property
    def target_proportions_(self) -> list[float]:
        """All of the budget."""
        return [1.0]

    def settings(self) -> dict[str, Any]:
        """All settings with their values, those of scorers with their names before them."""
        flat: dict[str, Any] = {"fusion": self.fusion, "rank_constant": self.rank_constant, "group": self.group}
        for name, member in self.members.items():
            flat[f"{name}.weight"] = self.weights[name]
            flat |= {f"{name}.{key}": value for key, value in member.settings().items()}
        return flat

    def identity(self) -> dict[str, Any]:
        """What determines scores beside files."""
        return self.settings() | {name: member.identity() for name, member in self.members.items()}

    def score_documents(self, texts: Any, vectors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(scores float64[n_docs, n_scorers], int64[n_docs] tokens)`` of Arrow strings, not fused yet."""
        found = [member.score_documents(texts, vectors) for member in self.members.values()]
        return np.concatenate([scores for scores, _ in found], axis=1), found[0][1]

    def save(self, folder: str | Path) -> None:
        """Write ``scorer.json``, and each scorer in a folder of its name."""
        from curate.io.paths import atomic, folder_path

        folder = folder_path(folder)
        for name, member in self.members.items():
            member.save(folder / name)
        with atomic(folder / "scorer.json") as part:
            part.write_text(json.dumps({"method": self.method, "settings": self.settings()}, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, members: Mapping[str, type[Scorer]]) -> Fusion:
        """Read what `save` wrote.

        Raises
        ------
        InputError : it is not there, or not such a scorer's.
        """
        from curate.io.paths import folder_path

        folder = folder_path(folder)
        try:
            settings = json.loads((folder / "scorer.json").read_text())["settings"]
            model = cls.from_settings(members, settings)
        except (OSError, KeyError, TypeError, ValueError, UsageError) as error:
            raise InputError(f"{folder}: not a saved scorer ({error})") from error
        model.members = {name: kind.load(folder / name) for name, kind in members.items()}
        return model
