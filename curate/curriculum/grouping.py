"""The group of every document of a corpus as a table, and what is found on the way through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.curriculum.difficulty import Ranks
from curate.curriculum.plans import Stages, Tail
from curate.io.tables import numpy

N_EXAMPLES = 2
SCHEMA = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("path", pa.large_string()),
        ("row", pa.int64()),
        ("difficulty", pa.float64()),
        ("quantile", pa.float64()),
        ("group", pa.large_string()),
        ("reason", pa.string()),
    ]
)
_PICKED = pa.schema([SCHEMA.field(name) for name in ("quantile", "difficulty", "doc_id", "path", "row")])


@dataclass
class Sizes:
    """Documents, bytes and range of difficulty of a group."""

    n_documents: int = 0
    n_bytes: int = 0
    lowest: float = np.inf
    highest: float = -np.inf

    def add(self, n_bytes: np.ndarray, difficulty: np.ndarray) -> None:
        """Note some documents, at least one."""
        self.n_documents += len(n_bytes)
        self.n_bytes += int(n_bytes.sum())
        self.lowest = min(self.lowest, float(difficulty.min()))
        self.highest = max(self.highest, float(difficulty.max()))


@dataclass
class Grouping:
    """Which group each ranked document is in.

    Known when all of `tables` are taken: ``sizes`` of the groups by number; ``reasons`` of documents that are in none;
    ``easiest`` of those that pass the gate and ``hardest`` of those in a group, N_EXAMPLES each.
    """

    plan: Stages | Tail
    ranks: Ranks
    n_documents: int = 0
    n_bytes: int = 0
    sizes: dict[int, Sizes] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    easiest: pa.Table = field(default_factory=_PICKED.empty_table)
    hardest: pa.Table = field(default_factory=_PICKED.empty_table)

    def tables(self) -> Iterator[pa.Table]:
        """The rows of ``groups.parquet``, in the order of the corpus."""
        top = self.ranks.highest(self.plan.floor) if self.plan.floor else np.inf
        for table in self.ranks.tables():
            quantile, difficulty = numpy(table["quantile"]), numpy(table["difficulty"])
            ranked = ~np.isnan(difficulty)
            group, why = self.plan.grouped(np.where(ranked, quantile, 0), difficulty, numpy(table["passes"]), top)
            group = np.where(ranked, group, -1)
            reasons = pc.coalesce(table["reason"].combine_chunks(), why)
            names = pa.array([self.plan.name(i) for i in range(int(group.max(initial=0)) + 1)], pa.large_string())
            columns = {name: table[name] for name in SCHEMA.names if name in table.column_names}
            columns |= {"path": table["path"].cast(pa.large_string()), "reason": reasons}
            columns |= {"group": names.take(pa.array(group, mask=group < 0))}
            rows = pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
            self._note(rows, group, numpy(table["n_bytes"]), table["passes"])
            yield rows

    def _note(self, rows: pa.Table, group: np.ndarray, n_bytes: np.ndarray, passes: pa.ChunkedArray) -> None:
        self.n_documents += len(group)
        self.n_bytes += int(n_bytes.sum())
        difficulty = numpy(rows["difficulty"])
        for one in np.unique(group[group >= 0]).tolist():
            own = group == one
            self.sizes.setdefault(one, Sizes()).add(n_bytes[own], difficulty[own])
        for item in rows["reason"].drop_null().value_counts().to_pylist():
            self.reasons[item["values"]] = self.reasons.get(item["values"], 0) + item["counts"]
        head = rows.filter(pc.and_(passes, pc.is_valid(rows["difficulty"])))
        self.easiest = _first(self.easiest, head, "ascending")
        self.hardest = _first(self.hardest, rows.filter(pc.is_valid(rows["group"])), "descending")


def _first(best: pa.Table, rows: pa.Table, order: str) -> pa.Table:
    """The first N_EXAMPLES of both by quantile, then difficulty; ties by id, then by place."""
    both = pa.concat_tables([best, rows.select(_PICKED.names)])
    orders = [order, order, *["ascending"] * 3]
    keys = list(zip(_PICKED.names, orders, strict=True))
    return both.take(pc.select_k_unstable(both, k=min(N_EXAMPLES, both.num_rows), sort_keys=keys))
