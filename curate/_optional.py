"""Optional packages: import them where they are needed, or say which extra brings them."""

from __future__ import annotations

import importlib
from types import ModuleType

from curate.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, or raise with the exact install line.

    Raises
    ------
    MissingExtraError : the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module}, which is not installed: pip install 'curate-data[{extra}]'"
        ) from error
