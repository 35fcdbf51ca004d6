"""Update: take files that have come into a finished selection, with the scorer that is fitted already.

Until all that is new is scored, drawn and fetched, the run stays as it is. Then its manifest is taken away, the shards
that change are written, and a new manifest commits it. What it was is kept aside so long: the same command goes on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from curate.engines import LocalEngine
from curate.io.paths import linked, refuse_inputs_below
from curate.io.run import QUARANTINE, SCORES_COMMIT, RunFolder, read_json, write_json
from curate.io.tables import count_rows
from curate.io.targets import Paths, listed_paths
from curate.logs import event
from curate.progress import Progress
from curate.scorers import Fusion, Scorer, load_scorer
from curate.selection.asked import ScoringSpec, draw_spec_of, resources_of, write_spec_of
from curate.selection.cleaning import MaxRemoved, checked_share
from curate.selection.growth import Former, Growth, find_growth, parents_of
from curate.selection.lineage import lineage as telling
from curate.selection.outcome import Selection, log_end
from curate.selection.scored import Scored
from curate.selection.session import Drawn, Scanned, Session
from curate.steps.fit import write_quarantine
from curate.steps.keep import total_weight
from curate.steps.ledger import columns_of_shards
from curate.steps.redraw import RedrawJob, Redrawn, redrawn
from curate.steps.score import bad_path
from curate.steps.write import WriteSpec, output_schema, shard_number


def update(
    out: str | os.PathLike[str],
    raw: Paths | None = None,
    *,
    rehash: bool = False,
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    engine: str = "local",
    engine_options: Mapping[str, Any] | None = None,
    max_removed: MaxRemoved | None = None,
    lineage: bool = False,
    progress: bool | None = False,
) -> Selection:
    """Take files that have come to the raw corpus of a selection into it: they are scored, and all is drawn again.

    The scorer stays the one that was fitted to the first files. Draw, budget and seed are those of the run; only
    shards that change are written.

    Parameters
    ----------
    out : folder of a finished run. New are files that what it calls raw names now, and that it was not made of.
    raw : more files, folders, globs or URLs; from now on they belong to its raw.
    rehash : read the old files too, to see whether they are what they were; without, their paths and sizes are looked
        at.
    max_removed : of a run that cleans: what may be removed of all; None: as much as before.
    workers, memory_limit, engine, engine_options, lineage, progress : as of `curate.select`.

    Returns
    -------
    Selection : ``manifest["update"]`` says how much was new and how many shards were written. With nothing new, the
        run as it is, with empty ``seconds``.

    Raises
    ------
    RunError : there is no finished run; an old file is gone, or not what it was; what scores depend on is not.
    RemovalError : cleaning would remove more than it may.
    """
    if max_removed is not None:
        checked_share(max_removed)
    resources = resources_of(workers, memory_limit, False, engine, engine_options)
    folder, shown = RunFolder(out), Progress(progress)
    Former.of(folder)  # or nothing is made there
    with resources.start() as started, folder.locked(tell=shown.enabled):
        former = Former.of(folder)
        grown = find_growth(folder.path, former.commit, raw, started.here, rehash=rehash)
        if not grown.new and former.root == folder.path:
            folder.clean()
            return Selection.of(folder, former.manifest, {})
        if raw:
            refuse_inputs_below(folder.path, listed_paths(raw))
        former.claim(folder)
        session = Session(folder, resources, started, shown)
        recipe = former.manifest["recipe"] | {"raw": list(grown.raw)}
        event("run.begin", out=str(out), method=recipe["method"], engine=engine, n_new_files=len(grown.new))
        with telling(lineage, ScoringSpec.of(recipe), recipe["name"], out) as ended:
            manifest = _Update(session, former, grown, max_removed).run()
            ended(manifest)
        done = Selection.of(folder, manifest, session.seconds)
        log_end(done)
        return done


def pending(
    out: str | os.PathLike[str], raw: Paths | None = None, *, rehash: bool = False, workers: int | None = None
) -> Growth:
    """What `update` would take in; nothing is written.

    Raises
    ------
    RunError : as of `update`.
    """
    folder = RunFolder(out)
    with LocalEngine(workers) as engine:
        return find_growth(folder.path, Former.of(folder).commit, raw, engine, rehash=rehash)


@dataclass(frozen=True)
class _Update:
    """One update of a run, whose folder is locked."""

    session: Session
    former: Former
    grown: Growth
    max_removed: MaxRemoved | None

    def run(self) -> dict[str, Any]:
        """All of it; returns the manifest."""
        session, raw = self.session, list(self.grown.raw)
        recipe = self.former.manifest["recipe"] | {"raw": raw}
        writing = write_spec_of(recipe)
        job = ScoringSpec(**self.former.commit["spec"] | {"raw": raw})
        scanned = session.scan_new(job, self.former.commit, self.grown.known, self.grown.new)
        scanned = replace(scanned, corpus=replace(scanned.corpus, passed_over=self.grown.passed_over))
        model = load_scorer(session.folder.scorer)
        cleaning = self._cleaned(scanned)
        scored = self._scored(scanned, model, cleaning)
        drawn = session.number(session.decide(scored, recipe, draw_spec_of(recipe)))
        drawn, shards, schema, scale = self._compared(drawn, writing)
        return self._written(scanned, drawn, recipe, writing, shards, schema, scale)

    @property
    def since(self) -> int:
        """The number of the first partition that is new."""
        return len(self.former.commit["corpus"]["partitions"])

    def _cleaned(self, scanned: Scanned) -> dict[str, Any] | None:
        """What there is to remove of all, where the run cleans; of the new partitions that is found now."""
        if scanned.corpus.cleaned is None:
            return None
        found = self.former.commit["cleaning"]
        job, cleaning = scanned.job.cleaning, self.session.cleaning
        root, most = self.former.root, self.max_removed
        grown: dict[str, Any] = cleaning.clean_new(job, scanned.corpus, self.since, root, found, most)
        return grown

    def _scored(self, scanned: Scanned, model: Scorer | Fusion, cleaning: dict[str, Any] | None) -> Scored:
        """The score table of all, which stands apart so far, and what is to be noted of it."""
        table = self.session.score_new(scanned, model, self.since)
        n_bad = self.former.commit["n_bad_rows"] + sum(len(found["bad"]) for found in self._bad(scanned))
        commit = self.session.noted(scanned, model, self.former.commit["fit"], n_bad, cleaning)
        return Scored(scanned.corpus, scanned.targets, model, table, commit)

    def _bad(self, scanned: Scanned) -> list[dict[str, Any]]:
        """The bad rows of the new partitions."""
        return [read_json(bad_path(self.session.bad, p.index)) for p in scanned.corpus.partitions[self.since :]]

    def _compared(self, drawn: Drawn, writing: WriteSpec) -> tuple[Drawn, Redrawn, pa.Schema, float]:
        """Which shards are to be written, with what that takes fetched; their columns, and the scale of weights."""
        session, model = self.session, drawn.scored.model
        separate = model.separate_targets
        scale = 1.0 / total_weight(drawn.keep, drawn.kept, session.engine)
        shards = redrawn(
            RedrawJob(
                drawn.keep,
                drawn.kept,
                scale,
                self.former.ledger,
                self.former.manifest["shards"],
                self.since,
                tuple(model.target_names_) if separate else (),
            ),
            writing.shard_bytes,
        )
        shards = replace(shards, stay=shards.stay & self._sound)
        columns = columns_of_shards(self.former.ledger)
        if columns is None:
            shards = shards.all_anew()
        drawn = session.fetch(drawn, _partitions(shards))
        if _all_fetched(drawn):
            return drawn, shards, output_schema(drawn.kept, separate), scale
        schema = output_schema(drawn.kept, separate, columns)
        if schema == columns:
            return drawn, shards, schema, scale
        shards = shards.all_anew()
        drawn = session.fetch(drawn, _partitions(shards))
        return drawn, shards, output_schema(drawn.kept, separate), scale

    @property
    def _sound(self) -> frozenset[int]:
        """Numbers of the shards whose files are those of the former manifest."""
        found = []
        for entry in self.former.manifest["shards"]:
            path = self.session.folder.path / entry["path"]
            if entry["path"] not in self.former.touched and path.exists() and path.stat().st_size == entry["bytes"]:
                found.append(shard_number(entry["path"]))
        return frozenset(found)

    def _written(
        self,
        scanned: Scanned,
        drawn: Drawn,
        recipe: dict[str, Any],
        writing: WriteSpec,
        shards: Redrawn,
        schema: pa.Schema,
        scale: float,
    ) -> dict[str, Any]:
        """Write what changes, and commit."""
        session, folder = self.session, self.session.folder
        former = [entry for entry in self.former.manifest["shards"] if shard_number(entry["path"]) in shards.stay]
        there = {entry["path"] for entry in self.former.manifest["shards"]}
        kept_aside = self.former.withdraw(folder, frozenset(there - {entry["path"] for entry in former}))
        self._install(kept_aside, scanned, drawn.scored)
        written = session.write_files(session.write_job(drawn, writing, schema, scale), shards.to_write, drawn.decision)
        entries = sorted([*former, *written], key=lambda entry: shard_number(entry["path"]))
        for path in folder.shards.iterdir():
            if f"shards/{path.name}" not in {entry["path"] for entry in entries}:
                path.unlink()
        manifest = session.described(drawn, recipe, entries, scanned.domains)
        manifest["parents"] = parents_of(self.former, manifest["parents"])
        parts = drawn.scored.table.parts
        manifest["update"] = {
            "n_new_files": len(self.grown.new),
            "n_new_documents": sum(count_rows(parts[i]) for i in range(self.since, len(parts))),
            "n_new_selected": sum(part["n_documents"] for part in drawn.kept[self.since :]),
            "n_shards_written": len(written),
            "n_shards_kept": len(former),
        }
        write_json(folder.path / SCORES_COMMIT, drawn.scored.commit)
        session.commit(manifest, schema)
        return manifest

    def _install(self, former: Former, scanned: Scanned, scored: Scored) -> None:
        """Put the score table in its place, and the bad rows."""
        folder, parts = self.session.folder, scored.table.parts
        (folder.path / SCORES_COMMIT).unlink(missing_ok=True)
        for i in range(0 if isinstance(scored.model, Fusion) else self.since, len(parts)):
            linked(parts[i], folder.scores / parts[i].name)
        for path in folder.scores.glob("part-*.parquet"):
            if shard_number(str(path)) >= len(parts):  # of an update that took in more and did not end
                path.unlink()
        write_quarantine(folder.path / QUARANTINE, self._bad(scanned), former.quarantine)
        if "cleaning" in scored.commit:
            self.session.cleaning.install(scanned.corpus, scored.commit["cleaning"], self.max_removed)


def _partitions(shards: Redrawn) -> list[int]:
    """Numbers of the partitions that shards to be written have documents of."""
    return sorted({piece.partition for shard in shards.to_write for piece in shard.pieces})


def _all_fetched(drawn: Drawn) -> bool:
    return all(part["kind"] or not part["n_documents"] for part in drawn.kept)
