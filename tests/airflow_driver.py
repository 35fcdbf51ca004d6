"""What a process with Airflow found, as JSON: to import Airflow is slow, and changes logging and the environment.

python airflow_driver.py FOLDER SAMPLES   writes FOLDER/found.json
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any

FOLDER, SAMPLES = Path(sys.argv[1]), Path(sys.argv[2])
DAGS = FOLDER / "dags"
TESTS = Path(__file__).parent
os.environ |= {
    "AIRFLOW_HOME": str(FOLDER / "home"),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{FOLDER}/airflow.db",
    "CURATE_OUT": str(FOLDER / "mapped"),
}
for folder in (TESTS.parent / "pipelines" / "dags", TESTS / "dags"):
    shutil.copytree(folder, DAGS, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
RECIPE = f"""
name: x
out: somewhere
inputs: {{raw: {FOLDER}/raw, target: {FOLDER}/target.parquet}}
score: {{method: dsir, settings: {{n_buckets: 500}}}}
draw: {{budget: 10}}
write: {{shard_size: 1500}}
evaluate: {{heldout: {FOLDER}/heldout.jsonl, seeds: 2}}
report: {{format: json}}
"""
HEAVY = ("polars", "duckdb", "numba", "pyarrow", "numpy")


def parsed() -> dict[str, Any]:
    """DAG files of users and of the tests."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(DAGS))
    return {
        "errors": bag.import_errors,
        "tasks": {dag_id: [task.task_id for task in dag.topological_sort()] for dag_id, dag in bag.dags.items()},
        "schedules": {dag_id: [dag.schedule, dag.catchup, dag.max_active_runs] for dag_id, dag in bag.dags.items()},
        "heavy": [name for name in HEAVY if name in sys.modules],
    }


