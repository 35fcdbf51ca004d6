"""A corpus with its scores in place: what names them, and taking them over from another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.errors import RunError
from curate.features.domains import Domains
from curate.io.corpus import PARTITION_BYTES, Corpus
from curate.io.paths import linked
from curate.io.run import (
    CONTAMINATION,
    DUPLICATES,
    LEFT_BY_CLEANING,
    QUARANTINE,
    SCORES_COMMIT,
    RunFolder,
    digest,
    write_json,
)
from curate.scorers import Fusion, Scorer
from curate.selection.asked import ScoringSpec
from curate.steps.scoretable import FORMAT, ScoreTable, keys_grown


@dataclass
class Scored:
    """A corpus with its scores in place."""

    corpus: Corpus
    targets: dict[str, Corpus]
    model: Scorer | Fusion
    table: ScoreTable
    commit: dict[str, Any]


def scoring_key(
    job: ScoringSpec,
    corpus: Corpus,
    targets: Mapping[str, Corpus],
    model: Scorer | Fusion,
    carry: Sequence[str],
    domains: Domains | None,
) -> str:
    """The name of a score table: all that its bytes depend on."""
    since: dict[str, Any] = {} if job.holdout is None else {"holdout": job.holdout}
    if domains is not None:
        since["domains"] = domains.identity()
    return digest(
        {
            "format": FORMAT,
            "partition_bytes": PARTITION_BYTES,
            "raw": [corpus.identity(p) for p in corpus.partitions],
            "target": {n: [[f.source.name, f.sha256] for f in c.files] for n, c in targets.items()},
            "target_text_column": job.target_text_column or job.text_column,
            "method": job.method,
            "settings": model.identity(),
            "carry": list(carry),
        }
        | since
    )


def grown_key(
    job: ScoringSpec,
    corpus: Corpus,
    targets: Mapping[str, Corpus],
    model: Scorer | Fusion,
    carry: Sequence[str],
    domains: Domains | None,
    generations: Sequence[int],
) -> str:
    """The name of a score table that grew: of the files that its scorer is fitted to, then of those that came.

    ``generations``: how many files there were at first, and how many came with each update.
    """
    first = scoring_key(job, corpus.with_files(corpus.files[: generations[0]]), targets, model, carry, domains)
    return keys_grown(first, corpus, generations)[-1]


def adopt_scores(source: RunFolder, folder: RunFolder, key: str) -> None:
    """Take over the score table of another run: by hard links where the file system has them."""
    if source.path.resolve() == folder.path.resolve() or (folder.scored or {}).get("key") == key:
        return
    scored = source.scored
    if scored is None or scored["key"] != key:
        why = "has no scores" if scored is None else "was scored with other files, target or settings"
        raise RunError(f"{source.path}: {why}; leave out --scores-from, or make them the same")
    fitted = (path for path in source.scorer.rglob("*") if path.is_file())
    cleaned = (path for name in LEFT_BY_CLEANING for path in (source.scores.parent / name).glob("*") if path.is_file())
    for path in sorted([*source.scores.glob("part-*.parquet"), *fitted, *cleaned]):
        linked(path, folder.path / str(path.relative_to(source.scores.parent)))
    for name in (QUARANTINE, DUPLICATES, CONTAMINATION):
        if (source.path / name).exists():
            linked(source.path / name, folder.path / name)
    write_json(folder.path / SCORES_COMMIT, scored)
