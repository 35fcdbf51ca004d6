"""Kills, full disks and damaged files: a run goes on from there, to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpora import encoded, rows, select, sharded, target_rows, tree, write
from killing import killed_at_every_commit, stride

from curate.cli import main
from curate.errors import CorruptError, CurateError, InputError, ResourceError

LEFTOVERS = ("_work", ".curate.lock")


def leftovers(out: Path) -> list[str]:
    """What only an unfinished run may have."""
    return [p.name for p in out.rglob("*") if p.name in LEFTOVERS or p.name.endswith(".part")]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return sharded(tmp_path / "raw", rows(60), 4)


COMMON = {"name": "x", "budget": 30, "shard_size": 1_500}


# ---- kills


@pytest.mark.parametrize("spill", ["spill", "reread"])
def test_a_run_killed_at_any_commit_resumes_to_the_same_bytes(tmp_path, spill):
    found = killed_at_every_commit(tmp_path, both=True, every=4, spill=spill == "spill")
    assert len(found) > 8


def command(raw: Path, out: Path) -> list[str]:
    words = ["select", str(raw), "--target", str(raw.parent / "target.jsonl"), "--budget", "50", "--out", str(out)]
    return [sys.executable, "-m", "curate", *words, "--set", "n_buckets=500", "--shard-size", "1kB", "--name", "x"]


def test_a_command_killed_at_any_moment_resumes_to_the_same_bytes(tmp_path):
    raw = sharded(tmp_path / "raw", rows(400), 20)
    write(tmp_path / "target.jsonl", target_rows())

    def start(out: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command(raw, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not out.exists() and process.poll() is None:
            time.sleep(0.002)
        return process

    process = start(tmp_path / "whole")
    began = time.monotonic()
    assert process.wait() == 0
    took = time.monotonic() - began
    wanted = tree(tmp_path / "whole")
    assert len(wanted) > 25

    n_killed = 0
    for i in range(6):
        out = tmp_path / f"killed{i}"
        process = start(out)
        time.sleep(took * (i + 0.5) / 7)
        process.send_signal(signal.SIGKILL)
        n_killed += process.wait() == -signal.SIGKILL
        process.stderr.close()
        select(raw, out, target=tmp_path / "target.jsonl", budget="50", shard_size="1kB", name="x")
        assert tree(out) == wanted
        assert leftovers(out) == []
    assert n_killed > 2


def test_a_kill_while_an_old_run_is_overwritten_leaves_nothing_of_it(raw, tmp_path, monkeypatch):
    """Whatever removal was the last, the next run of the new recipe gives what a fresh folder gives."""
    import curate.io.run as run_module

    select(raw, tmp_path / "fresh", seed=5, settings={"n": 1}, name="x", budget=5)
    wanted = tree(tmp_path / "fresh")
    real = run_module.RunFolder._remove

    class Killed(BaseException):
        pass

    for n in range(1, 12):
        out = tmp_path / f"out{n}"
        select(raw, out, **COMMON)
        left = [n]

        def remove(self, *names, left=left):
            for name in names:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                real(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(run_module.RunFolder, "_remove", remove)
            try:
                select(raw, out, seed=5, settings={"n": 1}, name="x", budget=5, overwrite=True)
                break
            except Killed:
                pass
        select(raw, out, seed=5, settings={"n": 1}, name="x", budget=5, overwrite=True)
        assert tree(out) == wanted
        assert leftovers(out) == []
    assert n > 6


# ---- full disks


@pytest.mark.parametrize("spill", [True, False])
def test_a_disk_that_is_full_at_any_commit_is_one_line_and_the_next_run_goes_on(raw, tmp_path, monkeypatch, spill):
    select(raw, tmp_path / "whole", spill=spill, workers=1, **COMMON)
    wanted = tree(tmp_path / "whole")
    real = os.replace
    n_failed = 0
    for k in range(1 + spill * (stride(2) - 1), 200, stride(2)):
        left = [k]

        def replace(source, to, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            return real(source, to)

        out = tmp_path / f"out{k}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            try:
                select(raw, out, spill=spill, workers=1, **COMMON)
                break
            except ResourceError as error:
                message = str(error)
        n_failed += 1
        assert message.startswith(str(out))
        assert "no space left on the disk" in message
        assert "\n" not in message
        assert list(out.rglob("*.part")) == []
        assert not (out / "manifest.json").exists()
        select(raw, out, spill=spill, workers=2, **COMMON)
        assert tree(out) == wanted
        assert leftovers(out) == []
    assert n_failed > 10


WRITERS = {
    "parquet": (pq.ParquetWriter, "write_table"),
    "numpy": (np, "save"),
    "text": (Path, "write_text"),
}


@pytest.mark.parametrize("what", WRITERS)
@pytest.mark.parametrize("k", [1, 3])
def test_a_disk_that_is_full_in_the_middle_of_a_file_leaves_no_part_of_it(raw, tmp_path, monkeypatch, what, k):
    owner, name = WRITERS[what]
    real, left = getattr(owner, name), [k]

    def failing(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(ResourceError, match="no space left on the disk"):
            select(raw, tmp_path / "out", workers=1, **COMMON)
    assert list((tmp_path / "out").rglob("*.part")) == []
    assert not (tmp_path / "out" / "manifest.json").exists()
    select(raw, tmp_path / "out", **COMMON)
    select(raw, tmp_path / "whole", **COMMON)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


# ---- damaged files

DAMAGED = {
    "truncated Parquet": ("x.parquet", encoded("parquet", rows(20))[:-30]),
    "Parquet without its end": ("x.parquet", encoded("parquet", rows(20))[:200]),
    "truncated gzip": ("x.jsonl.gz", encoded("jsonl.gz", rows(20))[:-30]),
    "truncated zstd": ("x.jsonl.zst", encoded("jsonl.zst", rows(20))[:-30]),
    "truncated zstd of CSV": ("x.csv.zst", encoded("csv.zst", rows(20))[:-30]),
    "truncated Arrow": ("x.arrow", encoded("arrow", rows(20))[:-30]),
    "truncated JSON array": ("x.json", encoded("json", rows(20))[:-30]),
    "gzip with a wrong checksum": ("x.jsonl.gz", encoded("jsonl.gz", rows(20))[:-8] + bytes(8)),
    **{f"noise as {form}": (f"x.{form}", random.Random(1).randbytes(500)) for form in (
        "parquet", "arrow", "jsonl.gz", "jsonl.zst", "csv.gz", "jsonl", "csv", "txt")},
    **{f"nothing as {form}": (f"x.{form}", b"") for form in ("parquet", "arrow")},
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_one_line_that_names_it_and_mending_it_is_enough(raw, tmp_path, what):
    name, data = DAMAGED[what]
    path = write(raw / name, data)
    with pytest.raises(CurateError) as error:
        select(raw, tmp_path / "out", **COMMON)
    assert isinstance(error.value, (CorruptError, InputError))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert list((tmp_path / "out").rglob("*.part")) == []
    write(path, [row | {"id": f"x{row['id']}"} for row in rows(20)])
    select(raw, tmp_path / "out", **COMMON)
    select(raw, tmp_path / "whole", **COMMON)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_damaged_target_is_one_line_that_names_it(raw, tmp_path):
    target = write(tmp_path / "t.jsonl.gz", encoded("jsonl.gz", target_rows())[:-30])
    with pytest.raises(CorruptError) as error:
        select(raw, tmp_path / "out", target=target)
    assert str(error.value).startswith(str(target))


def test_a_file_that_goes_while_it_is_read_is_an_error_that_names_it(raw, tmp_path, monkeypatch):
    import curate.selection.session as selection_module

    real = selection_module.fit_partition
    for form in ("jsonl", "jsonl.gz", "parquet", "csv.zst"):
        path = write(raw / f"a.{form}", rows(5))

        def count(job, partition, path=path):
            path.unlink(missing_ok=True)
            return real(job, partition)

        with monkeypatch.context() as patch:
            patch.setattr(selection_module, "fit_partition", count)
            with pytest.raises(InputError, match=rf"a\.{form}: cannot be (opened|read)"):
                select(raw, tmp_path / form, **COMMON)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error_that_names_it(raw, tmp_path):
    (raw / "part-001.jsonl").chmod(0)
    with pytest.raises(InputError, match=r"part-001\.jsonl: cannot be opened \(Permission denied\)"):
        select(raw, tmp_path / "out")


def test_an_error_at_the_command_line_is_one_line_without_a_traceback(raw, tmp_path):
    from click.testing import CliRunner

    path = write(raw / "x.parquet", b"?")
    target = write(tmp_path / "t.jsonl", target_rows())
    result = CliRunner().invoke(main, ["select", str(raw), "--target", str(target), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"curate: {path}: ")
    assert result.stderr.count("\n") == 1
