"""The size that zlib's deflate would give, without making its output: of a text, and of many that begin alike.

The match finder, the blocks and the Huffman trees follow zlib 1.2.11 to 1.3 decision by decision (15-bit
window, memory level 8, default strategy; `deflate_fast`, `deflate_slow`, `longest_match`, `build_tree` and
`_tr_flush_block` there), so that the size is the same to the byte. What is saved: no bit is written, nothing
of 268 kB is copied or cleared for each text, and after a common prefix the tables are put back by taking out
what the last text put in. Positions are absolute; ``base`` is the window's first, which only a slide moves.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.deflating import DISTANCES, HEAP, LITERALS, MAX_DISTANCE, MAX_MATCH, WINDOW
from curate.kernels.vector import load_u16, load_u32, load_u64, trailing_zeros

MIN_MATCH = 3
MIN_LOOKAHEAD = WINDOW - MAX_DISTANCE
SLIDE_AT = WINDOW + MAX_DISTANCE
TOO_FAR = 4096  # a match of 3 bytes from farther away is not worth its distance
BLOCK_SYMBOLS = (1 << 14) - 1
CODE_LENGTHS = 19
END_OF_BLOCK = 256

# good_match, max_lazy, nice_match, max_chain; levels 1 to 3 are greedy
LEVELS = np.array(
    [
        [0, 0, 0, 0],
        [4, 4, 8, 4],
        [4, 5, 16, 8],
        [4, 6, 32, 32],
        [4, 4, 16, 16],
        [8, 16, 32, 32],
        [8, 16, 128, 128],
        [8, 32, 128, 256],
        [32, 128, 258, 1024],
        [32, 258, 258, 4096],
    ],
    np.int64,
)
LENGTH_EXTRA = np.array([0] * 8 + [e for e in range(1, 6) for _ in range(4)] + [0], np.int64)
DISTANCE_EXTRA = np.array([0, 0] + [e for e in range(14) for _ in range(2)], np.int64)
CODE_EXTRA = np.array([0] * 16 + [2, 3, 7], np.int64)
CODE_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)
NO_EXTRA, NO_LENGTHS = np.zeros(0, np.int64), np.zeros(0, np.int64)
STATIC_LITERALS = np.array([8] * 144 + [9] * 112 + [7] * 24 + [8] * 6, np.int64)
STATIC_DISTANCES = np.full(DISTANCES, 5, np.int64)


def _codes(extra: np.ndarray, size: int) -> np.ndarray:
    return np.repeat(np.arange(len(extra)), 1 << extra)[:size].astype(np.uint8)


LENGTH_CODE = np.append(_codes(LENGTH_EXTRA[:-1], MAX_MATCH - MIN_MATCH), np.uint8(28))  # 258 has a code of its own
DISTANCE_CODE = _codes(DISTANCE_EXTRA, WINDOW)

# the state of a compressor, int64[8]
START, LENGTH, MATCH, PENDING, SYMBOLS, BLOCK, BITS, BASE = range(8)


@kernel
def _copy(into, at, of, start, stop):
    """``into[at:] = of[start:stop]``; numba's own takes 20 times as long."""
    for i in range(stop - start):
        into[np.uint64(at + i)] = of[np.uint64(start + i)]


@kernel
def _fill(into, size, value):
    for i in range(size):
        into[i] = value


@kernel
def _sift(heap, size, k):
    """zlib's `pqdownheap`. An item is frequency << 32 | depth << 16 | code, in the order of the first two."""
    v = heap[k]
    key = v >> 16
    j = 2 * k
    while j <= size:
        if j < size and heap[j + 1] >> 16 <= heap[j] >> 16:
            j += 1
        if key <= heap[j] >> 16:
            break
        heap[k] = heap[j]
        k = j
        j *= 2
    heap[k] = v


