"""From texts to the buckets of their n-grams, and from buckets to counts and log importance weights.

Order of the n-grams of a document: token by token, and at each token the n-grams that end there from
order 1 up. Sums over a document run in four lanes (n-gram i goes to lane i mod 4, then
``(0 + 1) + (2 + 3)``), which the processor overlaps; every path sums so, hence to the same last bit.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.hashing import K1, K2, K3, K4, extend, hash_bytes
from curate.kernels.sha256 import sha256_buckets
from curate.kernels.tokens import ONE, PADDING, SIXTY_THREE, ZERO, class_masks, fold, spans
from curate.kernels.vector import fold_product, high_product, load_u64, trailing_zeros

SEGMENT_BYTES = 1 << 15  # what is worked on at a time, so that it stays in the processor's first caches
EIGHT = np.uint64(8)


@kernel
def capacity(n_bytes):
    """Bytes that a document of ``n_bytes`` needs when lowered (U+0130 grows from 2 to 3), with padding."""
    return n_bytes + n_bytes // 2 + PADDING


@kernel
def hash_tokens(folded, starts, ends, n_tokens, state, hashes):
    """The hash of every token; short ones, nearly all, without a loop."""
    for t in range(n_tokens):
        start = starts[t]
        length = ends[t] - start
        if length <= 8:
            word = load_u64(folded, start) & (~np.uint64(0) >> (np.uint64(64) - EIGHT * np.uint64(length)))
            hashes[t] = fold_product(fold_product((state ^ np.uint64(length)) ^ word, K1) ^ K4, K2)
        else:
            hashes[t] = hash_bytes(folded, start, start + length, state)


@kernel
def hash_buckets(hashes, n_tokens, n, n_buckets, grams, seen, out, at):
    """The buckets of all n-grams of orders 1..n that end in a row of tokens; returns the next position.

    ``bucket = high 64 bits of hash * n_buckets``. ``grams[i]`` is the hash of the n-gram of order i + 1
    that ended at the token before, of which the document had ``seen``: a document may come in pieces.
    """
    for i in range(n_tokens):
        token = hashes[i]
        top = min(n - 1, seen + i)
        for order in range(top, 0, -1):
            grams[order] = extend(grams[order - 1], token)
        grams[0] = token
        for order in range(top + 1):
            out[at] = high_product(grams[order], n_buckets)
            at += 1
    return at


@kernel
def _token_and_pair(folded, start, end, state, before, n_buckets, out, at):
    """Write the buckets of a token and of it with the one before; returns the token's hash."""
    length = end - start
    if length <= 8:
        word = load_u64(folded, start) & (~np.uint64(0) >> (np.uint64(64) - EIGHT * np.uint64(length)))
        token = fold_product(fold_product((state ^ np.uint64(length)) ^ word, K1) ^ K4, K2)
    else:
        token = hash_bytes(folded, start, end, state)
    out[at] = high_product(token, n_buckets)
    out[at + 1] = high_product(fold_product(before ^ K2, token ^ K3), n_buckets)
    return token


@kernel
def bigram_buckets(folded, classes, n_bytes, state, before, seen, n_buckets, out, at):
    """`spans`, `hash_tokens` and `hash_buckets` in one loop for n = 2, the default: a quarter faster.

    ``before`` is the hash of the token before, of which the document had ``seen``. Returns the hash of
    the last token, the next position in ``out`` and the number of tokens.
    """
    word_before = punctuation_before = ZERO
    start = count = 0
    for base in range(0, n_bytes, 64):
        word, punctuation = class_masks(folded, classes, base, n_bytes)
        after_word = (word << ONE) | word_before
        after_punctuation = (punctuation << ONE) | punctuation_before
        starts = (word & ~after_word) | (punctuation & ~after_punctuation)
        ends = (after_word & ~word) | (after_punctuation & ~punctuation)
        if not word_before | punctuation_before:  # no token comes in from the step before
            start = base + trailing_zeros(starts)
            starts &= starts - ONE
        while ends:
            end = base + trailing_zeros(ends)
            before = _token_and_pair(folded, start, end, state, before, n_buckets, out, at)
            at += 2 if seen + count else 1  # the first token of a document ends no bigram
            count += 1
            start = base + trailing_zeros(starts)
            ends &= ends - ONE
            starts &= starts - ONE
        word_before, punctuation_before = word >> SIXTY_THREE, punctuation >> SIXTY_THREE
    if word_before | punctuation_before:
        before = _token_and_pair(folded, start, n_bytes, state, before, n_buckets, out, at)
        at += 2 if seen + count else 1
        count += 1
    return before, at, count


