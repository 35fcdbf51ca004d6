"""What the command line prints of a corpus and of a selection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.features.domains import AGREEMENT, LADDER
from curate.io.corpus import Corpus
from curate.io.curriculum import Curriculum
from curate.metrics.reduction import KLReduction
from curate.metrics.spending import spent_text
from curate.report.cleaning import only_cleans
from curate.report.safe import label
from curate.survey.comparison import Comparison

SOURCES_SHOWN = 8
WEIGHTS_SHOWN = 30


def size(n: float) -> str:
    """Bytes with an SI suffix."""
    for suffix in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {suffix}" if suffix == "B" else f"{n:.1f} {suffix}"
        n /= 1000
    return f"{n:.1f} TB"


def table(rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Columns padded to their widest cell; ``right``: "r" for a column that is aligned to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if right[i : i + 1] == "r" else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def corpus_text(corpus: Corpus, columns: Sequence[str]) -> str:
    """The files of a corpus and how they are cut."""
    per_file = [0] * len(corpus.files)
    for partition in corpus.partitions:
        per_file[partition.file] += 1
    rows = [("file", "format", "bytes", "rows", "partitions")]
    for file, count in zip(corpus.files, per_file, strict=True):
        kind = file.source.format + (f" {file.source.compression}" if file.source.compression else "")
        n_rows = f"{sum(u[0] for u in file.units):,}" if file.units else "?"
        rows.append((file.source.name, kind, f"{file.bytes:,}", n_rows, str(count)))
    lines = [table(rows, " -rrr"), ""]
    lines.append(f"{len(corpus.files)} files, {size(corpus.n_bytes)}, {len(corpus.partitions)} partitions")
    lines.append(f"columns: {', '.join(columns)}")
    if corpus.passed_over:
        lines.append(f"passed over, not data by their names: {', '.join(corpus.passed_over)}")
    return "\n".join(lines)


def weights_text(of: Curriculum) -> str:
    """Weights of a curriculum of one stage, the largest first, with what each comes from."""
    order = np.argsort(-of.weights, kind="stable")[:WEIGHTS_SHOWN]
    rows = [(of.unit, "weight", *(name.replace("_", " ") for name in of.columns))]
    for i in order.tolist():
        values = [of.weights[i], *(column[i] for column in of.columns.values())]
        numbers = [f"{v:,}" if isinstance(v, np.integer) else f"{v:.4f}" for v in values]
        rows.append((label(of.names[i].as_py(), 40), *numbers))
    lines = [table(rows, " " + "r" * (len(rows[0]) - 1))]
    if len(of.names) > len(order):
        lines.append(f"... and {len(of.names) - len(order):,} more")
    return "\n".join(lines)


def domains_text(found: Any) -> str:
    """The domains of a corpus, and by what their number was chosen."""
    rows = [("cluster", "documents", "bytes", "share", "name", "for example")]
    for d in found.domains:
        example = label(d.examples[0][1], 40) if d.examples else ""
        share = d.n_bytes / max(1, found.n_bytes)
        rows.append((str(d.cluster), f"{d.n_documents:,}", size(d.n_bytes), f"{share:.1%}", label(d.name, 44), example))
    lines = [
        f"{len(found.domains)} domains of {found.n_documents:,} documents, {size(found.n_bytes)}; "
        f"found in a sample of {found.n_fitted:,}",
        "",
        table(rows, "rrrr"),
        "",
    ]
    if found.n_without:
        lines.append(f"{found.n_without:,} documents without text are in none")
    if found.stability:
        each = "  ".join(f"{s.k}: {s.agreement:.2f}" for s in found.stability)
        lines.append(
            "agreement of two halves of the sample, by number of domains; taken is that with most of agreement squared "
            f"x log(number), of those with {AGREEMENT} and more\n  {each}"
        )
        if len(found.domains) == LADDER[-1]:
            lines.append("that is the most that is tried; there may be more: see --k")
    lines.append(
        f"domains  {found.out}/clusters/*.parquet\nnext     curate select RAW --domains {found.out} --per cluster"
    )
    return "\n".join(lines)


def course_text(course: Any) -> str:
    """The groups of a curriculum by difficulty, what they weigh at first and at last, and examples of both ends."""
    n_stages = len(course.competence)
    shown = (0,) if n_stages == 1 else (0, n_stages - 1)
    rows = [("group", "documents", "bytes", "difficulty", *(f"stage {stage}" for stage in shown))]
    for group in course.groups:
        low, high = (f"{value:.4g}" for value in group.difficulty)
        weights = (f"{group.weights[stage]:.1%}" for stage in shown)
        rows.append((group.name, f"{group.n_documents:,}", size(group.n_bytes), f"{low} to {high}", *weights))
    within = f" within {', '.join(map(label, course.within))}" if course.within else ""
    lines = [
        f"{course.n_documents:,} documents, {size(course.n_bytes)}, by {label(course.difficulty)}{within}",
        "",
        table(rows, " rrrrr"),
        "",
    ]
    if n_stages > 1:
        lines.append("open at each stage: " + " ".join(f"{share:.0%}" for share in course.competence))
    lines += [f"in no group: {n:,} {reason}" for reason, n in course.reasons.items()]
    for title, examples in (("easiest", course.easiest), ("hardest", course.hardest)):
        lines += ["", title]
        lines += [f"  {e.difficulty:.4g}  {label(e.doc_id, 30)}: {label(e.text, 80)}" for e in examples]
    return "\n".join(lines)


def upgrade_text(found: Any) -> str:
    """How far a map from new vectors to old ones may stretch, what it finds again, and whether the upgrade holds."""
    rows = [("relaxation", f"recall@{found.k}")]
    rows += [(f"{r:g}" + (" *" if r == found.relaxation else "  "), f"{m:.3f}") for r, m in found.recalls.items()]
    lines = [
        f"{found.n_anchors:,} documents in both, {found.n_held_out:,} of them held out and not fitted to",
        "",
        table(rows, "rr"),
        "",
    ]
    if found.accuracies is not None:
        (before, _), (after, own) = found.accuracies
        verdict = "accepted" if found.accepted else "not accepted"
        lines.append(
            f"{verdict}: nearest of the same {label(found.label_column or '', 40)} in the old index for {after:.1%} "
            f"of new queries, {before:.1%} of old ones (in a new index {own:.1%})"
        )
    else:
        lines.append("not tested whether new queries find what old ones did: that needs --label-column")
    lines.append(f"map  {found.out}/alignment.npz  ((x - mean_new) @ matrix + mean_old)")
    return "\n".join(lines)


def selection_text(result: Any) -> str:
    """What was selected, and what a reader should look at first."""
    stats, first = result.manifest["stats"], result.diagnostics[0]
    if "cleaning" in stats and only_cleans(result.manifest["recipe"]):
        return cleaned_text(result)
    lines = [
        f"{result.n_selected:,} of {result.n_documents:,} documents, {size(result.n_bytes_selected)} of "
        f"{size(stats['n_bytes'])} of text, {result.n_tokens_selected:,} tokens",
        "",
        *_lengths(first),
        *_sources(first),
        *[line for d in result.diagnostics for line in _scores(d)],
        *[f"{'spent':<7}  {line}" if i == 0 else f"{'':<7}  {line}" for i, line in enumerate(_spent(stats))],
    ]
    lines += _leverage(stats["fit"].get("leverage", stats["fit"]))
    if "cleaning" in stats:
        lines += ["", *cleaning_lines(stats["cleaning"])]
    if "update" in result.manifest:
        lines.append(_update(result.manifest["update"]))
    if result.seconds:
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items())
        lines.append(f"seconds  {steps}")
    lines.append(
        f"shards   {result.out}/shards/  ({len(result.shards)} files); "
        "manifest.json, ledger.parquet, README.md beside them"
    )
    return "\n".join(lines)


def cleaned_text(result: Any) -> str:
    """What a run that only cleans has removed, and where what is left is."""
    stats = result.manifest["stats"]
    lines = [
        f"{result.n_selected:,} of {result.n_documents:,} documents are left, {size(result.n_bytes_selected)} of "
        f"{size(stats['n_bytes'])} of text",
        "",
        *cleaning_lines(stats["cleaning"]),
    ]
    if result.seconds:
        lines.append(f"seconds  {', '.join(f'{name} {seconds:.1f}' for name, seconds in result.seconds.items())}")
    files = {"duplicates": "duplicates.parquet", "contamination": "contamination.parquet"}
    beside = ["ledger.parquet", *(file for name, file in files.items() if name in stats["cleaning"])]
    lines.append(f"shards   {result.out}/shards/  ({len(result.shards)} files); {', '.join(beside)} beside them")
    return "\n".join(lines)


def cleaning_lines(of: Mapping[str, Any]) -> list[str]:
    """What cleaning has removed, by source and reason, and what it has changed."""
    sources: Mapping[str, Mapping[str, Any]] = of["sources"]
    removed = {source: sum(found["removed"].values()) for source, found in sources.items()}
    if not sum(removed.values()):
        lines = ["removed  none"]
    else:
        shown = sorted((s for s in removed if removed[s]), key=lambda s: (-removed[s], s))[:SOURCES_SHOWN]
        rows = [("source", "documents", "removed", "share", "why")]
        for source in shown:
            n = sources[source]["n_documents"]
            why = _reasons(sources[source]["removed"])
            rows.append((_line(source) or "(all)", f"{n:,}", f"{removed[source]:,}", f"{removed[source] / n:.1%}", why))
        left = sum(1 for n in removed.values() if n) - len(shown)
        lines = [table(rows, " rrr"), *([f"and {left} more"] if left > 0 else []), ""]
    if (duplicates := of.get("duplicates")) is not None:
        lines.append(_duplicates(duplicates))
    for name, found in of.get("contamination", {}).items():
        lines.append(
            f"found    {found['n_items_found']:,} of {found['n_items']:,} items of {_line(name)} in "
            f"{found['n_documents']:,} documents ({found['n_items_verbatim']:,} word for word)"
        )
        if found["n_undecidable"]:
            lines.append(f"         {found['n_undecidable']:,} items of {_line(name)} are too short to look for")
    if of.get("masked"):
        lines.append(f"masked   {', '.join(f'{n:,} {kind}' for kind, n in of['masked'].items())}")
    return lines


def _reasons(removed: Mapping[str, int]) -> str:
    ordered = sorted(removed.items(), key=lambda item: (-item[1], item[0]))
    more = f", {len(ordered) - 3} more reasons" if len(ordered) > 3 else ""
    return ", ".join(f"{n:,} {_line(reason)}" for reason, n in ordered[:3]) + more


def _duplicates(of: Mapping[str, int]) -> str:
    kinds = [
        (of[kind], name) for kind, name in (("exact", "equal"), ("near", "near"), ("semantic", "alike by vectors"))
    ]
    text = (
        f"copies   {', '.join(f'{n:,} {name}' for n, name in kinds if n) or 'none'}; {of['clusters']:,} documents have "
        f"some, the most {of['largest_cluster'] - 1:,}; {of.get('candidate_pairs', 0):,} pairs compared"
    )
    if of.get("not_compared"):
        text += f"; {of['not_compared']:,} documents of very common templates were not compared with all of the others"
    return text if of["clusters"] else "copies   none"


def rules_text(rules: Sequence[Mapping[str, Any]]) -> str:
    """The rules of filters, by group: what is kept, with which bounds, of which kinds of text, by whom."""
    lines: list[str] = []
    for group in dict.fromkeys(rule["group"] for rule in rules):
        of = [rule for rule in rules if rule["group"] == group]
        rows = [(f"{group}", "keeps", "kinds of text")]
        for rule in of:
            bounds = f"  ({', '.join(f'{k} {v:g}' for k, v in rule['bounds'].items())})" if rule["bounds"] else ""
            rows.append((f"  {rule['name']}", rule["keep"] + bounds, ", ".join(rule["kinds"])))
        lines += [table(rows), f"  source: {of[0]['source']}", ""]
    lines.append("a rule by itself or a group: --rule NAME; another bound: --set filters.NAME.BOUND=VALUE")
    return "\n".join(lines)


def _update(of: Mapping[str, int]) -> str:
    """What the last update took in, and how much of the selection it changed."""
    files = f"{of['n_new_files']:,} new file{'s' * (of['n_new_files'] != 1)}"
    return (
        f"update   {files}, {of['n_new_documents']:,} documents, {of['n_new_selected']:,} of them selected; "
        f"{of['n_shards_written']:,} shards written, {of['n_shards_kept']:,} as they were"
    )


def _leverage(fit: Mapping[str, Any]) -> list[str]:
    """What is known of scores of leverage: of how many directions they are, and how far off."""
    if "effective_dimension" not in fit:
        return []
    known, error = "exact", fit.get("error")
    if error is not None:
        known = (
            f"by a dictionary of {error['size']:,.0f} documents; 9 in 10 are {error['low']:.2f} to {error['high']:.2f} "
            f"of those by one of {error['reference_size']:,.0f}"
        )
    return [f"leverage  effective dimension {fit['effective_dimension']:,.1f}, scores {known}"]


def _lengths(of: Mapping[str, Any]) -> list[str]:
    raw, selected = of["length_raw"], of["length_selected"]
    rows = [
        ("tokens at", *raw),
        ("raw", *(f"{v:,}" for v in raw.values())),
        ("selected", *(f"{v:,}" for v in selected.values())),
    ]
    return [table(rows, " rrrrr"), ""] if raw and selected else []


def _sources(of: Mapping[str, Any]) -> list[str]:
    raw, selected = of["sources_raw"], of["sources_selected"]
    if not raw:
        return []
    shown = list(selected)[:SOURCES_SHOWN]
    rows = [("source", "raw", "selected")]
    rows += [(_line(n) or "(none)", f"{raw.get(n, 0):.1%}", f"{selected[n]:.1%}") for n in shown]
    left = len(raw) - len(shown)
    return [table(rows, " rr"), *([f"and {left} more"] if left > 0 else []), ""]


def _line(text: str) -> str:
    """A value of a column, on one line, without control characters."""
    return _printable(text)[:60]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _spent(stats: Mapping[str, Any]) -> list[str]:
    return spent_text(stats["spent"]) if "spent" in stats else []  # runs of earlier versions have none


def _scores(of: Mapping[str, Any]) -> list[str]:
    name = f"scores for {of['target']}" if of["target"] else "scores "
    correlation, worth = of["length_correlation"], of["effective_sample_size"]
    weights = (
        f"{of['score_std']:.3g}" if worth is None else f"{of['score_std']:.1f} nats, effective sample size {worth:,.1f}"
    )
    return [
        f"{name}  std {weights}, "
        f"correlation with length {'none' if correlation is None else f'{correlation:+.2f}'}, "
        f"{of['top_k_overlap']:.0%} of the draw is the top-k"
    ]


def comparison_text(of: Comparison) -> str:
    """Every metric of a comparison in a table, raw beside the selection."""
    a = of.adequacy
    lines = [
        *(_reduction(of.reduction, of) if of.reduction is not None else []),
        table(_distances(of), " rrr"),
        "",
        table(_attributes(of), " rrrr"),
        "",
        f"target  {a.n_documents:,} documents, {a.n_ngrams:,} n-grams worth {a.n_effective:,.0f} independent ones: "
        f"noise of {a.risk:.4f} nats, {_adequate(a.verdict)}",
        *(f"{name}: {n:,} rows could not be read and are left out" for name, n in of.n_bad_rows.items() if n),
    ]
    return "\n".join(lines)


def _reduction(found: KLReduction, of: Comparison) -> list[str]:
    return [
        f"KL reduction  {found.value:+.4f} nats ({found.level:.0%} interval {found.low:+.4f} to {found.high:+.4f})",
        f"  {_nearer(found.low - of.at_random, found.high - of.at_random)}; these have {of.at_random:+.4f} at "
        f"{found.n_ngrams:,} n-grams",
        f"  no selection of so many n-grams can gain more than {found.bound:.3f}; as the paper has it {of.parity:+.4f}",
        "",
    ]


def _distances(of: Comparison) -> list[tuple[str, ...]]:
    before, after = of.characteristic_raw, of.characteristic_selected
    return [
        ("distance from the target", "raw", "selected", "noise"),
        *((name, _number(d.raw), _number(d.selected), _number(d.floor)) for name, d in of.distances.items()),
        ("  its amplitude", _number(before.amplitude if before else None), _number(after.amplitude), ""),
        ("  its phase", _number(before.phase if before else None), _number(after.phase), ""),
    ]


def _attributes(of: Comparison) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("Kolmogorov-Smirnov distance", "raw", "selected", "interval", "p")]
    for name, attribute in of.attributes.items():
        raw, selected = attribute.raw, attribute.selected
        interval = f"{selected.low:.3f} to {selected.high:.3f}"
        before = _number(raw.distance if raw else None)
        rows.append((name, before, _number(selected.distance), interval, f"{attribute.p_selected:.2g}"))
    return rows


def _nearer(low: float, high: float) -> str:
    nearer = "nearer to" if low > 0 else "farther from" if high < 0 else "not clearly nearer to"
    return f"{nearer} the target than random documents of raw"


def _adequate(verdict: str) -> str:
    said = {"pass": "enough for these metrics", "warn": "little for these metrics", "fail": "too few for these metrics"}
    return said[verdict]


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def coverage_text(of: Any) -> str:
    """How much of the target's documents each corpus misses, and the beginnings of those it misses most of."""
    rows = [("missed of the target by", "documents", "effective dimension", "mean", "median", "90%", "99%", "most")]
    for by in of.by:
        missed = (f"{v:.1%}" for v in (by.mean, *by.quantiles.values()))
        rows.append((by.name, f"{by.n_documents:,}", f"{by.effective_dimension:.1f}", *missed))
    lines = [table(rows, " rrrrrrr"), ""]
    better = of.by[0].better_than_random
    if better is not None:
        lines.append(f"the selection misses less of {better:.0%} of the target's documents than random ones do")
    lines.append(
        f"a direction of the {of.dim} is covered when far more than {of.ridge_per_document:g} of a corpus is in it"
    )
    lines += [f"{name}: {n:,} rows could not be read and are left out" for name, n in of.n_bad_rows.items() if n]
    for missed in of.worst:
        lines += ["", f"{missed.shares['selected']:.1%} missed  {_line(missed.doc_id)}", f"  {label(missed.text, 110)}"]
    return "\n".join(lines)


