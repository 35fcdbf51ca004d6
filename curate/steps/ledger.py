"""The ledger: one row a document, with why it was kept or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.io.schemas import dumped, loaded
from curate.io.tables import batches, schema_of, write_table
from curate.sampling.draws import BY_CHANCE
from curate.steps.decision import Decision, chosen_scores

COLUMNS = b"curate_columns"
LEDGER = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("path", pa.dictionary(pa.int32(), pa.large_string())),
        ("row", pa.int64()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("weight", pa.float64()),
    ]
)


def ledger_schema(decision: Decision) -> pa.Schema:
    """Columns of the ledger; with separate targets also the one a document was kept for, and chances if there are."""
    schema = LEDGER
    if len(decision.table.score_columns) > 1:
        schema = schema.append(pa.field("target", pa.string()))
    if decision.spec.draw in BY_CHANCE:
        schema = schema.append(pa.field("inclusion", pa.float64()))
    return schema


def write_ledger(path: Path, decision: Decision, scale: float, columns: pa.Schema) -> int:
    """One row a document, with why it was kept or not; returns how many rows.

    ``scale``: of weights, see `Decision`. ``columns``: of the shards, which are noted beside.
    """
    table = decision.table
    names = np.array([n.removeprefix("score_") for n in table.score_columns], object)

    def rows() -> Iterator[pa.Table]:
        for part, file in enumerate(table.parts):
            first = 0
            for scored in batches(file):
                chosen = decision.targets(part, scored, first)
                numbers = {"weight": decision.weights(part, chosen, first) * scale}
                if (chances := decision.chances(part, scored.num_rows, first)) is not None:
                    numbers["inclusion"] = pa.array(chances, mask=np.isnan(chances))
                first += scored.num_rows
                yield _ledger_rows(decision, scored, chosen, numbers, names)

    return write_table(path, ledger_schema(decision).with_metadata({COLUMNS: dumped(columns)}), rows())


def columns_of_shards(ledger: Path) -> pa.Schema | None:
    """The columns that are noted in a ledger; None in one from before they were."""
    noted = (schema_of(ledger).metadata or {}).get(COLUMNS)
    return None if noted is None else loaded(noted.decode())


def _ledger_rows(
    decision: Decision, scored: pa.Table, chosen: np.ndarray, more: dict[str, Any], names: np.ndarray
) -> pa.Table:
    kept = chosen >= 0
    below = "below_threshold" if decision.spec.draw == "threshold" else "not_drawn"
    reason = pc.if_else(pa.array(kept), pa.scalar("kept"), pc.fill_null(scored["reason"], below))
    scores = chosen_scores(decision.table, scored, chosen)
    columns: dict[str, Any] = {name: scored[name] for name in ("doc_id", "path", "row")}
    columns |= {"kept": kept, "reason": reason, "score": pa.array(scores, mask=np.isnan(scores))}
    columns |= more
    schema = ledger_schema(decision)
    if "target" in schema.names:
        columns["target"] = pa.array(np.where(kept, names[np.maximum(chosen, 0)], None), pa.string())
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)
