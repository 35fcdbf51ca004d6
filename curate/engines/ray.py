"""Ray core tasks on a cluster: one a partition, on storage that all nodes see; same bytes as the local engine's."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Self, TypeVar

from curate._optional import require
from curate.engines.allocator import give_back_memory
from curate.engines.local import LocalEngine
from curate.errors import ResourceError, RunError, UsageError
from curate.io.guard import held, holding
from curate.logs import event

Item = TypeVar("Item")
Result = TypeVar("Result")

QUEUED = 2  # tasks that are handed out for each that can run: none waits for the driver, and few wait for a node
LOOK_AGAIN = 5.0  # seconds after which the size of the cluster is asked for again: it may grow
AT_ONCE = 64  # small pieces of work that share a task, at most
ANSWER = 10.0  # seconds in which a cluster must take a connection
PATIENCE = 300.0  # seconds that a cluster without a node that is large enough is waited for
GIVE_UP = 30.0  # seconds that cancelled tasks are waited for


@dataclass(frozen=True)
class Inside:
    """Threads for the batches of a partition, in whatever process works on it."""

    workers: int

    @property
    def in_flight(self) -> int:
        return _threads(self.workers).in_flight

    def pipeline(self, work: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
        return _threads(self.workers).pipeline(work, batches)


@lru_cache(maxsize=4)
def _threads(workers: int) -> LocalEngine:
    return LocalEngine(workers)


class RayEngine:
    """Maps functions over partitions with tasks on a Ray cluster.

    Parameters
    ----------
    address : "auto" (the cluster of this machine, or of RAY_ADDRESS), "host:port", "ray://host:port", or "local" to
        start one here.
    workers : tasks that are done at once; None: as many as the cluster has cores for, also while it grows.
    cpus_per_task : cores that a task takes, and threads that it works with.
    memory_per_task : bytes that a task is placed by; None: not looked at.
    max_retries : how often a task is tried again whose process or node died.

    Raises
    ------
    MissingExtraError : Ray is not installed. RunError : there is no such cluster.
    """

    shares_memory = False

    def __init__(
        self,
        address: str = "auto",
        *,
        workers: int | None = None,
        cpus_per_task: int = 1,
        memory_per_task: int | None = None,
        max_retries: int = 3,
    ) -> None:
        if cpus_per_task < 1:
            raise UsageError(f"--ray-cpus {cpus_per_task}: must be 1 or more")
        if max_retries < 0:
            raise UsageError(f"--ray-retries {max_retries}: must be 0 or more")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray: Any = require("ray", extra="ray", purpose="--engine ray")
        self._mine, self._output = not self._ray.is_initialized(), ExitStack()
        if self._mine:
            self._connect(address)
        self._asked, self._cpus, self._memory = workers, cpus_per_task, memory_per_task
        self._patience = 0.0 if address == "local" else PATIENCE  # a cluster elsewhere may be about to grow
        self._looked, self._workers = -LOOK_AGAIN, 1
        self._max_retries = max_retries
        options: dict[str, Any] = {"num_cpus": cpus_per_task, "max_retries": max_retries}
        options["scheduling_strategy"] = "SPREAD"  # each node reads and writes with a network of its own
        if memory_per_task is not None:
            options["memory"] = memory_per_task
        self._task = self._ray.remote(_done).options(**options)
        self.here = LocalEngine()
        self.inside = Inside(cpus_per_task)

    def _connect(self, address: str) -> None:
        try:
            _reach(address)
            self._ray.init(
                address=address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level="error",
                configure_logging=False,
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"--ray-address {address}: no Ray cluster can be reached there ({why}); start one with "
                "ray start --head, or give --ray-address local"
            ) from error

    def __enter__(self) -> Self:
        if self._mine:  # Ray tells of workers that died on stdout, where results are to be
            self._output.enter_context(redirect_stdout(sys.stderr))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.here.__exit__(kind, error, trace)
        if self._mine:
            self._ray.shutdown()
        self._output.close()

    @property
    def workers(self) -> int:
        """Tasks that the cluster can do at once."""
        if self._asked is not None:
            return self._asked
        if time.monotonic() - self._looked > LOOK_AGAIN:
            self._workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)) // self._cpus)
            self._looked = time.monotonic()
        return self._workers

    def each(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        alone: Callable[[Item], Callable[[], Result]] | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """``(item, result)`` as they are done; the first error cancels what is under way."""
        if alone is not None:
            yield from self._as_done(lambda item: self._task.remote(_given(alone(item))), items)
            return
        shared = self._ray.put(_pickled(work))
        for some, results in self._as_done(lambda some: self._small(shared, some), self._pieces(items)):
            yield from zip(some, results, strict=True)

    def _as_done(self, start: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Items with the results of the tasks that are started for them."""
        running: dict[Any, Item] = {}
        waiting = iter(items)
        try:
            while True:
                while len(running) < self._limit and (item := next(waiting, _END)) is not _END:
                    running[start(item)] = item
                if not running:
                    return
                for ref in self._done_of(list(running)):
                    item = running.pop(ref)
                    yield item, self._result(ref)
        finally:
            self._give_up(running)

    def _done_of(self, refs: list[Any]) -> list[Any]:
        """Some that have ended.

        Raises
        ------
        ResourceError : none begins, for there is no node that could take one.
        """
        patience = self._patience
        while not (done := self._ray.wait(refs, timeout=LOOK_AGAIN)[0]):
            patience -= LOOK_AGAIN
            largest = max((node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]), default=0)
            if largest >= self._cpus and not self._lacks_memory():
                patience = self._patience
            elif patience <= 0:
                size = f"{self._cpus} cores" + (f" and {self._memory:,} bytes" if self._memory else "")
                raise ResourceError(
                    f"no node of the Ray cluster can take a task of {size} (the largest has {largest:g} cores): lower "
                    "--ray-cpus or --ray-memory, or add nodes"
                )
            else:
                event("step.waiting", level="warning", cores=self._cpus, largest_node=largest)
        return list(done)

    def _lacks_memory(self) -> bool:
        nodes = self._ray.nodes()
        return self._memory is not None and not any(
            node["Alive"] and node["Resources"].get("memory", 0) >= self._memory for node in nodes
        )

    def ordered(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, with as many under way as the cluster can do."""
        shared = self._ray.put(_pickled(work))
        pending: deque[Any] = deque()
        try:
            for some in self._pieces(items):
                pending.append(self._small(shared, some))
                if len(pending) >= self._limit:
                    yield from self._next(pending)
            while pending:
                yield from self._next(pending)
        finally:
            self._give_up(pending)

    def _next(self, pending: deque[Any]) -> Any:
        """The result of the first that is pending."""
        self._done_of([pending[0]])
        return self._result(pending.popleft())

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """All results, in the order of the items."""
        return list(self.ordered(work, items))

    def _small(self, shared: Any, some: list[Item]) -> Any:
        """A task for several small pieces of work; ``shared`` is where the function is that does one."""
        return self._task.remote(_given(partial(_several, some)), shared)

    @property
    def _limit(self) -> int:
        return self.workers if self._asked is not None else QUEUED * self.workers

    def _pieces(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Items that share a task: several where there are many, so that the driver keeps up."""
        listed: Sequence[Item] = items if isinstance(items, Sequence) else list(items)
        size = min(AT_ONCE, max(1, len(listed) // (4 * self._limit)))
        for first in range(0, len(listed), size):
            yield list(listed[first : first + size])

    def _result(self, ref: Any) -> Any:
        """What a task returned, or what it raised.

        Raises
        ------
        ResourceError : its process died, as often as it was tried.
        """
        errors = self._ray.exceptions
        try:
            return pickle.loads(self._ray.get(ref))
        except errors.RayTaskError as error:
            if isinstance(error.cause, BaseException):
                raise error.cause from None
            raise
        except (
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.TaskUnschedulableError,
        ) as error:
            raise ResourceError(
                f"a piece of work could not be done on the Ray cluster in {self._max_retries + 1} tries "
                f"({type(error).__name__}); lower --memory-limit or give tasks more room (--ray-memory 4GB, "
                "--ray-cpus 2), and run the same command again, it goes on from here"
            ) from error

    def _give_up(self, left: Iterable[Any]) -> None:
        """Cancel what has not ended, when a loop over results is left before its end."""
        refs = list(left)
        if not refs:
            return
        for ref in refs:
            self._ray.cancel(ref, recursive=False)
        left = self._ray.wait(refs, num_returns=len(refs), timeout=GIVE_UP)[1]
        for ref in left:  # in the middle of something that does not listen: its process has to go
            self._ray.cancel(ref, force=True, recursive=False)
        self._ray.wait(refs, num_returns=len(refs), timeout=GIVE_UP)


_END: Any = object()


def _reach(address: str) -> None:
    """See whether somebody listens at ``host:port``: Ray itself tries for minutes before it says that nobody does."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER):
            pass


def _pickled(value: Any) -> bytes:
    """As bytes: what Ray itself unpickles has arrays that cannot be written to."""
    cloudpickle: Any = importlib.import_module("ray.cloudpickle")
    data: bytes = cloudpickle.dumps(value)
    return data


def _given(work: Any) -> bytes:
    """Some work, and the owners that it is for."""
    return _pickled((held(), work))


def _done(given: bytes, shared: bytes | None = None) -> bytes:
    """A task: some work, and its result."""
    claims, work = pickle.loads(given)
    try:
        with holding(claims):
            return _pickled(work() if shared is None else work(pickle.loads(shared)))
    finally:
        give_back_memory()


def _several(items: Sequence[Any], function: Callable[[Any], Any]) -> list[Any]:
    """Several small pieces of work in one task."""
    return [function(item) for item in items]
