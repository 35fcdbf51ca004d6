"""A selection in stages that processes share: the bytes of one call, whoever does which partition, and when."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from corpora import rows, select, sharded, target_rows, tree, write

from curate import stages
from curate.errors import BusyError, InputError, RemovalError, RunError, UsageError
from curate.io.run import RunFolder

SETTINGS = {"n_buckets": 500}


@pytest.fixture
def raw(tmp_path) -> Path:
    write(tmp_path / "target.jsonl", target_rows())
    return sharded(tmp_path / "raw", rows(90), 5)


def prepare(raw: Path, out: Path, **options) -> dict:
    given = {"target": raw.parent / "target.jsonl", "budget": 15, "name": "x", "settings": SETTINGS}
    return stages.prepare(raw, out=out, **given | options)


def finish(out: Path, **more) -> None:
    stages.fit(out, **more)
    stages.score(out, **more)
    stages.draw(out, **more)
    stages.write(out, **more)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"draw": "cover", "method": "bytegrams", "settings": {}},
        {"draw": "pivotal", "weights": {"max_kl": 0.5}},
        {"method": "bytegrams+primed", "settings": {}, "format": "jsonl.zst", "shard_size": 2_000},
        {"per": "source", "draw": "topk", "on_bad_row": "quarantine", "holdout": 0.2},
        {"dedup": True, "filters": {"where": {"short": "n_words < 27"}}},
    ],
    ids=["gumbel", "cover", "pivotal", "fused", "per", "cleaned"],
)
def test_five_stages_leave_the_bytes_of_one_call(raw, tmp_path, options):
    out = tmp_path / "out"
    prepared = prepare(raw, out, **options)
    assert (prepared["n_files"], prepared["n_partitions"], prepared["finished"]) == (5, 5, False)
    left = stages.fit(out)["n_documents"]
    assert left == 90 if "dedup" not in options else 15 < left < 90
    assert stages.score(out, [3, 1]) == {"out": str(out), "n_partitions": 2, "first": 1, "last": 3}
    stages.score(out, [0, 2, 4])
    drawn = stages.draw(out)
    done = stages.write(out)
    assert (drawn["n_documents"], drawn["n_selected"]) == (90, done.n_selected)
    given = {"target": tmp_path / "target.jsonl", "budget": 15, "name": "x"} | options
    select(raw, tmp_path / "whole", **given)
    assert tree(out) == tree(tmp_path / "whole")


def test_processes_score_partitions_at_once_and_none_is_done_twice(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out)
    stages.fit(out)
    code = "import sys; from curate import stages; stages.score(sys.argv[1], list(map(int, sys.argv[2:])), workers=1)"
    parts = [["0", "1", "2"], ["2", "3"], ["2", "4"]]
    running = [subprocess.Popen([sys.executable, "-c", code, str(out), *numbers]) for numbers in parts]
    assert [process.wait() for process in running] == [0, 0, 0]
    made = {path.name: path.stat().st_ino for path in (out / "scores").glob("part-*")}
    assert len(made) == 5
    stages.score(out)
    assert made == {path.name: path.stat().st_ino for path in (out / "scores").glob("part-*")}


def test_who_scores_keeps_an_owner_out_and_an_owner_keeps_them_out(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out)
    stages.fit(out)
    with RunFolder(out).locked(shared=True):
        stages.score(out, [0])
        with pytest.raises(BusyError):
            stages.draw(out)
    with RunFolder(out).locked(), pytest.raises(BusyError):
        stages.score(out, [1])


@pytest.mark.parametrize("stage", ["fit", "score", "draw", "write"])
def test_a_stage_without_the_one_before_says_which_is_missing(raw, tmp_path, stage):
    out = tmp_path / "out"
    with pytest.raises(RunError, match="run the scan first"):
        getattr(stages, stage)(out)
    shutil.rmtree(out)
    prepare(raw, out)
    if stage != "fit":
        with pytest.raises((RunError, InputError)):
            getattr(stages, stage)(out)
    stages.fit(out)
    stages.score(out, [0, 1])
    with pytest.raises(RunError, match=r"3 of 5 partitions have no scores yet \(the first is number 2\)"):
        stages.draw(out)


def test_a_partition_that_there_is_not_is_refused(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    stages.fit(tmp_path / "out")
    with pytest.raises(UsageError, match=r"no partition 5 \(there are 5, from 0\)"):
        stages.score(tmp_path / "out", [4, 5])


def test_stages_of_a_finished_run_do_nothing_and_tell_what_there_is(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out)
    finish(out)
    before = json.loads((out / "manifest.json").read_text())
    again = prepare(raw, out)
    assert again["finished"]
    finish(out, plan=again["plan"])
    assert json.loads((out / "manifest.json").read_text()) == before
    assert stages.draw(out)["n_selected"] == 15


@pytest.mark.parametrize("left", ["nothing", "scan.json"])
def test_what_a_kill_leaves_in_the_work_folder_of_a_finished_run_is_in_nobodys_way(raw, tmp_path, left):
    out = tmp_path / "out"
    prepare(raw, out)
    scan = (out / "_work" / "scan.json").read_bytes()
    finish(out)
    (out / "_work").mkdir()
    if left == "scan.json":
        (out / "_work" / left).write_bytes(scan)
    uuid = stages.write(out).manifest["uuid"]
    assert prepare(raw, out)["finished"]
    assert not (out / "_work").exists()
    assert stages.write(out).manifest["uuid"] == uuid


def test_a_stage_refuses_to_go_on_with_what_another_has_scanned_since(raw, tmp_path):
    out = tmp_path / "out"
    mine = prepare(raw, out)["plan"]
    stages.fit(out, plan=mine)
    stages.score(out, plan=mine)
    stages.draw(out, plan=mine)
    theirs = prepare(raw, out, budget=40, overwrite=True)["plan"]
    for stage in (stages.fit, stages.score, stages.draw, stages.write):
        with pytest.raises(RunError, match="scanned for another selection since"):
            stage(out, plan=mine)
    finish(out, plan=theirs)
    with pytest.raises(RunError):
        stages.write(out, plan=mine)
    assert stages.write(out, plan=theirs).n_selected == 40


@pytest.mark.parametrize("stage", ["fit", "score", "draw"])
@pytest.mark.parametrize("how", ["same size", "gone"])
def test_a_file_that_changes_after_the_scan_is_told_of(raw, tmp_path, stage, how):
    out, path = tmp_path / "out", sorted(raw.iterdir())[1]
    prepare(raw, out, budget=80)
    for before in [name for name in ("fit", "score") if name < stage] if stage != "fit" else []:
        getattr(stages, before)(out)
    if stage == "draw":
        stages.fit(out)
        stages.score(out)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="changed since it was scanned" if how == "same size" else "cannot be"):
        getattr(stages, stage)(out)


def test_a_target_that_changes_after_the_scan_is_told_of(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    write(tmp_path / "target.jsonl", target_rows(39))
    with pytest.raises(InputError, match=r"target.jsonl: changed since it was scanned"):
        stages.fit(tmp_path / "out")


def test_a_scorer_that_went_with_its_files_is_fitted_again(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out)
    stages.fit(out)
    write(raw / "new.jsonl", rows(5, seed=4))
    prepare(raw, out)
    (raw / "new.jsonl").unlink()
    prepare(raw, out)
    finish(out)
    select(raw, tmp_path / "whole", target=tmp_path / "target.jsonl", budget=15, name="x")
    assert tree(out) == tree(tmp_path / "whole")


def test_a_selection_that_was_begun_in_stages_can_be_finished_in_one_call(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out)
    stages.fit(out)
    stages.score(out, [2])
    inode = (out / "scores" / "part-00002.parquet").stat().st_ino
    select(raw, out, target=tmp_path / "target.jsonl", budget=15, name="x")
    assert (out / "scores" / "part-00002.parquet").stat().st_ino == inode
    assert not (out / "_work").exists()


def test_what_would_remove_too_much_is_refused_by_the_fit_until_it_may(raw, tmp_path):
    out, rules = tmp_path / "out", {"where": {"short": "n_words < 27"}}
    with pytest.raises(UsageError, match="--max-removed 2"):
        prepare(raw, out, filters=rules, max_removed=2)
    prepare(raw, out, filters=rules, max_removed={"": 0.01, "maths": 1})
    with pytest.raises(RemovalError, match="more than 1% of the corpus"):
        stages.fit(out)
    prepare(raw, out, filters=rules, max_removed=0.5)
    finish(out)
    assert 0 < json.loads((out / "manifest.json").read_text())["stats"]["reasons"]["short"] < 45


def test_an_evaluation_file_that_changes_after_the_scan_is_told_of(raw, tmp_path):
    quiz = write(tmp_path / "quiz.jsonl", rows(1, seed=8))
    prepare(raw, tmp_path / "out", decontaminate={"against": str(quiz)})
    write(quiz, rows(1, seed=9))
    with pytest.raises(InputError, match=r"\(against\) have changed since it was scanned"):
        stages.fit(tmp_path / "out")


def test_nothing_selected_is_an_error_of_the_draw(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out, draw="threshold", threshold=1e9, budget=None)
    stages.fit(out)
    stages.score(out)
    with pytest.raises(InputError, match="nothing selected"):
        stages.draw(out)
