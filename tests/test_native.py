"""Machine code is kept for later processes, and only when it is whole."""

import json
import os
import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from curate.features import NgramFeatures
stream = NgramFeatures(hash_seed=7).stream(["The cat sat.", "", "Ünïcode \\u65e5\\u672c"])
print(json.dumps([stream.buckets.tolist(), stream.ends.tolist(), "numba" in sys.modules]))
"""


def run(folder):
    """Run the script with machine code in a folder: buckets, ends, and whether the compiler was needed."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with machine code, and what the run that made it said."""
    folder = tmp_path_factory.mktemp("code")
    return folder, run(folder)


@pytest.fixture
def first(compiled, tmp_path):
    """What the first run found; its machine code is in a folder of the test's own."""
    shutil.copytree(compiled[0], tmp_path, dirs_exist_ok=True)
    return compiled[1][:-1]


def test_a_second_process_needs_no_compiler_and_finds_the_same(compiled, first, tmp_path) -> None:
    *second, compiled_again = run(tmp_path)
    assert compiled[1][-1]
    assert not compiled_again
    assert first == second


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_machine_code_that_is_damaged_is_compiled_again(first, tmp_path, damage) -> None:
    path = min(tmp_path.glob("*/*.kernel"), key=lambda path: path.stat().st_size)
    path.write_bytes(damage(path.read_bytes()))
    *second, compiled = run(tmp_path)
    assert compiled
    assert first == second
    assert not run(tmp_path)[-1]


def test_a_folder_that_cannot_be_written_only_costs_time(first, tmp_path) -> None:
    for path in tmp_path.iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        path.write_text("a file where the folder would be")
    *second, compiled = run(tmp_path)
    assert compiled
    assert first == second
