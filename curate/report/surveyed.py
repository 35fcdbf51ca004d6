"""The parts of a summary that the texts themselves say: n-grams, languages, compression, nearness to the target."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from curate.engines import LocalEngine
from curate.errors import CurateError
from curate.io.corpus import Corpus, InputFile, scan
from curate.io.run import RunFolder
from curate.metrics.attributes import quantiles
from curate.metrics.diagnostics import shares
from curate.metrics.ks import ks
from curate.metrics.weights import LengthHistogram
from curate.progress import Progress
from curate.report.summary import (
    Amount,
    DistanceRow,
    Distribution,
    Metric,
    Nearness,
    Ngram,
    Series,
    Share,
    Summary,
)
from curate.survey.comparison import N_ATTRIBUTE, N_CLOUD, Comparison, Corner, attribute_values, compare, look_at
from curate.survey.names import Shift, commonest, shifts
from curate.survey.sample import N_READ

POINTS = 200  # of a distribution function
SOURCES_SHOWN, LANGUAGES_SHOWN = 20, 12
UNITS = {"tokens": "tokens", "bytes": "bytes", "bytes a token": "bytes", "compression ratio": ""}


@dataclass(frozen=True)
class OfRun:
    """Surveys of a run: "raw" and "selected" by name, its targets; ``left_out`` says what could not be looked at."""

    corners: dict[str, Corner]
    targets: list[Corner]
    left_out: tuple[str, ...]


def survey_run(
    folder: RunFolder,
    raw: Corpus,
    wanted: Mapping[int, np.ndarray],
    engine: LocalEngine,
    sample_bytes: float,
    shown: Progress,
) -> OfRun:
    """Look at raw, of which some rows are ``wanted`` whole, at the selection and at the targets.

    Files that are not what they were are left out.
    """
    manifest = folder.manifest or {}
    look = partial(look_at, engine=engine, shown=shown, sample_bytes=sample_bytes)
    recipe, corners, left_out = manifest["recipe"], {}, []
    if (found := _raw_corner(raw, manifest["stats"], partial(look, wanted=wanted))) is not None:
        corners["raw"] = found
    else:
        left_out.append("raw is not what it was: nothing is said of its texts")
    shards = [str(folder.path / shard["path"]) for shard in manifest["shards"]]
    column = {"text_column": recipe["text_column"], "id_column": recipe["id_column"]}
    corners["selected"] = look(scan(shards, **column, over=engine.map), "selected")
    targets = []
    for name, paths in recipe["target"].items():
        hashes = {t["sha256"] for t in manifest["targets"] if t["name"] == name}
        try:
            corpus = scan(paths, text_column=recipe["target_text_column"] or recipe["text_column"], over=engine.map)
        except CurateError:
            corpus = None
        if corpus is None or {f.sha256 for f in corpus.files} != hashes:
            left_out.append(f"target {name} is not what it was: the selection is not compared with it")
        else:
            targets.append(look(corpus, name, holdout=recipe.get("holdout")))
    return OfRun(corners, targets, tuple(left_out))


def raw_of(folder: RunFolder) -> Corpus:
    """The corpus that a run was made from, as it was."""
    return Corpus.from_dict((folder.scored or {})["corpus"], folder.path)


def _raw_corner(corpus: Corpus, stats: Mapping[str, int], look: Callable[[Corpus, str], Corner]) -> Corner | None:
    """Raw, or None where its files are not what they were, by their sizes, their documents and their text."""
    if not all(unchanged(file) for file in corpus.files):
        return None
    try:
        found = look(corpus, "raw")
    except (CurateError, OSError):
        return None
    same = (found.survey.n_documents, found.survey.n_bytes) == (stats["n_documents"], stats["n_bytes"])
    return found if same else None


def unchanged(file: InputFile) -> bool:
    """Whether a file is still there with as many bytes; of a URL that is taken on trust."""
    path = file.source.path
    return "://" in path or (os.path.isfile(path) and os.path.getsize(path) == file.bytes)


def with_texts(summary: Summary, corners: Mapping[str, Corner], targets: Sequence[Corner] = ()) -> Summary:
    """A summary with what was found in the texts of "raw" and "selected", as far as they are there, and of targets."""
    raw, selected = corners.get("raw"), corners.get("selected")
    main = raw or selected
    if main is None:
        return summary
    compared = [compare(t, selected, raw, attribute_resamples=0) for t in targets] if selected else []
    gained: Sequence[Shift] = ()
    lost: Sequence[Shift] = ()
    if raw and selected:
        texts = [c.survey.texts for c in (selected, raw, *targets)]
        gained, lost = shifts(raw.facts, selected.facts, [t.facts for t in targets], texts)
    everyone = {**corners, **({"target": targets[0]} if len(targets) == 1 else {})}
    return replace(
        summary,
        amounts=(*summary.amounts, *_amounts(summary, corners, targets)),
        metrics=(*summary.metrics, *(m for c in compared for m in _metrics(c))),
        nearness=tuple(_nearness(c) for c in compared),
        languages=_languages(everyone),
        languages_by=main.facts.languages.by,
        sources=summary.sources or listed_shares({"raw": shares(main.survey.sources)}, SOURCES_SHOWN),
        distributions=_distributions(summary, everyone),
        gained=tuple(map(_ngram, gained)),
        lost=tuple(map(_ngram, lost)),
        commonest=() if selected else _commonest(main),
        sampling=f"{summary.sampling} {_sampling([*corners.values(), *targets], bool(compared))}".strip(),
    )


def _amounts(summary: Summary, corners: Mapping[str, Corner], targets: Sequence[Corner]) -> list[Amount]:
    there = {a.name for a in summary.amounts}
    found = []
    for name, corner in [*corners.items(), *((_of("target", t, targets), t) for t in targets)]:
        if name not in there:
            s, f = corner.survey, corner.facts
            looked_at = max(1, int(f.n_bytes.sum()))
            found.append(Amount(name, s.n_documents, s.n_bytes, round(int(f.n_tokens.sum()) * s.n_bytes / looked_at)))
    return found


def _of(name: str, target: Corner, targets: Sequence[Corner]) -> str:
    return f"{name} {target.name}" if len(targets) > 1 else name


def _sampling(corners: Sequence[Corner], compared: bool) -> str:
    """What was measured on how many documents."""
    texts = [len(c.facts.n_bytes) for c in corners]

    def of_each(counts: Sequence[int]) -> str:
        return ", ".join(f"{n:,} of {c.name}" for n, c in zip(counts, corners, strict=True))

    def on_first(limit: int) -> str:
        return "as many" if max(texts) <= limit else of_each([min(limit, n) for n in texts])

    limits = {
        "languages and compression": N_READ,
        f"distributions that are not of all documents{' and KS to the target' * compared}": N_ATTRIBUTE,
        **({"Sinkhorn divergence and characteristic function": N_CLOUD} if compared else {}),
    }
    fewer = "".join(f"; {what} on {on_first(limit)}" for what, limit in limits.items())
    chosen = "all there are"
    if not all(c.survey.whole for c in corners):
        chosen = "chosen by a hash of their ids, from which uncounted tokens are estimated too"
    return f"N-grams are counted in whole documents with text ({of_each(texts)}), {chosen}{fewer}."


def _metrics(of: Comparison) -> list[Metric]:
    found = of.reduction
    if found is None:
        return []
    return [
        Metric(
            "KL reduction",
            "KL divergence says, in nats, how badly one corpus foretells the n-grams of another. KL reduction is how "
            "much of it the selection takes away: from raw to the target it is that much larger than from the "
            "selection. Above 0 the selection is nearer to the target than raw is; random documents of as many n-grams "
            f"have {of.at_random:.4f} (no effect), and none of so many can have more than {found.bound:.2f}.",
            found.value,
            found.low,
            found.high,
            "nats",
            of.at_random,
            "higher",
            of.target,
        )
    ]


def _nearness(of: Comparison) -> Nearness:
    rows = [DistanceRow(name, _none(d.raw), d.selected, _none(d.floor)) for name, d in of.distances.items()]
    for name, attribute in of.attributes.items():
        before_ks = attribute.raw.distance if attribute.raw else None
        rows.append(DistanceRow(f"KS, {name}", before_ks, attribute.selected.distance, None))
    a = of.adequacy
    note = (
        "Noise is the distance that two samples of one and the same corpus show by chance: a distance no larger than "
        "it says nothing. KS is the largest gap between two distribution functions, from 0 to 1. "
        f"The target has {a.n_ngrams:,} n-grams, worth {a.n_effective:,.0f} independent ones; "
        f"its own noise is {a.risk:.4f} nats of KL divergence."
    )
    return Nearness(of.target, tuple(rows), note)


def _none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _languages(corners: Mapping[str, Corner]) -> tuple[Share, ...]:
    return listed_shares({name: c.facts.languages.shares for name, c in corners.items()}, LANGUAGES_SHOWN)


def listed_shares(of: Mapping[str, Mapping[str, float]], n: int) -> tuple[Share, ...]:
    """Shares of each corpus: the n names with the largest share of any of them, and the others in one."""
    largest: dict[str, float] = {}
    for share_of in of.values():
        for name, share in share_of.items():
            largest[name] = max(share, largest.get(name, 0.0))
    names = sorted(largest, key=lambda name: (-largest[name], name))

    def together(some: Sequence[str]) -> dict[str, float]:
        return {corpus: sum(share_of.get(name, 0.0) for name in some) for corpus, share_of in of.items()}

    found = [Share(name, **together([name])) for name in names[:n]]
    rest = names[n:]
    return (*found, Share(f"{len(rest):,} others", **together(rest))) if rest else tuple(found)


def _distributions(summary: Summary, corners: Mapping[str, Corner]) -> tuple[Distribution, ...]:
    """Those that the summary has, with the target beside them; and those that only the texts say."""
    known = {"tokens": "length", "bytes": "size"}
    values = {name: attribute_values(c.facts) for name, c in corners.items()}
    with_text = [name for name, c in corners.items() if len(c.facts.n_bytes)]

    def drawn(attribute: str, name: str) -> Series:
        if attribute == "bytes":
            return length_series(name, corners[name].survey.lengths)  # of all documents, the others of the sample
        return series(name, values[name][attribute])

    found = []
    there = {d.attribute: d for d in summary.distributions}
    for attribute, unit in UNITS.items():
        exact = there.pop(known.get(attribute, ""), None)
        if exact is not None:
            target = tuple(drawn(attribute, name) for name in with_text if name == "target")
            found.append(replace(exact, series=(*exact.series, *target)))
            continue
        some = tuple(drawn(attribute, name) for name in with_text)
        found.append(
            _compared(
                Distribution(known.get(attribute, attribute), unit, some, log=attribute in known), values, attribute
            )
        )
    return (*there.values(), *found)


def _compared(of: Distribution, values: Mapping[str, Mapping[str, np.ndarray]], attribute: str) -> Distribution:
    if not {"raw", "selected"} <= values.keys():
        return of
    found = ks(values["raw"][attribute], values["selected"][attribute], rng=np.random.default_rng(0), n_resamples=100)
    return replace(of, ks=found.distance, ks_low=found.low, ks_high=found.high)


def series(name: str, values: np.ndarray) -> Series:
    """The distribution function of values at no more than `POINTS` of them."""
    ordered = np.sort(values)
    at = np.unique(np.ceil(np.linspace(0, 1, POINTS) * (len(ordered) - 1)).astype(np.int64))
    x = np.unique(ordered[at])
    share = np.searchsorted(ordered, x, side="right") / len(ordered)
    return Series(name, _rounded(x), _rounded(share), quantiles(values))


def length_series(name: str, of: LengthHistogram) -> Series:
    """The distribution function of counted lengths at no more than `POINTS` of them, at equal steps of its share."""
    upto = np.cumsum(of.counts)
    at = np.unique(np.searchsorted(upto, np.linspace(1, upto[-1], POINTS)))  # by rank: the first point is the shortest
    found = {level: float(length) for level, length in of.quantiles().items()}
    return Series(name, tuple(np.round(of.lengths(at)).tolist()), _rounded(of.shares[at]), found)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{v:.6g}") for v in values)


def _ngram(of: Shift) -> Ngram:
    return Ngram(of.ngram, of.raw, of.target, of.selected)


def _commonest(corner: Corner) -> tuple[Ngram, ...]:
    return tuple(Ngram(name, raw=rate) for name, rate in commonest(corner.facts, [corner.survey.texts], 30))
