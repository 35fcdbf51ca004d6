"""In which languages texts are: by CLD2 where it is installed, else by their scripts."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from curate._optional import installed
from curate.filters.language import detect

N_CHARACTERS = 1_000  # of each text, its beginning
_NAMES = {"ChineseT": "Chinese (traditional)", "Unknown": "unknown", "TG_UNKNOWN_LANGUAGE": "unknown"}


@dataclass(frozen=True)
class Languages:
    """Share of the documents by language (or script), largest first; ``by`` says which, and of how many documents."""

    by: str
    shares: Mapping[str, float]
    n_documents: int


def languages(texts: Any) -> Languages:
    """The languages of texts, an Arrow array of strings, judged by the beginning of each."""
    beginnings = [text[:N_CHARACTERS] for text in texts.to_pylist()]
    detected = installed("pycld2")
    found = Counter(map(_language if detected else script, beginnings))
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    whole = len(beginnings) or 1
    return Languages("language" if detected else "script", {k: n / whole for k, n in ordered}, len(beginnings))


def _language(text: str) -> str:
    reliable, _, details = detect(text.encode())
    name = str(details[0][0]) if reliable else "Unknown"
    return _NAMES.get(name) or name.removeprefix("X_").replace("_", " ").title()


def script(text: str) -> str:
    """The script of most letters of a text, by the first word of their Unicode names; "none" without letters."""
    counts = Counter(text)
    scripts: Counter[str] = Counter()
    for character, n in counts.items():
        scripts[_script_of(character)] += n
    scripts.pop("", None)
    return min(scripts, key=lambda s: (-scripts[s], s)) if scripts else "none"


@cache
def _script_of(character: str) -> str:
    """Such as "Latin"; empty for what is no letter."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "")
    return {"CJK": "Han"}.get(first := name.partition(" ")[0], first.title())
