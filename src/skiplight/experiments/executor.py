"""Train the trials of a study, a comparison or a multirun, several at once, each in a process of its own.

A queue hands out trials and records their results. Its state is in the experiment's folder, so several commands, on one
machine or many, can work through the same queue.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence

from skiplight.errors import Stopped, UnwritableError
from skiplight.experiments import heartbeat
from skiplight.experiments.live import Training, live_table
from skiplight.experiments.processes import ProcessResult, run_in_process
from skiplight.experiments.queue import ClaimedTrial, TrialQueue, write_result
from skiplight.experiments.resources import Resources
from skiplight.experiments.worker import train_folder
from skiplight.training.run_folder import RunFolder
from skiplight.training.signals import StopRequest

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""Number of times that a trial is started. A killed one resumes from its last checkpoint; killed so often, it fails."""

WAIT_SECONDS = 1
"""Seconds between two checks of an idle worker whether trials of other workers have ended."""


def execute_trials(
    queue: TrialQueue, resources: Sequence[Resources], *, timeout: float | None = None, live: bool = True
) -> None:
    """Train the trials of a queue until it is empty.

    Args:
        queue: the trials.
        resources: the resources of each worker, [workers].
        timeout: seconds after which no further trial is started.
        live: show a table of the trials meanwhile, if the standard error is a terminal.

    Raises:
        UnwritableError: the disk is full or read-only; unfinished trials can be resumed.
        Stopped: a signal requested a stop; the trials have saved their state.
    """
    with live_table(queue) if live else contextlib.nullcontext(lambda training: None) as show:
        _WorkerPool(queue, None if timeout is None else time.monotonic() + timeout).run(resources, show)


class _WorkerPool:
    """The workers of one command: threads, each of which trains one trial after the other in a process."""

    def __init__(self, queue: TrialQueue, deadline: float | None) -> None:
        self.queue, self.deadline = queue, deadline
        self.stop, self.failed = StopRequest(), threading.Event()
        self.errors: list[BaseException] = []
        self.training: dict[int, Training] = {}  # by number

    def run(self, resources: Sequence[Resources], show: Callable[[Collection[Training]], None]) -> None:
        with self.stop.installed():
            threads = [threading.Thread(target=self._work, args=(share,)) for share in resources]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)  # a join without a timeout would delay the handling of signals
                    self._keep_error(lambda: show(list(self.training.values())))
        if self.errors:
            raise self.errors[0]
        if self.stop.signal is not None:
            raise Stopped(f"stopped; give the same command again to continue {self.queue.folder}", self.stop.signal)

    def _stopping(self) -> bool:
        return self.stop.signal is not None or self.failed.is_set()

    def _work(self, resources: Resources) -> None:
        self._keep_error(lambda: self._train_all(resources))

    def _keep_error(self, function: Callable[[], None]) -> None:
        """Call a function; if it raises, end all workers, after which the first error is raised again."""
        try:
            function()
        except BaseException as error:
            self.errors.append(error)
            self.failed.set()

    def _train_all(self, resources: Resources) -> None:
        while not self._stopping() and (self.deadline is None or time.monotonic() < self.deadline):
            trial = self.queue.claim()
            if trial is not None:
                self._train(trial, resources)
            elif self.queue.is_waiting():
                self.failed.wait(WAIT_SECONDS)
            else:
                return

    def _train(self, trial: ClaimedTrial, resources: Resources) -> None:
        begin = time.monotonic()
        self.training[trial.number] = Training(trial, begin)
        try:
            result = train_claimed_trial(trial, resources, self._stopping)
            message = self.queue.finish(trial, result)
        finally:
            del self.training[trial.number]
        log.info("%s  %s: %s  (%.1f s)", trial.name, trial.detail, message, time.monotonic() - begin)
        if result.state == "unwritable":
            raise UnwritableError(f"{result.message}; the same command resumes the trial")


def train_claimed_trial(trial: ClaimedTrial, resources: Resources, stopping: Callable[[], bool]) -> ProcessResult:
    """Train a claimed trial in a process of its own, refresh its heartbeat meanwhile, and write result.json.

    Args:
        trial: the trial.
        resources: the cores and devices that its process may use.
        stopping: called several times a second; once it returns True, the training saves its state and stops.
    """
    if RunFolder(trial.run).summary.exists():  # its command was killed after the training and before `finish`
        return ProcessResult("finished")
    refreshed = time.monotonic()

    def poll() -> bool:
        nonlocal refreshed
        if time.monotonic() - refreshed > heartbeat.REFRESH_SECONDS:
            refreshed = time.monotonic()
            try:
                heartbeat.refresh_heartbeat(trial.run)
            except OSError as error:
                log.warning("%s cannot be refreshed: %s", trial.run / heartbeat.HEARTBEAT_FILE, error.strerror)
        return stopping()

    for attempt in range(1, ATTEMPTS + 1):
        result = run_in_process(
            trial.run, train_folder, cores=resources.cores, environment=resources.environment, stopping=poll
        )
        if result.state != "killed" or attempt == ATTEMPTS:
            break
        log.warning("%s: %s; it resumes from its last checkpoint", trial.name, result.message)
    if result.state != "finished" and RunFolder(trial.run).summary.exists():
        # This process was stopped for long, or a clock jumped, and another one took the trial over and finished it.
        result = ProcessResult("finished")
    if result.state != "busy":
        write_result(trial.run, result)
    return result
