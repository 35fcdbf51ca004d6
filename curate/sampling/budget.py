"""How much to select: documents, a share of them, bytes of text, or tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from curate.errors import UsageError

_SI = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_PATTERN = re.compile(
    r"(?P<number>\d[\d_,]*(?:\.\d+)?|\.\d+)\s*(?:(?P<percent>%)|(?P<si>[kmgt]?)(?P<bytes>b)(?:ytes)?|"
    r"(?P<count>[kmgtb]?)(?:[-\s]?(?P<unit>tokens?|documents?|docs?))?)",
    re.IGNORECASE,
)
HELP = "10000 or 10k (documents), 10%, 500MB (bytes of text), 2B-tokens"


@dataclass(frozen=True)
class Budget:
    """An amount in a unit: "documents", "percent" (of the documents of raw), "bytes" or "tokens"."""

    amount: float
    unit: str

    @property
    def size_column(self) -> str | None:
        """The column of the score table that is added up; None when documents are counted."""
        return {"bytes": "n_bytes", "tokens": "n_tokens"}.get(self.unit)

    def total(self, n_documents: int) -> int:
        """The budget in its unit, of a corpus of ``n_documents``."""
        if self.unit == "percent":
            return int(Decimal(str(self.amount)) * int(n_documents) / 100)  # in floats 0.57% of 10,000 is 56
        return int(self.amount)

    def __str__(self) -> str:
        amount = f"{self.amount:,.0f}" if self.amount == int(self.amount) else f"{self.amount:g}"
        return f"{amount}%" if self.unit == "percent" else f"{amount} {self.unit}"


def parse_budget(text: str | int | Budget) -> Budget:
    """Read a budget: an int is documents; "10%", "500MB", "2B-tokens", "1.5k", "20k docs".

    Suffixes are SI: k, M, B or G, T; a B that ends the budget means bytes.

    Raises
    ------
    UsageError : it cannot be read, or nothing would be selected.
    """
    if isinstance(text, Budget):
        return text
    if isinstance(text, int):
        return _positive(Budget(float(text), "documents"), str(text))
    text = str(text)
    match = _PATTERN.fullmatch(text.strip())
    if not match:
        raise UsageError(f"budget {text!r}: cannot be read (examples: {HELP})")
    number = Decimal(re.sub("[_,]", "", match["number"]))
    if match["percent"]:
        if number > 100:
            raise UsageError(f"budget {text!r}: more than 100% of the documents")
        return _positive(Budget(float(number), "percent"), text)
    if match["bytes"]:
        return _positive(Budget(float(number * _SI[match["si"].lower()]), "bytes"), text)
    unit = "tokens" if (match["unit"] or "").lower().startswith("tok") else "documents"
    return _positive(Budget(float(number * _SI[match["count"].lower()]), unit), text)


def _positive(budget: Budget, text: str) -> Budget:
    if budget.amount <= 0:
        raise UsageError(f"budget {text!r}: nothing would be selected; must be above 0")
    if budget.unit != "percent" and budget.amount < 1:
        raise UsageError(f"budget {text!r}: less than one of {budget.unit}; a share is written as '10%'")
    return budget


def parse_bytes(text: str | int) -> int:
    """A number of bytes: 1000000, "64MB", "2GB"."""
    if isinstance(text, int):
        return text
    budget = parse_budget(text)
    if budget.unit not in ("bytes", "documents"):
        raise UsageError(f"{text!r}: not a number of bytes (examples: 64MB, 2GB)")
    return int(budget.amount)
