"""The command line: help, errors, JSON, dry runs, completion, reproduction."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from corpora import rows, sharded, shards, target_rows, tree, write

from curate.cli import main

SMALL = ("--set", "n_buckets=500")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return sharded(tmp_path / "raw", rows(60), 3)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return write(tmp_path / "target.jsonl", target_rows())


def curate(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def run(raw, target, tmp_path) -> Path:
    assert curate("select", raw, "--target", target, "--budget", 10, "--out", tmp_path / "out", *SMALL).exit_code == 0
    return tmp_path / "out"


# ---- help


def commands(group: click.Group, above: str = "") -> dict[str, click.Command]:
    """All commands by their words, those of groups too."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[f"{above}{name}"] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{above}{name} ")
    return found


EVERY_COMMAND = commands(main)


@pytest.mark.parametrize("name", [None, *EVERY_COMMAND])
def test_every_command_has_help_with_an_example(name):
    result = curate(*(name.split() if name else []), "--help")
    assert result.exit_code == 0
    example = result.output.split("Example:")[1].strip().splitlines()[0].strip()
    assert example.startswith(f"curate {name or ''}".strip())


@pytest.mark.parametrize("name", list(EVERY_COMMAND))
def test_the_options_in_every_example_are_there(name):
    command = EVERY_COMMAND[name]
    example = command.help.split("Example:")[1].strip().splitlines()[0].split(">>")[0]
    command.make_parser(click.Context(command)).parse_args(shlex.split(example)[1 + len(name.split()) :])


def test_every_option_says_what_it_is():
    for name, command in EVERY_COMMAND.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"


def test_no_arguments_show_the_help():
    result = curate()
    assert "select" in result.output
    assert "verify" in result.output


# ---- errors


def test_an_error_is_one_line_on_stderr_and_exit_1(target, tmp_path):
    result = curate("select", tmp_path / "nothing", "--target", target, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"curate: {tmp_path}/nothing: no such file or folder\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "dsri"], "did you mean 'dsir'"),
        (["--set", "n_bukets=5"], "did you mean 'n_buckets'"),
        (["--set", "n_buckets"], "must be KEY=VALUE"),
        (["--set", "n_buckets=many"], "n_buckets"),
        (["--set", "normalize=chunks"], "did you mean 'chunk'"),
        (["--set", "n=0"], "1 to 8"),
        (["--budget", "0"], "must be above 0"),
        (["--budget", "1O%"], "cannot be read (examples: "),
        (["--proportion", "maths=1"], "--per"),
        (["--per", "source", "--proportion", "maths=x"], "must be a number"),
        (["--target", "b=x.jsonl"], "name all targets or none"),
        (["--holdout", "2"], "must be between 0 and 1"),
        (["--draw", "gumble"], "gumbel"),
        (["--workers", "0"], "--workers"),
        (["--nonsense"], "--nonsense"),
        (["--memory-limit", "1MB"], "at least 600,000,000"),
    ],
)
def test_a_usage_error_helps_and_is_exit_2(raw, target, tmp_path, words, message):
    result = curate("select", raw, "--target", target, "--out", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_missing_arguments_are_exit_2():
    assert curate("select").exit_code == 2
    assert curate("select", "raw").exit_code == 2
    assert curate("nonsense").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [["--max-kl", "1", "--draw", "topk"], ["--domains", "nowhere", "--per", "cluster"], ["--draw", "threshold"]],
)
def test_a_dry_run_refuses_what_a_run_would(raw, target, tmp_path, words):
    asked = ("select", raw, "--target", target, "--out", tmp_path / "out", *words)
    dry, wet = curate(*asked, "--dry-run"), curate(*asked)
    assert dry.exit_code == wet.exit_code != 0
    assert dry.stderr == wet.stderr


def test_a_budget_that_is_hardly_spent_is_told_of(raw, target, tmp_path):
    words = ("--per", "source", "--proportion", "maths=1", "--budget", "90%", "--out", tmp_path / "out")
    result = curate("select", raw, "--target", target, *SMALL, *words)
    assert result.exit_code == 0
    assert "of the budget were selected: there are groups that have less than their part" in result.stderr


