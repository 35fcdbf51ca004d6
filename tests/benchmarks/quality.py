"""Measure how well selections model held-out target text, in bits per byte under a primed PPMd model.

Every arm selects raw documents for a target at an equal byte budget. A PPMd model (variant I, order 8)
reads the selected documents, shuffled, and then codes the target's held-out documents; what the latter
cost, in bits per byte, is the arm's figure, and lower is better. The model goes on learning within the
held-out text, so a larger `--heldout` cap lowers all figures and narrows the gains.

Arms: `random`; `reference`, which is the package `data-selection` with its defaults; `curate`, with its
defaults; and more curate arms by `--arm-setting`.

    python tests/benchmarks/quality.py --cache /tmp/quality --json quality.json
    python tests/benchmarks/quality.py --targets gsm8k,mbpp --arm-setting fused:method=bytegrams+primed

Needs polars, numpy and pyppmd, and data-selection and nltk for the arm `reference`. The documents of the
pool's truth/contamination.parquet are left out before anything else. Source labels are never used.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

os.environ.setdefault("TQDM_DISABLE", "1")  # the reference package's progress bars; read when tqdm loads

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SEPARATOR = b"\n\n"
PPMD_ORDER = 8
PPMD_MEMORY = 256 << 20  # bytes
PPMD_FLUSH = 4  # bytes that the encoder always writes at its end
PROCESSES = 2
BOOTSTRAP_DRAWS = 1000

NGRAMS = 2  # this and the next two: defaults of HashedNgramDSIR, asserted in check_reference
BUCKETS = 10_000
MIN_TOKENS = 100

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
START = time.monotonic()


# --- input -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Documents:
    """Documents in a fixed order."""

    ids: list[str]
    texts: list[str]

    @cached_property
    def sizes(self) -> Ints:
        """UTF-8 bytes of each document."""
        return np.array([len(text.encode()) for text in self.texts], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all ids and texts."""
        digest = hashlib.sha256()
        for ident, text in zip(self.ids, self.texts, strict=True):
            digest.update(json.dumps([ident, text]).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Target:
    """A target: the examples given to a selector, and the held-out documents it is measured with."""

    name: str
    train: Path
    heldout: Documents


@dataclass(frozen=True)
class Arm:
    """A way of selecting. `settings` and `call` (keyword arguments) are for curate arms only."""

    name: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """The raw documents (row numbers) that an arm selected for a target with a seed, and seconds spent."""

    target: str
    arm: str
    seed: int
    rows: list[int]
    seconds: float


def parse_size(text: str) -> int:
    """Bytes of a size such as "1.5MB"; units are decimal unless written KiB, MiB or GiB."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in UNITS:
        raise argparse.ArgumentTypeError(f"not a size: {text!r}")
    return round(float(match[1]) * UNITS[match[2].upper()])


CALL = ("budget", "draw", "method")  # of an arm: arguments of the library's `select`, not settings of the scorer
WEIGHTS = ("transform", "max_kl", "min_ess", "regularise", "calibrate")  # of its argument `weights`


def parse_arm(text: str) -> Arm:
    """A curate arm from NAME:key=value,key=value; values are JSON, or else plain strings."""
    name, _, pairs = text.partition(":")
    settings: dict[str, Any] = {}
    for pair in filter(None, pairs.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"not key=value: {pair!r}")
        settings[key] = value if key in CALL else parse_value(value)
    call: dict[str, Any] = {key: settings.pop(key) for key in CALL if key in settings}
    if weights := {key: settings.pop(key) for key in WEIGHTS if key in settings}:
        call["weights"] = weights
    parse_size(call.get("budget", "0"))
    return Arm(name, "curate", settings, call)


def parse_value(text: str) -> Any:
    """The JSON value of a text, or the text itself where it is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def load_raw(pool: Path) -> Documents:
    """The pool's raw documents in their order, without the contaminated ones."""
    left_out = pl.read_parquet(pool / "truth" / "contamination.parquet").select("id").unique()
    frame = pl.read_parquet(pool / "raw" / "*.parquet", columns=["id", "text"])
    frame = frame.join(left_out, on="id", how="anti", maintain_order="left")
    return Documents(frame["id"].to_list(), frame["text"].to_list())


def load_jsonl(path: Path) -> Documents:
    """The documents of a JSON Lines file with id and text."""
    with path.open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file if line.strip()]
    return Documents([item["id"] for item in items], [item["text"] for item in items])


