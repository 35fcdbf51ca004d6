"""What happens in a run as events with fields, for logs that machines read: the standard library's logger ``curate``.

A program that uses curate finds them in its own logs, with the fields in ``record.curate``; the command line writes
them to stderr as lines of JSON with ``--log json``, or of text with ``--log text``.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("curate")
LOGGER.addHandler(logging.NullHandler())
FORMS = ("json", "text")


def event(name: str, *, level: str = "info", **fields: Any) -> None:
    """Log that something happened, such as ``step.end`` with its seconds."""
    number = logging.getLevelNamesMapping()[level.upper()]
    if LOGGER.isEnabledFor(number):
        LOGGER.log(number, "%s %s", name, _as_text(fields), extra={"curate": {"event": name, **fields}})


def write_to_stderr(form: str) -> None:
    """Write events to stderr, for the command line. ``form``: one of `FORMS`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = getattr(record, "curate", {"event": record.getMessage()})
        return json.dumps({"time": when, "level": record.levelname.lower(), **fields}, default=str)


def _as_text(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value, default=str)}" for name, value in fields.items())
