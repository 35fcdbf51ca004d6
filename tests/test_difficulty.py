"""Curricula without feedback: difficulty, its quantiles, bins and stages, the long tail, and their files."""

import json
import os
import random

import corpora
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli import main
from curate.curriculum import course, difficulty, offline
from curate.curriculum.bytemodel import ByteModel
from curate.curriculum.difficulty import Halves
from curate.curriculum.loader import CurriculumStream
from curate.curriculum.online import ucb
from curate.curriculum.tail import long_tail
from curate.curriculum.values import Gate, numbers
from curate.errors import InputError, RunError, UsageError
from curate.io.curriculum import read_curriculum
from curate.metrics.calibration import mid_ranks


def groups(out):
    return pq.read_table(out / "groups.parquet").to_pylist()


def by_id(out, *columns):
    return {row["doc_id"]: tuple(row[name] for name in columns) for row in groups(out)}


def run(*args):
    return CliRunner().invoke(main, ["curriculum", "offline", *map(str, args)])


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    rows = corpora.rows(120, level=1.5)
    for i, row in enumerate(rows):
        row["level"] = i * 7 % 120
    rows += [{"id": "none", "text": "", "source": "news", "level": 3}]
    return corpora.sharded(tmp_path_factory.mktemp("difficulty") / "raw", rows, 3)


# ---- what is measured


def test_a_document_is_judged_by_the_model_that_did_not_read_it():
    rows = corpora.rows(60)
    ids, texts = (pa.array([row[name] for row in rows], pa.large_string()) for name in ("id", "text"))
    halves = Halves(ids, texts, seed=3)
    found = halves.bits_per_byte(ids, texts)
    own = halves._half(ids)
    assert 10 < own.sum() < 50
    for half in (0, 1):
        other = ByteModel([texts.filter(pa.array(own != half))])
        np.testing.assert_array_equal(found[own == half], other.bits_per_byte(texts.filter(pa.array(own == half))))


def test_each_model_reads_no_more_than_its_share(monkeypatch):
    monkeypatch.setattr(difficulty, "MODEL_BYTES", 1000)
    rows = corpora.rows(60)
    ids, texts = (pa.array([row[name] for row in rows], pa.large_string()) for name in ("id", "text"))
    assert all(500 < model.n_bytes <= 1000 for model in Halves(ids, texts, seed=0).models)


def test_a_text_longer_than_a_model_reads_is_not_all_or_nothing(monkeypatch):
    monkeypatch.setattr(difficulty, "MODEL_BYTES", 1000)
    monkeypatch.setattr(difficulty, "TEXT_BYTES", 100)
    texts = pa.array(["né " * 700, *(row["text"] for row in corpora.rows(60))] * 2, pa.large_string())
    ids = pa.array([f"d{i}" for i in range(len(texts))], pa.large_string())
    for seed in range(4):
        assert all(500 < model.n_bytes <= 1000 for model in Halves(ids, texts, seed).models)


def test_noise_is_harder_than_prose_and_repetition_easier(tmp_path):
    rng = random.Random(1)
    noise = [{"id": f"n{i}", "text": "".join(chr(rng.randrange(33, 127)) for _ in range(200))} for i in range(3)]
    same = [{"id": f"s{i}", "text": "ha " * 60} for i in range(3)]
    offline(corpora.write(tmp_path / "raw.jsonl", [*corpora.rows(60), *noise, *same]), out=tmp_path / "out")
    order = sorted(groups(tmp_path / "out"), key=lambda row: row["quantile"])
    assert {row["doc_id"] for row in order[:3]} == {"s0", "s1", "s2"}
    assert {row["doc_id"] for row in order[-3:]} == {"n0", "n1", "n2"}


def test_length_is_bytes_and_a_column_is_as_it_is(raw, tmp_path):
    offline(raw, out=tmp_path / "length", difficulty="length")
    offline(raw, out=tmp_path / "level", difficulty="level")
    texts = {row["id"]: row for row in corpora.rows(120)}
    assert by_id(tmp_path / "length", "difficulty")["d7"] == (len(texts["d7"]["text"].encode()),)
    assert by_id(tmp_path / "level", "difficulty")["d7"] == (49.0,)


