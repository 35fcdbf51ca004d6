"""The Ray engine, on a cluster of two nodes on this machine: the bytes are those of the local engine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from corpora import rows, select, sharded, target_rows, tree, write

import curate
from curate import stages
from curate.errors import BusyError, InputError, ResourceError, RunError, UsageError
from curate.io.run import RunFolder, read_json, write_json

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_other_ray")]

from curate.engines.ray import RayEngine  # noqa: E402


@pytest.fixture(scope="module")
def bucket():
    """An S3 server that workers find by their environment, and a bucket on it."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
             "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true",
             "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(
            Bucket="cluster"
        )  # moto's servers of one process share their buckets
        yield "s3://cluster"
    server.stop()


@pytest.fixture(scope="module")
def cluster(bucket):
    """Two nodes with a core each."""
    from ray.cluster_utils import Cluster

    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ.update(
        PYTHONPATH=path, RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_DATA_DISABLE_PROGRESS_BARS="1"
    )
    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    nodes.add_node(num_cpus=1, object_store_memory=100_000_000)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    sharded(folder / "raw", rows(120), 6)
    write(folder / "raw" / "z.parquet", [row | {"id": f"p{i}"} for i, row in enumerate(rows(30, seed=5))])
    write(folder / "target.jsonl", target_rows())
    return folder


def both(corpus: Path, out: Path, **options) -> tuple[dict, dict]:
    """What the local engine and Ray leave."""
    given = {"target": corpus / "target.jsonl", "name": "x", "budget": 25} | options
    select(corpus / "raw", out / "local", **given)
    select(corpus / "raw", out / "ray", engine="ray", **given)
    return tree(out / "local"), tree(out / "ray")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"draw": "cover", "method": "bytegrams"},
        {"draw": "pivotal", "weights": {"max_kl": 0.5}},
        {"method": "bytegrams+primed", "format": "jsonl.zst", "shard_size": 2_000},
        {"per": "source", "draw": "topk", "budget": "2kB"},
        {"method": "leverage", "target": None, "settings": {"min_tokens": 5}},
        {"settings": {"separate_targets": True}, "on_bad_row": "quarantine", "spill": True},
    ],
    ids=["gumbel", "cover", "pivotal", "fused", "per", "leverage", "separate"],
)
def test_a_selection_on_two_nodes_has_the_bytes_of_the_local_engine(cluster, corpus, tmp_path, options):
    here, there = both(corpus, tmp_path, **options)
    assert here == there


def test_cleaning_on_two_nodes_has_the_bytes_of_the_local_engine(cluster, tmp_path, monkeypatch):
    """Paths are relative, to the folder of the driver."""
    from test_cleaning import ALL, ITEMS, ROWS

    monkeypatch.chdir(tmp_path)
    sharded(Path("raw"), ROWS, 4)
    for name, of in (("quiz.parquet", ITEMS), ("old.jsonl", ROWS[60:65]), ("target.jsonl", target_rows())):
        write(Path(name), of)
    asked = ALL | {"decontaminate": {"against": "quiz.parquet"}, "dedup": {"semantic": True, "against": ["old.jsonl"]}}
    here, there = both(Path(), Path(), **asked)
    assert here == there
    assert {"duplicates.parquet", "contamination.parquet", "cleaned/part-00003.parquet"} <= set(here)
    write(Path("raw/part-009.jsonl"), [{**row, "id": f"late-{row['id']}"} for row in ROWS[5:25]])
    for engine in ("local", "ray"):
        curate.update(engine, engine=engine)
    named = ["manifest.json"]  # has the uuid of the run before
    assert tree(Path("local"), without=named) == tree(Path("ray"), without=named)
    prepared = stages.prepare("raw", out="staged", target="target.jsonl", engine="ray", **asked)
    assert stages.fit("staged", plan=prepared["plan"], engine="ray")["n_documents"] < len(ROWS)


