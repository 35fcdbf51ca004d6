"""Airflow: the provider, the operators, and the DAG files, in runs of Airflow 3 on SQLite."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from corpora import tree

from curate.airflow.arguments import given
from curate.airflow.ranges import MAX_TASKS, numbers, ranges
from curate.errors import UsageError

TESTS = Path(__file__).parent
needs_airflow = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="Airflow is not installed: pip install 'curate-data[airflow]'"
)


def python(folder: Path, *command: str) -> str:
    """What a Python process prints, with an Airflow home of its own."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, check=False, timeout=600, cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "AIRFLOW_HOME": str(folder / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `airflow_driver.py` worked, once for all processes that test: it takes half a minute."""
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if parallel else base) / "airflow"
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "begun").exists():
            (shared / "begun").touch()
            python(shared, str(TESTS / "airflow_driver.py"), str(shared), str(samples))
    assert (shared / "found.json").exists(), "the driver failed in another process"
    return shared


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return value


# ---- what needs no Airflow


@pytest.mark.parametrize("n", [1, 15, 16, 17, 4_095, 4_096, 4_097, 100_000, 1_000_000])
def test_ranges_are_few_and_have_every_partition_once(n: int) -> None:
    made = ranges(n)
    assert len(made) <= MAX_TASKS
    assert len(json.dumps(made)) < 6_000  # an XCom, in bytes
    assert [number for part in made for number in numbers(part)] == list(range(n))


def test_ranges_are_as_large_as_asked_for() -> None:
    assert ranges(5, 2) == ["0:2", "2:4", "4:5"]
    assert ranges(5, 1, max_map_length=2) == ["0:3", "3:5"]
    assert ranges(0) == []
    with pytest.raises(UsageError, match="partitions_per_task 0: must be 1 or more"):
        ranges(5, 0)


def test_partitions_are_given_in_several_ways() -> None:
    assert numbers("0:3,7, 9") == [0, 1, 2, 7, 9]
    assert numbers([4, 2]) == [4, 2]
    assert numbers(3) == numbers("3") == [3]
    for wrong in ("", "a", "1-3", ":3", "3:", "1,,2"):
        with pytest.raises(UsageError, match="must be like 0:16"):
            numbers(wrong)


def test_text_out_of_templates_is_what_it_is_meant_to_be() -> None:
    asked = {"seed": "3", "holdout": "0.2", "overwrite": "False", "spill": "true", "budget": "10", "raw": Path("a")}
    assert given(asked | {"per": "None", "name": "", "draw": None}) == {
        "seed": 3, "holdout": 0.2, "overwrite": False, "spill": True, "budget": "10", "raw": "a"
    }  # fmt: skip
    shares = {"web": "0.8", "": 1}
    assert given({"dedup": "True", "max_removed": shares}) == {"dedup": True, "max_removed": {"web": 0.8, "": 1}}
    with pytest.raises(UsageError, match="seed 'x': must be a number"):
        given({"seed": "x"})
    with pytest.raises(UsageError, match="overwrite 'maybe': must be true or false"):
        given({"overwrite": "maybe"})


# ---- what Airflow finds


@needs_airflow
def test_airflow_lists_the_provider(tmp_path: Path) -> None:
    listed = json.loads(python(tmp_path, "-m", "airflow", "providers", "list", "--output", "json"))
    assert [p["description"] for p in listed if p["package_name"] == "curate-data"] == [
        "Choose, weigh and report on training data for language models"
    ]


@needs_airflow
def test_dag_files_are_parsed_without_errors_and_without_loading_what_tasks_need(found: dict[str, Any]) -> None:
    parsed = found["parsed"]
    assert parsed["errors"] == {}
    assert parsed["heavy"] == []
    stages = ["scan", "fit", "score", "draw", "write", "evaluate", "verdict", "report"]
    assert parsed["tasks"]["curate_mapped_selection"] == stages
    assert parsed["tasks"]["curate_report_and_notify"] == ["evaluate", "report", "verdict", "accepted"]
    assert parsed["tasks"]["curate_nightly_selection"] == ["select", "news", "evaluate", "verdict", "publish"]
    assert parsed["schedules"]["curate_nightly_selection"][0] == "@daily"
    ours = {dag: found for dag, found in parsed["schedules"].items() if dag.startswith("curate_")}
    assert {tuple(about[1:]) for about in ours.values()} == {(False, 1)}


