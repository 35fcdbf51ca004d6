"""OpenLineage events of a selection, on request: what was read, what came of it, and whether it ended well.

Where they go is the client's own configuration: OPENLINEAGE_URL, or a file that OPENLINEAGE_CONFIG names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from curate import __version__
from curate._optional import check_installed, require
from curate.io.credentials import without_credentials
from curate.io.paths import is_url
from curate.logs import event
from curate.selection.asked import ScoringSpec

NAMESPACE, PARENT = "OPENLINEAGE_NAMESPACE", "OPENLINEAGE_PARENT_ID"  # as other clients call them
PRODUCER = f"curate/{__version__}"

Ended = Callable[[Mapping[str, Any]], None]


@contextmanager
def lineage(wanted: bool, job: ScoringSpec, name: str, out: str | os.PathLike[str]) -> Iterator[Ended]:
    """Tell of the begin and the end of a selection; the block calls what it gets with the manifest.

    An event that cannot be delivered is logged, and the selection goes on.

    Raises
    ------
    MissingExtraError : the client is not installed.
    """
    if not wanted:
        yield lambda manifest: None
        return
    check_installed("openlineage", extra="lineage", purpose="--lineage")
    told = _Run(job, name, os.fspath(out))
    told.emit("START")
    try:
        yield lambda manifest: told.emit("COMPLETE", manifest=manifest)
    except BaseException as error:
        told.emit("FAIL", error=error)
        raise


class _Run:
    """One run, and the client that tells of it."""

    def __init__(self, job: ScoringSpec, name: str, out: str) -> None:
        self._client_of = require("openlineage.client", extra="lineage", purpose="--lineage")
        self._events: Any = require("openlineage.client.event_v2", extra="lineage", purpose="--lineage")
        self._facets: Any = require("openlineage.client.facet_v2", extra="lineage", purpose="--lineage")
        uuid: Any = require("openlineage.client.uuid", extra="lineage", purpose="--lineage")
        self._id, self._job_name, self._out = str(uuid.generate_new_uuid()), f"select.{name}", out
        self._inputs = [*job.raw, *(path for paths in job.target.values() for path in paths)]
        self._parent = self._parent_facet()
        self._client: Any = None

    def emit(
        self, state: str, *, manifest: Mapping[str, Any] | None = None, error: BaseException | None = None
    ) -> None:
        """Send one event, or log why it could not be made or sent."""
        try:
            of_run = self._event(state, manifest, error)
            self._client = self._client or self._client_of.OpenLineageClient()
            self._client.emit(of_run)
        except Exception as failure:  # whatever it is, the selection is worth more than its event
            _failed(state, f"{type(failure).__name__}: {failure}")

    def _event(self, state: str, manifest: Mapping[str, Any] | None, error: BaseException | None) -> Any:
        of = self._events
        run = of.Run(self._id, self._run_facets(error))
        job = of.Job(os.environ.get(NAMESPACE, "curate"), self._job_name, self._job_facets())
        inputs = [of.InputDataset(*_named(path)) for path in dict.fromkeys(self._inputs)]
        now = datetime.now(UTC).isoformat()
        return of.RunEvent(eventTime=now, run=run, job=job, eventType=of.RunState[state], inputs=inputs,
                           outputs=[self._output(manifest)], producer=PRODUCER)  # fmt: skip

    def _run_facets(self, error: BaseException | None) -> dict[str, Any]:
        of = self._facets
        facets = {"processing_engine": of.processing_engine_run.ProcessingEngineRunFacet(__version__, "curate")}
        if error is not None:
            facets["errorMessage"] = of.error_message_run.ErrorMessageRunFacet(str(error), "PYTHON")
        if self._parent is not None:
            facets["parent"] = self._parent
        return facets

    def _parent_facet(self) -> Any:
        """The run that this one is part of; None where none is named, or not as NAMESPACE/JOB/UUID."""
        named = os.environ.get(PARENT)
        if not named:
            return None
        of = self._facets.parent_run
        try:
            namespace, name, run = named.rsplit("/", 2)
            return of.ParentRunFacet(of.Run(run), of.Job(namespace, name))
        except Exception as failure:  # such as a run that is no UUID
            _failed("START", f"{PARENT} {named!r}: must be NAMESPACE/JOB/UUID, the parent is left out ({failure})")
            return None

    def _job_facets(self) -> dict[str, Any]:
        kind = self._facets.job_type_job.JobTypeJobFacet(processingType="BATCH", integration="CURATE", jobType="SELECT")
        return {"jobType": kind}

    def _output(self, manifest: Mapping[str, Any] | None) -> Any:
        namespace, name = _named(f"{self._out.rstrip('/')}/shards")
        if manifest is None:
            return self._events.OutputDataset(namespace, name)
        of, shards = self._facets, manifest["shards"]
        size = of.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=sum(s["rows"] for s in shards), size=sum(s["bytes"] for s in shards), fileCount=len(shards)
        )
        version = of.dataset_version_dataset.DatasetVersionDatasetFacet(manifest["uuid"])
        return self._events.OutputDataset(
            namespace, name, facets={"version": version}, outputFacets={"outputStatistics": size}
        )


def _failed(state: str, error: str) -> None:
    event("lineage.failed", level="warning", state=state, error=error)


def _named(path: str) -> tuple[str, str]:
    """Namespace and name of a dataset, as OpenLineage has them for files and object stores."""
    if not is_url(path):
        return "file", os.path.abspath(path.removeprefix("file://"))
    scheme, _, rest = without_credentials(path).partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key or "/"
