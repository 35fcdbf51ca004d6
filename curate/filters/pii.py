"""Masking what names a person or opens a door: e-mail addresses, IP addresses, keys and tokens.

All patterns take time in proportion to the text: an address is read outwards from its ``@``, and what begins a key
cannot begin again within it.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from curate.errors import unknown
from curate.features.edits import Edits
from curate.kernels.text import one_chunk

Span = tuple[int, int]

_LOCAL = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9._%+'-]{0,62}[A-Za-z0-9_+-])?\Z")
_DOMAIN = re.compile(rb"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8})([A-Za-z]{2,24})(?![A-Za-z0-9_-]|@)")
_FILE_ENDINGS = frozenset(b"png jpg jpeg gif svg webp ico bmp pdf js jsx ts tsx mjs cjs css scss html json map".split())

_IPV4 = re.compile(
    rb"(?<![\w.:-])(?:[1-9]?\d|1\d\d|2[0-4]\d|25[0-5])(?:\.(?:[1-9]?\d|1\d\d|2[0-4]\d|25[0-5])){3}(?![\w-]|\.\w)"
)
_IPV6 = re.compile(rb"(?<![\w:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]|\.\w)")
_VERSION_BEFORE = re.compile(
    rb"(?:\b(?:v|ver|vers|version|versions|release|build|firmware|section|chapter|rev|revision)\b[\s.:=\"'(]{0,4}"
    rb"|[<>]=?\s{0,2}|[=~]=\s{0,2})\Z",
    re.IGNORECASE,
)
_TITLE_AFTER = re.compile(rb"\.|[ \t]{1,4}[A-Z\x80-\xff]")
_LINE_BEFORE = re.compile(rb"(?:\A|\n)[ \t#*]{0,15}\Z")

_KEYS = re.compile(
    rb"(?<![\w-])(?:"
    rb"(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    rb"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}"  # GitHub
    rb"|glpat-[\w-]{20,64}"  # GitLab
    rb"|xox[abeoprs]-[A-Za-z0-9-]{10,255}"  # Slack
    rb"|AIza[\w-]{35}"  # Google
    rb"|[sr]k_live_[A-Za-z0-9]{16,255}"  # Stripe
    rb"|hf_[A-Za-z0-9]{30,64}"  # Hugging Face
    rb"|npm_[A-Za-z0-9]{36}"
    rb"|(?P<sk>sk-[\w-]{20,255})"  # OpenAI, Anthropic and others like them
    rb"|eyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{8,2048}"  # JSON web tokens
    rb")(?![\w-])",
)  # fmt: skip
_PEM_BEGIN = re.compile(rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(rb"-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(rb"(?:\\n|[A-Za-z0-9+/=\s]){0,16384}")
PEM_BYTES = 32_768


def _emails(text: bytes) -> Iterator[Span]:
    """Addresses with a dotted domain; not ``git@host:path``, ``logo@2x.png``, ``name@1.2`` or ``@decorator.name``."""
    for domain in _DOMAIN.finditer(text):
        at = domain.start()
        local = _LOCAL.search(text[max(0, at - 64) : at])
        if local is None or domain[2].lower() in _FILE_ENDINGS:
            continue
        if local[0] == b"git":
            continue
        yield at - len(local[0]), domain.end()


def _addresses(text: bytes) -> Iterator[Span]:
    """Public addresses: not those of private and reserved networks, nor a part of a longer number.

    Nor versions (behind a word such as "version", or a comparison), nor numbers of sections: none over 30, at the
    beginning of a line, with a full stop or a title behind.
    """
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            start, stop = match.span()
            before = text[max(0, start - 16) : start]
            if _is_public(match[0].decode()) and not (_VERSION_BEFORE.search(before) or _is_section(text, start, stop)):
                yield start, stop


def _is_section(text: bytes, start: int, stop: int) -> bool:
    if not _LINE_BEFORE.search(text, max(0, start - 16), start):
        return False
    numbers = text[start:stop].split(b".")
    return len(numbers) == 4 and all(int(n) <= 30 for n in numbers) and bool(_TITLE_AFTER.match(text, stop))


def _is_public(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return found.is_global and not found.is_multicast


def _keys(text: bytes) -> Iterator[Span]:
    """Keys of services by their prefix, JSON web tokens, private keys in PEM up to their last line."""
    for match in _KEYS.finditer(text):
        if match["sk"] is None or (re.search(rb"\d", match[0]) and re.search(rb"[A-Z]", match[0])):
            yield match.span()
    begins = list(_PEM_BEGIN.finditer(text))
    ends = [match.end() for match in _PEM_END.finditer(text)] if begins else []
    for i, begin in enumerate(begins):
        limit = begins[i + 1].start() if i + 1 < len(begins) else len(text)
        k = bisect_left(ends, begin.end())
        if k < len(ends) and ends[k] <= min(limit, begin.start() + PEM_BYTES):
            yield begin.start(), ends[k]
        else:  # cut off
            body = _PEM_BODY.match(text, begin.end())
            yield begin.start(), body.end() if body else begin.end()


MASKS: Mapping[str, tuple[str, str, Any]] = {
    "email": ("<EMAIL>", r"[A-Za-z0-9_+-]@[A-Za-z0-9]", _emails),
    "ip": ("<IP>", r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]", _addresses),
    "keys": (
        "<KEY>",
        r"AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AIza|[sr]k_live_|hf_|npm_|sk-|eyJ|PRIVATE KEY",
        _keys,
    ),
}
"""By name: what is put there, a regular expression (Rust's, linear) of every text with one, how they are found."""


def check_masks(names: Iterable[str]) -> None:
    """
    Raises
    ------
    UsageError : a mask that there is not.
    """
    for name in names:
        if name not in MASKS:
            raise unknown("mask", name, MASKS)


def masked(texts: Any, names: Iterable[str] = tuple(MASKS)) -> tuple[Edits, dict[str, int]]:
    """The edits that mask texts, an Arrow array of strings, and how many there are of each kind.

    Spans that overlap, such as a password before an ``@``, become one of the first.

    Raises
    ------
    UsageError : a mask that there is not.
    """
    import polars as pl
    import pyarrow as pa

    names = tuple(names)
    check_masks(names)
    texts = one_chunk(texts).cast(pa.large_string())
    column = pl.Series(texts)
    found: list[tuple[int, int, int, str]] = []
    for name in names:
        replacement, hint, spans = MASKS[name]
        docs = column.str.contains(hint).fill_null(value=False).arg_true().to_numpy()
        for doc, text in zip(docs.tolist(), texts.take(pa.array(docs)).to_pylist(), strict=True):
            found += [(doc, start, stop, replacement) for start, stop in spans(text.encode())]
    edits = Edits.of(found)
    by_text = Counter(edits.texts)
    return edits, {name: by_text[MASKS[name][0]] for name in names}
