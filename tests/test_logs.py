"""Events of a run: in the program's log, as lines of JSON, and as OpenLineage events on request."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from corpora import rows, select, sharded, target_rows, write

from curate import progress
from curate.errors import InputError
from curate.logs import event
from curate.progress import Progress


@pytest.fixture
def raw(tmp_path) -> Path:
    return sharded(tmp_path / "raw", rows(60), 3)


def events(caplog) -> list[dict]:
    return [record.curate for record in caplog.records if hasattr(record, "curate")]


# ---- the log


def test_a_run_logs_its_begin_each_step_its_warnings_and_its_end(raw, tmp_path, caplog):
    caplog.set_level(logging.INFO, "curate")
    done = select(raw, tmp_path / "out", budget=7)
    found = events(caplog)
    assert found[0] == {
        "event": "run.begin",
        "out": str(tmp_path / "out"),
        "method": "dsir",
        "draw": "gumbel",
        "engine": "local",
    }
    steps = [one["step"] for one in found if one["event"] == "step.end"]
    assert steps == ["scan", "fit", "score", "draw", "keep", "write"]
    assert [one["message"] for one in found if one["event"] == "run.warning"] == list(done.warnings)
    assert found[-1]["event"] == "run.end"
    assert (found[-1]["n_selected"], found[-1]["uuid"]) == (7, done.manifest["uuid"])


def test_nothing_is_printed_unless_it_is_asked_for(raw, tmp_path):
    run = _command(raw, tmp_path)
    assert '"event"' not in run.stderr
    assert "run.end" not in run.stderr


def test_the_command_line_writes_lines_of_json(raw, tmp_path):
    run = _command(raw, tmp_path, "--log", "json")
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["event"] for line in lines][:2] == ["run.begin", "step.end"]
    assert lines[-1]["event"] == "run.end"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"]) for line in lines)


def test_text_with_new_lines_and_quotes_stays_on_its_line(capsys):
    from curate.logs import LOGGER, write_to_stderr

    before = LOGGER.handlers[:]
    try:
        write_to_stderr("json")
        write_to_stderr("text")
        event("x", path='a\nb"c')
    finally:
        LOGGER.handlers, LOGGER.propagate = before, True
        LOGGER.setLevel(logging.NOTSET)
    as_json, as_text = capsys.readouterr().err.splitlines()
    assert json.loads(as_json)["path"] == 'a\nb"c'
    assert as_text.endswith('INFO x path="a\\nb\\"c"')


def test_a_long_step_without_a_bar_says_now_and_then_how_far_it_is(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "curate")
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(False).stage("score", 100) as stage:
        for _ in range(10):
            now[0] += 12
            stage.advance(10)
    found = events(caplog)
    assert [one["bytes_done"] for one in found] == [30, 60, 90]
    assert [one["seconds_left"] for one in found] == [84, 48, 12]


# ---- OpenLineage


@pytest.fixture
def told(monkeypatch):
    """Events that a server gets."""
    pytest.importorskip("openlineage")
    found: list[dict] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield found
    server.shutdown()


def test_without_being_asked_no_event_is_sent(raw, tmp_path, told):
    select(raw, tmp_path / "out")
    assert told == []


def test_a_selection_tells_what_it_read_and_what_came_of_it(raw, tmp_path, told, monkeypatch):
    parent = "0198f5f3-5b7a-7c3c-8b6e-1d2f3a4b5c6d"
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/nightly.select/{parent}")
    done = select(raw, tmp_path / "out", budget=7, name="mine", lineage=True)
    begin, end = told
    assert (begin["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert begin["run"]["runId"] == end["run"]["runId"]
    assert (end["job"]["namespace"], end["job"]["name"]) == ("curate", "select.mine")
    assert end["run"]["facets"]["parent"]["run"]["runId"] == parent
    assert end["run"]["facets"]["parent"]["job"]["name"] == "nightly.select"
    assert {one["name"] for one in end["inputs"]} == {str(raw), str(tmp_path / "target.jsonl")}
    (output,) = end["outputs"]
    assert (output["namespace"], output["name"]) == ("file", f"{tmp_path}/out/shards")
    statistics = output["outputFacets"]["outputStatistics"]
    assert statistics["rowCount"] == 7
    assert statistics["size"] == sum(path.stat().st_size for path in done.shards)
    assert output["facets"]["version"]["datasetVersion"] == done.manifest["uuid"]


def test_an_update_tells_too_and_logs_what_was_new(raw, tmp_path, told, caplog):
    from curate.selection.update import update

    caplog.set_level(logging.INFO, "curate")
    select(raw, tmp_path / "out", name="mine")
    write(raw / "new.jsonl", [row | {"id": f"n{i}"} for i, row in enumerate(rows(20, seed=3))])
    update(tmp_path / "out", lineage=True)
    assert [(one["eventType"], one["job"]["name"]) for one in told] == [
        ("START", "select.mine"),
        ("COMPLETE", "select.mine"),
    ]
    assert [one["n_new_files"] for one in events(caplog) if "n_new_files" in one] == [1]
    assert events(caplog)[-1]["event"] == "run.end"


def test_a_selection_that_fails_tells_why(raw, tmp_path, told):
    write(raw / "bad.jsonl", b"{")
    with pytest.raises(InputError):
        select(raw, tmp_path / "out", lineage=True)
    assert [one["eventType"] for one in told] == ["START", "FAIL"]
    assert "bad.jsonl" in told[1]["run"]["facets"]["errorMessage"]["message"]


def test_a_server_that_is_not_there_costs_no_selection(raw, tmp_path, told, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "curate")
    import openlineage.client

    def fail(*args):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(openlineage.client.OpenLineageClient, "emit", fail)
    assert select(raw, tmp_path / "out", lineage=True).n_selected == 10
    assert {one["state"] for one in events(caplog) if one["event"] == "lineage.failed"} == {"START", "COMPLETE"}


def test_a_parent_that_is_none_is_left_out_and_costs_no_selection(raw, tmp_path, told, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "curate")
    for n, parent in enumerate(("ns/job/not-a-uuid", "nightly")):
        monkeypatch.setenv("OPENLINEAGE_PARENT_ID", parent)
        assert select(raw, tmp_path / str(n), lineage=True).n_selected == 10
    assert [one["eventType"] for one in told] == ["START", "COMPLETE"] * 2
    assert not any("parent" in one["run"]["facets"] for one in told)
    failed = [one["error"] for one in events(caplog) if one["event"] == "lineage.failed"]
    assert len(failed) == 2
    assert all("must be NAMESPACE/JOB/UUID" in error for error in failed)


def test_an_event_that_cannot_be_made_costs_no_selection(raw, tmp_path, told, monkeypatch, caplog):
    from curate.selection import lineage

    def failing(path):
        raise ValueError("no name")

    caplog.set_level(logging.INFO, "curate")
    monkeypatch.setattr(lineage, "_named", failing)
    assert select(raw, tmp_path / "out", lineage=True).n_selected == 10
    assert {one["error"] for one in events(caplog) if one["event"] == "lineage.failed"} == {"ValueError: no name"}


def test_datasets_on_object_stores_are_named_as_openlineage_does():
    from curate.selection.lineage import _named

    assert _named("s3://me:a/secret@bucket/raw/a.jsonl") == ("s3://bucket", "raw/a.jsonl")
    assert _named("https://secret@host/a.jsonl?token=x") == ("https://host", "a.jsonl")
    assert _named("abfss://c@a.dfs.core.windows.net/x") == ("abfss://c@a.dfs.core.windows.net", "x")

    assert _named("s3://bucket/raw/a.jsonl") == ("s3://bucket", "raw/a.jsonl")
    assert _named("/data/raw") == ("file", "/data/raw")
    assert _named("raw") == ("file", os.path.abspath("raw"))


def _command(raw: Path, tmp_path: Path, *options: str) -> subprocess.CompletedProcess:
    target = write(tmp_path / "t.jsonl", target_rows())
    command = ["select", str(raw), "--target", str(target), "--out", str(tmp_path / "out"), "--budget", "7"]
    run = subprocess.run(
        [sys.executable, "-m", "curate", *options, *command], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run
