"""Trains the trials of a study, a comparison or a multirun, several at once, each in a process of its own.

A queue gives out trials and records how they ended; what it decides by lies in the experiment's folder, so that several
commands, on one machine or many, may work through the same queue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from skiplight.errors import Stopped, UnwritableError
from skiplight.experiments import heartbeat
from skiplight.experiments.processes import ProcessResult, run_apart
from skiplight.experiments.queue import Trial, TrialQueue, write_result
from skiplight.experiments.resources import Resources
from skiplight.experiments.worker import train_folder
from skiplight.training.run_folder import RunFolder
from skiplight.training.signals import StopRequest

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""A trial whose process is killed goes on from its last checkpoint; killed as often as this, it has failed."""

WAIT_SECONDS = 1
"""How often a worker that waits for the trials of others looks whether they have ended."""


def execute(queue: TrialQueue, owned: Sequence[Resources], *, timeout: float | None = None) -> None:
    """Train the trials of a queue until it has no more.

    Args:
        queue: the trials.
        owned: what each worker may use; there are as many workers.
        timeout: seconds after which no other trial is begun.

    Raises:
        UnwritableError: the disk is full or read-only; trials that are not complete stay open.
        Stopped: a signal asked to stop; the trials have saved their states.
    """
    _WorkerPool(queue, None if timeout is None else time.monotonic() + timeout).run(owned)


class _WorkerPool:
    """The workers of one command, each a thread that waits for the processes of its trials."""

    def __init__(self, queue: TrialQueue, deadline: float | None) -> None:
        self.queue, self.deadline = queue, deadline
        self.stop, self.problem = StopRequest(), threading.Event()
        self.errors: list[BaseException] = []

    def run(self, owned: Sequence[Resources]) -> None:
        with self.stop.installed():
            threads = [threading.Thread(target=self._work, args=(share,)) for share in owned]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # a signal is handled between two of these
                    thread.join(0.1)
        if self.errors:
            raise self.errors[0]
        if self.stop.signal is not None:
            raise Stopped(f"stopped; give the same command again to go on with {self.queue.folder}", self.stop.signal)

    def _stopping(self) -> bool:
        return self.stop.signal is not None or self.problem.is_set()

    def _work(self, share: Resources) -> None:
        try:
            while not self._stopping() and (self.deadline is None or time.monotonic() < self.deadline):
                trial = self.queue.claim()
                if trial is not None:
                    self._train(trial, share)
                elif self.queue.is_waiting():
                    self.problem.wait(WAIT_SECONDS)
                else:
                    return
        except BaseException as error:
            self.errors.append(error)
            self.problem.set()

    def _train(self, trial: Trial, share: Resources) -> None:
        begin = time.perf_counter()
        result = train_claimed(trial, share, self._stopping)
        message = self.queue.finish(trial, result)
        log.info("%s  %s: %s  (%.1f s)", trial.name, trial.detail, message, time.perf_counter() - begin)
        if result.state == "unwritable":
            raise UnwritableError(f"{result.message}; the trial stays open, and the same command goes on with it")


def train_claimed(trial: Trial, share: Resources, stopping: Callable[[], bool]) -> ProcessResult:
    """Train a claimed trial in a process of its own, keep its heartbeat, and write result.json.

    Args:
        trial: the trial.
        share: what its process may use.
        stopping: asked now and then; as soon as it is true the training is told to save and stop.
    """
    if RunFolder(trial.run).summary.exists():  # trained by a process that was killed before it could record it
        return ProcessResult("finished")
    refreshed = time.monotonic()

    def poll() -> bool:
        nonlocal refreshed
        if time.monotonic() - refreshed > heartbeat.REFRESH_SECONDS:
            refreshed = time.monotonic()
            try:
                heartbeat.refresh(trial.run)
            except OSError as error:
                log.warning("%s cannot be refreshed: %s", trial.run / heartbeat.NAME, error.strerror)
        return stopping()

    for attempt in range(1, ATTEMPTS + 1):
        result = run_apart(trial.run, train_folder, cores=share.cores, environment=share.environment, stopping=poll)
        if result.state != "killed" or attempt == ATTEMPTS:
            break
        log.warning("%s: %s; it goes on from its last checkpoint", trial.name, result.message)
    if result.state != "finished" and RunFolder(trial.run).summary.exists():
        # This process was stopped for long, or a clock jumped, and another one took the trial over and finished it.
        result = ProcessResult("finished")
    if result.state != "busy":
        write_result(trial.run, result)
    return result
