"""Documents to vectors, some at a time: hashed n-grams, a column that is there, a sentence encoder."""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate._optional import require
from curate.errors import InputError, UsageError
from curate.features.ngrams import MAX_ORDER, NgramFeatures
from curate.kernels.text import one_chunk

if TYPE_CHECKING:
    from curate.kernels.streams import NgramStream

N_BUCKETS = 1 << 18  # as many as the second-level cache holds counts of; twice as many gained nothing
MAX_DIM = 1 << 15
MAX_NONZEROS = 4
MOST_COUNTED = 65_535
ENCODED = 256  # documents that an encoder is given at a time


class Vectors(Protocol):
    """What turns documents into vectors: an Arrow array of one item a document to float32[n_docs, dim]."""

    def __call__(self, items: Any) -> np.ndarray: ...

    def identity(self) -> dict[str, Any]:
        """What determines the vectors of a document, for naming work that was done with them."""
        ...


@dataclass(frozen=True)
class HashedVectors:
    """Vectors of texts without a model: signed sums of their hashed n-grams, of unit length.

    An n-gram that a text has c times adds log(1 + c) with a random sign to `nonzeros` random coordinates (Kane and
    Nelson, arXiv:1012.1577), so that inner products are those of all n-grams, with a noise of 1 / sqrt(dim). A text
    without tokens is the zero vector, at distance 1 from all others: leave those out where neighbours are looked for.

    By the ten nearest of 256-dimensional vectors of 35,000 documents of 38 sources (prose in many languages, code,
    mathematics), how many were of the same source: 81% so; 70% with bigrams too, 70% with c instead of log(1 + c),
    74% with 1; 76% and 56% weighted by the root of the inverse document frequency and by it. In few dimensions what a
    text alone has is noise, and all of these add it. Other dimensions: 61% in 64, 74% in 128, 85% in 512. Less the
    mean of the corpus: 84% in 256.

    Parameters
    ----------
    dim : 1 to 32,768. n : highest order of n-grams. seed : of hashes, places and signs.
    nonzeros : coordinates that an n-gram adds to, 1 to 4, one in each of as many blocks.
    damped : log(1 + c) instead of c.
    """

    dim: int = 256
    n: int = 1
    seed: int = 0
    nonzeros: int = 2
    damped: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (("dim", 1, MAX_DIM), ("n", 1, MAX_ORDER), ("nonzeros", 1, MAX_NONZEROS)):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name}={getattr(self, name)}: must be {low} to {high:,}")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"seed={self.seed}: must be 0 to 2**64 - 1")
        if self.nonzeros > self.dim:
            raise UsageError(f"nonzeros={self.nonzeros}: there are only {self.dim} coordinates")

    def identity(self) -> dict[str, Any]:
        return {"vectors": "hashed", **asdict(self), "unicode": unicodedata.unidata_version}

    def __call__(self, texts: Any) -> np.ndarray:
        """float32[n_docs, dim] of a string array of Arrow or a sequence of str."""
        return self.of_stream(self.ngrams.stream(texts))

    def of_stream(self, stream: NgramStream) -> np.ndarray:
        """float32[n_docs, dim] of a stream of `ngrams`, for those who count its tokens too."""
        from curate.kernels.calls import project

        return project(stream, N_BUCKETS, self.dim, self.nonzeros, self._values, self.seed)

    @cached_property
    def ngrams(self) -> NgramFeatures:
        """What is summed up."""
        return NgramFeatures(n=self.n, n_buckets=N_BUCKETS, hash_seed=self.seed)

    @cached_property
    def _values(self) -> np.ndarray:
        counts = np.arange(MOST_COUNTED + 1, dtype=np.float64)
        return np.log1p(counts) if self.damped else counts


