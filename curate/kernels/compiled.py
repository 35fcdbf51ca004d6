"""How kernels are compiled, with numba; `curate.kernels.native` keeps the result and calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

_njit: Any = numba.njit  # its types do not know all of its options


def kernel(function: Callable[..., Any]) -> Any:
    """A function for kernels to call; see `curate.kernels.native` for what those may do that are called from Python.

    Division by zero is not looked for, and arrays are not counted, since nothing is raised or allocated.
    """
    return _njit(nogil=True, error_model="numpy", _nrt=False)(function)


def machine_code(function: Any, args: tuple[Any, ...]) -> tuple[str, str, bytes]:
    """``(symbol, type of the result, object code)`` of a kernel for arguments like these."""
    target = cpu_target
    flags: Any = Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    types = tuple(numba.typeof(arg) for arg in args)
    compiled = compile_extra(
        target.typing_context, target.target_context, function.py_func, types, None, flags, locals={}
    )
    library = compiled.library
    with global_compiler_lock:
        _, _, (code, _) = library.serialize_using_object_code()
    return compiled.fndesc.llvm_func_name, str(compiled.signature.return_type), code
