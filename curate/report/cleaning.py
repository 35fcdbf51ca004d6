"""What cleaning was asked for and what it removed, in numbers: for reports and cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from curate.report.safe import label
from curate.report.summary import Benchmark, Cleaning, Duplicates, Fact, Removals

SOURCES_SHOWN = 20
BENCHMARKS_SHOWN = 40
_BECOMES = {"remove": "documents that have some are removed", "cut": "what documents have of them is cut out",
            "tag": "documents that have some are tagged"}  # fmt: skip


def only_cleans(recipe: Mapping[str, Any]) -> bool:
    """Whether a run keeps all that cleaning leaves, and hence selects nothing."""
    return bool(recipe["method"] == "all" and recipe["draw"]["draw"] == "threshold")


def cleaning_of(manifest: Mapping[str, Any]) -> Cleaning | None:
    """What there is to say of the cleaning of a run, in numbers; None where there was none."""
    found = manifest["stats"].get("cleaning")
    if found is None:
        return None
    each = [_removals(source, of) for source, of in found["sources"].items()]
    return Cleaning(
        tuple(_asked(manifest["recipe"], found)),
        together("", each),
        _shown(each),
        dict(found.get("masked", {})),
        _duplicates(found["duplicates"]) if "duplicates" in found else None,
        _benchmarks(found.get("contamination", {})),
    )


def together(source: str, several: Iterable[Removals]) -> Removals:
    """What was removed of several sources, as of one."""
    several, reasons = list(several), Counter[str]()
    for of in several:
        reasons.update(of.reasons)
    return _removals(source, {"n_documents": sum(of.documents for of in several), "removed": reasons})


def _removals(source: str, of: Mapping[str, Any]) -> Removals:
    reasons = dict(sorted(of["removed"].items(), key=lambda item: (-item[1], item[0])))
    n, removed = of["n_documents"], sum(reasons.values())
    return Removals(source, n, removed, removed / max(1, n), reasons)


def _shown(each: Sequence[Removals]) -> tuple[Removals, ...]:
    """The sources with most removed, by the share of them, and the others in one."""
    most = sorted(each, key=lambda of: (-of.removed, -of.documents, of.source))
    rest = most[SOURCES_SHOWN:]
    found = sorted(most[:SOURCES_SHOWN], key=lambda of: (-of.share, -of.documents, of.source))
    return (*found, together(f"{len(rest):,} others", rest)) if rest else tuple(found)


def _duplicates(of: Mapping[str, int]) -> Duplicates:
    return Duplicates(
        *(of.get(name, 0) for name in ("exact", "near", "semantic", "clusters", "largest_cluster")),
        *(of.get(name, 0) for name in ("candidate_pairs", "not_compared", "against")),
    )


def _benchmarks(of: Mapping[str, Mapping[str, Any]]) -> tuple[Benchmark, ...]:
    """Those that most was found of, and the others in one."""
    counts = ("n_items", "n_items_found", "n_items_verbatim", "n_items_edited", "n_documents", "n_undecidable")
    each = [Benchmark(name, *(found[count] for count in counts)) for name, found in of.items()]
    each.sort(key=lambda b: (-b.found, b.name))
    rest = each[BENCHMARKS_SHOWN:]
    if not rest:
        return tuple(each)
    sums = (sum(found[count] for found in (of[b.name] for b in rest)) for count in counts)
    return (*each[:BENCHMARKS_SHOWN], Benchmark(f"{len(rest):,} others", *sums))


# ---- in words


def _asked(recipe: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Fact]:
    """By what documents were to be removed, or put otherwise."""
    if filters := recipe.get("filters"):
        yield from _filters(filters)
    if dedup := recipe.get("dedup"):
        yield Fact("duplicates", "; ".join(_kinds(dedup)))
        if dedup["against"]:
            yield Fact("compared with", ", ".join(dedup["against"]), code=True)
    if spec := recipe.get("decontaminate"):
        names = list(found.get("contamination", {}))
        more = f" and {len(names) - BENCHMARKS_SHOWN:,} more" if len(names) > BENCHMARKS_SHOWN else ""
        yield Fact("decontaminated against", ", ".join(label(name) for name in names[:BENCHMARKS_SHOWN]) + more)
        by = f"{spec['ngram']} words in a row of an item, or {spec['coverage']:.0%} of its words"
        yield Fact("contamination is", f"{by}; {_BECOMES[spec['mode']]}")


def _filters(of: Mapping[str, Any]) -> Iterator[Fact]:
    if of["rules"]:
        bounds = ", ".join(f"{name} {value:g}" for name, value in of["settings"].items())
        yield Fact("rules", ", ".join(of["rules"]) + f"; with {bounds}" * bool(bounds))
    lengths = [f"{bound.replace('_', ' ')} {of[bound]:,}" for what in ("words", "characters")
               for bound in (f"min_{what}", f"max_{what}") if of[bound] is not None]  # fmt: skip
    if lengths:
        yield Fact("lengths", ", ".join(lengths))
    if of["languages"]:
        share = f", of at least {of['min_language_share']:.0%} of the text" * bool(of["min_language_share"])
        yield Fact("languages", ", ".join(of["languages"]) + share)
    if of["where"]:
        rules = (f"{label(name)} where {label(str(condition), 200)}" for name, condition in of["where"].items())
        yield Fact("own rules", "; ".join(rules), code=True)
    if of["mask"]:
        yield Fact("masks", ", ".join(of["mask"]))


def _kinds(of: Mapping[str, Any]) -> Iterator[str]:
    forms = {
        "whitespace": "but for white space",
        "letters": "in letters and digits, whatever the case",
        "none": "byte by byte",
    }
    if of["exact"]:
        yield f"exact: equal {forms.get(of['normal'], of['normal'])}"
    if of["near"]:
        yield f"near: of a Jaccard similarity of {of['threshold']:g} or more, by {of['ngram']} words in a row"
    if of["semantic"]:
        yield f"semantic: of vectors whose cosine is {of['cosine']:g} or more"


def in_words(of: Removals, most: int = 3) -> str:
    """Why documents were removed, the commonest reasons first."""
    reasons = [f"{n:,} {label(reason, 40)}" for reason, n in of.reasons.items()]
    more = len(reasons) - most
    return ", ".join(reasons[:most]) + (f", {more:,} more reason{'s' * (more > 1)}" if more > 0 else "")


def contamination_line(of: Benchmark) -> str:
    """What was found of a benchmark, in a line."""
    short = f"; {of.undecidable:,} items are too short to look for, or boilerplate" * bool(of.undecidable)
    return (
        f"{of.found:,} of {of.items:,} items of {label(of.name)} found in {of.documents:,} documents, {of.verbatim:,} "
        f"word for word, {of.edited:,} edited{short}"
    )


def duplicates_line(of: Duplicates) -> str:
    """How many duplicates there were, in a line."""
    kinds = ((of.exact, "exact"), (of.near, "near"), (of.semantic, "semantic"))
    return f"{', '.join(f'{n:,} {kind}' for n, kind in kinds)}; one document stands for up to {of.largest:,}"
