"""Machine code is kept for later processes, and only when it is whole."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from curate.features import NgramFeatures
stream = NgramFeatures(hash_seed=7).stream(["The cat sat.", "", "Ünïcode \\u65e5\\u672c"])
print(json.dumps([stream.buckets.tolist(), stream.ends.tolist(), "numba" in sys.modules]))
"""


@pytest.fixture
def buckets(tmp_path):
    """Run the script with machine code in a folder of its own: buckets, ends, and whether the compiler was needed."""

    def run():
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_second_process_needs_no_compiler_and_finds_the_same(buckets) -> None:
    *first, compiled = buckets()
    *second, compiled_again = buckets()
    assert compiled
    assert not compiled_again
    assert first == second


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_machine_code_that_is_damaged_is_compiled_again(buckets, tmp_path, damage) -> None:
    *first, _ = buckets()
    files = list(tmp_path.glob("*/*.kernel"))
    assert files
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    *second, compiled = buckets()
    assert compiled
    assert first == second
    assert not buckets()[-1]


def test_a_folder_that_cannot_be_written_only_costs_time(buckets, tmp_path) -> None:
    *first, _ = buckets()
    for path in tmp_path.iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        path.write_text("a file where the folder would be")
    *second, compiled = buckets()
    assert compiled
    assert first == second
