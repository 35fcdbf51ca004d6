"""Where documents say what evaluation items say: word for word, or nearly.

A word is a run of letters and digits in lower case; a character of a script that is written without spaces is one by
itself. Where ``ANCHOR`` words in a row of a document are in an item, the two are laid beside each other there and
followed to both sides as long as more words agree than not: a segment, as in BLAST (Altschul et al., 1990). What the
segments of an item cover within a stretch of a document about twice the item's length is what is judged.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.hashing import K2, K3, hash_bytes
from curate.kernels.tokens import ONE, SIXTY_THREE, ZERO, decode, emit
from curate.kernels.unicode import CHANGES, EXPANDS, WORD
from curate.kernels.vector import (
    alnum_mask,
    bit0_mask,
    bit1_mask,
    bit2_mask,
    fold_ascii,
    fold_product,
    high_mask,
    trailing_zeros,
)

ANCHOR = 5  # words; of 13-word windows with one word in ten changed three in four have five in a row that are not
ROLL = np.uint64(0x9E3779B97F4A7C15)  # odd: the base of the rolling hash
DROP = 5  # how far a segment's words that agree, less those that do not, may fall before it ends
SEGMENT_BYTES = 1 << 15
IN_WORD, BEGINS, ALONE = np.uint8(1), np.uint8(2), np.uint8(4)  # classes of bytes that are not ASCII
SIX, LOW_SIX = np.uint64(6), np.uint64(63)
NUMBER, LIGHT = np.uint64(1), np.uint64(2)  # bits of a word's hash: begins with a digit; that, or a single byte
VERBATIM, EDITED = 1, 2
DONE, MORE_SEGMENTS, MORE_ROWS = 0, 1, 2  # how `find` ends


# ---- words


@kernel
def _alone(point):
    """Whether a character is a word by itself: Thai to Myanmar, Khmer, kana, Han."""
    return (
        0x0E00 <= point < 0x0F00
        or 0x1000 <= point < 0x10A0
        or 0x1780 <= point < 0x1800
        or 0x3005 <= point < 0x3100
        or 0x31F0 <= point < 0x3200
        or 0x3400 <= point < 0x4DC0
        or 0x4E00 <= point < 0xA000
        or 0xF900 <= point < 0xFB00
        or 0xFF66 <= point < 0xFFA0
        or 0x20000 <= point < 0x40000
    )


@kernel
def _width(point):
    """Bytes of a character in UTF-8."""
    return 1 if point < 0x80 else 2 if point < 0x800 else 3 if point < 0x10000 else 4


@kernel
def _fold(data, start, stop, tables, folded, classes, tail):
    """``data[start:stop]`` in lower case, every byte at its place: what would take more or fewer bytes stays."""
    i, end = start, len(data)
    while i < stop:
        k, left = i - start, stop - i
        if i + 64 <= end:
            high = fold_ascii(data, i, folded, k)
        else:
            for j in range(left):
                tail[j] = data[i + j]
            for j in range(left, 64):
                tail[j] = 32
            high = fold_ascii(tail, 0, folded, k)
        i += min(trailing_zeros(high), left, 64)
        while i < stop and data[i] >= 0x80:
            i += _fold_character(data, i, tables, folded, classes, i - start)


@kernel
def _fold_character(data, i, tables, folded, classes, k):
    """Put a character that is not ASCII in its place; returns its bytes."""
    point, size = decode(data, i)
    kind = tables.flags[point]
    word = IN_WORD if kind & WORD else np.uint8(0)
    single = word != 0 and _alone(point)
    for j in range(size):
        folded[k + j] = data[i + j]
        classes[k + j] = word | ALONE if single else word
    if single:
        classes[k] |= BEGINS
    if kind & CHANGES:
        lowered = tables.lower[point]
        if lowered < EXPANDS and _width(lowered) == size:
            for j in range(size - 1, 0, -1):
                folded[k + j] = 0x80 | (lowered & 0x3F)
                lowered >>= 6
            folded[k] = (0xC0 if size == 2 else 0xE0 if size == 3 else 0xF0) | lowered
    return size


@kernel
def _spans(folded, classes, n_bytes, starts, stops, n, first):
    """Append the places of words, from word ``n`` on, moved by ``first``; returns how many words there are then."""
    n_stops = n
    word_before = alone_before = ZERO
    for base in range(0, n_bytes, 64):
        word, high = alnum_mask(folded, base), high_mask(folded, base)
        begins = alone = ZERO
        if high:
            word |= bit0_mask(classes, base) & high
            begins, alone = bit1_mask(classes, base) & high, bit2_mask(classes, base) & high
        if n_bytes - base < 64:
            word &= (ONE << np.uint64(n_bytes - base)) - ONE
        after = (word << ONE) | word_before
        after_alone = (alone << ONE) | alone_before
        begin = word & (~after | begins | (after_alone & ~alone))
        end = after & (~word | begin)
        n = emit(begin, first + base, starts, n)
        n_stops = emit(end, first + base, stops, n_stops)
        word_before, alone_before = word >> SIXTY_THREE, alone >> SIXTY_THREE
    if n_stops < n:
        stops[n_stops] = first + n_bytes
    return n


@kernel
def _hash_words(folded, first, starts, stops, begin, end, state, hashes):
    """The hash of each word, whose lowest two bits say whether it is a NUMBER and whether it is LIGHT."""
    for i in range(begin, end):
        at, stop = starts[i] - first, stops[i] - first
        kind = NUMBER | LIGHT if 48 <= folded[at] <= 57 else LIGHT if stop - at == 1 else ZERO
        hashes[i] = (hash_bytes(folded, at, stop, state) & ~(NUMBER | LIGHT)) | kind


@kernel
def _piece_end(data, start, stop):
    """Where a long document can be cut: white space is in no word."""
    i = start + SEGMENT_BYTES
    while i < stop and not (9 <= data[i] <= 13 or data[i] == 32):
        i += 1
    return min(i, stop)


@kernel
def _words(data, start, stop, tables, state, work):
    """Fill ``starts``, ``stops`` (bytes in the document) and ``hashes`` with its words; returns how many."""
    n, position = 0, start
    while position < stop:
        end = _piece_end(data, position, stop)
        _fold(data, position, end, tables, work.folded, work.classes, work.tail)
        first = position - start
        now = _spans(work.folded, work.classes, end - position, work.starts, work.stops, n, first)
        _hash_words(work.folded, first, work.starts, work.stops, n, now, state, work.hashes)
        n, position = now, end
    return n


@kernel
def word_stream(data, offsets, tables, state, work, hashes, ends):
    """The hashes of the words of all texts, and where each text's end; returns how many."""
    at = 0
    for doc in range(len(offsets) - 1):
        n = _words(data, offsets[doc], offsets[doc + 1], tables, state, work)
        for i in range(n):
            hashes[at + i] = work.hashes[i]
        at += n
        ends[doc] = at
    return at


