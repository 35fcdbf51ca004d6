"""The state of curricula that follow training: updates in any order, repeated, at once, killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from corpora import write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import curate

from curate.curriculum.feedback import read_feedback
from curate.curriculum.gaussian import memory
from curate.curriculum.online import gaussian, ucb, update, weights
from curate.curriculum.state import SCHEMA, State, add, changed, merge, read_state, write_state
from curate.errors import CorruptError, InputError, RunError

GROUPS = ["a", "b", "é"]
METHODS = ("gaussian", "ucb")
SETTINGS = {
    "gaussian": {"sigma": 0.35, "centre": 0.5, "alpha": 0.01, "small_groups": False},  # 8 pass rates are kept
    "ucb": {"window": 6, "temperature": 0.1, "min_prob": 0.0},
}
observations = st.lists(st.tuples(st.sampled_from(GROUPS), st.floats(0, 1), st.integers(1, 4)), min_size=1, max_size=4)
batches = st.dictionaries(st.tuples(st.sampled_from(["w0", "w1"]), st.integers(0, 9)), observations, max_size=12)


def begun(method):
    return State.of(method, "group", SETTINGS[method], pl.DataFrame({"name": GROUPS, "value": None, "n": 0}))


def frame(some):
    """Feedback of batches, as it is read from files."""
    rows = [
        (name, worker, step, index, value, n)
        for (worker, step), own in some
        for index, (name, value, n) in enumerate(own)
    ]
    return pl.DataFrame(rows, schema=pl.DataFrame(SCHEMA.empty_table()).schema, orient="row")


def added(method, parts):
    state = begun(method)
    for some in parts:
        state, _ = add(state, frame(some))
    return state


def content(folder, state):
    write_state(folder, state)
    return (folder / "state.parquet").read_bytes()


@st.composite
def parts(draw, of):
    """Some batches in any order, cut into updates, some of them in more than one."""
    left = draw(st.permutations(sorted(of.items())))
    cuts = sorted(draw(st.lists(st.integers(0, len(left)), max_size=4)))
    cut = [left[i:j] for i, j in zip([0, *cuts], [*cuts, len(left)], strict=True)]
    again = draw(st.lists(st.sampled_from(left), max_size=4)) if left else []
    return [*cut, again]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60)
@given(batches, st.data())
def test_any_order_and_any_cut_of_feedback_gives_the_same_bytes(tmp_path_factory, method, some, data):
    folder = tmp_path_factory.mktemp("s")
    expected = content(folder, added(method, [sorted(some.items())]))
    assert content(folder, added(method, data.draw(parts(some)))) == expected


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60)
@given(batches)
def test_what_is_kept_equals_the_definition(method, some):
    rows = [
        (name, step, worker, index, value, n)
        for (worker, step), own in some.items()
        for index, (name, value, n) in enumerate(own)
    ]
    window = SETTINGS["ucb"]["window"] if method == "ucb" else memory(SETTINGS["gaussian"]["alpha"])
    kept, totals = reference.kept_feedback(rows, window, by_sequences=method == "ucb")
    state = added(method, [[batch] for batch in some.items()])
    assert state.kept.select("name", "step", "worker", "index", "value", "n").rows() == kept
    assert {(name, worker): n for name, worker, n in state.totals.rows()} == totals
    assert state.totals_of_names().to_list() == [sum(r[5] for r in rows if r[0] == name) for name in GROUPS]
    assert {(w, s) for w, own in state.counted.items() for a, b in own for s in range(a, b + 1)} == set(some)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60)
@given(batches, st.data())
def test_merged_states_are_as_if_all_feedback_had_come_to_one(tmp_path_factory, method, some, data):
    folder = tmp_path_factory.mktemp("s")
    items = sorted(some.items())
    where = data.draw(st.lists(st.sampled_from("ab"), min_size=len(items), max_size=len(items)))
    a, b = (added(method, [[i for i, w in zip(items, where, strict=True) if w == side]]) for side in "ab")
    whole = added(method, [items])
    expected = content(folder, whole)
    for left, right in ((a, b), (b, a), (whole, a), (b, whole), (whole, whole)):
        assert content(folder, merge(left, right)) == expected


def test_steps_with_gaps_between_them_are_found_again():
    steps = frame([((worker, step), [("a", 0.5, 1)]) for worker in ("w0", "w1") for step in range(0, 40_000, 2)])
    state, _ = add(begun("ucb"), steps)
    assert len(state.counted["w0"]) == 20_000
    assert add(state, steps)[1] == 40_000  # with each step against all of these it would take 19 GB
    between = steps.with_columns(pl.col("step") + 1)
    assert add(state, between)[1] == 0


def test_the_moving_average_has_nothing_to_gain_from_what_is_not_kept(tmp_path):
    rates = [(i * 7919 % 97) / 96 for i in range(1000)]
    gaussian(write(tmp_path / "g.jsonl", [{"group": "a", "pass_rate": 0.9}]), out=tmp_path / "out")
    feedback = [{"group": "a", "step": step, "pass_rate": rate} for step, rate in enumerate(rates)]
    made = update(tmp_path / "out", write(tmp_path / "f.parquet", feedback)).curriculum
    assert read_state(tmp_path / "out").kept.height == 328
    assert made.columns["pass_rate"][0] == pytest.approx(reference.moving_average(0.9, rates), abs=1e-14)


def test_states_that_share_a_part_of_their_steps_cannot_be_merged():
    one = [("a", 0.5, 1)]
    a, b = (added("ucb", [[(("w", step), one) for step in steps]]) for steps in ((0, 1, 2), (2, 3)))
    with pytest.raises(RunError, match=r"'w': 1 steps are in both states .* give their feedback to one of them again"):
        merge(a, b)
    with pytest.raises(RunError, match="begin both alike"):
        merge(a, begun("gaussian"))


# ---- files


@pytest.fixture
def folder(tmp_path):
    ucb(GROUPS, out=tmp_path / "out", window=20)
    return tmp_path / "out"


def feedback(folder, stem, steps, **more):
    values = [
        {"group": GROUPS[(step + i) % 3], "step": step, "advantage": (step * 31 + i * 17) % 7 / 3 - 1, **more}
        for step in steps
        for i in range(4)
    ]
    return write(folder / f"{stem}.jsonl", values)


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in ("state.parquet", "curriculum.parquet", "weights.json")}


def test_a_repeated_update_changes_nothing_and_says_so(folder, tmp_path):
    path = feedback(tmp_path, "w0", range(5))
    first = update(folder, path)
    once = bytes_of(folder)
    again = update(folder, path)
    assert (first.n_rows, first.n_skipped, again.n_rows, again.n_skipped) == (20, 0, 0, 20)
    assert bytes_of(folder) == once
    feedback(tmp_path, "w0", range(7))  # the file has grown
    grown = update(folder, path)
    assert (grown.n_rows, grown.n_skipped) == (8, 20)


def test_a_copy_of_a_file_is_counted_once_and_another_with_the_same_steps_is_refused(folder, tmp_path):
    one = feedback(tmp_path, "one", range(3), worker="w")
    two = feedback(tmp_path, "two", range(3), worker="w")
    both = update(folder, [one, two])
    assert (both.n_rows, both.n_skipped) == (12, 12)
    write(tmp_path / "three.jsonl", [{"group": "a", "step": 8, "advantage": 1, "worker": "w"}])
    write(tmp_path / "four.jsonl", [{"group": "a", "step": 8, "advantage": -2, "worker": "w"}])
    with pytest.raises(InputError, match=r"three.jsonl: step 8 of worker 'w' came in another file too"):
        update(folder, [tmp_path / "three.jsonl", tmp_path / "four.jsonl"])


def test_feedback_that_is_taken_for_a_repeated_step_but_has_other_rows_is_warned_of(folder, tmp_path):
    for name, row in (("x", {"group": "a", "advantage": 1}), ("y", {"group": "b", "advantage": 1})):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "w.jsonl", [row | {"step": 3}])
    assert update(folder, tmp_path / "x" / "w.jsonl").warnings == ()
    assert update(folder, tmp_path / "x" / "w.jsonl").warnings == ()
    told = update(folder, tmp_path / "y" / "w.jsonl")
    assert (told.n_rows, told.n_skipped) == (0, 1)
    assert "step 3 of worker 'w' was counted before with other rows" in told.warnings[0]
    assert "warning: step 3" in curate("curriculum", "update", folder, "-f", tmp_path / "y" / "w.jsonl").stderr
    write(tmp_path / "x" / "w.jsonl", [{"group": "a", "advantage": 1, "step": 3}] * 2)  # the step has grown
    assert len(update(folder, tmp_path / "x" / "w.jsonl").warnings) == 1


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(batches)
def test_feedback_that_is_the_same_was_never_changed_whatever_is_kept_of_it(method, some):
    items = sorted(some.items())
    state = added(method, [[item] for item in items])
    assert changed(state, frame(items)).height == 0
    assert changed(state, frame(items[::2])).height == 0
    assert changed(begun(method), frame(items)).height == 0


def test_the_format_of_feedback_does_not_matter(tmp_path):
    rows = [{"group": "a", "step": i, "worker": "w", "pass_rate": i / 7, "n": 8} for i in range(8)]
    found = []
    for form in ("jsonl", "jsonl.zst", "csv", "csv.gz", "parquet", "arrow", "json"):
        path = write(tmp_path / f"{form.replace('.', '')}.{form}", rows)
        found.append(read_feedback(path, unit="group", method="gaussian").rows)
    assert all(one.equals(found[0]) for one in found)
    assert found[0]["value"].to_list() == [i / 7 for i in range(8)]


def test_the_name_of_a_file_is_its_worker_unless_a_column_says_so(tmp_path):
    path = feedback(tmp_path, "node-3.steps-0", range(2))
    assert set(read_feedback(path, unit="group", method="ucb").rows["worker"]) == {"node-3"}
    (tmp_path / "x").mkdir()
    feedback(tmp_path / "x", "w0", range(2))
    (tmp_path / "x" / "y").mkdir()
    feedback(tmp_path / "x" / "y", "w0", range(2))
    found = read_feedback(tmp_path / "x", unit="group", method="ucb")
    assert set(found.rows["worker"]) == {"w0", "y/w0"}  # else one of them would be taken for a copy


def test_a_line_that_is_still_being_written_is_told(folder, tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"group": "a", "step": 1, "pass_rate": 1}\n{"group": "a", "st')
    with pytest.raises(InputError, match=r"f.jsonl line 2: not JSON .* wait until the file is written to its end"):
        update(folder, path)
    path.write_text("")
    assert "feedback: 0 rows counted" in curate("curriculum", "update", folder, "-f", path).output


def test_the_gaussian_takes_no_advantages_and_needs_tries_for_small_groups(tmp_path):
    gaussian(write(tmp_path / "g.jsonl", [{"group": "a", "pass_rate": 1, "n": 2}]), out=tmp_path, small_groups=True)
    write(tmp_path / "f.jsonl", [{"group": "a", "step": 0, "advantage": 1}])
    with pytest.raises(InputError, match="give pass_rate"):
        update(tmp_path, tmp_path / "f.jsonl")
    write(tmp_path / "f.jsonl", [{"group": "a", "step": 0, "pass_rate": 1}])
    with pytest.raises(InputError, match="line 1: no n; "):
        update(tmp_path, tmp_path / "f.jsonl")
    write(tmp_path / "f.jsonl", [{"group": "a", "step": 0, "pass_rate": 1, "n": 4}])
    made = update(tmp_path, tmp_path / "f.jsonl").curriculum
    assert made.columns["pass_rate"][0] == pytest.approx(0.9 * 3 / 4 + 0.1 * 5 / 6)
    assert made.columns["n"][0] == 6


def test_curricula_that_were_updated_apart_are_merged(folder, tmp_path):
    ucb(GROUPS, out=tmp_path / "other", window=20)
    ucb(GROUPS, out=tmp_path / "whole", window=20)
    one, two = feedback(tmp_path, "w0", range(9)), feedback(tmp_path, "w1", range(3, 7))
    update(tmp_path / "whole", [two, one])
    update(folder, one)
    update(tmp_path / "other", two)
    assert curate("curriculum", "update", folder, "--merge", tmp_path / "other").exit_code == 0
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_the_state_can_be_read_in_a_query(folder, tmp_path):
    update(folder, [feedback(tmp_path, "w0", range(5)), feedback(tmp_path, "w1", range(2))])
    query = f"SELECT name, sum(n) FROM '{folder}/state.parquet' WHERE worker IS NOT NULL AND step IS NULL GROUP BY 1"
    assert dict(duckdb.sql(query).fetchall()) == dict(
        zip(GROUPS, read_state(folder).totals_of_names().to_list(), strict=True)
    )


def test_a_file_that_is_no_state_is_told(tmp_path):
    with pytest.raises(InputError, match="curate curriculum gaussian or ucb makes one"):
        update(tmp_path / "nowhere", [])
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "state.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptError, match="not the state of a curriculum"):
        update(tmp_path, [])
    for about, message in (
        ("[]", "not the state"),
        ("{}", "not the state"),
        ('{"format": 2}', "format 2"),
    ):
        table = pa.table({"name": ["a"]}).replace_schema_metadata({"curate_state": about})
        pq.write_table(table, tmp_path / "state.parquet")
        with pytest.raises(CorruptError, match=message):
            update(tmp_path, [])


def test_names_that_are_hostile_come_back_as_they_were(tmp_path):
    names = ["", "é\u0000", "a,b\n\"c'", "\u202e$(rm)", "𝕏" * 50]
    ucb(names, out=tmp_path)
    write(tmp_path / "f.parquet", [{"group": name, "step": 0, "advantage": 1.0} for name in names])
    made = update(tmp_path, tmp_path / "f.parquet").curriculum
    assert list(made.stage()) == sorted(names)
    assert json.loads((tmp_path / "weights.json").read_text()) == made.stage()
    assert weights(read_state(tmp_path)).stage() == made.stage()
    assert curate("curriculum", "update", tmp_path).exit_code == 0


# ---- at once, and killed

UPDATES = """
import sys
from curate.curriculum.online import update
for path in sys.argv[2:]:
    update(sys.argv[1], path)
