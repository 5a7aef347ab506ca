"""Compiles kernels by Numba without the GIL, or by LLVM, and caches them by the content of all kernel sources.

Numba's own cache depends only on the file of the compiled function, and does not notice edits in other files whose
functions are inlined. Therefore the cache folder is named by a hash of all kernel sources of the package. It is in the
user's cache, which is writable even if site-packages is not. Folders of other sources are removed when they have not
been used for a month.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from skiplight.files import KERNELS, cache_folder, refuse_shared, remove, replacing

KEPT_SECONDS = 30 * 24 * 3600


@functools.cache
def _kernel_cache() -> str:
    """Return the folder of the compiled kernels of these sources."""
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).parent
    # Kernels also use constants of files without kernels, such as the specification of the draws.
    for source in sorted([*package.glob("sampling/*.py"), *package.glob("engines/*.py"), Path(__file__)]):
        digest.update(source.read_bytes())
    folder = cache_folder() / KERNELS / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)  # the time of the last use
        remove_unused(folder.parent, time.time() - KEPT_SECONDS)
    except OSError:
        pass
    for path in (folder.parent, folder):  # whoever can write to it can have this process run code
        refuse_shared(path, "set SKIPLIGHT_CACHE to a folder of your own")
    return str(folder if os.access(folder, os.W_OK | os.X_OK) else _process_folder())


@functools.cache
def _process_folder() -> Path:
    """Return a folder for the kernels of this process, which compiles them anew."""
    folder = Path(tempfile.mkdtemp(prefix="skiplight-kernels-"))
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


def remove_unused(folder: Path, since: float) -> None:
    """Remove the folders in `folder` that have not changed since a time, in seconds since 1970."""
    for other in folder.iterdir():
        if other.is_dir() and other.stat().st_mtime < since:
            remove(other)


def kernel(**options: Any) -> Callable[[Callable], Callable]:
    """Return the decorator `numba.njit(nogil=True, **options)` with the cache folder of these sources."""

    def compile_later(function: Callable) -> Callable:
        before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
        numba.config.CACHE_DIR = _kernel_cache()  # type: ignore[attr-defined]
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before  # type: ignore[attr-defined]

    return compile_later


@global_compiler_lock
def machine_code(name: str, emit: Callable[[ir.Module], None]) -> Any:
    """Compile functions of LLVM's intermediate code, or read them from the cache.

    Args:
        name: what the functions are cached by, with their sources and the processor.
        emit: adds the functions to a module.

    Returns:
        Numba's library, which has their addresses; the machine code lives as long as it does.
    """
    codegen = cpu_target.target_context.codegen()
    processor = hashlib.sha256(repr(codegen.magic_tuple()).encode()).hexdigest()[:16]
    path = Path(_kernel_cache(), f"{name}-{processor}.npz")
    try:
        with np.load(path) as saved:
            code = saved["machine"].tobytes(), saved["intermediate"].tobytes()
        return codegen.unserialize_library((name, "object", code))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        pass  # it is not there, or was damaged
    library = codegen.create_library(name)
    library.enable_object_caching()
    module = library.create_ir_module(name)
    emit(module)
    library.add_ir_module(module)
    library.finalize()
    machine, intermediate = (np.frombuffer(code, np.uint8) for code in library.serialize_using_object_code()[2])
    with contextlib.suppress(OSError), replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, machine=machine, intermediate=intermediate)
    return library


inline = numba.njit(inline="always", nogil=True)
"""Decorator of small functions that are inlined into kernels, also those of other files."""