@needs_airflow
def test_operators_take_what_the_library_takes_and_all_of_it_is_templates(found: dict[str, Any]) -> None:
    assert found["asked"] == found["select"]
    assert found["planned"] == found["prepare"]
    assert found["taken"] == []  # names that Airflow has a use for
    assert found["not_templates"] == []
    assert found["arguments"] == {"raw": ["a", "b"], "out": "o", "draw": "threshold", "seed": 3, "budget": None}


# ---- runs


@needs_airflow
def test_mapped_tasks_make_the_bytes_of_one_call(folder: Path, found: dict[str, Any]) -> None:
    assert found["mapped"]["state"] == "success"
    assert {name for name in found["mapped"]["states"] if name.startswith("score/")} == {f"score/{i}" for i in range(4)}
    rewritten = ("README.md", "croissant.json", "evidence.json", "report.json")  # by what was measured since
    mapped = tree(folder / "mapped", without=rewritten)
    assert mapped == tree(folder / "at-once", without=rewritten)
    assert {"ledger.parquet", "scores/part-00003.parquet", "shards/part-00000.parquet"} <= set(mapped)


@needs_airflow
def test_every_night_takes_in_what_has_come_since_by_the_scorer_of_the_first(found: dict[str, Any]) -> None:
    told = [night["xcoms"]["select/return_value/-1"] for night in found["nights"]]
    assert [(night["n_documents"], night["n_selected"]) for night in told] == [
        (60, 30), (80, 40), (80, 40), (100, 50), (100, 50)
    ]  # fmt: skip
    assert "update" not in told[0]
    assert [night["update"] and night["update"]["n_new_files"] for night in told[1:]] == [1, None, 1, None]
    assert len({json.dumps(night["fitted"], sort_keys=True) for night in found["nights"]}) == 1


@needs_airflow
def test_what_is_trained_on_changes_only_when_the_verdict_is_better(found: dict[str, Any]) -> None:
    first, worse, nothing, failed, made_up_for = found["nights"]
    assert [night["marked"] for night in found["nights"]] == [1, 1, 1, 1, 2]
    assert first["latest"] == first["xcoms"]["select/return_value/-1"]["uuid"]
    assert "manifest.json" in first["trained_on"]
    assert first["trained_on"] == worse["trained_on"] == nothing["trained_on"] == failed["trained_on"]
    assert made_up_for["latest"] == made_up_for["xcoms"]["select/return_value/-1"]["uuid"] != first["latest"]
    assert all(night["sound"] for night in found["nights"])
    assert worse["states"]["publish/-1"] == "skipped"
    assert failed["state"] == "failed"


@needs_airflow
def test_a_night_in_which_nothing_came_skips_what_comes_after(found: dict[str, Any]) -> None:
    assert found["nights"][2]["states"] == {
        "select/-1": "success", "news/-1": "success",
        "evaluate/-1": "skipped", "verdict/-1": "skipped", "publish/-1": "skipped",
    }  # fmt: skip


@needs_airflow
def test_an_update_that_was_killed_is_gone_on_with(folder: Path, found: dict[str, Any]) -> None:
    assert found["halved"] == [["killed", False]]
    whole, halved = found["went_on"]
    assert whole == halved
    assert whole["n_new_documents"] == 20
    assert found["still"]["update"] is None
    named = ("manifest.json",)  # has the uuid of the run before
    assert tree(folder / "kept", without=named) == tree(folder / "halved", without=named)


@needs_airflow
def test_a_parameter_that_is_null_is_one_that_was_not_given(found: dict[str, Any]) -> None:
    nulls = found["nulls"]
    assert nulls["recipe"]
    assert nulls["overrides"]
    assert nulls["partitions"] == 4


@needs_airflow
def test_an_argument_beside_a_recipe_is_an_override_of_it(found: dict[str, Any]) -> None:
    nulls = found["nulls"]
    assert nulls["by_override"] == nulls["by_argument"]
    assert (nulls["by_argument"]["budget"], nulls["by_argument"]["threshold"]) == (None, 1.0)
    assert nulls["settings"] == {"n": 1}
    of_arguments, of_overrides = nulls["cleaning"]
    assert of_arguments == {"raw": "a", "out": "o", "dedup": True, "max_removed": {"web": 0.8}}
    assert (of_overrides["dedup"], of_overrides["max_removed"]) == ({"threshold": 0.8}, 0.8)


