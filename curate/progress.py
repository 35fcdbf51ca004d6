"""Progress bars on stderr, with rate and time left; where nobody looks, events in the log now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curate.logs import event

EVERY = 30.0  # seconds between events of one stage


class Progress:
    """Shows one bar a stage. ``enabled=None``: only when stderr is a terminal."""

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled = sys.stderr.isatty() if enabled is None else enabled

    @contextmanager
    def stage(self, name: str, total: float, *, in_bytes: bool = True) -> Iterator[Stage]:
        """A stage of ``total`` bytes, or of that many pieces."""
        if not self.enabled:
            yield Stage(name, total, in_bytes)
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars

        columns = [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
        name_column = TextColumn("{task.description:<8}")
        with Bars(name_column, BarColumn(), *columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
            yield _Bar(bars, bars.add_task(name, total=total))


class Stage:
    """A stage without a bar: it logs how far it is, every half a minute."""

    def __init__(self, name: str, total: float, in_bytes: bool) -> None:
        self._name, self._total, self._unit = name, total, "bytes" if in_bytes else "pieces"
        self._done = 0.0
        self._begun = self._told = time.monotonic()

    def advance(self, amount: float) -> None:
        """Note that ``amount`` more is done."""
        self._done += amount
        now = time.monotonic()
        if now - self._told >= EVERY and self._done:
            self._told = now
            left = (now - self._begun) * max(0.0, self._total / self._done - 1)
            fields: dict[str, Any] = {f"{self._unit}_done": int(self._done), f"{self._unit}_total": int(self._total)}
            event("step.progress", step=self._name, **fields, seconds_left=round(left))


class _Bar(Stage):
    def __init__(self, bars: object, task: object) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: float) -> None:
        self._bars.advance(self._task, amount)  # type: ignore[attr-defined]
