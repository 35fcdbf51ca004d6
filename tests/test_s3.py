"""Reading from S3, against a server on this machine."""

import socket

import pytest
from corpora import kept_ids, rows, scores, select, sharded, target_rows, write

from curate.errors import CurateError, InputError
from curate.io.corpus import scan

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