@needs_airflow
def test_what_an_operator_leaves_out_of_a_recipe_is_told_of(found: dict[str, Any]) -> None:
    steps, alone, none, secret = found["nulls"]["logged"]
    assert "evaluate, report: not done here" in steps
    assert "workers, spill: known to the scan alone" in alone
    assert none == "r: no recipe; give recipe=FILE"
    assert "a URL with a password" in secret
    assert "secret/x" not in secret


@needs_airflow
def test_what_tasks_tell_each_other_is_small(found: dict[str, Any]) -> None:
    xcoms = {
        (dag, name): value for dag in ("mapped", "notified", "killed") for name, value in found[dag]["xcoms"].items()
    }
    assert xcoms["mapped", "scan/return_value/-1"] == ["0:1", "1:2", "2:3", "3:4"]
    assert xcoms["mapped", "scan/summary/-1"]["n_partitions"] == 4
    assert xcoms["mapped", "write/return_value/-1"]["n_selected"] == 254
    assert max(len(json.dumps(value)) for value in xcoms.values()) < 1_000


@needs_airflow
def test_a_killed_task_is_retried_and_goes_on_to_the_same_bytes(folder: Path, found: dict[str, Any]) -> None:
    assert found["killed"]["state"] == "success"
    assert found["killed"]["tries"] == {
        "scan/-1": 1, "fit/-1": 1, "score/0": 1, "score/1": 2, "draw/-1": 1, "write/-1": 1
    }  # fmt: skip
    done, file = json.loads((folder / "killed-before.json").read_text())
    assert done == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]  # the fourth it was killed at
    assert json.loads((folder / "killed-after.json").read_text()) == file  # what was there was not made again
    assert tree(folder / "killed") == tree(folder / "undisturbed")


@needs_airflow
def test_what_may_pass_is_retried_and_what_would_come_again_is_not(folder: Path, found: dict[str, Any]) -> None:
    assert found["flaky"]["state"] == "success"
    assert found["flaky"]["tries"] == {"select/-1": 2}
    assert tree(folder / "flaky") == tree(folder / "undisturbed")
    for dag, task in (("nothing", "select/-1"), ("unmeasured", "evaluate/-1")):  # both could be tried four times
        assert found[dag]["states"] == {task: "failed"}
        assert found[dag]["tries"] == {task: 1}
    again = {name for name, raised in found["raised"].items() if raised == name}
    assert again == {"BusyError", "ResourceError", "UnreachableError", "OSError"}
    assert set(found["raised"].values()) - again == {"AirflowFailException"}


@needs_airflow
def test_a_task_that_is_told_to_stop_stops(found: dict[str, Any]) -> None:
    assert found["terminated"] == "KeyboardInterrupt"


@needs_airflow
def test_only_a_better_run_goes_on(found: dict[str, Any]) -> None:
    assert set(found["better"]["states"].values()) == {"success"}
    for verdict in ("no better", "worse"):
        states = found[verdict]["states"]
        assert states.pop("verdict/-1") == "success"
        assert set(states) == {"train/-1", "always/-1", "mapped/0"}
        assert set(states.values()) == {"skipped"}
        assert found[verdict]["state"] == "success"


@needs_airflow
def test_somebody_is_told_of_a_better_run(found: dict[str, Any]) -> None:
    assert found["notified"]["states"]["accepted/-1"] == "success"
    assert len(found["told"]) == 1
    assert found["told"][0].startswith("gsm8k-bytegrams: 254 of 2,542 documents selected in ")
    assert "\nBetter than random: " in found["told"][0]


@needs_airflow
def test_feedback_is_counted_once_however_often_a_task_is_tried(found: dict[str, Any]) -> None:
    counted = [(told["n_rows"], told["n_skipped"]) for told in found["updated"]]
    assert counted == [(2, 0), (0, 2)]


@needs_airflow
def test_a_recipe_is_what_is_asked_for_but_for_what_stands_beside_it(folder: Path, found: dict[str, Any]) -> None:
    assert found["by_recipe"]["n_selected"] == 30
    assert tree(folder / "by-recipe") == tree(folder / "undisturbed")


@needs_airflow
def test_a_whole_recipe_is_one_task(folder: Path, found: dict[str, Any]) -> None:
    told, unless = found["run"]
    assert told["n_selected"] == 10
    assert told["verdict"] in ("better", "no better", "worse")
    assert told["report"] == str(folder / "whole" / "report.json")
    assert unless == ("none" if told["verdict"] == "better" else "AirflowFailException")
