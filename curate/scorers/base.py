"""What every scorer has: settings by name, the documents that it looks at, and files that hold no code."""

from __future__ import annotations

import hashlib
import inspect
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from curate._optional import check_installed
from curate.errors import InputError, UsageError, refuse_unknown
from curate.features.ngrams import NgramFeatures, string_array

if TYPE_CHECKING:
    import pyarrow as pa

Texts = Iterable[Any]  # of str, or of Arrow string arrays
TEXTS_AT_ONCE = 1_000


@dataclass(frozen=True)
class RawSample:
    """How much of raw a fit looks at: at least ``quota`` documents, bytes or n-grams (``unit``), up to twice that."""

    unit: str
    quota: float


class Scorer(ABC):
    """Scores documents for a target; higher is better, and a document's score does not depend on the others.

    Parameters of a class are its settings, and each is an attribute of the same name.

    Attributes
    ----------
    features : by which tokens are counted. min_tokens : documents with fewer have no score.
    target_names_, target_proportions_ : of the fitted targets, one a column of scores.
    """

    method: ClassVar[str]
    log_weights: ClassVar[bool]  # whether scores are log weights, nats, that a Gumbel draw may sample by
    scores_are_weights: ClassVar[bool] = False  # 0 or more, that a draw may sample in proportion to
    default_draw: ClassVar[str] = "topk"
    needs_target: ClassVar[bool] = True
    needs: ClassVar[tuple[str, str] | None] = None  # a package, and the extra that brings it
    features: NgramFeatures
    min_tokens: int
    separate_targets: bool = False
    target_proportions: list[float] | None = None
    target_names_: list[str]
    target_proportions_: list[float]
    target_use_: list[int] | None = None  # bytes of the target that were used, and of all of it, where that differs

    # ---- settings

    @classmethod
    def setting_names(cls) -> list[str]:
        """The names of all settings."""
        return list(inspect.signature(cls.__init__).parameters)[1:]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """From ``key: value`` pairs, with the near name for an unknown key."""
        refuse_unknown(f"setting of {cls.method}", settings, cls.setting_names())
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        """All settings with their values: what a recipe and a manifest hold."""
        return {name: getattr(self, name) for name in self.setting_names()}

    def identity(self) -> dict[str, Any]:
        """What determines scores beside files: settings, and versions of what they rest on."""
        return self.settings() | self.features.identity()

    @property
    def vector_column(self) -> str | None:
        """A column of raw that documents are scored by, with lists of numbers; most scorers have none."""
        return None

    @property
    def members(self) -> dict[str, Scorer]:
        """The scorers by name: this one; a fusion has several."""
        return {self.method: self}

    # ---- fitting

    def check_installed(self) -> None:
        """Refuse what `fit` will not find, before anything is read.

        Raises
        ------
        MissingExtraError : a package is not installed.
        """
        if self.needs:
            package, extra = self.needs
            check_installed(package, extra=extra, purpose=f"method {self.method!r}")

    @property
    def raw_sample(self) -> RawSample | None:
        """What of raw `fit` looks at; None: nothing."""
        return None

    @abstractmethod
    def fit(self, *, target: Texts | Mapping[str, Texts], raw: Texts = (), workers: int = 1) -> Self:
        """Fit on texts: the target's, also by name of target, and raw's; in any order, by some threads."""

    # ---- scoring

    @property
    def columns(self) -> list[str]:
        """Columns of the score table: ``score``, or ``score_<target>`` for each separate target."""
        return [f"score_{name}" for name in self.target_names_] if self.separate_targets else ["score"]

    @abstractmethod
    def scores(self, texts: Any) -> np.ndarray:
        """float64[n_docs, n_targets] of Arrow strings, of whatever length; called by many threads."""

    def score(self, texts: Any) -> np.ndarray:
        """Scores of texts; nan where one has fewer than ``min_tokens`` tokens.

        Parameters
        ----------
        texts : sequence of str, or Arrow strings.

        Returns
        -------
        float64[n_docs], or float64[n_docs, n_targets] with separate targets.
        """
        scores, _ = self.score_documents(arrow_strings(texts))
        return scores if self.separate_targets else scores[:, 0]

    def score_documents(self, texts: Any, vectors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(scores float64[n_docs, n_targets], int64[n_docs] tokens)`` of Arrow strings; nan where too short.

        ``vectors``: float32[n_docs, dim], what is in `vector_column`.
        """
        import pyarrow as pa

        n_tokens = self.features.stream(texts).n_tokens
        long_enough = n_tokens >= self.min_tokens
        scores = np.full((len(n_tokens), len(self.columns)), np.nan)
        if long_enough.all():
            return self.scores(texts), n_tokens
        if long_enough.any():
            strings = texts.cast(pa.large_string())  # Arrow cannot filter views
            scores[long_enough] = self.scores(strings.filter(pa.array(long_enough)))
        return scores, n_tokens

    # ---- files

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """What was fitted, as arrays of numbers by name."""

    def state(self) -> dict[str, Any]:
        """What was fitted beside arrays and targets, as JSON."""
        return {}

    @abstractmethod
    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take back what `arrays` and `state` gave."""

    def save(self, folder: str | Path) -> None:
        """Write ``scorer.json`` and ``arrays.npz``; no code in either."""
        from curate.io.paths import atomic, folder_path

        folder = folder_path(folder)
        with atomic(folder / "arrays.npz") as part, open(part, "wb") as stream:
            np.savez(stream, **self.arrays())  # type: ignore[arg-type]
        state = {
            "method": self.method,
            "settings": self.settings(),
            "target_names": self.target_names_,
            "target_proportions": self.target_proportions_,
            "target_use": self.target_use_,
            **self.state(),
        }
        with atomic(folder / "scorer.json") as part:
            part.write_text(json.dumps(state, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError : it is not there, or not such a scorer's.
        """
        from curate.io.paths import folder_path, whole

        folder = folder_path(folder)
        try:
            state = json.loads((folder / "scorer.json").read_text())
            if state["method"] != cls.method:
                raise InputError(f"{folder}: a scorer of {state['method']}, not of {cls.method}")
            model = cls.from_settings(state["settings"])
            model.target_names_ = state["target_names"]
            model.target_proportions_ = state["target_proportions"]
            model.target_use_ = state.get("target_use")
            with whole(folder / "arrays.npz") as stream, np.load(stream, allow_pickle=False) as arrays:
                model.restore(arrays, state)
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{folder}: not a saved scorer ({error})") from error
        return model


def number(name: str, value: Any) -> float:
    """A setting that must be a number.

    Raises
    ------
    UsageError : it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name}={value!r}: must be a number")
    return value


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """A setting that must be a whole number from ``low`` to ``high``.

    Raises
    ------
    UsageError : it is not one.
    """
    fits = not isinstance(value, bool) and isinstance(value, (int, float)) and value % 1 == 0 and value >= low
    if not fits or (high is not None and value > high):
        raise UsageError(
            f"{name}={value!r}: must be a whole number, {low} {'or more' if high is None else f'to {high}'}"
        )
    return int(value)


def proportions(separate_targets: Any, given: Any) -> list[float] | None:
    """The setting ``target_proportions`` as a list: one number or several, None where they go by size.

    Raises
    ------
    UsageError : there are no separate targets, or they are not shares.
    """
    if not isinstance(separate_targets, bool):
        raise UsageError(f"separate_targets={separate_targets!r}: must be true or false")
    if given is None:
        return None
    values = [given] if isinstance(given, (int, float, str)) else list(given)
    found = [float(number("target_proportions", value)) for value in values]
    if not separate_targets:
        raise UsageError("target_proportions needs separate_targets=True")
    if not min(found, default=0) >= 0 or not 0 < sum(found) < float("inf"):
        raise UsageError(f"target_proportions={found}: must be non-negative, not all 0")
    return found


def check_array(name: str, array: np.ndarray, kind: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Refuse an array of a file that kernels could not trust. ``shape``: None is any length.

    Raises
    ------
    ValueError : it is of another kind or shape.
    """
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype != kind or not fits or not array.flags.c_contiguous:
        raise ValueError(f"array {name!r} is {array.dtype}{list(array.shape)}")


def texts_within(texts: Iterable[bytes], room: int) -> tuple[list[bytes], int]:
    """Texts in the order of a hash of what they say, as many as begin within ``room`` bytes; and the bytes of all.

    Empty ones are left out. Memory is flat: of a stream no more than twice the room is held.
    """
    held: list[tuple[bytes, bytes]] = []
    size = total = 0
    for text in texts:
        if not text:
            continue
        held.append((hashlib.sha256(text).digest(), text))
        size += len(text)
        total += len(text)
        if size > 2 * room + (1 << 20):
            held = _first(held, room)
            size = sum(len(text) for _, text in held)
    return [text for _, text in _first(held, room)], total


def _first(held: list[tuple[bytes, bytes]], room: int) -> list[tuple[bytes, bytes]]:
    kept, size = [], 0
    for digest, text in sorted(held):
        if size >= room:
            break
        kept.append((digest, text))
        size += len(text)
    return kept


def encoded(texts: Texts) -> Iterator[bytes]:
    """Texts one by one, as UTF-8."""
    from curate.kernels.text import string_buffers

    for some in text_batches(texts):
        data, offsets = string_buffers(some)
        yield from (data[start:stop].tobytes() for start, stop in pairwise(offsets))


def arrow_strings(texts: Any) -> pa.Array | pa.ChunkedArray:
    """Arrow strings of a sequence of str, or of what is that already."""
    import pyarrow as pa

    return texts if isinstance(texts, (pa.Array, pa.ChunkedArray)) else string_array(list(texts))


def by_name(target: Texts | Mapping[str, Texts]) -> Mapping[str, Texts]:
    """Targets by name; a single one is called "target"."""
    return target if isinstance(target, Mapping) else {"target": target}


def text_batches(texts: Texts) -> Iterator[pa.Array | pa.ChunkedArray]:
    """Arrow string arrays, some texts at a time, of texts that come one by one or in such arrays."""
    waiting = iter(texts)
    for item in waiting:
        if isinstance(item, str):
            yield string_array([item, *islice(waiting, TEXTS_AT_ONCE - 1)])
        else:
            yield item


def shares(given: Sequence[float] | None, sizes: Sequence[float]) -> list[float]:
    """Parts of the budget of some targets, 1 together: as given, else by their sizes.

    Raises
    ------
    UsageError : not as many are given.
    """
    if given is not None and len(given) != len(sizes):
        raise UsageError(f"{len(given)} target_proportions for {len(sizes)} targets")
    values = np.array(sizes if given is None else given, float)
    return [float(v) for v in values / values.sum()]
