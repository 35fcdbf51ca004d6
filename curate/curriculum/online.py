"""Curricula that follow training: begun from grades or from nothing, then updated from feedback."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.curriculum.feedback import read_feedback, read_grades
from curate.curriculum.gaussian import (
    ALPHA,
    CENTRE,
    SIGMA,
    START,
    gaussian_shares,
    kl_scale,
    memory,
    moving_average,
    posterior_mean,
    require_shape,
)
from curate.curriculum.state import STATE, State, add, changed, merge, read_state, write_state
from curate.curriculum.ucb import TEMPERATURE, WINDOW, require_sampling, ucb_weights, upper_bounds
from curate.errors import InputError, RunError, UsageError
from curate.io.columns import columns_of
from curate.io.corpus import scan
from curate.io.curriculum import CURRICULUM, WEIGHTS, Curriculum, write_curriculum
from curate.io.formats import BATCH_BYTES, BadRow, read
from curate.io.paths import is_url, locked
from curate.io.targets import Paths, listed_paths
from curate.kernels.text import one_chunk
from curate.steps.documents import documents, raw_batches

FILES = (STATE, CURRICULUM, WEIGHTS)


@dataclass(frozen=True)
class Updated:
    """Weights as they are now, and what was made of the feedback.

    ``n_rows`` were counted; ``n_skipped`` were of batches (a step of a worker) that had been counted before.
    """

    out: Path
    curriculum: Curriculum
    n_rows: int = 0
    n_skipped: int = 0
    warnings: tuple[str, ...] = ()


def gaussian(
    grades: Paths = (),
    *,
    out: str | os.PathLike[str],
    raw: Paths | None = None,
    column: str | None = None,
    id_column: str = "id",
    sigma: float = SIGMA,
    centre: float = CENTRE,
    alpha: float = ALPHA,
    small_groups: bool = False,
    overwrite: bool = False,
) -> Updated:
    """Begin a Gaussian curriculum: most weight to what is solved about half the time.

    Parameters
    ----------
    grades : files with ``group`` or ``doc_id`` and ``pass_rate`` (of ``n`` tries) or ``successes`` of ``n``.
    raw, column : a corpus whose groups (or, without a column, documents) get weights too, ungraded ones as at 0.5.
    id_column : of the ids in the corpus; without it an id is ``FILE#ROW``.
    sigma, centre : of `curate.curriculum.gaussian.gaussian_weights`.
    alpha : share of the old pass rate that an update keeps.
    small_groups : pass rates as (s + 1) / (n + 2), for few tries each.
    overwrite : replace another curriculum in ``out``.

    Raises
    ------
    InputError : grades that make no sense, or of names that ``raw`` does not have.
    RunError : another curriculum is there.
    """
    require_shape(centre, sigma)
    memory(alpha)
    if not listed_paths(grades) and raw is None:
        raise UsageError("nothing to weigh; give graded files, or a corpus with --from")
    unit, start = _graded(listed_paths(grades), small_groups, raw, column, id_column)
    settings = {"sigma": sigma, "centre": centre, "alpha": alpha, "small_groups": small_groups, "column": column}
    return _begin(State.of("gaussian", unit, settings, start), out, overwrite)


def ucb(
    groups: Collection[str] = (),
    *,
    out: str | os.PathLike[str],
    raw: Paths | None = None,
    column: str | None = None,
    window: int = WINDOW,
    temperature: float = TEMPERATURE,
    min_prob: float = 0.0,
    overwrite: bool = False,
) -> Updated:
    """Begin a curriculum by upper confidence bounds: uniform now, then more to groups where there is more to learn.

    Parameters
    ----------
    groups : their names; or of ``raw`` the values of ``column``.
    window : how many of the latest sequences of a group are looked at.
    temperature, min_prob : of `curate.curriculum.ucb.ucb_weights`.

    Raises
    ------
    UsageError : no groups, or settings that make no sense. RunError : another curriculum is there.
    """
    if (raw is None) == (not groups):
        raise UsageError("name the groups, or list them from a corpus with --from and --column: one of the two")
    if raw is not None and column is None:
        raise UsageError("--from needs --column: which column of the corpus holds the group")
    if window < 1:
        raise UsageError(f"window {window}: must be 1 or more")
    names = pl.Series("name", list(groups), pl.String) if raw is None else _names(raw, column)
    if names.n_unique() < len(names):
        raise UsageError(f"group {names.filter(names.is_duplicated())[0]!r} is named twice; name each once")
    require_sampling(len(names), temperature, min_prob)
    start = pl.DataFrame({"name": names}).with_columns(value=None, n=0)
    settings = {"window": window, "temperature": temperature, "min_prob": min_prob, "column": column}
    return _begin(State.of("ucb", "group", settings, start), out, overwrite)


def update(folder: str | os.PathLike[str], feedback: Paths = (), *, merge_from: Paths = ()) -> Updated:
    """Add feedback to the state of a curriculum and renew its weights.

    Any number of updates may run at once, in any order; a batch that was counted is not counted again, so that a
    failed one can be repeated; where it has other rows now, as far as that is still known, there is a warning.

    Parameters
    ----------
    feedback : files, as `curate.curriculum.feedback.read_feedback` has them.
    merge_from : folders of curricula that began alike and were updated elsewhere.

    Raises
    ------
    InputError : feedback that makes no sense, of other names, or no state there. RunError : states cannot be merged.
    """
    n_rows = n_skipped = 0
    warnings: tuple[str, ...] = ()
    out = _local(folder)
    if not (out / STATE).exists():
        read_state(out)  # says what is missing, and leaves no folder behind
    with locked(out, FILES):
        state = read_state(out)
        if listed_paths(feedback):
            small = state.settings.get("small_groups", False)
            found = read_feedback(feedback, unit=state.unit, method=state.method, small_groups=small)
            other = changed(state, found.rows)
            state, n_skipped = add(state, found.rows)
            n_rows, warnings = found.rows.height - n_skipped, found.warnings + _told_of(other)
            n_skipped += found.n_copies
        for apart in listed_paths(merge_from):
            state = merge(state, read_state(apart))
        return Updated(out, _write(out, state), n_rows, n_skipped, warnings)


def weights(state: State) -> Curriculum:
    """The weights that follow from a state, with what they were made from."""
    names = state.names.to_arrow().cast(pa.large_string())
    n = state.totals_of_names().to_numpy()
    about: dict[str, Any] = {"method": state.method, **dict(sorted(state.settings.items()))}  # as a state is read again
    own = state.kept.join(state.start.select("name").with_row_index("owner"), on="name", maintain_order="left")
    owners, values = own["owner"].to_numpy().astype(np.int64), own["value"].to_numpy()
    sizes = own["n"].to_numpy()
    if state.method == "gaussian":
        rates = state.start["value"].fill_null(START).to_numpy()
        if state.settings["small_groups"]:
            rates = posterior_mean(rates * state.start["n"].to_numpy(), state.start["n"].to_numpy())
            values = posterior_mean(values * sizes, sizes)
        rates = np.clip(moving_average(rates, owners, values, alpha=state.settings["alpha"]), 0.0, 1.0)
        centre, sigma = state.settings["centre"], state.settings["sigma"]
        shares = gaussian_shares(rates, centre=centre, sigma=sigma, names=state.names)
        about["kl_scale"] = float(kl_scale(shares @ rates))  # of the accuracy to expect of a batch by these weights
        columns = {"pass_rate": rates, "n": n, "kl_scale": kl_scale(rates)}
    else:
        in_window = np.bincount(owners, sizes, len(n))
        mean = np.bincount(owners, values * sizes, len(n)) / np.maximum(1, in_window)
        shares = ucb_weights(mean, n, temperature=state.settings["temperature"], min_prob=state.settings["min_prob"])
        columns = {"advantage": mean, "upper_bound": upper_bounds(mean, n), "n": n}
    return Curriculum(state.unit, names, np.zeros(len(n), np.int32), shares, columns, about)


def _begin(state: State, where: str | os.PathLike[str], overwrite: bool) -> Updated:
    out = _local(where)
    with locked(out, FILES):
        there = read_state(out) if (out / STATE).exists() else None
        if there is not None and there.same_beginning(state):
            state = there  # a repeated command keeps the feedback that has come since
        elif not overwrite and (there is not None or (out / CURRICULUM).exists()):
            raise RunError(
                f"{out}: another curriculum is there; add to it with curate curriculum update, choose another folder "
                "or pass --overwrite"
            )
        return Updated(out, _write(out, state))


def _told_of(other: pl.DataFrame) -> tuple[str, ...]:
    """What to say of batches that were counted before with other rows."""
    if not other.height:
        return ()
    worker, step = other.row(0)
    more = f" (and {other.height - 1:,} more)" if other.height > 1 else ""
    return (
        f"step {step} of worker {worker!r}{more} was counted before with other rows, and these were skipped; "
        "give those of another worker a column worker, or a file of another name",
    )


def _local(folder: str | os.PathLike[str]) -> Path:
    if is_url(os.fspath(folder)):
        raise UsageError(f"{folder}: a curriculum must be in a local folder; copy it there, and back")
    return Path(folder)


def _write(out: Path, state: State) -> Curriculum:
    """The state first: what else is there follows from it, and the next update makes it again."""
    made = weights(state)
    write_state(out, state)
    write_curriculum(out, made)
    return made


def _names(raw: Paths, column: str | None, id_column: str = "id") -> pl.Series:
    """Groups of a corpus, the values of a column, or the ids of its documents; each once, sorted."""
    corpus = scan(listed_paths(raw), text_column="", id_column=id_column)
    if column is not None and corpus.partitions and column not in (there := columns_of(corpus)):
        raise InputError(f"{corpus.files[0].source.path}: no column {column!r} (there are: {', '.join(there)})")
    found: list[pl.Series] = []
    for partition in corpus.partitions:
        own: list[pl.Series] = []
        if column is None:
            for batch in raw_batches(corpus, partition, (), BATCH_BYTES):
                own.append(pl.Series(documents(corpus, partition, batch, ()).ids))
        else:
            for rows in read(corpus, partition, [column]):
                values = pl.Series(one_chunk(rows.table[column])).cast(pl.String)
                if values.null_count():
                    place = BadRow(corpus.source(partition).path, int(rows.rows[values.is_null().arg_max()]), "", b"")
                    raise InputError(f"{place.place}: no value of {column!r}; every document must be in a group")
                own.append(values.unique())
        found.append(pl.concat(own).unique() if own else pl.Series(dtype=pl.String))
    names = pl.concat(found).unique().sort().rename("name")
    if not len(names):
        raise InputError(f"{corpus.files[0].source.path}: no rows; there is nothing to weigh")
    return names


def _graded(
    grades: list[str], small_groups: bool, raw: Paths | None, column: str | None, id_column: str
) -> tuple[str, pl.DataFrame]:
    """``(unit, start)``: name, value (pass rate, null where there is none), n of what is graded or in the corpus."""
    if grades:
        unit, graded = read_grades(grades, small_groups=small_groups)
    else:
        schema = {"name": pl.String, "value": pl.Float64, "n": pl.Int64}
        unit, graded = "group" if column else "doc_id", pl.DataFrame(schema=schema)
    if raw is None:
        return unit, graded
    if (unit == "group") != (column is not None):
        raise UsageError(
            f"grades are of {unit}s: " + ("leave out --column" if column else "say which --column has them")
        )
    names = pl.DataFrame({"name": _names(raw, column, id_column)})
    strangers = graded.join(names, on="name", how="anti").sort("name")
    if strangers.height:
        raise InputError(
            f"{strangers.height:,} of {graded.height:,} graded {unit}s are not in the corpus, such as "
            f"{strangers['name'][0]!r}; give the corpus that was graded"
        )
    return unit, names.join(graded, on="name", how="left").with_columns(pl.col("n").fill_null(0))
