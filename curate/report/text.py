"""A report as Markdown, with the same numbers as the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curate.report.card import plain, plain_long
from curate.report.safe import label, visible
from curate.report.sections import (
    Amounts,
    Block,
    Bullets,
    Code,
    Facts,
    Pairs,
    Paragraph,
    Reading,
    Table,
    about,
    about_pair,
    about_passage,
    amount,
    sections,
)
from curate.report.summary import Passage, Summary


def markdown(summary: Summary) -> str:
    """The report as Markdown."""
    lines = [f"# {plain(label(summary.title))}", ""]
    for section in sections(summary):
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            yield _text(block.text)
        case Facts():
            yield from (f"- {_text(item.label)}: {_text(item.value)}" for item in block.items)
        case Bullets():
            yield from (f"- {_text(item)}" for item in block.items)
        case Code():
            yield from _fenced(block.text)
        case Table():
            yield from _table(block)
        case Amounts():
            rows = tuple((a.name, *amount(a)) for a in block.items)
            yield from _table(Table("Amounts", ("", "documents", "text", "tokens"), rows))
        case Reading():
            yield f"### {block.title}"
            for item in block.items:
                cut = f" ({item.n_cut:,} more characters)" if item.n_cut else ""
                yield from ("", f"{plain(label(item.doc_id))}: {_text(about(item))}{cut}", "", *_fenced(item.excerpt))
        case Pairs():
            yield f"### {block.title}"
            for pair in block.items:
                yield from ("", f"**{_text(about_pair(pair))}**", "")
                yield from (*_passage("removed:", pair.removed), *_passage("like:", pair.matched, again=pair.equal))


def _passage(role: str, of: Passage, again: bool = False) -> Iterator[str]:
    """A text of a pair, whose difference is in double brackets; ``again``: it is that of the other."""
    cut = f" ({of.n_cut:,} more characters)" if of.n_cut else ""
    what = " (the same text)" if again else cut if of.known else " (the text is not at hand)"
    yield from (f"{role} {_text(about_passage(of))}{what}", "")
    if of.known and not again:
        between = f" ({of.n_between:,} more characters) " if of.n_between else ""
        mark = "" if of.difference is None else f"\u27e6{of.difference}\u27e7"
        yield from (*_fenced(f"{of.beginning}{between}{of.before}{mark}{of.after}"), "")


def _text(text: str) -> str:
    return plain_long(visible(text))


def _table(block: Table) -> Iterator[str]:
    yield from (f"**{_text(block.caption)}**", "")
    if block.note:
        yield from (_text(block.note), "")
    yield "| " + " | ".join(map(_text, block.head)) + " |"
    yield "| --- |" + " ---: |" * (len(block.head) - 1)
    for row in block.rows:
        yield f"| {_text(label(row[0], 120))} | " + " | ".join(map(_text, row[1:])) + " |"


def _fenced(text: str) -> list[str]:
    """A text as it is, in a fence longer than any in it."""
    ticks = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return [f"{fence}text", visible(text), fence]
