"""What counts as a duplicate, and which document of several stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from curate.errors import UsageError, refuse_unknown, unknown
from curate.features.digests import FORMS
from curate.features.minhash import MAX_PERM, bands_and_rows
from curate.features.shingles import MAX_NGRAM

SHORT = ("exact", "keep")
PREFER = ("doc_id", "longest", "shortest")  # or the name of a column
_OF_KIND = dict.fromkeys(("threshold", "num_perm", "bands", "rows", "max_bucket"), "near") | dict.fromkeys(
    ("cosine", "encoder", "vectors", "clusters"), "semantic"
)


@dataclass(frozen=True)
class DedupSpec:
    """What counts as a duplicate, and which document of several stays.

    Parameters
    ----------
    exact : remove documents whose normal forms are equal. near : those whose sets of shingles are alike.
    semantic : those whose vectors are.
    threshold : Jaccard similarity of shingles, 0 to 1, from which on documents are near duplicates.
    ngram : words in a shingle, 1 to 32.
    num_perm : places of a MinHash signature. bands, rows : how candidates are found; without them by `bands_and_rows`.
    normal : what is compared by exact dedup: "whitespace", "letters" or "none" (see `content_digests`).
    short : documents of fewer than ``ngram`` words, which have no shingles: "exact": removed only when they are exactly
        equal; "keep": never removed.
    prefer : which of several stays: "doc_id", the smallest; "longest"; "shortest"; or the name of a numeric column,
        the largest. Ties go to the smallest doc_id.
    max_bucket : how many documents of a bucket, the first, all others in it are compared with, so that a million pages
        of one template take a million comparisons and not its square.
    seed : of the hashes and permutations, 0 to 2**32 - 1.
    cosine : similarity of vectors from which on documents are semantic duplicates. encoder : that makes the vectors, or
        vectors : the column that has them. clusters : within how many comparisons are made; by the number of
        documents without it.
    against : other corpora: what they hold is removed here, and they are left as they are.

    Raises
    ------
    UsageError : a setting makes no sense, alone or with the others.
    """

    exact: bool = True
    near: bool = True
    semantic: bool = False
    threshold: float = 0.7
    ngram: int = 5
    num_perm: int = 128
    bands: int | None = None
    rows: int | None = None
    normal: str = "whitespace"
    short: str = "exact"
    prefer: str = "doc_id"
    max_bucket: int = 64
    seed: int = 1
    cosine: float = 0.95
    encoder: str | None = None
    vectors: str | None = None
    clusters: int | None = None
    against: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_kinds()
        if not (self.exact or self.near or self.semantic):
            raise UsageError("exact, near and semantic are all off: there is nothing to look for; turn one on")
        for name, low, high in (
            ("ngram", 1, MAX_NGRAM),
            ("num_perm", 1, MAX_PERM),
            ("bands", 1, self.num_perm),
            ("rows", 1, self.num_perm),
            ("max_bucket", 1, 1 << 20),
            ("seed", 0, (1 << 32) - 1),
            ("clusters", 1, 1 << 31),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name}={value:,}: must be {low:,} to {high:,}")
        for name in ("threshold", "cosine"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)}: must be above 0 and at most 1")
        if self.normal not in FORMS:
            raise unknown("normal form", self.normal, FORMS)
        if self.short not in SHORT:
            raise unknown("policy for short documents", self.short, SHORT)
        if (self.bands is None) != (self.rows is None):
            raise UsageError("bands and rows go together: give both, or neither to have them chosen by the threshold")
        bands, rows = self.banding
        if bands * rows > self.num_perm:
            raise UsageError(
                f"{bands} bands of {rows} rows take {bands * rows} places, num_perm={self.num_perm} has fewer; "
                f"pass num_perm={bands * rows} or fewer bands"
            )
        if self.encoder and self.vectors:
            raise UsageError("encoder and vectors: vectors are made or read from a column; pass one of them")
        self._check_idle()

    def _check_idle(self) -> None:
        """Refuse settings of what is not looked for: nobody would be told that they did nothing."""
        for field in fields(self):
            kind, value = _OF_KIND.get(field.name), getattr(self, field.name)
            if kind and not getattr(self, kind) and value != field.default:
                raise UsageError(
                    f"{field.name}={value!r} is a setting of {kind} duplicates, which are not looked for; leave it "
                    f"out, or pass {kind}=true"
                )

    def _check_kinds(self) -> None:
        for name, kinds, what in (
            ("exact near semantic", bool, "true or false"),
            ("ngram num_perm max_bucket seed", int, "a whole number"),
            ("bands rows clusters", (int, type(None)), "a whole number"),
            ("threshold cosine", (int, float), "a number"),
            ("normal short prefer", str, "a name"),
            ("encoder vectors", (str, type(None)), "a name"),
        ):
            for field in name.split():
                value = getattr(self, field)
                if not isinstance(value, kinds) or (kinds is not bool and isinstance(value, bool)):
                    raise UsageError(f"{field}={value!r}: must be {what}")
        if isinstance(self.against, str) or not all(isinstance(path, str) for path in self.against):
            raise UsageError(f"against={self.against!r}: must be a list of paths")
        if not self.prefer:
            raise UsageError(f"prefer is empty: pass one of {', '.join(PREFER)} or the name of a numeric column")
        object.__setattr__(self, "against", tuple(self.against))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> DedupSpec:
        """From settings by name.

        Raises
        ------
        UsageError : there is no setting of that name, or a value makes no sense.
        """
        refuse_unknown("setting of dedup", settings, (field.name for field in fields(cls)))
        return cls(**settings)

    @property
    def banding(self) -> tuple[int, int]:
        """Bands and rows."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        return bands_and_rows(self.threshold, self.num_perm)

    def as_dict(self) -> dict[str, Any]:
        """All settings, in plain values; bands and rows as they were given, so that another threshold has its own."""
        return asdict(self) | {"against": list(self.against)}

    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on."""
        return self.as_dict() | {"banding": list(self.banding)}
