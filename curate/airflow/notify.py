"""A notifier that says what became of a selection; where to is for a subclass."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk import BaseNotifier, Context


class SelectionNotifier(BaseNotifier):
    """Puts what a run selected, and the verdict on it, into the log; for ``on_success_callback`` and its like.

    Send it elsewhere with a subclass that has another `send`.

    Parameters
    ----------
    run : folder of the run, a template.
    """

    template_fields: Sequence[str] = ("run",)

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run

    def notify(self, context: Context) -> None:
        self.send(message(self.run))

    def send(self, text: str) -> None:
        """Where it goes to."""
        self.log.info(text)


def message(run: str) -> str:
    """A run in a line or two: what was selected, and the verdict where there is one."""
    from curate.io.run import EVIDENCE, RunFolder, read_json

    folder = RunFolder(run)
    manifest, evidence = folder.manifest, read_json(folder.path / EVIDENCE)
    if manifest is None:
        return f"{run}: no finished run"
    stats = manifest["stats"]
    text = f"{manifest['name']}: {stats['n_selected']:,} of {stats['n_documents']:,} documents selected in {run}"
    return text if evidence is None else f"{text}\n{evidence['sentence']}"
