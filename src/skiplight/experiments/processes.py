"""Starts a training in a process of its own, and says how it ended.

A server process imports everything once and forks for each, so that a run costs no imports, and one that dies takes
nothing with it. What a run says goes to RUN/output.log.
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

IMPORTED = ["skiplight.training.fit", "skiplight.engines.fused_cpu", "skiplight.evaluation.suite", "optuna", "wandb"]
"""What the server imports before it forks. None of it may have begun to compute, or to use a GPU."""

POLL_SECONDS = 0.2

State = Literal["finished", "pruned", "stopped", "failed", "diverged", "unwritable", "killed", "busy"]
CODES: dict[State, int] = {
    "finished": 0, "failed": 1, "pruned": 3, "unwritable": 4, "diverged": 5, "busy": 6, "stopped": 143,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ProcessResult:
    """How a training ended.

    Attributes:
        state: `unwritable` if the disk was full or read-only, `killed` if a signal ended the process, `busy` if
            another process trains the run.
        message: what went wrong, in a line; empty where nothing did.
    """

    state: State
    message: str = ""


def run_apart(
    run: Path,
    train_folder: Callable[[Path], ProcessResult],
    *,
    cores: Collection[int] = (),
    environment: Mapping[str, str] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> ProcessResult:
    """Trains the run in a folder in a process of its own, and waits for its end; may be called from several threads.

    Args:
        run: the folder, made by `RunFolder.create`.
        train_folder: trains the run in a folder, and raises nothing: that of `skiplight.experiments.worker`.
        cores: the process may use these only; empty for all of this process.
        environment: variables that are set in the process.
        stopping: asked now and then; as soon as it is true the training is told to save and stop.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    # The server has the environment of when it began; plug-ins may have been named later.
    variables = {VARIABLE: os.environ.get(VARIABLE, "[]")} | dict(environment or {})
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_apart, args=(run, train_folder, tuple(cores), variables, sender))
    process.start()
    sender.close()
    told = False
    while not wait([receiver, process.sentinel], POLL_SECONDS):
        if not told and stopping():
            process.terminate()
            told = True
    try:
        outcome = receiver.recv()
    except EOFError:
        outcome = None
    process.join()
    receiver.close()
    if outcome is not None:
        return outcome
    if told or stopping():
        return ProcessResult("stopped", f"stopped before its first step; go on with: {command('resume', run)}")
    code = process.exitcode or 0
    if code >= 0:
        return ProcessResult("failed", f"the process ended with code {code}; see {run / 'output.log'}")
    name = signal.Signals(-code).name
    perhaps = ", most likely for want of memory" if -code == signal.SIGKILL else ""
    return ProcessResult("killed", f"the process was killed by {name}{perhaps}")


def _apart(
    run: Path,
    train_folder: Callable[[Path], ProcessResult],
    cores: tuple[int, ...],
    environment: dict[str, str],
    sender: Connection,
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    # Its loaders are started as in any process, not by another server, which would import everything again.
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
        outcome = train_folder(run)
    except OSError as error:
        outcome = ProcessResult(
            "unwritable", f"{run} cannot be written: {error.strerror}; make room or make it writable"
        )
    sender.send(outcome)
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(128 + signal.SIGKILL)