@kernel
def lane_sum(table, buckets, start, stop):
    """Sum of ``table`` over ``buckets[start:stop]``, in four lanes."""
    a = b = c = d = 0.0
    i = start
    while i + 4 <= stop:
        a += table[buckets[i]]
        b += table[buckets[i + 1]]
        c += table[buckets[i + 2]]
        d += table[buckets[i + 3]]
        i += 4
    if i < stop:
        a += table[buckets[i]]
    if i + 1 < stop:
        b += table[buckets[i + 1]]
    if i + 2 < stop:
        c += table[buckets[i + 2]]
    return (a + b) + (c + d)


@kernel
def segment_end(data, start, stop):
    """Where a long document can be cut: white space ends every token, and every context of `str.lower`."""
    i = start + SEGMENT_BYTES
    while i < stop and not (9 <= data[i] <= 13 or 28 <= data[i] <= 32):
        i += 1
    return min(i, stop)


@kernel
def room(data, offsets, cut):
    """Bytes that the longest document needs in the workspace, or with ``cut`` the longest segment of one."""
    longest = 0
    for doc in range(len(offsets) - 1):
        position, stop = offsets[doc], offsets[doc + 1]
        while position < stop:
            end = segment_end(data, position, stop) if cut else stop
            longest = max(longest, end - position)
            position = end
    return capacity(longest)


@kernel
def hashed_stream(data, offsets, tables, n, n_buckets, state, work, buckets, ends, n_tokens):
    """The buckets of documents by the fast hash; ``work`` is a `Workspace`. Returns how many."""
    at = 0
    for doc in range(len(offsets) - 1):
        position, stop, seen, last = offsets[doc], offsets[doc + 1], 0, ZERO
        while position < stop:
            end = segment_end(data, position, stop)
            size = fold(data, position, end, tables, work.folded, work.classes, work.tail)
            if n == 2:
                last, at, count = bigram_buckets(
                    work.folded, work.classes, size, state, last, seen, n_buckets, buckets, at
                )
            else:
                count = spans(work.folded, work.classes, size, work.starts, work.stops)
                hash_tokens(work.folded, work.starts, work.stops, count, state, work.hashes)
                at = hash_buckets(work.hashes, count, n, n_buckets, work.grams, seen, buckets, at)
            seen += count
            position = end
        ends[doc] = at
        n_tokens[doc] = seen
    return at


@kernel
def sha256_stream(data, offsets, tables, n, n_buckets, state, powers, known, work, buckets, ends, n_tokens):
    """As `hashed_stream`, with the reference's buckets."""
    at = 0
    for doc in range(len(offsets) - 1):
        size = fold(data, offsets[doc], offsets[doc + 1], tables, work.folded, work.classes, work.tail)
        count = spans(work.folded, work.classes, size, work.starts, work.stops)
        hash_tokens(work.folded, work.starts, work.stops, count, state, work.hashes)
        at = sha256_buckets(work, count, n, n_buckets, powers, known, buckets, at)
        ends[doc] = at
        n_tokens[doc] = count
    return at


@kernel
def id_stream(ids, offsets, id_hashes, n, n_buckets, hashes, grams, buckets, ends):
    """As `hashed_stream`, of token ids; ``hashes`` and ``grams`` are scratch."""
    at = 0
    for doc in range(len(offsets) - 1):
        count = offsets[doc + 1] - offsets[doc]
        for t in range(count):
            hashes[t] = id_hashes[ids[offsets[doc] + t]]
        at = hash_buckets(hashes, count, n, n_buckets, grams, 0, buckets, at)
        ends[doc] = at
    return at


@kernel
def sums(buckets, ends, table, out):
    start = 0
    for doc in range(len(ends)):
        out[doc] = lane_sum(table, buckets, start, ends[doc])
        start = ends[doc]


@kernel
def sums_by_table(buckets, ends, which, tables, out):
    start = 0
    for doc in range(len(ends)):
        out[doc] = lane_sum(tables[which[doc]], buckets, start, ends[doc])
        start = ends[doc]


@kernel
def counts_by_level(buckets, ends, levels, lowest, counts):
    start = 0
    for doc in range(len(ends)):
        level = levels[doc]
        if level >= lowest:
            row = counts[level]
            for i in range(start, ends[doc]):
                row[buckets[i]] += 1
        start = ends[doc]


@kernel
def moments(buckets, ends, touched, counts, squares, products):
    start = 0
    for doc in range(len(ends)):
        length = ends[doc] - start
        for i in range(start, ends[doc]):
            touched[buckets[i]] += 1
        for i in range(start, ends[doc]):
            b = buckets[i]
            c = touched[b]
            if c:
                counts[b] += c
                squares[b] += c * c
                products[b] += c * length
                touched[b] = 0
        start = ends[doc]
