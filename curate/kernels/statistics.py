"""What rules about the quality of texts are made of: counts of characters, words, lines and of what repeats.

A document is copied with spaces behind it and read 64 bytes a step; counts are set bits of masks. Words are what
`str.split` finds, lines are those of ``text.split("\\n")`` that have a word, from their first word to their last,
paragraphs are runs of such lines. What repeats is found by 64-bit hashes, among the first `REPEAT_LIMIT` words, lines
and paragraphs of a document, so that the memory is bounded.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.hashing import extend, hash_bytes
from curate.kernels.measures import (
    ALPHA,
    BULLET,
    CLOSER,
    CONTROL,
    DIGIT,
    FULL_STOP,
    PUNCTUATION,
    REPEAT_LIMIT,
    SPACE,
    UNSPACED,
    Count,
    TokenCount,
)
from curate.kernels.ngrams import hash_tokens, segment_end
from curate.kernels.tokens import ONE, SIXTY_THREE, ZERO, decode, fold, spans
from curate.kernels.vector import (
    backslash_mask,
    bit0_mask,
    bit1_mask,
    bit_count,
    braces_mask,
    code_mask,
    continuation_mask,
    coo_mask,
    copy_64,
    digit_mask,
    ellipsis_mask,
    f_u_mask,
    hash_mask,
    high_mask,
    jav_mask,
    leading_zeros,
    letter_mask,
    load_u64,
    m_i_mask,
    newline_mask,
    pair_mask,
    pol_mask,
    printed_mask,
    space_mask,
    trailing_zeros,
)

C4_WORDS_PER_LINE, C4_WORD_CHARACTERS = 5, 1_000  # Raffel et al. 2020, section 2.2, and their code
SHORT_LINE = 30  # characters, Penedo et al. 2024
LOREM_IPSUM, DROPS_LINE = 1, 2
SEED = np.uint64(0x243F6A8885A308D3)
ALL = ~ZERO
SPLIT_BITS = np.uint64(32)

(
    CHARACTERS, NON_ASCII, LETTERS, DIGITS, SPACES, PUNCTUATIONS, UNSPACEDS, REPLACEMENTS, CONTROLS, CODE_SYMBOLS,
    COMMANDS, BRACES, HASHES, ELLIPSES, LONGEST_RUN, LOREM,
    WORDS, WORD_CHARACTERS, WORDS_WITH_LETTER, STOP_WORDS, SENTENCES,
    NEWLINES, LINES, LINE_CHARACTERS, LONGEST_LINE, BULLET_LINES, ELLIPSIS_LINES, ENDED_LINES, SHORT_LINES,
    INDENTED_LINES, C4_LINES, C4_SENTENCES,
    SEEN_LINES, SEEN_LINE_CHARACTERS, REPEATED_LINES, REPEATED_LINE_CHARACTERS,
    PARAGRAPHS, SEEN_PARAGRAPHS, SEEN_PARAGRAPH_CHARACTERS, REPEATED_PARAGRAPHS, REPEATED_PARAGRAPH_CHARACTERS,
    SEEN_WORDS, SEEN_WORD_CHARACTERS, DISTINCT_WORDS,
    TOP_2, TOP_3, TOP_4, REPEATED_5, REPEATED_6, REPEATED_7, REPEATED_8, REPEATED_9, REPEATED_10,
) = map(int, Count)  # fmt: skip
TOKENS, SEEN_TOKENS, COMMONEST, UNINFORMATIVE, DIGIT_TOKENS, ENGLISH, OTHER = map(int, TokenCount)


# ---- sets of hashes


@kernel
def table_size(n):
    """Slots of a table of ``n`` hashes: a power of two, half of it empty."""
    size = 16
    while size < 2 * n:
        size *= 2
    return size


@kernel
def find(keys, size, key):
    """The slot of a key, or the empty one where it belongs."""
    slot = np.int64((key ^ (key >> SPLIT_BITS)) & np.uint64(size - 1))
    while keys[slot] != ZERO and keys[slot] != key:
        slot = (slot + 1) & (size - 1)
    return slot


@kernel
def is_new(keys, size, key):
    """Whether a hash was not in a set; now it is."""
    key = key if key != ZERO else ONE
    slot = find(keys, size, key)
    if keys[slot] == key:
        return False
    keys[slot] = key
    return True


@kernel
def clear(keys, size):
    for i in range(size):
        keys[i] = ZERO


# ---- phrases


@kernel
def matches(text, at, start, stop, phrases, first, last):
    """Whether ``phrases[first:last]``, in lower case, is at ``text[at:]`` within ``start:stop``, in any case."""
    if at < start or at + last - first > stop:
        return False
    for j in range(last - first):
        byte = text[at + j]
        if 65 <= byte <= 90:
            byte += np.uint8(32)
        if byte != phrases[first + j]:
            return False
    return True


@kernel
def phrases_in(text, start, stop, work):
    """LOREM_IPSUM and DROPS_LINE, as bits: which of C4's phrases a part of a text has.

    Three letters of each phrase are looked for, 64 places at once; then it is compared where they are.
    """
    found = 0
    for base in range(start, stop, 64):
        valid = ALL if stop - base >= 64 else (ONE << np.uint64(stop - base)) - ONE
        jav, m_i, coo = jav_mask(text, base), m_i_mask(text, base), coo_mask(text, base)
        any_of = (jav | m_i | coo | pol_mask(text, base) | f_u_mask(text, base)) & valid
        while any_of:
            at = base + trailing_zeros(any_of)
            any_of &= any_of - ONE
            for p in range(len(work.phrase_probes)):
                first, last = work.phrase_ends[p], work.phrase_ends[p + 1]
                if matches(text, at - work.phrase_probes[p], start, stop, work.phrases, first, last):
                    found |= LOREM_IPSUM if p == 0 else DROPS_LINE
    return found


# ---- words and lines


@kernel
def stop_word_bit(text, start, length):
    """Which of Gopher's eight stop words a word is, as a bit; 0 if none."""
    if length < 2 or length > 4:
        return 0
    bits = np.uint64(8 * length)
    word = (load_u64(text, start) | np.uint64(0x20202020)) & ((ONE << bits) - ONE)
    if length == 2:
        if word == np.uint64(0x6562):  # be
            return 1
        if word == np.uint64(0x6F74):  # to
            return 2
        if word == np.uint64(0x666F):  # of
            return 4
    elif length == 3:
        if word == np.uint64(0x656874):  # the
            return 8
        if word == np.uint64(0x646E61):  # and
            return 16
    else:
        if word == np.uint64(0x74616874):  # that
            return 32
        if word == np.uint64(0x65766168):  # have
            return 64
        if word == np.uint64(0x68746977):  # with
            return 128
    return 0