def test_both_nodes_work_and_no_more_tasks_are_handed_out_than_they_can_take(cluster):
    with RayEngine() as engine:
        assert engine.workers == 2
        under_way, most = 0, 0

        def items():
            nonlocal under_way, most
            for i in range(12):
                under_way += 1
                most = max(most, under_way)
                yield i

        found = {}
        for item, where in engine.each(None, items(), alone=lambda i: _node):
            under_way -= 1
            found[item] = where
    assert sorted(found) == list(range(12))
    assert len(set(found.values())) == 2
    assert most <= 2 * 2 + 1


def _node() -> str:
    time.sleep(0.3)
    return str(ray.get_runtime_context().get_node_id())


def test_small_pieces_of_work_come_back_in_order_and_all(cluster):
    with RayEngine() as engine:
        assert engine.map(lambda i: i * i, range(1000)) == [i * i for i in range(1000)]
        assert dict(engine.each(lambda i: -i, range(300))) == {i: -i for i in range(300)}
        assert engine.map(abs, []) == []


def test_arrays_that_come_back_can_be_written_to(cluster):
    with RayEngine() as engine:
        (found,) = engine.map(np.zeros, [100_000])
        found += 1
    assert found.sum() == 100_000


def test_the_first_error_is_raised_as_it_is_and_stops_the_rest(cluster, tmp_path):
    def work(i: int) -> None:
        if i == 3:
            raise InputError("raw/3.jsonl line 7: broken")
        time.sleep(0.05)
        (tmp_path / str(i)).touch()

    with RayEngine() as engine, pytest.raises(InputError, match=r"^raw/3.jsonl line 7: broken$"):
        for _ in engine.each(None, range(500), alone=lambda i: lambda: work(i)):
            pass
    assert len(list(tmp_path.iterdir())) < 100


def test_a_worker_that_is_killed_in_the_middle_is_replaced_and_the_bytes_are_the_same(cluster, corpus, tmp_path):
    killed = []

    def kill() -> None:
        """Kill a worker while it has a partition's file half written."""
        until = time.monotonic() + 60
        while not killed and time.monotonic() < until:
            for line in subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines():
                pid, name = line.split(None, 1)
                if name.startswith("ray::_done") and list((tmp_path / "ray").rglob(".*.part")):
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(int(pid))
                    return
            time.sleep(0.001)

    thread = threading.Thread(target=kill)
    thread.start()
    write(corpus / "raw" / "large.jsonl", rows(60_000, seed=9))
    try:
        here, there = both(corpus, tmp_path, budget=5_000)
    finally:
        thread.join()
        (corpus / "raw" / "large.jsonl").unlink()
    assert killed
    assert here == there
    assert not list((tmp_path / "ray").rglob(".*.part"))


def test_a_piece_of_work_that_kills_its_worker_each_time_is_an_error_that_says_so(cluster):
    with RayEngine(max_retries=1) as engine, pytest.raises(ResourceError, match=r"in 2 tries .*--ray-memory"):
        list(engine.each(None, [0], alone=lambda _: lambda: os.kill(os.getpid(), signal.SIGKILL)))


def test_a_task_that_no_node_can_take_is_an_error_and_no_endless_wait(cluster, monkeypatch):
    monkeypatch.setattr("curate.engines.ray.PATIENCE", 1.0)
    monkeypatch.setattr("curate.engines.ray.LOOK_AGAIN", 0.5)
    with RayEngine(cpus_per_task=64) as engine, pytest.raises(ResourceError, match=r"64 cores .* largest has 1 cores"):
        engine.map(abs, [1, 2, 3])
    with (
        RayEngine(memory_per_task=10**13) as engine,
        pytest.raises(ResourceError, match=r"1 cores and 10,000,000,000,000 bytes"),
    ):
        list(engine.each(None, [1], alone=lambda _: int))


