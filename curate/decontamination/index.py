"""An index of evaluation items, and what documents have of them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate.decontamination.arrays import SEED, Arrays, build, check
from curate.decontamination.found import Found, merged
from curate.decontamination.items import Items, read_items
from curate.decontamination.memory import Rows, room, rows_for, work_for
from curate.decontamination.spec import DecontaminationSpec
from curate.errors import InputError
from curate.io.paths import atomic, folder_path, whole
from curate.kernels.calls import start_state
from curate.kernels.native import Kernel
from curate.kernels.text import string_buffers
from curate.kernels.unicode import unicode_tables

VERSION = 1
N_ROWS, N_SEGMENTS = 1 << 10, 1 << 16  # room to begin with
_DONE, _MORE_SEGMENTS = 0, 1  # of `curate.kernels.overlap`
_find = Kernel("overlap", "find")


class _Limits(NamedTuple):
    ngram: int
    shortest: int  # words
    coverage: float
    stretch: int  # words


@dataclass(frozen=True)
class Index:
    """Evaluation items as arrays, made by `build`; ``settings`` are those that matching depends on.

    ``n_boilerplate``: n-grams by benchmark that are in too many of its items to say anything. ``undecidable``: ids by
    benchmark of items that are too short, or nothing but boilerplate.
    """

    arrays: Arrays
    ids: tuple[str, ...]
    benchmarks: tuple[str, ...]
    settings: Mapping[str, Any]
    n_boilerplate: Mapping[str, int]
    undecidable: Mapping[str, tuple[str, ...]]

    @classmethod
    def build(cls, items: Items, spec: DecontaminationSpec) -> Index:
        """The index of some items.

        Raises
        ------
        InputError : there are none.
        """
        if not len(items):
            raise InputError("no evaluation item in any of the files: there is nothing to look for")
        names, benchmark = np.unique(np.array(items.benchmarks, dtype=np.str_), return_inverse=True)
        built = build(items, benchmark, spec.min_words, spec.boilerplate)
        undecidable: dict[str, list[str]] = {}
        for i in np.flatnonzero(built.n_own < spec.min_words).tolist():
            undecidable.setdefault(items.benchmarks[i], []).append(items.ids[i])
        return cls(
            built.arrays,
            tuple(items.ids),
            tuple(items.benchmarks),
            {name: getattr(spec, name) for name in ("ngram", "coverage", "min_words", "boilerplate")},
            {str(name): int(n) for name, n in zip(names, built.n_boilerplate, strict=True)},
            {name: tuple(ids) for name, ids in undecidable.items()},
        )

    @classmethod
    def of(cls, spec: DecontaminationSpec) -> Index:
        """The index of the items in the files that a specification names."""
        return cls.build(read_items(spec), spec)

    def find(self, texts: Any) -> Found:
        """What documents have of the items.

        A document has an item where ``ngram`` words of it, or all of a shorter one, are in a row (*verbatim*); or where
        at least ``coverage`` of its words are within about twice its length, or of a stretch of it ``5 ngram / 4`` more
        words are there than not (*edited*). Boilerplate does not count, and numbers and single letters count half;
        besides those some words must be different, ``ngram / 2`` as a rule and ``ngram`` in a mere stretch:
        ``for i in range(n): for j in range(n)`` is nobody's. Where as many numbers are others as are the same, or more,
        it is another item of the same template.

        Parameters
        ----------
        texts : Arrow strings; a null is the empty string.
        """
        data, offsets = string_buffers(texts)
        offsets = np.ascontiguousarray(offsets, np.int64)
        longest, ends = room(data, offsets), self.arrays.ends
        rows, at, n_segments = rows_for(N_ROWS), np.zeros(2, np.int64), N_SEGMENTS
        fixed = data, offsets, unicode_tables(), start_state(SEED), self.arrays, self._limits
        while (missing := _find(*fixed, work_for(*longest, ends, n_segments), rows, at)) != _DONE:
            if missing == _MORE_SEGMENTS:
                n_segments *= 4
            else:
                rows = Rows._make(np.tile(column, 4) for column in rows)
        return merged(texts, Rows._make(column[: at[1]] for column in rows), self.ids, self.benchmarks)

    @property
    def _limits(self) -> _Limits:
        ngram = int(self.settings["ngram"])
        return _Limits(ngram, int(self.settings["min_words"]), float(self.settings["coverage"]), 5 * ngram // 4)

    @cached_property
    def identity(self) -> str:
        """What determines what is found."""
        of = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        for array in self.arrays:
            of.update(array.tobytes())
        return of.hexdigest()

    def _about(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "ids": list(self.ids),
            "benchmarks": list(self.benchmarks),
            "settings": dict(self.settings),
            "n_boilerplate": dict(self.n_boilerplate),
            "undecidable": {name: list(ids) for name, ids in self.undecidable.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write the index, arrays and JSON, to a ``.npz`` file; whole, or not at all."""
        about = np.frombuffer(json.dumps(self._about()).encode(), np.uint8)
        with atomic(folder_path(path)) as part, open(part, "wb") as stream:
            np.savez(stream, about=about, **self.arrays._asdict())

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read what `save` wrote.

        Raises
        ------
        InputError : it is not there, or not what was saved.
        """
        try:
            with whole(folder_path(path)) as stream, np.load(stream, allow_pickle=False) as stored:
                about = json.loads(stored["about"].tobytes())
                arrays = Arrays(*(np.ascontiguousarray(stored[name]) for name in Arrays._fields))
            if about["version"] != VERSION:
                raise ValueError(f"version {about['version']}, this is {VERSION}")
            check(arrays, len(about["ids"]))
            undecidable = {name: tuple(ids) for name, ids in about["undecidable"].items()}
            return cls(
                arrays,
                tuple(about["ids"]),
                tuple(about["benchmarks"]),
                about["settings"],
                about["n_boilerplate"],
                undecidable,
            )
        except FileNotFoundError as error:
            raise InputError(f"{path}: no index of evaluation items there") from error
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a saved index of evaluation items ({error}); make it again") from error
