"""What training loops and graders report of groups or documents, read from files and checked row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.curriculum.state import SCHEMA
from curate.curriculum.ucb import advantage_of_pass_rate
from curate.errors import InputError
from curate.io.columns import columns_of
from curate.io.corpus import Corpus, scan
from curate.io.curriculum import UNITS
from curate.io.formats import BadRow, read
from curate.io.targets import Paths, listed_paths

MEASURES = ("advantage", "pass_rate", "successes")
_NO_RATE = "an advantage does not say how often it was solved; give pass_rate"
_LARGEST = 2**53  # up to here every whole number is a float64
_MANY = 16  # advantages that are all above 0 by chance once in 65,536 times


@dataclass(frozen=True)
class Feedback:
    """Observations of a training loop, in batches: all rows of one ``worker`` and ``step``.

    ``rows``: name, worker, step, index (0, 1, ... in the batch), value, n (rollouts or sequences).
    ``n_copies``: rows of batches that came in more than one file, with the same content; they are in ``rows`` once.
    """

    rows: pl.DataFrame
    n_copies: int = 0
    warnings: tuple[str, ...] = ()


def read_feedback(paths: Paths, *, unit: str, method: str, small_groups: bool = False) -> Feedback:
    """Read what training loops report.

    A row has the ``unit`` (group or doc_id), ``step`` (a whole number), ``worker`` (else the file's name without its
    endings) and one of ``advantage`` (of one sequence, signed), ``pass_rate`` (of ``n`` rollouts, else 1),
    ``successes`` of ``n``. Values are pass rates for the Gaussian, \\|advantage\\| for UCB.

    Raises
    ------
    InputError : a row that lacks one of these, is out of range, or whose ``split`` is not train; a batch that came in
        two files with different rows.
    """
    files, warnings = [], []
    corpus = scan(listed_paths(paths), text_column="", on_bad_row="quarantine")
    for columns in _files(corpus):
        signed = columns.number("advantage")
        if method == "gaussian":
            columns.refuse(~np.isnan(signed), _NO_RATE)
        value, n = _pass_rates(columns, required=np.isnan(signed), counted=small_groups)
        if method == "ucb":
            value = np.where(np.isnan(signed), advantage_of_pass_rate(value), np.abs(signed))
        if np.sum(signed > 0) >= _MANY and not (signed < 0).any():
            warnings.append(f"{columns.path}: no advantage is below 0; these may be rewards, which belong in pass_rate")
        columns.refuse(columns.text("split", "train") != "train", "only split train may steer training; leave it out")
        worker = PurePosixPath(columns.source_name)
        worker = worker.with_name(worker.name.split(".")[0])
        files.append(
            pl.DataFrame(
                {
                    "name": columns.required(unit),
                    "worker": columns.text("worker", str(worker)),
                    "step": columns.whole("step"),
                    "value": value,
                    "n": n,
                    "file": np.full(len(value), columns.file),
                }
            )
        )
    if not files:
        return Feedback(pl.DataFrame(SCHEMA.empty_table()))
    rows = pl.concat(files).with_columns(index=pl.int_range(pl.len()).over("worker", "step", "file"))
    rows, n_copies = _without_copies(rows, [source.source.path for source in corpus.files])
    return Feedback(rows.select(SCHEMA.names), n_copies, tuple(dict.fromkeys(warnings)))


def read_grades(paths: Paths, *, small_groups: bool = False) -> tuple[str, pl.DataFrame]:
    """``(unit, grades)`` of graded files: name, value (pass rate, null where there is none), n; sorted by name.

    Grades of one name are put together, each counting as many times as its ``n``.
    """
    corpus = scan(listed_paths(paths), text_column="", on_bad_row="quarantine")
    there = columns_of(corpus)
    unit = next((name for name in UNITS if name in there), None)
    for wanted in (UNITS, ("pass_rate", "successes")):
        if not set(wanted) & set(there):
            names = ", ".join(there) or "none"
            raise InputError(f"{corpus.files[0].source.path}: no column {' or '.join(wanted)} (there are: {names})")
    assert unit is not None
    if set(UNITS) <= set(there):
        raise InputError(
            f"{corpus.files[0].source.path}: has both group and doc_id; leave out the one that is not graded"
        )
    files = []
    for columns in _files(corpus):
        columns.refuse(~columns.missing("advantage"), _NO_RATE)
        ungraded = columns.missing("pass_rate") & columns.missing("successes")
        value, n = _pass_rates(columns, required=~ungraded, counted=small_groups)
        weighed = {"solved": np.where(ungraded, 0.0, value * n), "n": np.where(ungraded, 0, n)}
        files.append(pl.DataFrame({"name": columns.required(unit), **weighed}))
    if not files:
        raise InputError(f"{corpus.files[0].source.path}: no rows; give at least one {unit}")
    together = pl.concat(files).sort("name", "solved", "n").group_by("name", maintain_order=True).sum()
    pass_rate = pl.when(pl.col("n") > 0).then(pl.col("solved") / pl.col("n")).alias("value")
    return unit, together.select("name", pass_rate, "n")


def _pass_rates(columns: _Columns, *, required: np.ndarray, counted: bool) -> tuple[np.ndarray, np.ndarray]:
    """``(pass rates, rollouts)`` of ``pass_rate``, or of ``successes`` of ``n``; nan and 1 where none is required."""
    given = np.sum([~columns.missing(name) for name in MEASURES], axis=0)
    columns.refuse(required & (given == 0), f"none of {', '.join(MEASURES)}; give one of them")
    columns.refuse(given > 1, f"more than one of {', '.join(MEASURES)}; give one of them")
    rates, successes, n = columns.number("pass_rate"), columns.number("successes"), columns.number("n")
    columns.refuse((rates < 0) | (rates > 1), "pass_rate must be from 0 to 1", of="pass_rate")
    bare = np.isnan(n)
    columns.refuse(bare & ~np.isnan(successes), "successes without n; say of how many")
    columns.refuse(required & bare & counted, "no n; where few rollouts are allowed for, say how many there were")
    columns.refuse(~bare & ((n < 1) | (n % 1 != 0) | (n > _LARGEST)), "n must be a whole number above 0", of="n")
    columns.refuse((successes < 0) | (successes > n), "successes must be from 0 to n", of="successes")
    n = np.where(bare | ~required, 1, n).astype(np.int64)
    return np.where(np.isnan(successes), rates, successes / n), n


def _without_copies(rows: pl.DataFrame, paths: list[str]) -> tuple[pl.DataFrame, int]:
    """Each batch from the first file that it is in; returns how many rows were copies, too."""
    batch, content = ["worker", "step"], ["index", "name", "value", "n"]
    files = rows.group_by(batch).agg(pl.col("file").min().alias("first"), pl.col("file").max().alias("last"))
    twice = files.filter(pl.col("first") < pl.col("last"))
    if not twice.height:
        return rows, 0
    rows = rows.join(files.select(*batch, "first"), on=batch, maintain_order="left")
    first = rows.filter(pl.col("file") == pl.col("first"))
    copies = rows.filter(pl.col("file") != pl.col("first"))
    sizes = first.group_by(batch).agg(pl.len().alias("expected"))
    copied = copies.group_by(*batch, "file").len().join(sizes, on=batch)
    different = pl.concat(
        [
            copies.join(first, on=[*batch, *content], how="anti").select(*batch, "file"),
            copied.filter(pl.col("len") != pl.col("expected")).select(*batch, "file"),
        ]
    ).sort("file", *batch)
    if different.height:
        worker, step, file = different.row(0)
        raise InputError(
            f"{paths[file]}: step {step} of worker {worker!r} came in another file too, with other rows; put all of a "
            "step into one file, or tell the workers apart with a column worker"
        )
    return first, copies.height


# ---- rows of files


@dataclass(frozen=True)
class _Columns:
    """Some rows of one file; what is wrong in them is told with its place."""

    path: str
    source_name: str
    file: int
    rows: np.ndarray
    table: pl.DataFrame

    def refuse(self, wrong: np.ndarray, why: str, of: str | None = None) -> None:
        found = np.flatnonzero(wrong)
        if len(found):
            row = int(found[0])
            place = BadRow(self.path, int(self.rows[row]), why, b"").place
            raise InputError(f"{place}: {why}" + (f", not {self.table[of][row]}" if of else ""))

    def missing(self, name: str) -> np.ndarray:
        return self.table[name].is_null().to_numpy()

    def text(self, name: str, default: str) -> Any:
        return self.table[name].fill_null(default).to_numpy()

    def required(self, name: str) -> pl.Series:
        self.refuse(self.missing(name), f"no {name}; each row must say which {name} it is of")
        return self.table[name]

    def number(self, name: str) -> np.ndarray:
        """float64[n_rows], nan where there is none.

        Raises
        ------
        InputError : a value that is no finite number.
        """
        values = self.table[name].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        self.refuse(~np.isfinite(values) & ~self.missing(name), f"{name} must be a number", of=name)
        return values

    def whole(self, name: str) -> np.ndarray:
        values = self.number(name)
        self.refuse(self.missing(name), f"no {name}; each row must say at which {name} of training it was seen")
        wrong = (values < 0) | (values > _LARGEST) | (values % 1 != 0)
        self.refuse(wrong, f"{name} must be a whole number from 0 on", of=name)
        return values.astype(np.int64)


def _files(corpus: Corpus) -> Iterator[_Columns]:
    """Batches of rows with the columns that feedback may have, as text; those that a file lacks are null."""
    wanted = [*UNITS, "worker", "step", "split", "n", *MEASURES]
    there = columns_of(corpus)
    if not set(MEASURES) & set(there) and {"reward", "rewards"} & set(there):
        raise InputError(
            f"{corpus.files[0].source.path}: rewards are not advantages; give pass_rate, or advantage (reward less the "
            "mean of its group, over the standard deviation)"
        )
    for partition in corpus.partitions:
        source = corpus.source(partition)
        for batch in read(corpus, partition, wanted):
            for bad in batch.bad:
                raise InputError(f"{bad.place}: {bad.reason}; mend it, or wait until the file is written to its end")
            columns = {name: _as_text(batch.table[name], source.path, name) for name in wanted}
            if len(batch.rows):
                yield _Columns(source.path, source.name, partition.file, batch.rows, pl.DataFrame(columns))


def _as_text(column: Any, path: str, name: str) -> pl.Series:
    """A column as text, which names and the numbers of JSON and CSV are; "" is nothing, as in CSV."""
    try:
        values = pl.Series(name, column if column.type != pa.null() else column.cast(pa.string()))
        values = values.cast(pl.String)
    except (pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise InputError(f"{path}: column {name!r} holds neither text nor numbers") from error
    return values.replace("", None) if name not in UNITS else values
