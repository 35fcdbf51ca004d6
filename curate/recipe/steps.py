"""The steps of a recipe in a row: select, evaluate, curriculum, report; what is done and unchanged is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import __version__
from curate.io.corpus import hash_file
from curate.io.paths import find, folder_path
from curate.io.run import EVIDENCE, STEPS, digest, read_json, write_json
from curate.io.targets import listed_paths
from curate.recipe.check import blaming
from curate.recipe.keys import NOT_PASSED

if TYPE_CHECKING:
    from curate.evidence import Evidence
    from curate.recipe import Recipe
    from curate.selection import Selection


@dataclass(frozen=True)
class Curated:
    """What came of a recipe, and where it is; None for steps that it does not have.

    ``curriculum`` : `curriculum.course.Course`, `curriculum.online.Updated` or `curriculum.mixing.Mixture`, whose
    files are in the folder ``curriculum_out``. ``seconds`` : by step; those that were done before took none.
    """

    recipe: Recipe
    out: Path
    selection: Selection | None = None
    evidence: Evidence | None = None
    curriculum: Any = None
    curriculum_out: Path | None = None
    report: Path | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the verdict is the one that ``evaluate.fail_unless`` asks for; True when it asks for none."""
        wanted = self.recipe.section("evaluate").get("fail_unless")
        return wanted is None or self.evidence is None or self.evidence.verdict == wanted

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        from dataclasses import asdict

        found: dict[str, Any] = {"out": str(self.out), "digest": self.recipe.digest, "seconds": dict(self.seconds)}
        if self.selection is not None:
            found["selection"] = dict(self.selection.manifest)
        if self.evidence is not None:
            found["evidence"] = self.evidence.as_dict()
        if self.curriculum is not None:
            of = self.curriculum
            about = of.as_dict() if hasattr(of, "as_dict") else None
            if about is None and hasattr(of, "curriculum"):
                about = dict(zip(of.curriculum.names.to_pylist(), of.curriculum.weights.tolist(), strict=True))
            found["curriculum"] = {"out": str(self.curriculum_out), "made": asdict(of) if about is None else about}
        if self.report is not None:
            found["report"] = str(self.report)
        return found


def run(recipe: Recipe, progress: bool | None, overwrite: bool) -> Curated:
    """Do all steps of a recipe; see `Recipe.run`."""
    recipe.check()
    running = _Running(recipe, progress, overwrite)
    found: dict[str, Any] = {}
    if recipe.selects:
        found["selection"] = running.select()
    for name, step in AFTER.items():
        if name in recipe.values:
            with blaming(recipe, name, "run"), running.timed(name):
                found[RESULT.get(name, name)] = step(running)
    if "curriculum" in found:
        found["curriculum_out"] = curriculum_folder(recipe)
    return Curated(recipe, recipe.out, **found, seconds=running.seconds)


def curriculum_folder(recipe: Recipe) -> Path:
    """Where the curriculum goes: beside a selection it has a folder of its own."""
    ((_, asked),) = recipe.section("curriculum").items()
    return folder_path(asked.get("out") or (recipe.out / "curriculum" if recipe.selects else recipe.out))


class _Running:
    """One run of a recipe, and what earlier ones have left."""

    def __init__(self, recipe: Recipe, progress: bool | None, overwrite: bool) -> None:
        self.recipe, self.progress, self.overwrite = recipe, progress, overwrite
        self.out = recipe.out
        self.seconds: dict[str, float] = {}
        self.manifest: Mapping[str, Any] = {}

    def select(self) -> Selection:
        from curate.selection import select

        recipe = self.recipe
        with blaming(recipe, "inputs", "score", "draw", "write", "run"):
            done = select(
                **recipe.select_arguments(),
                steps=recipe.steps or None,
                progress=self.progress,
                overwrite=self.overwrite,
            )
        self.manifest = done.manifest
        if done.seconds:
            self.seconds["select"] = round(sum(done.seconds.values()), 3)
        return done

    def of_run(self, *names: str) -> dict[str, Any]:
        """Some of how it runs, for the arguments of a step."""
        given = self.recipe.section("run")
        return {name: given[name] for name in names if name in given}

    # ---- what was done before

    def key(self, name: str, *more: Any) -> str:
        """What the result of a step depends on."""
        asked = {k: v for k, v in self.recipe.section(name).items() if k not in NOT_PASSED.get(name, ())}
        return digest([__version__, name, asked, self.manifest["uuid"], self.manifest["recipe_sha256"], *more])

    def is_done(self, name: str, key: str, path: Path) -> bool:
        """Whether a file is what a step with this key wrote."""
        before = (read_json(self.out / STEPS) or {}).get(name, {})
        return path.is_file() and before == {"key": key, "sha256": hash_file(str(path))[1]}

    def did(self, name: str, key: str, path: Path) -> None:
        """Remember that it did."""
        mine = {"key": key, "sha256": hash_file(str(path))[1]}
        write_json(self.out / STEPS, (read_json(self.out / STEPS) or {}) | {name: mine})

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds.setdefault(name, round(time.perf_counter() - start, 3))


