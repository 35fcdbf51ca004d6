"""Fusion: exact ranks and quantiles over files, equal to their definitions."""

from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.scorers.fusion import fuse

documents = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d'e"]),
        st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5, -3.0])),
        st.one_of(st.none(), st.floats(-9, 9)),
        st.sampled_from(["x", "y", "", "it's"]),
    ),
    min_size=1,
    max_size=25,
)


def write(folder, name, scores, *, ids=None, groups=None, cut=None, column="score"):
    """A score table in one or two parts."""
    ids = ids or [f"d{i}" for i in range(len(scores))]
    groups = groups or [""] * len(scores)
    paths = []
    cuts = [0, len(scores)] if cut is None else [0, cut, len(scores)]
    for part, (start, stop) in enumerate(pairwise(cuts)):
        table = pa.table(
            {
                "doc_id": pa.array(ids[start:stop], pa.large_string()),
                column: pa.array(scores[start:stop], pa.float64()),
                "row": pa.array(range(stop - start), pa.int64()),
                "reason": pa.array([None if s is not None else "too_short" for s in scores[start:stop]], pa.string()),
                "source": pa.array(groups[start:stop], pa.large_string()),
            }
        )
        paths.append(folder / f"{name}-{part}.parquet")
        pq.write_table(table, paths[-1])
    return paths


def read(paths):
    return pa.concat_tables([pq.read_table(path) for path in paths])


@pytest.mark.parametrize("method", ["reciprocal", "quantile"])
@pytest.mark.parametrize("group", [None, "source"])
@given(of=documents, weights=st.tuples(st.floats(0.1, 4), st.floats(0, 4)), data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fused_scores_equal_the_definition(method, group, of, weights, data, tmp_path) -> None:
    ids, first, second, groups = (list(column) for column in zip(*of, strict=True))
    cut = data.draw(st.integers(0, len(of)))
    tables = {
        "one": write(tmp_path, "one", first, ids=ids, groups=groups, cut=cut),
        "two": write(tmp_path, "two", second, ids=ids, groups=groups, cut=cut),
    }
    out = [tmp_path / "out-0.parquet", tmp_path / "out-1.parquet"]
    n = fuse(tables, out, weights=dict(zip(tables, weights, strict=True)), method=method, group=group)
    expected = reference.fused([first, second], ids, weights, method=method, groups=groups if group else None)
    found = read(out)
    assert found["score"].to_pylist() == pytest.approx(expected, abs=1e-14, nan_ok=True)
    assert n == sum(e is not None for e in expected)
    assert found["doc_id"].to_pylist() == ids
    assert found["score_one"].to_pylist() == first
    assert found["score_two"].to_pylist() == second
    assert found["source"].to_pylist() == groups


def test_the_worked_example(tmp_path) -> None:
    table = write(tmp_path, "a", [3.0, 1.0, 2.0, 2.0])
    fuse({"a": table}, [tmp_path / "out"], method="quantile")
    assert read([tmp_path / "out"])["score"].to_pylist() == [0.875, 0.125, 0.5, 0.5]


def test_the_same_documents_in_other_parts_have_the_same_scores(tmp_path) -> None:
    scores = [float(i * 7 % 11) for i in range(30)]
    found = []
    for cut in (None, 4, 29):
        tables = {name: write(tmp_path, name, of, cut=cut) for name, of in (("a", scores), ("b", scores[::-1]))}
        out = [tmp_path / f"out-{i}" for i in range(len(tables["a"]))]
        fuse(tables, out)
        found.append(read(out)["score"].to_pylist())
    assert found[0] == found[1] == found[2]


def test_a_document_that_one_scorer_has_no_score_for_has_none_and_a_reason(tmp_path) -> None:
    tables = {"a": write(tmp_path, "a", [1.0, None, 2.0]), "b": write(tmp_path, "b", [1.0, 2.0, float("nan")])}
    assert fuse(tables, [tmp_path / "out"]) == 1
    found = read([tmp_path / "out"])
    assert found["score"].to_pylist() == [2 / 61, None, None]
    assert found["reason"].to_pylist() == [None, "too_short", "no_score_b"]


def test_columns_and_the_order_of_rows_are_kept(tmp_path) -> None:
    a = write(tmp_path, "a", [1.0, 5.0, 3.0], ids=["z", "y", "x"], column="score_maths")
    b = write(tmp_path, "b", [1.0, 5.0, 3.0], ids=["z", "y", "x"])
    fuse({"a": a, "b": b}, [tmp_path / "out"], columns={"a": "score_maths"})
    found = read([tmp_path / "out"])
    assert found["doc_id"].to_pylist() == ["z", "y", "x"]
    assert found.column_names[:4] == ["doc_id", "score", "score_a", "score_b"]
    assert found["row"].to_pylist() == [0, 1, 2]


def test_tables_of_other_documents_are_refused(tmp_path) -> None:
    a = write(tmp_path, "a", [1.0, 2.0])
    with pytest.raises(InputError, match="score tables of other documents"):
        fuse({"a": a, "b": write(tmp_path, "b", [1.0])}, [tmp_path / "out"])
    with pytest.raises(InputError, match="rows of other documents"):
        fuse({"a": a, "b": write(tmp_path, "b", [1.0, 2.0], ids=["d0", "e"])}, [tmp_path / "out"])
    with pytest.raises(InputError, match="must be as many"):
        fuse({"a": a}, [tmp_path / "out", tmp_path / "more"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "reciprocl"}, "did you mean 'reciprocal'"),
        ({"weights": {"b": 1}}, "no scorer called 'b'"),
        ({"weights": {"a": -1}}, "non-negative"),
        ({"weights": {"a": 0}}, "not all 0"),
        ({"group": "sorce"}, "did you mean 'source'"),
        ({"columns": {"c": "x"}}, "no scorer called 'c'"),
        ({"rank_constant": -1}, "must be 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, tmp_path) -> None:
    with pytest.raises(UsageError, match=message):
        fuse({"a": write(tmp_path, "a", [1.0])}, [tmp_path / "out"], **options)
