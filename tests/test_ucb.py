"""Upper confidence bounds over groups: the formulas, and what the paper's code gets wrong."""

import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from corpora import rows, sharded, write
from hypothesis import given
from hypothesis import strategies as st

from curate.curriculum.online import ucb, update
from curate.curriculum.ucb import advantage_of_pass_rate, ucb_weights, upper_bounds, with_floor
from curate.errors import InputError, UsageError

odds = st.lists(st.floats(1e-9, 1), min_size=1, max_size=12)


def test_bounds_and_weights_are_those_of_the_paper():
    windows = [[0.5, -0.5, 1], [0.1, -0.1], []]
    mean, n = [np.mean(np.abs(own)) if own else 0 for own in windows], [3, 2, 0]
    np.testing.assert_allclose(upper_bounds(mean, n), [1.613175903, 1.192934725, 1.893018473], atol=1e-9)
    np.testing.assert_allclose(ucb_weights(mean, n), [0.057360046, 0.000858075, 0.941781879], atol=1e-9)
    np.testing.assert_allclose(reference.ucb_probabilities(windows, n), ucb_weights(mean, n), atol=1e-12)
    mean, n = [0.6, 0.4, 0.9], [3000, 1000, 1000]
    np.testing.assert_allclose(upper_bounds(mean, n), [0.675341688, 0.530452170, 1.030452170], atol=1e-9)
    np.testing.assert_allclose(ucb_weights(mean, n), [0.027711094, 0.006507385, 0.965781522], atol=1e-9)


def test_the_advantage_of_a_pass_rate_is_the_mean_of_those_of_its_rollouts():
    np.testing.assert_allclose(advantage_of_pass_rate([0, 0.1, 0.25, 0.5, 1]), [0, 0.6, 0.866025404, 1, 0], atol=1e-9)
    for successes in range(1, 8):
        rewards = np.r_[np.ones(successes), np.zeros(8 - successes)]
        advantages = (rewards - rewards.mean()) / rewards.std()
        assert np.abs(advantages).mean() == pytest.approx(advantage_of_pass_rate(successes / 8))


def test_weights_are_uniform_until_something_was_seen():
    np.testing.assert_array_equal(ucb_weights(np.zeros(5), np.zeros(5, int)), 0.2)


def test_the_coldest_softmax_does_not_overflow():
    np.testing.assert_array_equal(ucb_weights([1e6, 0.0], [5, 5], temperature=1e-300), [1, 0])


@given(odds, st.floats(0, 1))
def test_a_floor_holds_exactly_and_the_sum_stays_1(weights, share):
    p = np.array(weights) / np.sum(weights)
    floor = share / len(p)
    found = with_floor(p, floor)
    assert (found >= floor).all()
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, reference.floored(p.tolist(), floor), atol=1e-12)
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= -1e-15).all()


def test_a_floor_for_all_that_there_is_makes_weights_uniform():
    np.testing.assert_allclose(with_floor(np.array([0.9, 0.1 - 1e-9, 1e-9]), 1 / 3), 1 / 3)


def test_a_floor_that_cannot_hold_is_refused():
    with pytest.raises(UsageError, match=r"min_prob 0.3 for each of 4 groups is more than 1; at most 0.25 will do"):
        ucb_weights(np.zeros(4), np.ones(4, int), min_prob=0.3)
    with pytest.raises(UsageError, match="temperature"):
        ucb_weights(np.zeros(4), np.ones(4, int), temperature=0)


def test_exploration_dies_away_with_all_that_was_seen_but_not_below_the_floor():
    mean = np.array([0.5, 0.0])
    early, late = (ucb_weights(mean, np.array([10 * n, n]))[1] for n in (10, 10_000))
    assert late < early / 50
    assert ucb_weights(mean, np.array([100_000, 100_000]), min_prob=0.05)[1] == 0.05


# ---- from feedback in files


def test_groups_of_a_corpus_are_the_values_of_a_column(tmp_path):
    raw = sharded(tmp_path / "raw", [row | {"source": f"s{i % 3}"} for i, row in enumerate(rows(30))], 3)
    made = ucb(out=tmp_path / "out", raw=raw, column="source").curriculum
    assert made.stage() == {"s0": 1 / 3, "s1": 1 / 3, "s2": 1 / 3}
    assert made.about["column"] == "source"
    with pytest.raises(InputError, match=r"no column 'topic' \(there are: .*source"):
        ucb(out=tmp_path / "other", raw=raw, column="topic")
    write(tmp_path / "some.jsonl", [{"text": "x", "topic": "a"}, {"text": "y"}])
    with pytest.raises(InputError, match="line 2: no value of 'topic'; every document must be in a group"):
        ucb(out=tmp_path / "other", raw=tmp_path / "some.jsonl", column="topic")


