"""How kernels are compiled: Numba without the GIL, cached on disk by the content of all kernel sources.

Numba's own cache looks at the file of the function that it compiles and does not notice an edit in another file whose
functions were inlined; so the cache folder is named by a hash of every kernel source of the package, and it lies in the
user's cache, which is writable when site-packages is not. Folders of other sources go when nobody has used them for a
month.
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
    """The folder of compiled kernels that belongs to these sources."""
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).parent
    # Kernels also take constants from files that have none of their own, as the draws' specification is one.
    for source in sorted([*package.glob("sampling/*.py"), *package.glob("engines/*.py"), Path(__file__)]):
        digest.update(source.read_bytes())
    folder = cache_folder() / "kernels" / digest.hexdigest()[:16]
    with contextlib.suppress(OSError):  # without a cache, kernels are compiled anew
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)  # the last time that it was used
        remove_unused(folder.parent, time.time() - KEPT_SECONDS)
    return str(folder)


def remove_unused(folder: Path, since: float) -> None:
    """Removes the folders in `folder` that have not been changed since a time, in seconds since 1970."""
    for other in folder.iterdir():
        if other.is_dir() and other.stat().st_mtime < since:
            remove(other)


def kernel(**options: Any) -> Callable[[Callable], Callable]:
    """`numba.njit(nogil=True, **options)`, cached in the folder of these sources."""

    def compile_later(function: Callable) -> Callable:
        before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
        numba.config.CACHE_DIR = _kernel_cache()  # type: ignore[attr-defined]
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before  # type: ignore[attr-defined]

    return compile_later


inline = numba.njit(inline="always", nogil=True)
"""For small functions that kernels of other files are made of."""
