"""A quick look at JSON text for what a parser may get wrong."""

from __future__ import annotations

import numpy as np

from curate.kernels.compiled import kernel
from curate.kernels.vector import backslash_mask, d_mask, u_mask


@kernel
def _has_surrogate_escape(data):
    stop = len(data) - 66
    i = 0
    while i < stop:
        if backslash_mask(data, i) & u_mask(data, i + 1) & d_mask(data, i + 2):
            return True
        i += 64
    while i + 2 < len(data):
        if data[i] == 92 and data[i + 1] == 117 and data[i + 2] | 32 == 100:
            return True
        i += 1
    return False


def has_surrogate_escape(data: bytes) -> bool:
    r"""Whether ``\ud`` or ``\uD`` is in a text: half of a surrogate pair is written so, and some others are."""
    return bool(_has_surrogate_escape(np.frombuffer(data, np.uint8))) if data else False
