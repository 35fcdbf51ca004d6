"""The proxy for a language model: PPMd, which reads a sample and then codes the held-out texts."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from curate._optional import require
from curate.evidence.texts import SEPARATOR

ORDER = 8
READ_BYTES = 20  # of memory for each byte that it reads, at most: 12 were measured on prose, code and hex digits
MAX_READ = 10_000_000
MEMORY = 256 << 20  # never full, since then it would forget everything
AT_ONCE = 16_384  # bytes of text
FLUSH = 4  # bytes that the encoder always writes at its end


def ppmd() -> ModuleType:
    """The package that has it.

    Raises
    ------
    MissingExtraError : it is not installed.
    """
    return require("pyppmd", extra="evaluate", purpose="curate evaluate")


def code_lengths(priming: Sequence[bytes], heldout: Sequence[bytes]) -> np.ndarray:
    """Bytes that each held-out text costs in a PPMd model (variant I) that has read the priming texts.

    One encoder codes both. The range coder holds back a byte or two, so a single length is rounded; the
    roundings cancel in the sum. The model goes on learning within the held-out texts.

    Returns
    -------
    int64[n_heldout]
    """
    encoder = _Encoder()
    encoder.read(b"".join(text + SEPARATOR for text in priming))
    lengths = np.array([encoder.read(text + SEPARATOR) for text in heldout], np.int64)
    lengths[-1] += encoder.end() - FLUSH
    return lengths


class _Encoder:
    """An encoder that is given its text in one buffer, over and over.

    pyppmd 1.3.1 never lets go of what it was given to encode: 2 MB for each coding.
    """

    def __init__(self) -> None:
        self._encoder = ppmd().Ppmd8Encoder(ORDER, MEMORY)
        self._buffer = memoryview(bytearray(AT_ONCE))

    def read(self, text: bytes) -> int:
        """Code a text; returns how many bytes that takes."""
        size = 0
        for start in range(0, len(text), AT_ONCE):
            piece = text[start : start + AT_ONCE]
            self._buffer[: len(piece)] = piece
            whole = len(piece) == AT_ONCE
            size += len(self._encoder.encode(self._buffer if whole else self._buffer[: len(piece)]))
        return size

    def end(self) -> int:
        """How many bytes are still to come."""
        return len(self._encoder.flush(False))
