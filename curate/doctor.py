"""What is installed here and whether it works: for a user's first minute and for bug reports."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

BASE = (
    "numpy",
    "polars",
    "duckdb",
    "pyarrow",
    "numba",
    "click",
    "fsspec",
    "universal-pathlib",
    "zstandard",
    "sentencepiece",
    "rich",
)
EXTRAS = {
    "s3": "s3fs",
    "hf": "huggingface_hub",
    "gcs": "gcsfs",
    "codecs": "isal",
    "classifier": "scikit-learn",
    "report": "vl-convert-python",
    "evaluate": "pyppmd",
    "lang": "pycld2",
    "encoder": "model2vec",
    "transformer": "sentence-transformers",
    "faiss": "faiss-cpu",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str


def checks() -> list[Check]:
    """Versions, cores, memory, disk, and a real selection's kernels on one sentence."""
    found = [Check("python", sys.version_info >= (3, 11), platform.python_version())]
    found += [_package(name) for name in BASE]
    found += [
        Check(f"curate-data[{extra}]", True, _version(name) or "not installed (optional)")
        for extra, name in EXTRAS.items()
    ]
    from curate.engines.local import available_cores

    found.append(Check("cores", True, str(available_cores())))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found.append(Check("memory", memory > 1e9, f"{memory / 1e9:.1f} GB"))
    free = shutil.disk_usage(tempfile.gettempdir()).free
    found.append(Check("temporary disk", free > 1e9, f"{free / 1e9:.1f} GB free in {tempfile.gettempdir()}"))
    found.append(_kernels())
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(name: str) -> Check:
    version = _version(name)
    return Check(name, version is not None, version or "missing: pip install curate-data")


def _kernels() -> Check:
    from curate.features import NgramFeatures
    from curate.kernels.calls import sha256_bucket

    texts = ["The cat sat on a mat\u00e9. \u65e5\u672c\u8a9e \u03a3\u0391\u03a3 " * 200]
    try:
        start = time.perf_counter()
        stream: Any = NgramFeatures(hash="sha256").stream(texts)
        right = int(stream.buckets[0]) == sha256_bucket("the", 10_000)
        fast: Any = NgramFeatures().stream(texts)
        right = right and len(fast.buckets) == len(stream.buckets)
    except Exception as error:
        return Check("kernels", False, f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return Check("kernels", right, f"compiled and right ({time.perf_counter() - start:.1f} s)")
