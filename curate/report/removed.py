"""Some of what cleaning removed, to read: pairs of duplicates with where they differ, evaluation items that were found.

They are drawn by a hash of their documents' ids, from every kind alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.decontamination.found import EXCERPT
from curate.io.run import CONTAMINATION, DUPLICATES, RunFolder
from curate.io.tables import batches, numpy
from curate.kernels.text import one_chunk
from curate.report.gather import Few, Texts
from curate.report.summary import Match, Pair, Passage, Summary
from curate.sampling.noise import TIE, centred, keyed_hashes

PAIRS, EXACT, MATCHES = 20, 4, 10  # at most; there is little to see in exact duplicates
BANDS = (0.0, 0.8, 0.9)  # of near duplicates' similarity, each from here to the next
BEGINNING, CONTEXT, WORD = 200, 80, 40  # characters
_PART = r"[^\W\u0e00-\u0e7f\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"  # of words with spaces around
_WORD_BEFORE, _WORD_AFTER = re.compile(rf"{_PART}*\Z"), re.compile(rf"{_PART}*")
_PAIR_COLUMNS = [
    "doc_id", "path", "row", "reason", "matched_id", "matched_path", "matched_row", "cluster", "cluster_path",
    "cluster_row", "similarity", "against",
]  # fmt: skip
_MATCH_COLUMNS = ["doc_id", "path", "row", "benchmark", "item", "kind", "coverage", "n_words", "excerpt"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Removed:
    """Rows of the files that say what was removed."""

    pairs: Sequence[Row]
    matches: Sequence[Row]

    def rows(self) -> list[Row]:
        """Where the documents of pairs are whose texts can be read: in raw."""
        matched = ({"path": row["matched_path"], "row": row["matched_row"]} for row in self.pairs if not row["against"])
        return [*self.pairs, *matched]


def choose_removed(folder: RunFolder) -> Removed:
    """Pairs of duplicates, of every band of similarity alike, and matches, verbatim and edited alike."""
    bands = [Few(EXACT), *(Few(PAIRS) for _ in range(len(BANDS) + 1))]
    kinds = {kind: Few(4 * MATCHES) for kind in ("verbatim", "edited")}  # an item may be in several places of one
    if (path := folder.path / DUPLICATES).exists():
        for rows in batches(path, _PAIR_COLUMNS):
            of, keys = _bands(rows), _drawn(rows["doc_id"])
            for number, few in enumerate(bands):
                few.add(rows, np.where(of == number, keys, np.nan))
    if (path := folder.path / CONTAMINATION).exists():
        for rows in batches(path, _MATCH_COLUMNS):
            keys = _drawn(pc.binary_join_element_wise(rows["doc_id"], rows["item"], pa.scalar("\n", pa.large_string())))
            for kind, few in kinds.items():
                few.add(rows, np.where(numpy(pc.equal(rows["kind"], kind)), keys, np.nan))
    return Removed(
        _alike([few.rows for few in bands], PAIRS), _alike([_apart(few.rows) for few in kinds.values()], MATCHES)
    )


def _drawn(names: Any) -> np.ndarray:
    return centred(keyed_hashes(one_chunk(names), 0, TIE))


def _bands(rows: pa.Table) -> np.ndarray:
    """int64[n]: 0 for exact duplicates; near ones, the most similar first; semantic ones last."""
    near = len(BANDS) - np.searchsorted(BANDS[1:], numpy(rows["similarity"]), "right")
    exact, semantic = (numpy(pc.equal(rows["reason"], f"{kind}_duplicate")) for kind in ("exact", "semantic"))
    return np.select([exact, semantic], [0, len(BANDS) + 1], near)


def _apart(rows: Iterable[Row]) -> list[Row]:
    """The first place of each document and item."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        found.setdefault((row["doc_id"], row["path"], row["row"], row["benchmark"], row["item"]), row)
    return list(found.values())


def _alike(groups: Sequence[Sequence[Row]], n: int) -> list[Row]:
    """At most ``n`` rows, as many of each group as there can be, group after group."""
    turns = sorted((turn, number) for number, rows in enumerate(groups) for turn in range(len(rows)))
    taken = Counter(number for _, number in turns[:n])
    return [row for number, rows in enumerate(groups) for row in rows[: taken[number]]]


