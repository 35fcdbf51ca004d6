"""Measure a finished run, report on it, and tell somebody where it is better than a random selection.

Copy this file into your DAGs folder, and give `Notifier` a `send` of your own. The run is a parameter; its default is
CURATE_OUT in the environment, or what `mapped_selection.py` made of the samples in a checkout of curate.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param

from curate.airflow.notify import SelectionNotifier
from curate.airflow.operators import CurateEvaluateOperator, CurateReportOperator, CurateVerdictOperator

CHECKOUT = Path(__file__).resolve().parents[2]
RUN = "{{ params.run }}"


class Notifier(SelectionNotifier):
    """Tells of a run. Replace `send`: a chat, an e-mail, a ticket."""

    def send(self, text: str) -> None:
        self.log.info("would be sent: %s", text)


with DAG(
    "curate_report_and_notify",
    description="Measure a run, report on it, and tell of it where it is better than random",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=1)},
    params={
        "run": Param(
            os.environ.get("CURATE_OUT", f"{CHECKOUT}/out/mapped"), type="string", description="Folder of a run"
        ),
        "heldout": Param(
            os.environ.get("CURATE_HELDOUT", f"{CHECKOUT}/samples/targets/gsm8k/heldout.jsonl"),
            type=["null", "string"],
            description="Text of the target that was not selected by; null: what holdout of the run left out",
        ),
        "format": Param("html", type="string", enum=["html", "md", "json"]),
    },
    tags=["curate"],
    doc_md=__doc__,
) as dag:
    evaluate = CurateEvaluateOperator(task_id="evaluate", run=RUN, heldout="{{ params.heldout }}")
    report = CurateReportOperator(task_id="report", paths=RUN, format="{{ params.format }}")
    verdict = CurateVerdictOperator(task_id="verdict", run=RUN)
    # Where training would begin: it is skipped, and nobody told, unless the run is better.
    accepted = EmptyOperator(task_id="accepted", on_success_callback=[Notifier(run=RUN)])

    evaluate >> report >> verdict >> accepted

if __name__ == "__main__":
    dag.test()
