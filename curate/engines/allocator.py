"""What the C library's allocator keeps for later, and when it gives it back; nothing where it is another one."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pyarrow as pa

BASE_BYTES = 450_000_000  # what the program itself takes, with its libraries
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt in glibc
_LARGE = 1_000_000  # bytes


def give_back_memory() -> None:
    """Return what is free to the system, between steps: the next one wants memory of other sizes."""
    pa.default_memory_pool().release_unused()
    if trim := _function("malloc_trim"):
        trim(0)


def save_memory() -> None:
    """From now on take large blocks from the system and return them at once, for all of the process.

    Kept blocks break up, and a long run grows to one and a half times of a short one; so it does not, and is a fifth
    slower.
    """
    if option := _function("mallopt"):
        option(_MMAP_THRESHOLD, _LARGE)
        option(_TRIM_THRESHOLD, _LARGE)


def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