def test_a_driver_that_is_killed_leaves_a_run_that_goes_on_here_or_there(cluster, corpus, tmp_path):
    write(corpus / "raw" / "large.jsonl", rows(20_000, seed=9))
    out, target = tmp_path / "out", corpus / "target.jsonl"
    command = [sys.executable, "-m", "curate", "select", str(corpus / "raw"), "--target", str(target)]
    command += ["--out", str(out), "--name", "x", "--budget", "3000", "--set", "n_buckets=500", "--quiet"]
    try:
        run = subprocess.Popen(
            [*command, "--engine", "ray", "--ray-address", cluster.address], stderr=subprocess.PIPE, text=True
        )
        while run.poll() is None and not list(out.glob("scores/part-*.parquet")):
            time.sleep(0.005)
        run.kill()
        assert run.wait() == -signal.SIGKILL, run.stderr.read()
        scored = {p.name: p.stat().st_ino for p in out.glob("scores/part-*.parquet")}
        assert 0 < len(scored) < 8
        options = {"target": target, "name": "x", "budget": 3000}
        select(corpus / "raw", out, engine="ray", **options)
        select(corpus / "raw", tmp_path / "local", **options)
    finally:
        (corpus / "raw" / "large.jsonl").unlink()
    assert tree(out) == tree(tmp_path / "local")
    assert all((out / "scores" / name).stat().st_ino == inode for name, inode in scored.items())


def test_the_command_line_selects_on_a_cluster(cluster, corpus, tmp_path):
    command = [sys.executable, "-m", "curate", "select", str(corpus / "raw"), "--target", str(corpus / "target.jsonl")]
    command += ["--name", "x", "--budget", "25", "--set", "n_buckets=500"]
    on = ["--engine", "ray", "--ray-address", cluster.address, "--ray-retries", "1", "--ray-memory", "1MB", "--json"]
    done = subprocess.run([*command, "--out", tmp_path / "ray", *on], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stats"]["n_selected"] == 25
    select(corpus / "raw", tmp_path / "local", target=corpus / "target.jsonl", name="x", budget=25)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")


@pytest.mark.parametrize("options", [{"draw": "cover", "method": "bytegrams", "format": "jsonl.zst"}])
def test_a_selection_from_s3_to_s3_has_the_bytes_of_one_on_disk(cluster, bucket, corpus, tmp_path, options):
    import fsspec

    s3, there = fsspec.filesystem("s3"), f"{bucket}/{'-'.join(options) or 'plain'}"
    for path in [corpus / "target.jsonl", *(corpus / "raw").iterdir()]:
        s3.put_file(str(path), f"{there}/{path.relative_to(corpus)}")
    options = options | {"name": "x", "budget": 25}
    select(f"{there}/raw", f"{there}/out", target={"t": f"{there}/target.jsonl"}, engine="ray", **options)
    select(corpus / "raw", tmp_path / "out", target={"t": corpus / "target.jsonl"}, **options)
    for path in s3.find(f"{there}/out"):
        to = tmp_path / "fetched" / path.partition("/out/")[2]
        to.parent.mkdir(parents=True, exist_ok=True)
        s3.get_file(path, str(to))
    wanted = tree(tmp_path / "out")
    found = tree(tmp_path / "fetched")
    bytes_of = [name for name in wanted if name.startswith(("shards/", "scores/part", "ledger"))]
    assert len(bytes_of) > 8
    assert {name: found[name] for name in bytes_of} == {name: wanted[name] for name in bytes_of}
    assert set(found) == set(wanted)


def test_a_cluster_that_is_not_there_is_one_line_with_the_way_out(tmp_path, corpus):
    code = (
        "from curate.engines.ray import RayEngine\n"
        "from curate.errors import RunError\n"
        "try:\n    RayEngine('127.0.0.1:1')\nexcept RunError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("--ray-address 127.0.0.1:1: no Ray cluster can be reached there")
    assert "ray start --head" in done.stdout


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("rey", {}, "did you mean 'ray'"),
        ("local", {"address": "auto"}, "engine 'local' has no option 'address'"),
        ("ray", {"cpus_per_task": 0}, "--ray-cpus 0: must be 1 or more"),
    ],
)
def test_an_engine_that_makes_no_sense_is_refused(corpus, tmp_path, engine, options, message):
    with pytest.raises(UsageError, match=message):
        select(corpus / "raw", tmp_path, target=corpus / "target.jsonl", engine=engine, engine_options=options)


