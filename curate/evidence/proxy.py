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
    encoder = ppmd().Ppmd8Encoder(ORDER, MEMORY)
    encoder.encode(b"".join(text + SEPARATOR for text in priming))
    lengths = np.array([len(encoder.encode(text + SEPARATOR)) for text in heldout], np.int64)
    lengths[-1] += len(encoder.flush(False)) - FLUSH
    return lengths