@pytest.mark.parametrize("command", ["select", "score"])
def test_without_a_target_a_method_that_needs_one_says_so(raw, tmp_path, command):
    result = curate(command, raw, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "method 'dsir' needs at least one file of examples (--target PATH)" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_bad_row_names_its_line_and_the_way_out(raw, target, tmp_path):
    write(raw / "part-001.jsonl", b'{"text":"a"}\n{"text":\n')
    words = ("select", raw, "--target", target, *SMALL)
    result = curate(*words, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{raw}/part-001.jsonl line 2: not JSON" in result.stderr
    assert "--on-bad-row quarantine" in result.stderr
    result = curate(*words, "--on-bad-row", "quarantine", "--out", tmp_path / "out2")
    assert result.exit_code == 0
    assert "1 rows could not be read" in result.stderr


# ---- output


def test_results_are_on_stdout_and_warnings_on_stderr(raw, target, tmp_path):
    result = curate("select", raw, "--target", target, "--budget", 1000, "--out", tmp_path / "out", *SMALL)
    assert "60 of 60 documents" in result.stdout
    assert "warning: the budget" in result.stderr
    assert "warning" not in result.stdout


def vectors(path, seed):
    """A Parquet file with vectors of 40 documents."""
    made = np.random.default_rng(seed).normal(size=(40, 3)).tolist()
    return write(path, [{"id": f"d{i}", "vector": vector} for i, vector in enumerate(made)])


RECIPE = "{{out: {0}/new, inputs: {{raw: {0}/raw, target: {0}/target.jsonl}}, score: {{settings: {{n_buckets: 500}}}}}}"
COMMANDS = {
    "select": lambda d: ["select", d / "raw", "--target", d / "target.jsonl", "--out", d / "new", *SMALL],
    "select dry": lambda d: ["select", d / "raw", "--target", d / "target.jsonl", "--out", d / "new", "--dry-run"],
    "score": lambda d: ["score", d / "raw", "--target", d / "target.jsonl", "--out", d / "new", *SMALL],
    "draw": lambda d: ["draw", d / "out", "--budget", "5", "--out", d / "new"],
    "scan": lambda d: ["scan", d / "raw"],
    "passages": lambda d: ["passages", d / "raw", "--out", d / "new"],
    "compare": lambda d: ["compare", d / "target.jsonl", d / "out"],
    "coverage": lambda d: ["coverage", d / "out", "--target", d / "target.jsonl"],
    "evaluate": lambda d: [
        "evaluate",
        d / "out",
        "--heldout",
        write(d / "heldout.jsonl", target_rows(30)),
        "--seeds",
        "2",
    ],
    "run": lambda d: ["run", write(d / "recipe.yaml", RECIPE.format(d).encode())],
    "domains": lambda d: ["domains", d / "raw", "--out", d / "new", "--k", "2"],
    "align": lambda d: ["align", vectors(d / "old.parquet", 0), vectors(d / "new.parquet", 1), "--out", d / "new"],
    "verify": lambda d: ["verify", d / "out"],
    "dedup": lambda d: ["dedup", d / "raw", "--out", d / "new"],
    "filter": lambda d: ["filter", d / "raw", "--out", d / "new", "--where", "short=n_words < 2"],
    "decontaminate": lambda d: ["decontaminate", d / "raw", "--out", d / "new", "--against", d / "target.jsonl"],
    "methods": lambda d: ["methods"],
    "doctor": lambda d: ["doctor"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_with_a_result_prints_it_as_json(run, tmp_path, name):
    if name == "evaluate":
        pytest.importorskip("pyppmd", reason="the extra evaluate is not installed")
    result = curate(*COMMANDS[name](tmp_path), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)


def test_every_command_that_takes_json_is_in_that_test():
    takers = {name for name, command in main.commands.items() if any(p.name == "as_json" for p in command.params)}
    assert takers == {name.split()[0] for name in COMMANDS}


def test_progress_goes_to_stderr_and_leaves_stdout_to_the_result(raw, target, tmp_path, monkeypatch):
    import io

    import curate.progress as progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    from curate.selection import select

    select(raw, target=target, out=tmp_path / "out", budget=5, settings={"n_buckets": 500}, progress=None)
    assert "score" in terminal.getvalue()
    assert select(raw, target=target, out=tmp_path / "out2", budget=5, settings={"n_buckets": 500}, progress=False)


def test_scan_lists_files_columns_and_what_was_passed_over(raw):
    write(raw / "notes.md", b"?")
    result = curate("scan", raw)
    assert "part-001.jsonl" in result.stdout
    assert "columns: id, text, source" in result.stdout
    assert "passed over, not data by their names: " in result.stdout


def test_a_dry_run_prints_the_plan_and_writes_nothing(raw, target, tmp_path):
    before = tree(tmp_path)
    result = curate("select", raw, "--target", target, "--out", tmp_path / "new" / "out", "--dry-run")
    assert result.exit_code == 0
    for step in ("scan", "fit", "score", "draw", "keep", "write"):
        assert step in result.stdout
    n_documents = int(re.search(r"of text in ([\d,]+) documents", result.stdout)[1])
    assert 30 < n_documents < 120
    assert tree(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_dry_run_of_coverage_has_room_for_the_candidates(raw, target, tmp_path):
    common = ("select", raw, "--target", target, "--out", tmp_path / "out", "--budget", "1kB", "--dry-run", "--json")
    disk = {}
    for draw in ("topk", "cover"):
        plan = json.loads(curate(*common, "--draw", draw).stdout)
        disk[draw] = next(step["disk"] for step in plan["steps"] if step["name"] == "draw")
    assert disk["cover"] - disk["topk"] == 8_000


def test_a_selection_by_coverage_says_how_it_was_drawn(raw, target, tmp_path):
    result = curate("select", raw, "--target", target, "--out", tmp_path / "out", "--draw", "cover", "--budget", "10")
    assert result.exit_code == 0
    assert "--draw cover" in json.loads((tmp_path / "out" / "manifest.json").read_text())["command"]


@pytest.fixture
def heldout(tmp_path) -> Path:
    return write(tmp_path / "heldout.jsonl", target_rows(30))


def test_evaluate_prints_a_line_an_arm_and_ends_with_the_verdict(run, heldout):
    result = curate("evaluate", run, "--heldout", heldout, "--seeds", 2)
    assert result.exit_code == 0
    for arm in ("selected", "random", "length-matched", "top-k"):
        assert re.search(rf"^{arm} +\d+ +\d\.\d{{4}} +\d\.\d{{4}}", result.stdout, re.M), arm
    assert re.match(r"(Better|No better|Worse) than random: ", result.stdout.splitlines()[-1])
    assert "warning: samples of " in result.stderr


def test_evaluate_shows_a_line_a_target_when_there_are_several(run, heldout):
    result = curate("evaluate", run, "--heldout", f"one={heldout}", "--heldout", f"two={heldout}", "--seeds", 2)
    assert re.search(r"^one .*better|worse$", result.stdout, re.M)
    assert re.search(r"^two .*better|worse$", result.stdout, re.M)


def test_evaluate_without_anything_to_measure_with_is_exit_2(run):
    result = curate("evaluate", run)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--heldout FILE" in result.stderr
    assert "--holdout 0.2" in result.stderr


def test_evaluate_is_exit_0_whatever_the_verdict_unless_told_otherwise(raw, target, heldout, tmp_path):
    at_random = ("--budget", 20, "--draw", "uniform", "--out", tmp_path / "out", *SMALL)
    assert curate("select", raw, "--target", target, *at_random).exit_code == 0
    words = ("evaluate", tmp_path / "out", "--heldout", heldout)
    assert json.loads(curate(*words, "--json").stdout)["verdict"] == "no better"
    assert curate(*words).exit_code == 0
    assert curate(*words, "--fail-unless", "better").exit_code == 3


def test_verify_is_exit_1_when_something_is_wrong(run):
    assert curate("verify", run).exit_code == 0
    shard = run / "shards" / "part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    result = curate("verify", run)
    assert result.exit_code == 1
    assert "part-00000.parquet" in result.stdout


# ---- the way in and the way back


def test_scoring_then_drawing_is_selecting(raw, target, tmp_path, run):
    assert curate("score", raw, "--target", target, "--out", tmp_path / "scored", *SMALL).exit_code == 0
    assert curate("draw", tmp_path / "scored", "--budget", 10, "--out", tmp_path / "d" / "out").exit_code == 0
    assert tree(tmp_path / "d" / "out") == tree(run)


REPRODUCED = [
    (),
    ("--budget", "50%"),
    ("--budget", "3kB", "--seed", "7"),
    ("--budget", "123.5-tokens", "--draw", "topk"),
    ("--draw", "threshold", "--threshold", "-30.5"),
    ("--per", "source", "--proportion", "maths=2", "--proportion", "news=0.5"),
    ("--format", "jsonl.zst", "--shard-size", "1kB", "--name", 'it\'s a "name" $HOME'),
    ("--set", "n=1", "--set", "smoothing=0.25", "--set", "normalize=mean", "--set", "temperature=2"),
    ("--set", "compat=true", "--set", "min_tokens=20"),
    ("--set", "num_tokens_to_fit=500", "--on-bad-row", "quarantine", "--id-column", "key"),
]


@pytest.mark.parametrize("words", REPRODUCED, ids=" ".join)
def test_the_command_in_the_manifest_makes_the_same_run(raw, target, tmp_path, words):
    assert curate("select", raw, "--target", target, "--out", tmp_path / "one", *SMALL, *words).exit_code == 0
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    again = shlex.split(manifest["command"])
    assert (again[0], again[-1]) == ("curate", "OUT")
    result = curate(*again[1:-1], tmp_path / "two")
    assert result.exit_code == 0, result.output
    repeated = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert repeated["recipe_sha256"] == manifest["recipe_sha256"]
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_named_and_separate_targets_are_reproduced(raw, target, tmp_path):
    other = write(tmp_path / "dir=with" / "equals.jsonl", rows(40, seed=5))
    words = ("--target", f"a={target}", "--target", f"b={other}", "--target", f"b={target}", "--budget", "20")
    more = ("--set", "separate_targets=true", "--set", "target_proportions=0.75,0.25")
    assert curate("select", raw, *words, *more, "--out", tmp_path / "one", *SMALL).exit_code == 0
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    result = curate(*shlex.split(manifest["command"])[1:-1], tmp_path / "two")
    assert result.exit_code == 0, result.output
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_options_can_come_from_the_environment(raw, target, tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_SELECT_BUDGET", "7")
    assert curate("select", raw, "--target", target, "--out", tmp_path / "out", *SMALL).exit_code == 0
    assert shards(tmp_path / "out").num_rows == 7


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, check=False
    )


def test_help_imports_nothing_heavy():
    code = """
import sys
from click.testing import CliRunner
from curate.cli import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
assert CliRunner().invoke(main, ["select", "--help"]).exit_code == 0
print([name for name in ("numba", "polars", "pyarrow", "numpy", "fsspec", "rich") if name in sys.modules])
"""
    assert python(code).stdout == "[]\n"


def test_importing_curate_is_light_and_its_names_are_there():
    code = """
import sys, curate
assert not {"numba", "polars", "pyarrow", "numpy"} & set(sys.modules)
for name in curate.__all__:
    getattr(curate, name)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell):
    assert "_CURATE_COMPLETE" in curate("completion", shell).stdout


def test_completion_completes_commands_and_options():
    code = "from curate.cli import main; main(prog_name='curate')"
    done = python(code, _CURATE_COMPLETE="bash_complete", COMP_WORDS="curate sel", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,select"]
    done = python(code, _CURATE_COMPLETE="bash_complete", COMP_WORDS="curate select --bud", COMP_CWORD="2")
    assert done.stdout.split() == ["plain,--budget"]
    source = python(code, _CURATE_COMPLETE="bash_source")
    assert "complete -o nosort -F _curate_completion curate" in source.stdout


@pytest.mark.parametrize("more", [["--dry-run"], ["--method", "classifier"], ["--method", "dsir+primed", "--dry-run"]])
def test_the_command_as_it_is_started_runs_whatever_packages_are_there(tmp_path, more):
    if "classifier" in more:
        pytest.importorskip("sklearn")
    raw = sharded(tmp_path / "raw", rows(60), 2)
    write(tmp_path / "target.jsonl", target_rows())
    words = ["select", str(raw), "--target", str(tmp_path / "target.jsonl"), "--out", str(tmp_path / "out"), *more]
    done = subprocess.run([sys.executable, "-m", "curate", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
