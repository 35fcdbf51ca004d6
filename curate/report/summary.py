"""What a report says, as numbers and texts: HTML, Markdown and JSON are renderings of this one structure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from curate.io.run import finite


@dataclass(frozen=True)
class Fact:
    """A labelled value; ``code``: it is a command, a path or a hash."""

    label: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Amount:
    """How much there is of raw, target or selected; ``bytes`` of text in UTF-8."""

    name: str
    documents: int | None = None
    bytes: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Arm:
    """Bits per byte of held-out text after a selection or a control, and ``difference`` to random with its interval.

    ``low``, ``high``: one standard deviation from sample to sample.
    """

    name: str
    bits_per_byte: float
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """``verdict``: better, no better or worse than random; ``sentence`` says it, ``level`` is that of its intervals."""

    verdict: str
    sentence: str
    arms: tuple[Arm, ...] = ()
    level: float = 0.99


@dataclass(frozen=True)
class Metric:
    """A measured number with its interval; ``null``: its value where there is no effect; ``better``: higher, lower."""

    name: str
    meaning: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    null: float | None = None
    better: str = ""
    target: str = ""


@dataclass(frozen=True)
class DistanceRow:
    """A distance to the target; ``noise``: what two samples of one corpus would give."""

    name: str
    raw: float | None
    selected: float
    noise: float | None


@dataclass(frozen=True)
class Nearness:
    """Every distance to a target; ``note`` says how well the target itself is known."""

    target: str
    rows: tuple[DistanceRow, ...]
    note: str


@dataclass(frozen=True)
class Share:
    """Shares of the documents, 0 to 1."""

    name: str
    raw: float | None = None
    target: float | None = None
    selected: float | None = None


@dataclass(frozen=True)
class ScoreHistogram:
    """Documents by score: ``len(edges) == len(raw) + 1``; the first and last bins hold what lies beyond them too."""

    target: str
    unit: str
    edges: tuple[float, ...]
    raw: tuple[int, ...]
    selected: tuple[int, ...]
    threshold: float | None = None
    about: bool = False  # it is only where a top-k draw would have cut


@dataclass(frozen=True)
class Series:
    """A distribution function: ``F[i]`` is the share of values of at most ``x[i]``. ``name``: raw, target, selected."""

    name: str
    x: tuple[float, ...]
    F: tuple[float, ...]
    quantiles: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Distribution:
    """An attribute of documents; ``ks``: largest distance between the functions of raw and selected."""

    attribute: str
    unit: str
    series: tuple[Series, ...]
    ks: float | None = None
    ks_low: float | None = None
    ks_high: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Ngram:
    """An n-gram's occurrences per million n-grams."""

    ngram: str
    raw: float | None = None
    target: float | None = None
    selected: float | None = None


@dataclass(frozen=True)
class Example:
    """A document to read: ``excerpt`` is its beginning, ``n_cut`` the number of characters left out after it."""

    doc_id: str
    source: str
    score: float | None
    n_bytes: int | None
    excerpt: str
    n_cut: int = 0