@kernel
def longest(data, offsets):
    """Bytes of the longest piece and of the longest document."""
    piece = whole = 0
    for doc in range(len(offsets) - 1):
        position, stop = offsets[doc], offsets[doc + 1]
        whole = max(whole, stop - position)
        while position < stop:
            end = _piece_end(data, position, stop)
            piece = max(piece, end - position)
            position = end
    return piece * 2**32 + whole


# ---- anchors


@kernel
def _top_power():
    power = ONE
    for _ in range(ANCHOR - 1):
        power *= ROLL
    return power


@kernel
def _mixed(rolled):
    return fold_product(rolled ^ K2, K3)


@kernel
def anchors(hashes, out):
    """The hash of each ``ANCHOR`` words in a row."""
    power, rolled = _top_power(), ZERO
    for i in range(len(hashes)):
        if i >= ANCHOR:
            rolled -= hashes[i - ANCHOR] * power
        rolled = rolled * ROLL + hashes[i]
        if i >= ANCHOR - 1:
            out[i - ANCHOR + 1] = _mixed(rolled)


@kernel
def fill(keys, table, rows, bits):
    """Put keys, all of them different, into an empty table of 2**n places, and into the filter before it."""
    mask, shift = len(table) - 1, np.uint64(64 - trailing_zeros(np.uint64(len(bits) * 64)))
    for row in range(len(keys)):
        key = keys[row]
        bit = key >> shift
        bits[np.int64(bit >> SIX)] |= ONE << (bit & LOW_SIX)
        slot = np.int64(key) & mask
        while rows[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot], rows[slot] = key, row