def test_relative_paths_are_those_of_the_driver(cluster, corpus, tmp_path, monkeypatch):
    """Workers were started in another folder."""
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "words.txt").write_text("\n".join(row["text"] for row in rows(120)))
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"), model_prefix=str(tmp_path / "m"), vocab_size=60, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").symlink_to(corpus / "raw")
    curate.domains("raw", out="domains", k=2)
    options = {"target": corpus / "target.jsonl", "name": "x", "budget": 25, "domains": "domains", "per": "cluster"}
    options["settings"] = {"n_buckets": 500, "tokenizer": "m.model"}
    for engine in ("ray", "local"):
        made = select("raw", engine, engine=engine, **options)
        assert made.out == Path(engine)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")


def test_a_worker_writes_nothing_for_an_owner_whose_folder_another_one_has(cluster, bucket):
    folder = RunFolder(f"{bucket}/owned")
    with folder.locked(), RayEngine() as engine:
        lock, inside = folder.path / ".curate.lock", folder.path / "x.json"
        assert list(engine.each(None, [1], alone=lambda i: lambda: write_json(inside, i)))
        lock.fs.pipe_file(lock.path, b'{"uuid": "of another one"}')
        with pytest.raises(BusyError, match="another run took it over"):
            list(engine.each(None, [2], alone=lambda i: lambda: write_json(inside, i)))
        assert read_json(inside) == 1


def test_a_driver_under_another_engine_refuses_no_folder(cluster, corpus, tmp_path):
    """Engine and workers are how, not what: a finished run is not done again by another engine."""
    options = {"target": corpus / "target.jsonl", "name": "x"}
    first = select(corpus / "raw", tmp_path / "out", engine="ray", **options)
    again = select(corpus / "raw", tmp_path / "out", **options)
    assert again.manifest["uuid"] == first.manifest["uuid"]
    with pytest.raises(RunError, match="written by recipe"):
        select(corpus / "raw", tmp_path / "out", engine="ray", seed=1, **options)


# ---- datasets


@pytest.mark.parametrize("form", ["pyarrow", "numpy", "pandas"])
def test_a_ray_dataset_has_the_scores_of_the_pipeline(cluster, corpus, tmp_path, form):
    import polars as pl

    import curate.ray

    select(corpus / "raw", tmp_path / "out", target=corpus / "target.jsonl", settings={"min_tokens": 30})
    texts = [*(row["text"] for row in rows(120)), None]
    dataset = ray.data.from_arrow(pl.DataFrame({"text": texts}).to_arrow())
    scored = dataset.map_batches(curate.ray.map_batches(tmp_path / "out" / "scorer"), batch_format=form, batch_size=7)
    found = {row["text"]: row["score"] for row in scored.take_all()}
    wanted = {row["text"]: row["score"] for row in _scores(tmp_path / "out", corpus)}
    assert all(_same(found[text], wanted[text]) for text in texts[:-1])
    assert _same(found[None], None)
    assert any(score is None for score in wanted.values())


def _same(a: float | None, b: float | None) -> bool:
    missing = [value is None or np.isnan(value) for value in (a, b)]
    return all(missing) or (not any(missing) and a == b)


def _scores(out: Path, corpus: Path) -> list[dict]:
    from corpora import scores

    texts = {row["id"]: row["text"] for row in rows(120)}
    return [
        {"text": texts[row["doc_id"]], "score": row["score"]}
        for row in scores(out).to_pylist()
        if row["doc_id"] in texts
    ]


def test_a_dataset_without_the_column_and_a_fused_scorer_are_told_of(cluster, corpus, tmp_path):
    import pyarrow as pa

    import curate.ray

    select(corpus / "raw", tmp_path / "a", target=corpus / "target.jsonl")
    with pytest.raises(InputError, match="no column 'text'"):
        curate.ray.map_batches(tmp_path / "a" / "scorer")(pa.table({"body": ["x"]}))
    select(corpus / "raw", tmp_path / "b", target=corpus / "target.jsonl", method="bytegrams+primed")
    with pytest.raises(UsageError, match="by its rank among all"):
        curate.ray.map_batches(tmp_path / "b" / "scorer")
