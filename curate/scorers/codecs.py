"""Codecs by name: how many bytes a text takes, and how many it takes after another one."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from curate._optional import require
from curate.errors import UsageError, unknown

Size = Callable[[bytes], int]
GZIP_BYTES = 18  # header and trailer around a raw deflate stream


class Texts(NamedTuple):
    """Texts as bytes: ``data`` uint8, ``offsets`` int64[n + 1] into it."""

    data: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: Any) -> Texts:
        """From Arrow strings, or from a sequence of str; a null is the empty text."""
        from curate.kernels.text import string_buffers
        from curate.scorers.base import arrow_strings

        return cls(*string_buffers(arrow_strings(texts)))

    @classmethod
    def of_bytes(cls, texts: Sequence[bytes]) -> Texts:
        """From texts that are UTF-8 already."""
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(texts), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def array(self, i: int) -> np.ndarray:
        return self.data[self.offsets[i] : self.offsets[i + 1]]

    def bytes(self, i: int) -> bytes:
        return self.array(i).tobytes()


@dataclass(frozen=True)
class Kind:
    """What there is to know of a codec. ``levels``: inclusive; ``wbits``: of zlib's container, 0 for other codecs."""

    levels: tuple[int, int]
    default: int
    make: Callable[[int], Size]
    package: str
    wbits: int = 0


def _zlib(wbits: int) -> Callable[[int], Size]:
    return lambda level: lambda data: len(zlib.compress(data, level, wbits=wbits))


def _zstd(level: int) -> Size:
    import zstandard

    kept = threading.local()  # a compressor is for one thread at a time

    def size(data: bytes) -> int:
        if not hasattr(kept, "compressor"):
            kept.compressor = zstandard.ZstdCompressor(level=level)
        return len(kept.compressor.compress(data))

    return size


def _lz4(level: int) -> Size:
    frame = require("lz4.frame", extra="codecs", purpose="codec 'lz4'")
    return lambda data: len(frame.compress(data, compression_level=level))


def _isal(level: int) -> Size:
    igzip = require("isal.igzip", extra="codecs", purpose="codec 'isal'")
    return lambda data: len(igzip.compress(data, level))


def _libdeflate(level: int) -> Size:
    deflate = require("deflate", extra="codecs", purpose="codec 'libdeflate'")
    return lambda data: len(deflate.gzip_compress(data, level))


CODECS = {
    "gzip": Kind((1, 9), 6, _zlib(31), "zlib", 31),
    "deflate": Kind((1, 9), 6, _zlib(-15), "zlib", -15),
    "zstd": Kind((1, 22), 3, _zstd, "zstandard"),
    "lz4": Kind((0, 16), 0, _lz4, "lz4"),
    "isal": Kind((0, 3), 2, _isal, "isal"),
    "libdeflate": Kind((1, 12), 6, _libdeflate, "deflate"),
}
STORES = ("gzip", "deflate", "libdeflate")  # level 0 copies


class Codec:
    """A codec at a level.

    Sizes of "gzip" and "deflate" are those of the standard library to the byte; where its zlib is the usual
    one they are computed without writing the output (`curate.kernels.deflate`), else by copying the state
    of a compressor that has read the first text. The others compress both texts together.

    Parameters
    ----------
    name : "gzip", "deflate" (gzip without header and trailer, 18 bytes), "zstd", "lz4", "isal", "libdeflate".
    level : of the codec; None is its default.

    Raises
    ------
    UsageError : no such codec or level. MissingExtraError : its package is not installed.
    """

    def __init__(self, name: str = "gzip", level: int | None = None) -> None:
        if name not in CODECS:
            raise unknown("codec", name, CODECS)
        self.name, kind = name, CODECS[name]
        level = kind.default if level is None else level
        if isinstance(level, bool) or not isinstance(level, int):
            raise UsageError(f"level={level!r}: must be a whole number")
        if level == 0 and name in STORES:
            raise UsageError(
                f"level 0 of {name} compresses nothing: the alignment of x and t is then 23 / (max(|x|, |t|) + 23), "
                f"whatever they say, and the shortest documents win; levels are 1 to {kind.levels[1]}"
            )
        if not kind.levels[0] <= level <= kind.levels[1]:
            raise UsageError(f"level {level} of {name}: must be {kind.levels[0]} to {kind.levels[1]}")
        self.level = level
        self.size: Size = kind.make(level)
        self._wbits = kind.wbits

    def __repr__(self) -> str:
        return f"Codec({self.name!r}, {self.level})"

    def identity(self) -> dict[str, Any]:
        """What determines the sizes, for naming work that was done with them."""
        return {"codec": self.name, "level": self.level, "library": _library(CODECS[self.name].package)}

    def _computed(self) -> bool:
        if not self._wbits:
            return False
        from curate.kernels.deflating import agrees_with_zlib

        return agrees_with_zlib(self.level)

    def sizes(self, texts: Texts) -> np.ndarray:
        """int64[n]: bytes of each text alone."""
        return np.array([self.size(texts.bytes(i)) for i in range(len(texts))], np.int64)

    def primed(self, prefix: bytes) -> Size:
        """The function ``text -> bytes of prefix + text``."""
        if not self._wbits:
            return lambda text: self.size(prefix + text)
        started = zlib.compressobj(self.level, zlib.DEFLATED, self._wbits)
        written = len(started.compress(prefix))

        def size(text: bytes) -> int:
            more = started.copy()
            return written + len(more.compress(text)) + len(more.flush())

        return size

    def prepared(self, texts: Texts) -> np.ndarray | None:
        """What can be known of texts before they come after others, for `joint_sizes`: 8 bytes a byte, or None."""
        if not self._computed():
            return None
        from curate.kernels.deflating import own_matches

        return own_matches(texts.data, texts.offsets, self.level)

    def joint_sizes(
        self,
        prefix: np.ndarray,
        texts: Texts,
        which: np.ndarray | None = None,
        prepared: np.ndarray | None = None,
    ) -> np.ndarray:
        """int64[m]: bytes of ``prefix`` (uint8[...]) with each of some texts after it.

        ``which`` : int64[m], the texts that are wanted; None is all. ``prepared`` : what `prepared` gave
        for them; makes it faster, not different.
        """
        if which is None:
            which = np.arange(len(texts))
        if self._computed():
            from curate.kernels.deflating import joint_sizes

            more = GZIP_BYTES if self._wbits == 31 else 0
            own = () if prepared is None else (prepared,)
            return joint_sizes(prefix, texts.data, texts.offsets, which, self.level, *own) + more
        size = self.primed(prefix.tobytes())
        return np.array([size(texts.bytes(int(i))) for i in which], np.int64)


@cache
def _library(package: str) -> str:
    """Name and version of what decides the sizes."""
    if package == "zlib":
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    from importlib.metadata import version

    return f"{package} {version(package)}"
