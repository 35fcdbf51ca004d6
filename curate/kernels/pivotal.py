"""Sampling with given inclusion probabilities, one document after another in constant memory."""

from __future__ import annotations

from curate.kernels.compiled import kernel

CERTAIN = 1e-12  # probabilities this near to 0 or 1 are 0 or 1: rounding must not ask for a random number


@kernel
def pivotal(chances, first, uniforms, carry, at, winners):
    """Order-sequential pivotal sampling; see `curate.sampling.pivotal` for what it takes and gives.

    ``carry``: float64[1], the chance of the live document; ``at``: int64[2], its place (-1: there is none), and
    the pairs that were decided in this call. Returns how many of ``winners`` are filled in.
    """
    p, live = carry[0], at[0]
    n_pairs = n_winners = 0
    for i in range(len(chances)):
        b = chances[i]
        if b <= CERTAIN:
            continue
        if b >= 1 - CERTAIN:
            winners[n_winners] = first + i
            n_winners += 1
            continue
        if live < 0:
            p, live = b, first + i
            continue
        u = uniforms[n_pairs]
        n_pairs += 1
        total = p + b
        if total < 1:
            if not u < p / total:
                live = first + i
            p = total
        else:
            winner = first + i
            if u < (1 - b) / (2 - total):
                winner, live = live, winner
            winners[n_winners] = winner
            n_winners += 1
            p = total - 1
        if p >= 1 - CERTAIN:
            winners[n_winners] = live
            n_winners += 1
            live = -1
        elif p <= CERTAIN:
            live = -1
    carry[0], at[0], at[1] = p, live, n_pairs
    return n_winners


@kernel
def systematic(chances, first, carry, winners):
    """Systematic sampling: a document wins where the running sum of chances passes a whole number.

    ``carry``: float64[1], the fraction of that sum, 1 - u at first. Returns how many of ``winners`` are filled in.
    """
    fraction = carry[0]
    n_winners = 0
    for i in range(len(chances)):
        fraction += chances[i]
        if fraction >= 1:
            fraction -= 1
            winners[n_winners] = first + i
            n_winners += 1
    carry[0] = fraction
    return n_winners
