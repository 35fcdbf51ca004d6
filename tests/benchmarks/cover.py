"""What greedy coverage gains, by two judges that differ in kind, and what it takes: copies, and sources.

The first judge is that of quality.py: a PPMd model of order 8 that reads the selected text, and goes on learning
from the held-out text. The second knows nothing of bytes and does not go on learning: a trigram model of words,
interpolated by Witten and Bell's rule, over all words of raw and of the held-out text, to which every unseen one
is alike; it judges the first seed alone. Arms, budget, seeds and held-out texts are as in quality.py.

    python tests/benchmarks/cover.py --cache /tmp/quality --heldout 100MB --json tests/benchmarks/results/cover.json
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import quality
from quality import Documents, Floats, Selection, Target

ARMS = ("bytegrams-topk:method=bytegrams,draw=topk", "cover:method=bytegrams,draw=cover")
WORD = re.compile(r"\w+|[^\w\s]")

# --- the second judge --------------------------------------------------------------------------------

_ids: dict[str, int] = {}  # in a worker process: the numbers of the words met so far


def numbered(text: str) -> list[int]:
    """The words of a text as numbers."""
    return [_ids.setdefault(word, len(_ids)) for word in WORD.findall(text)]


def words_of(texts: Sequence[str]) -> set[str]:
    """The different words of some texts."""
    return {word for text in texts for word in WORD.findall(text)}


def word_lengths(selected: Sequence[str], heldout: Sequence[str], n_words: int) -> list[float]:
    """Bytes that the words of each held-out text cost in a trigram model of the selected ones.

    p(w | h) = (c(hw) + t(h) p(w | h')) / (c(h) + t(h)), with t(h) the number of different words after h and h'
    without its first word; below the unigrams every one of ``n_words`` is as likely as any other.
    """
    after: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(3)]
    for text in selected:
        words = [-1, -1, *numbered(text)]
        for i in range(2, len(words)):
            for n in range(3):
                after[n][tuple(words[i - n : i])][words[i]] += 1
    totals = [{h: (sum(seen.values()), len(seen)) for h, seen in level.items()} for level in after]

    def bits(words: list[int]) -> float:
        total = 0.0
        for i in range(2, len(words)):
            p = 1.0 / n_words
            for n in range(3):
                history = tuple(words[i - n : i])
                if history in totals[n]:
                    count, kinds = totals[n][history]
                    p = (after[n][history][words[i]] + kinds * p) / (count + kinds)
            total -= math.log2(p)
        return total

    return [bits([-1, -1, *numbered(text)]) / 8 for text in heldout]


def measure(rows: list[int], heldout: list[str], n_words: int) -> list[float]:
    """`word_lengths` of selected rows; in a worker process."""
    assert quality._raw is not None
    return word_lengths([quality._raw.texts[row] for row in rows], heldout, n_words)


def measure_all(selections: list[Selection], targets: list[Target], raw: Documents, pool: Path) -> list[Floats]:
    """For every selection the bytes that the words of each held-out document cost."""
    of_raw = words_of(raw.texts)
    texts = {target.name: target.heldout.texts for target in targets}
    n_words = {target.name: len(of_raw | words_of(target.heldout.texts)) for target in targets}
    with quality.workers(pool) as processes:
        jobs = [processes.submit(measure, item.rows, texts[item.target], n_words[item.target]) for item in selections]
        lengths = []
        for done, job in enumerate(jobs, 1):
            lengths.append(np.array(job.result()))
            quality.say_every(10, done, len(jobs), "words: selection")
    return lengths


# --- what is in a selection --------------------------------------------------------------------------


def groups(pool: Path) -> dict[str, str]:
    """Of each document that has copies or near copies in raw, which it is a copy of, by the pool's truth."""
    above: dict[str, str] = {}

    def top(ident: str) -> str:
        while ident in above:
            ident = above[ident]
        return ident

    for name in ("dups", "natural_neardups"):
        frame = pl.read_parquet(pool / "truth" / f"{name}.parquet", columns=["id", "of_id"])
        for one, other in frame.iter_rows():
            if top(one) != top(other):
                above[top(one)] = top(other)
    return {ident: top(ident) for ident in {*above, *above.values()}}


def makeup(selections: list[Selection], raw: Documents, pool: Path) -> dict[str, dict[str, float]]:
    """By arm, means per selection: documents that are copies of another one of it, and sources."""
    copy_of = groups(pool)
    frame = pl.read_parquet(pool / "raw" / "*.parquet", columns=["id", "source"])
    source = dict(zip(frame["id"].to_list(), frame["source"].to_list(), strict=True))
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for item in selections:
        ids = [raw.ids[row] for row in item.rows]
        tops = Counter(copy_of[ident] for ident in ids if ident in copy_of)
        sizes: Counter[str] = Counter()
        for row in item.rows:
            sizes[source[raw.ids[row]]] += int(raw.sizes[row])
        shares = [size / sum(sizes.values()) for size in sizes.values()]
        found[item.arm].append(
            {
                "copies": sum(n - 1 for n in tops.values()),
                "sources_of_1_percent": sum(share >= 0.01 for share in shares),
                "effective_sources": math.exp(-sum(share * math.log(share) for share in shares if share)),
                "largest_source": max(shares),
            }
        )
    return {arm: {key: statistics.fmean(one[key] for one in of) for key in of[0]} for arm, of in found.items()}


# --- command line ------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    """Select, judge twice, and say what was taken."""
    arguments = quality.parse_arguments(argv)
    if not arguments.arm_setting:
        arguments.arm_setting = [quality.parse_arm(arm) for arm in ARMS]
        arguments.arms = "random,reference"
    arms, seeds = quality.choose_arms(arguments), [int(seed) for seed in arguments.seeds.split(",")]
    raw, targets = quality.load_raw(arguments.pool), quality.choose_targets(arguments)
    names, target_names = [arm.name for arm in arms], [target.name for target in targets]
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cache = arguments.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        selectors = quality.Selectors(raw, arguments.budget, cache)
        if "reference" in names:
            quality.prepare_reference(selectors, targets, seconds)
        selections = []
        for arm in arms:
            with quality.timed(f"select {arm.name}", seconds):
                selections += [selectors.select(arm, target, seed) for target in targets for seed in seeds]
    with quality.timed("PPMd", seconds):
        ppmd = quality.measure_all(selections, targets, arguments.pool)
    first = [item for item in selections if item.seed == seeds[0]]
    with quality.timed("words", seconds):
        by_words: Any = measure_all(first, targets, raw, arguments.pool)
    judged = {}
    for judge, chosen, lengths in (("summary", selections, ppmd), ("summary_by_words", first, by_words)):
        figures = quality.make_figures(chosen, lengths, targets)
        judged[judge] = quality.summarise(figures, target_names, names)
    report = {
        **quality.environment(),
        "setup": quality.describe(arguments, raw, targets, arms, seeds)
        | {"second_model": "trigrams of words, Witten-Bell, static"},
        **judged,
        "selected": quality.selected_sizes(selections, raw),
        "makeup": makeup(selections, raw, arguments.pool),
        "seconds": seconds,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    for judge in ("summary", "summary_by_words"):
        print(judge)
        print(quality.bits_table(report[judge], names), "\n")
    keys = list(next(iter(report["makeup"].values())))
    print(quality.align([["arm", *keys], *([arm, *(f"{of[key]:.2f}" for key in keys)] for arm, of in
                                           report["makeup"].items())]))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
