"""Fusion: exact ranks and quantiles over files, equal to their definitions."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import InputError, UsageError
from curate.scorers import Dsir, Fusion, Primed, load_scorer, scorer
from curate.steps.documents import score_schema
from curate.steps.fuse import FuseJob, fuse_scores

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


def write(folder, first, second, *, ids=None, groups=None, cut=None):
    """A table of the scores of two scorers, in one or two parts."""
    ids = ids or [f"d{i}" for i in range(len(first))]
    groups = groups or [""] * len(first)
    schema = score_schema(["score_dsir", "score_primed"], ["source"])
    paths = []
    for part, (start, stop) in enumerate(pairwise([0, len(first)] if cut is None else [0, cut, len(first)])):
        missing = [a is None and b is None for a, b in zip(first, second, strict=True)][start:stop]
        columns = {
            "doc_id": ids[start:stop],
            "score_dsir": first[start:stop],
            "score_primed": second[start:stop],
            "n_tokens": [30] * (stop - start),
            "n_bytes": [100] * (stop - start),
            "row": list(range(stop - start)),
            "reason": ["too_short" if m else None for m in missing],
            "source": groups[start:stop],
        }
        arrays = {name: pa.array(of, schema.field(name).type) for name, of in columns.items()}
        arrays["path"] = pa.array(["it's.parquet"] * (stop - start), pa.large_string()).dictionary_encode()
        paths.append(folder / f"scores-{part}.parquet")
        pq.write_table(pa.table({name: arrays[name] for name in schema.names}, schema=schema), paths[-1])
    return paths


def fuse(folder, parts, **options):
    model = Fusion({"dsir": Dsir(), "primed": Primed()}, **options)
    out = [folder / f"fused-{part}.parquet" for part in range(len(parts))]
    for path in out:
        path.unlink(missing_ok=True)
    fuse_scores(FuseJob(model, parts, out, ["source"], "k", folder / "scratch", 500_000_000, workers=2))
    assert not (folder / "scratch").exists()
    return pa.concat_tables([pq.read_table(path) for path in out])


@pytest.mark.parametrize("fusion", ["reciprocal", "quantile"])
@pytest.mark.parametrize("group", [None, "source"])
@given(of=documents, weights=st.tuples(st.floats(0.1, 4), st.floats(0, 4)), data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fused_scores_equal_the_definition(fusion, group, of, weights, data, tmp_path) -> None:
    ids, first, second, groups = (list(column) for column in zip(*of, strict=True))
    parts = write(tmp_path, first, second, ids=ids, groups=groups, cut=data.draw(st.integers(0, len(of))))
    named = dict(zip(("dsir", "primed"), weights, strict=True))
    found = fuse(tmp_path, parts, weights=named, fusion=fusion, group=group)
    expected = reference.fused([first, second], ids, weights, method=fusion, groups=groups if group else None)
    assert found["score"].to_pylist() == pytest.approx(expected, abs=1e-14, nan_ok=True)
    assert found["doc_id"].to_pylist() == ids
    assert found["score_dsir"].to_pylist() == first
    assert found["score_primed"].to_pylist() == second
    assert found["source"].to_pylist() == groups


def test_the_worked_example(tmp_path) -> None:
    scores = [3.0, 1.0, 2.0, 2.0]
    found = fuse(tmp_path, write(tmp_path, scores, scores), fusion="quantile")
    assert found["score"].to_pylist() == [0.875, 0.125, 0.5, 0.5]


@pytest.mark.parametrize("fusion", ["reciprocal", "quantile"])
def test_the_same_documents_in_other_parts_have_the_same_scores(tmp_path, fusion) -> None:
    scores = [float(i * 7 % 11) for i in range(30)]
    found = [
        fuse(tmp_path, write(tmp_path, scores, scores[::-1], cut=cut), fusion=fusion)["score"].to_pylist()
        for cut in (None, 4, 29)
    ]
    assert found[0] == found[1] == found[2]


def test_a_document_that_one_scorer_has_no_score_for_has_none_and_a_reason(tmp_path) -> None:
    parts = write(tmp_path, [1.0, None, 2.0], [1.0, None, None])
    found = fuse(tmp_path, parts, fusion="reciprocal")
    assert found["score"].to_pylist() == [2 / 61, None, None]
    assert found["reason"].to_pylist() == [None, "too_short", "no_score_primed"]


def test_the_table_is_a_score_table_with_each_score_beside_the_fused_one(tmp_path) -> None:
    found = fuse(tmp_path, write(tmp_path, [1.0, 5.0], [1.0, 5.0], ids=["z", "y"]))
    assert found.schema.names == score_schema(["score", "score_dsir", "score_primed"], ["source"]).names
    assert found["doc_id"].to_pylist() == ["z", "y"]
    assert found["path"].to_pylist() == ["it's.parquet"] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": "reciprocl"}, "did you mean 'reciprocal'"),
        ({"dsri.n": 1}, "no scorer called 'dsri'"),
        ({"dsir.m": 1}, "no setting of dsir called 'm'"),
        ({"level": 1}, "no setting of dsir.primed called 'level' .there are: .*primed.level"),
        ({"dsir.weight": -1}, "non-negative"),
        ({"dsir.weight": 0, "primed.weight": 0}, "not all 0"),
        ({"dsir.weight": "much"}, "must be a number"),
        ({"rank_constant": -1}, "must be 0 or more"),
        ({"dsir.separate_targets": True}, "all targets pooled"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        scorer("dsir+primed", **settings)


def test_a_fusion_is_named_by_its_methods() -> None:
    with pytest.raises(UsageError, match="a scorer is named twice"):
        scorer("dsir+dsir")
    with pytest.raises(UsageError, match="no scorer called 'dsri'; did you mean 'dsir'"):
        scorer("primed+dsri")
    made = scorer("dsir+primed", **{"min_tokens": 3, "dsir.min_tokens": 7})
    assert [m.min_tokens for m in made.members.values()] == [7, 3]
    assert scorer("dsir+primed", **made.settings()).settings() == made.settings()


def test_what_is_saved_has_the_same_scorers(tmp_path) -> None:
    made = scorer("dsir+primed", min_tokens=0)
    assert isinstance(made, Fusion)
    for member in made.members.values():
        member.fit(target=["one two three"], raw=["four five six", "one four five"])
    made.save(tmp_path)
    again = load_scorer(tmp_path)
    texts = pa.array(["one five", "two three three"])
    assert again.score_documents(texts)[0].tolist() == made.score_documents(texts)[0].tolist()
    assert again.settings() == made.settings()
    (tmp_path / "dsir" / "scorer.json").unlink()
    with pytest.raises(InputError, match="not a saved scorer"):
        load_scorer(tmp_path)


@pytest.mark.parametrize("fusion", ["reciprocal", "quantile"])
@pytest.mark.parametrize("n_values", [7, 10_000])
def test_ranks_go_on_from_one_batch_to_the_next(tmp_path, monkeypatch, fusion, n_values) -> None:
    monkeypatch.setattr("curate.steps.sorting.ROWS_AT_ONCE", 2_048)
    chance = np.random.default_rng(0)
    n = 9_000
    scores = [chance.integers(0, n_values, n).astype(float) for _ in range(2)]
    groups = np.array(["a", "b", "c"])[chance.choice(3, n, p=[0.1, 0.6, 0.3])]
    ids = [f"d{i:05d}" for i in range(n)]
    parts = write(tmp_path, scores[0].tolist(), scores[1].tolist(), ids=ids, groups=groups.tolist(), cut=4_000)
    found = np.array(fuse(tmp_path, parts, fusion=fusion, group="source")["score"])
    expected = np.zeros(n)
    for of in scores:
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            if fusion == "reciprocal":
                order = np.lexsort((rows, -of[rows]))
                expected[rows[order]] += 1 / (60 + np.arange(1, len(rows) + 1))
            else:
                _, at, counts = np.unique(of[rows], return_inverse=True, return_counts=True)
                expected[rows] += (np.cumsum(counts) - counts / 2)[at] / len(rows) / 2
    assert found == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("column", ["Row", "Path", "PART", "file_row_number", "grouped", "s0", "total", "a\"b'; --"])
def test_a_group_may_have_any_name_that_is_free(tmp_path, column) -> None:
    from corpora import rows, select, sharded

    raw = sharded(tmp_path / "raw", [{**row, column: row["source"]} for row in rows(60)], 2, "parquet")
    options = {"method": "dsir+primed", "budget": 20, "name": "x"}
    wanted = select(raw, tmp_path / "wanted", settings={"group": "source"}, **options)
    found = select(raw, tmp_path / "out", settings={"group": column}, **options)
    assert [s.read_bytes() for s in found.shards] == [s.read_bytes() for s in wanted.shards]
    for taken in ("score_primed", "row"):
        raw = sharded(tmp_path / taken, [{**row, taken: row["source"]} for row in rows(60)], 2, "parquet")
        with pytest.raises(UsageError, match=f"column {taken!r}: that name is taken"):
            select(raw, tmp_path / "out-taken", settings={"group": taken}, **options)
