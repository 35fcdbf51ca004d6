"""How well losses of mixtures are predicted from small proxies: the published tables of RegMix (arXiv:2407.01492).

    python tests/benchmarks/regmix.py ../shared/regmix --json regmix.json

The folder holds the tables of github:sail-sg/regmix. What is chosen is chosen on the 512 training proxies of 1M
parameters: `choice` compares floors and methods by cross-validation on these alone, and is made first. Then the tables
of 1M, 60M and 1B are predicted once: rank correlation of each loss, regret (the loss at 1B of the mixture that is
predicted best less that of the truly best), and the best mixture, judged by a regression on the 60M table, which no
choice has seen. Trees need lightgbm, and are left out without it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from curate.curriculum.regression import FLOOR, LossModel, Proxies, best_mixture, read_proxies, spearman

FLOORS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
FOLDS = 5
MAIN = "metric/the_pile_pile_cc_val_loss"
SIZES = ("1m", "60m", "1B")
Predictor = Callable[[np.ndarray], np.ndarray]


def gaussian(p: np.ndarray, y: np.ndarray, floor: float = FLOOR) -> Predictor:
    model = LossModel.fit(p, y, [str(i) for i in range(p.shape[1])], floor=floor)
    return lambda q: model.predict(q)[0]


def linear(p: np.ndarray, y: np.ndarray) -> Predictor:
    mean = y.mean()
    slopes = np.linalg.lstsq(p, y - mean, rcond=None)[0]
    return lambda q: q @ slopes + mean


def trees(p: np.ndarray, y: np.ndarray) -> Predictor:
    """What RegMix fits: boosted trees, here 1,000 at a rate of 0.01, without stopping early."""
    import lightgbm

    settings = {"objective": "regression", "seed": 42, "learning_rate": 0.01, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(settings, lightgbm.Dataset(p, y), num_boost_round=1_000)
    return lambda q: np.asarray(model.predict(q))


def methods() -> dict[str, Callable[[np.ndarray, np.ndarray], Predictor]]:
    found: dict[str, Callable[[np.ndarray, np.ndarray], Predictor]] = {"ours": gaussian, "linear": linear}
    try:
        import lightgbm  # noqa: F401
    except ImportError:
        return found
    return found | {"lightgbm": trees}


def cross_validated(
    table: Proxies, column: str, fit: Callable[[np.ndarray, np.ndarray], Predictor]
) -> dict[str, float]:
    y, p = table.losses[column], table.mixtures
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    predicted = np.empty(len(y))
    for k in range(FOLDS):
        predicted[fold == k] = fit(p[fold != k], y[fold != k])(p[fold == k])
    return {"spearman": spearman(predicted, y), "rmse": float(np.sqrt(np.mean((predicted - y) ** 2)))}


def choice(table: Proxies) -> dict[str, Any]:
    """Mean over all losses, on the training proxies only."""
    ways: dict[str, Callable[[np.ndarray, np.ndarray], Predictor]] = {
        f"floor {floor:g}": partial(gaussian, floor=floor) for floor in FLOORS
    }
    ways |= {name: fit for name, fit in methods().items() if name != "ours"}
    found = {}
    for name, fit in ways.items():
        each = {column: cross_validated(table, column, fit) for column in table.losses}
        spread = {column: float(np.std(y)) for column, y in table.losses.items()}
        found[name] = {
            "spearman": statistics.mean(e["spearman"] for e in each.values()),
            "rmse_in_stds": statistics.mean(e["rmse"] / spread[c] for c, e in each.items()),
            "spearman_pile_cc": each[MAIN]["spearman"],
        }
        print(name, found[name], file=sys.stderr)
    return found


def published(table: Proxies, tests: dict[str, Proxies]) -> dict[str, Any]:
    found: dict[str, Any] = {"spearman": {}, "regret_1B": {}}
    for name, fit in methods().items():
        each: dict[str, Any] = {size: {} for size in SIZES}
        regret = {}
        for column, y in table.losses.items():
            predict = fit(table.mixtures, y)
            for size in SIZES:
                each[size][column] = spearman(predict(tests[size].mixtures), tests[size].losses[column])
            true = tests["1B"].losses[column]
            regret[column] = float(true[np.argmin(predict(tests["1B"].mixtures))] - true.min())
        found["spearman"][name] = {
            size: {"pile_cc": values[MAIN], "mean": statistics.mean(values.values()), "losses": values}
            for size, values in each.items()
        }
        found["regret_1B"][name] = {"pile_cc": regret[MAIN], "mean": statistics.mean(regret.values()), "losses": regret}
    found["spread_1B_pile_cc"] = float(np.ptp(tests["1B"].losses[MAIN]))
    model = LossModel.fit(table.mixtures, table.losses[MAIN], table.sources)
    mean, std = model.predict(tests["1m"].mixtures)
    z = (tests["1m"].losses[MAIN] - mean) / std
    found["within_2_standard_deviations"] = float((np.abs(z) < 2).mean())
    return found


def optimum(table: Proxies, tests: dict[str, Proxies]) -> dict[str, Any]:
    """The best mixture for each loss; ``judged``: its loss at 60M as a regression on that table predicts it."""
    natural = table.mixtures.mean(axis=0)
    ways = {
        "ours": {},
        "no risk": {"risk": 0.0},
        "mean of the best": {"rounds": 0},
        "no risk, mean": {"risk": 0.0, "rounds": 0},
    }
    found: dict[str, Any] = {}
    for column in list(table.losses):
        judge = LossModel.fit(tests["60m"].mixtures, tests["60m"].losses[column], table.sources)
        model = LossModel.fit(table.mixtures, table.losses[column], table.sources)
        found[column] = {"best_of_test_60m": float(judge.predict(tests["60m"].mixtures)[0].min())}
        for name, settings in ways.items():
            best = best_mixture([(model, 1.0)], table.mixtures, natural, **settings)
            (judged,), (std,) = judge.predict(best.mixture[None])
            found[column][name] = {"judged": float(judged), "judged_std": float(std), "predicted_1m": best.loss}
            if name == "ours" and column == MAIN:
                found[column]["mixture"] = dict(zip(table.sources, best.mixture.round(4).tolist(), strict=True))
    found["mean_judged"] = {name: statistics.mean(v[name]["judged"] for v in found.values()) for name in ways}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    at = options.tables
    table = read_proxies(at / "train_mixture_1m.csv", at / "train_pile_loss_1m.csv")
    results: dict[str, Any] = {"choice": choice(table)}
    tests = {s: read_proxies(at / f"test_mixture_{s}.csv", at / f"test_pile_loss_{s}.csv") for s in SIZES}
    results |= published(table, tests) | {"optimum": optimum(table, tests)}
    text = json.dumps(results, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
