"""Calls of compiled kernels. What was compiled before is loaded without the compiler, whose start takes seconds.

A kernel is compiled by numba when it is first called with arguments of some types, and its machine code kept in
a file, which later processes hand to LLVM's linker. A kernel that is called from here takes C-contiguous arrays,
named tuples of them, and numbers; it allocates nothing, raises nothing, and returns a number or nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

_HERE = Path(__file__).parent
_lock = threading.Lock()
_NUMBERS = {"int64": ctypes.c_int64, "uint64": ctypes.c_uint64, "float64": ctypes.c_double, "bool": ctypes.c_bool}


class Kernel:
    """The kernel ``name`` of a module of this package, as a function that lets other threads run."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name
        self._loaded: dict[str, Any] = {}

    def __call__(self, *args: Any) -> Any:
        flat = [item for arg in args for item in (arg if isinstance(arg, tuple) else (arg,))]
        types, values = [], []
        for item in flat:
            if isinstance(item, np.ndarray):
                assert item.flags.c_contiguous
                types.append(f"{item.dtype}{item.ndim}")
                values += [None, None, item.size, item.itemsize, item.ctypes.data, *item.shape, *item.strides]
            else:
                kind = "uint64" if isinstance(item, np.uint64) else "float64" if isinstance(item, float) else "int64"
                types.append(kind)
                values.append(item if kind == "float64" else int(item))
        key = " ".join(types)
        function, returns = self._loaded.get(key) or self._load(key, args)
        result, raised = returns(), ctypes.c_void_p()
        status = function(ctypes.byref(result), ctypes.byref(raised), *values)
        assert status in (0, -1), f"{self.module}.{self.name} ended with status {status}"  # -1: nothing is returned
        return result.value

    def _load(self, key: str, args: Any) -> Any:
        with _lock:
            if key not in self._loaded:
                stem = f"{self.module}.{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
                path = _folder() / f"{stem}.kernel"
                code = _read(path)
                if code is None:
                    code = _compile(self.module, self.name, args)
                    _write(path, code)
                self._loaded[key] = _link(code, key)
        return self._loaded[key]


# A file: one line of JSON, then the object code.


def _read(path: Path) -> tuple[dict[str, str], bytes] | None:
    """Machine code that was kept; None when there is none, or a part of it."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        about = json.loads(head)
        return (about, code) if hashlib.sha256(code).hexdigest() == about["sha256"] else None
    except (OSError, ValueError, KeyError):
        return None


def _write(path: Path, compiled: tuple[dict[str, str], bytes]) -> None:
    """Keep machine code for later processes; without a place for it they compile again."""
    about, code = compiled
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(json.dumps(about).encode() + b"\n" + code)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


def _compile(module: str, name: str, args: Any) -> tuple[dict[str, str], bytes]:
    from curate.kernels.compiled import machine_code

    function = getattr(importlib.import_module(f"curate.kernels.{module}"), name)
    symbol, returns, code = machine_code(function, args)
    return {"symbol": symbol, "returns": returns, "sha256": hashlib.sha256(code).hexdigest()}, code


@cache
def _folder() -> Path:
    """Where machine code is kept, by all that determines it.

    In NUMBA_CACHE_DIR where that is set, else beside the sources, else in the user's cache.
    """
    of = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.py"))))
    versions = [importlib.metadata.version("numba"), llvm.llvm_version_info, sys.version, np.__version__]
    of.update(repr([*versions, llvm.get_host_cpu_name(), sorted(llvm.get_host_cpu_features().items())]).encode())
    name = f"curate-{of.hexdigest()[:16]}"
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen) / name
    beside = _HERE / "__pycache__"
    if os.access(beside if beside.exists() else _HERE, os.W_OK):
        return beside / name
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "curate" / name


@cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(
        opt=3, reloc="static", codemodel="jitdefault", jit=True
    )
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)


def _link(compiled: tuple[dict[str, str], bytes], key: str) -> Any:
    """``(function, type of its result)`` of machine code, in numba's calling convention.

    That is: where the result goes, where an exception goes, and the arguments, an array being two pointers that
    only numba's memory management reads, then number of items, size of one, data, shape and strides.
    """
    about, code = compiled
    machine = _machine()
    machine.add_object_file(llvm.ObjectFileRef.from_data(code))
    machine.finalize_object()
    address = machine.get_function_address(about["symbol"])
    assert address, about["symbol"]
    types: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
    for kind in key.split():
        if kind in _NUMBERS:
            types.append(_NUMBERS[kind])
        else:
            pointer, size = ctypes.c_void_p, ctypes.c_int64
            types += [pointer, pointer, size, size, pointer, *[size] * (2 * int(kind[-1]))]
    returns = _NUMBERS.get(about["returns"], ctypes.c_void_p)
    return ctypes.CFUNCTYPE(ctypes.c_int32, *types)(address), returns
