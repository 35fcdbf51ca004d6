"""What the kernels offer to the rest of the package, as functions of arrays; nothing here needs the compiler."""

from __future__ import annotations

import hashlib

import numpy as np

from curate.kernels.native import Kernel
from curate.kernels.streams import Moments, NgramStream, gram_cache, room_for, workspace
from curate.kernels.unicode import unicode_tables

_seed_state, _hash_each = Kernel("hashing", "seed_state"), Kernel("hashing", "hash_each")
_room, _hashed_stream = Kernel("ngrams", "room"), Kernel("ngrams", "hashed_stream")
_sha256_stream, _id_stream = Kernel("ngrams", "sha256_stream"), Kernel("ngrams", "id_stream")
_sums, _sums_by_table = Kernel("ngrams", "sums"), Kernel("ngrams", "sums_by_table")
_counts_by_level, _moments = Kernel("ngrams", "counts_by_level"), Kernel("ngrams", "moments")
_pivotal, _systematic = Kernel("pivotal", "pivotal"), Kernel("pivotal", "systematic")
_project = Kernel("projection", "project")
_count_newlines, _surrogate_escape = Kernel("jsonl", "count_newlines"), Kernel("jsonl", "surrogate_escape")


def start_state(seed: int) -> np.uint64:
    """The state that hashes of a seed (0 <= seed < 2**64) start from."""
    return np.uint64(_seed_state(np.uint64(seed)))


def hash_strings(data: np.ndarray, offsets: np.ndarray, seed: int) -> np.ndarray:
    """uint64[n] hashes of the strings ``data[offsets[i]:offsets[i + 1]]`` under a seed (0 <= seed < 2**64)."""
    out = np.empty(len(offsets) - 1, np.uint64)
    if len(out):
        first = int(np.searchsorted(offsets[1:], len(data) - 8, side="right"))  # to end in the last 8 bytes
        scratch = np.zeros(int(np.diff(offsets[first:]).max(initial=0)) + 8, np.uint8)
        _hash_each(data, offsets, start_state(seed), scratch, out)
    return out


def bucket_stream(
    data: np.ndarray,
    offsets: np.ndarray,
    *,
    n: int,
    n_buckets: int,
    seed: int = 0,
    sha256: bool = False,
    out: np.ndarray | None = None,
) -> NgramStream:
    """Word-punctuation n-grams of texts, hashed into buckets.

    Parameters
    ----------
    data : uint8[...], the UTF-8 bytes of all texts. offsets : int64[n_docs + 1] into it.
    n : highest order, 1 to 8. seed : of the fast hash. sha256 : the reference package's buckets instead.
    out : where the buckets go; without it into memory that the thread's next call uses again.
    """
    n_docs = len(offsets) - 1
    ends, n_tokens = np.empty(n_docs, np.int64), np.empty(n_docs, np.int64)
    buckets = room_for(int(offsets[-1] - offsets[0]), n, n_buckets, own=False) if out is None else out
    work = workspace(_room(data, offsets, int(not sha256)))
    args = (data, offsets, unicode_tables(), n, np.uint64(n_buckets), start_state(seed))
    if sha256:
        powers = np.array([pow(2, 32 * j, n_buckets) for j in range(8)], np.uint64)
        known = gram_cache(n_buckets, len(data))
        size = _sha256_stream(*args, powers, known, work, buckets, ends, n_tokens)
    else:
        size = _hashed_stream(*args, work, buckets, ends, n_tokens)
    return NgramStream(buckets[:size], ends, n_tokens)


def sha256_bucket(gram: str, n_buckets: int) -> int:
    """The reference package's bucket of one n-gram, by the standard library."""
    return int.from_bytes(hashlib.sha256(gram.encode()).digest(), "big") % n_buckets


def id_stream(ids: np.ndarray, offsets: np.ndarray, id_hashes: np.ndarray, *, n: int, n_buckets: int) -> NgramStream:
    """As `bucket_stream`, from token ids (int32) and the hash of each id's piece (uint64[vocabulary])."""
    ends, n_tokens = np.empty(len(offsets) - 1, np.int64), np.diff(offsets)
    buckets = room_for(len(ids), n, n_buckets, own=True)
    work = workspace(int(n_tokens.max(initial=0)))
    size = _id_stream(ids, offsets, id_hashes, n, np.uint64(n_buckets), work.hashes, work.grams, buckets, ends)
    return NgramStream(buckets[:size], ends, n_tokens)


def sums(buckets: np.ndarray, ends: np.ndarray, table: np.ndarray) -> np.ndarray:
    """float64[n_docs]: the sum of ``table`` (float64[n_buckets]) over each document's buckets."""
    out = np.empty(len(ends))
    _sums(buckets, ends, table, out)
    return out


def sums_by_table(buckets: np.ndarray, ends: np.ndarray, which: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """As `sums`, each document by the one of ``tables`` (float64[n_tables, n_buckets]) that ``which`` (int64) says."""
    out = np.empty(len(ends))
    _sums_by_table(buckets, ends, which, tables, out)
    return out


def add_counts_by_level(stream: NgramStream, levels: np.ndarray, lowest: int, counts: np.ndarray) -> None:
    """Add each document's n-grams to ``counts[level of the document]`` (int64[n_levels, n_buckets]).

    Documents of a level under ``lowest`` are passed over.
    """
    _counts_by_level(stream.buckets, stream.ends, levels, lowest, counts)


def moments(stream: NgramStream, n_buckets: int) -> Moments:
    """What the cluster variance of a bucket distribution needs; add them up over batches."""
    touched, *totals = (np.zeros(n_buckets, np.int64) for _ in range(4))
    _moments(stream.buckets, stream.ends, touched, *totals)
    return Moments(*totals)


def pivotal_winners(
    chances: np.ndarray, first: int, uniforms: np.ndarray, carry: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """int64[...]: places, from ``first`` on, of the documents that pivotal sampling keeps; carries on in its state."""
    winners = np.empty(len(chances) + 1, np.int64)
    return winners[: _pivotal(chances, first, uniforms, carry, at, winners)]


def systematic_winners(chances: np.ndarray, first: int, carry: np.ndarray) -> np.ndarray:
    """As `pivotal_winners`, of systematic sampling."""
    winners = np.empty(len(chances), np.int64)
    return winners[: _systematic(chances, first, carry, winners)]


def project(stream: NgramStream, n_buckets: int, dim: int, nonzeros: int, values: np.ndarray, seed: int) -> np.ndarray:
    """float32[n_docs, dim]: sparse signed projections of documents' n-grams, of unit length (zeros without n-grams).

    Parameters
    ----------
    nonzeros : coordinates that an n-gram adds to, 1 to 4, one in each of as many blocks of coordinates.
    values : float64[at most 65,536], what an n-gram adds by the number of times that the document has it; more
        count as the last.
    """
    borders = np.arange(nonzeros + 1) * dim // nonzeros
    out = np.empty((len(stream.ends), dim), np.float32)
    counts, row = np.zeros(n_buckets, np.uint16), np.empty(dim)
    _project(stream.buckets, stream.ends, start_state(seed), borders, values, counts, row, out)
    return out


def has_surrogate_escape(data: bytes) -> bool:
    r"""Whether ``\ud`` or ``\uD`` is in a text: half of a surrogate pair is written so, and some others are."""
    return bool(_surrogate_escape(np.frombuffer(data, np.uint8))) if data else False


def count_lines(data: bytes) -> int:
    """How many lines there are; the last one need not end."""
    newlines = int(_count_newlines(np.frombuffer(data, np.uint8))) if data else 0
    return newlines + (data[-1:] not in (b"", b"\n"))
