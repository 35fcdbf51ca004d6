"""``register(con, model)`` and then ``SELECT dsir(text) FROM 'corpus/*.parquet'``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.scorers import Scorer

if TYPE_CHECKING:
    import duckdb


def register(
    con: duckdb.DuckDBPyConnection, model: Scorer | str | Path, *, name: str | None = None, target: str | None = None
) -> None:
    """Give a connection a function ``name(text) -> DOUBLE`` that scores text with a fitted model.

    It runs on all of DuckDB's threads; null where the text is null or too short. Close the connection when
    done (``with duckdb.connect() as con``), or the interpreter complains at exit.

    Parameters
    ----------
    model : a fitted scorer, or the folder of a saved one (``out/scorer``).
    name : of the function, by default that of the method, such as ``dsir``.
    target : which one, when the model was fitted with separate targets.
    """
    from duckdb.func import FunctionNullHandling, PythonUDFType
    from duckdb.sqltypes import DOUBLE, VARCHAR

    from curate.frames.polars import fitted_scorer, scores_of

    fitted = fitted_scorer(model)

    def of(texts: Any) -> pa.Array:
        scores = scores_of(fitted, texts, target)
        return pa.array(scores, mask=np.isnan(scores))

    special = FunctionNullHandling.SPECIAL  # nulls come to the function, which answers null
    con.create_function(name or fitted.method, of, [VARCHAR], DOUBLE, type=PythonUDFType.ARROW, null_handling=special)