def load_target(folder: Path, cap: int) -> Target:
    """A target with its held-out documents in hash order, whole ones of `cap` bytes at most."""
    full = load_jsonl(folder / "heldout.jsonl")
    rows = fill(hash_order(full.ids, "heldout"), full.sizes, cap)
    heldout = Documents([full.ids[row] for row in rows], [full.texts[row] for row in rows])
    return Target(folder.name, folder / "train.jsonl", heldout)


def hash_order(ids: Sequence[str], key: str) -> list[int]:
    """Row numbers in the order of a keyed hash of their ids."""

    def digest(row: int) -> bytes:
        return hashlib.blake2b(ids[row].encode(), key=key.encode()[:64], digest_size=16).digest()

    return sorted(range(len(ids)), key=digest)


def fill(ranking: Sequence[int], sizes: Ints, budget: int) -> list[int]:
    """The ranking's longest prefix that is within the budget (bytes)."""
    order = np.asarray(ranking, dtype=np.int64)
    count = int(np.searchsorted(np.cumsum(sizes[order]), budget, side="right"))
    return [int(row) for row in order[:count]]


# --- arm: reference ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """Sparse n-gram counts: entries (row, bucket, count), as the reference package counts them."""

    rows: Ints
    buckets: Ints
    counts: Ints
    documents: int

    @cached_property
    def totals(self) -> Ints:
        """N-grams in each bucket over all documents."""
        return np.bincount(self.buckets, weights=self.counts, minlength=BUCKETS).astype(np.int64)

    @cached_property
    def long_enough(self) -> npt.NDArray[np.bool_]:
        """Which documents the package's length filter keeps."""
        ngrams = np.bincount(self.rows, weights=self.counts, minlength=self.documents)
        return (ngrams + NGRAMS * (NGRAMS - 1) / 2) // NGRAMS >= MIN_TOKENS


def count_ngrams(texts: Sequence[str]) -> tuple[Ints, Ints, Ints]:
    """Entries (position, bucket, count) of the package's own counts of each text."""
    from data_selection.hashed_ngram_dsir import get_ngram_counts

    dense = [get_ngram_counts(text, n=NGRAMS, num_buckets=BUCKETS) for text in texts]
    buckets = [np.flatnonzero(counts) for counts in dense]
    values = [counts[held] for counts, held in zip(dense, buckets, strict=True)]
    rows = np.repeat(np.arange(len(texts)), [len(held) for held in buckets])
    return rows, np.concatenate(buckets), np.concatenate(values)


def build_features(raw: Documents) -> Features:
    """Count the n-grams of all raw documents."""
    starts = range(0, len(raw.texts), 500)
    parts = []
    with workers() as pool:
        done = pool.map(count_ngrams, [raw.texts[start : start + 500] for start in starts])
        for start, (rows, buckets, counts) in zip(starts, done, strict=True):
            parts.append((rows + start, buckets, counts))
            say_every(10, len(parts), len(starts), "reference features: chunk")
    rows, buckets, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Features(rows, buckets, counts, len(raw.texts))


def load_features(raw: Documents, cache: Path) -> Features:
    """The n-gram counts of the raw documents, from the cache folder where they are there already."""
    path = cache / f"features-{raw.fingerprint}-{version('data-selection')}.npz"
    if not path.exists():
        built = build_features(raw)
        with path.with_suffix(".part").open("wb") as file:
            small = built.rows.astype(np.int32), built.buckets.astype(np.int16), built.counts.astype(np.int32)
            np.savez(file, rows=small[0], buckets=small[1], counts=small[2])
        path.with_suffix(".part").rename(path)
    with np.load(path) as held:
        columns = [held[name].astype(np.int64) for name in ("rows", "buckets", "counts")]
    return Features(columns[0], columns[1], columns[2], len(raw.texts))


