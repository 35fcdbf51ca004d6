"""The Gaussian curriculum: its formulas, and weights from graded files."""

import json

import numpy as np
import pytest
import reference
from corpora import FORMATS, rows, sharded, write
from hypothesis import given
from hypothesis import strategies as st

from curate.curriculum.gaussian import (
    gaussian_shares,
    gaussian_weights,
    k3,
    kl_scale,
    memory,
    moving_average,
    posterior_mean,
)
from curate.curriculum.online import gaussian
from curate.errors import InputError, RunError, UsageError
from curate.io.curriculum import read_curriculum

RATES = [0, 0.25, 0.5, 0.75, 1]
rates = st.floats(0, 1)


def test_weights_are_those_of_the_paper():
    weights = gaussian_weights(RATES)
    np.testing.assert_allclose(weights, [0.360447789, 0.774837429, 1, 0.774837429, 0.360447789], atol=1e-9)
    shares = gaussian_shares(RATES)
    np.testing.assert_allclose(shares, [0.110209456, 0.236912014, 0.305757060, 0.236912014, 0.110209456], atol=1e-9)


def test_the_moving_average_is_that_of_the_paper():
    assert moving_average([0.5], [0], [1.0])[0] == pytest.approx(0.55)
    assert moving_average([0.5], [0, 0], np.array([1.0, 0.25]))[0] == pytest.approx(0.52)


def test_the_kl_scale_is_that_of_the_paper():
    np.testing.assert_allclose(kl_scale(RATES), [0.5, 0.622459331, 0.731058579, 0.817574476, 0.880797078], atol=1e-9)


@given(st.lists(rates, min_size=1), st.floats(0, 1), st.floats(0.01, 10))
def test_weights_equal_the_definition(p, centre, sigma):
    expected = [reference.gaussian_weight(x, centre, sigma) for x in p]
    np.testing.assert_allclose(gaussian_weights(p, centre=centre, sigma=sigma), expected, rtol=1e-9)