def with_removed(summary: Summary, removed: Removed, texts: Texts, masks: Iterable[str] = ()) -> Summary:
    """A summary with what was removed to read. ``texts``: of raw, as far as they are there. ``masks``: of excerpts."""
    if summary.cleaning is None:
        return summary
    pairs = tuple(_pair(row, texts) for row in removed.pairs)
    matches = _matches(removed.matches, tuple(masks))
    cleaning = replace(summary.cleaning, pairs=pairs, matches=matches, note=_note(removed, pairs))
    return replace(summary, cleaning=cleaning)


def _note(removed: Removed, pairs: Sequence[Pair]) -> str:
    """What texts of pairs could not be shown."""
    elsewhere = [bool(row["against"]) for row in removed.pairs]
    gone = sum(
        not (pair.removed.known and (pair.matched.known or other)) for pair, other in zip(pairs, elsewhere, strict=True)
    )
    notes = ["Texts of the other corpora that raw was compared with are not shown."] * any(elsewhere)
    notes += [f"{gone:,} pairs are shown without texts: the raw files are gone or changed."] * bool(gone)
    return " ".join(notes)


# ---- pairs


def _pair(row: Row, texts: Texts) -> Pair:
    one = texts.get((row["path"], row["row"]))
    other = None if row["against"] else texts.get((row["matched_path"], row["matched_row"]))
    equal, at = False, None
    if one and other:
        equal = one[0] == other[0]
        at = None if equal else first_difference(one[0], other[0])
    matched = (row["matched_id"], row["matched_path"], row["matched_row"])
    stays = (row["cluster"], row["cluster_path"], row["cluster_row"])
    return Pair(
        row["reason"],
        row["similarity"],
        _passage(row["doc_id"], one, at),
        _passage(row["matched_id"], other, at),
        equal=equal,
        stays=row["cluster"] if stays != matched else "",
    )


def first_difference(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginnings."""
    n, at, step = min(len(one), len(other)), 0, 1 << 12
    while at < n and one[at : at + step] == other[at : at + step]:
        at += step
    return next((i for i in range(at, n) if one[i] != other[i]), n)


def _passage(doc_id: str, found: tuple[str, str] | None, at: int | None) -> Passage:
    """What is shown of a text that differs from another from character ``at`` on; None: from none."""
    if found is None:
        return Passage(doc_id, known=False)
    text, source = found
    if at is None:
        shown = text[: BEGINNING + CONTEXT]
        return Passage(doc_id, source, before=shown, n_cut=len(text) - len(shown))
    start, stop = _word(text, at)
    window = max(0, start - CONTEXT)
    near = window <= BEGINNING
    return Passage(
        doc_id,
        source,
        "" if near else text[:BEGINNING],
        0 if near else window - BEGINNING,
        text[0 if near else window : start],
        text[start:stop],
        text[stop : stop + CONTEXT],
        max(0, len(text) - stop - CONTEXT),
    )


def _word(text: str, at: int) -> tuple[int, int]:
    """Where the word around a character begins and ends; of what is none, that character."""
    start = at - len(_found(_WORD_BEFORE.search(text[max(0, at - WORD) : at])))
    stop = at + len(_found(_WORD_AFTER.match(text[at : at + WORD])))
    return start, stop if stop > start else min(len(text), at + 1)


def _found(match: re.Match[str] | None) -> str:
    return match.group() if match else ""


# ---- contamination


def _matches(rows: Sequence[Row], masks: tuple[str, ...]) -> tuple[Match, ...]:
    excerpts = _masked([row["excerpt"] for row in rows], masks)
    return tuple(
        Match(row["doc_id"], row["benchmark"], row["item"], row["kind"], row["coverage"], row["n_words"], excerpt)
        for row, excerpt in zip(rows, excerpts, strict=True)
    )


def _masked(excerpts: list[str], masks: tuple[str, ...]) -> list[str]:
    """Excerpts with what is masked in the texts masked too: they were taken before."""
    if not masks or not excerpts:
        return excerpts
    from curate.features.edits import edited
    from curate.filters.pii import masked

    texts = pa.array([_whole_words(text) for text in excerpts], pa.large_string())
    edits, _ = masked(texts, masks)
    return list(edited(texts, edits.lists(len(texts))).to_pylist())


def _whole_words(text: str) -> str:
    """Without a last word that may be the beginning of an address, which masking would not know."""
    return text if len(text) < EXCERPT else text[: len(text) - len(_found(re.search(r"\S*\Z", text)))]
