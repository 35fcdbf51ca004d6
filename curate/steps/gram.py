"""The part of a fit that sums up products of vectors of raw, for `Leverage`: one pass, and merged exactly."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from curate.io.paths import atomic, whole
from curate.leverage import Gram
from curate.scorers.leverage import Leverage, add_to, sum_of
from curate.steps.documents import Documents


class GramSums:
    """Sums over all documents that are long enough."""

    def __init__(self, model: Leverage, folder: Path) -> None:
        self.model, self.folder = model, folder

    def identity(self) -> list[Any]:
        """What determines the sums beside the documents."""
        return ["gram", self.model.identity()]

    def look(self, docs: Documents) -> Gram | None:
        """The sums of a batch; called by many threads."""
        return add_to(None, self.model.looked_at(docs.texts, docs.vectors)[0])

    def begin(self, stack: ExitStack, index: int) -> _Summing:
        """Start with a partition."""
        return _Summing(self.path(index))

    def resume(self, found: dict[str, Any]) -> None:
        """Nothing to note of a finished partition."""

    def path(self, index: int) -> Path:
        """Where the sums of a partition are."""
        return self.folder / f"part-{index:05d}.npy"

    def total(self, found: list[dict[str, Any]]) -> Gram | None:
        """The sums over all partitions."""
        total: Gram | None = None
        for index, part in enumerate(found):
            if part["n_points"]:
                with whole(self.path(index)) as stream:
                    sums = np.load(stream, allow_pickle=False)
                total = sum_of(total, Gram.of_sums(sums, part["n_points"]))
        return total


class _Summing:
    """The sums of one partition in the making."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gram: Gram | None = None

    def add(self, docs: Documents, looked: Gram | None) -> None:
        self._gram = sum_of(self._gram, looked)

    def end(self) -> dict[str, Any]:
        if self._gram is None:
            return {"n_points": 0}
        with atomic(self._path) as part, open(part, "wb") as file:
            np.save(file, self._gram.sums)
        return {"n_points": self._gram.n_points}