"""


def test_updates_at_once_lose_no_feedback(folder, tmp_path):
    ucb(GROUPS, out=tmp_path / "whole", window=20)
    paths = [[str(feedback(tmp_path, f"w{k}-{i}", range(i, i + 3))) for i in range(8)] for k in range(2)]
    running = [subprocess.Popen([sys.executable, "-c", UPDATES, folder, *own]) for own in paths]
    assert [process.wait() for process in running] == [0, 0]
    update(tmp_path / "whole", [path for own in paths for path in own])
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


KILLED = """
import os, signal, sys
from curate.curriculum.online import update
left, after, replace = int(sys.argv[3]), sys.argv[4] == "after", os.replace

def killing(*args, **kwargs):
    global left
    left -= 1
    if left or after:
        replace(*args, **kwargs)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = killing
update(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_an_update_killed_at_any_file_leaves_a_state_that_loads_and_goes_on(folder, tmp_path, k, moment):
    first, second = feedback(tmp_path, "w0", range(5)), feedback(tmp_path, "w1", range(4))
    update(folder, first)
    old = bytes_of(folder)
    ucb(GROUPS, out=tmp_path / "whole", window=20)
    update(tmp_path / "whole", [first, second])
    new = bytes_of(tmp_path / "whole")
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, second, str(k), moment], check=False)
    assert killed.returncode == -signal.SIGKILL
    read_state(folder)
    done = k if moment == "after" else k - 1
    assert bytes_of(folder) == {n: (new if i < done else old)[n] for i, n in enumerate(new)}  # each is old or new
    update(folder, second)
    assert bytes_of(folder) == new
    assert {p.name for p in Path(folder).iterdir()} == {*new, ".lock"}


