"""Updates: new files in a finished selection, scored by the scorer that is there, drawn with the old ones."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from corpora import (
    COOKING,
    MATHS,
    SETTINGS,
    jsonl_shards,
    kept_ids,
    ledger,
    lines,
    rows,
    select,
    sharded,
    shards,
    target_rows,
    text,
    tree,
    write,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killing import stride

import curate
from curate.errors import CorruptError, CurateError, InputError, RunError
from curate.io.run import write_json
from curate.scorers import SCORERS, load_scorer
from curate.selection import draw, score
from curate.selection.session import FITTED, Session
from curate.selection.update import pending, update
from curate.verification import verify

ROWS = rows(120)
NEW = [row | {"id": f"n{row['id']}"} for row in rows(48, seed=5)]
OPTIONS: dict[str, Any] = {"name": "x", "budget": 30, "shard_size": 1_000}
DRAWS: dict[str, dict[str, Any]] = {
    "gumbel": {},
    "topk": {"draw": "topk"},
    "threshold": {"draw": "threshold", "threshold": 0.0, "budget": None},
    "uniform": {"draw": "uniform"},
    "cover": {"draw": "cover", "method": "bytegrams"},
    "pivotal": {"draw": "pivotal", "weights": {"max_kl": 0.5}},
    "poisson": {"draw": "poisson", "weights": {"max_kl": 0.5}},
    "of each source": {"per": "source"},
    "a share": {"budget": "20%"},
    "of tokens": {"budget": "700-tokens"},
    "another seed": {"seed": 7},
}
METHODS: dict[str, dict[str, Any]] = {
    "dsir": {},
    "zipfit": {"max_target_texts": 5},
    "primed": {},
    "classifier": {"n_buckets": 4096},
    "bytegrams": {"sample_bytes": 4_000},
    "leverage": {"dim": 32},
    "all": {},
    "dsir+primed": {"dsir.n_buckets": 500},
    "dsir+zipfit": {"fusion": "reciprocal", "dsir.n_buckets": 500, "group": "source"},
}


def finished(folder: Path, of: list[dict[str, Any]] = ROWS, form: str = "jsonl", **options: Any) -> Path:
    """A run over three files in ``folder / "raw"``."""
    sharded(folder / "raw", of, 3, form)
    select(folder / "raw", folder / "out", **OPTIONS | options)
    return folder / "out"


def grow(folder: Path, of: list[dict[str, Any]] = NEW, name: str = "a-new.jsonl") -> None:
    """A file comes, whose name is before those that are there."""
    write(folder / "raw" / name, of)


def numbers(out: Path) -> dict[str, tuple[Any, ...]]:
    """What the ledger says of each document, and the shards of those that are kept."""
    said = {r["doc_id"]: (r["kept"], r["reason"], r["score"], r["weight"], r.get("target")) for r in ledger(out)}
    for row in shards(out).to_pylist():
        assert said[row["id"]][2:4] == (row["curate_score"], row["curate_weight"])
    assert sorted(shards(out)["id"].to_pylist()) == kept_ids(out)
    return said


def selected_by(scorer: Path, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """A selection from all files, in the ordinary way but for its scorer, which is one that was fitted before."""

    def fit(self: Session, scanned: Any, model: Any) -> Any:
        fitted = load_scorer(scorer)
        fitted.save(self.folder.scorer)
        noted = {"key": scanned.key, "fit": {"n_documents": 1}, "n_bad_rows": 0, "spilled": False}
        write_json(self.folder.path / FITTED, noted)
        return fitted

    with monkeypatch.context() as patch:
        patch.setattr(Session, "fit", fit)
        select(folder / "raw", out, spill=False, **OPTIONS | options)
    return out


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


# ---- what is kept


@pytest.mark.parametrize("options", DRAWS.values(), ids=DRAWS)
def test_what_is_kept_is_what_a_draw_over_all_would_keep(tmp_path, monkeypatch, options):
    out = finished(tmp_path, **options)
    grow(tmp_path)
    result = update(out)
    assert (result.n_documents, result.manifest["update"]["n_new_documents"]) == (168, 48)
    whole = selected_by(out / "scorer", tmp_path, tmp_path / "whole", monkeypatch, **options)
    assert numbers(out) == numbers(whole)
    assert verify(out, inputs=True).problems == ()


def test_scores_are_those_of_the_saved_scorer_and_the_best_of_all_are_kept(tmp_path):
    out = finished(tmp_path, draw="topk")
    before = load_scorer(out / "scorer")
    grow(tmp_path)
    update(out)
    found = {row["doc_id"]: row["score"] for row in ledger(out)}
    expected = before.score([row["text"] for row in [*ROWS, *NEW]])
    assert found == dict(zip([row["id"] for row in [*ROWS, *NEW]], expected, strict=True))
    assert kept_ids(out) == sorted(sorted(found, key=lambda i: -found[i])[:30])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_updated(tmp_path, monkeypatch, method):
    if method == "classifier":
        pytest.importorskip("sklearn")
    options = {"method": method, "settings": METHODS[method]}
    out = finished(tmp_path, **options)
    grow(tmp_path)
    update(out)
    whole = selected_by(out / "scorer", tmp_path, tmp_path / "whole", monkeypatch, **options)
    assert numbers(out) == numbers(whole)
    assert verify(out).problems == ()


def test_the_list_of_methods_is_complete():
    assert set(SCORERS) <= set(METHODS)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_the_corpus_is_split_into_old_and_new(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("split")
    everything = [*ROWS, *NEW]
    random.Random(data.draw(st.integers(0, 99), "order")).shuffle(everything)
    cuts = sorted(data.draw(st.sets(st.integers(10, len(everything) - 1), min_size=1, max_size=5), "cuts"))
    files = [everything[a:b] for a, b in zip([0, *cuts], [*cuts, len(everything)], strict=True)]
    n_old = data.draw(st.integers(1, len(files) - 1), "old")
    names = data.draw(st.permutations([f"{i}.jsonl" for i in range(len(files))]), "names")
    options = data.draw(st.sampled_from([DRAWS[n] for n in ("gumbel", "topk", "a share", "pivotal")]), "options")
    for name, part in zip(names[:n_old], files[:n_old], strict=True):
        write(folder / "raw" / name, part)
    target = write(folder / "target.jsonl", target_rows())
    out = folder / "out"
    select(folder / "raw", out, target=target, **OPTIONS | options)
    for name, part in zip(names[n_old:], files[n_old:], strict=True):
        write(folder / "raw" / name, part)
    update(out)
    assert verify(out, inputs=True).problems == ()
    with pytest.MonkeyPatch.context() as patch:
        whole = selected_by(out / "scorer", folder, folder / "whole", patch, **options)
    assert numbers(out) == numbers(whole)


@pytest.mark.parametrize("options", [{}, {"budget": "20%"}, {"method": "dsir+primed", "settings": {}}])
def test_two_updates_keep_what_one_with_both_keeps(tmp_path, options):
    out = finished(tmp_path, **options)
    shutil.copytree(out, tmp_path / "once")
    grow(tmp_path, NEW[:20])
    update(out)
    grow(tmp_path, NEW[20:], "0-newer.jsonl")
    second = update(out)
    update(tmp_path / "once")
    assert numbers(out) == numbers(tmp_path / "once")
    assert second.manifest["update"]["n_new_files"] == 1
    assert [item["name"] for item in second.manifest["inputs"]] == [
        "part-000.jsonl", "part-001.jsonl", "part-002.jsonl", "a-new.jsonl", "0-newer.jsonl"
    ]  # fmt: skip
    assert verify(out, inputs=True).problems == ()


def test_separate_targets_go_on_with_their_own_parts_of_the_budget(tmp_path, monkeypatch):
    cooks = write(tmp_path / "cooks.jsonl", target_rows(words=COOKING))
    maths = write(tmp_path / "maths.jsonl", target_rows())
    options = {"target": {"c": str(cooks), "m": str(maths)}, "settings": {"separate_targets": True, "n_buckets": 200}}
    out = finished(tmp_path, **options)
    grow(tmp_path)
    update(out)
    whole = selected_by(out / "scorer", tmp_path, tmp_path / "whole", monkeypatch, **options)
    assert numbers(out) == numbers(whole)
    assert set(shards(out)["curate_target"].to_pylist()) == {"c", "m"}


def test_new_documents_are_assigned_to_the_clusters_that_there_are(tmp_path, monkeypatch):
    sharded(tmp_path / "raw", ROWS, 3)
    curate.domains(tmp_path / "raw", out=tmp_path / "domains", k=3)
    options = {"domains": tmp_path / "domains", "per": "cluster", "holdout": 0.2}
    out = finished(tmp_path, **options)
    grow(tmp_path)
    update(out)
    whole = selected_by(out / "scorer", tmp_path, tmp_path / "whole", monkeypatch, **options)
    assert numbers(out) == numbers(whole)
    clusters = pq.read_table(out / "scores" / "part-00003.parquet")["cluster"].to_pylist()
    assert set(clusters) == {"0", "1", "2"}


def test_ids_that_are_there_already_are_warned_of(tmp_path):
    out = finished(tmp_path)
    grow(tmp_path, ROWS[:7])
    assert any("7 documents share their id" in warning for warning in update(out).warnings)


# ---- shards


UNLIKE = [{"id": f"u{i}", "text": text(COOKING, 30, random.Random(i)), "source": "cooking"} for i in range(20)]
BEST = {"id": "best", "text": text(MATHS, 30, random.Random(99)), "source": "maths"}


def spoil(path: Path) -> None:
    """Bytes that are no corpus, as many as before."""
    path.write_bytes(b"\0" * path.stat().st_size)


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
def test_shards_that_stay_are_left_alone_and_their_raw_text_is_not_read(tmp_path, form):
    out = finished(tmp_path, draw="topk", format=form, shard_size=700)
    before = state(out / "shards")
    files = {path: path.read_bytes() for path in before}
    assert len(before) > 6
    for path in (tmp_path / "raw").iterdir():
        spoil(path)
    grow(tmp_path, UNLIKE)
    assert update(out).manifest["update"] == {
        "n_new_files": 1, "n_new_documents": 20, "n_new_selected": 0,
        "n_shards_written": 0, "n_shards_kept": len(before),
    }  # fmt: skip
    assert state(out / "shards") == before
    assert {path: path.read_bytes() for path in before} == files
    assert verify(out).ok
    with pytest.raises(RunError, match=r"raw/part-000.jsonl: other content than when .* \(SHA-256\); .* --overwrite"):
        update(out, rehash=True)


def test_rows_are_fetched_only_from_the_files_of_shards_that_change(tmp_path):
    out = finished(tmp_path, draw="topk", shard_size=700)
    worst = min((row for row in ledger(out) if row["kept"]), key=lambda row: row["score"])
    (holder,) = [
        path for path in (out / "shards").iterdir() if worst["doc_id"] in pq.read_table(path)["id"].to_pylist()
    ]
    of_shard = pq.read_table(holder)["id"].to_pylist()
    needed = {row["path"] for row in ledger(out) if row["doc_id"] in of_shard}
    for path in (tmp_path / "raw").iterdir():
        if path.name not in needed:
            spoil(path)
    assert len(needed) < 3
    before = state(out / "shards")
    grow(tmp_path, [*UNLIKE, BEST])
    result = update(out)
    after = state(out / "shards")
    assert {path for path in before if before[path] != after.get(path)} == {holder}
    assert len(set(after) - set(before)) == 1
    assert result.manifest["update"]["n_shards_written"] == 2
    assert set(kept_ids(out)) >= {"best"} - {worst["doc_id"]}
    assert verify(out).ok
    for path in sorted((tmp_path / "raw").iterdir()):
        spoil(path)
    grow(tmp_path, rows(60, seed=9), "b.jsonl")
    with pytest.raises((CorruptError, InputError)):
        update(out)
    assert verify(out).ok  # what could not be fetched has changed nothing


def test_a_shard_that_nothing_is_left_of_goes_and_the_others_keep_their_names(tmp_path):
    first, second = ROWS[:60], ROWS[60:]
    write(tmp_path / "raw" / "a.jsonl", [row for row in first if row["source"] == "cooking"])
    write(tmp_path / "raw" / "b.jsonl", [row for row in second if row["source"] == "maths"])
    out = tmp_path / "out"
    select(tmp_path / "raw", out, name="x", draw="topk", budget=40, shard_size=600)
    before = {path.name for path in (out / "shards").iterdir()}
    write(tmp_path / "raw" / "c.jsonl", [row | {"id": f"c{row['id']}"} for row in ROWS if row["source"] == "maths"])
    result = update(out)
    names = [path.name for path in result.shards]
    gone = before - set(names)
    assert "part-00000.parquet" in gone
    assert names == sorted(names)
    new = [name for name in names if name not in before]
    assert new[0] == f"part-{len(before):05d}.parquet"
    assert verify(out).ok
    write(tmp_path / "raw" / "d.jsonl", NEW)
    update(out)
    assert verify(out).ok


def test_weights_are_of_the_whole_selection_so_that_a_share_of_more_documents_changes_every_shard(tmp_path):
    out = finished(tmp_path, budget="20%")
    grow(tmp_path, UNLIKE)
    assert update(out).manifest["update"]["n_shards_kept"] == 0
    assert sum(shards(out)["curate_weight"].to_pylist()) == pytest.approx(1)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_column_that_only_new_files_have_is_in_all_shards(tmp_path, form):
    out = finished(tmp_path, draw="topk", form=form)
    grow(tmp_path, [BEST | {"licence": "cc0"}], f"new.{form}")
    update(out)
    assert all("licence" in pq.read_schema(path).names for path in (out / "shards").iterdir())
    assert [row["id"] for row in shards(out).to_pylist() if row["licence"]] == ["best"]
    assert verify(out).ok


@pytest.mark.parametrize("raw", ["parquet", "jsonl"])
@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
def test_shards_in_either_format_hold_what_the_ledger_keeps(tmp_path, raw, form):
    out = finished(tmp_path, form=raw, format=form)
    for i, some in enumerate((NEW[:24], NEW[24:])):
        grow(tmp_path, some, f"new-{i}.{raw}")
        update(out)
        found = jsonl_shards(out) if form == "jsonl.zst" else shards(out).to_pylist()
        kept = {row["doc_id"]: (row["score"], row["weight"]) for row in ledger(out) if row["kept"]}
        assert {row["id"]: (row["curate_score"], row["curate_weight"]) for row in found} == kept
        assert {row["id"]: row["text"] for row in found}.items() <= {r["id"]: r["text"] for r in [*ROWS, *NEW]}.items()
        assert verify(out).ok


def test_a_run_whose_ledger_does_not_know_the_columns_is_written_anew_as_a_whole(tmp_path):
    out = finished(tmp_path, draw="topk")
    table = pq.read_table(out / "ledger.parquet").replace_schema_metadata(None)
    pq.write_table(table, out / "ledger.parquet")
    grow(tmp_path, UNLIKE)
    assert update(out).manifest["update"]["n_shards_kept"] == 0
    grow(tmp_path, [row | {"id": f"{row['id']}x"} for row in UNLIKE], "b.jsonl")
    assert update(out).manifest["update"]["n_shards_written"] == 0


# ---- files


def test_more_raw_can_be_named_and_belongs_to_it_from_then_on(tmp_path):
    out = finished(tmp_path)
    write(tmp_path / "more" / "new.jsonl", NEW[:20])
    result = update(out, tmp_path / "more")
    assert result.manifest["recipe"]["raw"] == [str(tmp_path / "raw"), str(tmp_path / "more")]
    write(tmp_path / "more" / "newer.jsonl", NEW[20:])
    assert update(out).manifest["update"]["n_new_files"] == 1
    assert update(out, [tmp_path / "more", tmp_path / "raw"]).seconds == {}


def test_with_nothing_new_nothing_changes(tmp_path):
    out = finished(tmp_path)
    before = state(out)
    result = update(out)
    assert result.seconds == {}
    assert result.manifest == json.loads((out / "manifest.json").read_text())
    assert state(out) == before


def test_what_is_pending_is_told_without_a_trace(tmp_path):
    out = finished(tmp_path)
    grow(tmp_path)
    before = state(out)
    found = pending(out)
    assert [source.name for source in found.new] == ["a-new.jsonl"]
    assert found.n_new_bytes == (tmp_path / "raw" / "a-new.jsonl").stat().st_size
    assert len(found.known) == 3
    assert state(out) == before


def gone(raw: Path) -> None:
    (raw / "part-001.jsonl").unlink()


def renamed(raw: Path) -> None:
    (raw / "part-001.jsonl").rename(raw / "part-x.jsonl")


def changed(raw: Path) -> None:
    with open(raw / "part-001.jsonl", "a") as file:
        file.write('{"id": "z", "text": "z"}\n')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            gone,
            r"raw/part-001.jsonl: gone since .*out was made; an update takes in new files only: put it back, or sel",
        ),
        (renamed, r"raw/part-001.jsonl: gone since .*out was made"),
        (changed, r"raw/part-001.jsonl: [\d,]+ bytes, but [\d,]+ when .*out was made; .* --overwrite"),
    ],
)
def test_an_old_file_that_is_not_what_it_was_is_refused_by_name(tmp_path, how, message):
    out = finished(tmp_path)
    grow(tmp_path)
    how(tmp_path / "raw")
    before = state(out)
    for what in (update, pending):
        with pytest.raises(RunError, match=message):
            what(out)
    assert state(out) == before


def test_files_in_another_place_are_taken_for_the_same_only_when_their_hashes_are(tmp_path):
    out = finished(tmp_path)
    manifest, commit = out / "manifest.json", out / "scores" / "scores.json"
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    for path in (manifest, commit):  # as when a relative path is another one by now
        path.write_text(path.read_text().replace(f'"{tmp_path}/raw"', f'"{tmp_path}/elsewhere"'))
    write(tmp_path / "elsewhere" / "new.jsonl", NEW)
    with pytest.raises(RunError, match=r"elsewhere/part-000.jsonl: was .*raw/part-000.jsonl .* pass --rehash"):
        update(out)
    assert update(out, rehash=True).manifest["inputs"][0]["path"] == f"{tmp_path}/elsewhere/part-000.jsonl"


def test_another_target_is_refused(tmp_path):
    out = finished(tmp_path)
    grow(tmp_path)
    write(tmp_path / "target.jsonl", target_rows(39))
    with pytest.raises(RunError, match=r"the target, the tokenizer or another file .* is not what it was"):
        update(out)
    assert verify(out).ok


def test_without_a_finished_run_there_is_nothing_to_update(tmp_path):
    with pytest.raises(RunError, match="no finished run to update; run curate select first"):
        update(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    sharded(tmp_path / "raw", ROWS, 3)
    score(tmp_path / "raw", target=write(tmp_path / "t.jsonl", target_rows()), out=tmp_path / "out", settings=SETTINGS)
    with pytest.raises(RunError, match="run curate select again to complete it first"):
        update(tmp_path / "out")


# ---- bad rows


def test_bad_rows_of_new_files_are_added_to_the_quarantine(tmp_path):
    sharded(tmp_path / "raw", ROWS, 3)
    lines(tmp_path / "raw" / "z.jsonl", b"{old", b'{"id": "z", "text": "a text"}')
    out = tmp_path / "out"
    select(tmp_path / "raw", out, **OPTIONS, on_bad_row="quarantine")
    lines(tmp_path / "raw" / "y.jsonl", b'{"id": "y", "text": "a text"}', b"{new", b"[1]")
    result = update(out)
    assert result.manifest["stats"]["n_bad_rows"] == 3
    assert any("3 rows could not be read" in warning for warning in result.warnings)
    found = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert [(Path(r["path"]).name, r["row"], r["content"]) for r in found] == [
        ("z.jsonl", 0, b"{old"), ("y.jsonl", 1, b"{new"), ("y.jsonl", 2, b"[1]")
    ]  # fmt: skip
    assert verify(out, inputs=True).ok


def test_a_bad_row_stops_an_update_and_leaves_the_run_as_it_was(tmp_path):
    out = finished(tmp_path)
    before = tree(out)
    lines(tmp_path / "raw" / "y.jsonl", b"{new")
    with pytest.raises(InputError, match=r"y.jsonl line 1"):
        update(out)
    assert {name: sha for name, sha in tree(out).items() if not name.startswith("_work/")} == before
    assert verify(out).ok
    write(tmp_path / "raw" / "y.jsonl", NEW)
    update(out)
    assert verify(out).ok
    assert not (out / "_work").exists()


# ---- an update that does not come to its end


DRIVER = """
import json, os, shutil, signal, sys, threading
from pathlib import Path
from corpora import rows, select, sharded, target_rows, tree, write
from curate.selection.update import update
from curate.verification import verify

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
NEW = [row | {"id": f"n{row['id']}"} for i, row in enumerate(rows(40, seed=5)) if row["source"] != "maths" or i < 6]
if "dedup" in options:
    NEW += [row | {"id": f"twin{i}"} for i, row in enumerate(rows(60)[::7])]
    words = [row["text"].split()[:15] for row in (rows(60)[3], NEW[2])]
    quiz = write(folder / "quiz.parquet", [{"text": " ".join(some)} for some in words])
    options["decontaminate"] = {"against": str(quiz)}
