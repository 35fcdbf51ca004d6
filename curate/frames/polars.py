"""``pl.col("text").curate.dsir(model)``: importing this module registers the namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.errors import UsageError
from curate.scorers import Dsir


def scores_of(model: Dsir, texts: Any, target: str | None = None) -> np.ndarray:
    """float64[n_docs] of Arrow strings: the score for one target; nan for a null or a text that is too short.

    Raises
    ------
    UsageError : the model has several targets and none is named, or not the one that is.
    """
    column = 0
    if target is not None:
        if target not in model.target_names_:
            raise UsageError(f"no target called {target!r} (there are: {', '.join(model.target_names_)})")
        column = model.target_names_.index(target)
    elif model.separate_targets and len(model.target_names_) > 1:
        raise UsageError(f"the model has several targets, name one: {', '.join(model.target_names_)}")
    scores, _ = model.score_stream(model.features.stream(texts))
    return np.ascontiguousarray(scores[:, column])


@pl.api.register_expr_namespace("curate")
class CurateExpressions:
    """Scorers as expressions on a column of text; streaming and parallel."""

    def __init__(self, expression: pl.Expr) -> None:
        self._expression = expression

    def dsir(self, model: Dsir | str | Path, *, target: str | None = None) -> pl.Expr:
        """Log importance weights, nats; null where the text is null or too short.

        Parameters
        ----------
        model : a fitted `Dsir`, or the folder of a saved one (``out/scorer``).
        target : which one, when the model was fitted with separate targets.
        """
        fitted = model if isinstance(model, Dsir) else Dsir.load(model)

        def of(texts: pl.Series) -> pl.Series:
            if texts.dtype not in (pl.String, pl.Null):
                raise UsageError(f"column {texts.name!r} is {texts.dtype}, not text")
            scores = scores_of(fitted, texts.to_arrow(), target)
            return pl.Series(texts.name, scores).fill_nan(None)

        return self._expression.map_batches(of, return_dtype=pl.Float64, is_elementwise=True)
