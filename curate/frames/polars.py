"""``pl.col("text").curate.dsir(model)``: importing this module registers the namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.errors import UsageError, unknown
from curate.filters.statistics import STATISTICS, statistics
from curate.scorers import Dsir, Scorer, load_scorer


def fitted_scorer(model: Scorer | str | Path) -> Scorer:
    """A fitted scorer, or the one in a folder.

    Raises
    ------
    UsageError : a fusion: a document's fused score depends on all the others.
    """
    found = model if isinstance(model, Scorer) else load_scorer(model)
    if not isinstance(found, Scorer):
        raise UsageError(
            f"{model}: {found.method} scores a document by its rank among all, so it cannot be used in a query; "
            f"take one of them, such as {model}/{next(iter(found.members))}"
        )
    return found


def scores_of(model: Scorer, texts: Any, target: str | None = None) -> np.ndarray:
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
    scores, _ = model.score_documents(texts)
    return np.ascontiguousarray(scores[:, column])


@pl.api.register_expr_namespace("curate")
class CurateExpressions:
    """Scorers as expressions on a column of text; streaming and parallel."""

    def __init__(self, expression: pl.Expr) -> None:
        self._expression = expression

    def score(self, model: Scorer | str | Path, *, target: str | None = None) -> pl.Expr:
        """Scores; null where the text is null or too short.

        Parameters
        ----------
        model : a fitted scorer, or the folder of a saved one (``out/scorer``).
        target : which one, when the model was fitted with separate targets.
        """
        fitted = fitted_scorer(model)

        def of(texts: pl.Series) -> pl.Series:
            if texts.dtype not in (pl.String, pl.Null):
                raise UsageError(f"column {texts.name!r} is {texts.dtype}, not text")
            scores = scores_of(fitted, texts.to_arrow(), target)
            return pl.Series(texts.name, scores).fill_nan(None)

        return self._expression.map_batches(of, return_dtype=pl.Float64, is_elementwise=True)

    def dsir(self, model: Dsir | str | Path, *, target: str | None = None) -> pl.Expr:
        """As `score`, of a `Dsir`: log importance weights, nats."""
        return self.score(model if isinstance(model, Dsir) else Dsir.load(model), target=target)

    def statistics(self, *names: str) -> pl.Expr:
        """A struct of what filter rules are made of, see `curate.filters.STATISTICS`; all of them, or those named.

        A null text has those of an empty one.
        """
        for name in names:
            if name not in STATISTICS:
                raise unknown("statistic", name, STATISTICS)
        wanted = names or tuple(STATISTICS)

        def of(texts: pl.Series) -> pl.Series:
            if texts.dtype not in (pl.String, pl.Null):
                raise UsageError(f"column {texts.name!r} is {texts.dtype}, not text")
            return statistics(texts.cast(pl.String).to_arrow(), wanted).to_struct(texts.name)

        dtype = pl.Struct({name: pl.Int64 if STATISTICS[name].bottom is None else pl.Float64 for name in wanted})
        return self._expression.map_batches(of, return_dtype=dtype, is_elementwise=True)
