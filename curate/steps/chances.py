"""Draws by chance of being kept: from weights to each document's chance, and a sample that has just these.

Chances add up to the budget. A pivotal or systematic sample goes through the documents in an order that does not
depend on files: by group, source, for budgets of bytes or tokens by size, then by a hash of the id. So every
source, and every length, is kept as often as its chances say, nearly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.engines import LocalEngine
from curate.errors import InputError, UsageError
from curate.io.paths import atomic, emptied, whole
from curate.io.run import read_json, write_json
from curate.io.tables import batches, numpy
from curate.sampling.inclusion import chances, thresholds
from curate.sampling.noise import ORDER, centred, keyed_hashes
from curate.sampling.pivotal import Pivotal, Systematic
from curate.sampling.solving import ExactSums, merged
from curate.sampling.transforms import Sums, Weighting, weighting
from curate.steps.decision import DrawSpec, Listed
from curate.steps.draw import group_budgets, group_names, nothing_eligible, one_score
from curate.steps.scoretable import MAX_GROUPS
from curate.steps.sorting import Sorter, read_rows, with_quantiles, write_rows

if TYPE_CHECKING:
    from curate.steps.decide import DecideJob

SUMMARY = "chances.json"
NEVER = 1e-12  # chances up to it are none, as in `curate.kernels.pivotal`


@dataclass(frozen=True)
class Sampled(Listed):
    """What a draw by chances listed: the kept documents, weighing 1 / chance, and the chances of all."""

    def chances(self, part: int, count: int, first: int) -> np.ndarray:
        """float64[count], of the rows from ``first`` on; nan where there is no score."""
        path = self.folder / f"chances-{part:05d}.npz"
        found = np.full(count, np.nan)
        if path.exists():
            with whole(path) as stream, np.load(stream, allow_pickle=False) as arrays:
                places, values = arrays["places"], arrays["chances"]
            here = slice(*np.searchsorted(places, [first, first + count]))
            found[places[here] - first] = values[here]
        return found

    @property
    def summary(self) -> dict[str, Any]:
        """What `sample` found out about the weights and chances."""
        return read_json(self.folder / SUMMARY) or {}


def sample(job: DecideJob) -> Sampled:
    """Keep each document with its chance.

    Raises
    ------
    InputError : nothing would be selected. UsageError : there are several scores for a document, or too many groups.
    ResourceError : no room on disk or in memory.
    """
    table, spec = job.table, job.spec
    if (done := Sampled.done(table, spec, job.scratch, job.key)) is not None:
        assert isinstance(done, Sampled)
        return done
    one_score(table, spec)
    if not job.found.n_eligible:
        raise InputError(nothing_eligible(job.found))
    with emptied(job.scratch / "sorting") as scratch:
        sorter = Sorter(scratch, job.memory_limit, job.engine.here.workers)
        rows = _gathered(job, sorter)
        if not rows.n:
            raise InputError(f"nothing selected: none of {job.found.n_eligible:,} scores is a finite number")
        weights = weighting(spec.weights, rows.score_sums(), rows.n, *rows.bounds())
        (budgets,) = group_budgets(spec, job.found, table.target_proportions)
        found = _solved(rows, weights, [budgets[group] for group in range(rows.n_groups)])
        write_json(job.scratch / SUMMARY, _summary(found, spec))
        records = scratch / "records.parquet"
        write_rows(records, _records(found, spec, sorter))
        listed = Sampled.write(table, spec, job.scratch, job.key, _parts(sorter.sorted(records, "part, place"), job))
    assert isinstance(listed, Sampled)
    return listed


# ---- the rows that take part


@dataclass(frozen=True)
class _Rows:
    """Files of rows (part, place, grouped, budgeted, stratum, key, score, size), and what passes over them find."""

    files: Sequence[Path]
    engine: LocalEngine
    n_groups: int
    n: int
    value: str  # the column that is weighed by

    def _units(self) -> list[tuple[Path, int]]:
        """Row groups: each is a unit of work."""
        return [(path, i) for path in self.files for i in range(pq.read_metadata(path).num_row_groups)]

    def over(self, columns: list[str], function: Callable[[list[np.ndarray]], Any]) -> Iterator[Any]:
        """What a function makes of some columns of each row group."""

        def of(unit: tuple[Path, int]) -> Any:
            path, group = unit
            with pq.ParquetFile(path, pre_buffer=False) as file:
                table = file.read_row_group(group, columns=columns, use_threads=False)
            return function([numpy(table[name]) for name in columns])

        return self.engine.ordered(of, self._units())

    def sums(
        self, columns: list[str], function: Callable[..., Sequence[np.ndarray]], groups: bool = False
    ) -> list[np.ndarray]:
        """For each array that a function makes of columns: its sum by group, or over all."""
        n_groups = self.n_groups if groups else 1

        def of(arrays: list[np.ndarray]) -> list[ExactSums]:
            by = arrays[columns.index("budgeted")] if groups else None
            return [ExactSums(n_groups).add(np.asarray(term, float), by) for term in function(*arrays)]

        return [sums.totals() for sums in merged(self.over(columns, of))]

    def score_sums(self) -> Sums:
        return lambda function: [float(total[0]) for total in self.sums([self.value], function)]

    def bounds(self) -> tuple[float, float]:
        """The lowest and highest score."""
        found = list(self.over([self.value], lambda arrays: (arrays[0].min(), arrays[0].max())))
        return min(low for low, _ in found), max(high for _, high in found)


def _gathered(job: DecideJob, sorter: Sorter) -> _Rows:
    """The rows that have a score, with its quantile when it is calibrated."""
    by = job.spec.weights.calibrate
    names = _values(job, by) if by and by != "all" else [""]
    columns = [("grouped", by if by != "all" else None, names)]
    columns += [("budgeted", job.spec.per, list(group_names(job.spec, job.found)))]

    def gather(part: int) -> tuple[Path, int]:
        path = sorter.scratch / f"rows-{part:05d}.parquet"
        write_rows(path, _rows_of(job, part, columns))
        return path, pq.read_metadata(path).num_rows if path.exists() else 0

    found = job.engine.here.map(gather, range(len(job.table.parts)))
    files = [path for path, count in found if count]
    n = sum(count for _, count in found)
    n_groups = len(group_names(job.spec, job.found))
    if not by:
        return _Rows(files, job.engine.here, n_groups, n, "score")
    rows = sorter.scratch / "rows.parquet"
    write_rows(rows, with_quantiles(sorter.sorted(files, "grouped, score, part, place"), "score", 1.0))
    for path in files:
        path.unlink()
    return _Rows([rows], job.engine.here, n_groups, n, "total")


def _rows_of(job: DecideJob, part: int, columns: list[tuple[str, str | None, list[str]]]) -> Iterator[pa.Table]:
    table, spec = job.table, job.spec
    size = spec.budget.size_column if spec.budget else None
    source = "source" if "source" in table.carry else None
    needed = ["doc_id", *table.score_columns, *(c for c in (size, source, *(c for _, c, _ in columns)) if c)]
    first = 0
    for rows in batches(table.parts[part], list(dict.fromkeys(needed))):
        n = rows.num_rows
        scores = numpy(rows[table.score_columns[0]])
        gathered: dict[str, Any] = {"part": np.full(n, part), "place": np.arange(first, first + n)}
        gathered |= {"grouped": np.zeros(n, np.int64), "budgeted": np.zeros(n, np.int64)}
        for name, column, values in columns:
            if column:
                at = pc.index_in(_strings(rows[column]), pa.array(values, pa.large_string()))
                gathered[name] = numpy(at).astype(np.int64)
        gathered |= {
            "stratum": _strings(rows[source]) if source else pa.nulls(n, pa.large_string()).fill_null(""),
            "key": keyed_hashes(rows["doc_id"], spec.seed, ORDER),
            "score": scores,
            "size": numpy(rows[size]) if size else np.ones(n, np.int64),
            "total": np.zeros(n),
        }
        first += n
        eligible = pa.table(gathered).filter(pa.array(np.isfinite(scores)))
        if eligible.num_rows:
            yield eligible


def _strings(column: Any) -> Any:
    return pc.fill_null(column.cast(pa.large_string()), "")


def _values(job: DecideJob, column: str) -> list[str]:
    """The values of a column of the score table, in order."""

    def of(part: Path) -> set[str]:
        return {v for rows in batches(part, [column]) for v in pc.unique(_strings(rows[column])).to_pylist()}

    found: set[str] = set()
    for values in job.engine.here.ordered(of, job.table.parts):
        found |= values
        if len(found) > MAX_GROUPS:
            raise UsageError(f"--calibrate {column}: the column has over {MAX_GROUPS:,} different values")
    return sorted(found)


# ---- the sample


@dataclass(frozen=True)
class _Chances:
    """Chances that add up to the budgets: by the weights, and for each group from which weight on they are 1."""

    rows: _Rows
    weights: Weighting
    thresholds: np.ndarray

    def of(self, score: np.ndarray, group: np.ndarray) -> np.ndarray:
        """float64[n]."""
        return chances(self.weights.log_weights(score), self.thresholds[group])


def _solved(rows: _Rows, weights: Weighting, budgets: Sequence[int]) -> _Chances:
    """Find the thresholds."""
    columns, n = [rows.value, "size", "budgeted"], rows.n_groups

    def bounds(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score, size, group = arrays
        w = weights.log_weights(score)
        there = w > -np.inf
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        np.minimum.at(low, group[there], w[there])
        np.maximum.at(high, group[there], w[there])
        return low, high, np.bincount(group[there], size[there], n)

    def sums(function: Callable[..., Sequence[np.ndarray]]) -> list[np.ndarray]:
        return rows.sums(columns, lambda score, size, group: function(weights.log_weights(score), size, group), True)

    lows, highs, sizes = zip(*rows.over(columns, bounds), strict=True)
    totals = np.sum(sizes, axis=0)  # of whole numbers: exact
    wanted = np.minimum(np.array(budgets, float), totals)
    return _Chances(rows, weights, thresholds(sums, wanted, totals, np.min(lows, axis=0), np.max(highs, axis=0)))


def _in_documents(spec: DrawSpec) -> bool:
    """Whether the budget counts documents, of which a sample can have just so many."""
    return spec.budget is None or spec.budget.size_column is None


def _summary(of: _Chances, spec: DrawSpec) -> dict[str, Any]:
    """What the chances are like: nats from all documents, what the mean sample holds and is worth."""

    def terms(score: np.ndarray, size: np.ndarray, group: np.ndarray) -> Sequence[np.ndarray]:
        p = of.of(score, group)
        return p, p * size, p * p, p * np.log(np.where(p > 0, p, 1.0)), p >= 1, p <= NEVER

    found = of.rows.sums([of.rows.value, "size", "budgeted"], terms)
    p, size, squares, entropy, certain, never = (float(total[0]) for total in found)
    if not p:
        raise InputError(f"nothing selected: the budget ({spec.budget}) is smaller than a document")
    return {
        "weights": of.weights.as_dict(),
        "expected": size,
        "unit": spec.budget.unit if spec.budget and not _in_documents(spec) else "documents",
        "n_certain": int(certain),
        "n_never": int(never),
        "kl": max(0.0, entropy / p - math.log(p / of.rows.n)),
        "effective_sample_size": p * p / squares,
    }


def _records(of: _Chances, spec: DrawSpec, sorter: Sorter) -> Iterator[pa.Table]:
    """Rows (part, place, chance, kept): each document once with kept false, and once more if it is kept."""
    if spec.draw == "poisson":
        for path in of.rows.files:
            for part, place, _, key, chance in _ordered(of, batches(path)):
                kept = centred(key) < chance
                yield _record(part, place, chance, False)
                yield _record(part[kept], place[kept], chance[kept], True)
        return
    kind = Pivotal if spec.draw == "pivotal" else Systematic
    samplers = {group: _Sampler(kind(spec.seed, group)) for group in range(of.rows.n_groups)}
    by = "key, score, size" if _in_documents(spec) else "size, key, score"
    ordered = sorter.sorted(of.rows.files, f"budgeted, stratum, {by}, part, place")
    for part, place, group, _, chance in _ordered(of, read_rows(ordered)):
        yield _record(part, place, chance, False)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(group)], strict=True):
            here = slice(start, stop)
            yield samplers[int(group[start])].add(part[here], place[here], chance[here])
    for sampler in samplers.values():
        yield sampler.finish(whole=_in_documents(spec))


def _ordered(of: _Chances, tables: Iterator[pa.Table]) -> Iterator[tuple[np.ndarray, ...]]:
    """(part, place, group, key, chance) of rows."""
    for table in tables:
        part, place, group, key, score = (
            numpy(table[name]) for name in ("part", "place", "budgeted", "key", of.rows.value)
        )
        yield part, place, group, key, of.of(score, group)


class _Sampler:
    """A sampler that tells rows by part and place, and remembers those of the live one."""

    def __init__(self, sampler: Pivotal | Systematic) -> None:
        self._sampler = sampler
        self._n = 0
        self._live = _record(*(np.zeros(0, np.int64),) * 2, np.zeros(0), True)

    def add(self, part: np.ndarray, place: np.ndarray, chance: np.ndarray) -> pa.Table:
        """Records of the rows that are kept for certain by now."""
        winners = self._sampler.add(np.ascontiguousarray(chance))
        here = winners[winners >= self._n] - self._n
        kept = _record(part[here], place[here], chance[here], True)
        if len(here) < len(winners):
            kept = pa.concat_tables([self._live, kept])
        if (live := self._sampler.live - self._n) >= 0:
            self._live = _record(part[live : live + 1], place[live : live + 1], chance[live : live + 1], True)
        self._n += len(chance)
        return kept

    def finish(self, *, whole: bool) -> pa.Table:
        """The record of the live row, if it is kept."""
        return self._live.slice(0, len(self._sampler.finish(whole=whole)))


def _record(part: np.ndarray, place: np.ndarray, chance: np.ndarray, kept: bool) -> pa.Table:
    return pa.table({"part": part, "place": place, "chance": chance, "kept": np.full(len(part), kept)})


def _parts(records: Path, job: DecideJob) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """What `Listed.write` takes, from records in the order of parts and places; writes the chances on the way."""
    for old in job.scratch.glob("chances-*.npz"):
        old.unlink()
    for part, place, chance, kept in _by_part(records):
        with atomic(job.scratch / f"chances-{part:05d}.npz") as file, open(file, "wb") as stream:
            np.savez(stream, places=place[~kept], chances=chance[~kept])
        if kept.any():
            yield part, place[kept], np.zeros(int(kept.sum()), np.int64), 1 / chance[kept]


def _by_part(records: Path) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    waiting: list[pa.Table] = []
    for table in read_rows(records):
        parts = numpy(table["part"])
        starts = np.flatnonzero(np.diff(parts, prepend=parts[:1])).tolist()
        for start, stop in zip([0, *starts], [*starts, len(parts)], strict=True):
            if waiting and numpy(waiting[0]["part"])[0] != parts[start]:
                yield _columns_of(waiting)
                waiting = []
            waiting.append(table.slice(start, stop - start))
    if waiting:
        yield _columns_of(waiting)


def _columns_of(tables: list[pa.Table]) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    table = pa.concat_tables(tables)
    place, chance, kept = (numpy(table[name]) for name in ("place", "chance", "kept"))
    return int(table["part"][0].as_py()), place, chance, kept
