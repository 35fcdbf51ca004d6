"""The parts of a report in their order, with every number already a text: HTML and Markdown say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curate.report import charts
from curate.report.charts import Chart
from curate.report.safe import label
from curate.report.summary import (
    Amount,
    Cleaning,
    Distribution,
    DocumentWeights,
    Example,
    Fact,
    Match,
    Metric,
    Nearness,
    Pair,
    Passage,
    Removals,
    ScoreHistogram,
    Share,
    Summary,
    Weighing,
)
from curate.report.terminal import size

# What tests/benchmarks/metrics.py found: Spearman's correlation with the gain in bits per byte.
PREDICTS = (
    "These distances tell an aimed selection from a random one, not which of two aimed ones a model gains more from: "
    "over 180 selections for ten targets the rank correlation of KL reduction with the gain in bits per byte was 0.41, "
    "and 0.07 among the aimed ones; total variation did best with 0.51 and 0.20. curate evaluate measures the gain."
)


REASONS_SHOWN = 6  # in a table


@dataclass(frozen=True)
class Paragraph:
    text: str
    strong: bool = False


@dataclass(frozen=True)
class Facts:
    items: tuple[Fact, ...]


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Table:
    """The first column is a name, the others are numbers; when there is a chart behind it, or ``beside`` it."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    chart: Chart | None = None
    note: str = ""
    beside: bool = False


@dataclass(frozen=True)
class Amounts:
    """How much there is of each corpus."""

    items: tuple[Amount, ...]


@dataclass(frozen=True)
class Reading:
    """Documents to read."""

    title: str
    items: tuple[Example, ...]


@dataclass(frozen=True)
class Pairs:
    """Texts to read beside each other."""

    title: str
    items: tuple[Pair, ...]


Block = Paragraph | Facts | Bullets | Code | Table | Amounts | Reading | Pairs


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: tuple[Block, ...]


def number(value: float | int | None, unit: str = "") -> str:
    """A number to read: whole ones with commas, others with four digits; "-" for none."""
    if value is None or value != value:
        return "-"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"
    return f"{text} {unit}".strip()


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{number(low)} to {number(high)}"


def sections(of: Summary) -> list[Section]:
    """The sections that have something to say."""
    found = [
        Section("task", "What was asked and done" if of.asked else "What is there", tuple(_task(of))),
        Section("verdict", "Verdict", tuple(_verdict(of))),
        Section("warnings", "Warnings", (Bullets(of.warnings),) if of.warnings else ()),
        Section("cleaning", "Cleaning", tuple(_cleaning(of.cleaning)) if of.cleaning else ()),
        Section("measures", "Nearness to the target", tuple(_nearnesses(of))),
        Section("sources", _titled("Sources", of.sources, "languages", of.languages), tuple(_shares_of(of))),
        Section(
            "distributions",
            _titled("Scores", of.scores, "distributions", of.distributions),
            (*map(_scores, of.scores), *map(_distribution, of.distributions)),
        ),
        Section("ngrams", "N-grams", tuple(_ngrams(of))),
        Section("curriculum", "Curriculum", tuple(_curriculum(of))),
        Section("removed", "What was removed, to read", tuple(_removed(of.cleaning)) if of.cleaning else ()),
        Section("documents", "Documents to read", tuple(_documents(of))),
        Section("again", "To do it again" if of.command else "Versions and files", tuple(_again(of))),
    ]
    return [section for section in found if section.blocks]


def _titled(one: str, first: Sequence[object], other: str, second: Sequence[object]) -> str:
    """The title of a section of two parts, as far as they are there."""
    return " and ".join([one] * bool(first) + [other] * bool(second)).capitalize()


def amount(of: Amount) -> tuple[str, str, str]:
    """Documents, text and tokens of a corpus."""
    return number(of.documents), "-" if of.bytes is None else size(of.bytes), number(of.tokens)


def _task(of: Summary) -> Iterator[Block]:
    if of.amounts:
        yield Amounts(of.amounts)
    if of.asked:
        yield Facts(of.asked)
    if of.done:
        yield Facts(of.done)
    if of.sampling:
        yield Paragraph(of.sampling)


