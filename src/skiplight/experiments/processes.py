"""Train a run in a process of its own, and return how it ended.

A run that crashes affects no other. The output of a run goes to RUN/output.log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from skiplight.errors import command
from skiplight.experiments.run_server import run_server
from skiplight.files import open_regular
from skiplight.registry import VARIABLE

POLL_SECONDS = 0.2

State = Literal["finished", "pruned", "paused", "stopped", "failed", "diverged", "unwritable", "killed", "busy"]
EXIT_CODES: dict[State, int] = {
    "finished": 0, "failed": 1, "pruned": 3, "unwritable": 4, "diverged": 5, "busy": 6, "paused": 7, "stopped": 143,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ProcessResult:
    """How a training ended.

    Attributes:
        state: `paused` if it has saved its state at a rung of its study, `unwritable` if the disk was full or
            read-only, `killed` if a signal ended the process, `busy` if another process trains the run.
        message: the error or the reason, in one line; empty if the training finished.
    """

    state: State
    message: str = ""


def run_in_process(
    run: Path,
    train_folder: Callable[[Path], ProcessResult],
    *,
    cores: Collection[int] = (),
    environment: Mapping[str, str] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> ProcessResult:
    """Train the run in a folder in a process of its own, and wait for its end; may be called from several threads.

    Args:
        run: the folder, made by `RunFolder.create`.
        train_folder: function that trains the run in a folder and never raises, from `skiplight.experiments.worker`.
        cores: the CPU cores that the process may use; empty for all of this process.
        environment: environment variables that are set in the process.
        stopping: called several times a second; once it returns True, the training saves its state and stops.
    """
    # The server keeps the environment of its start; plug-ins may have been named since.
    variables = {VARIABLE: os.environ.get(VARIABLE, "[]")} | dict(environment or {})
    server = run_server()
    number, future = server.start(_train_in_child, run, train_folder, tuple(cores), variables)
    terminated = False
    while not future.done():
        with contextlib.suppress(TimeoutError):
            future.result(POLL_SECONDS)
            break
        if not terminated and stopping():
            server.terminate(number)
            terminated = True
    result, code = future.result()
    if result is not None:
        return result
    if terminated or stopping():
        return ProcessResult("stopped", f"stopped before its first step; resume with: {command('resume', run)}")
    if code >= 0:
        return ProcessResult("failed", f"the process ended with code {code}; see {run / 'output.log'}")
    name = signal.Signals(-code).name
    cause = ", most likely because memory ran out" if -code == signal.SIGKILL else ""
    return ProcessResult("killed", f"the process was killed by {name}{cause}")


def _train_in_child(
    run: Path,
    train_folder: Callable[[Path], ProcessResult],
    cores: tuple[int, ...],
    environment: dict[str, str],
) -> ProcessResult:
    os.environ.update(environment)
    try:
        with open_regular(run / "output.log", "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if cores:
            import torch

            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)
            torch.set_num_threads(len(cores))
        return train_folder(run)
    except OSError as error:
        return ProcessResult("unwritable", f"{run} cannot be written: {error.strerror}; free space or make it writable")