def log_weights(features: Features, train: Path) -> Floats:
    """The package's log importance weights of all raw documents for the target of a train file."""
    _, buckets, counts = count_ngrams(load_jsonl(train).texts)
    target = np.bincount(buckets, weights=counts, minlength=BUCKETS)
    target_probs, raw_probs = target / target.sum(), features.totals / features.totals.sum()
    log_diff = np.log(target_probs + 1e-8) - np.log(raw_probs + 1e-8)
    terms = log_diff[features.buckets] * features.counts
    weights = np.bincount(features.rows, weights=terms, minlength=features.documents)
    return weights.astype(np.float64)


def reference_ranking(features: Features, weights: Floats, target: str, seed: int) -> list[int]:
    """Rows by log weight plus Gumbel noise, without the documents that the package holds too short."""
    rng = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(target.encode()).digest()[:4])])
    rows = np.flatnonzero(features.long_enough)
    noisy = weights[rows] + rng.gumbel(size=len(rows))
    return [int(row) for row in rows[np.argsort(-noisy, kind="stable")]]


def check_reference(raw: Documents, features: Features, train: Path, cache: Path) -> None:
    """Assert that the weights and the filter equal those of the package's class; once a cache folder."""
    mark = cache / f"checked-{raw.fingerprint}-{version('data-selection')}-{fingerprint_file(train)}"
    if mark.exists():
        return
    say("reference: checking against the package's class")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        weights, kept = class_weights(raw, train, Path(folder))
    worst = float(np.max(np.abs(weights - log_weights(features, train))))
    assert worst <= 1e-9, f"log weights differ from the class's by {worst}"
    assert np.array_equal(kept, features.long_enough), "the length filter differs from the class's"
    say(f"reference: equal to the class (largest difference of log weights {worst:.1e})")
    mark.write_text(f"{worst}\n")


