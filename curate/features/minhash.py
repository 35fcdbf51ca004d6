"""MinHash: short signatures of sets, which agree in as large a share of places as the sets are alike.

Broder, "On the resemblance and containment of documents" (1997). Bands of a signature find the candidates for near
duplicates: Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from curate.errors import UsageError, unknown
from curate.features.shingles import ShingleSets
from curate.kernels.calls import start_state
from curate.kernels.native import Kernel

MAX_PERM = 4096
MISSED = 0.005  # the share of pairs at the threshold that share no band, at most
SCHEMES = ("affine32", "legacy")
EMPTY = np.uint32(0xFFFFFFFF)
_MERSENNE = np.uint64((1 << 61) - 1)
_sign, _sign_modulo, _band_keys = (Kernel("signing", name) for name in ("sign", "sign_modulo", "band_keys"))


class MinHash:
    """Signatures of sets of hashes.

    A place of a signature is the least of ``(a * h + b) mod 2**32`` over the set, with an odd ``a`` and a ``b`` of its
    own: each is a permutation of the 32-bit numbers, 16 of which a processor works out at a time (27 ms for 8.6 million
    shingles and 128 places, on one core). ``h`` is the high half of a hash that is mixed well, without which such
    permutations would not do. Permutations are those of datasketch 2 for the same seed.

    Parameters
    ----------
    num_perm : places of a signature, 1 to 4,096. seed : of the permutations, 0 to 2**32 - 1.
    compat : signatures equal to datasketch's, value for value, of sets made by `sha1_sets`: True or "affine32" for its
        version 2, "legacy" for what it wrote before, ``((a * h + b) mod 2**64 mod (2**61 - 1)) mod 2**32``.

    Raises
    ------
    UsageError : a parameter is out of range.
    """

    def __init__(self, num_perm: int = 128, seed: int = 1, compat: bool | str = False) -> None:
        if not 1 <= num_perm <= MAX_PERM:
            raise UsageError(f"num_perm={num_perm}: a signature has 1 to {MAX_PERM:,} places")
        if not 0 <= seed < 1 << 32:
            raise UsageError(f"seed={seed}: must be 0 to 2**32 - 1")
        self.num_perm, self.seed = num_perm, seed
        self.compat = "affine32" if compat is True else compat
        if self.compat and self.compat not in SCHEMES:
            raise unknown("scheme of permutations", str(compat), SCHEMES)
        self.factors, self.terms = _permutations(num_perm, seed, self.compat == "legacy")

    def signatures(self, sets: ShingleSets) -> np.ndarray:
        """uint32[n_docs, num_perm]; 2**32 - 1 everywhere of an empty set."""
        out = np.empty((len(sets.offsets) - 1, self.num_perm), np.uint32)
        hashes = sets.hashes
        if self.compat == "legacy":
            _sign_modulo(hashes, sets.offsets, self.factors, self.terms, out)
            return out
        if self.compat:
            hashes = _murmur_finish(hashes.astype(np.uint32)).astype(np.uint64) << np.uint64(32)
        _sign(hashes, sets.offsets, self.factors, self.terms, out)
        return out


def _permutations(num_perm: int, seed: int, legacy: bool) -> tuple[np.ndarray, np.ndarray]:
    """Factors and terms, drawn as datasketch draws them."""
    random = np.random.RandomState(seed)
    if legacy:
        low = np.array([1, 0], np.uint64)
        drawn = [[random.randint(at, _MERSENNE, dtype=np.uint64) for at in low] for _ in range(num_perm)]
        factors, terms = np.array(drawn, np.uint64).T
        return np.ascontiguousarray(factors), np.ascontiguousarray(terms)
    factors = random.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return factors, random.randint(0, 1 << 32, num_perm, dtype=np.uint32)


def _murmur_finish(h: np.ndarray) -> np.ndarray:
    """The finalizer of MurmurHash3, of uint32."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    return h ^ (h >> np.uint32(16))