@kernel
def last_character(text, start, stop):
    """Where the last character of ``text[start:stop]`` begins."""
    at = stop - 1
    while at > start and (text[at] & np.uint8(0xC0)) == np.uint8(0x80):
        at -= 1
    return at


@kernel
def ends_sentence(text, start, stop, kinds):
    """Whether a word ends in a full stop, question or exclamation mark, closing quotes and brackets apart."""
    while stop > start:
        at = last_character(text, start, stop)
        kind = kinds[decode(text, at)[0]]
        if kind & FULL_STOP:
            return True
        if not kind & CLOSER:
            return False
        stop = at
    return False


@kernel
def ends_in_ellipsis(text, start, stop):
    if stop - start < 3:
        return False
    a, b, c = text[stop - 3], text[stop - 2], text[stop - 1]
    return (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@kernel
def end_line(text, start, stop, n_characters, begins, n_words, n_sentences, longest_word, dropping, work, size, count):
    """Add a line to the counts; returns the hash of its text."""
    last = last_character(text, start, stop)
    final, kind = decode(text, last)[0], work.kinds[decode(text, last)[0]]
    ellipsis = ends_in_ellipsis(text, start, stop)
    count[LINES] += 1
    count[LINE_CHARACTERS] += n_characters
    count[LONGEST_LINE] = max(count[LONGEST_LINE], n_characters)
    count[SHORT_LINES] += n_characters <= SHORT_LINE
    count[ELLIPSIS_LINES] += ellipsis
    quote = final == 34 or final == 39 or final == 0x201D or final == 0x2019
    count[ENDED_LINES] += quote or kind & FULL_STOP != 0
    count[BULLET_LINES] += work.kinds[decode(text, start)[0]] & BULLET != 0
    count[INDENTED_LINES] += start - begins >= 2 or (start > begins and text[begins] == 9)
    terminal = final == 46 or final == 63 or final == 33 or final == 34 or final == 0x201D
    whole = terminal and not ellipsis and n_words >= C4_WORDS_PER_LINE and longest_word <= C4_WORD_CHARACTERS
    if whole and not (dropping and phrases_in(text, start, stop, work) & DROPS_LINE):
        count[C4_LINES] += 1
        count[C4_SENTENCES] += max(1, n_sentences)
    key = hash_bytes(text, start, stop, SEED)
    if count[SEEN_LINES] < REPEAT_LIMIT:
        count[SEEN_LINES] += 1
        count[SEEN_LINE_CHARACTERS] += n_characters
        if not is_new(work.lines, size, key):
            count[REPEATED_LINES] += 1
            count[REPEATED_LINE_CHARACTERS] += n_characters
    return key


@kernel
def end_paragraph(key, n_characters, work, size, count):
    count[PARAGRAPHS] += 1
    if count[SEEN_PARAGRAPHS] < REPEAT_LIMIT:
        count[SEEN_PARAGRAPHS] += 1
        count[SEEN_PARAGRAPH_CHARACTERS] += n_characters
        if not is_new(work.paragraphs, size, key):
            count[REPEATED_PARAGRAPHS] += 1
            count[REPEATED_PARAGRAPH_CHARACTERS] += n_characters


@kernel
def one_document(text, n_bytes, dropping, work, lines_size, repetition, count):
    """Count everything but what repeats in n-grams; the hashes of words go to ``work``."""
    kinds = work.kinds
    inside_before = ZERO
    n_characters = n_letters = n_newlines = n_spaces = n_printed = n_digits = n_high = 0
    run = ellipsis_from = longest = 0  # equal neighbours in a row; where the next ellipsis may begin
    previous, previous_stop, same = 0, -1, 0
    word_start = word_character = word_letter = 0
    line_start, line_begins, line_character, line_number, line_words = 0, 0, 0, 0, 0
    line_stop = line_stop_character = line_sentences = longest_word = 0
    paragraph, paragraph_characters = ZERO, 0
    newline_at = -1
    n_words = n_word_characters = n_with_letter = n_sentences = stop_words = 0
    for base in range(0, n_bytes + 1, 64):
        left = n_bytes - base
        valid = ALL if left >= 64 else (ONE << np.uint64(left)) - ONE
        high = high_mask(text, base) & valid
        space, letters, digits = space_mask(text, base), letter_mask(text, base), digit_mask(text, base) & valid
        letters &= valid
        newlines = newline_mask(text, base) & valid
        leads = valid
        pairs = pair_mask(text, base) & ~space & ~high_mask(text, base)
        if left <= 64:  # a run does not go on into what follows the text
            pairs &= (ONE << np.uint64(max(0, left - 1))) - ONE
        printed = printed_mask(text, base) & valid & ~letters & ~digits
        if high:
            leads &= ~continuation_mask(text, base)
            waiting = high & leads
            while waiting:
                at = base + trailing_zeros(waiting)
                waiting &= waiting - ONE
                point, length = decode(text, at)
                kind = kinds[point]
                mark = np.uint8(kind & SPACE != 0) | (np.uint8(kind & ALPHA != 0) << np.uint8(1))
                work.classes[at] = mark
                for j in range(1, length):
                    work.classes[at + j] = mark & np.uint8(1)
                n_high += 1
                count[PUNCTUATIONS] += kind & PUNCTUATION != 0
                count[DIGITS] += kind & DIGIT != 0
                count[UNSPACEDS] += kind & UNSPACED != 0
                count[CONTROLS] += kind & CONTROL != 0
                count[SPACES] += kind & SPACE != 0
                count[REPLACEMENTS] += point == 0xFFFD
                count[ELLIPSES] += point == 0x2026
                same = same + 1 if point == previous and at == previous_stop else 1
                if not kind & SPACE:
                    longest = max(longest, same)
                previous, previous_stop = point, at + length
            letters |= bit1_mask(work.classes, base) & high & leads
            n_spaces += bit_count(space & valid & ~high)
            space = (space & ~high) | (bit0_mask(work.classes, base) & high)
        else:
            n_spaces += bit_count(space & valid)
        n_printed += bit_count(printed)
        n_digits += bit_count(digits)
        count[CONTROLS] += bit_count(valid & ~high & ~space & ~letters & ~digits & ~printed)
        count[CODE_SYMBOLS] += bit_count(code_mask(text, base) & valid)
        count[BRACES] += bit_count(braces_mask(text, base) & valid)
        count[HASHES] += bit_count(hash_mask(text, base) & valid)
        count[COMMANDS] += bit_count(backslash_mask(text, base) & letter_mask(text, base + 1) & valid)
        dots = ellipsis_mask(text, base) & valid
        while dots:
            at = base + trailing_zeros(dots)
            dots &= dots - ONE
            if at >= ellipsis_from:
                count[ELLIPSES] += 1
                ellipsis_from = at + 3
        if pairs == ALL:
            run += 64
            longest = max(longest, run + 1)
        else:
            if not pairs & ONE:
                run = 0
            while pairs:
                first = trailing_zeros(pairs)
                ones = trailing_zeros(~(pairs >> np.uint64(first)))
                run = run + ones if first == 0 else ones
                longest = max(longest, run + 1)
                if first + ones >= 64:
                    pairs = ZERO
                else:
                    pairs &= ~(((ONE << np.uint64(ones)) - ONE) << np.uint64(first))
                    run = 0
        inside = ~space & valid
        after = (inside << ONE) | inside_before
        inside_before = inside >> SIXTY_THREE
        starts, ends = inside & ~after, ~inside & after
        events = starts | ends
        while events:
            bit = np.uint64(trailing_zeros(events))
            one = events & (~events + ONE)
            events &= events - ONE
            below = one - ONE
            at = base + np.int64(bit)
            character = n_characters + bit_count(leads & below)
            letter = n_letters + bit_count(letters & below)
            if one & starts:
                number = n_newlines + bit_count(newlines & below)
                if number != line_number and line_words:
                    line = line_stop_character - line_character
                    key = end_line(text, line_start, line_stop, line, line_begins, line_words, line_sentences,
                                   longest_word, dropping, work, lines_size, count)  # fmt: skip
                    paragraph = extend(paragraph, key)
                    paragraph_characters += line
                    if number - line_number > 1:
                        end_paragraph(paragraph, paragraph_characters, work, lines_size, count)
                        paragraph, paragraph_characters = ZERO, 0
                    line_words = 0
                if not line_words:
                    line_start, line_character, line_number = at, character, number
                    before = newlines & below
                    line_begins = base + 64 - leading_zeros(before) if before else newline_at + 1
                    line_sentences = longest_word = 0
                line_words += 1
                word_start, word_character, word_letter = at, character, letter
            else:
                length = character - word_character
                if n_words < REPEAT_LIMIT and repetition:
                    work.hashes[n_words] = hash_bytes(text, word_start, at, SEED)
                    work.ends[n_words + 1] = work.ends[n_words] + length
                n_words += 1
                n_word_characters += length
                n_with_letter += letter != word_letter
                stop_words |= stop_word_bit(text, word_start, at - word_start)
                if ends_sentence(text, word_start, at, kinds):
                    line_sentences += 1
                    n_sentences += 1
                line_stop, line_stop_character = at, character
                longest_word = max(longest_word, length)
        n_characters += bit_count(leads)
        n_letters += bit_count(letters)
        n_newlines += bit_count(newlines)
        if newlines:
            newline_at = base + 63 - leading_zeros(newlines)
    if line_words:
        line = line_stop_character - line_character
        key = end_line(text, line_start, line_stop, line, line_begins, line_words, line_sentences,
                       longest_word, dropping, work, lines_size, count)  # fmt: skip
        end_paragraph(extend(paragraph, key), paragraph_characters + line, work, lines_size, count)
    count[CHARACTERS], count[LETTERS], count[NEWLINES], count[NON_ASCII] = n_characters, n_letters, n_newlines, n_high
    count[SPACES] += n_spaces
    count[PUNCTUATIONS] += n_printed
    count[DIGITS] += n_digits
    count[LONGEST_RUN] = max(longest, n_words > 0)
    count[WORDS], count[WORD_CHARACTERS], count[WORDS_WITH_LETTER] = n_words, n_word_characters, n_with_letter
    count[STOP_WORDS], count[SENTENCES] = bit_count(np.uint64(stop_words)), n_sentences


# ---- what repeats in n-grams


@kernel
def count_grams(grams, places, n, work):
    """Count the n-grams that begin at ``places[:n]``; ``work.slots`` has where each one's count is."""
    size = table_size(n)
    clear(work.keys, size)
    for slot in range(size):
        work.counts[slot] = 0
    distinct = 0
    for k in range(n):
        key = grams[places[k]]
        key = key if key != ZERO else ONE
        slot = find(work.keys, size, key)
        distinct += work.keys[slot] == ZERO
        work.keys[slot] = key
        work.counts[slot] += 1
        work.slots[k] = slot
    return distinct


@kernel
def commonest_characters(order, n, work):
    """Number times characters of the commonest n-gram that occurs twice, the longest of several."""
    most = length = 0
    for k in range(n):
        times = work.counts[work.slots[k]]
        if times > 1 and times >= most:
            place = work.places[k]
            characters = work.ends[place + order] - work.ends[place]
            if times > most or characters > length:
                most, length = times, characters
    return most * length


@kernel
def repeated_characters(order, n, work):
    """Characters of n-grams that were there before, read from left to right, none counted twice.

    The count of an n-gram that was met is made negative.
    """
    characters = after = 0
    for k in range(n):
        place, slot = work.places[k], work.slots[k]
        if place < after or -1 <= work.counts[slot] <= 1:
            continue
        if work.counts[slot] < 0:
            characters += work.ends[place + order] - work.ends[place]
            after = place + order
        else:
            work.counts[slot] = -work.counts[slot]
    return characters


@kernel
def repeats(n, work, count):
    """Fill in what is said of repeated words and n-grams.

    An n-gram can only repeat where both shorter ones in it do, so that each order looks at fewer places than the last.
    """
    for i in range(n):
        work.places[i] = i
        work.grams[i] = work.hashes[i]
    total = work.ends[n]
    count[SEEN_WORDS], count[SEEN_WORD_CHARACTERS] = n, total
    count[DISTINCT_WORDS] = count_grams(work.grams, work.places, n, work)
    for order in range(2, 11):
        kept = 0
        for k in range(n):
            if abs(work.counts[work.slots[k]]) > 1:
                work.places[kept] = work.places[k]
                kept += 1
        n = 0
        for k in range(kept - 1):
            place = work.places[k]
            if work.places[k + 1] == place + 1:
                work.grams[place] = extend(work.grams[place], work.hashes[place + order - 1])
                work.places[n] = place
                n += 1
        if n == 0:
            break
        count_grams(work.grams, work.places, n, work)
        if order <= 4:
            count[TOP_2 + order - 2] = min(total, commonest_characters(order, n, work))
        else:
            count[REPEATED_5 + order - 5] = repeated_characters(order, n, work)


@kernel
def statistics(data, offsets, repetition, work, counts):
    """Fill ``counts`` (int64[n_docs, Count], zeros)."""
    text = work.text
    for doc in range(len(offsets) - 1):
        start, n_bytes = offsets[doc], offsets[doc + 1] - offsets[doc]
        count = counts[doc]
        for base in range(0, n_bytes, 64):
            if start + base + 64 <= len(data):
                copy_64(data, start + base, text, base)
            else:
                for j in range(base, n_bytes):
                    text[j] = data[start + j]
        for j in range(n_bytes, n_bytes + 128):
            text[j] = 32
        newlines = 0
        for base in range(0, n_bytes, 64):
            newlines += bit_count(newline_mask(text, base))
        found = phrases_in(text, 0, n_bytes, work)
        count[LOREM] = found & LOREM_IPSUM
        lines_size = table_size(min(newlines + 1, REPEAT_LIMIT))
        clear(work.lines, lines_size)
        clear(work.paragraphs, lines_size)
        one_document(text, n_bytes, found & DROPS_LINE, work, lines_size, repetition, count)
        if repetition:
            repeats(min(count[WORDS], REPEAT_LIMIT), work, count)


@kernel
def lines_room(data, offsets):
    """The most lines that a document has."""
    most = 0
    for doc in range(len(offsets) - 1):
        lines = 1
        for i in range(offsets[doc], offsets[doc + 1]):
            lines += data[i] == 10
        most = max(most, lines)
    return most


# ---- word-punctuation tokens


@kernel
def token_statistics(data, offsets, tables, state, known, kinds, work, keys, times, counts):
    """Fill ``counts`` (int64[n_docs, TokenCount], zeros); ``known`` and ``kinds`` are the table of function words."""
    for doc in range(len(offsets) - 1):
        position, stop = offsets[doc], offsets[doc + 1]
        count, size = counts[doc], 0
        while position < stop:
            end = segment_end(data, position, stop)
            n_bytes = fold(data, position, end, tables, work.folded, work.classes, work.tail)
            n = spans(work.folded, work.classes, n_bytes, work.starts, work.stops)
            hash_tokens(work.folded, work.starts, work.stops, n, state, work.hashes)
            if size == 0:
                size = table_size(min(n if end == stop else stop - position, REPEAT_LIMIT))
                clear(keys, size)
                for slot in range(size):
                    times[slot] = 0
            count[TOKENS] += n
            for t in range(min(n, REPEAT_LIMIT - count[SEEN_TOKENS])):
                key = work.hashes[t] if work.hashes[t] != ZERO else ONE
                slot = find(keys, size, key)
                keys[slot] = key
                times[slot] += 1
                count[COMMONEST] = max(count[COMMONEST], times[slot])
                kind = kinds[find(known, len(known), key)]
                count[ENGLISH] += kind & 1
                count[OTHER] += kind >> 1 & 1
                count[UNINFORMATIVE] += kind & 5 != 0
                count[DIGIT_TOKENS] += kind >> 3 & 1
            count[SEEN_TOKENS] = min(count[TOKENS], REPEAT_LIMIT)
            position = end
