"""Every night: take what has come to the raw corpus into the selection, measure it, and publish it where it is better.

Copy this file into your DAGs folder. Where things are is in the parameters of a run; their defaults are in the
environment (CURATE_RAW, CURATE_TARGET, CURATE_HELDOUT, CURATE_OUT) or else the samples of a checkout of curate.

The first night fits the scorer and makes the selection, in ``out/work``, by the parameters of that night; those of
later nights are not looked at, but for raw (to select by others, name another ``out``). Later nights score new files
alone, with that scorer, and draw again over all. Nobody is to train on ``out/work``, which changes before anybody
knows whether it is better. When the verdict is, its files are linked into ``out/published/UUID``, which never changes,
then ``out/published/latest.json`` names that folder, and only then is the asset marked. A DAG that trains is scheduled
on the asset, and reads the folder under ``run`` of ``latest.json``. Published folders that nobody reads any more may
be deleted; each takes the space of the files that have changed since.

A night in which nothing came skips all that comes after ``select``. One that failed half way is made up for by the
next.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, Param, task

from curate.airflow.operators import (
    CurateEvaluateOperator,
    CuratePublishOperator,
    CurateSelectOperator,
    CurateVerdictOperator,
)

CHECKOUT = Path(__file__).resolve().parents[2]
WORK, PUBLISHED = "{{ params.out }}/work", "{{ params.out }}/published"

with DAG(
    "curate_nightly_selection",
    description="Take in what has come since, measure it, publish it where it is better",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a folder belongs to one run
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},  # a retry goes on from what is finished
    params={
        "raw": Param(
            os.environ.get("CURATE_RAW", f"{CHECKOUT}/samples/raw"), type="string", description="Files, folder, glob"
        ),
        "target": Param(
            os.environ.get("CURATE_TARGET", f"{CHECKOUT}/samples/targets/gsm8k/train.jsonl"),
            type="string",
            description="Examples of what is wanted",
        ),
        "heldout": Param(
            os.environ.get("CURATE_HELDOUT", f"{CHECKOUT}/samples/targets/gsm8k/heldout.jsonl"),
            type="string",
            description="More of the same, to measure with",
        ),
        "out": Param(os.environ.get("CURATE_OUT", f"{CHECKOUT}/out/nightly"), type="string"),
        "budget": Param("10%", type="string", description="10000 documents, 10%, 500MB, 2B-tokens"),
        "method": Param("bytegrams", type="string", description="See curate methods"),
    },
    tags=["curate"],
    doc_md=__doc__,
) as dag:
    select = CurateSelectOperator(
        task_id="select",
        raw="{{ params.raw }}",
        target="{{ params.target }}",
        update=WORK,
        budget="{{ params.budget }}",
        method="{{ params.method }}",
    )

    @task.short_circuit(task_id="news")
    def to_do(run: str, to: str) -> bool:
        """Whether the selection has yet to be measured, or published: not where it is that of the night before."""
        from curate.airflow.publish import is_settled

        return not is_settled(run, to)

    news = to_do(WORK, PUBLISHED)
    evaluate = CurateEvaluateOperator(task_id="evaluate", run=WORK, heldout="{{ params.heldout }}")
    verdict = CurateVerdictOperator(task_id="verdict", run=WORK)
    # DAGs that train are scheduled on this asset: schedule=[Asset("curate_nightly_selection")].
    publish = CuratePublishOperator(
        task_id="publish", run=WORK, to=PUBLISHED, outlets=[Asset("curate_nightly_selection")]
    )

    select >> news >> evaluate >> verdict >> publish

if __name__ == "__main__":
    dag.test()
