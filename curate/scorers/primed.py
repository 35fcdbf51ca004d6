"""Primed compression: how much the target, given as a dictionary, helps to compress a document.

One compression a document and dictionary, whatever the number of target texts. It is not ZIP-FIT: there is no
distance to single texts, and no pair.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from curate.errors import InputError, unknown
from curate.features.ngrams import NgramFeatures
from curate.scorers import base
from curate.scorers.base import RawSample, Scorer, by_name, encoded, texts_within, whole
from curate.scorers.codecs import Texts

LEVELS = {"zstd": (1, 19, 3), "deflate": (1, 9, 6)}  # lowest, highest, default
AGAINST = ("both", "raw", "nothing")
SEPARATOR = b"\n\n"
MAX_DICTIONARY = 1 << 26
ZSTD_WINDOW, ZSTD_TABLE = 27, 26  # the largest logarithms that a decoder takes unasked, and that are of use
DEFLATE_WINDOW = 1 << 15
EMPTY_FRAME = 9  # bytes of zstd for nothing
RAW_DOCUMENT = 4_000  # bytes of a raw document that go into its dictionary, so that one is not all of it
RAW_DOCUMENTS = 20_000
BATCH = 20_000  # pieces that are compressed by one call


def saved_share(primed: np.ndarray, plain: np.ndarray, by_raw: np.ndarray | None = None) -> np.ndarray:
    """Share of compressed bytes that the target's dictionary saves.

    Parameters
    ----------
    primed, plain : float64[n], bytes with the target as dictionary and without any.
    by_raw : float64[n], bytes with a sample of raw as dictionary: saved is then what is saved over the
        geometric mean of ``plain`` and ``by_raw``, so that a document does not win by being like everything.

    Returns
    -------
    float64[n], below 1; negative where the dictionary harms.
    """
    base = plain if by_raw is None else np.sqrt(plain * by_raw)
    return 1 - primed / base


def pieces(offsets: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents into pieces of nearly equal length, about ``size`` bytes.

    ``offsets``: int64[n + 1]. Returns (starts, lengths, documents), int64[n_pieces] each; a document of
    less than one and a half pieces is one, so is an empty one.
    """
    lengths = np.diff(offsets)
    count = np.maximum(1, (2 * lengths + size) // (2 * size))
    doc = np.repeat(np.arange(len(lengths)), count)
    place = np.arange(len(doc)) - np.repeat(np.cumsum(count) - count, count)
    start = offsets[:-1][doc] + lengths[doc] * place // count[doc]
    stop = offsets[:-1][doc] + lengths[doc] * (place + 1) // count[doc]
    return start, stop - start, doc


class Primed(Scorer):
    """Share of a document's compressed bytes that the target saves as a dictionary.

    A document is compressed in pieces by themselves, so that one that is long and repeats itself is not
    taken for one that the target does not help.

    Parameters
    ----------
    codec : "zstd", whose dictionary is the target up to 64 MB, or "deflate", which sees 32 KiB of it; which texts, goes
        by a hash of what they say.
    level : of the codec; None is 3 for zstd and 6 for deflate.
    piece_bytes : size of the pieces.
    against : what the target has to beat: "nothing", no dictionary; "raw", a dictionary of as many bytes of
        a sample of raw; "both", the geometric mean of these two.
    min_tokens : documents with fewer have no score. tokenizer : that tokens are counted by.

    Attributes
    ----------
    dictionary_, raw_dictionary_ : bytes. target_names_ : names.
    """

    method = "primed"
    log_weights = False

    def __init__(
        self,
        *,
        codec: str = "zstd",
        level: int | None = None,
        piece_bytes: int = 1_000,
        against: str = "both",
        min_tokens: int = 20,
        tokenizer: str | None = None,
    ) -> None:
        if codec not in LEVELS:
            raise unknown("codec with dictionaries", codec, LEVELS)
        if against not in AGAINST:
            raise unknown("thing to compare with", against, AGAINST)
        low, high, default = LEVELS[codec]
        self.codec, self.against = codec, against
        self.level = whole("level", default if level is None else level, low, high)
        self.piece_bytes = whole("piece_bytes", piece_bytes, 1, 1 << 30)
        self.min_tokens = whole("min_tokens", min_tokens, 0)
        self.tokenizer = tokenizer
        self.features = NgramFeatures(n=1, tokenizer=tokenizer)
        self._local, self._digesting = threading.local(), threading.Lock()
        self._digested: dict[int, Any] = {}

    def identity(self) -> dict[str, Any]:
        """Settings, and the version of the codec."""
        import zstandard

        library = f"zstd {zstandard.ZSTD_VERSION}" if self.codec == "zstd" else f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
        return super().identity() | {"library": library}

    # ---- fitting

    @property
    def raw_sample(self) -> RawSample | None:
        """As many documents as fill the largest dictionary, most likely; the target's size is not known before."""
        return None if self.against == "nothing" else RawSample("documents", RAW_DOCUMENTS)

    def fit(self, *, target: base.Texts | Mapping[str, base.Texts], raw: base.Texts = (), workers: int = 1) -> Primed:
        """Make the dictionaries; neither depends on the order in which texts come.

        Parameters
        ----------
        target : texts, or texts by name of target, which are pooled. raw : texts, at best a sample; not
            needed against "nothing".
        """
        named = by_name(target)
        room = DEFLATE_WINDOW if self.codec == "deflate" else MAX_DICTIONARY
        self.target_names_, self.target_proportions_ = ["+".join(named)], [1.0]
        self.dictionary_, given = dictionary((text for of in named.values() for text in encoded(of)), room)
        self.target_use_ = [min(given, len(self.dictionary_)), given]
        if not self.dictionary_:
            raise InputError(f"target {self.target_names_[0]!r} has no text: nothing to select for")
        self.raw_dictionary_ = b""
        if self.against != "nothing":
            sample = (text[:RAW_DOCUMENT] for text in encoded(raw))
            self.raw_dictionary_, _ = dictionary(sample, len(self.dictionary_))
            if not self.raw_dictionary_:
                raise InputError(
                    f"the raw corpus has no text to compare with (against={self.against!r}): its files are empty, "
                    "--text-column names another column, or no raw was given; against='nothing' needs none"
                )
        return self

    # ---- scoring

    def scores(self, texts: Any) -> np.ndarray:
        """Shares saved; nan where a document has no text."""
        docs = Texts.of(texts)
        starts, lengths, of = pieces(docs.offsets, self.piece_bytes)

        def total(dictionary: bytes) -> np.ndarray:
            sizes = self._sizes(dictionary, docs.data, starts, lengths)
            return np.bincount(of, sizes, minlength=len(docs))

        plain, by_raw = total(self.raw_dictionary_ if self.against == "raw" else b""), None
        if self.against == "both":
            by_raw = total(self.raw_dictionary_)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = saved_share(total(self.dictionary_), plain, by_raw)
        scores[np.diff(docs.offsets) == 0] = np.nan
        return scores[:, None]

    def _sizes(self, dictionary: bytes, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Compressed bytes of pieces, without what even an empty one takes."""
        if self.codec == "deflate":
            return _deflate_sizes(dictionary, data, starts, lengths, self.level)
        import zstandard

        compressor = self._compressor(dictionary)
        out = np.full(len(starts), EMPTY_FRAME, np.int64)
        for first in range(0, len(starts), BATCH):
            some = first + np.flatnonzero(lengths[first : first + BATCH])  # zstandard refuses a batch of nothing
            if not len(some):
                continue
            segments = np.stack([starts[some], lengths[some]], axis=1).astype(np.uint64)
            found = compressor.multi_compress_to_buffer(
                zstandard.BufferWithSegments(memoryview(data.data), segments.tobytes())
            )
            out[some] = [len(found[i]) for i in range(len(found))]
        return out - EMPTY_FRAME

    def _compressor(self, dictionary: bytes) -> Any:
        """This thread's compressor; one digested dictionary serves all threads."""
        kept = self._local.__dict__.setdefault("compressors", {})
        key = id(dictionary)  # of one of ours, or of the empty one
        if key not in kept or kept[key][0] is not dictionary:
            with self._digesting:
                if self._digested.get(key, (None,))[0] is not dictionary:
                    self._digested[key] = dictionary, digested(dictionary, self.level)
            kept[key] = dictionary, compressor(self._digested[key][1], self.level)
        return kept[key][1]

    # ---- files

    def arrays(self) -> dict[str, np.ndarray]:
        """The dictionaries."""
        ours, raws = (np.frombuffer(of, np.uint8) for of in (self.dictionary_, self.raw_dictionary_))
        return {"dictionary": ours, "raw_dictionary": raws}

    def restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take back what `arrays` gave."""
        self.dictionary_ = arrays["dictionary"].tobytes()
        self.raw_dictionary_ = arrays["raw_dictionary"].tobytes()


def dictionary(texts: Iterable[bytes], room: int) -> tuple[bytes, int]:
    """Texts joined by blank lines, in the order of a hash of what they say, the first of them when there is no room.

    Returns the dictionary and the bytes of all texts.
    """
    kept, total = texts_within(texts, room)
    return SEPARATOR.join(kept)[:room], total


def digested(dictionary: bytes, level: int) -> tuple[Any, Any] | None:
    """A raw dictionary for zstd, all of which it finds, with the parameters that it is for; None of an empty one.

    A level's own tables and window forget a dictionary's beginning: at level 3 a text that is verbatim in the
    first half of 2 MB takes 480 bytes a thousand, with tables half and a quarter of the dictionary's size 24.
    Tables twice as large would make new text 0.4% smaller and take a quarter longer.
    """
    import zstandard

    if not dictionary:
        return None
    made = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    usual = zstandard.ZstdCompressionParameters.from_level(level)
    bits = len(dictionary).bit_length()
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        window_log=max(usual.window_log, min(bits, ZSTD_WINDOW)),
        hash_log=max(usual.hash_log, min(bits - 1, ZSTD_TABLE)),
        chain_log=max(usual.chain_log, min(bits - 2, ZSTD_TABLE)),
        write_content_size=False,
        write_checksum=False,
    )
    made.precompute_compress(compression_params=parameters)
    return made, parameters


def compressor(of: tuple[Any, Any] | None, level: int) -> Any:
    """A zstd compressor with a dictionary from `digested`; for one thread."""
    import zstandard

    if of is None:
        return zstandard.ZstdCompressor(level=level, write_content_size=False, write_checksum=False)
    return zstandard.ZstdCompressor(dict_data=of[0], compression_params=of[1])


def _deflate_sizes(
    dictionary: bytes, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, level: int
) -> np.ndarray:
    from curate.kernels.deflating import agrees_with_zlib, dictionary_sizes

    nothing = 2
    if agrees_with_zlib(level):
        return dictionary_sizes(np.frombuffer(dictionary, np.uint8), data, starts, lengths, level) - nothing
    found = (zlib_size(dictionary, data[s : s + n].tobytes(), level) for s, n in zip(starts, lengths, strict=True))
    return np.fromiter(found, np.int64, len(starts)) - nothing


def zlib_size(dictionary: bytes, text: bytes, level: int) -> int:
    """Bytes of raw deflate with a preset dictionary, by zlib itself."""
    options = {"zdict": dictionary} if dictionary else {}
    stream = zlib.compressobj(level, zlib.DEFLATED, -15, **options)  # type: ignore[arg-type]
    return len(stream.compress(text)) + len(stream.flush())
