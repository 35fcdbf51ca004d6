"""What `curate.kernels.statistics` counts, and the tables and the memory that it takes; needs no compiler."""

from __future__ import annotations

import string
import unicodedata
from enum import IntEnum, auto
from functools import cache
from typing import NamedTuple

import numpy as np

from curate.kernels.calls import hash_strings, start_state
from curate.kernels.native import Kernel
from curate.kernels.streams import workspace
from curate.kernels.unicode import N_CODE_POINTS, unicode_tables
from curate.kernels.unicode import SPACE as PYTHON_SPACE

REPEAT_LIMIT = 1 << 20  # words, lines and paragraphs of a document in which repeats are looked for
ALPHA, DIGIT, SPACE, PUNCTUATION, UNSPACED, CONTROL, BULLET, FULL_STOP, CLOSER = (1 << bit for bit in range(9))
IS_ENGLISH, IS_OTHER, IS_PUNCTUATION, IS_DIGIT = 1, 2, 4, 8
PADDING = 192
_statistics, _lines_room = Kernel("statistics", "statistics"), Kernel("statistics", "lines_room")
_token_statistics = Kernel("statistics", "token_statistics")


class _FromZero(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count


class Count(_FromZero):
    """The columns of `count_texts`; "seen" is what repeats were looked for in."""

    CHARACTERS = auto()
    NON_ASCII = auto()
    LETTERS = auto()
    DIGITS = auto()
    SPACES = auto()
    PUNCTUATION = auto()  # and symbols
    UNSPACED = auto()  # of scripts that put no spaces between words
    REPLACEMENTS = auto()  # U+FFFD
    CONTROLS = auto()  # those that are no white space
    CODE_SYMBOLS = auto()  # one of {}[]();=<>_
    COMMANDS = auto()  # a backslash before a letter
    BRACES = auto()
    HASHES = auto()
    ELLIPSES = auto()
    LONGEST_RUN = auto()  # of one character that is no white space
    LOREM = auto()  # 1 where the text says "lorem ipsum"
    WORDS = auto()
    WORD_CHARACTERS = auto()
    WORDS_WITH_LETTER = auto()
    STOP_WORDS = auto()  # how many of Gopher's eight
    SENTENCES = auto()
    NEWLINES = auto()
    LINES = auto()
    LINE_CHARACTERS = auto()
    LONGEST_LINE = auto()
    BULLET_LINES = auto()
    ELLIPSIS_LINES = auto()
    ENDED_LINES = auto()
    SHORT_LINES = auto()
    INDENTED_LINES = auto()
    C4_LINES = auto()
    C4_SENTENCES = auto()
    SEEN_LINES = auto()
    SEEN_LINE_CHARACTERS = auto()
    REPEATED_LINES = auto()
    REPEATED_LINE_CHARACTERS = auto()
    PARAGRAPHS = auto()
    SEEN_PARAGRAPHS = auto()
    SEEN_PARAGRAPH_CHARACTERS = auto()
    REPEATED_PARAGRAPHS = auto()
    REPEATED_PARAGRAPH_CHARACTERS = auto()
    SEEN_WORDS = auto()
    SEEN_WORD_CHARACTERS = auto()
    DISTINCT_WORDS = auto()
    TOP_2 = auto()
    TOP_3 = auto()
    TOP_4 = auto()
    REPEATED_5 = auto()
    REPEATED_6 = auto()
    REPEATED_7 = auto()
    REPEATED_8 = auto()
    REPEATED_9 = auto()
    REPEATED_10 = auto()


class TokenCount(_FromZero):
    """The columns of `count_tokens`."""

    TOKENS = auto()
    SEEN_TOKENS = auto()
    COMMONEST = auto()  # how often the commonest is there
    UNINFORMATIVE = auto()  # English stop words and single ASCII punctuation characters
    DIGIT_TOKENS = auto()  # those of one ASCII digit
    ENGLISH = auto()
    OTHER = auto()


class Work(NamedTuple):
    """Scratch for one document at a time, and what is looked up."""

    text: np.ndarray  # uint8, with spaces behind it
    classes: np.ndarray  # uint8, of its bytes that are not ASCII: 1 white space, 2 letter
    hashes: np.ndarray  # uint64, of words
    ends: np.ndarray  # int64, characters up to each word
    grams: np.ndarray  # uint64, by first word
    places: np.ndarray  # int32, first words
    slots: np.ndarray  # int32
    keys: np.ndarray  # uint64, a table of n-grams
    counts: np.ndarray  # int32, how often each is there
    lines: np.ndarray  # uint64, a set of lines
    paragraphs: np.ndarray
    kinds: np.ndarray  # uint16[N_CODE_POINTS]
    phrases: np.ndarray  # uint8
    phrase_ends: np.ndarray  # int64
    phrase_probes: np.ndarray  # int64, where in a phrase are the three letters that are looked for


PHRASES = {  # C4's; the first removes a document, the others a line. Beside each, where its probe is
    "lorem ipsum": "m i",
    "javascript": "jav",
    "terms of use": "f u",
    "privacy policy": "pol",
    "cookie policy": "pol",
    "uses cookies": "coo",
    "use of cookies": "coo",
    "use cookies": "coo",
}
BULLETS = "•‣▶◀◦■□▪▫–*-"
FULL_STOPS = ".!?…。！？｡।॥؟۔։។።፧"
CLOSERS = "\"')]}’”»›」』）"
_UNSPACED = (  # Thai, Lao, Tibetan, Burmese, Khmer, kana, ideographs
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3347F),
)  # fmt: skip
_LAST_ASSIGNED = 0x33480  # beyond are private use and what cannot be seen

