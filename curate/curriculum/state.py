"""What was observed of groups or documents so far: one file that any number of updates may add to, in any order.

States are sets of batches. Two of them are merged by union, so that it does not matter in which order feedback comes,
how it is cut into updates, or whether a batch comes twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.curriculum.gaussian import memory
from curate.errors import CorruptError, InputError, RunError
from curate.io.tables import write_table

STATE = "state.parquet"
FORMAT = 1
_ABOUT = b"curate_state"
_ORDER = ("name", "step", "worker", "index")
SCHEMA = pa.schema(
    [
        ("name", pa.large_string()),
        ("worker", pa.large_string()),
        ("step", pa.int64()),
        ("index", pa.int64()),
        ("value", pa.float64()),
        ("n", pa.int64()),
    ]
)
Intervals = tuple[tuple[int, int], ...]  # first and last steps, ascending, neither touching nor overlapping


@dataclass(frozen=True)
class State:
    """Of a method, its settings and what it has seen.

    Attributes
    ----------
    method : "gaussian" or "ucb". unit : "group" or "doc_id".
    start : name, value, n: each name once, in order, with the pass rate it began with (null: none) and of how many.
    totals : name, worker, n: how much of a name each worker has reported in all.
    kept : name, worker, step, index, value, n: the latest observations of each name by step, worker and index, as many
        as the method's window holds.
    counted : by worker, the steps whose batches are in here.
    """

    method: str
    unit: str
    settings: Mapping[str, Any]
    start: pl.DataFrame
    totals: pl.DataFrame
    kept: pl.DataFrame
    counted: Mapping[str, Intervals]

    @classmethod
    def of(cls, method: str, unit: str, settings: Mapping[str, Any], start: pl.DataFrame) -> State:
        """Before any feedback; ``start`` in any order."""
        kept = pl.DataFrame(SCHEMA.empty_table())
        start = start.select("name", pl.col("value").cast(pl.Float64), pl.col("n").cast(pl.Int64)).sort("name")
        return cls(method, unit, dict(settings), start, kept.select("name", "worker", "n"), kept, {})

    @property
    def names(self) -> pl.Series:
        return self.start["name"]

    def totals_of_names(self) -> pl.Series:
        """int64[n_names]: how much was seen of each, what it began with included."""
        seen = self.totals.group_by("name").agg(pl.col("n").sum().alias("seen"))
        both = self.start.join(seen, on="name", how="left", maintain_order="left")
        return (both["n"] + both["seen"].fill_null(0)).alias("n")

    def same_beginning(self, other: State) -> bool:
        """Whether both are of one method with the same settings, names and grades."""
        mine, its = ((s.method, s.unit, s.settings) for s in (self, other))
        return mine == its and self.start.equals(other.start)


def add(state: State, rows: pl.DataFrame) -> tuple[State, int]:
    """Add batches of feedback; those that were counted before are left out. Returns how many rows these had, too.

    Raises
    ------
    InputError : feedback of a name that the state does not have.
    """
    _refuse_unknown(state, rows)
    new = rows.join(_counted(state, rows), on=["worker", "step"], how="anti", maintain_order="left")
    counted = {
        worker: _joined([(step, step) for step in own["step"].unique().to_list()])
        for (worker,), own in new.select("worker", "step").group_by("worker")
    }
    totals = new.group_by("name", "worker").agg(pl.col("n").sum())
    kept = new.select(SCHEMA.names)
    return merge(state, replace(state, totals=totals, kept=kept, counted=counted)), rows.height - new.height


def changed(state: State, rows: pl.DataFrame) -> pl.DataFrame:
    """``worker, step`` of batches that were counted before with other rows, as far as what was counted is kept."""
    old = _counted(state, rows)
    again, before = (some.join(old, on=["worker", "step"], how="semi") for some in (rows, state.kept))
    seen = state.totals.group_by("name").agg(pl.col("n").sum())
    whole = state.kept.group_by("name").agg(pl.col("n").sum()).join(seen, on=["name", "n"], how="semi")
    forgotten = seen.join(whole, on="name", how="anti")  # of these some observations are no longer kept
    gone = before.join(again, on=SCHEMA.names, how="anti")
    come = again.join(before, on=SCHEMA.names, how="anti").join(forgotten, on="name", how="anti")
    return pl.concat([some.select("worker", "step") for some in (gone, come)]).unique().sort("worker", "step")


def _counted(state: State, rows: pl.DataFrame) -> pl.DataFrame:
    """``worker, step`` of the batches of some rows that are in a state."""
    steps = pl.DataFrame(
        {
            "worker": [worker for worker, intervals in state.counted.items() for _ in intervals],
            "first": [first for intervals in state.counted.values() for first, _ in intervals],
            "last": [last for intervals in state.counted.values() for _, last in intervals],
        },
        schema={"worker": pl.String, "first": pl.Int64, "last": pl.Int64},
    )
    batches = rows.select("worker", "step").unique().sort("step")
    last_before = batches.join_asof(
        steps.sort("first"), left_on="step", right_on="first", by="worker", check_sortedness=False
    )
    return last_before.filter(pl.col("step") <= pl.col("last")).select("worker", "step")


def merge(a: State, b: State) -> State:
    """Everything that either has seen.

    Raises
    ------
    RunError : they do not begin alike, or share some steps of a worker while each has others of it: as only the
        window of observations is kept, these cannot be told apart.
    """
    if not a.same_beginning(b):
        raise RunError("states of other methods, settings, names or grades cannot be merged; begin both alike")
    counted: dict[str, Intervals] = {}
    idle: tuple[list[str], list[str]] = ([], [])  # workers of whom a, or b, knows nothing that the other does not
    for worker in sorted({*a.counted, *b.counted}):
        x, y = a.counted.get(worker, ()), b.counted.get(worker, ())
        counted[worker] = _joined([*x, *y])
        common = _n_steps(x) + _n_steps(y) - _n_steps(counted[worker])
        if common not in (0, _n_steps(x), _n_steps(y)):
            raise RunError(
                f"worker {worker!r}: {common:,} steps are in both states and each has others besides; give their "
                "feedback to one of them again, with curate curriculum update"
            )
        if common:
            idle[1 if common == _n_steps(y) else 0].append(worker)
    others = [~pl.col("worker").is_in(workers) for workers in idle]
    totals = [state.totals.filter(of) for state, of in zip((a, b), others, strict=True)]
    kept = [state.kept.filter(of) for state, of in zip((a, b), others, strict=True)]
    summed = pl.concat(totals).group_by("name", "worker").agg(pl.col("n").sum()).sort("name", "worker")
    return replace(a, totals=summed, kept=_latest(a, pl.concat(kept)), counted=counted)


def _latest(state: State, kept: pl.DataFrame) -> pl.DataFrame:
    """The fewest of the latest observations of each name that fill the window."""
    if state.method == "ucb":
        size, window = pl.col("n"), state.settings["window"]
    else:
        size, window = pl.lit(1, pl.Int64), memory(state.settings["alpha"])
    kept = kept.sort(_ORDER).with_columns(size=size)
    after = pl.col("size").cum_sum(reverse=True).over("name") - pl.col("size")
    return kept.filter(after < window).drop("size")


def _refuse_unknown(state: State, rows: pl.DataFrame) -> None:
    import difflib

    unknown = rows.select("name").unique().join(state.start, on="name", how="anti").sort("name")
    if not unknown.height:
        return
    name = unknown["name"][0]
    near = difflib.get_close_matches(name, state.names.head(10_000).to_list(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    more = f" and {unknown.height - 1:,} more" if unknown.height > 1 else ""
    raise InputError(
        f"feedback of {state.unit} {name!r}{more}, which the curriculum does not have{hint} "
        f"({len(state.names):,} there are; begin another one to add some)"
    )


def _joined(intervals: Sequence[tuple[int, int]]) -> Intervals:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _n_steps(intervals: Intervals) -> int:
    return sum(last - first + 1 for first, last in intervals)


# ---- in a file


def write_state(folder: str | os.PathLike[str], state: State) -> None:
    """Write ``state.parquet``, whole or not at all.

    A row with a step is an observation; one with a worker and no step says how much of a name that worker has
    reported; one with neither, how a name began.
    """
    rows = pl.concat([state.start, state.totals, state.kept], how="diagonal").select(SCHEMA.names)
    rows = rows.sort("name", "step", "worker", "index", nulls_last=False)
    about = {
        "format": FORMAT,
        "method": state.method,
        "unit": state.unit,
        "settings": dict(state.settings),
        "counted": state.counted,
    }
    schema = SCHEMA.with_metadata({_ABOUT: json.dumps(about, sort_keys=True, ensure_ascii=False).encode()})
    write_table(Path(folder) / STATE, schema, [rows.to_arrow().cast(schema)])


def read_state(folder: str | os.PathLike[str]) -> State:
    """Read what `write_state` wrote.

    Raises
    ------
    InputError : none there. CorruptError : it is no state, or of another version of curate.
    """
    path = Path(folder) / STATE
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[_ABOUT])
        written_as = about["format"]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; curate curriculum gaussian or ucb makes one") from error
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{path}: not the state of a curriculum ({error}); begin another one") from error
    if written_as != FORMAT:
        raise CorruptError(f"{path}: format {written_as}, this curate reads {FORMAT}; use the one that wrote it")
    rows = pl.DataFrame(table)
    seen, totals = pl.col("step").is_not_null(), pl.col("worker").is_not_null()
    counted = {
        worker: tuple((first, last) for first, last in intervals) for worker, intervals in about["counted"].items()
    }
    return State(
        about["method"],
        about["unit"],
        about["settings"],
        rows.filter(~totals).select("name", "value", "n"),
        rows.filter(totals & ~seen).select("name", "worker", "n"),
        rows.filter(seen),
        counted,
    )
