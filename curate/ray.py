"""For those who have a Ray Dataset already: ``dataset.map_batches(curate.ray.map_batches(model))``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import InputError
from curate.frames.polars import fitted_scorer, scores_of
from curate.scorers import Scorer


def map_batches(
    model: Scorer | str | Path, *, text_column: str = "text", column: str = "score", target: str | None = None
) -> _Scores:
    """A function for ``ray.data.Dataset.map_batches`` that adds a column of scores; the pipeline's, to the last bit.

    Null (nan in batches of NumPy arrays) where a text is null or too short. Batches of Arrow tables
    (``batch_format="pyarrow"``) are the quickest; dictionaries of NumPy arrays and Pandas frames will do.

    Parameters
    ----------
    model : a fitted scorer, or the folder of a saved one (``out/scorer``), which each worker then loads once.
    text_column, column : of the texts, and of the scores.
    target : which one, when the model was fitted with separate targets.

    Raises
    ------
    UsageError : scores of the model depend on all documents (a fusion). InputError : no scorer is in the folder.
    """
    fitted_scorer(model)  # what is wrong with it is said here, not by a worker
    return _Scores(model if isinstance(model, Scorer) else str(model), text_column, column, target)


class _Scores:
    """Adds scores to batches of any format that Ray has."""

    def __init__(self, model: Scorer | str, text_column: str, column: str, target: str | None) -> None:
        self._model, self._text_column, self._column, self._target = model, text_column, column, target
        self.__name__ = "curate_scores"  # Ray calls the operator by it

    def __call__(self, batch: Any) -> Any:
        if self._text_column not in (batch.column_names if isinstance(batch, pa.Table) else batch):
            raise InputError(f"the dataset has no column {self._text_column!r}; pass text_column")
        scores = scores_of(self._fitted(), _strings(batch[self._text_column]), self._target)
        if isinstance(batch, pa.Table):
            where = batch.column_names.index(self._column) if self._column in batch.column_names else None
            kept = batch if where is None else batch.remove_column(where)
            return kept.append_column(self._column, pa.array(scores, mask=np.isnan(scores)))
        if isinstance(batch, dict):
            return batch | {self._column: scores}
        return batch.assign(**{self._column: scores})

    def _fitted(self) -> Scorer:
        return self._model if isinstance(self._model, Scorer) else _loaded(self._model)


@lru_cache(maxsize=2)
def _loaded(folder: str) -> Scorer:
    return fitted_scorer(folder)


def _strings(column: Any) -> pa.Array:
    """Texts as one Arrow array."""
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return pa.array(column, pa.large_string(), from_pandas=True)
