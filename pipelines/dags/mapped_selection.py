"""A selection spread over tasks, and its evidence: scan, fit, score in mapped tasks, draw, write, evaluate, report.

Copy this file into your DAGs folder. Where things are is in the parameters of a run; their defaults are in the
environment (CURATE_RAW, CURATE_TARGET, CURATE_HELDOUT, CURATE_OUT) or else the samples of a checkout of curate. The
folder of results must be seen by all workers.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param

from curate.airflow.operators import (
    CurateDrawOperator,
    CurateEvaluateOperator,
    CurateFitOperator,
    CurateReportOperator,
    CurateScanOperator,
    CurateScoreOperator,
    CurateVerdictOperator,
    CurateWriteOperator,
)

CHECKOUT = Path(__file__).resolve().parents[2]
OUT = "{{ params.out }}"
PLAN = "{{ ti.xcom_pull(task_ids='scan', key='summary')['plan'] }}"  # whose partitions these are

with DAG(
    "curate_mapped_selection",
    description="Select documents that are like a target, the scoring in mapped tasks",
    schedule=None,
    catchup=False,
    max_active_runs=1,  # a folder belongs to one run
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},  # a retry goes on from what is finished
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
        "out": Param(os.environ.get("CURATE_OUT", f"{CHECKOUT}/out/mapped"), type="string"),
        "budget": Param("10%", type="string", description="10000 documents, 10%, 500MB, 2B-tokens"),
        "method": Param("bytegrams", type="string", description="See curate methods"),
        "partitions_per_task": Param(16, type="integer", minimum=1, description="Of 64 MB of text each"),
        "overwrite": Param(False, type="boolean", description="Replace what another recipe left in out"),
    },
    tags=["curate"],
    doc_md=__doc__,
) as dag:
    scan = CurateScanOperator(
        task_id="scan",
        raw="{{ params.raw }}",
        target="{{ params.target }}",
        out=OUT,
        budget="{{ params.budget }}",
        method="{{ params.method }}",
        overwrite="{{ params.overwrite }}",
        partitions_per_task="{{ params.partitions_per_task }}",
    )
    fit = CurateFitOperator(task_id="fit", out=OUT, plan=PLAN)
    score = CurateScoreOperator.partial(
        task_id="score", out=OUT, plan=PLAN, map_index_template="{{ task.partitions }}"
    ).expand(partitions=scan.output)
    draw = CurateDrawOperator(task_id="draw", out=OUT, plan=PLAN)
    write = CurateWriteOperator(task_id="write", out=OUT, plan=PLAN)
    evaluate = CurateEvaluateOperator(task_id="evaluate", run=OUT, heldout="{{ params.heldout }}")
    verdict = CurateVerdictOperator(task_id="verdict", run=OUT)
    report = CurateReportOperator(task_id="report", paths=OUT)

    scan >> fit >> score >> draw >> write >> evaluate >> verdict >> report

if __name__ == "__main__":
    dag.test()
