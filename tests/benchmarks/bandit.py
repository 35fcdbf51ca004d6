"""What weights that follow training do to a simulated learner whose marginal gains are known.

Twelve groups: three are mastered, three on the frontier, four locked until another is learnt, two cannot be learnt. A
prompt of a group raises its skill by 4 p (1 - p) times a rate, p being its pass rate. Half way the mastered ones are
half forgotten: the frontier moves to groups that were not drawn lately. Usage: python tests/benchmarks/bandit.py
[--seeds N] [--json FILE], which also draws FILE with the ending .svg.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from drawing import colour, svg

from curate.curriculum.gaussian import ALPHA, START, gaussian_shares
from curate.curriculum.ucb import WINDOW, ucb_weights

STEPS, SHIFT, PROMPTS, ROLLOUTS = 400, 200, 32, 8
EASY, FRONTIER, HARD, HOPELESS = range(3), range(3, 6), range(6, 10), range(10, 12)
UNLOCKED_BY = {6: 3, 7: 6, 8: 4, 9: 5}  # the second only after the first
LEARNT, LOCKED = 0.8, -6.0
LEARNABLE = slice(0, 10)
ARMS = ("uniform", "ucb", "ucb, floor 0.02", "ucb, floor 0.05", "gaussian", "oracle")
SCENARIOS = {  # (pass rate of what cannot be learnt, rate of learning)
    "never solved": (0.0, 0.05),
    "never solved, slow learner": (0.0, 0.0125),  # there is still much to learn when the frontier moves
    "noise": (0.5, 0.05),  # rewards by the toss of a coin: their advantages stay as large as any
}


class Learner:
    def __init__(self, hopeless: float, rate: float) -> None:
        self.skill = np.zeros(12)
        self.skill[EASY], self.skill[HARD] = 3.0, -0.5
        self.locked = set(HARD)
        self.hopeless, self.rate = hopeless, rate

    def pass_rates(self) -> np.ndarray:
        skill = self.skill.copy()
        skill[list(self.locked)] = LOCKED
        p = 1 / (1 + np.exp(-skill))
        p[HOPELESS] = self.hopeless
        return p

    def learn(self, counts: np.ndarray) -> None:
        for _ in range(int(counts.max())):  # a prompt after the other, those of several groups side by side
            p = self.pass_rates()
            drawn = counts > 0
            drawn[HOPELESS] = False
            drawn[list(self.locked)] = False
            self.skill += np.where(drawn, self.rate * 4 * p * (1 - p), 0)
            counts = counts - 1
        p = self.pass_rates()
        self.locked = {g for g in self.locked if p[UNLOCKED_BY[g]] < LEARNT}

    def best(self) -> np.ndarray:
        """Prompts of each group, one by one to where it raises the pass rate most."""
        skill, counts, locked = self.skill.copy(), np.zeros(12, np.int64), list(self.locked)
        for _ in range(PROMPTS):
            p = 1 / (1 + np.exp(-skill))
            gains = (p * (1 - p)) ** 2
            gains[[*HOPELESS, *locked]] = 0
            g = int(np.argmax(gains))
            skill[g] += self.rate * 4 * p[g] * (1 - p[g])
            counts[g] += 1
        return counts


class Weights:
    """Of an arm; ``saw`` tells it the rewards of the prompts of a step."""

    def __init__(self, arm: str) -> None:
        self.arm = arm
        self.floor = float(arm.split()[-1]) if "floor" in arm else 0.0
        self.windows = [deque(maxlen=WINDOW) for _ in range(12)]
        self.n = np.zeros(12, np.int64)
        self.average = np.full(12, START)

    def now(self) -> np.ndarray:
        if self.arm == "uniform":
            return np.full(12, 1 / 12)
        if self.arm == "gaussian":
            return gaussian_shares(self.average)
        mean = np.array([np.mean(own) if own else 0.0 for own in self.windows])
        return ucb_weights(mean, self.n, min_prob=self.floor)

    def saw(self, group: int, rewards: np.ndarray) -> None:
        self.average[group] = ALPHA * self.average[group] + (1 - ALPHA) * rewards.mean()
        spread = rewards.std()
        self.windows[group].extend(np.abs(rewards - rewards.mean()) / spread if spread else np.zeros(ROLLOUTS))
        self.n[group] += ROLLOUTS


def run(arm: str, scenario: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, ARMS.index(arm), list(SCENARIOS).index(scenario)])
    learner, weights = Learner(*SCENARIOS[scenario]), Weights(arm)
    found = {name: np.zeros(STEPS) for name in ("accuracy", "frontier", "shifted", "hopeless", "shifted_accuracy")}
    for step in range(STEPS):
        if step == SHIFT:
            learner.skill[EASY] = 0.0
        p = learner.pass_rates()
        counts = learner.best() if arm == "oracle" else rng.multinomial(PROMPTS, weights.now())
        on = (p > 0.2) & (p < LEARNT)
        on[HOPELESS] = False
        found["accuracy"][step], found["shifted_accuracy"][step] = p[LEARNABLE].mean(), p[EASY].mean()
        for name, of in (("frontier", on), ("shifted", EASY), ("hopeless", HOPELESS)):
            found[name][step] = counts[of].sum() / PROMPTS
        for group in np.repeat(np.arange(12), counts):
            weights.saw(group, (rng.random(ROLLOUTS) < p[group]).astype(float))
        learner.learn(counts)
    return found


def summary(runs: list[dict[str, np.ndarray]], oracle: list[dict[str, np.ndarray]]) -> dict:
    every = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    regret = np.cumsum(np.stack([run["accuracy"] for run in oracle]) - every["accuracy"], axis=1)
    after = every["shifted_accuracy"][:, SHIFT:] >= LEARNT
    recovery = np.where(after.any(axis=1), after.argmax(axis=1), STEPS - SHIFT)
    return {
        "accuracy_before_shift": mean_std(every["accuracy"][:, SHIFT - 1]),
        "accuracy_at_end": mean_std(every["accuracy"][:, -1]),
        "regret_before_shift": mean_std(regret[:, SHIFT - 1]),
        "regret_at_end": mean_std(regret[:, -1]),
        "steps_to_recover": mean_std(recovery),
        "n_recovered": int(after.any(axis=1).sum()),
        "share_of_shifted_in_50_steps_after": mean_std(every["shifted"][:, SHIFT : SHIFT + 50].mean(axis=1)),
        "share_of_hopeless": mean_std(every["hopeless"].mean(axis=1)),
        "curves": {
            "steps": list(range(0, STEPS, 10)),
            **{name: tens(every[name]) for name in ("accuracy", "frontier", "shifted", "hopeless")},
            "regret": [round(float(v), 3) for v in regret.mean(axis=0)[9::10]],
        },
    }


def mean_std(values: np.ndarray) -> list[float]:
    return [round(float(np.mean(values)), 4), round(float(np.std(values, ddof=1)), 4)]


def tens(values: np.ndarray) -> list[float]:
    """Means over seeds and ten steps."""
    return [round(float(v), 4) for v in values.mean(axis=0).reshape(-1, 10).mean(axis=1)]


COLOURS = {
    "uniform": "#222222", "ucb": "#1b9e77", "ucb, floor 0.02": "#66c2a5", "ucb, floor 0.05": "#b8860b",
    "gaussian": "#0b62c4", "oracle": "#c2418c",
}  # fmt: skip


def panel(found: dict[str, Any], kind: str, axis: str, title: str | None) -> dict[str, Any]:
    """Of each arm a line, the mean over seeds; a rule where the frontier moves."""
    rows = [
        {"arm": arm, "step": step, "value": value}
        for arm in ARMS
        for step, value in zip(found[arm]["curves"]["steps"], found[arm]["curves"][kind], strict=True)
    ]
    x = {"field": "step", "type": "quantitative", "title": "steps"}
    y = {"field": "value", "type": "quantitative", "title": axis}
    line: dict[str, Any] = {"data": {"values": rows}, "mark": {"type": "line", "strokeWidth": 1.6}}
    line["encoding"] = {"y": y, "color": colour(COLOURS, list(ARMS))}
    rule = {"data": {"values": [{"step": SHIFT}]}, "mark": {"type": "rule", "strokeDash": [3, 3]}}
    return {"title": title, "width": 250, "height": 150, "encoding": {"x": x}, "layer": [line, rule]}


def figure(found: dict[str, Any]) -> str:
    """As SVG: the share of prompts on the frontier, and the regret, in each scenario."""
    columns = [
        {"vconcat": [
            panel(found[name], "frontier", "share on the frontier", name),
            panel(found[name], "regret", "regret", None),
        ]}
        for name in SCENARIOS
    ]  # fmt: skip
    return svg(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json")
    args = parser.parse_args()
    settings = {
        "steps": STEPS,
        "shift": SHIFT,
        "prompts": PROMPTS,
        "rollouts": ROLLOUTS,
        "scenarios": SCENARIOS,
        "seeds": args.seeds,
        "figures": "mean and standard deviation over seeds; regret: pass rate short of the oracle's, summed over steps",
    }
    found: dict = {"settings": settings}
    for name in SCENARIOS:
        runs = {arm: [run(arm, name, seed) for seed in range(args.seeds)] for arm in ARMS}
        found[name] = {arm: summary(runs[arm], runs["oracle"]) for arm in ARMS}
        print(name)
        for arm, of in found[name].items():
            print(f"  {arm:<16}", *(f"{key} {value}" for key, value in of.items() if key != "curves"), sep="\n    ")
    if args.json:
        path = Path(args.json)
        path.write_text(json.dumps(found, indent=1) + "\n")
        path.with_suffix(".svg").write_text(figure(found) + "\n")


if __name__ == "__main__":
    main()