def class_weights(raw: Documents, train: Path, folder: Path) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Log weights and length filter by the package's class itself, in the order of the raw documents."""
    from data_selection import HashedNgramDSIR

    with (folder / "raw.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in raw.texts)
    model = HashedNgramDSIR([str(folder / "raw.jsonl")], [str(train)], str(folder), num_proc=PROCESSES)
    assert (model.ngrams, model.num_buckets, model.min_example_length) == (NGRAMS, BUCKETS, MIN_TOKENS)
    model.fit_importance_estimator()
    model.compute_importance_weights()
    weights, lengths = np.empty(len(raw.texts)), np.empty(len(raw.texts))
    for shard in range(PROCESSES):  # the class deals line i to shard i modulo the number of shards
        weights[shard::PROCESSES] = np.load(model.log_importance_weights_dir / f"{shard}.npy")
        lengths[shard::PROCESSES] = np.load(model.perexample_metadata_dir / f"{shard}.npy")
    return weights, model.perexample_metadata_filter(lengths)


def fingerprint_file(path: Path) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


# --- arm: curate -------------------------------------------------------------------------------------


def dump_raw(raw: Documents, cache: Path) -> list[Path]:
    """Parquet files of the raw documents (id and text) in the cache folder, written where missing."""
    folder = cache / f"raw-{raw.fingerprint}"
    starts = np.linspace(0, len(raw.ids), 5).astype(int)
    paths = [folder / f"part-{number:05d}.parquet" for number in range(4)]
    folder.mkdir(exist_ok=True)
    for path, start, end in zip(paths, starts[:-1], starts[1:], strict=True):
        if not path.exists():
            part = pl.DataFrame({"id": raw.ids[start:end], "text": raw.texts[start:end]})
            part.write_parquet(path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
    return paths


def curate_ids(raw: list[Path], train: Path, arm: Arm, budget: str, seed: int, run: Path) -> list[str]:
    """Ids of the documents that the library selects; `run` keeps the scores for other seeds. Only this calls it."""
    import curate

    call: dict[str, Any] = {"budget": budget, "seed": seed, "overwrite": True, "progress": False, **arm.call}
    if run.exists():
        call.pop("method", None)
        curate.draw(run, **call)
    else:
        settings = {"settings": dict(arm.settings)} if arm.settings else {}
        curate.select(raw=[str(path) for path in raw], target=str(train), out=str(run), **settings, **call)
    frame = pl.read_parquet(run / "shards" / "*.parquet", columns=["id"])
    return [str(ident) for ident in frame["id"].to_list()]


# --- selecting ---------------------------------------------------------------------------------------

Selector = Callable[[Arm, Target, int], list[int]]


@dataclass
class Selectors:
    """The arms' ways to select, with what they share; `budget` is a size such as "1.5MB"."""

    raw: Documents
    budget: str
    cache: Path
    weights: dict[str, Floats] = field(default_factory=dict)
    runs: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    @cached_property
    def features(self) -> Features:
        """The reference's n-gram counts."""
        return load_features(self.raw, self.cache)

    @cached_property
    def dump(self) -> list[Path]:
        """The raw documents as Parquet files."""
        return dump_raw(self.raw, self.cache)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row number of each id."""
        return {ident: row for row, ident in enumerate(self.raw.ids)}

    def random(self, arm: Arm, target: Target, seed: int) -> list[int]:
        """A seeded random selection, drawn anew for every target."""
        order = hash_order(self.raw.ids, f"random/{seed}/{target.name}")
        return fill(order, self.raw.sizes, parse_size(self.budget))

    def reference(self, arm: Arm, target: Target, seed: int) -> list[int]:
        """The reference package's selection."""
        if target.name not in self.weights:
            self.weights[target.name] = log_weights(self.features, target.train)
        ranking = reference_ranking(self.features, self.weights[target.name], target.name, seed)
        return fill(ranking, self.raw.sizes, parse_size(self.budget))

    def curate(self, arm: Arm, target: Target, seed: int) -> list[int]:
        """The library's selection, which must be within the arm's budget and hold no document twice.

        Draws by chance have the budget's size on average; they are near it here.
        """
        run = Path(self.runs.name) / arm.name / target.name
        ids = curate_ids(self.dump, target.train, arm, self.budget, seed, run)
        rows = [self.row_of[ident] for ident in ids]
        assert len(set(rows)) == len(rows), f"{arm.name}: a document selected twice"
        size, budget = int(self.raw.sizes[rows].sum()), parse_size(arm.call.get("budget", self.budget))
        over = 1.02 if arm.call.get("draw") in ("pivotal", "systematic", "poisson") else 1
        assert size <= over * budget, f"{arm.name}: {size} bytes selected, over the budget of {budget}"
        return rows

    def of(self, arm: Arm) -> Selector:
        """The selector of an arm."""
        kinds: dict[str, Selector] = {
            "random": self.random,
            "reference": self.reference,
            "curate": self.curate,
        }
        return kinds[arm.kind]

    def select(self, arm: Arm, target: Target, seed: int) -> Selection:
        """Select, and time it."""
        begin = time.monotonic()
        rows = self.of(arm)(arm, target, seed)
        seconds = time.monotonic() - begin
        if arm.kind == "curate":
            say(f"{arm.name}: {target.name}, seed {seed}: {len(rows)} documents in {seconds:.1f} s")
        return Selection(target.name, arm.name, seed, rows, seconds)


# --- bits per byte -----------------------------------------------------------------------------------


def new_encoder() -> Any:
    """A fresh PPMd encoder of variant I; flush(False) ends it without an end mark."""
    import pyppmd

    return pyppmd.Ppmd8Encoder(PPMD_ORDER, PPMD_MEMORY)


def code_lengths(selected: bytes, heldout: Sequence[bytes]) -> list[int]:
    """Bytes that each held-out document costs in a model which has read the selected text.

    One encoder codes both, so their sum is the size of (selected + held-out) less that of the selected
    text alone, up to a byte or two that the range coder holds back at the border. A single document's
    length is rounded in the same way; the roundings cancel in the sum.
    """
    encoder = new_encoder()
    encoder.encode(selected)
    lengths = [len(encoder.encode(text)) for text in heldout]
    lengths[-1] += len(encoder.flush(False)) - PPMD_FLUSH
    return lengths


def compressed_size(text: bytes) -> int:
    """Bytes of a text compressed by itself."""
    encoder = new_encoder()
    return len(encoder.encode(text)) + len(encoder.flush(False))


def check_coding(selected: bytes, heldout: Sequence[bytes]) -> None:
    """Assert that the one-encoder figure equals the difference of two compressions, within 4 bytes."""
    two = compressed_size(selected + b"".join(heldout)) - compressed_size(selected)
    one = sum(code_lengths(selected, heldout))
    assert abs(one - two) <= 4, f"{one} bytes in one encoder, {two} as the difference of two compressions"


_raw: Documents | None = None  # in a worker process: the raw documents


def start_worker(pool: Path | None) -> None:
    """Load the raw documents in a worker process."""
    global _raw
    _raw = load_raw(pool) if pool else None


def workers(pool: Path | None = None) -> ProcessPoolExecutor:
    """Worker processes, which hold the raw documents of a pool where one is named."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=start_worker, initargs=(pool,))


def heldout_pieces(heldout: Documents) -> list[bytes]:
    """The held-out documents with the separators between them."""
    texts = [text.encode() for text in heldout.texts]
    return [text + SEPARATOR for text in texts[:-1]] + texts[-1:]


def measure(rows: list[int], seed: int, heldout: list[bytes], check: bool) -> list[int]:
    """Bytes that each held-out document costs after the selected rows, primed in a seeded hash order."""
    assert _raw is not None
    ids, texts = [_raw.ids[row] for row in rows], [_raw.texts[row] for row in rows]
    order = hash_order(ids, f"prime/{seed}")
    selected = b"".join(texts[place].encode() + SEPARATOR for place in order)
    if check:
        check_coding(selected, heldout)
    return code_lengths(selected, heldout)


def measure_all(selections: list[Selection], targets: list[Target], pool: Path) -> list[Ints]:
    """For every selection the bytes that each held-out document costs."""
    pieces = {target.name: heldout_pieces(target.heldout) for target in targets}
    lengths = []
    with workers(pool) as processes:
        jobs = [
            processes.submit(measure, item.rows, item.seed, pieces[item.target], check=number == 0)
            for number, item in enumerate(selections)
        ]
        for done, job in enumerate(jobs, 1):
            lengths.append(np.array(job.result(), dtype=np.int64))
            say_every(10, done, len(jobs), "PPMd: selection")
    return lengths


# --- figures -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """Code lengths in bytes, of shape (seeds, held-out documents), by (target, arm)."""

    lengths: dict[tuple[str, str], Ints]
    sizes: dict[str, Ints]  # bytes of each held-out document by target

    def bits_per_byte(self, target: str, arm: str) -> Floats:
        """Bits per held-out byte for each seed."""
        bits: Floats = 8.0 * self.lengths[target, arm].sum(axis=1) / self.sizes[target].sum()
        return bits

    def mean(self, target: str, arm: str) -> float:
        """Mean bits per byte over the seeds."""
        return float(self.bits_per_byte(target, arm).mean())

    def compare(self, target: str, arm: str, other: str) -> dict[str, float | None]:
        """How many bits per byte `arm` is better than `other`, with standard errors."""
        return {
            "gain": self.mean(target, other) - self.mean(target, arm),
            "se_seeds": self.seed_error(target, arm, other),
            "se_heldout": self.heldout_error(target, arm, other),
        }

    def seed_error(self, target: str, arm: str, other: str) -> float | None:
        """Standard error over seeds of the difference of two arms' means; None for a single seed."""
        values = [self.bits_per_byte(target, name) for name in (arm, other)]
        count = len(values[0])
        return math.sqrt(sum(float(v.var(ddof=1)) / count for v in values)) if count > 1 else None

    def heldout_error(self, target: str, arm: str, other: str) -> float:
        """Standard error of the same difference by a bootstrap over held-out documents.

        It takes the documents' lengths as given; that each also primes the model for the next is left out.
        """
        saved = self.lengths[target, other].mean(axis=0) - self.lengths[target, arm].mean(axis=0)
        sizes = self.sizes[target]
        draws = np.random.default_rng(0).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), BOOTSTRAP_DRAWS)
        return float(np.std(8.0 * (draws @ saved) / (draws @ sizes), ddof=1))


