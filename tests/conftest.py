"""What all tests share: hypothesis profiles, the samples, the corpus pool."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("default", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default"))


@pytest.fixture
def no_other_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Wait until no test of another process uses Ray: some kill its workers, and two cores are enough for one."""
    base = tmp_path_factory.getbasetemp()
    with open((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ray.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def samples() -> Path:
    """The corpus that comes with the repository."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def pool() -> Path:
    """The large corpus beside the repository; tests that need it are marked ``pool``."""
    path = ROOT.parent / "shared" / "pool"
    if not path.is_dir():
        pytest.skip(f"no corpus pool at {path.relative_to(ROOT.parent)} beside the repository")
    return path