@dataclass(frozen=True)
class Examples:
    """Documents by rank; ``note`` says what could not be shown."""

    best: tuple[Example, ...] = ()
    borderline: tuple[Example, ...] = ()
    worst: tuple[Example, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class GroupWeight:
    """A group's weight in each stage of a curriculum, and its share of the documents where that is known."""

    group: str
    weights: tuple[float, ...]
    raw: float | None = None
    selected: float | None = None


@dataclass(frozen=True)
class DocumentWeights:
    """Weights of documents in a stage, as multiples of an even share.

    ``len(edges) == len(documents) + 1``; the last bin holds what lies beyond it too. ``n_effective``: how many
    documents of even weight they are worth (Kish); ``heaviest``: the weight of a tenth of the documents, 0 to 1.
    """

    stage: int
    edges: tuple[float, ...]
    documents: tuple[int, ...]
    n_documents: int
    n_weighted: int
    n_effective: float
    largest: float
    heaviest: float


@dataclass(frozen=True)
class Weighing:
    """A curriculum, of groups or of documents: the ``stages`` that are shown of ``n_stages``, and what made it."""

    about: str
    n_stages: int
    stages: tuple[int, ...]
    n_groups: int = 0
    groups: tuple[GroupWeight, ...] = ()
    documents: tuple[DocumentWeights, ...] = ()


@dataclass(frozen=True)
class Removals:
    """What cleaning removed of a source, by reason, the most first; ``share``: of its documents, 0 to 1."""

    source: str
    documents: int
    removed: int
    share: float
    reasons: dict[str, int]


@dataclass(frozen=True)
class Duplicates:
    """Documents that were removed as ``exact``, ``near`` and ``semantic`` duplicates.

    ``clusters``: documents that stay for others, of which one stands for ``largest`` documents, itself among them.
    ``pairs``: that were compared. ``not_compared``: documents of very common templates, not compared with all others.
    ``against``: documents of other corpora that raw was compared with.
    """

    exact: int
    near: int
    semantic: int
    clusters: int
    largest: int
    pairs: int
    not_compared: int
    against: int


@dataclass(frozen=True)
class Benchmark:
    """How many of the ``items`` of a benchmark raw had, word for word or edited, and in how many documents.

    ``undecidable``: items that are too short to look for.
    """

    name: str
    items: int
    found: int
    verbatim: int
    edited: int
    documents: int
    undecidable: int


@dataclass(frozen=True)
class Passage:
    """One text of a pair: its beginning, and what is around the place where it first differs from the other.

    ``n_between``: characters left out after ``beginning``, which is empty when the place is near. ``difference``: None
    where nothing differs or one of the texts is not at hand, empty where this one ends. ``n_cut``: characters left out
    at the end. ``known``: the text is at hand.
    """

    doc_id: str
    source: str = ""
    beginning: str = ""
    n_between: int = 0
    before: str = ""
    difference: str | None = None
    after: str = ""
    n_cut: int = 0
    known: bool = True


@dataclass(frozen=True)
class Pair:
    """A document that was removed, and the one that it was found to be a duplicate of, by ``similarity``.

    ``equal``: their texts are. ``stays``: the document that is kept for both, where it is another one.
    """

    reason: str
    similarity: float
    removed: Passage
    matched: Passage
    equal: bool = False
    stays: str = ""


@dataclass(frozen=True)
class Match:
    """A place of a document that has an evaluation item: ``n_words`` of it, the share ``coverage``, 0 to 1."""

    doc_id: str
    benchmark: str
    item: str
    kind: str
    coverage: float
    n_words: int
    excerpt: str


@dataclass(frozen=True)
class Cleaning:
    """What was removed of raw before anything was selected: in all, by source, and some of it to read.

    ``asked``: by what. ``whole``: of all sources together; ``sources``: those with most removed, the rest in one.
    ``masked``: places in texts, by kind. ``note`` says what could not be shown.
    """

    asked: tuple[Fact, ...]
    whole: Removals
    sources: tuple[Removals, ...] = ()
    masked: dict[str, int] = field(default_factory=dict)
    duplicates: Duplicates | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    pairs: tuple[Pair, ...] = ()
    matches: tuple[Match, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class FileHash:
    """A file that a run read or wrote. ``role``: input, target, shard."""

    role: str
    name: str
    bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True)
class Summary:
    """Everything in a report; an empty or missing part is left out of it. ``kind``: selection or corpus."""

    title: str
    kind: str
    asked: tuple[Fact, ...] = ()
    done: tuple[Fact, ...] = ()
    amounts: tuple[Amount, ...] = ()
    verdict: Verdict | None = None
    verdict_hint: str = ""  # the command that would make one
    metrics: tuple[Metric, ...] = ()
    nearness: tuple[Nearness, ...] = ()
    sources: tuple[Share, ...] = ()
    scores: tuple[ScoreHistogram, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    gained: tuple[Ngram, ...] = ()
    lost: tuple[Ngram, ...] = ()
    commonest: tuple[Ngram, ...] = ()  # of a corpus by itself
    languages: tuple[Share, ...] = ()
    languages_by: str = "language"  # or script
    documents: Examples | None = None
    cleaning: Cleaning | None = None
    curriculum: Weighing | None = None
    warnings: tuple[str, ...] = ()
    command: str = ""
    versions: tuple[Fact, ...] = ()
    hashes: tuple[FileHash, ...] = ()
    sampling: str = ""  # what was counted exactly, and what estimated from how large a sample


def as_json(summary: Summary) -> str:
    """The summary as JSON; what is not a finite number is null, half a surrogate pair is an escape."""
    text = json.dumps(finite(asdict(summary)), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"
