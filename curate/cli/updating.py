"""`curate select --update`: what goes with it, and what is fixed by the run that is updated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from curate.cli.options import bars, print_json
from curate.errors import UsageError

GO_WITH_IT = ("raw", "update", "rehash", "dry_run", "workers", "memory_limit", "max_removed", "lineage", "quiet",
              "as_json")  # fmt: skip


def goes_with_update(name: str) -> bool:
    """Whether an option may be given beside --update: resources and engines may, what the selection is may not."""
    return name in GO_WITH_IT or name.startswith(("engine", "ray"))


@dataclass(frozen=True)
class Update:
    """What the command line asks of an update."""

    out: str
    raw: tuple[str, ...]
    rehash: bool

    @classmethod
    def asked(cls, context: click.Context) -> Update | None:
        """From the parameters of a command; None where none is asked for.

        Raises
        ------
        UsageError : options that are fixed by the run, or that only an update has.
        click.MissingParameter : neither an update nor what a selection needs.
        """
        given = context.params
        if given["update"] is None:
            if given["rehash"]:
                raise UsageError("--rehash is of --update DIR: a selection reads all of its files anyway")
            for parameter in context.command.params:
                if parameter.name in ("raw", "out") and not given[parameter.name]:
                    hint = "'RAW...'" if parameter.name == "raw" else None
                    raise click.MissingParameter(ctx=context, param=parameter, param_hint=hint)
            return None
        for parameter in context.command.params:
            name = parameter.name or ""
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT and not goes_with_update(name):
                option = parameter.opts[0]
                raise UsageError(
                    f"{option}: fixed by the run in {given['update']}, which --update goes on with; leave {option} "
                    "out, or select into another folder (another draw of the same scores: curate draw)"
                )
        return cls(given["update"], given["raw"], given["rehash"])

    def show_pending(self, workers: int | None, as_json: bool) -> None:
        """Say what is new."""
        from curate.report.terminal import size
        from curate.selection.update import pending

        found = pending(self.out, self.raw, rehash=self.rehash, workers=workers)
        if as_json:
            new = [{"path": source.path, "name": source.name} for source in found.new]
            numbers = {"n_known_files": len(found.known), "n_new_files": len(new), "n_new_bytes": found.n_new_bytes}
            print_json({"out": self.out, **numbers, "new": new})
            return
        come = f"{len(found.new):,} new file{'s' * (len(found.new) != 1)}, {size(found.n_new_bytes)} on disk"
        click.echo(f"{come}, beside the {len(found.known):,} that {self.out} is made of; nothing was written")

    def run(self, quiet: bool, **resources: Any) -> Any:
        """Do it; returns the selection."""
        from curate.selection.update import update

        return update(self.out, self.raw, rehash=self.rehash, progress=bars(quiet), **resources)
