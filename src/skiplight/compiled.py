"""Compilation of kernels by Numba without the GIL, cached on disk by the content of all kernel sources.

Numba's own cache checks only the file of the compiled function, and misses an edit in another file whose functions are
inlined. So the cache folder is named by a hash of every kernel source of the package. It is in the user's cache, since
site-packages may not be writable. Folders of other sources are removed if unused for a month.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from skiplight.files import cache_folder, remove

KEPT_SECONDS = 30 * 24 * 3600


@functools.cache
def _kernel_cache() -> str:
    """Return the cache folder of compiled kernels for these sources."""
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).parent
    # All files of both rooms, since kernels use constants of files without kernels, such as draws.py.
    for source in sorted([*package.glob("sampling/*.py"), *package.glob("engines/*.py"), Path(__file__)]):
        digest.update(source.read_bytes())
    folder = cache_folder() / "kernels" / digest.hexdigest()[:16]
    with contextlib.suppress(OSError):  # without a cache, kernels are compiled again
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)  # the time of the last use
        remove_unused(folder.parent, time.time() - KEPT_SECONDS)
    return str(folder)


def remove_unused(folder: Path, since: float) -> None:
    """Remove the folders in `folder` whose modification time, in seconds since 1970, is before `since`."""
    for other in folder.iterdir():
        if other.is_dir() and other.stat().st_mtime < since:
            remove(other)


def kernel(**options: Any) -> Callable[[Callable], Callable]:
    """Return `numba.njit(nogil=True, **options)` with a cache in the folder of these sources."""

    def compile_later(function: Callable) -> Callable:
        before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
        numba.config.CACHE_DIR = _kernel_cache()  # type: ignore[attr-defined]
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before  # type: ignore[attr-defined]

    return compile_later


inline = numba.njit(inline="always", nogil=True)
"""The decorator of small functions that are inlined into kernels of other files."""