@given(st.lists(st.tuples(rates, st.lists(rates, max_size=30)), min_size=1, max_size=5), st.floats(0, 0.99))
def test_the_moving_average_of_many_equals_the_definition(names, alpha):
    start = np.array([first for first, _ in names])
    owners = np.repeat(np.arange(len(names)), [len(own) for _, own in names])
    values = np.array([rate for _, own in names for rate in own])
    expected = [reference.moving_average(first, own, alpha) for first, own in names]
    np.testing.assert_allclose(moving_average(start, owners, values, alpha=alpha), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("alpha", [0, 0.5, 0.9, 0.99])
def test_older_pass_rates_than_it_remembers_do_not_matter(alpha):
    values = np.random.default_rng(0).random(5000)
    last = values[-memory(alpha) :]
    whole, part = (
        moving_average([start], np.zeros(len(own), int), own, alpha=alpha) for start, own in ((1, values), (0, last))
    )
    np.testing.assert_allclose(whole, part, rtol=0, atol=1e-14)
    assert memory(0.9) == 328


def test_the_sharpest_gaussian_still_has_shares():
    np.testing.assert_allclose(gaussian_shares([0.0, 0.1, 1.0], sigma=1e-6), [0, 1, 0])


def test_pass_rates_beyond_0_and_1_by_rounding_are_clamped():
    np.testing.assert_array_equal(gaussian_weights([-1e-17, 1 + 1e-15]), gaussian_weights([0.0, 1.0]))


@pytest.mark.parametrize("sigma", [0, -1, np.nan, np.inf])
def test_a_sigma_that_is_not_above_0_is_refused(sigma):
    with pytest.raises(UsageError, match="sigma"):
        gaussian_weights(RATES, sigma=sigma)


def test_nan_is_refused_with_its_name():
    with pytest.raises(InputError, match="'b': pass rate nan"):
        gaussian_weights([0.5, np.nan], names=["a", "b"])


def test_few_tries_are_drawn_to_the_middle():
    np.testing.assert_allclose(posterior_mean([0, 0, 4], [4, 400, 4]), [1 / 6, 1 / 402, 5 / 6])


@given(st.floats(-20, 20))
def test_the_estimate_of_the_divergence_is_not_negative(log_ratio):
    r = np.exp(log_ratio)
    assert k3(log_ratio) >= 0
    assert k3(log_ratio) == pytest.approx(r - np.log(r) - 1, abs=1e-6)


# ---- graded files

GRADES = [
    {"doc_id": "a", "pass_rate": 0.0, "n": 8},
    {"doc_id": "b", "pass_rate": 0.25, "n": 8},
    {"doc_id": "c", "pass_rate": 0.5, "n": 8},
    {"doc_id": "d", "pass_rate": 0.75, "n": 8},
    {"doc_id": "e", "pass_rate": 1.0, "n": 8},
]


@pytest.mark.parametrize("form", FORMATS)
def test_grades_in_any_format_give_the_same_weights(tmp_path, form):
    write(tmp_path / f"grades.{form}", GRADES)
    gaussian(tmp_path / f"grades.{form}", out=tmp_path / "out")
    found = read_curriculum(tmp_path / "out")
    assert found.unit == "doc_id"
    np.testing.assert_allclose(list(found.stage().values()), gaussian_shares(RATES))
    np.testing.assert_array_equal(found.columns["pass_rate"], RATES)
    np.testing.assert_array_equal(found.columns["n"], 8)
    assert not (tmp_path / "out" / "weights.json").exists()


def test_the_kl_scale_is_of_the_accuracy_to_expect(tmp_path):
    write(tmp_path / "grades.jsonl", GRADES[:2])
    about = gaussian(tmp_path / "grades.jsonl", out=tmp_path / "out").curriculum.about
    assert about["kl_scale"] == pytest.approx(kl_scale(gaussian_shares([0, 0.25]) @ [0, 0.25]))


def test_successes_of_tries_are_pass_rates_and_grades_of_one_name_are_put_together(tmp_path):
    write(tmp_path / "a.csv", [{"group": "x", "successes": 1, "n": 4}, {"group": "y", "successes": 3, "n": 3}])
    write(tmp_path / "b.csv", [{"group": "x", "successes": 4, "n": 4}])
    made = gaussian([tmp_path / "a.csv", tmp_path / "b.csv"], out=tmp_path / "out").curriculum
    np.testing.assert_allclose(made.columns["pass_rate"], [5 / 8, 1])
    assert json.loads((tmp_path / "out" / "weights.json").read_text()) == made.stage()
    few = gaussian([tmp_path / "b.csv", tmp_path / "a.csv"], out=tmp_path / "few", small_groups=True).curriculum
    np.testing.assert_allclose(few.columns["pass_rate"], [6 / 10, 4 / 5])


def test_what_has_no_grade_is_as_likely_as_what_is_solved_half_the_time(tmp_path):
    raw = sharded(tmp_path / "raw", rows(30), 2)
    every = gaussian(out=tmp_path / "none", raw=raw).curriculum
    assert len(every.names) == 30
    np.testing.assert_allclose(every.weights, 1 / 30)
    first, second = every.names[0].as_py(), every.names[1].as_py()
    write(tmp_path / "g.jsonl", [{"doc_id": first, "pass_rate": 1.0}, {"doc_id": second, "pass_rate": None}])
    made = gaussian(tmp_path / "g.jsonl", out=tmp_path / "some", raw=raw).curriculum
    assert made.stage()[first] == min(made.stage().values())
    assert made.stage()[second] == max(made.stage().values())
    write(tmp_path / "h.jsonl", [{"doc_id": "nobody", "pass_rate": 1.0}])
    with pytest.raises(InputError, match="1 of 1 graded doc_ids are not in the corpus, such as 'nobody'"):
        gaussian(tmp_path / "h.jsonl", out=tmp_path / "other", raw=raw)


def test_few_tries_are_allowed_for_only_where_it_is_said_how_many(tmp_path):
    write(tmp_path / "g.jsonl", [{"doc_id": "a", "pass_rate": 1}])
    with pytest.raises(InputError, match=r"g.jsonl line 1: no n; "):
        gaussian(tmp_path / "g.jsonl", out=tmp_path / "out", small_groups=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"pass_rate": 1.5}, "line 2: pass_rate must be from 0 to 1, not 1.5"),
        ({"pass_rate": "NaN"}, "line 2: pass_rate must be a number, not NaN"),
        ({"pass_rate": "much"}, "line 2: pass_rate must be a number, not much"),
        ({"successes": 3}, "line 2: successes without n"),
        ({"successes": 3, "n": 2}, "line 2: successes must be from 0 to n, not 3"),
        ({"pass_rate": 1, "n": 0}, "line 2: n must be a whole number above 0, not 0"),
        ({"pass_rate": 1, "n": 1.5}, "line 2: n must be a whole number above 0, not 1.5"),
        ({"pass_rate": 1, "successes": 3, "n": 3}, "line 2: more than one of"),
        ({"doc_id": None, "pass_rate": 1}, "line 2: no doc_id"),
        ({"advantage": 1}, "line 2: an advantage does not say how often it was solved"),
    ],
)
def test_a_grade_that_makes_no_sense_is_refused_with_its_place(tmp_path, row, message):
    path = tmp_path / "g.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in [{"doc_id": "a", "pass_rate": 1}, {"doc_id": "b"} | row]))
    with pytest.raises(InputError, match=message):
        gaussian(path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_curriculum_in_the_folder_is_kept_unless_told_otherwise(tmp_path):
    write(tmp_path / "g.jsonl", GRADES)
    first = gaussian(tmp_path / "g.jsonl", out=tmp_path / "out").curriculum
    assert gaussian(tmp_path / "g.jsonl", out=tmp_path / "out").curriculum.stage() == first.stage()
    with pytest.raises(RunError, match="--overwrite"):
        gaussian(tmp_path / "g.jsonl", out=tmp_path / "out", sigma=0.1)
    assert read_curriculum(tmp_path / "out").stage() == first.stage()
    assert gaussian(tmp_path / "g.jsonl", out=tmp_path / "out", sigma=0.1, overwrite=True).curriculum.stage() != first


def test_nothing_to_weigh_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nothing to weigh"):
        gaussian(out=tmp_path / "out")
    write(tmp_path / "g.jsonl", [{"group": "a", "score": 1}])
    with pytest.raises(InputError, match=r"no column pass_rate or successes .there are: group, score"):
        gaussian(tmp_path / "g.jsonl", out=tmp_path / "out")
    write(tmp_path / "g.jsonl", [{"source": "a", "pass_rate": 1}])
    with pytest.raises(InputError, match=r"no column group or doc_id .there are: source, pass_rate"):
        gaussian(tmp_path / "g.jsonl", out=tmp_path / "out")


def test_grades_of_groups_and_of_documents_at_once_are_refused(tmp_path):
    path = write(tmp_path / "g.jsonl", [{"group": "a", "doc_id": "d1", "pass_rate": 0.5}])
    with pytest.raises(InputError, match="both group and doc_id"):
        gaussian(path, out=tmp_path / "out")