def test_documents_without_a_difficulty_are_in_no_group_and_it_says_why(tmp_path):
    values = ["1", "nan", None, "two", "5"]
    rows = [{"id": f"d{i}", "text": "text", "level": value} for i, value in enumerate(values)]
    rows += [{"id": "e", "text": "", "level": "1"}, {"id": "n", "text": None, "level": "1"}]
    found = offline(corpora.write(tmp_path / "raw.parquet", rows), out=tmp_path / "out", difficulty="level")
    assert by_id(tmp_path / "out", "group", "reason") == {
        "d0": ("bin-02", None),
        "d1": (None, "not_a_number"),
        "d2": (None, "no_value"),
        "d3": (None, "not_a_number"),
        "d4": ("bin-07", None),
        "e": (None, "no_text"),
        "n": (None, "no_text"),
    }
    assert found.reasons == {"no_text": 2, "no_value": 1, "not_a_number": 2}
    assert sum(g.n_documents for g in found.groups) + sum(found.reasons.values()) == found.n_documents == 7


# ---- quantiles and bins


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from("abc")), min_size=1, max_size=40), st.booleans())
def test_quantiles_are_mid_ranks_and_bins_are_cut_from_them(tmp_path_factory, documents, within):
    folder = tmp_path_factory.mktemp("q")
    rows = [{"id": f"d{i}", "text": "x", "level": v, "source": s} for i, (v, s) in enumerate(documents)]
    raw = corpora.sharded(folder / "raw", rows, 2)
    offline(raw, out=folder / "out", difficulty="level", within="source" if within else (), bins=4, workers=1)
    found = groups(folder / "out")
    levels, sources = (np.array(column) for column in zip(*documents, strict=True))
    expected = mid_ranks(levels, sources if within else None)
    assert [row["doc_id"] for row in found] == [row["id"] for row in rows]
    np.testing.assert_allclose([row["quantile"] for row in found], expected, rtol=1e-12)
    assert [row["group"] for row in found] == [f"bin-{min(3, int(row['quantile'] * 4)):02d}" for row in found]


def test_within_a_source_every_bin_has_the_same_mix(raw, tmp_path):
    offline(raw, out=tmp_path / "out", within="source", bins=4)
    sources = {row["id"]: row["source"] for row in corpora.rows(120)}
    mix = {}
    for row in groups(tmp_path / "out"):
        if row["group"]:
            mix.setdefault(row["group"], []).append(sources[row["doc_id"]])
    assert [[of.count(source) for source in ("maths", "cooking", "news")] for of in mix.values()] == [[10] * 3] * 4


def test_within_length_texts_are_ranked_among_those_of_about_their_length(tmp_path):
    rows = [{"id": f"{n}-{i}", "text": "x" * n, "level": n * 10 + i} for n in (5, 6, 9, 100) for i in range(4)]
    offline(
        corpora.write(tmp_path / "raw.jsonl", rows), out=tmp_path / "out", difficulty="level", within=["length"], bins=2
    )
    first = {doc_id for doc_id, (group,) in by_id(tmp_path / "out", "group").items() if group == "bin-00"}
    assert first == {*(f"5-{i}" for i in range(4)), "9-0", "9-1", "100-0", "100-1"}


# ---- the same answer, whoever computes it


def test_the_bytes_of_the_files_do_not_depend_on_the_workers(raw, tmp_path):
    for workers in (1, 4):
        offline(raw, out=tmp_path / f"{workers}", within="source", workers=workers)
    assert corpora.tree(tmp_path / "1") == corpora.tree(tmp_path / "4")


@pytest.mark.parametrize("form", ["parquet", "csv.gz"])
def test_order_format_and_cut_of_the_files_do_not_matter(raw, tmp_path, form):
    offline(raw, out=tmp_path / "one")
    rows = [json.loads(line) for path in sorted(raw.iterdir()) for line in path.read_text().splitlines()]
    random.Random(4).shuffle(rows)
    offline(corpora.sharded(tmp_path / "again", rows, 5, form), out=tmp_path / "other")
    columns = ("difficulty", "quantile", "group", "reason")
    assert by_id(tmp_path / "one", *columns) == by_id(tmp_path / "other", *columns)
    assert read_curriculum(tmp_path / "one").stage(1) == read_curriculum(tmp_path / "other").stage(1)


def test_another_seed_is_another_pair_of_models(raw, tmp_path):
    found = [offline(raw, out=tmp_path / f"{seed}", seed=seed).easiest[0].difficulty for seed in (0, 1)]
    assert found[0] != found[1]


