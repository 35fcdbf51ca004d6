"""Every night: select from all that has come to the raw corpus, measure it, and tell other DAGs where it is better.

Copy this file into your DAGs folder. Where things are is in the parameters of a run; their defaults are in the
environment (CURATE_RAW, CURATE_TARGET, CURATE_HELDOUT, CURATE_OUT) or else the samples of a checkout of curate. A
night in which nothing came is over in seconds.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, Param

from curate.airflow.operators import CurateEvaluateOperator, CurateSelectOperator, CurateVerdictOperator

CHECKOUT = Path(__file__).resolve().parents[2]
OUT = "{{ params.out }}"

with DAG(
    "curate_nightly_selection",
    description="Select from what has come since, and measure it",
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
        out=OUT,
        budget="{{ params.budget }}",
        method="{{ params.method }}",
        overwrite=True,  # last night's selection, which was of less
    )
    evaluate = CurateEvaluateOperator(task_id="evaluate", run=OUT, heldout="{{ params.heldout }}")
    verdict = CurateVerdictOperator(task_id="verdict", run=OUT)
    # DAGs that train are scheduled on this asset: schedule=[Asset("curate_nightly_selection")].
    accepted = EmptyOperator(task_id="accepted", outlets=[Asset("curate_nightly_selection")])

    select >> evaluate >> verdict >> accepted

if __name__ == "__main__":
    dag.test()