target = write(folder / "target.jsonl", target_rows())
sharded(folder / "raw", rows(60), 3, "parquet")
real = {name: getattr(os, name) for name in ("replace", "link", "unlink")}
state = {"left": None, "after": False}
lock = threading.Lock()

def killing(name):
    def call(*args, **kwargs):
        if state["left"] is None:
            return real[name](*args, **kwargs)
        with lock:
            state["left"] -= 1
            mine = state["left"] == 0
        if mine and not state["after"]:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real[name](*args, **kwargs)
        finally:
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
    return call

for name in real:
    setattr(os, name, killing(name))

base = folder / "base"
select(folder / "raw", base, target=target, **{"name": "x", "budget": 20, "shard_size": 600, "workers": 2, **options})
sharded(folder / "raw" / "new", NEW, 2, "parquet")
(folder / "raw" / "new" / "part-001.parquet").rename(folder / "raw" / "a.parquet")
shutil.copytree(base, folder / "warm")
update(folder / "warm", workers=2)
wanted, n_kept = tree(folder / "warm"), json.loads((folder / "warm/manifest.json").read_text())["update"]
found, k, killed, every = [], 0, True, int(sys.argv[3])
while killed:
    k += every
    out = folder / str(k)
    shutil.copytree(base, out)
    child = os.fork()
    if not child:
        state.update(left=k, after=len(found) % 2 == 1)
        update(out, workers=2)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    there = (out / "manifest.json").exists()
    sound = not there or verify(out).ok
    if not there:
        try:
            select(folder / "raw", out, target=target, budget=20, name="x")
            refused = False
        except Exception as error:
            refused = "--update" in str(error)
    else:
        refused = None
    update(out, workers=2)
    found.append({"k": k, "there": there, "sound": sound, "refused": refused, "same": tree(out) == wanted,
                  "verified": verify(out).problems})
    shutil.rmtree(out)