def _verdict(of: Summary) -> Iterator[Block]:
    if of.verdict is None:
        if of.verdict_hint:
            yield Paragraph("Whether this selection beats a random one has not been measured. This measures it:")
            yield Code(of.verdict_hint)
        return
    yield Paragraph(of.verdict.sentence, strong=True)
    if of.verdict.arms:
        rows = tuple(
            (
                a.name,
                number(a.bits_per_byte),
                interval(a.low, a.high),
                number(a.difference),
                interval(a.difference_low, a.difference_high),
            )
            for a in of.verdict.arms
        )
        head = ("arm", "bits per byte", "from sample to sample", "less random", f"{of.verdict.level:.0%} interval")
        yield Table("Bits per byte of held-out text", head, rows, charts.arms_chart(of.verdict.arms), beside=True)


def _cleaning(of: Cleaning) -> Iterator[Block]:
    whole = of.whole
    told = f"Cleaning removed {whole.removed:,} of {whole.documents:,} documents ({share(whole.share)})."
    yield Paragraph(told, strong=True)
    yield Facts(of.asked)
    yield Facts(tuple(_found_of(of)))
    several = len(of.sources) > 1
    if several:
        yield _removed_shares(of.sources)
    if whole.reasons:
        yield _removed_reasons((whole, *(of.sources if several else ())), list(whole.reasons))
    if of.benchmarks:
        rows = tuple(
            (b.name, *map(number, (b.items, b.found, b.verbatim, b.edited, b.documents, b.undecidable)))
            for b in of.benchmarks
        )
        head = ("benchmark", "items", "found", "word for word", "edited", "in documents", "not looked for")
        yield Table("Evaluation items in raw, by benchmark", head, rows)
        yield Paragraph(
            "An item may be in one document word for word and in another edited. Items that are too short, or nothing "
            "but boilerplate, are not looked for."
        )


def _found_of(of: Cleaning) -> Iterator[Fact]:
    """What was found, but for reasons and benchmarks, of which there are tables."""
    if (found := of.duplicates) is not None:
        kinds = ((found.exact, "exact"), (found.near, "near"), (found.semantic, "semantic"))
        yield Fact("duplicates removed", ", ".join(f"{n:,} {kind}" for n, kind in kinds))
        if found.clusters:
            yield Fact("kept for others", f"{found.clusters:,} documents, one of them for {found.largest - 1:,}")
        yield Fact("pairs compared", number(found.pairs))
        if found.not_compared:
            yield Fact("not compared with all others", f"{found.not_compared:,} documents of very common templates")
        if found.against:
            yield Fact("documents of other corpora", number(found.against))
    if of.masked:
        yield Fact("masked in texts", ", ".join(f"{n:,} {kind}" for kind, n in of.masked.items()))


def _removed_shares(sources: Sequence[Removals]) -> Table:
    rows = tuple((s.source or "(none)", number(s.documents), number(s.removed), share(s.share)) for s in sources)
    head = ("source", "documents", "removed", "share")
    return Table("Share removed, by source", head, rows, charts.removed_chart(sources), beside=True)


def _removed_reasons(items: Sequence[Removals], reasons: Sequence[str]) -> Table:
    """Documents by source and reason, the commonest `REASONS_SHOWN` reasons by themselves."""
    rest = reasons[REASONS_SHOWN:]
    rows = tuple(
        (
            "all" if i == 0 else item.source or "(none)",
            *(number(item.reasons.get(reason, 0)) for reason in reasons[:REASONS_SHOWN]),
            *([number(sum(item.reasons.get(reason, 0) for reason in rest))] if rest else []),
        )
        for i, item in enumerate(items)
    )
    names = (
        *(label(reason, 40) for reason in reasons[:REASONS_SHOWN]),
        *([f"{len(rest):,} more reasons"] * bool(rest)),
    )
    return Table("Documents removed, by source and reason", ("source", *names), rows)


