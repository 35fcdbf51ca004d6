"""DAGs that things go wrong in, for tests: all paths are parameters of a run."""

import json
import os
import signal
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from curate.airflow.operators import (
    CurateDrawOperator,
    CurateEvaluateOperator,
    CurateFitOperator,
    CurateScanOperator,
    CurateScoreOperator,
    CurateSelectOperator,
    CurateVerdictOperator,
    CurateWriteOperator,
)

PATHS = {"raw": "", "target": "", "out": ""}
ASKED = {
    "raw": "{{ params.raw }}",
    "target": "{{ params.target }}",
    "out": "{{ params.out }}",
    "settings": {"n_buckets": 500},
    "name": "x",
}
OUT = ASKED["out"]


def retried(n: int) -> dict[str, object]:
    return {"retries": n, "retry_delay": timedelta(0)}


class KilledOnce(CurateScoreOperator):
    """Its second task is killed before its second partition is renamed, in a process of its own, as all are."""

    def work(self, context):
        partition = Path(self.out) / "scores" / "part-00002.parquet"
        if context["ti"].map_index != 1:
            return super().work(context)
        if context["ti"].try_number > 1:
            Path(f"{self.out}-before.json").write_text(
                json.dumps([sorted(p.name for p in partition.parent.glob("part-*.parquet")), partition.stat().st_ino])
            )
            found = super().work(context)
            Path(f"{self.out}-after.json").write_text(json.dumps(partition.stat().st_ino))
            return found
        child = os.fork()
        if not child:
            real_replace, left = os.replace, [2]

            def replace(source, to, **kwargs):
                left[0] -= str(to).endswith(".parquet")
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                real_replace(source, to, **kwargs)

            os.replace = replace
            super().work(context)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        raise OSError(f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "was not killed")


class FailsOnce(CurateSelectOperator):
    """Its disk does not answer at the first try."""

    def work(self, context):
        if context["ti"].try_number == 1:
            raise OSError("input/output error")
        return super().work(context)


with DAG("killed", schedule=None, params=PATHS, default_args=retried(1)) as killed:
    scan = CurateScanOperator(task_id="scan", budget=30, shard_size=1_500, partitions_per_task=2, **ASKED)
    fit = CurateFitOperator(task_id="fit", out=OUT)
    score = KilledOnce.partial(task_id="score", out=OUT, workers=1).expand(partitions=scan.output)
    draw = CurateDrawOperator(task_id="draw", out=OUT)
    scan >> fit >> score >> draw >> CurateWriteOperator(task_id="write", out=OUT)

with DAG("flaky", schedule=None, params=PATHS, default_args=retried(1)) as flaky:
    FailsOnce(task_id="select", budget="{{ 30 }}", shard_size=1_500, **ASKED)

with DAG("nothing", schedule=None, params=PATHS, default_args=retried(3)) as nothing:
    CurateSelectOperator(task_id="select", draw="threshold", threshold="1e9", **ASKED)

with DAG("verdict", schedule=None, params={"run": ""}) as short_circuit:
    verdict = CurateVerdictOperator(task_id="verdict", run="{{ params.run }}")
    train = EmptyOperator(task_id="train")
    mapped = CurateVerdictOperator.partial(task_id="mapped").expand(run=["{{ params.run }}"])
    verdict >> train >> EmptyOperator(task_id="always", trigger_rule="all_done")
    verdict >> mapped

with DAG("unmeasured", schedule=None, params={"run": ""}, default_args=retried(3)) as unmeasured:
    CurateEvaluateOperator(task_id="evaluate", run="{{ params.run }}")

by_id = {dag.dag_id: dag for dag in (killed, flaky, nothing, short_circuit, unmeasured)}
