"""A quick look at JSON text for what a parser may get wrong."""

from __future__ import annotations

from curate.kernels.compiled import kernel
from curate.kernels.vector import backslash_mask, d_mask, u_mask


@kernel
def surrogate_escape(data):
    r"""Whether ``\ud`` or ``\uD`` is in a text."""
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
