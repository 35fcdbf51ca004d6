"""Reading from S3, and runs there, against a server on this machine."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from corpora import kept_ids, rows, scores, select, sharded, target_rows, tree, write
from killing import stride

import curate
from curate import stages
from curate.cli import main
from curate.errors import BusyError, CurateError, InputError, RunError, UsageError
from curate.io import lease, paths, scratch
from curate.io.corpus import scan
from curate.io.paths import atomic, folder_path
from curate.io.run import RunFolder
from curate.verification import verify

boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint():
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint, monkeypatch):
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(lease, "SETTLE_S", 0.05)
    yield boto3.client("s3", endpoint_url=endpoint)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def raw(s3, tmp_path):
    """A folder, the same in a bucket."""
    folder = sharded(tmp_path / "raw" / "jsonl", rows(40), 2)
    write(folder / "deep" / "a.jsonl.gz", [row | {"id": f"gz{i}"} for i, row in enumerate(rows(10, seed=1))])
    write(folder / "b.parquet", [{"text": row["text"]} for row in rows(10, seed=2)])
    write(folder / "c.csv", [row | {"id": f"csv{i}"} for i, row in enumerate(rows(10, seed=3))])
    s3.create_bucket(Bucket="corpus")
    for path in (tmp_path / "raw").rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "corpus", str(path.relative_to(tmp_path / "raw")))
    return tmp_path / "raw"


@pytest.mark.parametrize("what", ["", "/jsonl", "/jsonl/", "/jsonl/*.jsonl", "/jsonl/**/*.gz", "/jsonl/b.parquet"])
def test_files_folders_and_globs_on_s3_are_as_on_disk(raw, what):
    here, there = scan([f"{raw}{what}"]), scan([f"s3://corpus{what}"])
    assert [f.source.name for f in here.files] == [f.source.name for f in there.files]
    assert [f.sha256 for f in here.files] == [f.sha256 for f in there.files]
    assert here.partitions == there.partitions
    assert all(f.source.path.startswith("s3://corpus/jsonl/") for f in there.files)


def test_a_selection_from_s3_is_that_from_disk(raw, s3, tmp_path):
    s3.upload_file(str(write(tmp_path / "t.jsonl", target_rows())), "corpus", "target/t.jsonl")
    select(f"{raw}/jsonl", tmp_path / "here", budget=15, target=tmp_path / "t.jsonl")
    select("s3://corpus/jsonl", tmp_path / "there", budget=15, target="s3://corpus/target/t.jsonl")
    columns = ["doc_id", "score", "path", "row", "reason"]
    assert scores(tmp_path / "here").select(columns).equals(scores(tmp_path / "there").select(columns))
    assert kept_ids(tmp_path / "here") == kept_ids(tmp_path / "there")


@pytest.mark.parametrize("what", ["s3://nobody-has-this/raw", "s3://corpus/nothing", "s3://corpus/nothing/*.jsonl"])
def test_what_is_not_on_s3_is_a_clear_error(raw, what):
    with pytest.raises(InputError) as error:
        scan([what])
    assert str(error.value).startswith(what)
    assert "\n" not in str(error.value)


def test_a_server_that_does_not_answer_is_a_clear_error(s3, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(CurateError, match="s3://corpus/raw"):
        scan(["s3://corpus/raw"])


# ---- runs on S3


@pytest.fixture
def bucket(s3):
    """An empty bucket."""
    name = "runs"
    s3.create_bucket(Bucket=name)
    yield name
    boto3.resource("s3", endpoint_url=s3.meta.endpoint_url).Bucket(name).objects.all().delete()


@pytest.fixture
def corpus(tmp_path):
    """A corpus and a target on disk, and both formats of it."""
    sharded(tmp_path / "parquet", rows(60), 4, "parquet")
    sharded(tmp_path / "jsonl", rows(60), 3, "jsonl")
    write(tmp_path / "target.jsonl", target_rows())
    return tmp_path


def fetched(s3, bucket, prefix, to):
    """A folder of a bucket, copied to disk."""
    for found in s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", []):
        path = to / found["Key"].removeprefix(f"{prefix}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, found["Key"], str(path))
    return to


def keys(s3, bucket):
    return [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


CASES = {
    "gumbel": {},
    "kept buckets": {"spill": True},
    "lines": {"raw": "jsonl", "format": "jsonl.zst"},
    "separate": {"settings": {"separate_targets": True}, "draw": "topk"},
    "per source": {"per": "source", "budget": "40%"},
    "threshold": {"draw": "threshold", "threshold": -100.0, "budget": None},
    "pivotal": {"draw": "pivotal", "weights": {"max_kl": 0.5, "calibrate": "source"}},
    "poisson": {"draw": "poisson", "budget": "40%"},
    "cover": {"method": "bytegrams", "draw": "cover", "raw": "jsonl"},
    "fused": {"method": "dsir+bytegrams", "settings": {"dsir.n_buckets": 500, "group": "source"}},
    "leverage": {"method": "leverage", "settings": {"dim": 32}},
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_on_s3_has_the_bytes_of_one_on_disk(corpus, s3, bucket, case):
    options = {"raw": "parquet", "budget": 30, "shard_size": 1_500, "workers": 2, "name": "x"} | CASES[case]
    raw, target = corpus / options.pop("raw"), corpus / "target.jsonl"
    if case == "separate":
        target = {"one": str(target), "two": str(write(corpus / "two.jsonl", rows(30, seed=3)))}
    if "settings" in options and case == "fused":
        options["settings"] = dict(options["settings"])
    select(raw, corpus / "here", target=target, **options)
    made = select(raw, f"s3://{bucket}/deep/run", target=target, **options)
    assert str(made.shards[0]).startswith(f"s3://{bucket}/deep/run/shards/part-00000.")
    assert tree(fetched(s3, bucket, "deep/run", corpus / "there")) == tree(corpus / "here")
    assert verify(f"s3://{bucket}/deep/run", inputs=True).ok
    assert all(key.startswith("deep/run/") for key in keys(s3, bucket))


def test_raw_target_and_run_may_all_be_on_s3(raw, s3, bucket, tmp_path):
    s3.upload_file(str(write(tmp_path / "t.jsonl", target_rows())), bucket, "t.jsonl")
    options = {"budget": 15, "name": "x"}
    select(f"{raw}/jsonl", tmp_path / "here", target=tmp_path / "t.jsonl", **options)
    select("s3://corpus/jsonl", f"s3://{bucket}/run", target=f"s3://{bucket}/t.jsonl", **options)
    there = fetched(s3, bucket, "run", tmp_path / "there")
    for name in ("shards/part-00000.parquet", "ledger.parquet", "scores/part-00001.parquet"):
        assert (there / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_scores_on_s3_are_drawn_from_again_there_and_elsewhere(corpus, s3, bucket):
    run, target = f"s3://{bucket}/run", corpus / "target.jsonl"
    options = {"name": "x", "workers": 2}
    select(corpus / "parquet", corpus / "here", target=target, budget=30, **options)
    select(corpus / "parquet", run, target=target, budget=30, **options)
    wanted = tree(Path(curate.draw(corpus / "here", out=corpus / "again", budget=20, seed=3, **options).out))
    curate.draw(run, out=f"s3://{bucket}/again", budget=20, seed=3, **options)
    assert tree(fetched(s3, bucket, "again", corpus / "of s3")) == wanted
    curate.draw(run, out=corpus / "to disk", budget=20, seed=3, **options)
    assert tree(corpus / "to disk") == wanted
    curate.draw(corpus / "here", out=f"s3://{bucket}/from-disk", budget=20, seed=3, **options)
    assert tree(fetched(s3, bucket, "from-disk", corpus / "from disk")) == wanted
    select(corpus / "parquet", f"s3://{bucket}/by", target=target, budget=20, seed=3, scores_from=run, **options)
    assert tree(fetched(s3, bucket, "by", corpus / "by scores")) == wanted
    curate.draw(run, budget=20, seed=3, overwrite=True, **options)
    assert tree(fetched(s3, bucket, "run", corpus / "in place")) == wanted
    assert verify(run).ok


def test_a_finished_run_on_s3_returns_at_once_and_another_recipe_is_refused(corpus, s3, bucket):
    run, target = f"s3://{bucket}/run", corpus / "target.jsonl"
    first = select(corpus / "parquet", run, target=target)
    again = select(corpus / "parquet", run, target=target)
    assert again.seconds == {}
    assert again.manifest["uuid"] == first.manifest["uuid"]
    with pytest.raises(RunError, match=f"{run} was written by recipe .*--overwrite"):
        select(corpus / "parquet", run, target=target, budget=11)
    assert select(corpus / "parquet", run, target=target, budget=11, overwrite=True).n_selected == 11


def test_the_folder_of_other_files_on_s3_is_refused(corpus, s3, bucket):
    s3.put_object(Bucket=bucket, Key="mine/notes.txt", Body=b"x")
    with pytest.raises(RunError, match="holds files that are not a run"):
        select(corpus / "parquet", f"s3://{bucket}/mine", target=corpus / "target.jsonl")
    with pytest.raises(RunError, match="is a file"):
        select(corpus / "parquet", f"s3://{bucket}/mine/notes.txt", target=corpus / "target.jsonl")
    assert keys(s3, bucket) == ["mine/notes.txt"]


def test_an_input_below_a_run_on_s3_is_refused(raw, s3, tmp_path):
    target = write(tmp_path / "t.jsonl", target_rows())
    with pytest.raises(CurateError, match=r"not a run|an input below --out s3://corpus/jsonl"):
        select("s3://corpus/jsonl/deep", "s3://corpus/jsonl", target=target)
    curate.score("s3://corpus/jsonl", target=target, out="s3://corpus/run", settings={"n_buckets": 500})
    with pytest.raises(UsageError, match="an input below --out s3://corpus/run"):
        select("s3://corpus/run/scores", "s3://corpus/run", target=target)
    assert scan(["s3://corpus/jsonl"]).files  # of another folder whose name begins alike nothing is refused
    select("s3://corpus/jsonl", "s3://corpus/j", target=target)


def test_a_bucket_that_is_not_there_is_a_clear_error_and_is_not_made(corpus, s3):
    with pytest.raises(RunError, match="s3://nobody-has-this/run") as error:
        select(corpus / "parquet", "s3://nobody-has-this/run", target=corpus / "target.jsonl")
    assert "\n" not in str(error.value)
    assert "nobody-has-this" not in [b["Name"] for b in s3.list_buckets()["Buckets"]]


def test_verify_finds_an_object_that_was_changed(corpus, s3, bucket):
    run = f"s3://{bucket}/run"
    select(corpus / "parquet", run, target=corpus / "target.jsonl")
    key = "run/shards/part-00000.parquet"
    data = bytearray(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(data))
    result = CliRunner().invoke(main, ["verify", run])
    assert result.exit_code == 1
    assert f"s3://{bucket}/{key}: other content than the manifest says" in result.stdout
    s3.delete_object(Bucket=bucket, Key=key)
    assert any("cannot be opened" in problem for problem in verify(run).problems)


def test_the_command_line_takes_urls_for_runs(corpus, s3, bucket):
    run = f"s3://{bucket}/run"
    words = [str(corpus / "parquet"), "--target", str(corpus / "target.jsonl"), "--set", "n_buckets=500", "-q"]

    def invoke(*args):
        result = CliRunner().invoke(main, list(args))
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "free disk" in invoke("select", *words, "--out", run, "--dry-run")
    assert keys(s3, bucket) == []
    assert f"curate draw {run}" in invoke("score", *words, "--out", run)
    invoke("draw", run, "--budget", "5", "-q")
    assert json.loads(invoke("draw", run, "--budget", "6", "--out", f"{run}-6", "-q", "--json"))["out"] == f"{run}-6"
    invoke("select", *words, "--budget", "7", "--out", f"{run}-7", "--scores-from", run)
    assert "0 problems" in invoke("verify", run)
    assert json.loads(invoke("verify", f"{run}-7", "--json"))["ok"]
    for args in (["draw", f"{run}-none"], ["verify", f"{run}-none"]):
        result = CliRunner().invoke(main, args)
        assert result.exit_code == 1
        assert result.output.startswith(f"curate: {run}-none: no ")


def test_a_write_that_is_refused_is_a_clear_error(corpus, s3, bucket, monkeypatch):
    import s3fs

    real, left = s3fs.S3FileSystem._put_file, [6]

    async def put_file(self, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise PermissionError("Access Denied")
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", put_file)
    with pytest.raises(RunError, match=rf"s3://{bucket}/run/.*: cannot be written \(Access Denied\); run the same"):
        select(corpus / "parquet", f"s3://{bucket}/run", target=corpus / "target.jsonl")
    assert "run/.curate.lock" not in keys(s3, bucket)


def test_what_reads_a_run_says_the_same_of_one_on_s3(corpus, s3, bucket):
    pytest.importorskip("pyppmd")
    run, target = f"s3://{bucket}/run", write(corpus / "train.jsonl", target_rows(80))
    options = {"target": target, "per": "source", "holdout": 0.3, "budget": 30, "name": "x"}
    for out in (corpus / "run", run):
        select(corpus / "parquet", out, **options)

    def both(*args):
        said = []
        for place in (str(corpus / "run"), run):
            result = CliRunner().invoke(main, [arg.replace("RUN", place) for arg in args])
            assert result.exit_code == 0, result.output
            said.append(result.stdout.replace(place, "RUN"))
        assert said[0] == said[1]

    both("evaluate", "RUN", "--seeds", "2", "--sample", "2kB", "-q")
    both("compare", str(corpus / "target.jsonl"), "RUN", "-q")
    both("curriculum", "mix", "RUN", "--out", "RUN", "-q")
    both("report", "RUN", "--format", "md", "-q")
    there = fetched(s3, bucket, "run", corpus / "there")
    assert {path.name for path in there.iterdir()} == {path.name for path in (corpus / "run").iterdir()}
    for name in ("curriculum.parquet", "weights.json"):
        assert (there / name).read_bytes() == (corpus / "run" / name).read_bytes()


@pytest.mark.parametrize("args", [
    ["curriculum", "update", "s3://b/c"],
    ["curriculum", "offline", "RAW", "--out", "s3://b/c"],
    ["passages", "RAW", "--out", "s3://b/c"],
    ["domains", "RAW", "--out", "s3://b/c"],
])  # fmt: skip
def test_results_that_cannot_be_on_s3_are_refused_in_one_line(corpus, args, monkeypatch):
    monkeypatch.chdir(corpus)
    result = CliRunner().invoke(main, [arg.replace("RAW", str(corpus / "parquet")) for arg in args])
    assert result.exit_code == 2
    assert "must be a local folder" in result.output or "must be in a local folder" in result.output
    assert result.output.count("\n") == 1
    assert not (corpus / "s3:").exists()


@pytest.mark.parametrize("stores", [paths._OBJECT_STORES, ()], ids=["appear whole", "renamed"])
def test_other_file_systems_hold_runs_too(corpus, monkeypatch, stores):
    import fsspec

    monkeypatch.setattr(paths, "_OBJECT_STORES", stores)
    memory = fsspec.filesystem("memory")
    options = {"target": corpus / "target.jsonl", "name": "x"}
    select(corpus / "jsonl", corpus / "here", **options)
    try:
        select(corpus / "jsonl", "memory://runs/one", **options)
        assert verify("memory://runs/one").ok
        memory.get("/runs/one/", f"{corpus}/there/", recursive=True)
    finally:
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
    assert tree(corpus / "there") == tree(corpus / "here")


# ---- killed on S3

DRIVER = """
import json, os, signal, sys, threading, traceback
from pathlib import Path
import s3fs
from corpora import select
import curate.io.paths as paths
from curate.io import lease