def tested(dag: Any, conf: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A run of a DAG: states, tries and XComs of its tasks."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    run = dag.test(run_conf=conf, **options)
    with create_session() as session:
        xcoms = session.query(XComModel).filter(XComModel.run_id == run.run_id, XComModel.dag_id == dag.dag_id).all()
        values = {f"{x.task_id}/{x.key}/{x.map_index}": x.value for x in xcoms}
    of = {f"{ti.task_id}/{ti.map_index}": ti for ti in run.get_task_instances()}
    return {
        "state": str(run.state),
        "states": {name: str(ti.state) for name, ti in of.items()},
        "tries": {name: ti.try_number for name, ti in of.items()},
        "xcoms": values,
    }


def sharing() -> dict[str, Any]:
    """The samples by mapped tasks, and what is done with the result; and the same at once."""
    import mapped_selection
    import report_and_notify

    from curate.selection import select

    told: list[str] = []
    report_and_notify.Notifier.send = lambda self, text: told.append(text)
    mapped, conf = FOLDER / "mapped", {"run": str(FOLDER / "mapped"), "format": "json"}
    found = {
        "mapped": tested(
            mapped_selection.dag,
            {
                "raw": f"{SAMPLES}/raw",
                "target": f"{SAMPLES}/targets/gsm8k/train.jsonl",
                "heldout": f"{SAMPLES}/targets/gsm8k/heldout.jsonl",
                "out": str(mapped),
                "partitions_per_task": 1,
            },
            mark_success_pattern="report",  # the other DAG makes one
        ),
        "notified": tested(report_and_notify.dag, conf, mark_success_pattern="evaluate"),
        "told": told,
    }
    select(
        str(SAMPLES / "raw"),
        target=str(SAMPLES / "targets" / "gsm8k" / "train.jsonl"),
        method="bytegrams",
        out=FOLDER / "at-once",
    )
    return found


def nightly() -> dict[str, Any]:
    """Nights in which a file comes to raw or nothing does, and what a verdict (None: a failure) makes of it."""
    import nightly_selection
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from corpora import rows, sharded, target_rows, tree, write

    import curate.evidence
    from curate.io.run import write_json
    from curate.verification import verify

    raw, target = sharded(FOLDER / "landed", rows(60), 3, "parquet"), write(FOLDER / "wanted.parquet", target_rows())
    conf = {"raw": str(raw), "target": str(target), "out": str(FOLDER / "nightly"), "method": "dsir", "budget": "50%"}
    work, published, nights = FOLDER / "nightly" / "work", FOLDER / "nightly" / "published", []
    real = curate.evidence.evaluate
    # each with what comes to raw before it, and the verdict on what is selected
    for new, verdict in (("", "better"), ("a", "no better"), ("", "better"), ("b", None), ("", "better")):
        if new:
            write(raw / f"part-{new}.parquet", [row | {"id": f"{new}-{row['id']}"} for row in rows(20, seed=ord(new))])

        def measured(run: Any, verdict: Any = verdict, **asked: Any) -> Any:
            if verdict is None:
                raise curate.errors.InputError("the text held out cannot be read")
            write_json(Path(run) / "evidence.json", {"verdict": verdict, "sentence": verdict})
            return types.SimpleNamespace(verdict=verdict, sentence=verdict, arms=(), warnings=())

        curate.evidence.evaluate = measured
        night = tested(nightly_selection.dag, conf)
        with create_session() as session:
            night["marked"] = session.query(AssetEvent).count()
        latest = json.loads((published / "latest.json").read_text())
        night |= {"latest": latest["uuid"], "trained_on": tree(Path(latest["run"]), without=("README.md",))}
        night["sound"] = verify(latest["run"]).ok
        night["fitted"] = {path.name: path.stat().st_mtime_ns for path in (work / "scorer").iterdir()}
        nights.append(night)
    curate.evidence.evaluate = real
    return {"nights": nights}


def updated() -> dict[str, Any]:
    """An update by an operator, and one that was killed after it had taken the manifest away."""
    from corpora import rows, sharded, target_rows, write

    from curate.airflow.operators import CurateSelectOperator
    from curate.selection import update as updating

    target, told = write(FOLDER / "wanted-2.parquet", target_rows()), []
    raw = sharded(FOLDER / "landed-2", rows(60), 3, "parquet")
    asked = {"raw": str(raw), "target": str(target), "settings": {"n_buckets": 500}, "name": "x", "budget": 20}
    tasks = [
        CurateSelectOperator(task_id="s", update=str(FOLDER / name), workers="1", **asked)
        for name in ("kept", "halved")
    ]
    for task in tasks:
        task.execute({})
    write(raw / "part-009.parquet", [row | {"id": f"new-{row['id']}"} for row in rows(20, seed=9)])
    real = updating.Session.write_files

    def killed(*_: Any) -> Any:
        raise OSError("killed")

    updating.Session.write_files = killed
    try:
        tasks[1].execute({})
    except OSError as error:
        told.append([str(error), (FOLDER / "halved" / "manifest.json").exists()])
    updating.Session.write_files = real
    return {"halved": told, "went_on": [task.execute({})["update"] for task in tasks], "still": tasks[0].execute({})}


def failing() -> dict[str, Any]:
    """Tasks that are killed, fail, select nothing, or stop what comes after them."""
    import small
    from corpora import rows, select, sharded, target_rows, write

    raw, target = sharded(FOLDER / "raw", rows(60), 4, "parquet"), write(FOLDER / "target.parquet", target_rows())
    found: dict[str, Any] = {}
    for name in ("killed", "flaky", "nothing"):
        conf = {"raw": str(raw), "target": str(target), "out": str(FOLDER / name)}
        found[name] = tested(small.by_id[name], conf)
    select(raw, FOLDER / "undisturbed", target=target, name="x", budget=30, shard_size=1_500)
    for verdict in ("better", "no better", "worse"):
        run = FOLDER / verdict
        run.mkdir()
        (run / "evidence.json").write_text(json.dumps({"verdict": verdict, "sentence": verdict}))
        found[verdict] = tested(small.by_id["verdict"], {"run": str(run)})
    found["unmeasured"] = tested(small.by_id["unmeasured"], {"run": str(FOLDER / "better")})
    return found


def by_hand() -> dict[str, Any]:
    """Operators without a run."""
    from airflow.sdk import BaseOperator
    from corpora import MATHS, target_rows, write

    from curate import errors, stages
    from curate.airflow import base, operators
    from curate.curriculum.online import ucb
    from curate.selection import select

    class Raising(base.CurateOperator):
        def __init__(self, *, error: Exception, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.error = error

        def work(self, context: Any) -> None:
            raise self.error

    class Waiting(base.CurateOperator):
        def work(self, context: Any) -> None:
            threading.Event().wait(60)

    def outcome(task: Any) -> str:
        try:
            task.execute({})
        except BaseException as error:
            return type(error).__name__
        return "none"

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    waiting = Waiting(task_id="waiting")
    signal.signal(signal.SIGTERM, lambda *_: waiting.on_kill())
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    plain = set(vars(BaseOperator(task_id="x"))) | set(dir(BaseOperator))
    made = [getattr(operators, name) for name in operators.__all__]
    ucb(["a", "b"], out=FOLDER / "online")
    feedback = [{"step": 1, "group": "a", "advantage": 0.5}, {"step": 1, "group": "b", "advantage": 0.1}]
    told = write(FOLDER / "feedback.jsonl", feedback)
    update = operators.CurateUpdateCurriculumOperator(task_id="u", folder=str(FOLDER / "online"), feedback=str(told))
    recipe = FOLDER / "recipe.yaml"
    recipe.write_text(RECIPE)
    write(FOLDER / "heldout.jsonl", target_rows(words=MATHS[::-1]))
    by_recipe = operators.CurateSelectOperator(
        task_id="s", recipe=str(recipe), overrides=["draw.budget=30"], out=str(FOLDER / "by-recipe")
    )
    run = operators.CurateRunOperator(task_id="r", recipe=str(recipe), overrides=[f"out={FOLDER}/whole"])
    unless = operators.CurateRunOperator(
        task_id="f", recipe=str(recipe), overrides={"out": f"{FOLDER}/whole", "evaluate.fail_unless": "better"}
    )
    listed = operators.CurateSelectOperator(
        task_id="s", raw=["a", "b"], out="o", draw="threshold", seed="3", holdout=""
    )
    return {
        "raised": {kind.__name__: outcome(Raising(error=kind("x"), task_id="x")) for kind in (*kinds, OSError)},
        "terminated": outcome(waiting),
        "nulls": nulls(recipe),
        "asked": sorted({*operators.ASKED, *operators.CurateSelectOperator.OWN, "progress", "steps"}),
        "select": sorted(inspect.signature(select).parameters),
        "planned": sorted({*operators.ASKED, "progress"}),
        "prepare": sorted(inspect.signature(stages.prepare).parameters),
        "taken": [f for operator in made for f in operator.template_fields if f in plain],
        "not_templates": [
            f"{operator.__name__}.{name}"
            for operator in made
            for name in inspect.signature(operator.__init__).parameters
            if name not in (*operator.template_fields, "self", "kwargs")
        ],
        "updated": [update.execute({}), update.execute({})],
        "by_recipe": by_recipe.execute({}),
        "run": [run.execute({}), outcome(unless)],
        "arguments": listed.asked(),
    }


def nulls(recipe: Path) -> dict[str, Any]:
    """What templates with parameters that are null ask for, and the ways to ask for a threshold."""
    from curate import errors
    from curate.airflow import operators
    from curate.recipe import Recipe
    from curate.stages import fit, prepare

    def asked(**given: Any) -> Any:
        return operators.CurateSelectOperator(task_id="s", **given).asked()

    plain = {"raw": "a", "out": "o"}
    threshold = {"draw.draw": "threshold", "draw.threshold": "1"}
    logged: list[str] = []
    scan = operators.CurateScanOperator(task_id="s", recipe=str(recipe), overrides=["run.workers=2", "run.spill=true"])
    scan.log.warning = logged.append  # type: ignore[method-assign]
    scan.planned()
    prepared = Recipe.load(recipe, [f"out={FOLDER}/null"]).select_arguments()
    fit(prepare(**prepared)["out"])
    score = operators.CurateScoreOperator(task_id="s", out=f"{FOLDER}/null", partitions="None")
    run = operators.CurateRunOperator(task_id="r", recipe="None")
    try:
        run.execute({})
    except Exception as error:
        logged.append(str(error))
    try:
        asked(raw="s3://AK:secret/x@b", out="o", recipe=str(recipe))
    except errors.UsageError as error:
        logged.append(str(error))
    of_recipe = {"recipe": str(recipe)}
    return {
        "recipe": asked(recipe="None", overrides="None", **plain) == asked(**plain) == plain,
        "overrides": asked(overrides=["draw.budget=None", "None"], **of_recipe) == asked(overrides="None", **of_recipe),
        "by_override": asked(overrides={**threshold, "draw.budget": ""}, **of_recipe),
        "by_argument": asked(overrides=["draw.budget="], draw="threshold", threshold="1", **of_recipe),
        "settings": asked(settings={"n": "1"}, **of_recipe)["settings"],
        "cleaning": [
            asked(dedup="True", filters="", max_removed={"web": "0.8"}, **plain),
            asked(overrides=["dedup.threshold=0.8"], max_removed="0.8", dedup="None", **of_recipe),
        ],
        "partitions": score.execute({})["n_partitions"],
        "logged": logged,
    }


if __name__ == "__main__":
    sys.path[:0] = [str(DAGS), str(TESTS)]
    found: dict[str, Any] = {"parsed": parsed()}
    from airflow.utils.db import initdb

    initdb()
    found |= sharing() | nightly() | failing() | updated() | by_hand()
    (FOLDER / "found.json").write_text(json.dumps(found, default=str))
