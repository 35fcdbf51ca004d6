"""Texts of strangers made harmless: what cannot be seen is shown, what is too long is cut, HTML is escaped."""

from __future__ import annotations

import html
import re

# C0 and C1 controls but for tab and newline, marks that turn the direction of what follows or cannot be seen, line
# separators, halves of surrogate pairs, and the code points that are no characters. Joiners stay: scripts need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr((plane << 16) + 0xFFFE) + chr((plane << 16) + 0xFFFF) for plane in range(1, 17))
    + "]"
)


def visible(text: str) -> str:
    """The text with a visible symbol for every character that is none; tabs and newlines stay."""
    return _UNSEEN.sub(_symbol, text)


def _symbol(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def label(text: str, limit: int = 80) -> str:
    """A name on one line, at most ``limit`` characters of it."""
    line = visible(" ".join(text[: 4 * limit].split()))
    return line if len(line) <= limit else line[: limit - 1] + "\u2026"


def escape(text: str) -> str:
    """Text for HTML, between tags or in a quoted attribute."""
    return html.escape(visible(text), quote=True)


def excerpt(text: str, limit: int = 1_000) -> tuple[str, int]:
    """The beginning of a text, and how many characters of it were cut off."""
    return text[:limit], max(0, len(text) - limit)
