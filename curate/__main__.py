"""``curate`` and ``python -m curate``."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any


def without_pandas() -> None:
    """Let Arrow find no pandas, which it looks for once, to ask whether our arrays are its series: 0.5 s."""
    if "pandas" in sys.modules:
        return
    stub: Any = ModuleType("pandas")
    stub.__version__ = "0"  # too old for Arrow
    sys.modules["pandas"] = stub
    with warnings.catch_warnings(action="ignore"):
        import pyarrow as pa

        pa.array([0])
    del sys.modules["pandas"]


def run() -> None:
    """The command."""
    if not {"--help", "-h", "--version"} & set(sys.argv[1:]):
        without_pandas()
    from curate.cli import main

    main(prog_name="curate")


if __name__ == "__main__":
    run()