def test_the_command_line_shows_weights_and_what_they_come_from(tmp_path):
    result = curate("curriculum", "ucb", "code", "maths", "--out", tmp_path / "out", "--min-prob", 0.1)
    assert result.exit_code == 0
    assert "upper bound" in result.output
    path = write(tmp_path / "f.jsonl", [{"group": "code", "step": 1, "pass_rate": 0.5, "n": 16}])
    result = curate("curriculum", "update", tmp_path / "out", "--feedback", path, "--json")
    found = json.loads(result.stdout)
    assert [row["group"] for row in found["weights"]] == ["code", "maths"]
    assert found["weights"][0]["advantage"] == 1
    assert found["n_rows"] == 1
    assert "1 skipped" in curate("curriculum", "update", tmp_path / "out", "-f", path).output
    result = curate("curriculum", "update", tmp_path / "out", "-f", tmp_path / "none.jsonl")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    write(tmp_path / "g.jsonl", [{"group": "code", "pass_rate": 0.1}, {"group": "maths", "pass_rate": 0.5}])
    result = curate("curriculum", "gaussian", tmp_path / "g.jsonl", "--out", tmp_path / "g")
    assert result.output.splitlines()[1].startswith("maths")
    assert curate("curriculum", "gaussian", tmp_path / "g.jsonl", "--out", tmp_path / "g", "--sigma", 0).exit_code == 2
    assert os.listdir(tmp_path / "out")