@kernel
def _row(table, rows, key):
    """The row of a key; -1 where it is not."""
    mask = len(table) - 1
    slot = np.int64(key) & mask
    while rows[slot] >= 0:
        if table[slot] == key:
            return rows[slot]
        slot = (slot + 1) & mask
    return -1


# ---- segments


@kernel
def _follow(hashes, n_words, words, d, g, low, high, step, most):
    """How many words to go on with to one side, so that most more agree than do not; DROP below that it ends."""
    score = best = length = 0
    i = 1
    while i <= most:
        x, y = d + step * i, g + step * i
        if x < 0 or x >= n_words or y < low or y >= high:
            break
        if hashes[x] == words[y]:
            score += 1
            if score > best:
                best, length = score, i
        else:
            score -= 1
            if score <= best - DROP:
                break
        i += 1
    return length


@kernel
def _last_exact(hashes, words, d, g, length):
    """Where in the document the last row of ANCHOR words that agree ends in a segment."""
    run, last = 0, d
    for i in range(length):
        run = run + 1 if hashes[d + i] == words[g + i] else 0
        if run >= ANCHOR:
            last = d + i + 1
    return last


@kernel
def _segments(n_words, index, work):
    """Lay a document beside the items that it shares anchors with; returns numbers of items and of segments.

    An item's segments are a list, in the order of their anchors in the document. -1 segments: there is no room.
    """
    power, rolled = _top_power(), ZERO
    shift = np.uint64(64 - trailing_zeros(np.uint64(len(index.bits) * 64)))
    hashes, words = work.hashes, index.words
    n_items = n = 0
    for i in range(n_words):
        if i >= ANCHOR:
            rolled -= hashes[i - ANCHOR] * power
        rolled = rolled * ROLL + hashes[i]
        if i < ANCHOR - 1:
            continue
        key = _mixed(rolled)
        bit = key >> shift
        if not (index.bits[np.int64(bit >> SIX)] >> (bit & LOW_SIX)) & ONE:
            continue
        row = _row(index.table, index.rows, key)
        if row < 0:
            continue
        d = i - ANCHOR + 1
        for posting in range(index.row_ends[row], index.row_ends[row + 1]):
            g = index.places[posting]
            item = index.item_of[posting]
            new = work.head[item] < 0
            if not new:
                same = d - g == work.diagonal[item] and d + ANCHOR <= work.segment_end[item]
                if same or d + ANCHOR <= work.exact_end[item]:
                    continue
            low, high = index.ends[item], index.ends[item + 1]
            left = _follow(hashes, n_words, words, d, g, low, high, -1, 64)
            right = _follow(hashes, n_words, words, d + ANCHOR - 1, g + ANCHOR - 1, low, high, 1, high - low)
            length = left + ANCHOR + right
            if n == len(work.next):
                return n_items, -1
            work.begin[n], work.place[n], work.length[n], work.next[n] = d - left, g - left - low, length, -1
            if new:
                work.head[item] = n
                work.tally[item] = 0
                work.touched[n_items] = item
                n_items += 1
            else:
                work.next[work.last[item]] = n
            work.last[item] = n
            work.tally[item] += length
            work.diagonal[item] = d - g
            work.segment_end[item] = d + ANCHOR + right
            work.exact_end[item] = _last_exact(hashes, words, d - left, g - left, length)
            n += 1
    return n_items, n


# ---- judging


@kernel
def _varied(low, start, stop, marked, enough, index, work):
    """Whether words of an item, or those ``marked``, have that many different ones that are not LIGHT."""
    n = 0
    for p in range(start, stop):
        word = index.words[low + p]
        if n == enough:
            break
        known = bool(word & LIGHT) or (marked and not work.marks[p])
        for i in range(n):
            known |= work.seen[i] == word
        if not known:
            work.seen[n] = word
            n += 1
    return n >= enough


@kernel
def _n_own(own, start, stop):
    """How many words are the item's own, and no boilerplate."""
    n = 0
    for g in range(start, stop):
        n += own[g] > 0
    return n


