"""Greedy coverage: what the n-grams of documents add up to, and counts of those taken; see `curate.sampling.cover`."""

from __future__ import annotations

from curate.kernels.compiled import kernel


@kernel
def arrange(entries, offsets, lowest, seen, out, starts, repeats):
    """Copy a document's first occurrences, then its repeats; entries below ``lowest`` are left out.

    ``seen`` (int64[n_entries], at first 0) has the document, from 1 on, in which an entry was met last. Where each
    document begins goes to ``starts``, where its repeats do to ``repeats``. Overwrites ``entries``.
    """
    at = 0
    for doc in range(len(offsets) - 1):
        starts[doc] = at
        waiting = offsets[doc]  # repeats wait where entries were that have been read
        for i in range(offsets[doc], offsets[doc + 1]):
            entry = entries[i]
            if entry < lowest:
                continue
            if seen[entry] == doc + 1:
                entries[waiting] = entry
                waiting += 1
            else:
                seen[entry] = doc + 1
                out[at] = entry
                at += 1
        repeats[doc] = at
        for i in range(offsets[doc], waiting):
            out[at] = entries[i]
            at += 1
    starts[len(offsets) - 1] = at


@kernel
def sums(entries, starts, repeats, docs, gains, out):
    """For some documents the sum of the gains of what occurs in them, each once."""
    for j in range(len(docs)):
        total = 0.0
        for i in range(starts[docs[j]], repeats[docs[j]]):
            total += gains[entries[i]]
        out[j] = total


@kernel
def add(entries, start, stop, parents, lowest, counts):
    """Count entries, and all that they end in."""
    for i in range(start, stop):
        entry = entries[i]
        while entry >= lowest:
            counts[entry] += 1.0
            entry = parents[entry]


@kernel
def add_parents(parents, lowest, gains):
    """Add to every entry's gain those of all that it ends in."""
    for entry in range(lowest, len(parents)):
        gains[entry] += gains[parents[entry]]
