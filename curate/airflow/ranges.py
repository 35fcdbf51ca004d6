"""Partitions as tasks are given them: "0:16", half open, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from curate.errors import UsageError

PER_TASK = 16  # a GB of text: seconds of work, as the start of a task takes
MAX_TASKS = 256  # a quarter of what Airflow maps over (core.max_map_length), 4 kB as an XCom


def ranges(n_partitions: int, partitions_per_task: int = PER_TASK, max_map_length: int = MAX_TASKS) -> list[str]:
    """All in at most ``max_map_length`` ranges of ``partitions_per_task``, or of more where those would not do.

    Raises
    ------
    UsageError : either is below 1.
    """
    for name, value in (("partitions_per_task", partitions_per_task), ("max_map_length", max_map_length)):
        if value < 1:
            raise UsageError(f"{name} {value}: must be 1 or more")
    size = max(partitions_per_task, -(-n_partitions // max_map_length))
    return [f"{start}:{min(start + size, n_partitions)}" for start in range(0, n_partitions, size)]


def numbers(partitions: str | int | Sequence[int]) -> list[int]:
    """The numbers of "0:16", "3", "0:4,9" or of a list of them.

    Raises
    ------
    UsageError : it is none of these.
    """
    if isinstance(partitions, int):
        return [partitions]
    if not isinstance(partitions, str):
        return [int(number) for number in partitions]
    found: list[int] = []
    for part in partitions.split(","):
        first, colon, stop = (word.strip() for word in part.partition(":"))
        if not first.isdecimal() or (colon and not stop.isdecimal()):
            raise UsageError(f"partitions {partitions!r}: must be like 0:16 (16 is not in it), 3 or 0:4,9")
        found += range(int(first), int(stop)) if colon else [int(first)]
    return found