def make_figures(selections: list[Selection], lengths: list[Ints], targets: list[Target]) -> Figures:
    """Gather the code lengths, seeds in the order of the selections."""
    grouped: dict[tuple[str, str], list[Ints]] = {}
    for item, length in zip(selections, lengths, strict=True):
        grouped.setdefault((item.target, item.arm), []).append(length)
    sizes = {t.name: np.array([len(p) for p in heldout_pieces(t.heldout)]) for t in targets}
    return Figures({key: np.stack(value) for key, value in grouped.items()}, sizes)


def combine(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean over targets of a comparison, with the standard errors of that mean."""
    gains = [part["gain"] for part in parts]
    whole: dict[str, float | None] = {"gain": statistics.fmean(g for g in gains if g is not None)}
    for key in ("se_seeds", "se_heldout"):
        errors = [part[key] for part in parts]
        known = [error for error in errors if error is not None]
        whole[key] = math.hypot(*known) / len(parts) if len(known) == len(parts) else None
    return whole


def noise(comparison: dict[str, float | None]) -> float:
    """Two standard errors, of seeds and held-out documents together."""
    return 2 * math.hypot(comparison["se_seeds"] or 0.0, comparison["se_heldout"] or 0.0)


def verdict(comparison: dict[str, float | None]) -> str:
    """`win` or `loss` where the gain is beyond the noise, else `level`."""
    gain = comparison["gain"] or 0.0
    if abs(gain) <= noise(comparison):
        return "level"
    return "win" if gain > 0 else "loss"


def summarise(figures: Figures, targets: list[str], arms: list[str]) -> dict[str, Any]:
    """Figures by target and arm, and their means over the targets."""
    summary: dict[str, Any] = {"targets": {}, "mean": {}}
    for target in targets:
        summary["targets"][target] = {arm: arm_figures(figures, target, arm, arms) for arm in arms}
    for arm in arms:
        per_target = [summary["targets"][target][arm] for target in targets]
        mean: dict[str, Any] = {"bits_per_byte": statistics.fmean(p["bits_per_byte"] for p in per_target)}
        for key in ("over_random", "over_reference"):
            if key in per_target[0]:
                mean[key] = combine([part[key] for part in per_target])
        summary["mean"][arm] = mean
    base = summary["mean"].get("reference", {}).get("over_random", {}).get("gain")
    for mean in summary["mean"].values():
        if base and "over_random" in mean:
            mean["gain_ratio_to_reference"] = mean["over_random"]["gain"] / base
    return summary


def arm_figures(figures: Figures, target: str, arm: str, arms: list[str]) -> dict[str, Any]:
    """One arm's figures for one target."""
    result: dict[str, Any] = {
        "bits_per_byte": figures.mean(target, arm),
        "by_seed": figures.bits_per_byte(target, arm).tolist(),
    }
    for other in ("random", "reference"):
        if other in arms and arm not in ("random", other):
            result[f"over_{other}"] = figures.compare(target, arm, other)
    return result


# --- output ------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A progress line on standard error, with the seconds since the start."""
    print(f"[{time.monotonic() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def say_every(step: int, done: int, total: int, text: str) -> None:
    """A progress line for every `step` items and the last."""
    if done % step == 0 or done == total:
        say(f"{text} {done} of {total}")


@contextmanager
def timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the seconds that a part takes to `seconds`."""
    begin = time.monotonic()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.monotonic() - begin
    say(f"{name}: {seconds[name]:.1f} s")


def version(package: str) -> str | None:
    """Installed version of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions, and the machine in general terms."""
    packages = ("curate", "data-selection", "nltk", "numpy", "polars", "pyppmd")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "processor": platform.machine()},
    }


def align(rows: list[list[str]]) -> str:
    """Rows as a table: the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *cells[1:]])

    return "\n".join(line(row).rstrip() for row in rows)


