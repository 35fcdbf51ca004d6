"""What an engine is: it maps functions over pieces of work, here or elsewhere, and is the only scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from curate.engines.local import LocalEngine

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchEngine(Protocol):
    """Threads for the batches of one partition, in whatever process works on it."""

    @property
    def workers(self) -> int:
        """Threads."""

    @property
    def in_flight(self) -> int:
        """Batches under way, over all partitions of this process."""

    def pipeline(self, work: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
        """Results in order, with a few batches under way."""


class Engine(Protocol):
    """Maps functions over partitions.

    ``shares_memory``: what a function does to its arguments is seen here; elsewhere it works on copies. ``here``:
    threads of this process, for what is not spread. ``inside``: threads for the batches of a partition, where that is
    worked on; it can be sent there.
    """

    @property
    def workers(self) -> int:
        """Pieces of work that are done at once."""

    @property
    def shares_memory(self) -> bool: ...

    @property
    def here(self) -> LocalEngine: ...

    @property
    def inside(self) -> BatchEngine: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def each(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        alone: Callable[[Item], Callable[[], Result]] | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """``(item, result)`` as they are done; the first error stops the rest.

        ``alone`` makes of an item the same work with only what that item needs, for engines that send it elsewhere.
        """

    def ordered(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, with as many under way as there are workers."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """All results, in the order of the items."""


Alone = Callable[[Any], Callable[[], Any]]
