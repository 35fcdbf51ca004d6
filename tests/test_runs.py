"""Runs: finished, resumed, refused, drawn again, verified."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import (
    COOKING,
    MATHS,
    SETTINGS,
    kept_ids,
    ledger,
    lines,
    rows,
    scores,
    select,
    sharded,
    shards,
    target_rows,
    tree,
    write,
)  # fmt: skip

import curate.selection.session as selection_module
from curate.errors import InputError, RunError, UnreachableError, UsageError
from curate.io.run import RunFolder, read_json
from curate.selection import draw, score
from curate.verification import verify

ROWS = rows(90)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return sharded(tmp_path / "raw", ROWS, 3)


@pytest.fixture
def scored_partitions(monkeypatch) -> list[int]:
    """The partitions that are scored from here on."""
    found: list[int] = []
    real = selection_module.score_partition

    def counting(job, partition):
        scored = real(job, partition)
        if scored:
            found.append(partition.index)
        return scored

    monkeypatch.setattr(selection_module, "score_partition", counting)
    return found


# ---- the folder


def test_the_same_budget_is_the_same_recipe_however_it_is_written(raw, tmp_path):
    recipes = {
        select(raw, tmp_path / str(i), budget=b, name="x").manifest["recipe_sha256"]
        for i, b in enumerate([10, "10", "10 docs"])
    }
    assert len(recipes) == 1


def test_settings_in_another_order_or_spelt_out_are_the_same_run(raw, tmp_path):
    select(raw, tmp_path / "one", settings={"n": 1, "smoothing": 0.25}, name="x")
    select(raw, tmp_path / "two", settings={"smoothing": 0.25, "n": 1, "normalize": "chunk"}, name="x")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_finished_run_called_again_does_nothing_and_says_the_same(raw, tmp_path):
    first = select(raw, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    again = select(raw, tmp_path / "out")
    assert (again.manifest, again.shards, again.warnings) == (first.manifest, first.shards, first.warnings)
    assert again.seconds == {}
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before


def test_workers_memory_and_spilling_are_no_part_of_the_recipe(raw, tmp_path):
    select(raw, tmp_path / "out")
    assert select(raw, tmp_path / "out", workers=1, memory_limit="1GB", spill=True).seconds == {}


@pytest.mark.parametrize(
    "other",
    [{"budget": 11}, {"seed": 1}, {"draw": "topk"}, {"settings": {"n": 1}}, {"shard_size": "1MB"}, {"per": "source"}],
)
def test_another_recipe_in_the_folder_is_refused_with_the_way_out(raw, tmp_path, other):
    select(raw, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(
        RunError, match=r"was written by recipe \w{8}, this is \w{8}: .*another folder or pass --overwrite"
    ):
        select(raw, tmp_path / "out", **other)
    assert tree(tmp_path / "out") == before


def test_overwrite_draws_again_without_scoring_again(raw, tmp_path, scored_partitions):
    select(raw, tmp_path / "out", name="x")
    assert len(scored_partitions) == 3
    select(raw, tmp_path / "out", budget=20, overwrite=True, name="x")
    assert len(scored_partitions) == 3
    assert len(kept_ids(tmp_path / "out")) == 20
    select(raw, tmp_path / "fresh", budget=20, name="x")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_overwrite_with_other_settings_scores_again(raw, tmp_path, scored_partitions):
    select(raw, tmp_path / "out", name="x")
    select(raw, tmp_path / "out", settings={"n": 1}, overwrite=True, name="x")
    assert len(scored_partitions) == 6
    select(raw, tmp_path / "fresh", settings={"n": 1}, name="x")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_overwrite_leaves_no_shard_of_the_earlier_run(raw, tmp_path):
    many = select(raw, tmp_path / "out", shard_size=300, budget=30)
    few = select(raw, tmp_path / "out", shard_size="1MB", budget=30, overwrite=True)
    assert len(many.shards) > len(few.shards) == 1
    assert list((tmp_path / "out" / "shards").iterdir()) == list(few.shards)


CURRICULUM = ("curriculum.parquet", "weights.json", "weights-stage-0.json", "groups.parquet", "state.parquet")


def add_curriculum(out: Path) -> None:
    for name in CURRICULUM:
        (out / name).write_bytes(b"of this run")


def test_a_curriculum_in_the_folder_of_a_run_is_no_stranger_there(raw, tmp_path):
    select(raw, tmp_path / "out")
    add_curriculum(tmp_path / "out")
    before = tree(tmp_path / "out")
    select(raw, tmp_path / "out")
    assert tree(tmp_path / "out") == before
    assert verify(tmp_path / "out").ok
    draw(tmp_path / "out", budget=7, out=tmp_path / "other")
    assert not (tmp_path / "other" / "curriculum.parquet").exists()


def test_a_curriculum_of_scores_outlives_the_first_draw_but_not_a_draw_or_scores_that_replace_others(raw, tmp_path):
    out = tmp_path / "out"
    score(raw, target=write(tmp_path / "target.jsonl", target_rows()), out=out, settings=SETTINGS)
    add_curriculum(out)
    draw(out, budget=7)
    assert all((out / name).exists() for name in CURRICULUM)
    with pytest.raises(RunError, match="--overwrite"):
        draw(out, budget=8)
    assert all((out / name).exists() for name in CURRICULUM)
    draw(out, budget=8, overwrite=True)
    assert not any((out / name).exists() for name in CURRICULUM)
    add_curriculum(out)
    select(raw, out, settings={"n": 1}, overwrite=True)
    assert not any((out / name).exists() for name in CURRICULUM)


def test_a_changed_input_file_is_noticed_and_everything_made_from_it_is_made_again(raw, tmp_path):
    select(raw, tmp_path / "out", name="x", shard_size=300, budget=60)
    write(raw / "part-000.jsonl", rows(5, seed=8))
    (raw / "part-002.jsonl").unlink()
    before = tree(tmp_path / "out")
    with pytest.raises(RunError, match="files that are not what they were"):
        select(raw, tmp_path / "out", name="x", shard_size=300, budget=60)
    assert tree(tmp_path / "out") == before
    again = select(raw, tmp_path / "out", name="x", shard_size=300, budget=60, overwrite=True)
    assert again.n_documents == 35
    select(raw, tmp_path / "fresh", name="x", shard_size=300, budget=60)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    assert verify(tmp_path / "out").ok


def test_a_changed_target_is_noticed_and_scored_again(raw, tmp_path, scored_partitions):
    target = write(tmp_path / "target.jsonl", target_rows())
    select(raw, tmp_path / "out", target=target)
    before = kept_ids(tmp_path / "out")
    write(target, target_rows(words=COOKING))
    select(raw, tmp_path / "out", target=target, overwrite=True)
    assert len(scored_partitions) == 6
    assert kept_ids(tmp_path / "out") != before


def test_a_renamed_input_is_another_input(raw, tmp_path, scored_partitions):
    select(raw, tmp_path / "out")
    (raw / "part-000.jsonl").rename(raw / "part-009.jsonl")
    result = select(raw, tmp_path / "out", overwrite=True)
    assert [item["name"] for item in result.manifest["inputs"]] == [
        "part-001.jsonl",
        "part-002.jsonl",
        "part-009.jsonl",
    ]


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "_work/notes.txt", "scores/mine.csv", "manifest.json", "shards/part-00000.parquet", "README.md"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_a_runs_is_refused_and_left_alone(raw, tmp_path, name, overwrite):
    mine = write(tmp_path / "out" / name, b'{"name": "my web page"}')
    with pytest.raises(RunError, match="holds files that are not a run of curate"):
        select(raw, tmp_path / "out", overwrite=overwrite)
    assert mine.read_bytes() == b'{"name": "my web page"}'
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [mine]


def test_a_file_or_a_web_address_as_output_is_refused(raw, tmp_path):
    with pytest.raises(RunError, match="is a file"):
        select(raw, write(tmp_path / "out", b""))
    pytest.importorskip("aiohttp")
    with pytest.raises(UsageError, match="https://there/out: cannot be written to"):
        score(raw, target=tmp_path / "target.jsonl", out="https://there/out")


def test_an_empty_folder_is_as_good_as_none(raw, tmp_path):
    (tmp_path / "out").mkdir()
    assert select(raw, tmp_path / "out").n_selected == 10


def test_a_damaged_manifest_is_an_error_whose_way_out_works(raw, tmp_path):
    select(raw, tmp_path / "out", name="x")
    wanted = tree(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text('{"trunca')
    with pytest.raises(RunError, match=r"manifest\.json: cannot be read .*delete that file and run again"):
        select(raw, tmp_path / "out", name="x")
    (tmp_path / "out" / "manifest.json").unlink()
    select(raw, tmp_path / "out", name="x")
    assert tree(tmp_path / "out") == wanted


HOLD = """
import sys
from pathlib import Path
from curate.io.run import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_the_folder_is_refused_while_the_first_holds_it(raw, tmp_path):
    (tmp_path / "out").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="another run is writing here"):
            select(raw, tmp_path / "out")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / "out" / ".curate.lock").exists()
        assert select(raw, tmp_path / "out").n_selected == 10
        assert not (tmp_path / "out" / ".curate.lock").exists()
    finally:
        holder.kill()
        holder.communicate()


