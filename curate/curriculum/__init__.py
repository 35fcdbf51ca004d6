"""What to train on, in what proportion, when: weights of groups and documents that training loops read."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.curriculum.course import offline as offline

# Public names and where they live; imported on first use, as those of `curate` are.
_PUBLIC = {
    "offline": "curate.curriculum.course",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'curate.curriculum' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
