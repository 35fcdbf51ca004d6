"""What a run may use of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from curate.engines.allocator import BASE_BYTES
from curate.engines.local import LocalEngine
from curate.errors import UsageError

MIN_MEMORY = 600_000_000


@dataclass(frozen=True)
class Resources:
    """Workers and memory: they change how fast a run is, never what comes out.

    ``spill``: keep buckets on disk between fit and score instead of reading the text twice; None: when the fit
    looks at most of the corpus and they take less than half of the free space.
    """

    workers: int | None = None
    memory_limit: int = 2_000_000_000
    spill: bool | None = None

    def batch_bytes(self, engine: LocalEngine) -> int:
        """Text in a batch, so that all that are under way fit."""
        if self.memory_limit < MIN_MEMORY:
            raise UsageError(
                f"memory limit {self.memory_limit:,} bytes: at least {MIN_MEMORY:,} are needed for the program itself"
            )
        each = (self.memory_limit - BASE_BYTES) // (engine.in_flight * 6)
        return int(min(8_000_000, max(500_000, each)))