def _evaluate(running: _Running) -> Evidence:
    from curate.evidence import Evidence, evaluate

    asked = {k: v for k, v in running.recipe.section("evaluate").items() if k not in NOT_PASSED["evaluate"]}
    path = running.out / EVIDENCE
    key = running.key("evaluate", _contents(asked.get("heldout")))
    if running.is_done("evaluate", key, path):
        running.seconds["evaluate"] = 0.0
        return Evidence.from_dict(read_json(path))
    found = evaluate(running.out, **asked, **running.of_run("workers", "memory_limit"), progress=running.progress)
    running.did("evaluate", key, path)
    return found


def _contents(heldout: Any) -> list[str]:
    """The files of held-out text by what is in them."""
    listed = [heldout] if isinstance(heldout, list) else list((heldout or {}).values())
    return [hash_file(source.path)[1] for paths in listed for source in find(listed_paths(paths))[0]]


def _curriculum(running: _Running) -> Any:
    """All of these leave what is there and unchanged as it is, by themselves."""
    from curate.curriculum.course import offline
    from curate.curriculum.mixing import mix
    from curate.curriculum.online import gaussian, ucb

    functions: dict[str, Callable[..., Any]] = {"offline": offline, "gaussian": gaussian, "ucb": ucb, "mix": mix}
    recipe = running.recipe
    (kind,) = recipe.section("curriculum")
    arguments = curriculum_arguments(recipe) | {"out": curriculum_folder(recipe), "overwrite": running.overwrite}
    if kind in ("offline", "mix"):
        names = ("workers", "memory_limit") if kind == "offline" else ("workers",)
        arguments |= running.of_run(*names) | {"progress": running.progress}
    return functions[kind](**arguments)


def curriculum_arguments(recipe: Recipe) -> dict[str, Any]:
    """What is asked of a curriculum; one over documents is by default over those that were selected."""
    ((kind, asked),) = recipe.section("curriculum").items()
    found = dict(asked)
    if not recipe.selects or "raw" in found:
        return found
    if kind == "offline":
        inputs = recipe.section("inputs")
        columns = {name: inputs[name] for name in ("text_column", "id_column") if name in inputs}
        return {"raw": [str(recipe.out / "shards")], **columns, **found}
    if kind == "mix" and not found.keys() & {"proxies", "curriculum"}:
        return {"raw": [str(recipe.out)], **found}
    return found


def _report(running: _Running) -> Path:
    from curate.report.write import report
    from curate.sampling.budget import parse_bytes

    asked = dict(running.recipe.section("report"))
    path = report_file(running.recipe)
    folder = curriculum_folder(running.recipe) if "curriculum" in running.recipe.values else None
    shown = [running.out / EVIDENCE, *([] if folder is None else [folder / "curriculum.parquet"])]
    key = running.key("report", [hash_file(str(p))[1] if p.is_file() else None for p in shown])
    if running.is_done("report", key, path):
        running.seconds["report"] = 0.0
        return path
    sample: dict[str, Any] = {"sample_bytes": parse_bytes(asked["sample"])} if "sample" in asked else {}
    report(
        running.out,
        out=path,
        format=asked.get("format", "html"),
        curriculum=folder,
        **sample,
        **running.of_run("workers"),
        progress=running.progress,
    )
    running.did("report", key, path)
    return path


def report_file(recipe: Recipe) -> Path:
    """The file that the report goes to."""
    asked = recipe.section("report")
    return folder_path(asked.get("out") or recipe.out / f"report.{asked.get('format', 'html')}")


RESULT = {"evaluate": "evidence"}  # the attribute of `Curated`, where it is not that of the step
AFTER: dict[str, Callable[[_Running], Any]] = {"evaluate": _evaluate, "curriculum": _curriculum, "report": _report}
