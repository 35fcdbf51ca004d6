"""Optional packages: import them where they are needed, or say which extra brings them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from curate.errors import MissingExtraError


def check_installed(module: str, *, extra: str, purpose: str) -> None:
    """As `require`, without the import, to know before anything is done.

    Raises
    ------
    MissingExtraError : the package is not installed.
    """
    if not installed(module):
        raise _missing(module, extra, purpose)


def installed(module: str) -> bool:
    """Whether a package is there, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, or raise with the exact install line.

    Raises
    ------
    MissingExtraError : the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, extra, purpose) from error


def _missing(module: str, extra: str, purpose: str) -> MissingExtraError:
    return MissingExtraError(f"{purpose} needs {module}, which is not installed: pip install 'curate-data[{extra}]'")