# ---- corpora at the edge


def test_documents_that_are_all_the_same_are_in_the_middle_bin(tmp_path):
    raw = corpora.write(tmp_path / "raw.jsonl", [{"id": f"d{i}", "text": "same"} for i in range(9)])
    found = offline(raw, out=tmp_path / "out", difficulty="length")
    assert [(g.name, g.n_documents, set(g.weights)) for g in found.groups] == [("bin-05", 9, {1.0})]


def test_one_document_is_a_corpus(tmp_path):
    found = offline(corpora.write(tmp_path / "raw.jsonl", [{"id": "a", "text": "alone"}]), out=tmp_path / "out")
    assert [(g.n_documents, g.difficulty) for g in found.groups] == [(1, (8.0, 8.0))]
    assert found.easiest == found.hardest


def test_a_corpus_without_text_is_an_error_with_the_numbers(tmp_path):
    raw = corpora.write(tmp_path / "raw.jsonl", [{"id": "a", "text": ""}, {"id": "b", "text": ""}])
    with pytest.raises(InputError, match=r"none of 2 documents has a difficulty \(2 no_text\)"):
        offline(raw, out=tmp_path / "out")


def test_bad_rows_are_set_aside_when_asked(tmp_path):
    raw = corpora.lines(tmp_path / "raw.jsonl", *(json.dumps(row).encode() for row in corpora.rows(9)), b"{broken")
    with pytest.raises(InputError, match="line 10"):
        offline(raw, out=tmp_path / "out")
    assert offline(raw, out=tmp_path / "out", on_bad_row="quarantine").n_bad_rows == 1
    assert pq.read_table(tmp_path / "out/quarantine.parquet").num_rows == 1


def test_a_column_with_too_many_values_cannot_be_ranked_within(tmp_path):
    raw = corpora.write(tmp_path / "raw.jsonl", [{"id": f"d{i}", "text": "x"} for i in range(1001)])
    with pytest.raises(UsageError, match="--within: the column has over 1,000 different values"):
        offline(raw, out=tmp_path / "out", difficulty="length", within="id")


# ---- stages


def test_stages_open_bin_by_bin_and_end_at_natural_proportions(raw, tmp_path):
    found = offline(raw, out=tmp_path / "out", difficulty="level", bins=4, stages=3, pacing="linear", start=0.25)
    made = read_curriculum(tmp_path / "out")
    names = [f"bin-{i:02d}" for i in range(4)]
    assert made.stage(0) == pytest.approx(dict(zip(names, [1, 0, 0, 0], strict=True)))
    assert made.stage(1) == pytest.approx(dict(zip(names, [0.4, 0.4, 0.2, 0], strict=True)))
    assert made.stage(2) == pytest.approx(dict.fromkeys(names, 0.25))
    assert made.about["competence"] == list(found.competence) == pytest.approx([0.25, 0.625, 1])
    assert made.columns["n_documents"].tolist() == [30] * 12
    assert [json.loads((tmp_path / f"out/weights-stage-{k}.json").read_text()) for k in range(3)] == [
        made.stage(k) for k in range(3)
    ]


def test_hard_first_opens_the_last_bin_first(raw, tmp_path):
    offline(raw, out=tmp_path / "out", difficulty="level", bins=4, start=0.25, order="hard-first")
    assert read_curriculum(tmp_path / "out").stage(0)["bin-03"] == pytest.approx(1)


def test_a_training_loop_is_given_what_is_open(raw, tmp_path):
    offline(raw, out=tmp_path / "out", difficulty="level", bins=4, stages=2, start=0.25)
    with pytest.warns(UserWarning, match="1 of 121 documents are in no group"):
        stream = CurriculumStream(raw, tmp_path / "out", stage_steps=30, cache=tmp_path / "cache", epochs=None)
    levels = dict(zip(by_id(tmp_path / "out"), by_id(tmp_path / "out", "difficulty").values(), strict=True))
    documents = iter(stream)
    first, last = ([levels[next(documents)["doc_id"]][0] for _ in range(n)] for n in (30, 120))
    assert max(first) < 30
    assert max(last) >= 90


