"""Hashed n-grams of words or of SentencePiece pieces."""

from __future__ import annotations

import hashlib
import os
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.errors import InputError, UsageError, unknown

if TYPE_CHECKING:
    from curate.kernels.streams import NgramStream

HASHES = ("fast", "sha256")
MAX_ORDER = 8
MAX_BUCKETS = 1 << 24


@dataclass(frozen=True)
class NgramFeatures:
    """What is counted: n-grams of orders 1..n over the tokens of a text, hashed into ``n_buckets``.

    Parameters
    ----------
    n : highest order, 1 to 8.
    n_buckets : number of buckets; the paper's is 10,000 (arXiv:2302.03169, section 4).
    hash : "fast", 64-bit and seeded, or "sha256", the buckets of the reference package.
    hash_seed : of the fast hash.
    tokenizer : path of a SentencePiece model; without it word-punctuation tokens of ``text.lower()``,
        as Python's ``re.findall(r"\\w+|[^\\w\\s]+", ...)`` finds them.
    """

    n: int = 2
    n_buckets: int = 10_000
    hash: str = "fast"
    hash_seed: int = 0
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        for name in ("n", "n_buckets", "hash_seed"):
            if not isinstance(getattr(self, name), int):
                raise UsageError(f"{name}={getattr(self, name)!r}: must be a whole number")
        if self.hash not in HASHES:
            raise unknown("hash", self.hash, HASHES)
        if not 1 <= self.n <= MAX_ORDER:
            raise UsageError(f"n={self.n}: the highest order of n-grams is 1 to {MAX_ORDER}")
        if not 2 <= self.n_buckets <= MAX_BUCKETS:
            raise UsageError(f"n_buckets={self.n_buckets:,}: must be 2 to {MAX_BUCKETS:,}")
        if not 0 <= self.hash_seed < 1 << 64:
            raise UsageError(f"hash_seed={self.hash_seed}: must be 0 to 2**64 - 1")
        if self.hash == "sha256" and self.tokenizer:
            raise UsageError("hash='sha256' is the reference's hash of words; with a tokenizer use hash='fast'")

    def __getstate__(self) -> dict[str, Any]:  # for processes that may work in another folder
        return self.__dict__ | {"tokenizer": os.path.abspath(self.tokenizer) if self.tokenizer else None}

    @property
    def bucket_bytes(self) -> int:
        """Bytes that a stored bucket takes."""
        return 2 if self.n_buckets <= 1 << 16 else 4

    def identity(self) -> dict[str, Any]:
        """What determines the buckets of a text, for naming work that was done with them."""
        tokenizer = file_sha256(self.tokenizer) if self.tokenizer else None
        return asdict(self) | {"tokenizer": tokenizer, "unicode": unicodedata.unidata_version}

    def stream(self, texts: Any, *, out: np.ndarray | None = None) -> NgramStream:
        """The buckets of texts, a string array of Arrow or a sequence of str.

        Without ``out`` the buckets are valid until the same thread asks for others.
        """
        from curate.kernels.calls import bucket_stream
        from curate.kernels.text import string_buffers

        if not isinstance(texts, (pa.Array, pa.ChunkedArray)):
            texts = string_array(texts)
        if self.tokenizer:
            return self._piece_stream(texts)
        data, offsets = string_buffers(texts)
        return bucket_stream(
            data,
            offsets,
            n=self.n,
            n_buckets=self.n_buckets,
            seed=self.hash_seed,
            sha256=self.hash == "sha256",
            out=out,
        )

    def _piece_stream(self, texts: Any) -> NgramStream:
        from curate.kernels.calls import id_stream

        assert self.tokenizer is not None
        processor = sentencepiece(self.tokenizer)
        pieces = processor.encode([t or "" for t in texts.to_pylist()], out_type=int, num_threads=1)
        offsets = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum([len(p) for p in pieces], out=offsets[1:])
        ids = np.fromiter((i for p in pieces for i in p), np.int32, offsets[-1])
        hashes = _piece_hashes(self.tokenizer, self.hash_seed)
        return id_stream(ids, offsets, hashes, n=self.n, n_buckets=self.n_buckets)


def string_array(texts: Sequence[str]) -> pa.Array:
    """Arrow strings of Python ones.

    Raises
    ------
    InputError : an item is no text, or holds half of a surrogate pair.
    """
    try:
        return pa.array(texts, pa.large_string())
    except (UnicodeEncodeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"a text cannot be written as UTF-8 ({error})") from error


_loading = threading.Lock()


def sentencepiece(path: str) -> Any:
    """The SentencePiece model at a path, loaded once.

    Raises
    ------
    InputError : there is none.
    """
    with _loading:
        return _load_sentencepiece(path)


@cache
def _load_sentencepiece(path: str) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=path)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: not a SentencePiece model ({error})") from error


@cache
def _piece_hashes(path: str, seed: int) -> np.ndarray:
    from curate.kernels.calls import hash_strings
    from curate.kernels.text import string_buffers

    processor = sentencepiece(path)
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    return hash_strings(*string_buffers(pa.array(pieces, pa.large_string())), seed)


@cache
def file_sha256(path: str) -> str:
    """SHA-256 of a local file.

    Raises
    ------
    InputError : it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