def test_many_share_a_folder_while_none_owns_it(raw, tmp_path):
    select(raw, tmp_path / "out", name="x")
    one, another, owner = (RunFolder(tmp_path / "out") for _ in range(3))
    with one.locked(shared=True), another.locked(shared=True):
        half = write(tmp_path / "out" / "scores" / ".part-00000.parquet.x.part", b"x")
        with pytest.raises(RunError, match="another run is writing here"), owner.locked():
            pass
    with one.locked(shared=True):
        assert half.exists()  # it may be another one's
    with owner.locked(), pytest.raises(RunError, match="another run is writing here"), one.locked(shared=True):
        pass
    assert not half.exists()
    assert not (tmp_path / "out" / ".curate.lock").exists()


def test_an_owner_deletes_what_those_who_shared_left_half_done(raw, tmp_path):
    select(raw, tmp_path / "out", name="x")
    wanted = tree(tmp_path / "out")
    with RunFolder(tmp_path / "out").locked(shared=True):
        write(tmp_path / "out" / "scores" / ".part-00000.parquet.x.part", b"x")
    select(raw, tmp_path / "out", name="x")
    assert tree(tmp_path / "out") == wanted


def test_a_lock_that_was_taken_away_while_it_was_waited_for_is_not_enough(raw, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    lock = tmp_path / "out" / ".curate.lock"
    real, times = fcntl.flock, []

    def flock(handle, how):
        times.append(how)
        if len(times) == 1:
            lock.unlink()
        return real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert select(raw, tmp_path / "out").n_selected == 10
    assert len(times) == 2


# ---- drawing


def test_draw_to_another_folder_is_select_with_that_budget(raw, tmp_path):
    score(raw, target=write(tmp_path / "target.jsonl", target_rows()), out=tmp_path / "scored", settings=SETTINGS)
    draw(tmp_path / "scored", out=tmp_path / "drawn", budget=20, seed=3, name="x")
    select(raw, tmp_path / "selected", budget=20, seed=3, name="x")
    assert tree(tmp_path / "drawn") == tree(tmp_path / "selected")


def test_draw_scores_nothing_and_leaves_the_scores_alone(raw, tmp_path, scored_partitions):
    select(raw, tmp_path / "out")
    del scored_partitions[:]
    before = tree(tmp_path / "out")
    drawn = draw(tmp_path / "out", out=tmp_path / "drawn", budget=5)
    assert (drawn.n_selected, scored_partitions) == (5, [])
    assert tree(tmp_path / "out") == before


def test_draw_into_the_scored_folder_needs_no_overwrite_once(raw, tmp_path):
    score(raw, target=write(tmp_path / "target.jsonl", target_rows()), out=tmp_path / "out", settings=SETTINGS)
    assert draw(tmp_path / "out", budget=5).n_selected == 5
    with pytest.raises(RunError, match="--overwrite"):
        draw(tmp_path / "out", budget=6)
    assert draw(tmp_path / "out", budget=6, overwrite=True).n_selected == 6


def test_scores_from_another_run_are_used_and_must_fit(raw, tmp_path, scored_partitions):
    select(raw, tmp_path / "first")
    del scored_partitions[:]
    select(raw, tmp_path / "second", budget=20, scores_from=tmp_path / "first")
    assert scored_partitions == []
    assert kept_ids(tmp_path / "first") != kept_ids(tmp_path / "second")
    with pytest.raises(RunError, match=r"first: was scored with other files, target or settings"):
        select(raw, tmp_path / "third", settings={"n": 1}, scores_from=tmp_path / "first")
    with pytest.raises(RunError, match="has no scores"):
        select(raw, tmp_path / "fourth", scores_from=tmp_path / "nothing")


def test_draw_from_a_folder_without_scores_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no scores there; run curate score"):
        draw(tmp_path, budget=5)


def test_draw_notices_that_the_files_are_not_those_that_were_scored(raw, tmp_path):
    select(raw, tmp_path / "out")
    write(raw / "part-000.jsonl", rows(5, seed=8))
    with pytest.raises(RunError, match="was scored with other files"):
        draw(tmp_path / "out", out=tmp_path / "drawn", budget=5)


# ---- budgets


def test_a_budget_of_more_than_there_is_keeps_all_with_a_warning(raw, tmp_path):
    result = select(raw, tmp_path / "out", budget=1_000)
    assert result.n_selected == 90
    assert any("is more than there is: all 90 documents" in warning for warning in result.warnings)


@pytest.mark.parametrize("budget", [0, "0", "0%", "0B", -5, "-5", "101%", "lots", "", "5 apples"])
def test_a_budget_of_nothing_or_of_no_meaning_is_a_usage_error(raw, tmp_path, budget):
    with pytest.raises(UsageError, match="budget"):
        select(raw, tmp_path / "out", budget=budget)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("budget", ["5B", "3-tokens", "0.1%"])
def test_a_budget_smaller_than_the_best_document_is_an_error(raw, tmp_path, budget):
    with pytest.raises(InputError, match="nothing selected"):
        select(raw, tmp_path / "out", budget=budget)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(("budget", "column"), [("2kB", "n_bytes"), ("500-tokens", "n_tokens")])
def test_a_budget_in_bytes_or_tokens_is_filled_but_not_exceeded(raw, tmp_path, budget, column):
    select(raw, tmp_path / "out", budget=budget)
    sizes = dict(
        zip(scores(tmp_path / "out")["doc_id"].to_pylist(), scores(tmp_path / "out")[column].to_pylist(), strict=True)
    )
    total = sum(sizes[i] for i in kept_ids(tmp_path / "out"))
    limit = 2_000 if column == "n_bytes" else 500
    assert limit - max(sizes.values()) < total <= limit


def test_a_column_to_draw_by_gives_each_value_its_proportion(raw, tmp_path):
    select(raw, tmp_path / "out", budget=20, per="source", proportions={"maths": 3, "news": 1})
    kinds = [row["source"] for row in shards(tmp_path / "out").to_pylist()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"maths": 15, "news": 5}


def test_without_proportions_each_value_keeps_its_share_of_raw(raw, tmp_path):
    select(raw, tmp_path / "out", budget=30, per="source")
    kinds = [row["source"] for row in shards(tmp_path / "out").to_pylist()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"maths": 10, "news": 10, "cooking": 10}


def test_files_can_be_drawn_by(raw, tmp_path):
    select(raw, tmp_path / "out", budget=9, per="path")
    paths = [row["path"] for row in ledger(tmp_path / "out") if row["kept"]]
    assert sorted(paths) == [f"part-00{i}.jsonl" for i in (0, 0, 0, 1, 1, 1, 2, 2, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "sorce"}, "no column to draw by called 'sorce'; did you mean 'source'"),
        ({"per": "source", "proportions": {"math": 1}}, "did you mean 'maths'"),
        ({"proportions": {"maths": 1}}, "--per"),
        ({"per": "source", "proportions": {"maths": -1}}, "non-negative"),
        ({"draw": "gumble"}, "did you mean 'gumbel'"),
        ({"draw": "threshold"}, "go together"),
        ({"threshold": 1.0}, "go together"),
        ({"format": "jsonl"}, "did you mean 'jsonl.zst'"),
        ({"method": "dsri"}, "did you mean 'dsir'"),
        ({"settings": {"n_bukets": 5}}, "did you mean 'n_buckets'"),
        ({"on_bad_row": "drop"}, "quarantine"),
        ({"memory_limit": "5MB"}, "at least 600,000,000 are needed"),
        ({"workers": 0}, "must be 1 or more"),
        ({"shard_size": "10%"}, "not a number of bytes"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_usage_error_that_helps(raw, tmp_path, options, message):
    with pytest.raises(UsageError) as error:
        select(raw, tmp_path / "out", **options)
    assert message in str(error.value)


def two_targets(tmp_path: Path) -> dict[str, Path]:
    return {
        "maths": write(tmp_path / "maths.jsonl", target_rows(words=MATHS)),
        "cooking": write(tmp_path / "cooking.jsonl", target_rows(words=COOKING)),
    }


@pytest.mark.parametrize("draw_by", ["gumbel", "topk"])
def test_separate_targets_each_get_their_part_of_the_budget(raw, tmp_path, draw_by):
    settings = {"separate_targets": True, "target_proportions": [0.75, 0.25]}
    select(raw, tmp_path / "out", target=two_targets(tmp_path), budget=20, settings=settings, draw=draw_by)
    found = shards(tmp_path / "out").to_pylist()
    for_ = [row["curate_target"] for row in found]
    assert (for_.count("maths"), for_.count("cooking"), len(for_)) == (15, 5, 20)
    assert len({row["id"] for row in found}) == 20
    assert sum(row["source"] == row["curate_target"] for row in found) >= 18
    assert {"score_maths", "score_cooking"} <= set(scores(tmp_path / "out").column_names)
    assert [row["target"] for row in ledger(tmp_path / "out") if row["kept"]] == for_


def test_targets_together_are_one_target(raw, tmp_path):
    select(raw, tmp_path / "out", target=two_targets(tmp_path), budget=40)
    kinds = [row["source"] for row in shards(tmp_path / "out").to_pylist()]
    assert min(kinds.count("maths"), kinds.count("cooking")) > 10 > kinds.count("news")


def test_a_threshold_keeps_exactly_the_scores_that_reach_it(raw, tmp_path):
    select(raw, tmp_path / "all")
    found = scores(tmp_path / "all").to_pylist()
    threshold = sorted(row["score"] for row in found)[-30]
    result = select(raw, tmp_path / "out", draw="threshold", threshold=threshold, budget=None)
    assert kept_ids(tmp_path / "out") == sorted(row["doc_id"] for row in found if row["score"] >= threshold)
    assert result.n_selected == 30
    assert {row["reason"] for row in ledger(tmp_path / "out") if not row["kept"]} == {"below_threshold"}


def test_a_threshold_that_nothing_reaches_is_an_error(raw, tmp_path):
    with pytest.raises(InputError, match="nothing selected"):
        select(raw, tmp_path / "out", draw="threshold", threshold=1e9, budget=None)


def test_the_best_scores_win_with_topk(raw, tmp_path):
    select(raw, tmp_path / "out", draw="topk", budget=12)
    found = sorted(scores(tmp_path / "out").to_pylist(), key=lambda row: -row["score"])
    assert kept_ids(tmp_path / "out") == sorted(row["doc_id"] for row in found[:12])


def test_a_uniform_draw_knows_nothing_of_the_scores(raw, tmp_path):
    select(raw, tmp_path / "maths", draw="uniform", budget=30, target=two_targets(tmp_path)["maths"])
    select(raw, tmp_path / "cooking", draw="uniform", budget=30, target=two_targets(tmp_path)["cooking"])
    assert kept_ids(tmp_path / "maths") == kept_ids(tmp_path / "cooking")
    select(raw, tmp_path / "seed", draw="uniform", budget=30, seed=1)
    assert kept_ids(tmp_path / "seed") != kept_ids(tmp_path / "maths")


# ---- what is written


def test_every_document_has_a_row_in_scores_and_ledger_with_a_reason(tmp_path):
    of = [*rows(20), {"id": "short", "text": "too short"}, {"id": "none", "text": None}]
    write(tmp_path / "raw" / "a.jsonl", of)
    select(tmp_path / "raw", tmp_path / "out", budget=5)
    found, told = scores(tmp_path / "out").to_pylist(), ledger(tmp_path / "out")
    assert [row["doc_id"] for row in found] == [row["doc_id"] for row in told] == [row["id"] for row in of]
    assert [(r["path"], r["row"], r["score"]) for r in found] == [(r["path"], r["row"], r["score"]) for r in told]
    reasons = {row["doc_id"]: row["reason"] for row in told}
    assert (reasons.pop("short"), reasons.pop("none")) == ("too_short", "no_text")
    assert sorted(reasons.values()) == ["kept"] * 5 + ["not_drawn"] * 15
    for row in found:
        assert (row["score"] is None) == (row["reason"] is not None)
        assert row["n_bytes"] == len((next(r for r in of if r["id"] == row["doc_id"])["text"] or "").encode())


def test_weights_are_for_the_kept_and_sum_to_one(raw, tmp_path):
    select(raw, tmp_path / "out", budget=7)
    weights = [(row["kept"], row["weight"]) for row in ledger(tmp_path / "out")]
    assert sum(weight for _, weight in weights) == pytest.approx(1)
    assert all((weight > 0) == kept for kept, weight in weights)
    assert sum(shards(tmp_path / "out")["curate_weight"].to_pylist()) == pytest.approx(1)


def test_the_tables_have_the_columns_that_users_rest_on(raw, tmp_path):
    select(raw, tmp_path / "out")
    assert scores(tmp_path / "out").schema.names == [
        "doc_id", "score", "n_tokens", "n_bytes", "path", "row", "reason", "source",
    ]  # fmt: skip
    types = {f.name: f.type for f in scores(tmp_path / "out").schema}
    assert (types["score"], types["row"], types["n_bytes"]) == (pa.float64(), pa.int64(), pa.int64())
    assert list(ledger(tmp_path / "out")[0]) == ["doc_id", "path", "row", "kept", "reason", "score", "weight"]
    assert shards(tmp_path / "out").column_names == ["id", "text", "source", "curate_score", "curate_weight"]
    assert list(json.loads((tmp_path / "out" / "manifest.json").read_text())) == [
        "version", "uuid", "name", "creation_date", "tool_version", "command", "recipe", "recipe_sha256", "seed",
        "inputs", "targets", "tokenizer", "shards", "stats", "parents",
    ]  # fmt: skip


def test_two_runs_of_one_recipe_differ_in_uuid_and_dates_alone(raw, tmp_path):
    one, two = (select(raw, tmp_path / name, name="x").manifest for name in ("one", "two"))
    assert {key for key in one if one[key] != two[key]} <= {"uuid", "creation_date"}
    assert one["uuid"] != two["uuid"]


# ---- verify


@pytest.fixture
def run(raw, tmp_path) -> Path:
    select(raw, tmp_path / "out", shard_size=1_000, budget=30)
    return tmp_path / "out"


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def rewrite(path: Path, **columns: object) -> None:
    table = pq.read_table(path)
    for name, change in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(
            at, table.schema.field(at), pa.array(change(table[name].to_pylist()), table.schema.field(at).type)
        )  # type: ignore[operator]
    pq.write_table(table, path)


def change_recipe(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["recipe"]["draw"]["seed"] = 5
    path.write_text(json.dumps(manifest))


def add_one(values: list) -> list:
    return [*values[:-1], (values[-1] or 0) + 1]


TAMPERING = {
    "a changed byte in a shard": ("shards/part-00000.parquet", change_a_byte),
    "a shortened shard": ("shards/part-00000.parquet", lambda p: p.write_bytes(p.read_bytes()[:-1])),
    "an emptied shard": ("shards/part-00000.parquet", lambda p: p.write_bytes(b"")),
    "a removed shard": ("shards/part-00001.parquet", Path.unlink),
    "an extra shard": ("shards/part-00099.parquet", lambda p: p.write_bytes(b"?")),
    "a removed ledger": ("ledger.parquet", Path.unlink),
    "a truncated ledger": ("ledger.parquet", lambda p: p.write_bytes(p.read_bytes()[:-9])),
    "a document more in the ledger": ("ledger.parquet", lambda p: rewrite(p, kept=lambda v: [True] * len(v))),
    "a weight in the ledger": ("ledger.parquet", lambda p: rewrite(p, weight=add_one)),
    "a score in the ledger": ("ledger.parquet", lambda p: rewrite(p, score=add_one)),
    "an id in the ledger": ("ledger.parquet", lambda p: rewrite(p, doc_id=lambda v: ["other", *v[1:]])),
    "a changed recipe": ("manifest.json", change_recipe),
    "a removed score file": ("scores/part-00001.parquet", Path.unlink),
    "a damaged score file": ("scores/part-00001.parquet", lambda p: p.write_bytes(b"?")),
}


def test_a_sound_run_verifies_with_its_inputs(run):
    assert verify(run, inputs=True).problems == ()
    assert verify(run).n_checked > 8


@pytest.mark.parametrize("what", TAMPERING)
def test_verify_finds(run, what):
    name, tamper = TAMPERING[what]
    tamper(run / name)
    found = verify(run)
    assert not found.ok
    assert any(Path(name).name in problem or name.split("/")[0] in problem for problem in found.problems)


def test_verify_finds_changed_inputs_when_asked(run, raw):
    write(raw / "part-001.jsonl", rows(3))
    (raw / "part-002.jsonl").unlink()
    assert verify(run).ok
    problems = verify(run, inputs=True).problems
    assert len(problems) == 2
    assert "part-001.jsonl" in problems[0]
    assert "part-002.jsonl" in problems[1]


def test_verify_needs_a_finished_run(tmp_path):
    with pytest.raises(RunError, match="no finished run"):
        verify(tmp_path)


def test_verify_knows_json_lines_too(raw, tmp_path):
    select(raw, tmp_path / "out", format="jsonl.zst")
    assert verify(tmp_path / "out").ok
    change_a_byte(next((tmp_path / "out" / "shards").iterdir()))
    assert not verify(tmp_path / "out").ok


def test_nothing_of_the_work_is_left(raw, tmp_path):
    select(raw, tmp_path / "out")
    names = {p.relative_to(tmp_path / "out").parts[0] for p in (tmp_path / "out").rglob("*")}
    assert names == {"manifest.json", "README.md", "croissant.json", "ledger.parquet", "shards", "scores", "scorer"}
    assert os.listdir(tmp_path / "out" / "shards") == ["part-00000.parquet"]


def test_a_run_stopped_by_a_bad_row_goes_on_when_such_rows_are_set_aside(tmp_path):
    good = [json.dumps(row).encode() for row in rows(30)]
    lines(tmp_path / "raw" / "a.jsonl", *good, b"{broken")
    with pytest.raises(InputError, match="line 31"):
        select(tmp_path / "raw", tmp_path / "out")
    result = select(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine")
    assert result.manifest["stats"]["n_bad_rows"] == 1


def test_bad_rows_are_listed_after_a_kill_between_scoring_and_the_quarantine(tmp_path, monkeypatch):
    lines(tmp_path / "raw" / "a.jsonl", *(json.dumps(row).encode() for row in rows(30)), b"{broken")

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(selection_module, "write_quarantine", stop)
        with pytest.raises(KeyboardInterrupt):
            select(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine", spill=False)
    result = select(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine", spill=False)
    assert result.manifest["stats"]["n_bad_rows"] == 1
    assert (tmp_path / "out" / "quarantine.parquet").exists()


def test_an_output_folder_among_the_inputs_is_refused(tmp_path):
    sharded(tmp_path / "raw", rows(30), 2)
    select(tmp_path / "raw", tmp_path / "raw" / "out")
    with pytest.raises(UsageError, match="below --out"):
        select(tmp_path / "raw", tmp_path / "raw" / "out", budget=5, overwrite=True)


def test_flags_that_are_no_flags_are_refused(tmp_path):
    sharded(tmp_path / "raw", rows(30), 2)
    with pytest.raises(UsageError, match="compat='no': must be true or false"):
        select(tmp_path / "raw", tmp_path / "out", settings={"compat": "no"})


def test_a_lock_can_be_shared_where_that_takes_reading_and_a_server_that_is_away_is_worth_another_try(
    tmp_path, monkeypatch
):
    codes = [errno.ENOSYS, errno.ENOLCK, errno.ESTALE, errno.EIO]

    def flock(handle, kind):
        assert handle.readable()
        code = codes.pop()
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    while len(codes) > 1:
        with pytest.raises(UnreachableError, match="run the same command again"):
            RunFolder(tmp_path / "run").locked(shared=True).__enter__()
    with pytest.raises(RunError, match="choose a local folder"):
        RunFolder(tmp_path / "run").locked().__enter__()


def test_a_file_that_cannot_be_read_now_is_not_to_be_deleted(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(UnreachableError, match="run the same command again") as error:
        read_json(tmp_path / "manifest.json")
    assert "delete" not in str(error.value)
