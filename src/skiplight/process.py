"""What holds for a whole process: the processor cores that it may use, and a quick start and end."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use; all cores if the system has no such list."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run `main` as all that this process does, and end with the exit code that it returns.

    Torch and Lightning are a million objects that stay until the end: Python searches them for garbage less often, and
    not at all when the process ends, which would take 1.2 seconds. Functions of `atexit` are called as ever.
    """
    first, second, _ = gc.get_threshold()
    gc.set_threshold(first, second, 100)
    code = 1  # of an error that nobody catches

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed by whoever reads it
                stream.flush()
        os._exit(code)

    atexit.register(end)  # the first to be registered is the last to be called
    try:
        code = main()
    except SystemExit as ended:  # of argparse
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    sys.exit(code)
