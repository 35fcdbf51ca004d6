"""Documents for a training loop, in the proportions of a curriculum: the same row however it is dealt out."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from curate.curriculum.members import codes_of_column, codes_of_table, members, weights_of_documents
from curate.curriculum.order import Items, Order, Place, whole_parts
from curate.curriculum.store import Store, offsets_of, open_store
from curate.errors import InputError, RunError, UsageError, unknown
from curate.io.corpus import hash_file
from curate.io.curriculum import DOCUMENTS, GROUPS, TEXT, Curriculum, read_curriculum
from curate.io.paths import folder_path
from curate.io.run import digest, read_json, write_json
from curate.io.targets import Paths
from curate.sampling.noise import MEMBERS, keyed_hashes

VERSION = 1
BLOCK = 4096  # positions that are looked at in one go
ALL = "all"

Change = tuple[int, np.ndarray, int]  # from this position (or step) on: parts of groups, and the stage
Weighing = None | Mapping[str, float] | Curriculum | str | os.PathLike[str]


@dataclass(frozen=True)
class Base:
    """The step and position since which steps have been of the size that they are of now.

    ``stages``: where the stages that began before it began.
    """

    step: int = 0
    position: int = 0
    stages: tuple[int, ...] = ()


class CurriculumStream:
    """Documents of a corpus in the proportions of a curriculum, dealt out over ranks and their workers.

    There is one row of documents for a corpus, a curriculum and a seed. Step ``s`` of training takes the next
    ``batch_size * world`` of it: rank 0 the first ``batch_size`` of these, rank 1 the next; worker ``w`` of a rank
    prepares every so manyth step. So no document is lost or repeated whatever the
    number of ranks and workers, and a row is gone on with under others. (With a batch size that is not told, 1,
    ranks take turns, which is as good, but batches differ.) A group's documents come each once, in an order of
    their ids' hashes, before any comes again.

    Parameters
    ----------
    paths : the corpus, such as ``out/shards``; it is laid out once in ``cache``, which takes the size of the text.
    curriculum : None (all documents, each once an epoch), weights by group, a `Curriculum`, or the folder of one.
        Documents in none of its groups are left out, with a warning that counts them. Weights are of documents; those
        that are shares of text, as mixtures have them, are made such by the text of a group's documents.
    column : holds a document's group; by default the curriculum says. columns : more columns to give out.
    batch_size : documents of a step on each rank. rank, world : which of how many processes this is.
    epochs : after how many times the number of documents to end; None: never.
    drop_last : leave out the last step when it is not a whole one, so that all ranks have as many batches.
    stage_steps : steps of each stage but the last, or one number for all; for a curriculum of several stages.
    round_size : documents after which proportions are as exact as can be, and weights can change.
    transform : what is done to each document, a dict, before it is given out; such as a tokenizer.

    Raises
    ------
    InputError : groups without documents, documents that cannot be read. UsageError : arguments that make no sense.
    """

    def __init__(
        self,
        paths: Paths,
        curriculum: Weighing = None,
        *,
        column: str | None = None,
        columns: Sequence[str] = (),
        text_column: str = "text",
        id_column: str = "id",
        on_bad_row: str = "raise",
        seed: int = 0,
        batch_size: int = 1,
        rank: int = 0,
        world: int = 1,
        epochs: int | None = 1,
        drop_last: bool = False,
        stage_steps: int | Sequence[int] | None = None,
        round_size: int = 128,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        cache: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("world", world), ("round_size", round_size)):
            if value < 1:
                raise UsageError(f"{name}={value}: must be 1 or more")
        if not 0 <= rank < world:
            raise UsageError(f"rank={rank}: must be from 0 to {world - 1}, for world={world}")
        if epochs is not None and epochs < 1:
            raise UsageError(f"epochs={epochs}: must be 1 or more, or None for no end")
        self.batch_size, self.rank, self.world, self.epochs = batch_size, rank, world, epochs
        self.transform = transform
        self.columns = tuple(c for c in dict.fromkeys(columns) if c not in (text_column, id_column, "text", "doc_id"))
        made, folder = _asked(curriculum)
        column = column or (made.about.get("column") if made else None)
        by_column = made is not None and made.unit == "group" and column is not None
        more = (*self.columns, *([column] if by_column and column else []))
        self.store = open_store(
            paths, more, text_column=text_column, id_column=id_column, on_bad_row=on_bad_row, cache=cache,
            workers=workers, progress=progress,
        )  # fmt: skip
        if self.store.n_bad_rows:
            warnings.warn(f"{self.store.n_bad_rows:,} rows could not be read and are left out", stacklevel=2)
        self.names = _names(made)
        self._has_groups = made is not None and made.unit == "group"
        self._divide(made, column if by_column else None, folder, seed)
        self.order = Order(self._members.sizes, int(self._members.sizes.sum()), seed=seed, round_size=round_size)
        self._drop_last = drop_last
        self._planned = self._stages(made, stage_steps)
        divided = [self._of, self.names, self._members.sizes.tolist(), self._members.checksum]
        self._identity = digest([VERSION, seed, round_size, *divided])
        self._updates = _Updates()
        self._base = Base()
        self._begin: tuple[Place, int, int, Base] = (self.order.start, 0, 0, self._base)
        self._known = self.order.start  # a place on the way, from which others are found
        self._next = 0
        self._origin: int | None = None  # the step from which on workers take turns

    # ---- what is in it

    @property
    def n_docs(self) -> int:
        """Documents in the groups of the curriculum: the length of an epoch."""
        return self.order.epoch

    @property
    def n_left_out(self) -> int:
        """Documents of the corpus that are in no group."""
        return self._members.n_left_out

    @property
    def step_size(self) -> int:
        """Documents of a step over all ranks."""
        return self.batch_size * self.world

    @property
    def n_samples(self) -> int | None:
        """Documents of all ranks, over all epochs; None: without end."""
        if self.epochs is None:
            return None
        n = self.epochs * self.order.epoch
        return n - (n - self._base.position) % self.step_size if self._drop_last else n

    def __len__(self) -> int:
        """Documents that this rank gets over all epochs, since steps have been of the size that they are of now."""
        if self.n_samples is None:
            raise TypeError("a stream without end has no length; give epochs")
        full, rest = divmod(self.n_samples - self._base.position, self.step_size)
        return full * self.batch_size + min(max(rest - self.rank * self.batch_size, 0), self.batch_size)

    # ---- the row

    def __iter__(self) -> Iterator[Any]:
        return self.iterate()

    def iterate(self, worker: int = 0, n_workers: int = 1) -> Iterator[Any]:
        """The documents of one worker of this rank, from the start or from the state that was loaded."""
        place, position, origin, self._base = self._begin
        self._begin = (self.order.start, 0, 0, Base())
        self._next, self._origin = position, origin if n_workers > 1 else None
        n_rounds = max(1, BLOCK // self.order.round_size)
        read = self.store.reader(("doc_id", "text", *self.columns))
        end = self.n_samples
        last = None if end is None else self.order.round_from(end)
        self._updates.read()
        while last is None or place.round < last:
            changes = self._changes()
            _, parts, stage = changes[_index(changes, self.order.first(place.round))]
            stop = min(r for r in (place.round + n_rounds, last, self._next_change(changes, place)) if r is not None)
            items, places = self.order.block(place, parts, stop - place.round)
            mine = self._mine(items, position, (worker + origin) % n_workers, n_workers)
            documents = zip(
                mine.positions.tolist(), mine.groups.tolist(), read(self._documents(mine, stage)), strict=True
            )
            at = np.searchsorted(mine.positions, [self.order.first(p.round) for p in places])
            done = 0
            for place_before, place_after, until in zip([place, *places], places, at.tolist(), strict=False):
                if self._changed(place_before.round):
                    place = place_before
                    break
                self._known = place_before
                for _ in range(until - done):
                    self._next, group, values = (row := next(documents))[0] + 1, row[1], row[2]
                    yield self._given(group, values)
                done, place = until, place_after

    def _given(self, group: int, values: tuple[str | None, ...]) -> Any:
        document: dict[str, Any] = dict(zip(("doc_id", "text", *self.columns), values, strict=True))
        if self._has_groups:
            document["group"] = self.names[group]
        return document if self.transform is None else self.transform(document)

    def _mine(self, items: Items, position: int, worker: int, n_workers: int) -> Items:
        step, within = np.divmod(items.positions - self._base.position, self.step_size)
        step += self._base.step
        keep = (within // self.batch_size == self.rank) & (step % n_workers == worker) & (items.positions >= position)
        if self.n_samples is not None:
            keep &= items.positions < self.n_samples
        return Items(items.positions[keep], items.groups[keep], items.taken[keep])

    def _documents(self, items: Items, stage: int) -> np.ndarray:
        slot, shift = self.order.documents(items.groups, items.taken)
        if (ends := self._ends_of(stage)) is not None:
            slot = np.minimum(np.searchsorted(ends, (slot + shift) / len(ends), "right"), len(ends) - 1)
        return np.asarray(self._members.docs[self._members.starts[items.groups] + slot])

    # ---- weights, and their changes

    def update(self, weights: Mapping[str, float] | str | os.PathLike[str], from_step: int) -> None:
        """Train by other weights, or those that a folder has now, from a step on; workers that are running see it too.

        The weights hold from the first round that starts at that step or later. Steps that a worker has begun
        cannot be changed: with a DataLoader name a step that is more than ``num_workers * prefetch_factor`` ahead.
        On several ranks make the same call on each. The stages of a curriculum that would come later do not come.

        Raises
        ------
        UsageError : unknown groups, weights that make no sense, or a step before that of the last update.
        """
        if not self._has_groups:
            raise UsageError("only weights of groups can be updated; give a curriculum of groups to begin with")
        made, _ = _asked(weights)
        assert made is not None
        if made.unit != "group" or made.n_stages > 1:
            raise UsageError("an update must have weights of groups, and one stage of them")
        parts = self._parts(made, 0)
        self._updates.add(self._position(from_step), parts)

    def _parts(self, made: Curriculum, stage: int) -> np.ndarray:
        weights = np.zeros(len(self.names))
        text = self._text if made.about.get("weights_of") in TEXT else {}
        for name, weight in made.shares(stage, DOCUMENTS, text).items():
            if name not in self.names:
                raise UsageError(f"{unknown('group', name, self.names)}")
            weights[self.names.index(name)] = weight
        for index in np.flatnonzero((weights > 0) & (self._members.sizes == 0)):
            raise InputError(
                f"group {self.names[index]!r} has a weight of {weights[index]:.4g} but no documents; take it out of "
                "the curriculum, or name the column that holds the groups"
            )
        return whole_parts(weights)

    @cached_property
    def _text(self) -> dict[str, float]:
        """Bytes of a document by group."""
        sizes = [np.diff(offsets_of(texts)) for texts in self.store.column("text")]
        sums = np.add.reduceat(np.append(np.concatenate(sizes)[self._members.docs], 0), self._members.starts)
        means = np.where(self._members.sizes > 0, sums / np.maximum(self._members.sizes, 1), 0.0)
        return dict(zip(self.names, means.tolist(), strict=True))

    def _stages(self, made: Curriculum | None, stage_steps: int | Sequence[int] | None) -> list[Change]:
        """From which step on each stage is."""
        n_stages = made.n_stages if made else 1
        if n_stages > 1 and stage_steps is None:
            raise UsageError(f"the curriculum has {n_stages} stages: say with stage_steps how many steps each takes")
        steps = [stage_steps] * (n_stages - 1) if isinstance(stage_steps, int) else list(stage_steps or [])
        if (len(steps) != n_stages - 1 and n_stages > 1) or any(s < 1 for s in steps):
            raise UsageError(f"stage_steps={stage_steps}: {n_stages - 1} numbers from 1 on, for {n_stages} stages")
        starts = np.cumsum([0, *steps[: n_stages - 1]])
        if made is None or made.unit == "doc_id":
            return [(int(start), whole_parts(np.ones(1)), stage) for stage, start in enumerate(starts)]
        return [(int(start), self._parts(made, stage), stage) for stage, start in enumerate(starts)]

    def _changes(self) -> list[Change]:
        """All changes by the position of the round where they begin."""
        updates = self._updates.known
        starts = self._stage_positions()
        stages = [(start, *change[1:]) for start, change in zip(starts, self._planned, strict=True)]
        planned = [change for change in stages if not updates or change[0] < updates[0][0]]
        several = [*planned, *((position, parts, 0) for position, parts in updates)]
        return [(self.order.first(self.order.round_from(position)), parts, stage) for position, parts, stage in several]

    def _changed(self, round: int) -> bool:
        """Whether there are updates that this process has not seen; it is about to begin a round."""
        if not self._updates.changed:
            return False
        before = len(self._updates.known)
        for position, _ in self._updates.read()[before:]:
            if self.order.round_from(position) < round:
                raise UsageError(
                    f"the update from step {self._step(position):,} on comes too late: a worker has begun step "
                    f"{self._step(self.order.first(round)):,}; name a later step"
                )
        return True

    def _position(self, step: int) -> int:
        """The position that a step begins at."""
        return self._base.position + (step - self._base.step) * self.step_size

    def _step(self, position: int) -> int:
        """The step that a position is in."""
        return self._base.step + (position - self._base.position) // self.step_size

    def _stage_positions(self) -> list[int]:
        """Where each stage begins; those that began before the base stay where they were."""
        before = self._base.stages
        return [
            before[stage] if step < self._base.step else self._position(step)
            for stage, (step, _, _) in enumerate(self._planned)
        ]

    def _next_change(self, changes: list[Change], place: Place) -> int | None:
        later = [c[0] for c in changes if c[0] > self.order.first(place.round)]
        return self.order.round_of(later[0]) if later else None

    def _place(self, round: int) -> Place:
        """Where the order stands at the start of a round."""
        place = self._known if self._known.round <= round else self.order.start
        changes = self._changes()
        while place.round < round:
            _, parts, _ = changes[_index(changes, self.order.first(place.round))]
            stop = min(round, self._next_change(changes, place) or round)
            place = self.order.advance(place, parts, stop - place.round)
        return place

    # ---- states

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """What is needed to go on: as plain numbers and strings.

        Parameters
        ----------
        step : go on with this step: for a DataLoader with workers, of which this process does not know how far they
            are: how many batches were trained on, counted from the beginning. By default where this process is, which
            is for this process alone: of several ranks or workers each must keep its own.

        Raises
        ------
        UsageError : a step before the one at which the size of steps changed.
        """
        if step is not None and step < self._base.step:
            raise UsageError(f"step {step:,}: before step {self._base.step:,}, steps were of another size")
        position = self._next if step is None else self._position(step)
        origin = self._origin if step is None and self._origin is not None else self._step(position)
        place = self._place(self.order.round_of(position))
        self._known = place
        return {
            "version": VERSION,
            "of": self._identity,
            "position": position,
            "origin": origin,
            "step_size": self.step_size,
            "base": {"step": self._base.step, "position": self._base.position},
            "stages": self._stage_positions(),
            "round": place.round,
            "owed": place.owed.tolist(),
            "taken": place.taken.tolist(),
            "updates": [[position, parts.tolist()] for position, parts in self._updates.read()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, under any number of ranks and workers, and with steps of any size.

        Raises
        ------
        RunError : a state of another corpus, curriculum, seed or round size.
        """
        if state.get("version") != VERSION or state.get("of") != self._identity:
            raise RunError(
                "the state is of another corpus, curriculum, seed or round_size: give those it was made with, or begin"
                " without it"
            )
        self._updates.load([(p, np.array(parts, np.int64)) for p, parts in state["updates"]])
        place = Place(state["round"], np.array(state["owed"], np.int64), np.array(state["taken"], np.int64))
        position, origin = state["position"], state["origin"]
        base = Base(state["base"]["step"], state["base"]["position"], tuple(state["stages"]))
        if state["step_size"] != self.step_size:
            done = -(-(position - base.position) // state["step_size"])  # one that was begun counts
            origin = base.step + done
            base = Base(origin, position, base.stages)
        self._base, self._begin = base, (place, position, origin, base)
        self._known, self._next, self._origin = place, position, origin

    # ---- groups

    def _divide(self, made: Curriculum | None, column: str | None, folder: Path | None, seed: int) -> None:
        """Find which documents are in which group."""
        store, names = self.store, self.names
        self._ends: dict[int, np.ndarray] = {}
        self._made = made if made is not None and made.unit == "doc_id" else None
        if made is None:
            self._of: Any = ALL
            code_of: Callable[[], Iterable[np.ndarray]] = partial(_codes_of_all, store)
        elif made.unit == "doc_id":
            arrays = (keyed_hashes(made.names, 0, MEMBERS), made.stages, made.weights)
            sha = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
            self._of, code_of = ["documents", *sha], self._codes_of_weighted
        elif column is not None:
            self._of, code_of = ["column", column, names], partial(codes_of_column, store, column, names)
        elif folder is not None:
            table = folder / GROUPS
            if not table.exists():
                raise InputError(f"{table}: no such file; say with column= which column holds the groups")
            self._of, code_of = ["table", hash_file(str(table))[1], names], partial(codes_of_table, store, table, names)
        else:
            raise UsageError("which column holds the groups? say so with column=")
        self._members = members(store, code_of, len(names), seed, self._of)
        if not self._members.sizes.sum():
            raise InputError(f"{store.n_docs:,} documents, none of them in a group of the curriculum")
        if self._members.n_left_out:
            warnings.warn(
                f"{self._members.n_left_out:,} of {store.n_docs:,} documents are in no group of the curriculum and are "
                "left out",
                stacklevel=3,
            )
        self._ends_of(0)

    def _codes_of_weighted(self) -> Iterable[np.ndarray]:
        """Group 0 for documents that have a weight in any stage."""
        assert self._made is not None
        some = np.zeros(self.store.n_docs, bool)
        for stage in range(self._made.n_stages):
            some |= weights_of_documents(self.store, self._made, stage)[0] > 0
        yield np.where(some, 0, -1).astype(np.int32)

    def _ends_of(self, stage: int) -> np.ndarray | None:
        """Where each document's part of (0, 1) ends, of a curriculum of documents."""
        if self._made is None:
            return None
        if stage not in self._ends:
            weights, n_missing = weights_of_documents(self.store, self._made, stage)
            if n_missing:
                warnings.warn(f"{n_missing:,} documents of the curriculum are not in the corpus", stacklevel=4)
            sums = np.cumsum(weights[self._members.docs])
            if not sums[-1] > 0:
                raise InputError(f"stage {stage}: no document of the corpus has a weight")
            self._ends[stage] = sums / sums[-1]
        return self._ends[stage]


def _asked(curriculum: Weighing) -> tuple[Curriculum | None, Path | None]:
    """The curriculum, and its folder when it has one."""
    if curriculum is None or isinstance(curriculum, Curriculum):
        return curriculum, None
    if isinstance(curriculum, Mapping):
        return Curriculum.of(curriculum), None
    path = folder_path(curriculum)
    return read_curriculum(path), path if path.is_dir() else path.parent


def _names(made: Curriculum | None) -> list[str]:
    return [ALL] if made is None or made.unit == "doc_id" else sorted(set(made.names.to_pylist()))


def _index(changes: list[Change], position: int) -> int:
    return bisect_right([c[0] for c in changes], position) - 1


def _codes_of_all(store: Store) -> Iterable[np.ndarray]:
    yield np.zeros(store.n_docs, np.int32)


class _Updates:
    """Changes of weights while workers run: a small file that all processes of this machine look at."""

    def __init__(self) -> None:
        self._path = Path(tempfile.gettempdir()) / f"curate-weights-{uuid4().hex}.json"
        self._owner = os.getpid()
        self._seen: Any = None
        self.known: list[tuple[int, np.ndarray]] = []  # positions and parts, ascending
        weakref.finalize(self, _delete, self._path, os.getpid())

    def read(self) -> list[tuple[int, np.ndarray]]:
        """All of them, as they are now."""
        if self.changed:
            self._seen = self._stamp()
            self.known = [(p, np.array(parts, np.int64)) for p, parts in read_json(self._path) or []]
        return self.known

    def add(self, position: int, parts: np.ndarray) -> None:
        """One more; it takes the place of one from the same position."""
        there = self.read()
        if there and position < there[-1][0]:
            raise UsageError(f"position {position:,}: the last update is from position {there[-1][0]:,} on")
        self.replace([*(change for change in there if change[0] < position), (position, parts)])

    def load(self, changes: list[tuple[int, np.ndarray]]) -> None:
        """Have those of a state. A worker, which loads one as it starts, takes nothing from what came since."""
        if os.getpid() == self._owner:
            self.replace(changes)
        elif {position for position, _ in changes} - {position for position, _ in self.read()}:
            self.replace(sorted(dict([*changes, *self.read()]).items(), key=lambda change: change[0]))

    def replace(self, changes: list[tuple[int, np.ndarray]]) -> None:
        """Forget all and have these."""
        if changes or self._path.exists():
            write_json(self._path, [[position, parts.tolist()] for position, parts in changes])

    @property
    def changed(self) -> bool:
        """Whether the file is another than the one that was read."""
        return bool(self._stamp() != self._seen)

    def _stamp(self) -> Any:
        with suppress(FileNotFoundError):
            stat = os.stat(self._path)
            return stat.st_mtime_ns, stat.st_ino, stat.st_size
        return None


def _delete(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
