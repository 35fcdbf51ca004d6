"""Keys that occur more than once, similarities of sets, and who stays where some are near duplicates of others."""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.hashing import K1
from curate.kernels.shingles import in_common

ONE, THREE, SIX, SIXTY_THREE = np.uint64(1), np.uint64(3), np.uint64(6), np.uint64(63)
BIT, SEVEN = np.uint8(1), np.uint64(7)


@kernel
def mark(keys, shift, once, again):
    """Set the bit of each key's slot in ``once`` (uint64 words), or in ``again`` where it is set there."""
    for i in range(len(keys)):
        slot = (keys[i] * K1) >> shift
        word, bit = slot >> SIX, ONE << (slot & SIXTY_THREE)
        if once[word] & bit:
            again[word] |= bit
        else:
            once[word] |= bit


@kernel
def marked(keys, shift, again, out):
    """Which keys' slots are set in ``again``."""
    for i in range(len(keys)):
        slot = (keys[i] * K1) >> shift
        out[i] = (again[slot >> SIX] >> (slot & SIXTY_THREE)) & ONE


@kernel
def clear(bits, places):
    """Clear bits (uint8 words) at some places."""
    for i in range(len(places)):
        bits[places[i] >> THREE] &= ~(BIT << np.uint8(places[i] & SEVEN))


@kernel
def jaccard_between(offsets_a, hashes_a, offsets_b, hashes_b, pairs, threshold, out):
    """Size of the intersection by that of the union, of a set of each side; 0 where sizes alone say less than that."""
    for p in range(len(out)):
        i, i_stop = offsets_a[pairs[p, 0]], offsets_a[pairs[p, 0] + 1]
        j, j_stop = offsets_b[pairs[p, 1]], offsets_b[pairs[p, 1] + 1]
        n_a, n_b = i_stop - i, j_stop - j
        out[p] = 0.0
        if min(n_a, n_b) == 0 or min(n_a, n_b) / max(n_a, n_b) < threshold:
            continue
        shared = in_common(hashes_a, i, i_stop, hashes_b, j, j_stop)
        out[p] = shared / (n_a + n_b - shared)


@kernel
def keep_centres(later, earlier, similarity, kept, open_group, open_similarity, removed, centre, centre_similarity):
    """Go through edges in the order of (later, earlier), and remove who has a kept neighbour.

    ``kept``: bits of documents by rank, cleared where one is removed. ``open_group``: int64[2], the later document
    that the edges before ended with and its centre (-1: none), ``open_similarity``: float64[1], since its edges may
    go on. Returns how many of the last three are filled in: who was removed, the most similar kept neighbour (of
    equally similar ones the earlier), and that similarity.
    """
    n = 0
    group, best, best_similarity = open_group[0], open_group[1], open_similarity[0]
    for i in range(len(later)):
        if later[i] != group:
            if best >= 0:
                removed[n], centre[n], centre_similarity[n] = group, best, best_similarity
                n += 1
            group, best, best_similarity = later[i], -1, -1.0
        e = np.uint64(earlier[i])
        if (kept[e >> THREE] >> np.uint8(e & SEVEN)) & BIT:
            d = np.uint64(group)
            kept[d >> THREE] &= ~(BIT << np.uint8(d & SEVEN))
            if similarity[i] > best_similarity:
                best, best_similarity = earlier[i], similarity[i]
    open_group[0], open_group[1], open_similarity[0] = group, best, best_similarity
    return n
