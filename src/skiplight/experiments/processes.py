"""Train a run in a process of its own, and return how it ended.

A fork server imports everything once and forks for each run, so that a run costs no imports, and one that crashes
affects no other. The output of a run goes to RUN/output.log.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal

from skiplight.errors import command
from skiplight.files import open_regular
from skiplight.registry import VARIABLE

PRELOADED_MODULES = [
    "skiplight.training.fit",
    "skiplight.engines.fused_cpu",
    "skiplight.evaluation.suite",
    "optuna",
    "wandb",
]
"""Modules that the fork server imports. None may start threads or use a GPU on import, which break after a fork."""

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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED_MODULES)
    # The server keeps the environment of its start; plug-ins may have been named since.
    variables = {VARIABLE: os.environ.get(VARIABLE, "[]")} | dict(environment or {})
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train_in_child, args=(run, train_folder, tuple(cores), variables, sender))
    process.start()
    sender.close()
    terminated = False
    while not wait([receiver, process.sentinel], POLL_SECONDS):
        if not terminated and stopping():
            process.terminate()
            terminated = True
    try:
        result = receiver.recv()
    except EOFError:
        result = None
    process.join()
    receiver.close()
    if result is not None:
        return result
    if terminated or stopping():
        return ProcessResult("stopped", f"stopped before its first step; resume with: {command('resume', run)}")
    code = process.exitcode or 0
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
    sender: Connection,
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    # Data loaders start as in any process, not by a fork server of their own, which would import everything again.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    try:
        with open_regular(run / "output.log", "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if cores:
            import torch

            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)
            torch.set_num_threads(len(cores))
        result = train_folder(run)
    except OSError as error:
        result = ProcessResult(
            "unwritable", f"{run} cannot be written: {error.strerror}; free space or make it writable"
        )
    sender.send(result)
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(128 + signal.SIGKILL)