@kernel
def _build(frequency, n, extra, extra_base, static, longest, lengths, heap, sorted_codes, dad, count):
    """zlib's `build_tree` and `gen_bitlen`: returns (bits, bits by the static tree, highest code used)."""
    size, top, highest = 0, HEAP, -1
    bits = static_bits = 0
    for code in range(n):
        lengths[code] = 0
        if frequency[code]:
            size += 1
            heap[size] = frequency[code] << 32 | code
            highest = code
    while size < 2:
        if highest < 2:
            highest += 1
            forced = highest
        else:
            forced = 0
        size += 1
        heap[size] = 1 << 32 | forced
        frequency[forced] = 1
        bits -= 1
        if len(static):
            static_bits -= static[forced]
    for k in range(size // 2, 0, -1):
        _sift(heap, size, k)
    node = n
    while size >= 2:
        a = heap[1]
        heap[1] = heap[size]
        size -= 1
        _sift(heap, size, 1)
        b = heap[1]
        top -= 2
        sorted_codes[top + 1] = a & 0xFFFF
        sorted_codes[top] = b & 0xFFFF
        depth = max(a & 0xFFFF0000, b & 0xFFFF0000) + 0x10000
        dad[a & 0xFFFF] = dad[b & 0xFFFF] = node
        heap[1] = ((a >> 32) + (b >> 32)) << 32 | depth | node
        node += 1
        _sift(heap, size, 1)
    top -= 1
    sorted_codes[top] = heap[1] & 0xFFFF
    lengths[sorted_codes[top]] = 0
    overflow = 0
    for h in range(top + 1, HEAP):
        code = sorted_codes[h]
        length = lengths[dad[code]] + 1
        if length > longest:
            length = longest
            overflow += 1
        lengths[code] = length
        if code < n:
            more = extra[code - extra_base] if len(extra) and code >= extra_base else 0
            bits += frequency[code] * (length + more)
            if len(static):
                static_bits += frequency[code] * (static[code] + more)
    if overflow:
        bits += _shorten(frequency, n, longest, lengths, sorted_codes, top, overflow, count)
    return bits, static_bits, highest


@kernel
def _shorten(frequency, n, longest, lengths, heap, top, overflow, count):
    """Codes that would be too long are made shorter at the cost of others; returns the bits that costs."""
    for length in range(16):
        count[length] = 0
    for h in range(top + 1, HEAP):
        if heap[h] < n:
            count[lengths[heap[h]]] += 1
    while overflow > 0:
        length = longest - 1
        while count[length] == 0:
            length -= 1
        count[length] -= 1
        count[length + 1] += 2
        count[longest] -= 1
        overflow -= 2
    bits = 0
    h = HEAP
    for length in range(longest, 0, -1):
        left = count[length]
        while left:
            h -= 1
            code = heap[h]
            if code >= n:
                continue
            if lengths[code] != length:
                bits += (length - lengths[code]) * frequency[code]
                lengths[code] = length
            left -= 1
    return bits


@kernel
def _count_lengths(lengths, highest, counts):
    """zlib's `scan_tree`: how often each code length, or repetition of one, is written."""
    before, after, count = -1, lengths[0], 0
    most, least = (138, 3) if after == 0 else (7, 4)
    for code in range(highest + 1):
        now = after
        after = lengths[code + 1] if code < highest else -2
        count += 1
        if count < most and now == after:
            continue
        if count < least:
            counts[now] += count
        elif now != 0:
            if now != before:
                counts[now] += 1
            counts[16] += 1
        elif count <= 10:
            counts[17] += 1
        else:
            counts[18] += 1
        count, before = 0, now
        if after == 0:
            most, least = 138, 3
        elif now == after:
            most, least = 6, 3
        else:
            most, least = 7, 4


@kernel
def _end_block(state, end, literals, distances, trees):
    """Add the bits of a block that ends at ``end``, in the cheapest of the three forms, and begin another."""
    frequency, lengths, lengths_d, heap = trees[0], trees[1], trees[2], trees[3]
    codes, dad, count = trees[4], trees[5], trees[6]
    literals[END_OF_BLOCK] = 1
    _copy(frequency, 0, literals, 0, LITERALS)
    bits, static_bits, highest = _build(
        frequency, LITERALS, LENGTH_EXTRA, END_OF_BLOCK + 1, STATIC_LITERALS, 15, lengths, heap, codes, dad, count
    )
    _copy(frequency, 0, distances, 0, DISTANCES)
    bits_d, static_d, highest_d = _build(
        frequency, DISTANCES, DISTANCE_EXTRA, 0, STATIC_DISTANCES, 15, lengths_d, heap, codes, dad, count
    )
    _fill(frequency, CODE_LENGTHS, 0)
    _count_lengths(lengths, highest, frequency)
    _count_lengths(lengths_d, highest_d, frequency)
    bits_c, _, _ = _build(frequency, CODE_LENGTHS, CODE_EXTRA, 0, NO_LENGTHS, 7, lengths, heap, codes, dad, count)
    last = CODE_LENGTHS - 1
    while last >= 3 and lengths[CODE_ORDER[last]] == 0:
        last -= 1
    bits += bits_d + bits_c + 3 * (last + 1) + 14
    static_bits += static_d
    static_bytes = (static_bits + 10) >> 3
    best = min((bits + 10) >> 3, static_bytes)
    stored = end - state[BLOCK]
    if stored + 4 <= best and state[BLOCK] >= state[BASE]:
        state[BITS] = ((state[BITS] + 3 + 7) >> 3 << 3) + 8 * (4 + stored)
    elif static_bytes == best:
        state[BITS] += 3 + static_bits
    else:
        state[BITS] += 3 + bits
    state[BLOCK] = end
    state[SYMBOLS] = 0
    _fill(literals, LITERALS, 0)
    _fill(distances, DISTANCES, 0)


@kernel
def _hash(text, i):
    word = np.int64(load_u64(text, i))
    return ((word & 0xFF) << 10 ^ (word >> 8 & 0xFF) << 5 ^ (word >> 16 & 0xFF)) & (WINDOW - 1)


@kernel
def _agreement(text, a, b):
    """How many bytes from a and from b on are the same, up to 258."""
    length = 0
    while length < MAX_MATCH:
        other = load_u64(text, a + length) ^ load_u64(text, b + length)
        if other:
            length += trailing_zeros(other) >> 3
            break
        length += 8
    return min(length, MAX_MATCH)


@kernel
def _longest_match(text, end, known, start, base, previous, candidate, before, good, nice, chain):
    """zlib's `longest_match`: ``(length, where)``; length -1 when unknown text after ``end`` would decide."""
    best, at = before, np.int64(0)
    limit = max(base, start - MAX_DISTANCE)
    if before >= good:
        chain >>= 2
    left = end - start
    if known:
        nice = min(nice, left)
    elif best >= left:
        return np.int64(-1), at
    # a match is longer than the best only if the up to 8 bytes that end after as many as the best has agree
    first = max(best - 7, 0)
    mask = ~np.uint64(0) >> np.uint64(64 - 8 * min(best + 1, 8))
    wanted = load_u64(text, start + first) & mask
    while True:
        if load_u64(text, candidate + first) & mask == wanted:
            length = _agreement(text, start, candidate)
            if length > best:
                if not known and length >= left:
                    return np.int64(-1), at
                at = candidate
                best = length
                if length >= nice:
                    break
                first = max(best - 7, 0)
                mask = ~np.uint64(0) >> np.uint64(64 - 8 * min(best + 1, 8))
                wanted = load_u64(text, start + first) & mask
        candidate = load_u32(previous, candidate)
        chain -= 1
        if candidate <= limit or chain == 0:
            break
    return min(best, left), at


@kernel
def _insert(text, at, head, previous):
    """Enter the three bytes at a place into the table; returns where they were last."""
    h = _hash(text, at)
    last = load_u32(head, h)
    previous[np.uint64(at)] = np.uint32(last)
    head[np.uint64(h)] = np.uint32(at)
    return last


@kernel
def _take_back(text, at, head, previous):
    """Undo `_insert`, last in first out; nothing where that place was passed over."""
    h = _hash(text, at)
    if load_u32(head, h) == at:
        head[np.uint64(h)] = previous[np.uint64(at)]


@kernel
def _tally(length, distance, literals, distances):
    literals[np.uint64(END_OF_BLOCK + 1) + np.uint64(LENGTH_CODE[np.uint64(length - MIN_MATCH)])] += 1
    distances[np.uint64(DISTANCE_CODE[np.uint64(distance - 1)])] += 1


@kernel
def _slides(start, base, end, known):
    """Whether zlib moves its window here: 1, 0, or -1 when that depends on what comes after ``end``."""
    at = start - base
    if at < SLIDE_AT:
        return 0
    if at == SLIDE_AT:
        if not known:
            return -1
        return 1 if min(end, base + 2 * WINDOW) - start < MIN_LOOKAHEAD else 0
    return 1


@kernel
def _lazy(text, end, known, state, head, previous, literals, distances, trees, good, lazy, nice, chain):
    """zlib's `deflate_slow` up to ``end``, or while nothing after ``end`` matters when that is not known."""
    start, before, before_at, pending = state[START], state[LENGTH], state[MATCH], state[PENDING]
    symbols, base = state[SYMBOLS], state[BASE]
    while start < end:
        if not known and start + 2 >= end:
            break
        slides = _slides(start, base, end, known)
        if slides < 0:
            break
        length, found, candidate = np.int64(MIN_MATCH - 1), np.int64(0), np.int64(0)
        if start + 2 < end:
            candidate = _insert(text, start, head, previous)
        if slides:
            base += WINDOW
        if candidate > base and before < lazy and start - candidate <= MAX_DISTANCE:
            length, found = _longest_match(
                text, end, known, start, base, previous, candidate, before, good, nice, chain
            )
            if length == MIN_MATCH and start - found > TOO_FAR:
                length = MIN_MATCH - 1
        takes = before >= MIN_MATCH and length <= before
        if not known and (length < 0 or (takes and start + before >= end)):
            _take_back(text, start, head, previous)
            if slides:
                base -= WINDOW
            break
        full = False
        if takes:
            _tally(before, start - 1 - before_at, literals, distances)
            stop = start - 1 + before
            for at in range(start + 1, min(stop, end - 2)):
                _insert(text, at, head, previous)
            pending = 0
            before = MIN_MATCH - 1
            start = block_end = stop
            symbols += 1
            full = symbols == BLOCK_SYMBOLS
        else:
            block_end = start
            if pending:
                literals[np.uint64(text[np.uint64(start - 1)])] += 1
                symbols += 1
                full = symbols == BLOCK_SYMBOLS
            pending = 1
            before, before_at = length, found
            start += 1
        if full:
            state[BASE] = base
            _end_block(state, block_end, literals, distances, trees)
            symbols = 0
    if known and pending:
        literals[np.uint64(text[np.uint64(start - 1)])] += 1
        pending = 0
    state[START], state[LENGTH], state[MATCH], state[PENDING] = start, before, before_at, pending
    state[SYMBOLS], state[BASE] = symbols, base


@kernel
def _greedy(text, end, known, state, head, previous, literals, distances, trees, good, lazy, nice, chain):
    """zlib's `deflate_fast`, as `_lazy`."""
    start, symbols, base = state[START], state[SYMBOLS], state[BASE]
    while start < end:
        if not known and start + 2 >= end:
            break
        slides = _slides(start, base, end, known)
        if slides < 0:
            break
        length, found, candidate = np.int64(MIN_MATCH - 1), np.int64(0), np.int64(0)
        if start + 2 < end:
            candidate = _insert(text, start, head, previous)
        if slides:
            base += WINDOW
        if candidate > base and start - candidate <= MAX_DISTANCE:
            length, found = _longest_match(
                text, end, known, start, base, previous, candidate, length, good, nice, chain
            )
        if not known and (length < 0 or (length >= MIN_MATCH and start + length + MIN_MATCH > end)):
            _take_back(text, start, head, previous)
            if slides:
                base -= WINDOW
            break
        if length >= MIN_MATCH:
            _tally(length, start - found, literals, distances)
            if length <= lazy and end - (start + length) >= MIN_MATCH:
                for at in range(start + 1, start + length):
                    _insert(text, at, head, previous)
            start += length
        else:
            literals[np.uint64(text[np.uint64(start)])] += 1
            start += 1
        symbols += 1
        if symbols == BLOCK_SYMBOLS:
            state[BASE] = base
            _end_block(state, start, literals, distances, trees)
            symbols = 0
    state[START], state[SYMBOLS], state[BASE] = start, symbols, base


@kernel
def _parse(text, end, known, state, head, previous, literals, distances, trees, level):
    good, lazy, nice, chain = LEVELS[level, 0], LEVELS[level, 1], LEVELS[level, 2], LEVELS[level, 3]
    if level <= 3:
        _greedy(text, end, known, state, head, previous, literals, distances, trees, good, lazy, nice, chain)
    else:
        _lazy(text, end, known, state, head, previous, literals, distances, trees, good, lazy, nice, chain)


@kernel
def _finish(text, end, state, head, previous, literals, distances, trees, level):
    """Bytes of the whole stream."""
    _parse(text, end, True, state, head, previous, literals, distances, trees, level)
    _end_block(state, state[START], literals, distances, trees)
    return (state[BITS] + 7) >> 3


# ---- many texts after one
#
# What a text matches within itself is the same after any prefix, so it is found once (`own_matches`). In the
# prefix only candidates that agree in more bytes than the best so far are looked at: chains of places with the
# same 3, 4, 6 or 8 bytes, the newest first as in zlib's. A place's rank among those of its hash by zlib says
# whether zlib would have come so far. All that while no distance is too far and the window does not move.

GRAMS = np.array([3, 4, 6, 8], np.int64)
GRAM_SHIFTS = 0x00102028  # 64 - 8 * GRAMS, a byte each
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
RANK = 4  # which of the tables in ``chains`` has a place's rank, and which in ``heads`` how many there are


@kernel
def _gram_place(text, at, k, shift):
    """Where in ``heads`` the newest place with the same bytes is; without a branch, as k is anyone's guess."""
    word = load_u64(text, at) << np.uint64(GRAM_SHIFTS >> 8 * k & 0xFF)
    return k * WINDOW + np.int64((word * MULTIPLIER) >> np.uint64(shift))


@kernel
def _table_shift(size):
    """For tables of four times as many entries as the prefix has bytes, 2**8 to 2**15: small ones stay near."""
    bits = 8
    while bits < 15 and 1 << bits < 4 * size:
        bits += 1
    return 64 - bits


@kernel
def _own_match(text, end, start, previous, candidate, nice, chain):
    """The longest match within a text itself, as `_longest_match` finds it from 2 bytes on; (0, 0) is none."""
    if candidate < 0:
        return np.int64(0), np.int64(0)
    best, at = np.int64(MIN_MATCH - 1), np.int64(0)
    left = end - start
    nice = min(nice, left)
    while candidate >= 0 and chain > 0:
        length = min(_agreement(text, start, candidate), left)
        if length > best:
            best, at = length, candidate
            if length >= nice:
                break
        candidate = np.int64(previous[candidate])
        chain -= 1
    return (best, start - at) if best >= MIN_MATCH else (np.int64(0), np.int64(0))


@kernel
def own_matches(data, offsets, level, text, head, previous, counts, out):
    """Fill ``out`` (uint64, one a byte) with what texts match in themselves.

    From the lowest bit: length (9 bits) and distance (15) of the match that is found in a whole chain, those
    of the one in a quarter of it, and how many candidates there are (13).
    """
    nice, chain = LEVELS[level, 2], LEVELS[level, 3]
    for k in range(len(offsets) - 1):
        size = offsets[k + 1] - offsets[k]
        if size > MAX_DISTANCE:
            continue
        _copy(text, 0, data, offsets[k], offsets[k + 1])
        _fill(head, WINDOW, -1)
        _fill(counts, WINDOW, 0)
        for at in range(size):
            if at + 2 >= size:
                out[offsets[k] + at] = 0
                continue
            h = _hash(text, at)
            candidate = np.int64(head[h])
            length, distance = _own_match(text, size, at, previous, candidate, nice, chain)
            length_4, distance_4 = _own_match(text, size, at, previous, candidate, nice, chain >> 2)
            packed = length | distance << 9 | length_4 << 24 | distance_4 << 33 | min(counts[h], 8191) << 48
            out[offsets[k] + at] = np.uint64(packed)
            previous[at] = candidate
            head[h] = at
            counts[h] += 1


@kernel
def _enter(text, at, k, shift, heads, chains):
    """Enter a place of the prefix into the chain of its 3, 4, 6 or 8 bytes."""
    place = _gram_place(text, at, k, shift)
    chains[np.uint64(k * WINDOW + at)] = load_u16(heads, place)
    heads[np.uint64(place)] = at
    if k == 0:
        count = RANK * WINDOW + _hash(text, at)
        heads[np.uint64(count)] += 1
        chains[np.uint64(RANK * WINDOW + at)] = heads[np.uint64(count)]


@kernel
def _leave(text, at, k, shift, heads, chains):
    """Undo `_enter`, last in first out."""
    heads[np.uint64(_gram_place(text, at, k, shift))] = load_u16(chains, k * WINDOW + at)
    if k == 0:
        heads[np.uint64(RANK * WINDOW + _hash(text, at))] -= 1


@kernel
def _lazy_after(text, size, end, own, state, shift, heads, chains, literals, distances, trees, level):
    """`_lazy` for a text after a prefix, with what it matches in itself known; returns the stream's bytes."""
    good, lazy, nice, chain = LEVELS[level, 0], LEVELS[level, 1], LEVELS[level, 2], LEVELS[level, 3]
    start, before, before_at, pending = state[START], state[LENGTH], state[MATCH], state[PENDING]
    symbols = state[SYMBOLS]
    while start < end:
        length, found = np.int64(MIN_MATCH - 1), np.int64(0)
        left = end - start
        if left > 2 and before < lazy and before < left and start > 0:
            best, wanted = before, min(nice, left)
            quarter = np.int64(before >= good)
            allowed = chain >> 2 * quarter
            if start >= size:
                packed = np.int64(own[np.uint64(start - size)])
                allowed -= packed >> 48
                packed >>= 24 * quarter
                longer = packed & 511 > best
                best = packed & 511 if longer else best
                found = start - (packed >> 9 & 32767) if longer else found
            # written out here: as a function of its own, a call with its three arrays costs more than the search
            k = np.int64(best >= 3) + np.int64(best >= 5) + np.int64(best >= 7)
            candidate = load_u16(heads, _gram_place(text, start, k, shift))
            if candidate != 0 and allowed > 0 and best < wanted:
                if start < size:
                    lowest_rank = load_u16(chains, RANK * WINDOW + start) - 1 - allowed
                else:
                    lowest_rank = load_u16(heads, RANK * WINDOW + _hash(text, start)) - allowed
                looked = start  # places from here on are done with
                while True:
                    while candidate >= looked:
                        candidate = load_u16(chains, k * WINDOW + candidate)
                    first = max(best - 7, 0)
                    mask = ~np.uint64(0) >> np.uint64(64 - 8 * min(best + 1, 8))
                    same = load_u64(text, start + first) & mask
                    while candidate and load_u64(text, candidate + first) & mask != same:
                        candidate = load_u16(chains, k * WINDOW + candidate)
                    if candidate == 0 or load_u16(chains, RANK * WINDOW + candidate) <= lowest_rank:
                        break
                    agreed = _agreement(text, start, candidate)
                    looked = candidate
                    if agreed > best:
                        best, found = min(agreed, left), candidate
                        if agreed >= wanted:
                            break
                        k = np.int64(best >= 3) + np.int64(best >= 5) + np.int64(best >= 7)
                        candidate = load_u16(heads, _gram_place(text, start, k, shift))
            matters = (best > before) & ((best > MIN_MATCH) | (start - found <= TOO_FAR))
            length = best if matters else length
        if before >= MIN_MATCH and length <= before:
            _tally(before, start - 1 - before_at, literals, distances)
            start = start - 1 + before
            pending = 0
            before = MIN_MATCH - 1
            symbols += 1
            if symbols == BLOCK_SYMBOLS:
                _end_block(state, start, literals, distances, trees)
                symbols = 0
        else:
            literals[np.uint64(text[np.uint64(max(start - 1, 0))])] += pending
            symbols += pending
            if symbols == BLOCK_SYMBOLS:
                _end_block(state, start, literals, distances, trees)
                symbols = 0
            pending = 1
            before, before_at = length, found
            start += 1
    if pending:
        literals[np.uint64(text[np.uint64(start - 1)])] += 1
    _end_block(state, start, literals, distances, trees)
    return (state[BITS] + 7) >> 3


@kernel
def _enter_border(text, size, shift, heads, chains):
    """Enter the places whose 3, 4, 6 or 8 bytes reach from the prefix into the text after it."""
    for k in range(4):
        for at in range(max(1, size - GRAMS[k] + 1), size):
            _enter(text, at, k, shift, heads, chains)


@kernel
def _leave_border(text, size, shift, heads, chains):
    for k in range(4):
        for at in range(size - 1, max(1, size - GRAMS[k] + 1) - 1, -1):
            _leave(text, at, k, shift, heads, chains)


@kernel
def _begin(state, literals, distances, start):
    """A compressor before its first byte, which is at ``start``."""
    _fill(state, len(state), 0)
    state[START] = state[BLOCK] = start
    state[LENGTH] = MIN_MATCH - 1
    _fill(literals, LITERALS, 0)
    _fill(distances, DISTANCES, 0)


@kernel
def joint_sizes(size, others, offsets, which, level, own, work, out):
    """Fill ``out`` with the sizes of ``work.text[:size]`` and each of some others after it."""
    text, head, previous, heads, chains, trees = (
        work.text,
        work.head,
        work.previous,
        work.heads,
        work.chains,
        work.trees,
    )
    state, literals, distances = work.state, work.literals, work.distances
    _fill(head, WINDOW, 0)  # no place: nothing can be matched with the window's first byte
    _begin(state, literals, distances, 0)
    _parse(text, size, False, state, head, previous, literals, distances, trees, level)
    _copy(work.kept_state, 0, state, 0, len(state))
    _copy(work.kept_literals, 0, literals, 0, LITERALS)
    _copy(work.kept_distances, 0, distances, 0, DISTANCES)
    began = state[START]
    shift = _table_shift(size)
    prepared = len(own) > 0 and level > 3 and 0 < size <= MAX_DISTANCE
    if prepared:
        for at in range(RANK * WINDOW, (RANK + 1) * WINDOW):
            heads[at] = 0
        for k in range(4):
            for at in range(k * WINDOW, k * WINDOW + (1 << (64 - shift))):
                heads[at] = 0
        for k in range(4):
            for at in range(1, size - GRAMS[k] + 1):
                _enter(text, at, k, shift, heads, chains)
    for k in range(len(which)):
        start, stop = offsets[which[k]], offsets[which[k] + 1]
        end = size + stop - start
        _copy(text, size, others, start, stop)
        if prepared and end <= MAX_DISTANCE:
            _enter_border(text, size, shift, heads, chains)
            own_of = own[start:stop]
            out[k] = _lazy_after(
                text, size, end, own_of, state, shift, heads, chains, literals, distances, trees, level
            )
            _leave_border(text, size, shift, heads, chains)
        else:
            out[k] = _finish(text, end, state, head, previous, literals, distances, trees, level)
            for at in range(end - MIN_MATCH, began - 1, -1):
                _take_back(text, at, head, previous)
        _copy(state, 0, work.kept_state, 0, len(state))
        _copy(literals, 0, work.kept_literals, 0, LITERALS)
        _copy(distances, 0, work.kept_distances, 0, DISTANCES)


@kernel
def dictionary_sizes(size, data, starts, lengths, level, work, out):
    """Fill ``out`` with the sizes of pieces of ``data`` after the dictionary ``work.text[:size]``."""
    text, head, previous, trees = work.text, work.head, work.previous, work.trees
    state, literals, distances = work.state, work.literals, work.distances
    _fill(head, WINDOW, 0)
    for at in range(size - 2):
        _insert(text, at, head, previous)
    for k in range(len(starts)):
        end = size + lengths[k]
        _copy(text, size, data, starts[k], starts[k] + lengths[k])
        first = max(size - 2, 0)  # their third bytes are the piece's
        for at in range(first, min(size, end - 2)):
            _insert(text, at, head, previous)
        _begin(state, literals, distances, size)
        out[k] = _finish(text, end, state, head, previous, literals, distances, trees, level)
        for at in range(end - MIN_MATCH, first - 1, -1):
            _take_back(text, at, head, previous)