print(json.dumps({"kills": found, "update": n_kept}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "every"),
    [
        ({"draw": "topk"}, stride(4)),
        (
            {"method": "dsir+zipfit", "settings": {"dsir.n_buckets": 200}, "budget": "30%", "shard_size": 3_000},
            stride(5),
        ),
        ({"draw": "topk", "dedup": True}, stride(70)),
    ],
    ids=["some shards stay", "fused, all change", "cleaned"],
)
def test_an_update_killed_at_any_rename_goes_on_to_the_same_bytes(tmp_path, options, every):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, tmp_path, json.dumps(options), str(every)],
        capture_output=True, text=True, check=False, timeout=600, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for kill in found["kills"]:
        assert kill["sound"], kill
        assert kill["same"], kill
        assert kill["verified"] == [], kill
        assert kill["refused"] in (None, True), kill
    if every < 40:  # of some 380 renames of one that cleans 44 are in between
        assert {kill["there"] for kill in found["kills"]} == {True, False}
    assert len(found["kills"]) > (80 if "dedup" in options else 40) // every
    assert (found["update"]["n_shards_kept"] > 0) == (options.get("draw") == "topk")


class StoppedError(Exception):
    pass


def stop_while_writing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that has written what it writes, but is not committed."""

    def commit(self: Session, manifest: Any, schema: Any) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", commit)
        with pytest.raises(StoppedError):
            update(out)
    assert not (out / "manifest.json").exists()


def test_other_files_may_have_come_before_an_update_goes_on(tmp_path, monkeypatch):
    out = finished(tmp_path, draw="topk")
    shutil.copytree(out, tmp_path / "fresh")
    before = tree(out)
    grow(tmp_path, [BEST, *NEW])
    stop_while_writing(out, monkeypatch)
    assert tree(out)["shards/part-00000.parquet"] != before["shards/part-00000.parquet"]
    grow(tmp_path, UNLIKE)  # instead of the best
    result = update(out)
    assert kept_ids(out) == kept_ids(tmp_path / "fresh")
    assert result.manifest["update"]["n_shards_written"] > 0
    assert {name: sha for name, sha in tree(out).items() if name.startswith("shards/")} == {
        name: sha for name, sha in before.items() if name.startswith("shards/")
    }
    assert verify(out).ok


@pytest.mark.parametrize("method", ["dsir", "dsir+zipfit"])
def test_what_had_come_may_be_gone_before_an_update_goes_on(tmp_path, monkeypatch, method):
    out = finished(tmp_path, method=method)
    before = numbers(out)
    grow(tmp_path)
    stop_while_writing(out, monkeypatch)
    (tmp_path / "raw" / "a-new.jsonl").unlink()
    update(out)
    assert numbers(out) == before
    assert verify(out).ok
    assert update(out).seconds == {}
    grow(tmp_path)
    update(out)
    assert verify(out).ok


def test_a_half_done_update_is_not_destroyed_by_other_commands(tmp_path, monkeypatch):
    out = finished(tmp_path)
    grow(tmp_path)
    stop_while_writing(out, monkeypatch)
    before = tree(out)
    refused = r"an update is half done here; go on with curate select --update .*out, choose .* --overwrite"
    with pytest.raises(RunError, match=refused):
        select(tmp_path / "raw", out, **OPTIONS)
    with pytest.raises(RunError, match=refused):
        draw(out, budget=5)
    with pytest.raises(RunError, match=refused):
        score(tmp_path / "raw", target=tmp_path / "target.jsonl", out=out, settings=SETTINGS)
    with pytest.raises(RunError, match=r"--update .* to complete it"):
        verify(out)
    assert tree(out) == before
    select(tmp_path / "raw", out, **OPTIONS, overwrite=True)
    select(tmp_path / "raw", tmp_path / "fresh", **OPTIONS)
    assert tree(out) == tree(tmp_path / "fresh")


def test_scoring_that_was_stopped_is_not_thrown_away_by_the_same_selection(tmp_path, monkeypatch):
    out = finished(tmp_path)
    write(tmp_path / "more" / "new.jsonl", NEW)

    def decide(self: Session, *args: Any) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Session, "decide", decide)
        with pytest.raises(StoppedError):
            update(out, tmp_path / "more")
    assert verify(out).ok
    with pytest.raises(RunError, match="an update is half done"):
        select(tmp_path / "raw", out, **OPTIONS)
    part = out / "_work" / "scores" / "part-00003.parquet"
    inode = part.stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr("curate.steps.score._from_text", lambda *args: pytest.fail("scored again"))
        update(out, tmp_path / "more")
    assert (out / "scores" / "part-00003.parquet").stat().st_ino == inode


# ---- an updated run is a run


def test_an_updated_run_says_where_it_is_from_and_does_not_claim_that_it_can_be_selected_anew(tmp_path):
    out = finished(tmp_path)
    first = json.loads((out / "manifest.json").read_text())
    grow(tmp_path)
    manifest = update(out).manifest
    assert manifest["parents"] == [{name: first[name] for name in ("uuid", "recipe_sha256")}]
    assert manifest["recipe_sha256"] == first["recipe_sha256"]
    assert manifest["stats"]["fit"]["n_documents"] == 120
    assert manifest["command"].startswith("curate select --update OUT  # the scorer is fitted to the first 3 of 4 ")
    assert manifest["uuid"] != first["uuid"]


def test_an_updated_run_can_be_drawn_from_reported_and_updated_after_that(tmp_path):
    out = finished(tmp_path)
    grow(tmp_path, NEW[:20])
    update(out)
    other = draw(out, out=tmp_path / "other", budget=12, draw="topk")
    assert "--update" in other.manifest["command"]
    again = draw(out, budget=12, draw="topk", overwrite=True)
    assert kept_ids(out) == kept_ids(tmp_path / "other")
    assert "update" not in again.manifest
    grow(tmp_path, NEW[20:], "b.jsonl")
    for folder in (out, tmp_path / "other"):
        assert update(folder).n_selected == 12
        assert verify(folder, inputs=True).ok
    assert numbers(out) == numbers(tmp_path / "other")
    assert command("report", out).exit_code == 0
    assert "curate select --update OUT" in (out / "report.html").read_text()


def test_an_updated_run_can_be_evaluated(tmp_path):
    pytest.importorskip("pyppmd")
    out = finished(tmp_path, of=rows(300), budget=60, holdout=0.3)
    grow(tmp_path)
    update(out)
    assert curate.evaluate(out, sample="4kB", heldout_size="2kB", seeds=3).verdict


def test_the_same_selection_over_a_corpus_that_grew_is_refused_with_a_hint(tmp_path):
    out = finished(tmp_path)
    grow(tmp_path)
    refused = r"files that are not what they were .* curate select --update .*out, choose another folder or .*--overwr"
    with pytest.raises(RunError, match=refused):
        select(tmp_path / "raw", out, **OPTIONS)
    update(out)
    with pytest.raises(RunError, match=refused):  # it would be fitted anew
        select(tmp_path / "raw", out, **OPTIONS)
    assert verify(out).ok


def test_a_report_and_a_curriculum_of_what_was_go(tmp_path):
    out = finished(tmp_path)
    for name in ("report.html", "evidence.json", "curriculum.parquet", "state.parquet"):
        (out / name).write_bytes(b"of what was")
    grow(tmp_path)
    update(out)
    assert not any((out / name).exists() for name in ("report.html", "evidence.json", "curriculum.parquet"))


# ---- engines


def test_workers_do_not_matter(tmp_path):
    out = finished(tmp_path, form="parquet")
    for i in range(4):
        grow(tmp_path, NEW[i * 12 : i * 12 + 12], f"new-{i}.parquet")
    shutil.copytree(out, tmp_path / "one")
    update(out, workers=3)
    update(tmp_path / "one", workers=1, memory_limit="1GB")
    assert tree(out) == tree(tmp_path / "one")


@pytest.mark.usefixtures("no_other_ray")
def test_ray_updates_to_the_same_bytes(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    out = finished(tmp_path)
    grow(tmp_path, NEW[:30])
    lines(tmp_path / "raw" / "empty.jsonl")
    shutil.copytree(out, tmp_path / "here")
    update(tmp_path / "here")
    mine = not ray.is_initialized()
    if mine:
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        update(out, engine="ray")
    finally:
        if mine:
            ray.shutdown()
    assert tree(out) == tree(tmp_path / "here")


# ---- the command line


def command(*words: object) -> Any:
    from click.testing import CliRunner

    from curate.cli import main

    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def test_the_command_updates_and_says_how_much(tmp_path):
    out = finished(tmp_path)
    grow(tmp_path)
    planned = command("select", "--update", out, "--dry-run")
    size = (tmp_path / "raw" / "a-new.jsonl").stat().st_size
    assert planned.stdout.startswith("1 new file, ")
    assert "beside the 3 that" in planned.stdout
    as_json = json.loads(command("select", "--update", out, "--dry-run", "--json").stdout)
    assert (as_json["n_new_files"], as_json["n_new_bytes"]) == (1, size)
    done = command("select", "--update", out, "--workers", 2, "--memory-limit", "1GB", "--rehash", "-q")
    assert done.exit_code == 0
    assert "update   1 new file, 48 documents, " in done.stdout
    again = command("select", "--update", out, "--json")
    assert (again.exit_code, json.loads(again.stdout)["seconds"]) == (0, {})
    assert again.stderr == f"nothing new: the raw files are those that {out} is made of\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--budget", "5"), ("--method", "dsir"), ("--target", "t.jsonl"), ("--seed", 0), ("--out", "x"),
        ("--overwrite",), ("--set", "n=2"), ("--text-column", "text"), ("--format", "parquet"), ("--per", "source"),
        ("--on-bad-row", "raise"), ("--shard-size", "1MB"), ("--name", "x"), ("--scores-from", "x"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_options_that_the_run_has_fixed_are_refused(tmp_path, words):
    done = command("select", "--update", tmp_path / "out", *words)
    assert done.exit_code == 2
    assert f"curate: {words[0]}: fixed by the run in {tmp_path}/out" in done.stderr


def test_what_a_selection_needs_is_still_asked_for(tmp_path):
    assert "Missing argument 'RAW...'" in command("select", "--out", tmp_path / "out").stderr
    assert "Missing option '--out'" in command("select", tmp_path).stderr
    assert "--rehash is of --update" in command("select", tmp_path, "--out", tmp_path / "out", "--rehash").stderr
    done = command("select", "--update", tmp_path / "out")
    assert (done.exit_code, done.stderr) == (
        1, f"curate: {tmp_path}/out: no finished run to update; run curate select first\n"
    )  # fmt: skip
    assert issubclass(RunError, CurateError)