@kernel
def _row_says(item, start, stop, index, limits, work):
    """Whether words ``start:stop`` of an item, in a row in a document, are enough to say that it has the item.

    ``ngram`` words that are the item's own, or all of a part of fewer; half as many different ones that are not LIGHT,
    or a quarter where that is the better part of the item: a formula has few.
    """
    low, n = index.ends[item], limits.ngram
    if _n_own(index.own, low + start, low + stop) >= n:
        better_part = stop - start >= limits.coverage * (index.ends[item + 1] - low)
        return _varied(low, start, stop, False, n // 4 if better_part else n // 2, index, work)
    for part in range(index.part_ends[item], index.part_ends[item + 1]):
        first, last = index.part_start[part], index.part_stop[part]
        half = (last - first) // 2
        whole = limits.shortest <= last - first < n and start <= first and last <= stop
        says = whole and _n_own(index.own, low + first, low + last) > half
        if says and _varied(low, first, last, False, half, index, work):
            return True
    return False


@kernel
def _mark(segment, item, index, limits, work):
    """Mark the words of an item that a segment has; whether those in a row are enough."""
    d, p, length = work.begin[segment], work.place[segment], work.length[segment]
    low, run, verbatim = index.ends[item], 0, False
    for i in range(length):
        if work.hashes[d + i] != index.words[low + p + i]:
            run = 0
            continue
        work.marks[p + i] = 1
        run += 1
        ends = i + 1 == length or work.hashes[d + i + 1] != index.words[low + p + i + 1]
        if ends and run >= limits.shortest and not verbatim:
            verbatim = _row_says(item, p + i + 1 - run, p + i + 1, index, limits, work)
    return verbatim


@kernel
def _number_row(index, item, number):
    """Which of an item's different numbers this is; -1: none."""
    first, last = index.number_ends[item], index.number_ends[item + 1]
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if index.numbers[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low - first if low < last and index.numbers[low] == number else -1


@kernel
def _other_numbers(item, first, last, index, limits, work):
    """Whether segments ``first`` to ``last`` say the same with other numbers: at least as many changed as kept.

    A number that is only missing is not changed: another must be there that the item does not have.
    """
    n, low = index.number_ends[item + 1] - index.number_ends[item], index.ends[item]
    if n == 0:
        return False
    for i in range(n):
        work.in_item[i] = work.in_doc[i] = 0
    p_start, p_stop, done, extra, segment = index.ends[item + 1] - low, 0, -1, 0, first
    while True:
        start, length = work.begin[segment], work.length[segment]
        p_start, p_stop = min(p_start, work.place[segment]), max(p_stop, work.place[segment] + length)
        between = done >= 0 and start - done <= limits.ngram
        for d in range(done if between else max(start, done), start + length):
            if work.hashes[d] & NUMBER:
                row = _number_row(index, item, work.hashes[d])
                if row < 0:
                    extra += 1
                else:
                    work.in_doc[row] += 1
        done = max(done, start + length)
        if segment == last:
            break
        segment = work.next[segment]
    for p in range(p_start, p_stop):
        if index.words[low + p] & NUMBER:
            work.in_item[_number_row(index, item, index.words[low + p])] += 1
    kept = missing = 0
    for i in range(n):
        kept += min(work.in_item[i], work.in_doc[i])
        missing += max(0, work.in_item[i] - work.in_doc[i])
        extra += max(0, work.in_doc[i] - work.in_item[i])
    changed = min(extra, missing)
    return changed > 0 and changed >= kept


@kernel
def _covered(low, start, stop, index, work):
    """Half words of an item's own between two places, how many of them are marked, and how many words are."""
    all_halves = halves = n = 0
    for p in range(start, stop):
        weight = np.int64(index.own[low + p])
        all_halves += weight
        if work.marks[p] and weight:
            halves += weight
            n += 1
    return all_halves, halves, n


@kernel
def _edited(item, index, limits, work):
    """Whether enough of an item is marked: of all of it or of a part, or a stretch anywhere."""
    low, size = index.ends[item], index.ends[item + 1] - index.ends[item]
    if not _varied(low, 0, size, True, limits.ngram // 2, index, work):
        return False
    for part in range(index.part_ends[item], index.part_ends[item + 1]):
        start, stop = index.part_start[part], index.part_stop[part]
        if stop - start < limits.ngram:
            continue
        all_halves, halves, n = _covered(low, start, stop, index, work)
        if halves >= 2 * limits.ngram and halves >= limits.coverage * all_halves:
            return True
        if n >= limits.shortest and 2 * halves >= (1 + limits.coverage) * all_halves:
            return True
    if not _varied(low, 0, size, True, limits.ngram, index, work):
        return False
    score = np.int64(0)
    for g in range(low, index.ends[item + 1]):
        weight = np.int64(index.own[g])
        score = max(0, score + (weight if work.marks[g - low] else -weight))
        if score >= 2 * limits.stretch:
            return True
    return False


@kernel
def _write_spans(doc, item, kind, first, last, index, limits, work, out, n):
    """Write a row for each place of a document that segments lie at; returns how many rows there are; -1: no room.

    Segments with no more than ``ngram`` words between them are one place. Those that are shorter than ``shortest``
    words are left out where there are longer ones.
    """
    low, size = index.ends[item], index.ends[item + 1] - index.ends[item]
    all_halves, halves, n_words = _covered(low, 0, size, index, work)
    longest = 0
    for writes in range(2):
        start, stop, segment = work.begin[first], work.begin[first] + work.length[first], first
        while True:
            following = -1 if segment == last else work.next[segment]
            if following >= 0 and work.begin[following] <= stop + limits.ngram:
                start = min(start, work.begin[following])
                stop = max(stop, work.begin[following] + work.length[following])
            else:
                if not writes:
                    longest = max(longest, stop - start)
                elif stop - start >= min(longest, limits.shortest):
                    if n == len(out.doc):
                        return -1
                    out.doc[n], out.item[n], out.kind[n] = doc, item, kind
                    out.coverage[n], out.n_words[n] = halves / all_halves, n_words
                    out.start[n], out.stop[n] = work.starts[start], work.stops[stop - 1]
                    n += 1
                if following >= 0:
                    start, stop = work.begin[following], work.begin[following] + work.length[following]
            if following < 0:
                break
            segment = following
    return n


@kernel
def _judge(doc, item, index, limits, work, out, n):
    """Judge an item by its segments, those of about twice its length at a time; returns as `_write_spans`.

    Such stretches overlap by half, so that a copy with a quarter more words than the item lies in one of them whole.
    """
    size = index.ends[item + 1] - index.ends[item]
    half = size + size // 4 + 8
    segment = work.head[item]
    while segment >= 0:
        start, following, n_words = work.begin[segment], -1, 0
        last = s = segment
        while s >= 0 and work.begin[s] < start + 2 * half:
            n_words += work.length[s]
            if following < 0 and work.begin[s] >= start + half:
                following = s
            last, s = s, work.next[s]
        if n_words >= limits.shortest:  # most are a phrase of five or six words
            kind = _kind(item, segment, last, index, limits, work)
            if kind and not _other_numbers(item, segment, last, index, limits, work):
                n = _write_spans(doc, item, kind, segment, last, index, limits, work, out, n)
            _unmark(segment, last, work)
            if n < 0:
                return n
        segment = following if following >= 0 else s
    return n


@kernel
def _kind(item, first, last, index, limits, work):
    """Mark what segments have of an item; whether that is VERBATIM, EDITED or, as 0, neither."""
    verbatim, segment = _mark(first, item, index, limits, work), first
    while segment != last:
        segment = work.next[segment]
        verbatim |= _mark(segment, item, index, limits, work)
    return VERBATIM if verbatim else EDITED if _edited(item, index, limits, work) else 0


@kernel
def _unmark(first, last, work):
    segment = first
    while True:
        for p in range(work.place[segment], work.place[segment] + work.length[segment]):
            work.marks[p] = 0
        if segment == last:
            break
        segment = work.next[segment]


@kernel
def find(data, offsets, tables, state, index, limits, work, out, at):
    """Rows of ``out`` for the items that documents have, from document ``at[0]`` and row ``at[1]`` on.

    Where there is no room ``at`` says where to go on with more, and what is returned which more: MORE_SEGMENTS or
    MORE_ROWS. DONE: all documents are done.
    """
    for doc in range(at[0], len(offsets) - 1):
        at[0] = doc
        n_words = _words(data, offsets[doc], offsets[doc + 1], tables, state, work)
        n_items, n_segments = _segments(n_words, index, work)
        n = at[1]
        for i in range(n_items):
            item = work.touched[i]
            if n_segments >= 0 and n >= 0 and work.tally[item] >= limits.shortest:
                n = _judge(doc, item, index, limits, work, out, n)
            work.head[item] = -1
        if n_segments < 0:
            return MORE_SEGMENTS
        if n < 0:
            return MORE_ROWS
        at[1] = n
    at[0] = len(offsets) - 1
    return DONE