# ---- the long tail


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ab"), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0.1, 0.25, 0.3, 0.7]),
    st.sampled_from([0.0, 0.05, 0.2]),
)
def test_the_tail_over_files_is_that_of_the_plain_function(tmp_path_factory, documents, share, floor):
    folder = tmp_path_factory.mktemp("t")
    rows = [{"id": f"d{i}", "text": "x", "level": v, "s": s, "ok": ok} for i, (v, s, ok) in enumerate(documents)]
    raw = corpora.sharded(folder / "raw", rows, 2)
    levels, sources, ok = (np.array(column) for column in zip(*documents, strict=True))
    lowest = np.sort(-levels)[int(floor * len(levels))]
    expected = long_tail(-levels.astype(float), ok, sources, share=share, floor=lowest)
    options = {"difficulty": "level", "within": "s", "tail": share, "gate": "ok", "floor": floor, "workers": 1}
    if not expected.any():
        with pytest.raises(InputError, match="is in the long tail"):
            offline(raw, out=folder / "out", **options)
        return
    offline(raw, out=folder / "out", **options)
    assert [row["group"] == "tail" for row in groups(folder / "out")] == expected.tolist()
    assert all((row["group"] is None) == (row["reason"] is not None) for row in groups(folder / "out"))
    assert read_curriculum(folder / "out").stage() == {"tail": 1.0}


def test_a_tail_with_nothing_in_it_is_an_error_with_the_numbers(raw, tmp_path):
    with pytest.raises(InputError, match=r"none of 121 documents .*\(120 below_gate, 1 no_text\); raise --tail"):
        offline(raw, out=tmp_path / "out", tail=0.1, gate="level>=1000")


def test_a_tail_shows_examples_of_itself_and_of_the_head_that_passes_the_gate(raw, tmp_path):
    found = offline(raw, out=tmp_path / "out", difficulty="level", tail=0.1, gate="level>=50", floor=0)
    assert [e.difficulty for e in found.easiest] == [50, 51]
    assert [e.difficulty for e in found.hardest] == [119, 118]
    assert found.reasons == {"below_gate": 50, "no_text": 1, "not_in_tail": 58}


@pytest.mark.parametrize(
    ("gate", "expected"),
    [("c", [0, 0, 0, 1, 1, 1, 0, 1]), ("c>=1", [0, 0, 0, 0, 1, 0, 0, 1]), (" c >= -1e9 ", [0, 1, 0, 1, 1, 0, 0, 1])],
)
def test_a_gate_is_a_least_number_or_what_is_true(gate, expected):
    values = pa.array([None, "0", "no", "0.5", "2", "True", "", "inf"], pa.large_string())
    assert Gate.parse(gate).passes(values).tolist() == [bool(e) for e in expected]


def test_a_name_may_hold_what_a_gate_is_written_with():
    assert Gate.parse("a>=b>=3") == Gate("a>=b", 3.0)
    for text in ("", ">=3", "a>=", "a>=x", "a>=nan"):
        with pytest.raises(UsageError, match="--gate"):
            Gate.parse(text)


def test_text_that_is_no_number_is_none():
    np.testing.assert_array_equal(
        numbers(pa.array(["1", "x", None, "-2.5e1", ""], pa.large_string())), [1, np.nan, np.nan, -25, np.nan]
    )


# ---- folders


def test_a_finished_curriculum_is_read_and_another_in_its_folder_refused(raw, tmp_path):
    first = offline(raw, out=tmp_path / "out", bins=3)
    before = corpora.tree(tmp_path / "out")
    assert offline(raw, out=tmp_path / "out", bins=3) == first
    with pytest.raises(RunError, match="pass --overwrite"):
        offline(raw, out=tmp_path / "out", bins=4)
    assert corpora.tree(tmp_path / "out") == before
    offline(raw, out=tmp_path / "out", tail=0.2, overwrite=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "curriculum.parquet",
        "groups.parquet",
        "offline.json",
        "weights.json",
    ]


def test_another_curriculum_that_was_made_in_the_folder_since_is_not_taken_for_this_one(raw, tmp_path):
    made = offline(raw, out=tmp_path / "out", difficulty="level")
    ucb(["a", "b"], out=tmp_path / "out", overwrite=True)
    with pytest.raises(RunError, match=r"a curriculum that ucb made since; .* --overwrite"):
        offline(raw, out=tmp_path / "out", difficulty="level")
    assert offline(raw, out=tmp_path / "out", difficulty="level", overwrite=True) == made
    assert read_curriculum(tmp_path / "out").about["method"] == "offline"
    assert not (tmp_path / "out/state.parquet").exists()  # an update would put its weights in place of these


