"""Randomness that is a function of a seed and a document's id, so that it depends on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

# What a hash is for; each purpose is independent of the others. Those from EVIDENCE on are its arms'.
FIT, GUMBEL, UNIFORM, TIE, HOLDOUT, EVIDENCE = range(1, 7)
ORDER, PAIR = 1001, 1002
TRAIN, TRAIN_ROUND, MEMBERS = 2001, 2002, 2003
HALF = 1201  # of a model that does not read what it judges


def keyed_hashes(doc_ids: Any, seed: int, purpose: int) -> np.ndarray:
    """uint64[n_docs] from (seed, purpose, doc_id)."""
    from curate.kernels.calls import hash_strings
    from curate.kernels.text import string_buffers

    key = (seed * 0x9E3779B97F4A7C15 + purpose * 0xD6E8FEB86659FD93) % (1 << 64)
    hashes = hash_strings(*string_buffers(doc_ids), key)
    return mix(hashes)


def mix(hashes: np.ndarray) -> np.ndarray:
    """A last stirring of 64-bit hashes (the finaliser of SplitMix64), so that every bit is fair."""
    h = hashes.copy()
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def uniform(doc_ids: Any, seed: int, purpose: int = UNIFORM) -> np.ndarray:
    """float64[n_docs] in the open interval (0, 1)."""
    return centred(keyed_hashes(doc_ids, seed, purpose))


def centred(hashes: np.ndarray) -> np.ndarray:
    """The middle of one of 2**52 equal parts of (0, 1), by the top bits of 64: exact, so never 0 or 1."""
    return ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def stream(seed: int, purpose: int, first: int, n: int) -> np.ndarray:
    """float64[n] in (0, 1): numbers ``first`` to ``first + n`` of an endless row that (seed, purpose) names.

    SplitMix64 (Steele, Lea and Flood 2014): a counter that is stirred; any part of it is had without the rest.
    """
    start = np.uint64(seed * 0x9E3779B97F4A7C15 + purpose * 0xD6E8FEB86659FD93 & 0xFFFFFFFFFFFFFFFF)
    counter = np.arange(first + 1, first + n + 1, dtype=np.uint64)
    return centred(mix(mix(np.array([start]))[0] + counter * np.uint64(0x9E3779B97F4A7C15)))


def gumbel(doc_ids: Any, seed: int) -> np.ndarray:
    """float64[n_docs], standard Gumbel."""
    return -np.log(-np.log(uniform(doc_ids, seed, GUMBEL)))


def levels(doc_ids: Any, n_levels: int) -> np.ndarray:
    """int64[n_docs]: level 0 for half of the ids, 1 for a quarter, ...: those of level >= l are a 2**-l sample."""
    hashes = keyed_hashes(doc_ids, 0, FIT)
    lengths = np.zeros(len(hashes), np.int64)
    for bit in range(1, n_levels):
        lengths += hashes < (np.uint64(1) << np.uint64(64 - bit))
    return lengths
