"""MDS shards: byte for byte what the format says, and read by MosaicML's own loader."""

import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pytest
import reference
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.curriculum.mds import INDEX, MdsSpec, MdsWriter, encodings, samples
from curate.errors import UsageError

ROW = st.fixed_dictionaries(
    {
        "text": st.text(max_size=40),
        "id": st.text(max_size=9),
        "n": st.integers(-(1 << 63), (1 << 63) - 1),
        "big": st.integers(0, (1 << 64) - 1),
        "x": st.floats(allow_nan=False),
        "raw": st.binary(max_size=9),
        "tags": st.none() | st.lists(st.text(max_size=3), max_size=2),
        "yes": st.booleans(),
    }
)
SCHEMA = pa.schema(
    [
        ("text", pa.large_string()), ("id", pa.string()), ("n", pa.int64()), ("big", pa.uint64()),
        ("x", pa.float64()), ("raw", pa.binary()), ("tags", pa.list_(pa.string())), ("yes", pa.bool_()),
    ]
)  # fmt: skip
COLUMNS = {
    "big": "uint64", "id": "str", "n": "int64", "raw": "bytes", "tags": "json", "text": "str", "x": "float64",
    "yes": "json",
}  # fmt: skip


def table(rows) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def written(folder, rows, spec, cuts=()):
    writer = MdsWriter(folder, encodings(SCHEMA, ()), spec)
    whole = table(rows)
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        writer.write(whole.slice(start, stop - start))
    return writer.close()


def test_columns_get_the_encoding_that_holds_their_values():
    assert encodings(SCHEMA, ()) == COLUMNS
    assert list(encodings(SCHEMA, ())) == sorted(COLUMNS)
    assert encodings(SCHEMA, ("n", "id"))["n"] == encodings(SCHEMA, ("n", "id"))["id"] == "json"
    assert encodings(pa.schema([("d", pa.date32())]), ()) == {"d": "json"}


@given(st.lists(ROW, max_size=8))
def test_samples_equal_the_definition_and_are_read_back(rows):
    made = list(samples(table(rows), COLUMNS))
    assert made == [reference.mds_sample(row, COLUMNS) for row in rows]
    assert [reference.mds_row(sample, COLUMNS) for sample in made] == rows


@given(st.lists(ROW, min_size=1, max_size=20), st.integers(300, 2_000), st.data())
@settings(max_examples=30)
def test_shards_equal_the_definition_wherever_tables_are_cut(tmp_path_factory, rows, limit, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    folder = tmp_path_factory.mktemp("mds")
    files = written(folder, rows, MdsSpec(limit), cuts)
    shards, index = reference.mds_shards([reference.mds_sample(row, COLUMNS) for row in rows], COLUMNS, limit)
    assert sorted(p.name for p in folder.iterdir()) == sorted(files) == sorted([*shards, INDEX])
    assert {name: (folder / name).read_bytes() for name in shards} == shards
    assert json.loads((folder / INDEX).read_text()) == index


def test_compressed_shards_hold_the_plain_ones_and_say_their_size(tmp_path):
    rows = [row(i) for i in range(50)]
    written(tmp_path / "zstd", rows, MdsSpec(1_500, "zstd"))
    index = json.loads((tmp_path / "zstd" / INDEX).read_text())
    assert len(index["shards"]) > 3
    bodies = []
    for shard in index["shards"]:
        data = (tmp_path / "zstd" / shard["zip_data"]["basename"]).read_bytes()
        assert shard["zip_data"]["bytes"] == len(data)
        assert shard["zip_data"]["hashes"] == {"sha256": hashlib.sha256(data).hexdigest()}
        assert zstandard.get_frame_parameters(data).content_size == shard["raw_data"]["bytes"]
        plain = zstandard.decompress(data)
        assert shard["raw_data"]["hashes"] == {"sha256": hashlib.sha256(plain).hexdigest()}
        bodies.append(plain[int.from_bytes(plain[4:8], "little") :])
    assert b"".join(bodies) == b"".join(samples(table(rows), COLUMNS))


def test_a_sample_larger_than_a_shard_has_one_to_itself(tmp_path):
    rows = [row(0), row(1) | {"text": "long " * 1_000}, row(2)]
    files = written(tmp_path, rows, MdsSpec(700))
    assert files == ["shard.00000.mds", "shard.00001.mds", "shard.00002.mds", INDEX]


def test_no_rows_are_an_index_without_shards(tmp_path):
    assert written(tmp_path, [], MdsSpec()) == [INDEX]
    assert json.loads((tmp_path / INDEX).read_text()) == {"version": 2, "shards": []}


@pytest.mark.parametrize("size", [0, 1 << 32])
def test_offsets_of_32_bits_bound_the_size_of_a_shard(size):
    with pytest.raises(UsageError, match="4,294,967,295"):
        MdsSpec(size)


def row(i: int) -> dict:
    return {"text": f"text {i} \u4f60\0", "id": f"d{i}", "n": -i, "big": (1 << 63) + i, "x": i / 3, "raw": bytes([i]),
            "tags": None if i % 2 else ["a", str(i)], "yes": i % 2 == 0}  # fmt: skip


# ---- with the package that reads them


@pytest.fixture
def streaming(tmp_path, monkeypatch):
    """MosaicML streaming.

    It does not go together with the versions of NumPy here, hence an environment of its own: ``pip install --no-deps
    mosaicml-streaming``, what it imports (torch, torchvision, transformers, boto3, brotli, catalogue, filelock,
    matplotlib, python-snappy, tqdm, xxhash, zstd), and what curate and these tests need. Then
    ``python -m pytest tests/test_mds.py tests/test_handover.py``. Version 0.13.0 passed.
    """
    found = pytest.importorskip("streaming", reason="mosaicml-streaming is not installed", exc_type=ImportError)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found.base.util.clean_stale_shared_memory()
    return found


@pytest.mark.reference
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_streaming_reads_what_was_written(tmp_path, streaming, compression):
    rows = [row(i) for i in range(60)]
    written(tmp_path / "mds", rows, MdsSpec(2_000, compression))
    data = streaming.StreamingDataset(local=str(tmp_path / "mds"), shuffle=False, batch_size=1, validate_hash="sha256")
    assert len(data) == 60
    assert list(map(dict, data)) == rows
    assert dict(data[17]) == rows[17]


@pytest.mark.reference
def test_shards_are_those_of_the_writer_of_streaming(tmp_path, streaming):
    rows = [row(i) for i in range(60)]
    written(tmp_path / "ours", rows, MdsSpec(2_000))
    settings = {"columns": COLUMNS, "hashes": ["sha256"], "size_limit": 2_000}
    with streaming.MDSWriter(out=str(tmp_path / "theirs"), **settings) as writer:
        for one in rows:
            writer.write({**one, "big": np.uint64(one["big"]), "n": np.int64(one["n"]), "x": np.float64(one["x"])})
    names = sorted(os.listdir(tmp_path / "theirs"))
    assert names == sorted(os.listdir(tmp_path / "ours"))
    for name in names:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes(), name
