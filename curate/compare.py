"""Compare corpora: is a selection nearer to a target than the raw corpus it came from?"""

from __future__ import annotations

from curate.engines import LocalEngine
from curate.errors import UsageError
from curate.io.corpus import scan
from curate.io.run import of_run
from curate.io.targets import Paths, listed_paths
from curate.progress import Progress
from curate.survey.comparison import Comparison, look_at
from curate.survey.comparison import compare as compare_corners
from curate.survey.corpus import SAMPLE_BYTES


def compare(
    target: Paths,
    selected: Paths,
    *,
    raw: Paths | None = None,
    text_column: str | None = None,
    target_text_column: str | None = None,
    id_column: str | None = None,
    on_bad_row: str | None = None,
    sample_bytes: float = SAMPLE_BYTES,
    seed: int = 0,
    workers: int | None = None,
    progress: bool | None = False,
) -> Comparison:
    """Compare a selection, and the raw corpus where it is given, with a target by every metric.

    Parameters
    ----------
    target : examples of what is wanted. selected : files, or the folder of a run; then ``raw`` is by default what it
        was made from. raw : files to compare with.
    text_column, target_text_column, id_column, on_bad_row : as of `select`; by default those of the run, if it is one.
    sample_bytes : text of each corpus that is looked at, whole documents by a hash of their ids; up to twice as much.
    seed : of resampling and permutations.

    Raises
    ------
    InputError : a corpus without text. RunError : the raw files of a run are gone.
    """
    recipe, selected, raw = of_run(selected, raw)
    column = text_column or recipe.get("text_column", "text")
    of_target = target_text_column or text_column or recipe.get("target_text_column") or column
    given = {"target": target, "selected": selected} | ({} if raw is None else {"raw": raw})
    corpora = {name: listed_paths(paths) for name, paths in given.items()}
    if not all(corpora.values()):
        raise UsageError("nothing to compare: name at least one file")
    shown = Progress(progress)
    corners = {}
    with LocalEngine(workers) as engine:
        for name, paths in corpora.items():
            corpus = scan(
                paths,
                text_column=of_target if name == "target" else column,
                id_column=id_column or recipe.get("id_column", "id"),
                on_bad_row=on_bad_row or recipe.get("on_bad_row", "raise"),
                over=engine.map,
            )
            corners[name] = look_at(corpus, name, engine, shown, sample_bytes=sample_bytes)
    return compare_corners(corners["target"], corners["selected"], corners.get("raw"), seed=seed)
