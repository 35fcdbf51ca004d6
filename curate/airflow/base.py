"""What all operators do alike: tell errors that a retry mends from those it does not, and end when they are told to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.sdk import BaseOperator, Context

try:
    from airflow.sdk import SkipMixin
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:  # Airflow 3.0
    from airflow.exceptions import AirflowFailException
    from airflow.providers.standard.utils.skipmixin import SkipMixin

__all__ = ["AirflowFailException", "Context", "CurateOperator", "SkipMixin"]


class CurateOperator(BaseOperator):
    """A library call as a task. What is finished is kept: a retry goes on from there.

    An error that would come again (a wrong option, a damaged file, a folder of another recipe, nothing selected) fails
    the task without retries. Any other (a full disk, a store that does not answer, a folder that another run is
    writing, a killed process) is retried as often as the task allows.
    """

    ui_color = "#e3efdc"
    _at_work = False

    def work(self, context: Context) -> Any:
        """The call; what it returns is the task's XCom: paths and counts, never data."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        from curate.errors import BusyError, CurateError, ResourceError, UnreachableError

        self._at_work = True
        try:
            return self.work(context)
        except (BusyError, ResourceError, UnreachableError):
            raise
        except CurateError as error:
            raise AirflowFailException(str(error)) from error
        finally:
            self._at_work = False

    def on_kill(self) -> None:
        """End at the next batch. Airflow calls this on SIGTERM, and goes on unless something is raised."""
        if self._at_work:
            self.log.info("Told to stop; what is finished is kept, and a retry goes on from there")
            raise KeyboardInterrupt

    def tell(self, warnings: Iterable[str]) -> int:
        """Log the warnings of a result; how many there were."""
        told = list(warnings)
        for text in told:
            self.log.warning(text)
        return len(told)