def test_advantages_of_the_window_make_the_weights(tmp_path):
    ucb(["b", "a", "c"], out=tmp_path / "out", window=3)
    seen = {"a": [9, 0.5, -0.5, 1], "b": [0.1, -0.1], "c": []}
    feedback = [
        {"group": name, "step": step, "advantage": value}
        for name, own in seen.items()
        for step, value in enumerate(own)
    ]
    write(tmp_path / "f.jsonl", feedback)
    made = update(tmp_path / "out", tmp_path / "f.jsonl").curriculum
    expected = reference.ucb_probabilities([own[-3:] for own in seen.values()], [4, 2, 0])
    np.testing.assert_allclose(list(made.stage().values()), expected)
    assert list(made.stage()) == ["a", "b", "c"]


def test_pass_rates_do_as_well_as_advantages(tmp_path):
    rewards = {"a": [1, 0, 0, 0], "b": [1, 1, 0, 0]}
    signed = [
        {"group": g, "step": 0, "advantage": (r - np.mean(own)) / np.std(own)}
        for g, own in rewards.items()
        for r in own
    ]
    rated = [{"group": g, "step": 0, "pass_rate": np.mean(own), "n": 4} for g, own in rewards.items()]
    counted = [{"group": g, "step": 0, "successes": sum(own), "n": 4} for g, own in rewards.items()]
    made = []
    for name, feedback in (("signed", signed), ("rated", rated), ("counted", counted)):
        ucb(["a", "b"], out=tmp_path / name)
        made.append(update(tmp_path / name, write(tmp_path / f"{name}.csv", feedback)).curriculum)
    for other in made[1:]:
        np.testing.assert_allclose(other.weights, made[0].weights, rtol=1e-12)
        np.testing.assert_array_equal(other.columns["n"], 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"split": "validation"}, "line 1: only split train may steer training"),
        ({"group": "coed"}, "feedback of group 'coed'.*did you mean 'code'"),
        ({"advantage": "nan"}, "line 1: advantage must be a number, not nan"),
        ({"advantage": "inf"}, "line 1: advantage must be a number, not inf"),
        ({"advantage": None}, "line 1: none of advantage, pass_rate, successes"),
        ({"advantage": None, "pass_rate": -0.1}, "line 1: pass_rate must be from 0 to 1, not -0.1"),
        ({"pass_rate": 0.1}, "line 1: more than one of"),
        ({"step": None}, "line 1: no step"),
        ({"step": 1.5}, "line 1: step must be a whole number from 0 on, not 1.5"),
        ({"step": -1}, "line 1: step must be a whole number from 0 on, not -1"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused_and_changes_nothing(tmp_path, row, message):
    ucb(["code", "maths"], out=tmp_path / "out")
    before = (tmp_path / "out" / "state.parquet").read_bytes()
    write(tmp_path / "f.jsonl", [{"group": "code", "step": 0, "advantage": 0.5, "split": "train"} | row])
    with pytest.raises(InputError, match=message):
        update(tmp_path / "out", tmp_path / "f.jsonl")
    assert (tmp_path / "out" / "state.parquet").read_bytes() == before


def test_rewards_are_not_taken_for_advantages(tmp_path):
    ucb(["a"], out=tmp_path / "out")
    write(tmp_path / "f.jsonl", [{"group": "a", "step": 0, "reward": 1}])
    with pytest.raises(InputError, match="rewards are not advantages; give pass_rate"):
        update(tmp_path / "out", tmp_path / "f.jsonl")
    write(tmp_path / "g.jsonl", [{"group": "a", "step": 0, "advantage": i % 2} for i in range(40)])
    assert "no advantage is below 0" in update(tmp_path / "out", tmp_path / "g.jsonl").warnings[0]
    write(tmp_path / "h.jsonl", [{"group": "a", "step": 1, "advantage": 2 * (i % 2) - 1} for i in range(40)])
    assert update(tmp_path / "out", tmp_path / "h.jsonl").warnings == ()


def test_the_seed_of_string_hashes_does_not_matter(tmp_path):
    write(tmp_path / "f.jsonl", [{"group": f"g{i % 7}", "step": i, "advantage": i % 5 - 2} for i in range(50)])
    code = (
        "import sys; from curate.curriculum.online import ucb, update;"
        "ucb({f'g{i}' for i in range(7)}, out=sys.argv[1]); update(sys.argv[1], sys.argv[2])"
    )
    found = []
    for seed in ("0", "1"):
        out = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", code, out, tmp_path / "f.jsonl"],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        found.append({p.name: p.read_bytes() for p in out.iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {"state.parquet", "curriculum.parquet", "weights.json", ".lock"}


def test_groups_are_named_once_and_at_all(tmp_path):
    with pytest.raises(UsageError, match="'a' is named twice"):
        ucb(["a", "b", "a"], out=tmp_path / "out")
    with pytest.raises(UsageError, match="name the groups"):
        ucb(out=tmp_path / "out")
    with pytest.raises(UsageError, match="--column"):
        ucb(out=tmp_path / "out", raw="raw")
    with pytest.raises(UsageError, match="s3://bucket/out: a curriculum must be in a local folder"):
        ucb(["a"], out="s3://bucket/out")
    with pytest.raises(UsageError, match="window"):
        ucb(["a"], out=tmp_path / "out", window=0)
    assert not (tmp_path / "out").exists()