def _removed(of: Cleaning) -> Iterator[Block]:
    if of.pairs:
        yield Pairs("Duplicates", of.pairs)
    if of.note:
        yield Paragraph(of.note)
    if of.matches:
        yield Reading("Evaluation items that were found", tuple(map(_match, of.matches)))


def _match(of: Match) -> Example:
    """The place of an evaluation item as a document to read."""
    kind = {"verbatim": "word for word"}.get(of.kind, of.kind)
    about = (
        f"item {label(of.item, 40)} of {label(of.benchmark, 40)}, {kind}, {of.n_words:,} words, {of.coverage:.0%} of it"
    )
    return Example(of.doc_id, about, None, None, of.excerpt)


def about_pair(of: Pair) -> str:
    """One line about a pair: why one of it went."""
    reason = of.reason.replace("_", " ")
    stays = f"; {label(of.stays)} stays for both" * bool(of.stays)
    return f"{reason}, similarity {number(of.similarity)}{stays}"


def about_passage(of: Passage) -> str:
    """One line about a text of a pair."""
    return f"{label(of.doc_id)}{f', {label(of.source, 40)}' * bool(of.source)}"


def _metrics(metrics: Sequence[Metric]) -> Iterator[Block]:
    for name in dict.fromkeys(m.name for m in metrics):
        some = [m for m in metrics if m.name == name]
        rows = tuple(
            (m.target or "all", number(m.value, m.unit), interval(m.low, m.high), number(m.null)) for m in some
        )
        better = f" {some[0].better.capitalize()} is better." if some[0].better else ""
        head = ("target", "value", "interval", "no effect")
        yield Table(name, head, rows, charts.metrics_chart(some), some[0].meaning + better, beside=True)


def _nearnesses(of: Summary) -> Iterator[Block]:
    yield from _metrics(of.metrics)
    yield from map(_nearness, of.nearness)
    if of.nearness:
        yield Paragraph(PREDICTS)


def _nearness(of: Nearness) -> Table:
    rows = tuple((r.name, number(r.raw), number(r.selected), number(r.noise)) for r in of.rows)
    head = ("distance", "raw", "selected", "noise")
    chart = charts.nearness_chart(of)
    return Table(f"Distance to {of.target}", head, rows, chart, f"Smaller is nearer. {of.note}", beside=True)


def _shares_of(of: Summary) -> Iterator[Block]:
    if of.sources:
        yield _shares("source", of.sources)
    if of.languages:
        yield _shares(of.languages_by, of.languages)


def _shares(kind: str, items: Sequence[Share]) -> Table:
    names = charts.shown(items)
    rows = tuple((s.name or "(none)", *(share(getattr(s, n)) for n in names)) for s in items)
    return Table(f"Share of documents by {kind}", (kind, *names), rows, charts.shares_chart(kind, items))


def _scores(of: ScoreHistogram) -> Table:
    rows = tuple(
        (f"{number(of.edges[i])} to {number(of.edges[i + 1])}", number(raw), number(selected))
        for i, (raw, selected) in enumerate(zip(of.raw, of.selected, strict=True))
    )
    note = ""
    if of.threshold is not None:
        cut = "As many documents as were kept lie above" if of.about else "Cut at"
        note = f"{cut} {number(of.threshold, of.unit)} (broken line)."
    title = f"Scores for {of.target}" if of.target else "Scores of documents"
    return Table(title, ("score", "raw", "selected"), rows, charts.scores_chart(of), note)


def _distribution(of: Distribution) -> Table:
    levels = list(dict.fromkeys(level for s in of.series for level in s.quantiles))
    rows = tuple((s.name, *(number(s.quantiles.get(level)) for level in levels)) for s in of.series)
    note = ""
    if of.ks is not None:
        around = f" ({interval(of.ks_low, of.ks_high)})" if of.ks_low is not None else ""
        note = f"Largest gap between raw and selected (KS): {number(of.ks)}{around}."
    if charts.cut(of):
        note += " Without the outermost 0.5% on either side."
    title = f"{of.attribute[:1].upper()}{of.attribute[1:]}{f' in {of.unit}' if of.unit else ''}"
    return Table(title, ("quantile", *levels), rows, charts.distribution_chart(of), note.strip())


