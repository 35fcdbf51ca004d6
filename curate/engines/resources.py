"""What a run may use, here or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.engines.allocator import BASE_BYTES
from curate.engines.base import BatchEngine, Engine
from curate.engines.local import LocalEngine
from curate.errors import UsageError, unknown

MIN_MEMORY = 600_000_000


def _local(workers: int | None, options: Mapping[str, Any]) -> Engine:
    if options:
        raise UsageError(f"engine 'local' has no option {next(iter(options))!r}; take --engine ray")
    return LocalEngine(workers)


def _ray(workers: int | None, options: Mapping[str, Any]) -> Engine:
    from curate.engines.ray import RayEngine

    return RayEngine(workers=workers, **options)


# Of the engine "ray": as options of a command or keys of a recipe, and as arguments of `RayEngine`.
RAY_OPTIONS = {
    "ray_address": "address",
    "ray_cpus": "cpus_per_task",
    "ray_memory": "memory_per_task",
    "ray_retries": "max_retries",
}


def engine_options(engine: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an engine out of all that is given, by the names that the engine has for them.

    Raises
    ------
    UsageError : they are of another engine.
    """
    found = {name: given[name] for name in RAY_OPTIONS if given.get(name) is not None}
    if found and engine != "ray":
        raise UsageError(f"--{next(iter(found)).replace('_', '-')} goes with --engine ray")
    return {RAY_OPTIONS[name]: value for name, value in found.items()}


ENGINES: dict[str, Callable[[int | None, Mapping[str, Any]], Engine]] = {"local": _local, "ray": _ray}


@dataclass(frozen=True)
class Resources:
    """Workers, memory and engine: they change how fast a run is, never what comes out.

    ``memory_limit``: bytes, of this process and, on a cluster, of each task. ``spill``: keep buckets on disk between
    fit and score instead of reading the text twice; None: when the fit looks at most of the corpus and they take less
    than half of the free space. ``options``: of the engine, see `curate.engines.ray.RayEngine`.
    """

    workers: int | None = None
    memory_limit: int = 2_000_000_000
    spill: bool | None = None
    engine: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)

    def start(self) -> Engine:
        """The engine, to be left when all is done.

        Raises
        ------
        UsageError : an option that it does not have. RunError : there is no such cluster.
        """
        return ENGINES[self.engine](self.workers, self.options)

    def batch_bytes(self, engine: BatchEngine) -> int:
        """Text in a batch, so that all that are under way fit."""
        if self.memory_limit < MIN_MEMORY:
            raise UsageError(
                f"memory limit {self.memory_limit:,} bytes: at least {MIN_MEMORY:,} are needed for the program itself"
            )
        each = (self.memory_limit - BASE_BYTES) // (engine.in_flight * 6)
        return int(min(8_000_000, max(500_000, each)))