lease.WATCH_S, lease.REFRESH_S, lease.SETTLE_S = 0.5, 0.1, 0.05
raw, target, out, bucket = (Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])
options = {"name": "x", "budget": 30, "shard_size": 1_500, "workers": 2, **json.loads(sys.argv[5])}
real, lock = paths._upload, threading.Lock()
state = {"left": 0}

def upload(part, path):
    with lock:
        state["left"] -= 1
        mine = state["left"] == 0
    if mine and state["before"]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(part, path)
    if mine:
        os.kill(os.getpid(), signal.SIGKILL)

def forked(work):
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]

def run(k):
    if k:
        state.update(left=k, before=k % 2 == 0)
        paths._upload = upload
    select(raw, f"s3://{bucket}/run-{name}", target=target, **options)

select(raw, out / "warm", target=target, **options)
killed = []
first, every = json.loads(sys.argv[6])
for name in range(first, 1000, every):
    if not os.WIFSIGNALED(forked(lambda: run(name))):
        break
    again = lambda: forked(lambda: run(0))  # on a busy machine a lease may lapse at these intervals: then once more
    assert again() == 0 or again() == 0
    killed.append(name)
print(json.dumps(killed))
"""


@pytest.mark.parametrize(
    ("options", "which"), [({}, (1, 15)), ({"draw": "pivotal"}, (8, 25))], ids=["gumbel", "pivotal"]
)
def test_a_killed_run_on_s3_resumes_to_the_same_bytes(corpus, s3, bucket, options, which):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, corpus / "parquet", corpus / "target.jsonl", corpus, bucket,
         json.dumps(options), json.dumps([min(which[0], stride(which[1])), stride(which[1])])],
        capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHONPATH": path, "TMPDIR": str(corpus)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout)
    assert len(killed) >= 2
    wanted = tree(corpus / "warm")
    for k in killed:
        assert tree(fetched(s3, bucket, f"run-{k}", corpus / f"run-{k}")) == wanted, k


def test_scratch_of_killed_processes_is_deleted_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "_made", {})
    monkeypatch.setattr(scratch, "YOUNG_S", -1.0)
    code = "from curate.io.scratch import scratch_file\nwith scratch_file('x') as path:\n path.write_text('x')\n"
    code += " print(path, flush=True)\n input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as other:  # fmt: skip
        theirs = Path(other.stdout.readline().strip())
        with scratch.scratch_file("mine") as mine:
            assert theirs.exists()
            mine.write_text("x")
        assert not mine.exists()
        other.send_signal(signal.SIGKILL)
    scratch._made.clear()
    with scratch.scratch_folder() as folder:
        assert folder.is_dir()
        assert not theirs.exists()


def test_a_file_that_is_not_finished_is_not_uploaded(s3, bucket):
    path = folder_path(f"s3://{bucket}/run/x.json")
    with pytest.raises(KeyError), atomic(path) as part:  # noqa: PT012
        part.write_text("half")
        raise KeyError
    assert keys(s3, bucket) == []
    assert not part.exists()


def test_paths_on_s3_travel_to_other_processes(s3, bucket):
    path = pickle.loads(pickle.dumps(RunFolder(f"s3://{bucket}/run/").scores / "x"))
    assert str(path) == f"s3://{bucket}/run/scores/x"
    assert path.storage_options["use_listings_cache"] is False


# ---- owners on S3


def test_a_run_on_s3_that_has_an_owner_refuses_another_one(s3, bucket, monkeypatch):
    monkeypatch.setattr(lease, "REFRESH_S", 0.2)
    first, second = RunFolder(f"s3://{bucket}/run"), RunFolder(f"s3://{bucket}/run")
    with first.locked():
        with pytest.raises(RunError, match=rf"another run is writing here \(process {os.getpid()} on"), second.locked():
            pass
        with pytest.raises(BusyError, match="another run is writing here"), second.locked(shared=True):
            pass
        assert keys(s3, bucket) == ["run/.curate.lock"]
    assert keys(s3, bucket) == []
    with second.locked():
        pass


def test_the_lease_of_a_killed_owner_is_taken_over(s3, bucket, monkeypatch):
    code = "import sys\nfrom curate.io.run import RunFolder\nwith RunFolder(sys.argv[1]).locked():\n"
    code += " print('mine', flush=True)\n input()"
    run = f"s3://{bucket}/run"
    with subprocess.Popen(
        [sys.executable, "-c", code, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "mine\n"
        owner.send_signal(signal.SIGKILL)
    assert keys(s3, bucket) == ["run/.curate.lock"]
    monkeypatch.setattr(lease, "REFRESH_S", 0.1)
    monkeypatch.setattr(lease, "WATCH_S", 0.5)
    with RunFolder(run).locked():
        pass
    assert keys(s3, bucket) == []


def test_an_owner_whose_lease_was_taken_over_commits_nothing(s3, bucket, monkeypatch):
    folder = RunFolder(f"s3://{bucket}/run")
    with pytest.raises(BusyError, match="another run took it over"), folder.locked():  # noqa: PT012
        s3.put_object(Bucket=bucket, Key="run/.curate.lock", Body=b'{"uuid": "of another one"}')
        folder.commit({})
    assert keys(s3, bucket) == ["run/.curate.lock"]  # it is not ours to delete


def test_a_manifest_that_a_late_one_has_put_there_is_written_over_by_the_owner(s3, bucket):
    folder = RunFolder(f"s3://{bucket}/run")
    with folder.locked():
        late = folder.path / "manifest.json"
        s3.put_object(Bucket=bucket, Key="run/manifest.json", Body=b"of a late one")
        folder._lease.put_new(late, b"ours")
        folder._lease.put_new(late, b"ours")
        assert late.read_bytes() == b"ours"


@pytest.fixture
def memory(monkeypatch):
    """A store within this process, with impatient owners."""
    import fsspec

    monkeypatch.setattr(lease, "WATCH_S", 1.5)
    monkeypatch.setattr(lease, "REFRESH_S", 0.3)
    monkeypatch.setattr(lease, "SETTLE_S", 0.1)
    store = fsspec.filesystem("memory")
    yield "memory://leased/run"
    store.store.clear()
    store.pseudo_dirs[:] = [""]


class Asleep:
    """An owner and its lease that stand still when it is about to ``put`` a file whose path has ``at`` in it."""

    def __init__(self, monkeypatch, at, work):
        self.reached, self.wakes, self.outcome = threading.Event(), threading.Event(), None
        alive, put, first = lease.Claim._is_mine, paths._upload, []

        def is_mine(claim):
            if not first:
                first.append(claim)
            if claim is first[0] and self.reached.is_set():
                self.wakes.wait()
            return alive(claim)

        def upload(part, path):
            if at in str(path) and not self.reached.is_set():
                self.reached.set()
                self.wakes.wait()
            put(part, path)

        monkeypatch.setattr(lease.Claim, "_is_mine", is_mine)
        monkeypatch.setattr(paths, "_upload", upload)
        self._thread = threading.Thread(target=self._run, args=[work])
        self._thread.start()
        assert self.reached.wait(60)

    def _run(self, work):
        try:
            work()
        except BaseException as error:
            self.outcome = error
        finally:
            self.reached.set()

    def wake(self):
        self.wakes.set()
        self._thread.join()
        return self.outcome


@pytest.mark.parametrize("at", ["/part-00000.npz", "/shards/part", "croissant.json"])
def test_an_owner_that_stood_still_changes_nothing_of_the_next_one(corpus, memory, monkeypatch, at):
    options = {"target": corpus / "target.jsonl", "name": "x", "workers": 2}
    late = Asleep(monkeypatch, at, lambda: select(corpus / "parquet", memory, budget=10, **options))
    other = select(corpus / "parquet", memory, budget=20, overwrite=True, **options)
    error = late.wake()
    assert isinstance(error, BusyError)
    assert "another run took it over while this one stood still" in str(error)
    assert verify(memory).ok
    assert json.loads(folder_path(f"{memory}/manifest.json").read_bytes()) == other.manifest


def test_a_score_task_that_stood_still_writes_over_no_other_scores(corpus, memory, monkeypatch):
    options = {"target": corpus / "target.jsonl", "budget": 10, "name": "x", "out": memory}
    stages.prepare(corpus / "parquet", **options)
    stages.fit(memory)
    late = Asleep(monkeypatch, "/scores/part-00001", lambda: stages.score(memory, [1]))
    stages.prepare(corpus / "parquet", method="bytegrams", overwrite=True, **options)
    for stage in (stages.fit, stages.score, stages.draw, stages.write):
        stage(memory)
    scored = folder_path(f"{memory}/scores/part-00001.parquet").read_bytes()
    assert isinstance(late.wake(), BusyError)
    assert folder_path(f"{memory}/scores/part-00001.parquet").read_bytes() == scored
    assert verify(memory).ok


def test_a_run_whose_score_tasks_are_alive_has_no_other_owner(memory):
    run = RunFolder(memory)
    with (
        run.locked(shared=True), RunFolder(memory).locked(shared=True),
        pytest.raises(BusyError, match="another run is writing here"), RunFolder(memory).locked(),
    ):  # fmt: skip
        pass
    with run.locked():
        assert [path.name for path in folder_path(memory).iterdir()] == [".curate.lock"]


def test_what_a_killed_score_task_and_a_killed_owner_left_is_taken_away_and_said(memory, caplog, capsys):
    folder = folder_path(memory)
    for shared in (False, True):
        for name in (".curate.lock", ".curate.lock.1"):
            (folder / name).write_bytes(b'{"uuid": "x", "pid": 7, "host": "there"}')
        with caplog.at_level("INFO", "curate"), RunFolder(memory).locked(shared=shared, tell=True):
            assert not (folder / ".curate.lock").exists() if shared else (folder / ".curate.lock").exists()
        assert "lock.wait" in caplog.text
        assert f"curate: {memory}: looking whether the run that has it (process 7 on there) is alive" in (
            capsys.readouterr().err
        )
    with RunFolder(memory).locked():
        assert [path.name for path in folder.iterdir()] == [".curate.lock"]


def test_scores_of_another_run_among_these_are_found(corpus, tmp_path):
    for method in ("dsir", "bytegrams"):
        select(corpus / "parquet", tmp_path / method, target=corpus / "target.jsonl", method=method,
               settings={"n_buckets": 500} if method == "dsir" else {})  # fmt: skip
    part = tmp_path / "dsir" / "scores" / "part-00001.parquet"
    part.write_bytes((tmp_path / "bytegrams" / "scores" / part.name).read_bytes())
    assert any("of other scores than scores/scores.json says (1 of 4" in p for p in verify(tmp_path / "dsir").problems)
    with pytest.raises(RunError, match=r"part-00001\.parquet: is of other scores than"):
        curate.draw(tmp_path / "dsir", out=tmp_path / "again", budget=5)


def test_a_run_over_the_shards_of_one_on_s3_has_it_for_a_parent(corpus, s3, bucket):
    first = select(corpus / "parquet", f"s3://{bucket}/run", target=corpus / "target.jsonl")
    second = select(f"s3://{bucket}/run/shards", corpus / "second", target=corpus / "target.jsonl")
    assert [parent["uuid"] for parent in second.manifest["parents"]] == [first.manifest["uuid"]]


def test_an_update_on_s3_has_the_bytes_of_one_on_disk(corpus, s3, bucket):
    places = [str(corpus / "here"), f"s3://{bucket}/run"]
    for n in range(3):
        if n:
            write(corpus / "parquet" / f"z{n}.parquet", [row | {"id": f"{n}-{row['id']}"} for row in rows(20, seed=n)])
        for out in places:
            if n:
                curate.update(out, workers=2)
            else:
                select(corpus / "parquet", out, target=corpus / "target.jsonl", budget=30, shard_size=1_500, name="x")
            assert verify(out).ok
    there = tree(fetched(s3, bucket, "run", corpus / "there"), without=["manifest.json"])  # parents have other names
    assert there == tree(corpus / "here", without=["manifest.json"])


def test_cleaning_on_s3_has_the_bytes_of_cleaning_on_disk(s3, bucket, tmp_path):
    """Raw, evaluation items, another corpus and the run are all there or all here; then files come."""
    from test_cleaning import ALL, ITEMS, ROWS

    def put(name, of):
        s3.upload_file(str(write(tmp_path / name, of)), bucket, name)

    put("quiz.parquet", ITEMS)
    put("old.jsonl", ROWS[60:65])
    put("raw/a.jsonl", ROWS[:70])
    put("raw/b.jsonl", ROWS[70:110])
    for where in (f"s3://{bucket}", str(tmp_path)):
        asked = ALL | {"decontaminate": {"against": {"quiz": [f"{where}/quiz.parquet"]}}}
        asked["dedup"] = {"semantic": True, "against": [f"{where}/old.jsonl"]}
        curate.clean(f"{where}/raw", out=f"{where}/out", name="x", **asked)
    put("raw/c.jsonl", ROWS[110:])
    for where in (f"s3://{bucket}", str(tmp_path)):
        curate.update(f"{where}/out")
        assert verify(f"{where}/out").ok
        against = {"against": [f"{where}/out"]}
        assert curate.clean(f"{where}/raw/a.jsonl", out=f"{where}/left", name="x", max_removed=1, dedup=against)
    with_paths = ["manifest.json", "README.md", "scores/scores.json", "duplicates.parquet"]  # of where the others are
    for name in ("out", "left"):
        there = fetched(s3, bucket, name, tmp_path / f"{name} of s3")
        assert tree(there, without=with_paths) == tree(tmp_path / name, without=with_paths)
        found = pq.read_table(there / "duplicates.parquet").to_pylist()
        wanted = pq.read_table(tmp_path / name / "duplicates.parquet").to_pylist()
        assert str(found).replace(f"s3://{bucket}/", "") == str(wanted).replace(f"{tmp_path}/", "")
        assert found


def test_a_server_that_does_not_know_of_conditions_has_one_owner_too(s3, bucket, monkeypatch):
    import s3fs

    real = s3fs.S3FileSystem._pipe_file

    async def pipe_file(self, path, data, mode="overwrite", **options):
        await real(self, path, data, **options)
        if mode == "create":
            await real(self, path, b'{"uuid": "of another one", "host": "there", "pid": 1}', **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", pipe_file)
    monkeypatch.setattr(lease, "WATCH_S", 0.0)
    monkeypatch.setattr(lease, "_TRIES", 1)
    folder = RunFolder(f"s3://{bucket}/run")
    with folder.locked():  # it is not changed: taken over
        assert folder._lease._is_mine()