@pytest.mark.parametrize("name", ["groups.parquet", "curriculum.parquet"])
def test_a_file_that_was_deleted_is_made_again(raw, tmp_path, name):
    offline(raw, out=tmp_path / "out", difficulty="level")
    whole = corpora.tree(tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    offline(raw, out=tmp_path / "out", difficulty="level")
    assert corpora.tree(tmp_path / "out") == whole


def test_a_folder_of_something_else_is_left_alone(raw, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="holds files that are no curriculum"):
        offline(raw, out=tmp_path / "out", overwrite=True)
    with pytest.raises(RunError, match="is a file"):
        offline(raw, out=tmp_path / "out/thesis.txt")
    with pytest.raises(UsageError, match="an input below"):
        offline(raw, out=raw)


def test_a_run_that_is_stopped_at_any_commit_goes_on_to_the_same_bytes(raw, tmp_path, monkeypatch):
    offline(raw, out=tmp_path / "whole")
    replace, n_stops = os.replace, 0

    def stopping(*args, **kwargs):
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        replace(*args, **kwargs)

    while True:
        left, out = n_stops + 1, tmp_path / f"{n_stops}"
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", stopping)
            try:
                offline(raw, out=out)
                break
            except KeyboardInterrupt:
                n_stops += 1
        assert not (out / "offline.json").exists() or not json.loads((out / "offline.json").read_text())["complete"]
        offline(raw, out=out)
        assert corpora.tree(out) == corpora.tree(tmp_path / "whole")
    assert n_stops >= 14  # parts and their markers, rows that are sorted, groups, the curriculum and its weights


def test_what_is_measured_is_not_measured_again(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "write_curriculum", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        offline(raw, out=tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(course, "Halves", lambda *_: 1 / 0)
    assert offline(raw, out=tmp_path / "out").n_documents == 121


def test_after_an_empty_tail_another_can_be_asked_for_in_the_same_folder(raw, tmp_path):
    with pytest.raises(InputError, match="raise --tail"):
        offline(raw, out=tmp_path / "out", tail=0.1, gate="level>=1000")
    assert offline(raw, out=tmp_path / "out", tail=0.1, gate="level>=10").groups[0].n_documents > 0


# ---- the command line


def test_the_command_prints_the_bins_and_both_ends(tmp_path):
    rows = [*corpora.rows(30), {"id": "hos\x1btile", "text": "\x1b[31m\u202ehostile\x00 " + "qxz#" * 9}]
    raw = corpora.write(tmp_path / "raw.jsonl", rows)
    done = run(raw, "--out", tmp_path / "out", "--bins", 3, "--stages", 2, "--quiet")
    assert done.exit_code == 0, done.output
    assert "31 documents" in done.output
    assert "bin-02" in done.output
    assert "hardest" in done.output
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
    as_json = json.loads(run(raw, "--out", tmp_path / "out", "--bins", 3, "--stages", 2, "--quiet", "--json").output)
    assert [g["name"] for g in as_json["groups"]] == ["bin-00", "bin-01", "bin-02"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bins", 0], "--bins 0"),
        (["--stages", 0], "0 stages"),
        (["--pacing", "rot"], "did you mean 'root'"),
        (["--order", "easyfirst"], "did you mean 'easy-first'"),
        (["--start", 0], "start 0"),
        (["--tail", 0], "--tail 0"),
        (["--tail", 0.1, "--floor", 1], "--floor 1"),
        (["--tail", 0.1, "--bins", 4], "--bins: makes sense without --tail"),
        (["--gate", "score"], "--gate: makes sense only with --tail"),
        (["--tail", 0.1, "--gate", "score>=high"], "'high' is not a number"),
        (["--memory-limit", "700MB"], "bits-per-byte takes 1,200,000,000"),
        (["--difficulty", "levle"], "'levle' is neither bits-per-byte nor length"),
        (["--within", "sauce"], "'sauce' is no column of raw"),
        (["--within", "bits-per-byte"], "'bits-per-byte' is no column of raw"),
        (["--tail", 0.1, "--gate", "length>=3"], "'length' is no column of raw"),
    ],
)
def test_options_that_make_no_sense_are_exit_2_and_leave_nothing(raw, tmp_path, words, message):
    done = run(raw, "--out", tmp_path / "out", *words)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "out").exists()