ENGLISH_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
itself they them their theirs themselves what which who whom this that these those am is are was were be been being
have has had having do does did doing a an the and but if or because as until while of at by for with about against
between into through during before after above below to from up down in out on off over under again further then once
here there when where why how all any both each few more most other some such no nor not only own same so than too
very s t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma mightn mustn
needn shan shouldn wasn weren won wouldn
"""  # NLTK's stop words; those with an apostrophe are no word-punctuation token
OTHER_WORDS = """
el la los las que y en del por un una para con se su lo como más pero fue es le les des et du une est dans pour qui
sur pas au avec ce il ne der die das und den von zu mit sich auf ist nicht ein eine dem im für als auch di che è per
sono non della il gli nel um uma não os ao dos da em het een van dat niet voor zijn och att det som på är av till og
ikke til w na nie że jest z je se v že ve bir bu için va ja ei on että az egy hogy nem și sau
"""  # function words of languages in Latin letters; those that are English too count as English


@cache
def _character_kinds() -> np.ndarray:
    kinds = np.zeros(N_CODE_POINTS, np.uint16)
    for point in range(_LAST_ASSIGNED):
        character = chr(point)
        if character.isalpha():
            kinds[point] |= ALPHA
        elif character.isdecimal():
            kinds[point] |= DIGIT
        else:
            category = unicodedata.category(character)
            if category[0] in "PS":
                kinds[point] |= PUNCTUATION
            elif category[0] == "M":  # vowels of Hebrew and Devanagari are marks on letters
                kinds[point] |= ALPHA
            elif category == "Cc":
                kinds[point] |= CONTROL
    space = unicode_tables().flags & PYTHON_SPACE != 0
    kinds[space] |= SPACE
    kinds[space] &= np.uint16(0xFFFF ^ CONTROL)
    for first, last in _UNSPACED:
        kinds[first : last + 1] |= UNSPACED
    for characters, flag in ((BULLETS, BULLET), (FULL_STOPS, FULL_STOP), (CLOSERS, CLOSER)):
        kinds[[ord(c) for c in characters]] |= flag
    return kinds


@cache
def _function_words() -> tuple[np.ndarray, np.ndarray]:
    """A table of hashes and, beside each, what it is the hash of; the slots are those of the kernel's ``find``."""
    what: dict[str, int] = dict.fromkeys(string.punctuation, IS_PUNCTUATION) | dict.fromkeys(string.digits, IS_DIGIT)
    what |= dict.fromkeys(OTHER_WORDS.split(), IS_OTHER) | dict.fromkeys(ENGLISH_WORDS.split(), IS_ENGLISH)
    data = [word.encode() for word in what]
    offsets = np.cumsum([0, *map(len, data)])
    hashes = hash_strings(np.frombuffer(b"".join(data), np.uint8), offsets, 0)
    size = 1 << 11
    keys, kinds = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    for key, kind in zip(hashes.tolist(), what.values(), strict=True):
        slot = (key ^ key >> 32) & (size - 1)
        while keys[slot]:
            slot = (slot + 1) & (size - 1)
        keys[slot], kinds[slot] = key, kind
    return keys, kinds


