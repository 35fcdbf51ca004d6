"""Threads on one machine: readers and kernels release the interpreter's lock."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self, TypeVar

from curate.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


class LocalEngine:
    """Maps functions over partitions with ``workers`` threads, and over the batches within a partition.

    Two pools: one works on partitions, one on batches, so that a single big file uses all cores too.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = available_cores() if workers is None else workers
        if self.workers < 1:
            raise UsageError(f"workers={workers}: must be 1 or more")
        self.in_flight = 2 * self.workers + 2  # batches under way, over all partitions
        self._slots = threading.Semaphore(self.in_flight)
        self._stopping = threading.Event()
        self._partitions = ThreadPoolExecutor(self.workers, thread_name_prefix="partition")
        self._batches = ThreadPoolExecutor(self.workers, thread_name_prefix="batch")

    shares_memory = True

    @property
    def here(self) -> LocalEngine:
        return self

    @property
    def inside(self) -> LocalEngine:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._partitions.shutdown(wait=True, cancel_futures=True)
        self._batches.shutdown(wait=True, cancel_futures=True)

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Start something beside what `each` does."""
        return self._partitions.submit(copy_context().run, work)  # it works for whoever we work for

    def begin(self, work: Callable[[], object]) -> None:
        """Start something that is needed later; what it raises is of no interest."""
        self._batches.submit(work)

    def each(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        alone: Callable[[Item], Callable[[], Result]] | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """``(item, result)`` as they are done; the first error stops what is running at its next batch."""
        waiting = iter(items)
        running: dict[Future[Result], Item] = {}
        try:
            while True:
                while len(running) < self.workers and (item := next(waiting, _END)) is not _END:
                    running[self._partitions.submit(copy_context().run, work, item)] = item
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            self._give_up(running)

    def ordered(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, with as many under way as there are workers."""
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(self._partitions.submit(copy_context().run, work, item))
                if len(pending) > self.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            self._give_up(pending)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """All results, in the order of the items."""
        return list(self.ordered(work, items))

    def _give_up(self, left: Iterable[Future[Any]]) -> None:
        """Stop what has not ended, when a loop over results is left before its end."""
        futures = list(left)
        if not futures:
            return
        self._stopping.set()
        wait([future for future in futures if not future.cancel()])  # of a cancelled one nobody tells after shutdown
        self._stopping.clear()

    def pipeline(self, work: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
        """Results in order, with a few batches under way: called from within a partition's work."""
        pending: deque[Future[Result]] = deque()

        def oldest() -> Result:
            try:
                return pending.popleft().result()
            finally:
                self._slots.release()

        try:
            for batch in batches:
                if self._stopping.is_set():
                    raise CancelledError
                while not self._slots.acquire(blocking=not pending):
                    yield oldest()
                pending.append(self._batches.submit(work, batch))
            while pending:
                yield oldest()
        finally:
            wait([future for future in pending if not future.cancel()])
            for _ in pending:
                self._slots.release()


_END: Any = object()


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