def bits_table(summary: dict[str, Any], arms: list[str]) -> str:
    """Mean bits per byte of every arm, and gains over random, by target."""
    gaining = [arm for arm in arms if "over_random" in summary["mean"][arm]]
    rows = [["target", *arms, *(f"gain {arm}" for arm in gaining)]]
    for name, parts in [*summary["targets"].items(), ("mean", summary["mean"])]:
        bits = [f"{parts[arm]['bits_per_byte']:.4f}" for arm in arms]
        rows.append([name, *bits, *(f"{parts[arm]['over_random']['gain']:+.4f}" for arm in gaining)])
    if "reference" in gaining:
        ratios = [f"{summary['mean'][arm]['gain_ratio_to_reference']:.3f}" for arm in gaining]
        rows.append(["gain / reference's", *("" for _ in arms), *ratios])
    return align(rows)


def duel_table(summary: dict[str, Any], arm: str) -> str:
    """An arm against the reference by target, with the noise and the count of wins and losses."""
    rows = [["target", "gain", "2 se seeds", "2 se held-out", "verdict"]]
    for name, parts in [*summary["targets"].items(), ("mean", summary["mean"])]:
        duel = parts[arm]["over_reference"]
        errors = [f"{2 * duel[k]:.4f}" if duel[k] is not None else "-" for k in ("se_seeds", "se_heldout")]
        rows.append([name, f"{duel['gain']:+.4f}", *errors, verdict(duel)])
    verdicts = [row[-1] for row in rows[1:-1]]
    above = sum(parts[arm]["over_reference"]["gain"] > 0 for parts in summary["targets"].values())
    counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in ("win", "loss", "level"))
    return f"{align(rows)}\n{counts}; better on {above} of {len(verdicts)} regardless of noise"