def evidence_text(evidence: Any) -> str:
    """What each arm makes of the held-out text, and the verdict."""
    interval = f"{evidence.settings['level']:.0%} interval"
    rows = [("arm", "documents", "bits per byte", "+-", "less random", interval, "wins")]
    for arm in evidence.arms:
        over = arm.over_random
        compared = (
            ("", "", "")
            if over is None
            else (f"{over.difference:+.4f}", f"{over.low:+.4f} to {over.high:+.4f}", f"{over.wins:.0%}")
        )
        rows.append(
            (arm.name, f"{arm.n_documents:,.0f}", f"{arm.bits_per_byte:.4f}", f"{arm.deviation:.4f}", *compared)
        )
    lines = [table(rows, " rrrrrr"), ""]
    if len(evidence.heldout) > 1:
        lines += [_evidence_by_target(evidence), ""]
    used = sum(of["n_bytes_used"] for of in evidence.heldout)
    texts = sum(of["n_documents_used"] for of in evidence.heldout)
    lines.append(
        f"samples of {size(evidence.settings['sample_bytes'])} read by a proxy model, "
        f"{texts:,} held-out texts of {size(used)}; lower is better; +- from sample to sample"
    )
    return "\n".join([*lines, _printable(evidence.sentence)])


def _evidence_by_target(evidence: Any) -> str:
    """Bits per byte of each arm for each target, and whether the selection is better than random there."""
    targets = [of["target"] for of in evidence.heldout]
    rows = [("target", *(arm.name for arm in evidence.arms), "than random")]
    selected = evidence.arms[0]
    for target in targets:
        bits = (f"{arm.bits_per_byte_by_target[target]:.4f}" for arm in evidence.arms)
        rows.append((_line(target), *bits, selected.over_random_by_target[target].verdict))
    return table(rows, " " + "r" * (len(evidence.arms)) + " ")
