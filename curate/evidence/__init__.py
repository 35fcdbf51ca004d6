"""Evidence: is a language model that has read the selection better at the target than one that has read something else?

A proxy model reads samples of equal size of the selection and of its controls (`arms`), and codes text of the
target that nothing was fitted to (`proxy`); what that costs, in bits per byte, is compared (`verdict`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from curate.engines import LocalEngine
from curate.engines.allocator import BASE_BYTES
from curate.errors import InputError, RunError, UsageError
from curate.evidence.arms import (
    ARMS,
    MAX_SAMPLES,
    Mix,
    Sample,
    Scored,
    draw_arms,
    looked_at,
    selected_mix,
)
from curate.evidence.proxy import MAX_READ, MEMORY, ORDER, READ_BYTES, code_lengths, ppmd
from curate.evidence.texts import FEW_HELD_OUT, HeldOut, copies, priming, read_heldout, read_texts
from curate.evidence.verdict import LEVEL, Costs, Difference, against, difference, sentence
from curate.io.corpus import Corpus, scan
from curate.io.run import EVIDENCE, RunFolder, write_json
from curate.io.tables import schema_of
from curate.io.targets import GENERIC, Targets, named_targets
from curate.progress import Progress
from curate.sampling.budget import parse_bytes
from curate.steps.scoretable import ScoreTable

__all__ = ["Arm", "Evidence", "evaluate"]
FORMAT = 1
RANDOM_DRAWS = 2  # times as many of what is drawn at random: how much they differ is the yardstick
SMALL_SAMPLE = 100_000
PARTS = (*GENERIC, "heldout", "held-out", "test", "valid", "validation", "dev")  # names of files that say nothing


@dataclass(frozen=True)
class Arm:
    """What became of one arm: bits per byte of the held-out text, lower is better.

    ``deviation``: standard deviation from sample to sample. ``by_sample``: one line a sample, one figure a target.
    ``over_random``: this arm less random. ``selected_over``: the selection less this arm.
    """

    name: str
    what: str
    n_samples: int
    n_documents: float
    n_bytes: int
    bits_per_byte: float
    deviation: float
    bits_per_byte_by_target: Mapping[str, float]
    by_sample: tuple[tuple[float, ...], ...]
    over_random: Difference | None
    over_random_by_target: Mapping[str, Difference]
    selected_over: Difference | None
    copies: Mapping[str, int]


@dataclass(frozen=True)
class Evidence:
    """Whether a selection is better than its controls. ``verdict``: "better", "no better" or "worse" (than random)."""

    verdict: str
    sentence: str
    arms: tuple[Arm, ...]
    heldout: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Any]
    proxy: Mapping[str, Any]
    run: Mapping[str, Any]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """What `evidence.json` holds."""
        return {"version": FORMAT} | asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Evidence:
        """From what `evidence.json` holds.

        Raises
        ------
        InputError : another version of curate wrote it.
        """
        if found.get("version") != FORMAT:
            raise InputError(f"{EVIDENCE}: version {found.get('version')}, this curate reads {FORMAT}; evaluate again")
        values: dict[str, Any] = {name: value for name, value in found.items() if name != "version"}
        values["arms"] = tuple(_restored(arm) for arm in values["arms"])
        values |= {name: tuple(values[name]) for name in ("heldout", "warnings")}
        return cls(**values)


def evaluate(
    run: str | os.PathLike[str],
    *,
    heldout: Targets | None = None,
    heldout_text_column: str | None = None,
    seeds: int = 5,
    sample: str | int = "1.5MB",
    heldout_size: str | int = "300kB",
    workers: int | None = None,
    memory_limit: str | int = "2GB",
    progress: bool | None = False,
) -> Evidence:
    """Measure a finished run against control arms drawn at the same budget, and write ``RUN/evidence.json``.

    Parameters
    ----------
    run : folder of a finished run.
    heldout : text of the target that was not fitted to: paths, or paths by name; None: what ``--holdout`` of the
        run left out.
    heldout_text_column : by default that of the run's target.
    seeds : samples of the selection, and of the top-k; of each control that is drawn at random twice as many.
    sample : bytes of text in a sample; less when less was selected.
    heldout_size : bytes of text that each target is measured with.
    workers : threads that read; the proxy is one. They do not change what comes out.
    memory_limit : what the samples, which are held in memory, must fit in.
    progress : bars on stderr; None: when that is a terminal.

    Returns
    -------
    Evidence

    Raises
    ------
    CurateError : in one of its kinds; above all when there is nothing to measure with, or raw was changed.
    """
    size, measure = parse_bytes(sample), parse_bytes(heldout_size)
    _check(seeds, size, measure, parse_bytes(memory_limit))
    ppmd()
    folder = RunFolder(run)
    manifest, scored = folder.manifest, folder.scored
    if manifest is None or scored is None:
        raise RunError(f"{run}: no finished run; run curate select first")
    showing = Progress(progress)
    with folder.locked(), LocalEngine(workers) as engine:
        corpora, holdout = _heldout_corpora(manifest, heldout, heldout_text_column, engine)
        texts = [read_heldout(name, corpus, measure, holdout) for name, corpus in corpora.items()]
        drawn = _draw(folder, manifest, scored, size, seeds)
        read = read_texts(drawn.corpus, [one for of in drawn.samples.values() for one in of], engine, showing)
        costs, twins = _measure(drawn.samples, read, texts, showing)
    arms = tuple(_arm(name, of, costs, twins[name], texts) for name, of in drawn.samples.items())
    evidence = Evidence(
        difference(costs["selected"], costs["random"]).verdict,
        sentence(costs, [of.target for of in texts]),
        arms,
        tuple(_record(of, corpora[of.target], holdout) for of in texts),
        {
            "seeds": seeds,
            "sample_bytes": drawn.size,
            "heldout_size": measure,
            "level": LEVEL,
            "n_partitions": len(drawn.corpus.partitions),
            "n_partitions_looked_at": drawn.n_partitions,
        },
        {"model": "PPMd, variant I", "order": ORDER, "memory_bytes": MEMORY, "pyppmd": ppmd().__version__},
        {"uuid": manifest["uuid"], "recipe_sha256": manifest["recipe_sha256"]},
        tuple(_warnings(arms, texts, drawn)),
    )
    write_json(folder.path / EVIDENCE, evidence.as_dict())
    return evidence


@dataclass(frozen=True)
class _Drawn:
    """The arms of a run: samples of ``size`` bytes, from so many partitions with so many selected documents."""

    corpus: Corpus
    samples: Mapping[str, list[Sample]]
    size: int
    n_partitions: int
    n_selected: int


def _draw(folder: RunFolder, manifest: Mapping[str, Any], scored: Mapping[str, Any], size: int, seeds: int) -> _Drawn:
    corpus = Corpus.from_dict(scored["corpus"], folder.path)
    table = Scored(_score_table(folder, corpus, scored), folder.path / "ledger.parquet", looked_at(corpus))
    mix = selected_mix(table)
    if not mix.n_bytes:
        raise InputError(
            f"{folder.path}: nothing was selected from the {len(table.partitions)} of {len(corpus.partitions):,} "
            "partitions that are looked at; select more"
        )
    size = min(size, mix.n_bytes)
    samples = draw_arms(table, mix, n_samples=_arms(manifest, mix, seeds), size=size, seed=manifest["seed"])
    whole = {arm: of for arm, of in samples.items() if all(len(one.documents) for one in of)}
    return _Drawn(corpus, whole, size, len(table.partitions), mix.n_documents)


def _check(seeds: int, size: int, measure: int, memory_limit: int) -> None:
    if not 2 <= seeds <= MAX_SAMPLES // RANDOM_DRAWS:
        raise UsageError(
            f"--seeds {seeds}: at least 2 are needed to tell chance from gain, and at most "
            f"{MAX_SAMPLES // RANDOM_DRAWS} taken"
        )
    if size < 1 or measure < 1 or size + measure > MAX_READ:
        raise UsageError(
            f"--sample {size:,} bytes and {measure:,} of held-out text: together at most {MAX_READ:,}, "
            "which is what the proxy model has memory for"
        )
    needed = BASE_BYTES + READ_BYTES * (size + measure) + 2 * size * seeds * (2 + 3 * RANDOM_DRAWS)
    if needed > memory_limit:
        raise UsageError(
            f"memory limit {memory_limit:,} bytes: the samples are held in memory, which may take {needed:,}; "
            "take a smaller --sample or fewer --seeds"
        )


def _heldout_corpora(
    manifest: Mapping[str, Any], heldout: Targets | None, text_column: str | None, engine: LocalEngine
) -> tuple[dict[str, Corpus], float | None]:
    """What to measure with, by target, and which share of it was held out (None: these files are for measuring)."""
    recipe = manifest["recipe"]
    column = text_column or recipe["target_text_column"] or recipe["text_column"]
    if heldout is not None:
        named = _named(heldout, list(recipe["target"]))
        corpora = {name: scan(paths, text_column=column, over=engine.map) for name, paths in named.items()}
        _refuse_fitted(corpora, manifest)
        return corpora, None
    if recipe.get("holdout") is None:
        raise UsageError(
            "nothing to measure with: pass --heldout FILE with text of the target that was not selected by, "
            "or select with --holdout 0.2, which leaves part of the target out of the fit"
        )
    if text_column is not None:
        raise UsageError("--heldout-text-column goes with --heldout")
    corpora = {name: scan(paths, text_column=column, over=engine.map) for name, paths in recipe["target"].items()}
    for name, corpus in corpora.items():
        then = sorted((t["path"], t["sha256"]) for t in manifest["targets"] if t["name"] == name)
        if sorted((f.source.path, f.sha256) for f in corpus.files) != then:
            raise InputError(
                f"{corpus.files[0].source.path}: target {name!r} is not what the run was fitted to; put it back as "
                "it was, or select again with --overwrite"
            )
    return corpora, recipe["holdout"]


def _refuse_fitted(corpora: Mapping[str, Corpus], manifest: Mapping[str, Any]) -> None:
    """Text that the selection was made by says nothing of how good it is."""
    fitted = {target["sha256"] for target in manifest["targets"]}
    for file in (file for corpus in corpora.values() for file in corpus.files):
        if file.sha256 in fitted:
            raise UsageError(
                f"{file.source.path}: the run was fitted to this very file; measure with other text of the target, or "
                "select with --holdout 0.2"
            )


def _named(heldout: Targets, targets: list[str]) -> dict[str, list[str]]:
    """Held-out files by target; without names, those of a run with one target are all for that."""
    named = named_targets(heldout, generic=PARTS)
    if not named or not all(named.values()):
        raise UsageError("no held-out files: name at least one")
    if len(targets) == 1 and not isinstance(heldout, Mapping):
        return {targets[0]: [path for paths in named.values() for path in paths]}
    return named


def _score_table(folder: RunFolder, corpus: Corpus, scored: Mapping[str, Any]) -> ScoreTable:
    parts = tuple(folder.scores / f"part-{p.index:05d}.parquet" for p in corpus.partitions)
    names = schema_of(parts[0]).names
    columns = ["score"] if "score" in names else [f"score_{name}" for name in scored["spec"]["target"]]
    return ScoreTable(parts, tuple(columns), tuple(scored["carry"]), ())


def _arms(manifest: Mapping[str, Any], mix: Mix, seeds: int) -> dict[str, int]:
    """How many samples of each arm; those that would be the same as another are left out."""
    drawing = manifest["recipe"]["draw"]
    at_random = RANDOM_DRAWS * seeds
    arms = {arm: seeds if arm in ("selected", "top-k") else at_random for arm in ARMS}
    if not mix.can_be_stratified:
        del arms["source-stratified"]
    if drawing["draw"] in ("topk", "threshold") and drawing["per"] is None:
        del arms["top-k"]
    return arms


def _measure(
    samples: Mapping[str, list[Sample]], found: Any, texts: list[HeldOut], showing: Progress
) -> tuple[dict[str, Costs], dict[str, dict[str, int]]]:
    """What the held-out texts cost after each sample, and how many of them have a copy in an arm."""
    import numpy as np

    costs, twins = {}, {}
    sizes = tuple(of.sizes for of in texts)
    with showing.stage("measure", sum(map(len, samples.values())) * len(texts), in_bytes=False) as stage:
        for arm, of in samples.items():
            lengths: list[list[np.ndarray]] = [[] for _ in texts]
            read = [priming(one, found) for one in of]
            for one in read:
                for into, heldout in zip(lengths, texts, strict=True):
                    into.append(code_lengths(one, heldout.texts))
                    stage.advance(1)
            costs[arm] = Costs(tuple(np.stack(each) for each in lengths), sizes)
            twins[arm] = {heldout.target: copies(heldout, read) for heldout in texts}
    return costs, twins


def _arm(
    name: str, samples: list[Sample], costs: Mapping[str, Costs], twins: Mapping[str, int], texts: list[HeldOut]
) -> Arm:
    mine, random = costs[name], costs["random"]
    targets = [of.target for of in texts]
    return Arm(
        name,
        ARMS[name],
        len(samples),
        sum(len(one.documents) for one in samples) / len(samples),
        min(one.n_bytes for one in samples),
        mine.bits_per_byte,
        mine.deviation,
        {target: mine.of_target(i).bits_per_byte for i, target in enumerate(targets)},
        tuple(tuple(map(float, line)) for line in mine.by_sample),
        None if name == "random" else difference(mine, random),
        {}
        if name == "random"
        else {target: difference(mine.of_target(i), random.of_target(i)) for i, target in enumerate(targets)},
        None if name == "selected" else against(costs, name),
        twins,
    )


def _restored(arm: Mapping[str, Any]) -> Arm:
    def compared(found: Mapping[str, Any] | None) -> Difference | None:
        return None if found is None else Difference(**found)

    by_target = {name: Difference(**found) for name, found in arm["over_random_by_target"].items()}
    restored = {
        "by_sample": tuple(tuple(line) for line in arm["by_sample"]),
        "over_random": compared(arm["over_random"]),
        "over_random_by_target": by_target,
        "selected_over": compared(arm["selected_over"]),
    }
    return Arm(**dict(arm) | restored)


def _record(of: HeldOut, corpus: Corpus, holdout: float | None) -> dict[str, Any]:
    return {
        "target": of.target,
        "holdout": holdout,
        "files": [{"path": f.source.path, "bytes": f.bytes, "sha256": f.sha256} for f in corpus.files],
        "n_documents": of.n_documents,
        "n_bytes": of.n_bytes,
        "n_documents_used": len(of.texts),
        "n_bytes_used": sum(map(len, of.texts)),
    }


def _warnings(arms: tuple[Arm, ...], texts: list[HeldOut], drawn: _Drawn) -> list[str]:
    found = []
    by_name = {arm.name: arm for arm in arms}
    for of in texts:
        if len(of.texts) < FEW_HELD_OUT:
            found.append(f"{of.target}: only {len(of.texts)} held-out texts; below {FEW_HELD_OUT} intervals are rough")
        twins = by_name["selected"].copies[of.target]
        if twins:
            found.append(
                f"{of.target}: {twins:,} of {len(of.texts):,} held-out texts stand word for word in the samples of the "
                f"selection ({by_name['random'].copies[of.target]:,} in those of random), which flatters it"
            )
    if drawn.size < SMALL_SAMPLE:
        found.append(f"samples of {drawn.size:,} bytes say little; a larger budget, or --sample, says more")
    if drawn.n_partitions < len(drawn.corpus.partitions):
        found.append(
            f"all arms are drawn from {drawn.n_partitions} of {len(drawn.corpus.partitions):,} partitions, chosen by "
            f"a hash, with {drawn.n_selected:,} selected documents among them"
        )
    return found