def size_table(sizes: dict[str, dict[str, float]]) -> str:
    """How much each arm selected and how long it took."""
    rows = [["arm", "documents", "bytes", "least bytes", "seconds"]]
    for arm, held in sizes.items():
        whole = [f"{held[key]:.0f}" for key in ("documents", "bytes", "least_bytes")]
        rows.append([arm, *whole, f"{held['seconds']:.2f}"])
    return align(rows)


def selected_sizes(selections: list[Selection], raw: Documents) -> dict[str, dict[str, float]]:
    """By arm, the means per selection of documents, bytes and seconds, and the least bytes."""
    grouped: dict[str, list[Selection]] = {}
    for item in selections:
        grouped.setdefault(item.arm, []).append(item)
    result = {}
    for arm, items in grouped.items():
        sizes = [int(raw.sizes[item.rows].sum()) for item in items]
        result[arm] = {
            "documents": statistics.fmean(len(item.rows) for item in items),
            "bytes": statistics.fmean(sizes),
            "least_bytes": min(sizes),
            "seconds": statistics.fmean(item.seconds for item in items),
        }
    return result


def print_report(report: dict[str, Any], arms: list[str]) -> None:
    """The readable report on standard output."""
    setup = report["setup"]
    print(f"Bits per byte of held-out text (lower is better), PPMd variant I, order {PPMD_ORDER}; "
          f"budget {setup['budget']} bytes of {setup['raw_bytes']}; seeds {setup['seeds']}; "
          f"gain = random less arm\n")  # fmt: skip
    print(bits_table(report["summary"], arms), "\n")
    for arm in arms:
        if "over_reference" in report["summary"]["mean"][arm]:
            print(f"{arm} over reference, bits per byte (verdict beyond both errors together)")
            print(duel_table(report["summary"], arm), "\n")
    print("Selected, means per selection\n" + size_table(report["selected"]), "\n")
    print("Seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in report["seconds"].items()))


# --- command line ------------------------------------------------------------------------------------


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    shared = Path(__file__).resolve().parents[3] / "shared" / "pool"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pool", type=Path, default=shared, help="pool folder (default ../shared/pool)")
    parser.add_argument("--budget", default="1.5MB", help="bytes of text to select (default 1.5MB)")
    parser.add_argument("--heldout", type=parse_size, default="300kB", help="held-out cap (default 300kB)")
    parser.add_argument("--seeds", default="0,1,2", help="seeds (default 0,1,2)")
    parser.add_argument("--targets", default="all", help="names of targets (default all)")
    parser.add_argument("--arms", default="random,reference,curate", help="arms (default: all three)")
    parser.add_argument("--arm-setting", type=parse_arm, action="append", default=[],
                        metavar="NAME:key=value,...", help="one more curate arm; repeatable")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--cache", type=Path, help="keep n-gram counts and the pool's dump here")
    arguments = parser.parse_args(argv)
    try:
        parse_size(arguments.budget)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return arguments


def choose_arms(arguments: argparse.Namespace) -> list[Arm]:
    """The arms to run, in order."""
    names = [name for name in arguments.arms.split(",") if name]
    if unknown := set(names) - {"random", "reference", "curate"}:
        raise SystemExit(f"no such arm: {', '.join(sorted(unknown))}")
    arms: list[Arm] = [Arm(name, name) for name in names] + arguments.arm_setting
    if len({arm.name for arm in arms}) < len(arms) or not arms:
        raise SystemExit("arms must have different names, and there must be one")
    if any(arm.kind == "curate" for arm in arms) and importlib.util.find_spec("curate") is None:
        raise SystemExit("curate arms need the library installed, or its folder on PYTHONPATH")
    if any(arm.kind == "reference" for arm in arms) and version("data-selection") is None:
        raise SystemExit("the arm reference needs the packages data-selection and nltk")
    return arms


def choose_targets(arguments: argparse.Namespace) -> list[Target]:
    """The targets to run, in the order named or else by name."""
    folders = {path.name: path for path in sorted((arguments.pool / "targets").iterdir())}
    names = list(folders) if arguments.targets == "all" else arguments.targets.split(",")
    if unknown := [name for name in names if name not in folders]:
        raise SystemExit(f"no such target: {', '.join(unknown)}")
    return [load_target(folders[name], arguments.heldout) for name in names]


def run(arguments: argparse.Namespace, cache: Path) -> tuple[dict[str, Any], list[str]]:
    """Select, measure and summarise: the report and the names of the arms."""
    arms, seeds = choose_arms(arguments), [int(seed) for seed in arguments.seeds.split(",")]
    seconds: dict[str, float] = {}
    with timed("load", seconds):
        raw, targets = load_raw(arguments.pool), choose_targets(arguments)
    selectors = Selectors(raw, arguments.budget, cache)
    if any(arm.kind == "reference" for arm in arms):
        prepare_reference(selectors, targets, seconds)
    if any(arm.kind == "curate" for arm in arms):
        say(f"pool as Parquet: {len(selectors.dump)} files of {len(selectors.row_of)} documents")
    selections = []
    for arm in arms:
        with timed(f"select {arm.name}", seconds):
            selections += [selectors.select(arm, target, seed) for target in targets for seed in seeds]
    with timed("PPMd", seconds):
        lengths = measure_all(selections, targets, arguments.pool)
    names = [arm.name for arm in arms]
    figures = make_figures(selections, lengths, targets)
    with timed("figures", seconds):
        summary = summarise(figures, [target.name for target in targets], names)
    report = {
        **environment(),
        "setup": describe(arguments, raw, targets, arms, seeds),
        "summary": summary,
        "selected": selected_sizes(selections, raw),
        "selections": describe_selections(selections, figures, raw, seeds),
        "seconds": seconds,
    }
    return report, names


def prepare_reference(selectors: Selectors, targets: list[Target], seconds: dict[str, float]) -> None:
    """Count the n-grams of the raw documents and check them on the smallest target."""
    with timed("reference features", seconds):
        _ = selectors.features
    smallest = min(targets, key=lambda target: target.train.stat().st_size)
    with timed("reference check", seconds):
        check_reference(selectors.raw, selectors.features, smallest.train, selectors.cache)


def describe(
    arguments: argparse.Namespace, raw: Documents, targets: list[Target], arms: list[Arm], seeds: list[int]
) -> dict[str, Any]:
    """What was run on what."""
    return {
        "budget": parse_size(arguments.budget),
        "seeds": seeds,
        "arms": {arm.name: {"kind": arm.kind, "settings": arm.settings, **arm.call} for arm in arms},
        "model": {"name": "PPMd variant I", "order": PPMD_ORDER, "memory_bytes": PPMD_MEMORY},
        "raw_documents": len(raw.ids),
        "raw_bytes": int(raw.sizes.sum()),
        "raw_fingerprint": raw.fingerprint,
        "heldout": {
            target.name: {"documents": len(target.heldout.ids), "bytes": int(target.heldout.sizes.sum())}
            for target in targets
        },
    }


def describe_selections(
    selections: list[Selection], figures: Figures, raw: Documents, seeds: list[int]
) -> list[dict[str, Any]]:
    """Every selection with its figure."""
    return [
        {
            "target": item.target,
            "arm": item.arm,
            "seed": item.seed,
            "documents": len(item.rows),
            "bytes": int(raw.sizes[item.rows].sum()),
            "seconds": item.seconds,
            "bits_per_byte": float(figures.bits_per_byte(item.target, item.arm)[seeds.index(item.seed)]),
        }
        for item in selections
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    arguments = parse_arguments(argv)
    with tempfile.TemporaryDirectory() as temporary:
        cache = arguments.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        report, arms = run(arguments, cache)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print_report(report, arms)


if __name__ == "__main__":
    main()
