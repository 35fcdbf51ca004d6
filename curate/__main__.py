"""``curate`` and ``python -m curate``."""

from __future__ import annotations

import sys
from typing import Any


def run() -> None:
    """The command. Arrow would import pandas, where there is one, to ask whether our arrays are its series: 0.5 s."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault("pandas", None)
    from curate.cli import main

    main(prog_name="curate")


if __name__ == "__main__":
    run()
