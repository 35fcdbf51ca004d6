"""Numbers and conditions in columns of documents, which travel as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import UsageError


def numbers(values: Any) -> np.ndarray:
    """float64[n] of Arrow strings; nan where there is none, or text that is no number."""
    import polars as pl

    found = pl.Series(values.cast(pa.large_string())).cast(pl.Float64, strict=False)
    return found.fill_null(float("nan")).to_numpy()


@dataclass(frozen=True)
class Gate:
    """A condition on a column: a number of at least ``least``; None: true, or a number other than 0."""

    column: str
    least: float | None = None

    @classmethod
    def parse(cls, text: str) -> Gate:
        """``COLUMN>=NUMBER`` or ``COLUMN``.

        Raises
        ------
        UsageError : it is neither.
        """
        column, there, number = text.rpartition(">=")
        try:
            found = cls(column.strip(), float(number)) if there else cls(text.strip())
        except ValueError:
            raise UsageError(f"--gate {text}: {number.strip()!r} is not a number; give COLUMN>=NUMBER") from None
        if not found.column or found.least != found.least:
            raise UsageError(f"--gate {text}: must be COLUMN>=NUMBER, or COLUMN")
        return found

    def passes(self, values: Any) -> np.ndarray:
        """bool[n] of Arrow strings; what is missing does not pass."""
        import pyarrow.compute as pc

        found = numbers(values)
        if self.least is not None:
            passed: np.ndarray = found >= self.least
            return passed
        true = pc.fill_null(pc.equal(pc.utf8_lower(values.cast(pa.large_string())), "true"), False)
        return true.to_numpy(zero_copy_only=False) | ((found != 0) & ~np.isnan(found))