@dataclass(frozen=True)
class ColumnVectors:
    """Vectors that a column of the corpus holds: lists of numbers, all of one length."""

    column: str

    def identity(self) -> dict[str, Any]:
        return {"vectors": "column", **asdict(self)}

    def __call__(self, values: Any, *, where: str = "", rows: np.ndarray | None = None) -> np.ndarray:
        """float32[n_docs, dim] of the values of the column.

        Parameters
        ----------
        where : the file that they are of, and ``rows`` (int64[n_docs]) their rows in it, for messages.

        Raises
        ------
        InputError : no lists of numbers, one is missing, lengths differ, a number is not finite; with the place.
        """
        array = one_chunk(values)
        place = f"{where} column {self.column!r}".strip()
        kind = array.type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            raise InputError(f"{place}: {kind}, not lists of numbers; choose the column that holds vectors")

        def row(i: int) -> str:
            return f"{place} row {i if rows is None else int(rows[i])}"

        if array.null_count:
            raise InputError(f"{row(_first(pc.is_null(array)))}: no vector; give every document one, or leave it out")
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if not len(lengths):
            return np.zeros((0, kind.list_size if pa.types.is_fixed_size_list(kind) else 0), np.float32)
        other = np.flatnonzero(lengths != lengths[0])
        if len(other):
            raise InputError(
                f"{row(int(other[0]))}: {lengths[other[0]]:,} numbers, and {lengths[0]:,} in {row(0)}; "
                "all vectors must be of one length"
            )
        if not lengths[0]:
            raise InputError(f"{row(0)}: a vector without numbers")
        flat = array.flatten()
        dim = int(lengths[0])
        if flat.null_count:
            raise InputError(f"{row(_first(pc.is_null(flat)) // dim)}: a number of the vector is missing")
        with np.errstate(over="ignore"):  # what float32 cannot hold is found below
            found = flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, dim)
        wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(wrong):
            raise InputError(f"{row(int(wrong[0]))}: a number of the vector is not finite")
        return found


def _first(mask: Any) -> int:
    return int(np.flatnonzero(mask.to_numpy(zero_copy_only=False))[0])


@dataclass(frozen=True)
class EncoderVectors:
    """Vectors by a sentence encoder on disk, of model2vec or sentence-transformers; nothing is fetched.

    model2vec reads whole texts, a transformer as many tokens as it was made for (often the first 256 or 512).
    """

    path: str

    def __getstate__(self) -> dict[str, Any]:  # for processes that may work in another folder
        return self.__dict__ | {"path": os.path.abspath(self.path)}

    def identity(self) -> dict[str, Any]:
        """By the sizes and contents of the folder's files."""
        from curate.features.ngrams import file_sha256

        files = sorted(p for p in self._folder.rglob("*") if p.is_file())
        hashes = {p.relative_to(self._folder).as_posix(): file_sha256(str(p)) for p in files}
        return {"vectors": "encoder", "files": hashes}

    def __call__(self, texts: Any) -> np.ndarray:
        """float32[n_docs, dim] of a string array of Arrow, as the encoder gives them.

        Raises
        ------
        InputError : there is no encoder at the path. MissingExtraError : its package is not installed.
        """
        encode = self._encode
        found = [encode(texts.slice(i, ENCODED).to_pylist()) for i in range(0, len(texts), ENCODED)]
        return np.concatenate(found).astype(np.float32) if found else np.zeros((0, 0), np.float32)

    @property
    def _folder(self) -> Path:
        folder = Path(self.path)
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{self.path}: no encoder there (no config.json); give the folder of a model that was saved by "
                "model2vec or sentence-transformers"
            )
        return folder

    @cached_property
    def _encode(self) -> Any:
        return _load_encoder(self._folder)


def _load_encoder(folder: Path) -> Any:
    """Texts (a list) to vectors (an array), by the package that wrote the folder."""
    purpose = f"the encoder {folder}"
    modules = folder / "modules.json"  # model2vec writes one too, for the other package to read
    if not modules.is_file() or json.loads(modules.read_bytes())[0]["type"].endswith("StaticEmbedding"):
        static = require("model2vec", extra="encoder", purpose=purpose).StaticModel
        model = static.from_pretrained(folder, max_length=None, force_download=False)
        return lambda texts: model.encode(texts, use_multiprocessing=False)
    transformer = require("sentence_transformers", extra="transformer", purpose=purpose).SentenceTransformer
    model = transformer(str(folder), local_files_only=True)
    return lambda texts: model.encode(texts, show_progress_bar=False, convert_to_numpy=True)
