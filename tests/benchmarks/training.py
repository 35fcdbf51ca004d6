"""Train a small language model under each curriculum and measure it on text it never saw.

    python tests/benchmarks/training.py --pool ../shared/pool --json tests/benchmarks/results/training.json

Seven sources of the pool, from easy templates to many scripts, and noise that cannot be learnt, cut into documents of
at most 128 bytes; the same steps, batch, model, learning rate and, for a seed, first parameters for all. Documents come
from `curate.torch.CurriculumDataset`, weights from `curate.curriculum`. Two judgements, in bits per byte: the mean over
the sources of documents held out of them (a tenth, by hash; each source counts alike), and the mean over the held-out
halves of eight targets of the pool, of which the training documents hold none.

What was settled beforehand by reasoning, and not changed after a look at results:

- The pass rate of a source, for `gaussian`, is the share of the bytes of a few documents of it, never trained on, that
  the model predicts right. It is not made relative to other sources or to a best possible share: the first would make
  some source hard whatever it is, the second is not known without a larger model.
- The advantage, for `ucb`, is the fall of the loss on these documents (bits per byte) since the last update, counted as
  often as documents of the source were drawn in between. On the same text, since the difference between two
  batches of a source is mostly that between their documents: noise that would be taken for progress.
- Model and learning rate are from runs of the `uniform` arm alone.

The arm `average` was added after a look at the others, to tell what `gaussian` gains by its proportions from what it
gains by changing them.

Finished runs are kept in --work, so that a stopped benchmark goes on; --minutes begins no new ones after that.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from drawing import colour, svg
from torch import nn
from torch.nn import functional

from curate.curriculum.gaussian import START, gaussian_shares, moving_average
from curate.curriculum.ucb import ucb_weights
from curate.torch import CurriculumDataset

SOURCES = {
    "math-word": "easy: templates",
    "cs-abstracts": "plain prose",
    "legal": "formulaic prose",
    "wikipedia": "hard prose",
    "python": "code",
    "lean": "proofs: code with rare names",
    "non-English": "hard: many scripts",
    "noise": "random base64, made here: nothing to learn below 6 bits per byte",
}
TARGETS = ("gsm8k", "humaneval", "mbpp", "wikitext2", "minif2f-lean", "proofnet-lean", "sciie", "pubmedqa")
ARMS = {
    "natural": "uniform over documents",
    "uniform": "uniform over sources",
    "fixed": "square roots of the natural shares",
    "gaussian": "Gaussian around a pass rate of 0.5, moving average",
    "ucb": "UCB over sources by learning progress, with a floor",
    "easy-first": "bins of bits per byte, root pacing",
    "hard-first": "the same, hardest first",
    "average": "what gaussian drew in all, in these proportions from the start",
}
SEEDS = (0, 1, 2)
CONTEXT, BATCH, STEPS = 128, 32, 640
UPDATE_EVERY, MEASURE_EVERY = 16, 80
HELD_OUT, PROBE = 10, 5  # percent of documents
N_HELD_OUT, N_PROBE = 128, 16  # of them, of each source
NOISE = 400, 1875  # documents, random bytes in each: 1 MB of base64
WIDTH, HEADS, ORDERS, TABLE = 128, 4, (2, 3, 4), 1 << 15
FACTORS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F)
RATE, TABLE_RATE, WARM_UP = 3e-3, 9e-3, 30
SIGMA, ALPHA = 0.35, 0.9
WINDOW, TEMPERATURE, MIN_PROB = 300, 0.1, 0.02
STAGES = 5


# ---- the data


def documents(texts: Sequence[str]) -> list[str]:
    """Consecutive texts as pieces of at most CONTEXT bytes, cut between characters; the end that fills none is left."""
    data = "\n\n".join(texts).encode()
    pieces, start = [], 0
    while (stop := start + CONTEXT) <= len(data):
        while stop < len(data) and data[stop] & 0xC0 == 0x80:
            stop -= 1
        pieces.append(data[start:stop].decode())
        start = stop
    return pieces


def percentile(doc_id: str) -> int:
    return int.from_bytes(hashlib.sha256(doc_id.encode()).digest()[:8]) % 100


def prepare(pool: Path, work: Path) -> None:
    """Write ``train.parquet`` (id, text, source) and, to measure with, ``measure.json``: name -> documents."""
    if (work / "measure.json").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    truth = ("contamination", "dups", "natural_neardups")
    left_out = pl.concat([pl.read_parquet(pool / "truth" / f"{name}.parquet", columns=["id"]) for name in truth])
    raw = pl.read_parquet(pool / "raw" / "*.parquet", columns=["id", "text", "source"])
    raw = raw.filter(pl.col("source").is_in(list(SOURCES)), pl.col("text").str.len_bytes() > 0)
    raw = raw.join(left_out.unique(), on="id", how="anti", maintain_order="left")
    rng = np.random.default_rng(0)
    n_noise, n_bytes = NOISE
    noise = [(f"noise-{i}", base64.b64encode(rng.bytes(n_bytes)).decode(), "noise") for i in range(n_noise)]
    raw = pl.concat([raw.select("id", "text", "source"), pl.DataFrame(noise, schema=raw.schema, orient="row")])
    measure: dict[str, dict[str, list[str]]] = {"sources": {}, "probes": {}, "targets": {}}

    def some(pieces: list[str], n: int) -> list[str]:
        return [pieces[i] for i in np.sort(rng.permutation(len(pieces))[:n])]

    rows: list[tuple[str, str, str]] = []
    for source in SOURCES:
        parts: dict[str, list[str]] = {"train": [], "sources": [], "probes": []}
        for doc_id, text in raw.filter(source=source).select("id", "text").iter_rows():
            p = percentile(doc_id)
            parts["sources" if p < HELD_OUT else "probes" if p < HELD_OUT + PROBE else "train"].append(text)
        rows += [(f"{source}-{i:06}", text, source) for i, text in enumerate(documents(parts["train"]))]
        measure["sources"][source] = some(documents(parts["sources"]), N_HELD_OUT)
        measure["probes"][source] = some(documents(parts["probes"]), N_PROBE)
    for target in TARGETS:
        texts = pl.read_ndjson(pool / "targets" / target / "heldout.jsonl")["text"].to_list()
        measure["targets"][target] = some(documents(texts), N_HELD_OUT)
    pl.DataFrame(rows, schema=["id", "text", "source"], orient="row").write_parquet(work / "train.parquet")
    (work / "measure.json").write_text(json.dumps(measure))


def shares(work: Path) -> dict[str, float]:
    """Natural shares: of documents, which are all of one length."""
    counts = pl.read_parquet(work / "train.parquet", columns=["source"])["source"].value_counts()
    sizes = dict(counts.iter_rows())
    return {source: sizes[source] / sum(sizes.values()) for source in SOURCES}


# ---- the arms


class Arm:
    """What to draw from at first, and what of it changes with the model's losses."""

    adapts = False

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights

    def update(self, bits: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
        """Weights from what was measured on probes and how many documents of each source were drawn meanwhile."""
        return self.weights


class Gaussian(Arm):
    adapts = True

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights)
        self.rates = np.full(len(weights), START)

    def update(self, bits: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
        self.rates = moving_average(self.rates, np.arange(len(right)), right, alpha=ALPHA)
        return dict(zip(self.weights, gaussian_shares(self.rates, sigma=SIGMA).tolist(), strict=True))


class Ucb(Arm):
    adapts = True

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights)
        self.before: np.ndarray | None = None
        self.counts = np.zeros(len(weights), np.int64)
        self.windows = [deque[float](maxlen=WINDOW) for _ in weights]

    def update(self, bits: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
        falls = np.zeros(len(bits)) if self.before is None else self.before - bits
        self.before = bits
        if not falls.any():
            return self.weights
        self.counts += drawn
        for window, fall, n in zip(self.windows, falls, drawn, strict=True):
            window.extend([abs(float(fall))] * int(n))
        means = np.array([np.mean(window) if window else 0.0 for window in self.windows])
        found = ucb_weights(means, self.counts, temperature=TEMPERATURE, min_prob=MIN_PROB)
        return dict(zip(self.weights, found.tolist(), strict=True))


def root(share: dict[str, float]) -> dict[str, float]:
    total = sum(math.sqrt(s) for s in share.values())
    return {source: math.sqrt(s) / total for source, s in share.items()}


def drawn_by(name: str, seed: int, steps: int, work: Path) -> dict[str, float]:
    """Shares of the sources in a finished run."""
    drawn = json.loads(path_of(work, name, seed, steps).read_text())["curve"][-1]["drawn"]
    return {source: n / sum(drawn) for source, n in zip(SOURCES, drawn, strict=True)}


def arm_of(name: str, seed: int, steps: int, work: Path) -> Arm:
    even = dict.fromkeys(SOURCES, 1 / len(SOURCES))
    if name in ("gaussian", "ucb"):
        return {"gaussian": Gaussian, "ucb": Ucb}[name](even)
    if name == "average":
        return Arm(drawn_by("gaussian", seed, steps, work))
    return Arm({"natural": shares(work), "uniform": even, "fixed": root(shares(work))}[name])


def offline(work: Path, order: str, seed: int) -> Path:
    """The folder of a curriculum of bins, easy or hard first."""
    from curate.curriculum import offline as make

    out = work / f"{order}-{seed}"
    if not (out / "curriculum.parquet").exists():
        make(work / "train.parquet", out=out, stages=STAGES, pacing="root", order=order, seed=seed)
    return out


# ---- the model and its training


class Model(nn.Module):
    """A byte-level causal transformer of one layer over embeddings of hashed n-grams of the bytes before.

    In a minute of a processor it gets to 2.6 bits per byte where a plain transformer of two layers gets to 3.8, a GRU
    to 3.2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.byte = nn.Embedding(257, WIDTH)
        self.grams = nn.ModuleList(nn.Embedding(TABLE, WIDTH, sparse=True) for _ in ORDERS)
        for table in (self.byte, *self.grams):
            nn.init.normal_(table.weight, std=0.02)
        self.place = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.heads = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.joined = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n_rows, length = x.shape
        y = self.byte(x) + self.place[:length]
        key = torch.zeros_like(x)
        for back in range(max(ORDERS)):
            key = key + (functional.pad(x, (back, 0), value=256)[:, :length] + 1) * FACTORS[back]
            if back + 1 in ORDERS:
                y = y + self.grams[ORDERS.index(back + 1)]((key ^ (key >> 15)) % TABLE)
        q, k, v = self.heads(self.norms[0](y)).view(n_rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y + self.joined(seen.transpose(1, 2).reshape(n_rows, length, WIDTH))
        y = y + self.down(functional.relu(self.up(self.norms[1](y))))
        return self.out(self.norms[2](y))


def tensor(texts: Sequence[str]) -> torch.Tensor:
    """int64[n, 1 + CONTEXT]: a start sign, 256, before the bytes, -1 after them."""
    x = np.full((len(texts), CONTEXT + 1), -1, np.int64)
    x[:, 0] = 256
    for row, text in zip(x, texts, strict=True):
        data = np.frombuffer(text.encode(), np.uint8)
        row[1 : len(data) + 1] = data
    return torch.from_numpy(x)


def loss_of(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of nats, bytes predicted right, bytes."""
    logits, wanted = model(x[:, :-1].clamp(min=0)).flatten(0, 1), x[:, 1:].flatten()
    loss = functional.cross_entropy(logits, wanted, ignore_index=-1, reduction="sum")
    return loss, (logits.argmax(1) == wanted).sum(), (wanted >= 0).sum()


def measured(model: nn.Module, sets: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Bits per byte, and the share of bytes predicted right, of each set."""
    with torch.no_grad():
        found = np.array([[float(v) for v in loss_of(model, x)] for x in sets.values()])
    return found[:, 0] / found[:, 2] / math.log(2), found[:, 1] / found[:, 2]


def stream_of(name: str, seed: int, work: Path, steps: int) -> tuple[Any, Arm | None]:
    """The documents, and the arm whose weights change."""
    settings: dict[str, Any] = {"columns": ("source",), "seed": seed, "batch_size": BATCH, "epochs": None}
    settings["cache"] = work / "cache"
    if name in ("easy-first", "hard-first"):
        folder = offline(work, name, seed)
        return CurriculumDataset(work / "train.parquet", folder, stage_steps=steps // STAGES, **settings), None
    arm = arm_of(name, seed, steps, work)
    return CurriculumDataset(work / "train.parquet", arm.weights, column="source", **settings), arm


def batches(stream: Any) -> Iterator[list[dict[str, Any]]]:
    documents = iter(stream)
    while True:
        yield [next(documents) for _ in range(BATCH)]


def train(name: str, seed: int, steps: int, work: Path) -> dict[str, Any]:
    """One run: losses, weights and draws as it went."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    began, processor = time.monotonic(), time.process_time()
    measure = json.loads((work / "measure.json").read_text())
    sets = {kind: {k: tensor(texts) for k, texts in of.items()} for kind, of in measure.items()}
    stream, arm = stream_of(name, seed, work, steps)
    torch.manual_seed(seed)
    model = Model()
    tables = [p for n, p in model.named_parameters() if n.startswith("grams.")]
    dense = [p for n, p in model.named_parameters() if not n.startswith("grams.")]
    optimizers = [
        torch.optim.AdamW(dense, RATE, betas=(0.9, 0.99), weight_decay=0.01),
        torch.optim.SparseAdam(tables, TABLE_RATE, betas=(0.9, 0.99)),
    ]
    names = list(SOURCES)
    drawn = Counter[str]()
    since = Counter[str]()
    run: dict[str, Any] = {"arm": name, "seed": seed, "steps": steps, "curve": [], "weights": []}
    for step, batch in enumerate(batches(stream)):
        factor = min(1, (step + 1) / WARM_UP) * max(0.05, 1 - step / steps)
        for optimizer, rate in zip(optimizers, (RATE, TABLE_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.zero_grad()
        loss, _, n_bytes = loss_of(model, tensor([d["text"] for d in batch]))
        (loss / n_bytes).backward()
        torch.nn.utils.clip_grad_norm_(dense, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        since.update(d["source"] for d in batch)
        done = step + 1
        if done % UPDATE_EVERY == 0:
            drawn.update(since)
            if arm is not None and arm.adapts:
                bits, right = measured(model, sets["probes"])
                new = arm.update(bits, right, np.array([since[s] for s in names]))
                stream.update(new, from_step=done)
                run["weights"].append([done, *(round(new[s], 4) for s in names)])
            since.clear()
        if done % MEASURE_EVERY == 0 or done == steps:
            point: dict[str, Any] = {"step": done, "drawn": [drawn[s] for s in names]}
            for kind in ("sources", "targets"):
                point[kind] = [round(float(b), 4) for b in measured(model, sets[kind])[0]]
            run["curve"].append(point)
        if done == steps:
            break
    run["seconds"] = round(time.monotonic() - began, 1)
    run["processor_seconds"] = round(time.process_time() - processor, 1)
    run["parameters"] = {"dense": sum(p.numel() for p in dense), "tables": sum(p.numel() for p in tables)}
    return run


# ---- all of them


def path_of(work: Path, name: str, seed: int, steps: int) -> Path:
    return work / "runs" / f"{name}-{seed}-{steps}.json"


def grid(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every arm under every seed, those that are there already not again; each in a process of its own."""
    (args.work / "runs").mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def one(name: str, seed: int) -> dict[str, Any] | None:
        path = path_of(args.work, name, seed, args.steps)
        if not path.exists():
            if time.monotonic() > end:
                return None
            command = [sys.executable, __file__, "--one", name, str(seed), "--steps", str(args.steps)]
            done = subprocess.run([*command, "--work", str(args.work)], env=environment, capture_output=True, text=True)
            if done.returncode:
                print(name, seed, done.stderr, file=sys.stderr, flush=True)
                return None
        run: dict[str, Any] = json.loads(path.read_text())
        last = run["curve"][-1]
        print(name, seed, *(f"{kind} {np.mean(last[kind]):.4f}" for kind in ("sources", "targets")), flush=True)
        return run

    with ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(lambda job: one(*job), [(name, seed) for seed in args.seeds for name in args.arms]))
    return [run for run in found if run]


T_95 = (math.inf, math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by number of seeds
BASES = ("uniform", "natural")
JUDGED = {  # the second mean is of the first without its last source, noise
    "sources": "Held-out documents of the sources",
    "learnable": "The same without noise",
    "targets": "Held-out halves of eight targets",
}


def spread(values: np.ndarray) -> list[float]:
    """Mean and standard deviation over seeds."""
    return [round(float(values.mean()), 4), round(float(values.std(ddof=1)), 4) if len(values) > 1 else 0.0]


def difference(mine: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """Mean and standard deviation of the differences seed by seed, half the 95% interval of the mean, and a verdict."""
    mean, sd = spread(mine - base)
    if len(mine) == 1:
        return {"mean": mean, "sd": sd, "half_95": None, "verdict": "one seed"}
    half = T_95[len(mine)] * sd / math.sqrt(len(mine))
    verdict = "better" if mean + half < 0 else "worse" if mean - half > 0 else "no difference"
    return {"mean": mean, "sd": sd, "half_95": round(half, 4), "verdict": verdict}


def curve_of(run: dict[str, Any], kind: str) -> list[float]:
    if kind == "learnable":
        return [float(np.mean(point["sources"][:-1])) for point in run["curve"]]
    return [float(np.mean(point[kind])) for point in run["curve"]]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each arm: bits per byte at each step over seeds, and the differences to BASES of the same seeds."""
    by = {(run["arm"], run["seed"]): run for run in runs}
    steps = [point["step"] for point in runs[0]["curve"]]
    result: dict[str, Any] = {}
    for arm in (arm for arm in ARMS if any(run["arm"] == arm for run in runs)):
        seeds = sorted(seed for a, seed in by if a == arm and all((base, seed) in by for base in BASES))
        if not seeds:
            continue
        last = [by[arm, seed]["curve"][-1] for seed in seeds]
        drawn = np.array([point["drawn"] for point in last], float)
        entry: dict[str, Any] = {"seeds": seeds, "drawn": named(SOURCES, drawn / drawn.sum(1, keepdims=True))}
        if by[arm, seeds[0]]["weights"]:
            entry["final_weights"] = named(SOURCES, np.array([by[arm, seed]["weights"][-1][1:] for seed in seeds]))
        for kind in JUDGED:
            mine, *bases = (np.array([curve_of(by[a, seed], kind) for seed in seeds]) for a in (arm, *BASES))
            entry[kind] = [
                {"step": step, "bits_per_byte": spread(mine[:, j])}
                | {f"to_{b}": difference(mine[:, j], v[:, j]) for b, v in zip(BASES, bases, strict=True) if b != arm}
                for j, step in enumerate(steps)
            ]
        entry["last"] = {
            kind: named(names, np.array([point[kind] for point in last]))
            for kind, names in (("sources", SOURCES), ("targets", TARGETS))
        }
        result[arm] = entry
    return result


def named(names: Iterable[str], values: np.ndarray) -> dict[str, float]:
    """Means over seeds, by name."""
    return dict(zip(names, values.mean(0).round(3).tolist(), strict=True))


# ---- the figure

COLOURS = {
    "uniform": "#222222", "natural": "#8b8b8b", "fixed": "#b8860b", "gaussian": "#0b62c4", "ucb": "#1b9e77",
    "easy-first": "#d95f02", "hard-first": "#c2418c", "average": "#7cc4f8",
}  # fmt: skip


def panel(found: dict[str, Any], kind: str, value: str, title: str | None, axis: str, height: int) -> dict[str, Any]:
    """Of each arm a line, the mean over seeds, and a band of one standard deviation on each side."""
    rows = [
        {"arm": arm, "step": point["step"], "value": mean, "low": mean - sd, "high": mean + sd}
        for arm in COLOURS if arm in found for point in found[arm][kind] if value in point
        for mean, sd in [point[value] if value == "bits_per_byte" else (point[value]["mean"], point[value]["sd"])]
    ]  # fmt: skip
    x = {"field": "step", "type": "quantitative", "title": "steps", "scale": {"nice": False}}
    y = {"field": "value", "type": "quantitative", "title": axis, "scale": {"zero": False}}
    if value != "bits_per_byte":  # a few thousandths and some tenths are both to be seen
        y |= {
            "scale": {"type": "symlog", "constant": 0.01},
            "axis": {"values": [-0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1, 0.3], "format": "~g", "tickCount": 20},
        }
    shown = [arm for arm in COLOURS if arm in found]
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    return {
        "title": title, "width": 380, "height": height, "data": {"values": rows},
        "encoding": {"x": x, "color": colour(COLOURS, shown)},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.15}, "encoding": band},
            {"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": {"y": y}},
        ],
    }  # fmt: skip


def figure(found: dict[str, Any]) -> str:
    """As SVG: losses, and below them the differences to `uniform`."""
    columns = [
        {"vconcat": [
            panel(found, kind, "bits_per_byte", title, "bits per byte", 200),
            panel(found, kind, "to_uniform", None, "difference to uniform", 170),
        ]}
        for kind, title in JUDGED.items() if kind != "learnable"
    ]  # fmt: skip
    return svg(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "pool")
    parser.add_argument("--work", type=Path, default=Path("training-work"), help="finished runs are kept here")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        path = path_of(args.work, args.one[0], int(args.one[1]), args.steps)
        run = train(args.one[0], int(args.one[1]), args.steps, args.work)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(run))
        part.replace(path)
        return
    prepare(args.pool, args.work)
    runs = grid(args)
    result = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "sources": SOURCES,
        "natural_shares": {k: round(v, 3) for k, v in shares(args.work).items()},
        "targets": TARGETS,
        "arms": ARMS,
        "settings": {"steps": args.steps, "batch": BATCH, "context_bytes": CONTEXT, "sigma": SIGMA, "alpha": ALPHA,
                     "window": WINDOW, "temperature": TEMPERATURE, "min_prob": MIN_PROB, "stages": STAGES,
                     "update_every": UPDATE_EVERY},
        "summary": summary(runs),
        "runs": runs,
    }  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
        args.json.with_suffix(".svg").write_text(figure(result["summary"]) + "\n")


if __name__ == "__main__":
    main()
