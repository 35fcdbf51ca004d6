"""Progress bars on stderr, with rate and time left; silent when nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Shows one bar a stage. ``enabled=None``: only when stderr is a terminal."""

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled = sys.stderr.isatty() if enabled is None else enabled

    @contextmanager
    def stage(self, name: str, total: float, *, in_bytes: bool = True) -> Iterator[Stage]:
        """A stage of ``total`` bytes, or of that many pieces."""
        if not self.enabled:
            yield Stage()
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
    """A stage that nobody looks at."""

    def advance(self, amount: float) -> None:
        """Note that ``amount`` more is done."""


class _Bar(Stage):
    def __init__(self, bars: object, task: object) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: float) -> None:
        self._bars.advance(self._task, amount)  # type: ignore[attr-defined]
