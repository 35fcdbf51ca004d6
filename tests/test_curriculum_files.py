"""The files of a curriculum: what is written is read, and what makes no sense is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CorruptError, InputError
from curate.io.curriculum import Curriculum, read_curriculum, write_curriculum

NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
WEIGHTS = st.dictionaries(NAMES, st.floats(1e-6, 1e6), min_size=1, max_size=6)


@given(st.lists(WEIGHTS, min_size=1, max_size=3))
def test_what_is_written_is_read(tmp_path_factory, stages):
    folder = tmp_path_factory.mktemp("c")
    made = Curriculum.of(stages, method="mix", column="source")
    write_curriculum(folder, made)
    found = read_curriculum(folder)
    assert [found.stage(k) for k in range(found.n_stages)] == [made.stage(k) for k in range(len(stages))]
    assert found.about == {"method": "mix", "column": "source"}
    for k in range(len(stages)):
        assert sum(found.stage(k).values()) == pytest.approx(1)
        name = "weights.json" if len(stages) == 1 else f"weights-stage-{k}.json"
        assert json.loads((folder / name).read_text()) == found.stage(k)


def test_more_numbers_travel_with_the_weights(tmp_path):
    made = Curriculum("doc_id", pa.array(["a", "b"]), [0, 0], [1, 3], {"pass_rate": np.array([0.5, np.nan])})
    write_curriculum(tmp_path, made)
    found = read_curriculum(tmp_path / "curriculum.parquet")
    assert found.stage() == {"a": 0.25, "b": 0.75}
    np.testing.assert_array_equal(found.columns["pass_rate"], [0.5, np.nan])
    assert not (tmp_path / "weights.json").exists()  # of documents there may be millions


def test_fewer_stages_leave_no_weights_of_the_old_ones(tmp_path):
    write_curriculum(tmp_path, Curriculum.of([{"a": 1}, {"b": 1}]))
    write_curriculum(tmp_path, Curriculum.of({"a": 1}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curriculum.parquet", "weights.json"]


@pytest.mark.parametrize(
    ("stages", "weights", "message"),
    [
        ([0, 0], [1, -1], "'b': weight -1"),
        ([0, 0], [1, np.nan], "'b': weight nan"),
        ([0, 0], [0, 0], "stage 0: all weights are 0"),
        ([0, 2], [1, 1], "ascending"),
        ([1, 0], [1, 1], "ascending"),
    ],
)
def test_weights_that_make_no_sense_are_refused(stages, weights, message):
    with pytest.raises(InputError, match=message):
        Curriculum("group", pa.array(["a", "b"]), stages, weights)


def test_a_name_twice_in_a_stage_is_refused():
    with pytest.raises(InputError, match="'a' occurs more than once"):
        Curriculum("group", pa.array(["a", "a"]), [0, 0], [1, 1])


def test_a_file_that_is_no_curriculum_is_told(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_curriculum(tmp_path)
    (tmp_path / "curriculum.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptError):
        read_curriculum(tmp_path)
    pq.write_table(pa.table({"group": ["a"], "weight": [1.0]}), tmp_path / "curriculum.parquet")
    with pytest.raises(InputError, match="'stage'"):
        read_curriculum(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("weight", ["1", "x"], "stage or weight are not text, whole numbers and numbers"),
        ("weight", [1.0, None], "row 1 has no weight"),
        ("stage", [0.0, 0.5], "0.500000 was truncated"),
        ("stage", [0, 2**32], "not in range"),
        ("stage", [0, None], "row 1 has no stage"),
        ("group", ["a", None], "row 1 has no group"),
        ("group", [["a"], ["b"]], "group, stage or weight are not text"),
    ],
)
def test_a_curriculum_of_another_tool_with_values_of_other_types_is_told(tmp_path, column, values, message):
    path = tmp_path / "curriculum.parquet"
    pq.write_table(pa.table({"group": ["a", "b"], "stage": [0, 0], "weight": [1.0, 1.0]} | {column: values}), path)
    with pytest.raises(InputError, match=message):
        read_curriculum(path)


def test_shares_of_text_become_shares_of_documents_and_back():
    long_and_short = {"long": 300.0, "short": 100.0}
    of_text = Curriculum.of({"long": 0.75, "short": 0.25}, weights_of="bytes")
    assert of_text.shares(0, "text", long_and_short) == of_text.stage()
    assert of_text.shares(0, "documents", long_and_short) == pytest.approx({"long": 0.5, "short": 0.5})
    of_documents = Curriculum.of({"long": 0.5, "short": 0.5})
    assert of_documents.shares(0, "documents", {}) == of_documents.stage()
    assert of_documents.shares(0, "text", long_and_short) == pytest.approx({"long": 0.75, "short": 0.25})


def test_what_a_curriculum_knows_of_its_text_comes_first():
    columns = {"raw_tokens": np.array([60, 10]), "raw_documents": np.array([2, 1])}
    names = pa.array(["long", "short"])
    made = Curriculum("group", names, [0, 0], [0.75, 0.25], columns, {"weights_of": "tokens"})
    assert made.shares(0, "documents", {"long": 1.0, "short": 1.0}) == pytest.approx({"long": 0.5, "short": 0.5})


def test_weights_of_any_scale_are_made_to_add_up():
    assert Curriculum.of({"a": 1.5e308, "b": 0.5e308}).stage() == {"a": 0.75, "b": 0.25}
    assert Curriculum.of({"a": 3e-320, "b": 1e-320}).stage() == pytest.approx({"a": 0.75, "b": 0.25}, rel=1e-3)
