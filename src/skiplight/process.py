"""What holds for a whole process: the processor cores that it may use, and a quick start and end."""

from __future__ import annotations

import atexit
import contextlib
import gc
import getpass
import logging
import os
import resource
import sys
from collections.abc import Callable
from typing import NoReturn

from skiplight.errors import SkiplightError
from skiplight.files import cache_folder

LEAST_MEMORY = 2 << 30
"""Bytes of memory addresses, most of them of libraries."""


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use; all cores if the system has no such list."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


_is_program = False


def is_program() -> bool:
    """Return whether this process does nothing but what `run_program` runs."""
    return _is_program


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run `main` as all that this process does, and end with the exit code that it returns.

    Torch and Lightning are a million objects that stay until the end: Python searches them for garbage less often, and
    not at all when the process ends, which would take 1.2 seconds. Functions of `atexit` are called as ever.
    """
    global _is_program
    _is_program = True
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


def check_process() -> None:
    """Check what torch needs, which otherwise ends the process while it is imported.

    Raises:
        SkiplightError: the working directory was removed, or the address space is too small.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise SkiplightError("the working directory was removed: change to another one") from None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        raise SkiplightError(
            f"this process may use {limit / 2**30:.1f} GiB of memory addresses (`ulimit -v`): torch needs"
            f" {LEAST_MEMORY >> 30} GiB or more"
        )


def provide_streams() -> None:
    """Open standard streams that the parent has closed: the next file that is opened would get their numbers."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


class StderrHandler(logging.Handler):
    """Writes log messages to what is the standard error when they are logged.

    A stream that is kept could be closed by then, or write into a table that redirects the standard error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def log_to_stderr() -> None:
    """Show warnings of all packages and messages of skiplight; where a program has set up logging, leave it alone."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[StderrHandler()])
    logging.getLogger("skiplight").setLevel(logging.INFO)


def provide_home() -> None:
    """Give libraries folders to write to and a user's name, where there is no home folder that can be written to.

    Containers on Kubernetes and OpenShift run so: with a number for a user, and / for a home. Variables that are set
    already stay as they are.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user{os.getuid()}"
    home = os.path.expanduser("~")
    if os.access(home, os.W_OK | os.X_OK):
        return
    cache = cache_folder()
    names = {"HF_DATASETS_CACHE": "datasets", "HF_HUB_CACHE": "hub", "HF_MODULES_CACHE": "modules"}
    names |= {"MPLCONFIGDIR": "matplotlib", "WANDB_CACHE_DIR": "wandb", "WANDB_CONFIG_DIR": "wandb"}
    names |= {"WANDB_DATA_DIR": "wandb", "TRITON_CACHE_DIR": "triton"}
    for name, folder in names.items():
        os.environ.setdefault(name, str(cache / folder))
    if home == "~":
        os.environ["HOME"] = str(cache)
