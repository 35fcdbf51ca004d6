"""The stages of a selection, and what is measured of one, as Airflow operators.

A selection spread over tasks: `CurateScanOperator`, `CurateFitOperator`, any number of `CurateScoreOperator`,
`CurateDrawOperator`, `CurateWriteOperator`; or all in one task: `CurateSelectOperator`. All arguments are templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.airflow.arguments import NULL, given
from curate.airflow.base import AirflowFailException, Context, CurateOperator, SkipMixin
from curate.airflow.ranges import MAX_TASKS, PER_TASK, numbers, ranges

if TYPE_CHECKING:
    from curate.evidence import Evidence
    from curate.recipe import Recipe
    from curate.selection import Selection

__all__ = [
    "CurateDrawOperator",
    "CurateEvaluateOperator",
    "CurateFitOperator",
    "CuratePublishOperator",
    "CurateReportOperator",
    "CurateRunOperator",
    "CurateScanOperator",
    "CurateScoreOperator",
    "CurateSelectOperator",
    "CurateUpdateCurriculumOperator",
    "CurateVerdictOperator",
    "CurateWriteOperator",
]
ASKED = (
    "raw", "target", "out", "method", "settings", "budget", "draw", "seed", "threshold", "per", "proportions",
    "weights", "text_column", "id_column", "target_text_column", "holdout", "domains", "filters", "dedup",
    "decontaminate", "max_removed", "on_bad_row", "format", "shard_size", "name", "workers", "memory_limit", "engine",
    "engine_options", "overwrite",
)  # fmt: skip
USED = ("workers", "memory_limit", "engine", "engine_options")  # they change how fast it is, not what comes out
SUMMARY = "summary"  # key of what a scan counted; what it returns is what is mapped over


class _AskingOperator(CurateOperator):
    """With the arguments of `curate.select`, or a recipe that has them.

    Parameters
    ----------
    recipe : file of a recipe. overrides : as ["draw.budget=5%"], or by name, which go before it.
    raw, target, out, ... : as of `curate.select`, and before those of the recipe, as overrides are. None, or an empty
        text out of a template: what the recipe or, without one, `curate.select` has.

    Of a recipe only the selection is done; that its other steps are not is said in the task's log.
    """

    template_fields: Sequence[str] = (*ASKED, "recipe", "overrides")

    def __init__(
        self,
        *,
        recipe: str | None = None,
        overrides: Sequence[str] | Mapping[str, Any] = (),
        raw: str | Sequence[str] | None = None,
        target: str | Sequence[str] | Mapping[str, Any] | None = None,
        out: str | None = None,
        method: str | None = None,
        settings: Mapping[str, Any] | None = None,
        budget: str | int | None = None,
        draw: str | None = None,
        seed: int | str | None = None,
        threshold: float | str | None = None,
        per: str | None = None,
        proportions: Mapping[str, float] | None = None,
        weights: Mapping[str, Any] | None = None,
        text_column: str | None = None,
        id_column: str | None = None,
        target_text_column: str | None = None,
        holdout: float | str | None = None,
        domains: str | None = None,
        filters: Mapping[str, Any] | bool | None = None,
        dedup: Mapping[str, Any] | bool | None = None,
        decontaminate: Mapping[str, Any] | None = None,
        max_removed: float | str | Mapping[str, float] | None = None,
        on_bad_row: str | None = None,
        format: str | None = None,
        shard_size: str | int | None = None,
        name: str | None = None,
        workers: int | str | None = None,
        memory_limit: str | int | None = None,
        engine: str | None = None,
        engine_options: Mapping[str, Any] | None = None,
        overwrite: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        asked = {field: value for field, value in locals().items() if field in ASKED}
        super().__init__(**kwargs)
        self.recipe = recipe
        self.overrides = overrides
        for field, value in asked.items():
            setattr(self, field, value)

    def asked(self) -> dict[str, Any]:
        """The keyword arguments of `curate.select`.

        Raises
        ------
        UsageError : no ``raw`` or no ``out``, neither here nor in the recipe.
        """
        from curate.errors import UsageError

        arguments = given({field: getattr(self, field) for field in ASKED})
        if (recipe := self._recipe(arguments)) is not None:
            once = {"overwrite": arguments["overwrite"]} if "overwrite" in arguments else {}
            arguments = recipe.select_arguments() | once
        for field in ("raw", "out"):
            if not arguments.get(field):
                raise UsageError(f"{self.task_id}: no {field}; give {field}=..., or a recipe that has it")
        if arguments.get("draw") == "threshold":
            arguments.setdefault("budget", None)
        return arguments

    def _recipe(self, arguments: Mapping[str, Any]) -> Recipe | None:
        """The recipe, with what stands beside it in its place; None: there is none."""
        path = given({"recipe": self.recipe}).get("recipe")
        if path is None:
            return None
        from curate.recipe import Recipe

        asked = {name: value for name, value in arguments.items() if name != "overwrite"}
        recipe = Recipe.load(path, _listed(self.overrides), arguments=asked)
        if recipe.steps:
            self.log.warning(
                f"{path}: {', '.join(recipe.steps)}: not done here, only the selection is; CurateRunOperator does all, "
                "or give each step an operator"
            )
        return recipe


class CurateScanOperator(_AskingOperator):
    """Find and hash the input files, cut them into partitions, and leave the plan of a selection in ``out``.

    The arguments are those of `curate.select`, or a ``recipe``. Returns ranges of partitions, ["0:16", "16:23"], to map
    `CurateScoreOperator` over; under the key "summary" it pushes what it counted.

    ``workers``, ``memory_limit`` and ``engine``, also out of ``run`` of a recipe, are those of the scan alone: give
    them to each operator that comes after.

    Parameters
    ----------
    partitions_per_task : of 64 MB of text each. max_map_length : ranges at most; where there would be more, each has
        more partitions. It must not be above Airflow's own ``core.max_map_length``.
    """

    template_fields = (*_AskingOperator.template_fields, "partitions_per_task", "max_map_length")

    def __init__(
        self, *, partitions_per_task: int | str = PER_TASK, max_map_length: int | str = MAX_TASKS, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.partitions_per_task = partitions_per_task
        self.max_map_length = max_map_length

    def work(self, context: Context) -> list[str]:
        from curate.stages import prepare

        tasks = given({"partitions_per_task": self.partitions_per_task, "max_map_length": self.max_map_length})
        ranges(0, **tasks)  # before anything is read
        found = prepare(**self.planned())
        mapped = ranges(found["n_partitions"], **tasks)
        self.log.info(
            f"{found['out']}: {found['n_files']:,} files of {found['n_bytes']:,} bytes, "
            f"{found['n_partitions']:,} partitions for {len(mapped):,} tasks"
        )
        context["ti"].xcom_push(key=SUMMARY, value={**found, "n_tasks": len(mapped)})
        return mapped

    def planned(self) -> dict[str, Any]:
        """The keyword arguments of `curate.stages.prepare`: all but how scores are come by.

        Raises
        ------
        UsageError : the recipe takes them from another run.
        """
        from curate.errors import UsageError

        arguments = self.asked()
        if alone := [
            name for name in (*USED, "spill", "lineage") if name in arguments and not getattr(self, name, None)
        ]:
            self.log.warning(
                f"{self.recipe}: {', '.join(alone)}: known to the scan alone, if at all; give the operators of the "
                "other stages their own workers, memory_limit, engine and engine_options"
            )
        for of_one_task in ("spill", "lineage"):
            arguments.pop(of_one_task, None)
        if arguments.pop("scores_from", None) is not None:
            raise UsageError(
                f"{self.task_id}: a recipe with scores_from has nothing to score; use CurateSelectOperator"
            )
        return arguments


class _StageOperator(CurateOperator):
    """Goes on with the plan that `CurateScanOperator` left in ``out``.

    Parameters
    ----------
    out : folder of the plan.
    plan : its name, from the summary of the scan (``{{ ti.xcom_pull(task_ids='scan', key='summary')['plan'] }}``): with
        it a task refuses to go on with what another run has scanned into the same folder since.
    workers, memory_limit, engine, engine_options : of `curate.stages`; they change how fast it is, not what comes out.
        They do not come with the plan: each operator has its own, by default all cores of its machine and 2 GB.
    """

    template_fields: Sequence[str] = ("out", "plan", *USED)

    def __init__(
        self,
        *,
        out: str,
        plan: str | None = None,
        workers: int | str | None = None,
        memory_limit: str | int | None = None,
        engine: str | None = None,
        engine_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.out = out
        self.plan = plan
        self.workers = workers
        self.memory_limit = memory_limit
        self.engine = engine
        self.engine_options = engine_options

    def used(self) -> dict[str, Any]:
        """What the stage may use, and whose it is."""
        return given({field: getattr(self, field) for field in ("plan", *USED)})


class CurateFitOperator(_StageOperator):
    """Clean raw, where the plan says so, and fit the scorer; fails without retries when too much would be removed."""

    def work(self, context: Context) -> dict[str, Any]:
        from curate.stages import fit

        found = fit(self.out, **self.used())
        self.log.info(f"{found['out']}: {found['method']} fitted, {found['n_documents']:,} documents in raw")
        return found


class CurateScoreOperator(_StageOperator):
    """Score some partitions of a plan; any number of such tasks may run at once, on any machines that see ``out``.

    Map it over what a scan returns: ``CurateScoreOperator.partial(task_id="score", out=OUT).expand(partitions=
    scan.output)``. Partitions that are done are not done again.

    Parameters
    ----------
    partitions : "0:16" (16 is not in it), "3", "0:4,9", or a list of numbers; None: all.
    """

    template_fields = (*_StageOperator.template_fields, "partitions")

    def __init__(self, *, partitions: str | Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.partitions = partitions

    def work(self, context: Context) -> dict[str, Any]:
        from curate.stages import score

        partitions = given({"partitions": self.partitions}).get("partitions")
        found = score(self.out, None if partitions is None else numbers(partitions), **self.used())
        self.log.info(f"{found['out']}: partitions {partitions or 'all'} scored ({found['n_partitions']:,})")
        return found


class CurateDrawOperator(_StageOperator):
    """Draw from the scores of a plan; fails without retries when nothing is selected."""

    def work(self, context: Context) -> dict[str, Any]:
        from curate.stages import draw

        found = draw(self.out, **self.used())
        self.log.info(f"{found['out']}: {found['n_selected']:,} of {found['n_documents']:,} documents")
        return found


class CurateWriteOperator(_StageOperator):
    """Write what was drawn: shards, ledger, and last of all the manifest, which makes it a run."""

    def work(self, context: Context) -> dict[str, Any]:
        from curate.stages import write

        return _told(self, write(self.out, **self.used()))


class CurateSelectOperator(_AskingOperator):
    """A whole selection in one task, by the arguments of `curate.select` or a ``recipe``.

    Parameters
    ----------
    scores_from, spill, lineage : of `curate.select`.
    update : folder of a selection that what has come to ``raw`` since is taken into (`curate.update`), by the recipe
        that it was made with and the scorer that is fitted; where it is not there yet it is made, by the other
        arguments.
    """

    OWN = ("scores_from", "spill", "lineage")
    template_fields = (*_AskingOperator.template_fields, *OWN, "update")

    def __init__(
        self,
        *,
        scores_from: str | None = None,
        spill: bool | str | None = None,
        lineage: bool | str | None = None,
        update: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scores_from = scores_from
        self.spill = spill
        self.lineage = lineage
        self.update = update

    def work(self, context: Context) -> dict[str, Any]:
        from curate.io.run import RunFolder
        from curate.selection import select
        from curate.selection.update import update

        if (out := given({"update": self.update}).get("update")) is None:
            return _told(self, select(**self.asked()))
        folder, self.out = RunFolder(out), out
        if folder.manifest is None and not folder.updating:  # that of an update which was killed is kept aside
            return _told(self, select(**self.asked()))
        arguments = self.asked()
        used = {name: arguments[name] for name in (*USED, "max_removed") if name in arguments}
        done = update(out, arguments["raw"], **used)
        return _told(self, done) | {"update": done.manifest["update"] if done.seconds else None}

    def asked(self) -> dict[str, Any]:
        return super().asked() | given({field: getattr(self, field) for field in self.OWN})


class CurateRunOperator(CurateOperator):
    """Do all that a recipe says in one task, as ``curate run``: select, evaluate, make a curriculum, report.

    What is finished is not done again. Where the verdict is not what ``evaluate.fail_unless`` asks it fails, for good.

    Parameters
    ----------
    recipe : YAML file, or ``manifest.json`` of a run. overrides : as ["draw.budget=5%"], or by name.
    overwrite : replace what another recipe left in the folder.
    """

    template_fields: Sequence[str] = ("recipe", "overrides", "overwrite")

    def __init__(
        self,
        *,
        recipe: str,
        overrides: Sequence[str] | Mapping[str, Any] = (),
        overwrite: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.recipe = recipe
        self.overrides = overrides
        self.overwrite = overwrite

    def work(self, context: Context) -> dict[str, Any]:
        from curate.errors import UsageError
        from curate.recipe import Recipe

        path = given({"recipe": self.recipe}).get("recipe")
        if path is None:
            raise UsageError(f"{self.task_id}: no recipe; give recipe=FILE")
        done = Recipe.load(path, _listed(self.overrides)).run(**given({"overwrite": self.overwrite}))
        found: dict[str, Any] = {"out": str(done.out), "steps": list(done.seconds)}
        if done.selection is not None:
            found |= _told(self, done.selection)
        if done.evidence is not None:
            found |= _measured(self, done.evidence)
        for name, path in (("curriculum", done.curriculum_out), ("report", done.report)):
            if path is not None:
                self.log.info(f"{path} written")
                found[name] = str(path)
        if not done.passed:
            raise AirflowFailException(f"{done.out}: the verdict is not what evaluate.fail_unless asks for")
        return found


class CurateEvaluateOperator(CurateOperator):
    """Measure a run against random selections: does a model that has read it code the target in fewer bits?

    Parameters
    ----------
    run, heldout, seeds, ... : of `curate.evaluate`. ``heldout`` None: what ``holdout`` of the run left out.
    """

    ASKED = ("heldout", "heldout_text_column", "seeds", "sample", "heldout_size", "workers", "memory_limit")
    template_fields: Sequence[str] = ("run", *ASKED)

    def __init__(
        self,
        *,
        run: str,
        heldout: str | Sequence[str] | Mapping[str, Any] | None = None,
        heldout_text_column: str | None = None,
        seeds: int | str | None = None,
        sample: str | int | None = None,
        heldout_size: str | int | None = None,
        workers: int | str | None = None,
        memory_limit: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.heldout = heldout
        self.heldout_text_column = heldout_text_column
        self.seeds = seeds
        self.sample = sample
        self.heldout_size = heldout_size
        self.workers = workers
        self.memory_limit = memory_limit

    def work(self, context: Context) -> dict[str, Any]:
        from curate.evidence import evaluate

        found = evaluate(self.run, **given({field: getattr(self, field) for field in self.ASKED}))
        return {"run": self.run} | _measured(self, found)


class CurateVerdictOperator(CurateOperator, SkipMixin):
    """Go on only where the evidence of a run says that it is better; else all that comes after is skipped.

    Parameters
    ----------
    run : folder that `CurateEvaluateOperator` (or ``curate evaluate``) measured.
    accept : verdicts to go on with, of "better", "no better" and "worse".
    """

    inherits_from_skipmixin = True
    template_fields: Sequence[str] = ("run", "accept")

    def __init__(self, *, run: str, accept: str | Sequence[str] = "better", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.accept = accept

    def work(self, context: Context) -> str:
        evidence = evidence_of(self.run)
        verdict: str = evidence["verdict"]
        accept = given({"accept": self.accept}).get("accept", "better")
        if verdict in ([accept] if isinstance(accept, str) else accept):
            self.log.info("Go on: %s", evidence["sentence"])
            return verdict
        self.log.warning("Skip what comes after: %s", evidence["sentence"])
        after = context["task"].get_flat_relatives(upstream=False)
        self.skip(ti=context["ti"], tasks=[task for task in after if not task.is_teardown])
        return verdict


class CuratePublishOperator(CurateOperator):
    """Put a finished run where it does not change, and name it in ``latest.json`` there; see `curate.airflow.publish`.

    For a selection that is updated in place: those who train read what ``latest.json`` names. Returns ``run``, that
    folder, and ``uuid``.

    Parameters
    ----------
    run : folder of the run. to : folder with one of its own for each that was published.
    """

    template_fields: Sequence[str] = ("run", "to")

    def __init__(self, *, run: str, to: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.to = to

    def work(self, context: Context) -> dict[str, Any]:
        from curate.airflow.publish import publish

        found = publish(self.run, self.to)
        self.log.info(f"{self.run} published as {found['run']}")
        return found


class CurateUpdateCurriculumOperator(CurateOperator):
    """Add the feedback of training to a curriculum that follows it, and renew its weights; a retry counts none twice.

    Parameters
    ----------
    folder, feedback, merge_from : of `curate.curriculum.online.update`.
    """

    template_fields: Sequence[str] = ("folder", "feedback", "merge_from")

    def __init__(
        self,
        *,
        folder: str,
        feedback: str | Sequence[str] = (),
        merge_from: str | Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folder = folder
        self.feedback = feedback
        self.merge_from = merge_from

    def work(self, context: Context) -> dict[str, Any]:
        from curate.curriculum.online import update

        found = update(self.folder, **given({"feedback": self.feedback, "merge_from": self.merge_from}))
        self.log.info(f"{found.out}: {found.n_rows:,} rows counted, {found.n_skipped:,} had been before")
        return {
            "out": str(found.out),
            "n_rows": found.n_rows,
            "n_skipped": found.n_skipped,
            "n_warnings": self.tell(found.warnings),
        }


class CurateReportOperator(CurateOperator):
    """Write the report of a run, or of the files of a corpus.

    Parameters
    ----------
    paths, report, format, curriculum, workers : ``report`` is the file, ``out`` of `curate.report.write.report`.
    """

    template_fields: Sequence[str] = ("paths", "report", "format", "curriculum", "workers")

    def __init__(
        self,
        *,
        paths: str | Sequence[str],
        report: str | None = None,
        format: str = "html",
        curriculum: str | None = None,
        workers: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.paths = paths
        self.report = report
        self.format = format
        self.curriculum = curriculum
        self.workers = workers

    def work(self, context: Context) -> dict[str, Any]:
        from curate.report.write import report

        asked = {"out": self.report, "format": self.format, "curriculum": self.curriculum, "workers": self.workers}
        path = report(self.paths, **given(asked))
        self.log.info(f"{path} written")
        return {"path": str(path)}


def evidence_of(run: str) -> dict[str, Any]:
    """What `evaluate` left in a run.

    Raises
    ------
    RunError : it was not evaluated.
    """
    from curate.errors import RunError
    from curate.io.run import EVIDENCE, RunFolder, read_json

    found: dict[str, Any] | None = read_json(RunFolder(run).path / EVIDENCE)
    if found is None:
        raise RunError(f"{run}: no {EVIDENCE} there; evaluate the run first (CurateEvaluateOperator)")
    return found


def _listed(overrides: str | Sequence[str] | Mapping[str, Any] | None) -> Sequence[str] | Mapping[str, Any]:
    """Overrides, of which one may come alone out of a template; those whose parameter is null are none."""
    found = given({"overrides": overrides}).get("overrides", ())
    if isinstance(found, Mapping):
        return {key: value for key, value in found.items() if value != NULL}
    return [
        one for one in ([found] if isinstance(found, str) else found) if not one.endswith(f"={NULL}") and one != NULL
    ]


def _measured(operator: CurateOperator, evidence: Evidence) -> dict[str, Any]:
    """Evidence as an XCom, and in the log."""
    operator.log.info(evidence.sentence)
    operator.tell(evidence.warnings)
    return {
        "verdict": evidence.verdict,
        "sentence": evidence.sentence,
        "bits_per_byte": {arm.name: arm.bits_per_byte for arm in evidence.arms},
    }


def _told(operator: CurateOperator, selection: Selection) -> dict[str, Any]:
    """A selection as an XCom, and in the log."""
    operator.log.info(
        f"{selection.out}: {selection.n_selected:,} of {selection.n_documents:,} documents, "
        f"{selection.n_bytes_selected:,} bytes of text, {selection.n_tokens_selected:,} tokens, "
        f"{len(selection.shards):,} shards"
    )
    return {
        "out": str(selection.out),
        "uuid": selection.manifest["uuid"],
        "n_documents": selection.n_documents,
        "n_selected": selection.n_selected,
        "n_bytes_selected": selection.n_bytes_selected,
        "n_tokens_selected": selection.n_tokens_selected,
        "n_shards": len(selection.shards),
        "n_warnings": operator.tell(selection.warnings),
    }
