"""Scores inside Polars and DuckDB queries are those of the scorer, to the last bit."""

import numpy as np
import polars as pl
import pytest

import curate.frames.duckdb
import curate.frames.polars
from curate.errors import UsageError
from curate.scorers import Dsir

TARGETS = {"code": ["import os", "import sys as system", "np array of zeros"], "news": ["the stock market fell today"]}
RAW = [f"the {word} number {i} sat on import {i * i}, Σ é 漢字" for i in range(40) for word in ("cat", "market", "np")]
TEXTS = [*RAW, None, "", "short", *RAW[::-1], None]


@pytest.fixture(scope="module")
def model() -> Dsir:
    return Dsir(min_tokens=3, n_buckets=500).fit(target=TARGETS, raw=RAW)


@pytest.fixture(scope="module")
def separate() -> Dsir:
    return Dsir(min_tokens=3, n_buckets=500, separate_targets=True).fit(target=TARGETS, raw=RAW)


def expected(model, column=None) -> list[float | None]:
    scores = model.score([text or "" for text in TEXTS])
    scores = scores if column is None else scores[:, column]
    return [None if np.isnan(s) else s for s in scores.tolist()]


def test_null_and_short_texts_are_null_and_all_others_have_a_score(model) -> None:
    assert [score is None for score in expected(model)] == [text in (None, "", "short") for text in TEXTS]


# ---- Polars


def test_the_eager_expression_equals_the_scorer(model) -> None:
    frame = pl.DataFrame({"text": TEXTS}).with_columns(score=pl.col("text").curate.dsir(model))
    assert frame["score"].dtype == pl.Float64
    assert frame["score"].to_list() == expected(model)


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_the_lazy_expression_equals_the_scorer_and_can_be_filtered_by(model, engine, tmp_path) -> None:
    path = tmp_path / "texts.parquet"
    pl.DataFrame({"row": range(len(TEXTS)), "text": TEXTS}).write_parquet(path, row_group_size=7)
    scored = pl.scan_parquet(path).with_columns(score=pl.col("text").curate.dsir(model))
    assert scored.collect(engine=engine).sort("row")["score"].to_list() == expected(model)
    best = scored.filter(pl.col("score") > 0).sort("row").collect(engine=engine)
    assert best["row"].to_list() == [i for i, s in enumerate(expected(model)) if s is not None and s > 0]


def test_the_expression_scores_slices_and_columns_of_many_chunks(model) -> None:
    chunks = pl.concat([pl.DataFrame({"text": TEXTS[i : i + 11]}) for i in range(0, len(TEXTS), 11)], rechunk=False)
    assert chunks.n_chunks() > 5
    score = pl.col("text").curate.dsir(model)
    assert chunks.select(score)["text"].to_list() == expected(model)
    assert chunks[5:90].select(score)["text"].to_list() == expected(model)[5:90]


def test_the_expression_works_within_groups(model) -> None:
    frame = pl.DataFrame({"row": range(len(TEXTS)), "text": TEXTS}).with_columns(group=pl.col("row") % 3)
    grouped = frame.group_by("group").agg("row", score=pl.col("text").curate.dsir(model)).explode("row", "score")
    assert grouped.sort("row")["score"].to_list() == expected(model)


def test_the_expression_scores_no_rows_and_only_nulls(model) -> None:
    score = pl.col("text").curate.dsir(model)
    for texts in ([], [None, None]):
        assert pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(score)["text"].to_list() == texts


def test_the_expression_takes_a_saved_scorer(model, tmp_path) -> None:
    model.save(tmp_path)
    frame = pl.DataFrame({"text": TEXTS}).select(pl.col("text").curate.dsir(str(tmp_path)))
    assert frame["text"].to_list() == expected(model)


def test_the_expression_scores_for_a_named_target(separate) -> None:
    text = pl.col("text").curate
    frame = pl.DataFrame({"text": TEXTS}).select(
        code=text.dsir(separate, target="code"), news=text.dsir(separate, target="news")
    )
    assert frame["code"].to_list() == expected(separate, 0)
    assert frame["news"].to_list() == expected(separate, 1)
    assert frame["code"].to_list() != frame["news"].to_list()


@pytest.mark.parametrize(
    ("target", "message"), [(None, "several targets, name one"), ("cod", "no target called 'cod'")]
)
def test_a_target_that_is_missing_or_unknown_is_an_error_with_the_names(separate, target, message) -> None:
    with pytest.raises(UsageError, match=f"{message}.*code, news"):
        curate.frames.polars.scores_of(separate, pl.Series(["a"]).to_arrow(), target)
    with pytest.raises(Exception, match=message):
        pl.DataFrame({"text": ["a b c"]}).select(pl.col("text").curate.dsir(separate, target=target))


# ---- DuckDB


def scores_in_duckdb(query="SELECT row, dsir(text) FROM texts ORDER BY row", **options) -> list[float | None]:
    import duckdb

    texts = pl.DataFrame({"row": range(len(TEXTS)), "text": TEXTS}).to_arrow()
    with duckdb.connect() as con:
        con.register("texts", texts)
        curate.frames.duckdb.register(con, **options)
        return [score for _, score in con.execute(query).fetchall()]


def test_the_function_equals_the_scorer(model) -> None:
    assert scores_in_duckdb(model=model) == expected(model)


def test_the_function_equals_the_scorer_on_files_of_many_row_groups(model, tmp_path) -> None:
    import duckdb

    path = tmp_path / "texts.parquet"
    many = TEXTS * 40
    pl.DataFrame({"row": range(len(many)), "text": many}).write_parquet(path, row_group_size=999)
    with duckdb.connect() as con:
        con.execute("SET threads = 2")
        curate.frames.duckdb.register(con, model)
        found = con.execute(f"SELECT dsir(text) FROM '{path}' ORDER BY row").fetchall()
    assert [score for (score,) in found] == expected(model) * 40


def test_the_function_has_the_name_and_the_target_it_was_given(separate) -> None:
    query = "SELECT row, news_score(text) FROM texts ORDER BY row"
    assert scores_in_duckdb(query, model=separate, name="news_score", target="news") == expected(separate, 1)


def test_the_function_takes_a_saved_scorer(model, tmp_path) -> None:
    model.save(tmp_path)
    assert scores_in_duckdb(model=str(tmp_path)) == expected(model)


def test_the_function_scores_no_rows_and_constants(model) -> None:
    assert scores_in_duckdb("SELECT row, dsir(text) FROM texts WHERE row < 0", model=model) == []
    assert scores_in_duckdb("SELECT 1, dsir(NULL::VARCHAR)", model=model) == [None]
    assert scores_in_duckdb("SELECT 1, dsir('the cat sat')", model=model) == model.score(["the cat sat"]).tolist()


def test_an_unknown_target_stops_the_query_with_the_names(separate) -> None:
    import duckdb

    with pytest.raises(duckdb.Error, match="no target called 'cod'"):
        scores_in_duckdb(model=separate, target="cod")