def sha1_sets(sets: Iterable[Iterable[bytes]]) -> ShingleSets:
    """What datasketch hashes the items of sets to: the first four bytes of their SHA-1."""
    hashed = [
        np.unique(np.array([int.from_bytes(hashlib.sha1(item).digest()[:4], "little") for item in items], np.uint64))
        for items in sets
    ]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(one) for one in hashed], dtype=np.int64)])
    return ShingleSets(offsets, np.concatenate([np.empty(0, np.uint64), *hashed]))


def estimated_jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64[...]: the share of places at which signatures agree, of standard error ``sqrt(J (1 - J) / num_perm)``.

    Empty sets have nothing in common: 0, as of `jaccard_of_pairs`.

    Parameters
    ----------
    a, b : uint32[..., num_perm]
    """
    a, b = np.asarray(a), np.asarray(b)
    empty = np.all(a == EMPTY, axis=-1) & np.all(b == EMPTY, axis=-1)
    return np.where(empty, 0.0, np.mean(a == b, axis=-1))


# ---- bands


def band_keys(signatures: np.ndarray, bands: int, rows: int, offsets: np.ndarray, seed: int = 1) -> np.ndarray:
    """uint64[n_docs, bands]: a hash of each band of a signature; 0 of documents whose set is empty.

    Those are not alike, so leave them out before keys are compared.

    Parameters
    ----------
    signatures : uint32[n_docs, at least bands * rows]. offsets : int64[n_docs + 1], of the sets.
    """
    if bands * rows > signatures.shape[1]:
        raise UsageError(f"{bands} bands of {rows} rows: a signature has {signatures.shape[1]} places")
    out = np.empty((len(signatures), bands), np.uint64)
    _band_keys(signatures, bands, rows, start_state(seed), offsets, out)
    return out


def chance_of_candidate(jaccard: float, bands: int, rows: int) -> float:
    """That two sets share a band: ``1 - (1 - J**rows)**bands``."""
    return float(1 - (1 - jaccard**rows) ** bands)


def bands_and_rows(threshold: float, num_perm: int = 128) -> tuple[int, int]:
    """Bands and rows that miss few of the pairs at a threshold: at most one in 200, where any do.

    Candidates are verified, so those below the threshold cost only time; what is missed stays missed. Hence the most
    rows, which make the fewest candidates, that miss at most 0.5% of pairs exactly at the threshold, less of those
    above. 0.7 with 128 places: 32 bands of 4 rows, which miss 0.015%; 25 of 5 would miss 1%.
    """
    _check_threshold(threshold)
    for rows in range(num_perm, 1, -1):
        bands = num_perm // rows
        if 1 - chance_of_candidate(threshold, bands, rows) <= MISSED:
            return bands, rows
    return num_perm, 1


def lsh_params(threshold: float, num_perm: int = 128, weights: Sequence[float] = (0.5, 0.5)) -> tuple[int, int]:
    """Bands and rows as datasketch chooses them: those of the least weighted area of false positives and negatives.

    0.7 with 128 places: 14 bands of 9 rows, which miss 56% of the pairs at the threshold (see `bands_and_rows`).

    Parameters
    ----------
    weights : of false positives, ``integral of 1 - (1 - s**r)**b from 0 to threshold``, and of false negatives,
        ``integral of (1 - s**r)**b from threshold to 1``.
    """
    _check_threshold(threshold)
    nodes, node_weights = np.polynomial.legendre.leggauss(num_perm // 2 + 1)  # exact of polynomials of this degree
    nodes, node_weights = (nodes + 1) / 2, node_weights / 2
    below, above = threshold * nodes, threshold + (1 - threshold) * nodes
    best, chosen = np.inf, (0, 0)
    for bands in range(1, num_perm + 1):
        rows = np.arange(1, num_perm // bands + 1)[:, None]
        false_positive = threshold * (1 - (1 - below**rows) ** bands) @ node_weights
        false_negative = (1 - threshold) * (1 - above**rows) ** bands @ node_weights
        errors = weights[0] * false_positive + weights[1] * false_negative
        least = int(np.argmin(errors))
        if errors[least] < best:
            best, chosen = errors[least], (bands, least + 1)
    return chosen


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold={threshold}: a Jaccard similarity is above 0 and at most 1")