def count_texts(data: np.ndarray, offsets: np.ndarray, *, repetition: bool = True) -> np.ndarray:
    """int64[n_docs, Count] of texts; without ``repetition`` nothing is said of words and n-grams that repeat.

    Parameters
    ----------
    data : uint8[...], the UTF-8 bytes of all texts. offsets : int64[n_docs + 1] into it.
    """
    counts = np.zeros((len(offsets) - 1, len(Count)), np.int64)
    if len(counts):
        room = int(np.diff(offsets).max())
        n_words = min(room // 2 + 1, REPEAT_LIMIT)
        work = _work(room + PADDING, n_words, min(int(_lines_room(data, offsets)), REPEAT_LIMIT))
        _statistics(data, offsets, int(repetition), work, counts)
    return counts


def _work(room: int, n_words: int, n_lines: int) -> Work:
    phrases = [phrase.encode() for phrase in PHRASES]
    return Work(
        text=np.empty(room, np.uint8),
        classes=np.empty(room, np.uint8),
        hashes=np.empty(n_words, np.uint64),
        ends=np.zeros(n_words + 1, np.int64),
        grams=np.empty(n_words, np.uint64),
        places=np.empty(n_words, np.int32),
        slots=np.empty(n_words, np.int32),
        keys=np.empty(_slots(n_words), np.uint64),
        counts=np.empty(_slots(n_words), np.int32),
        lines=np.empty(_slots(n_lines), np.uint64),
        paragraphs=np.empty(_slots(n_lines), np.uint64),
        kinds=_character_kinds(),
        phrases=np.frombuffer(b"".join(phrases), np.uint8),
        phrase_ends=np.cumsum([0, *map(len, phrases)]),
        phrase_probes=np.array([phrase.index(probe) for phrase, probe in PHRASES.items()]),
    )


def _slots(n: int) -> int:
    """Of a table of ``n`` hashes in the kernel."""
    return 1 << max(4, (2 * n - 1).bit_length())


def count_tokens(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64[n_docs, TokenCount] of the word-punctuation tokens of texts in lower case; see `count_texts`."""
    counts = np.zeros((len(offsets) - 1, len(TokenCount)), np.int64)
    if len(counts):
        room = int(np.diff(offsets).max())
        size = _slots(min(room, REPEAT_LIMIT))
        known, kinds = _function_words()
        # the workspace holds a segment; a document is folded one at a time
        work = workspace(_segment_room(data, offsets))
        keys, times = np.empty(size, np.uint64), np.empty(size, np.int64)
        _token_statistics(data, offsets, unicode_tables(), start_state(0), known, kinds, work, keys, times, counts)
    return counts


_room = Kernel("ngrams", "room")


def _segment_room(data: np.ndarray, offsets: np.ndarray) -> int:
    return int(_room(data, offsets, 1))