def _ngrams(of: Summary) -> Iterator[Block]:
    for title, change, items in (("Gained", "gained", of.gained), ("Lost", "lost", of.lost)):
        if items:
            names = charts.shown(items)
            rows = tuple((i.ngram, *(number(getattr(i, n)) for n in names)) for i in items)
            head = ("n-gram", *names)
            yield Table(f"{title} most, per million n-grams", head, rows, charts.ngrams_chart(items, f"{change} most"))

    if of.commonest:
        rows = tuple((i.ngram, number(i.raw)) for i in of.commonest)
        chart = charts.ngrams_chart(of.commonest, "that are commonest")
        yield Table("Commonest pairs, per million n-grams", ("n-gram", "raw"), rows, chart, beside=True)


def _curriculum(of: Summary) -> Iterator[Block]:
    made = of.curriculum
    if made is None:
        return
    yield Paragraph(made.about)
    some = len(made.stages) < made.n_stages
    note = f"{len(made.stages)} of {made.n_stages:,} stages are shown." if some else ""
    if made.groups:
        yield _group_weights(made, note)
    if made.documents:
        rows = tuple(
            (
                f"stage {d.stage}",
                number(d.n_documents),
                number(d.n_weighted),
                number(d.n_effective),
                number(d.largest),
                share(d.heaviest),
            )
            for d in made.documents
        )
        head = ("", "documents", "with weight", "worth as many even ones", "largest, times even", "heaviest tenth")
        yield Table("Weights of documents", head, rows, note=note)
        yield from map(_document_weights, made.documents)


def _group_weights(made: Weighing, note: str) -> Table:
    known = charts.shown(made.groups, ("raw", "selected"))
    one = made.n_stages == 1
    rows = tuple(
        (g.group or "(none)", *(share(getattr(g, name)) for name in known), *map(share, g.weights)) for g in made.groups
    )
    head = ("group", *known, *(["weight"] if one else [f"stage {stage}" for stage in made.stages]))
    chart = charts.weights_chart(made.groups) if one else charts.stages_chart(made.groups, made.stages)
    if known:
        note = f"{' and '.join(known).capitalize()}: each group's share of their documents. {note}".strip()
    return Table(f"Weight of each of {made.n_groups:,} groups", head, rows, chart, note, beside=True)


def _document_weights(of: DocumentWeights) -> Table:
    rows = tuple(
        (f"{number(of.edges[i])} to {number(of.edges[i + 1])}", number(count)) for i, count in enumerate(of.documents)
    )
    head = ("times an even share", "documents")
    beyond = f" The last bar holds what lies beyond it too, up to {number(of.largest)}." * (of.largest > of.edges[-1])
    note = f"1 is an even share of the training.{beyond}"
    return Table(f"Documents by weight, stage {of.stage}", head, rows, charts.document_weights_chart(of), note)


def _documents(of: Summary) -> Iterator[Block]:
    if of.documents is None:
        return
    best = "Best" if of.scores else "Some that were kept"
    for title, items in (
        (best, of.documents.best), ("Borderline", of.documents.borderline), ("Worst", of.documents.worst)
    ):  # fmt: skip
        if items:
            yield Reading(title, items)
    if of.documents.note:
        yield Paragraph(of.documents.note)


def _again(of: Summary) -> Iterator[Block]:
    if of.command:
        yield Code(of.command)
    if of.versions:
        yield Facts(of.versions)
    if of.hashes:
        rows = tuple((f"{h.role} {h.name}", number(h.rows), size(h.bytes), h.sha256) for h in of.hashes)
        yield Table("Files", ("file", "rows", "size", "SHA-256"), rows)


def about(item: Example) -> str:
    """One line about a document."""
    parts = [item.source, "" if item.score is None else f"score {number(item.score)}",
             "" if item.n_bytes is None else size(item.n_bytes)]  # fmt: skip
    return ", ".join(part for part in parts if part)
