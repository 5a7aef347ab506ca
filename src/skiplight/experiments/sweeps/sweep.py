"""Works on a study: claims trials, trains each in a process of its own, writes down what came of it.

Several commands on one or many machines may work on the same study at once; each has one or several workers.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from skiplight.config.schema import Config
from skiplight.cores import usable_cores
from skiplight.errors import ConfigError, Stopped, UnwritableError
from skiplight.experiments import heartbeat
from skiplight.experiments.processes import ProcessResult, run_apart
from skiplight.experiments.resources import Resources, share_resources, visible_devices
from skiplight.experiments.sweeps.study import Study, Trial
from skiplight.experiments.worker import train_folder
from skiplight.training.loggers import check_logger
from skiplight.training.run_folder import RunFolder
from skiplight.training.signals import StopRequest

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""A trial whose process is killed goes on from its last checkpoint; killed as often as this, it has failed."""


def sweep(
    config: Config,
    folder: Path,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    workers: int = 1,
    devices_per_trial: int | None = None,
) -> Study:
    """Begins a study or goes on with it, until it has its trials.

    Args:
        config: the options of the runs and of the study.
        folder: the study's.
        trials: how many the study is to have, with those that it has; by default all points of a grid.
        timeout: seconds after which no other trial is begun.
        workers: how many trials are trained at once, here.
        devices_per_trial: GPUs for each; default: `trainer.devices`.

    Raises:
        ConfigError: an option is wrong, or the study began with others.
        UnwritableError: the disk is full or read-only; trials that are not complete stay open.
        Stopped: a signal asked to stop; the trials have saved their states.
    """
    asked = config.trainer.devices
    devices_per_trial = asked if devices_per_trial is None else devices_per_trial
    if workers < 1 or devices_per_trial < 1 or (trials is not None and trials < 1):
        raise ConfigError("--workers, --devices-per-trial and --trials must be at least 1")
    if trials is None and timeout is None and config.study.sampler != "grid":
        raise ConfigError(f"`study.sampler={config.study.sampler}` has no end: give --trials N, or --timeout SECONDS")
    check_logger(config)
    if asked not in (1, devices_per_trial):
        raise ConfigError(
            f"`trainer.devices={asked}` and --devices-per-trial {devices_per_trial} contradict each other: give either"
        )
    config.trainer.devices = devices_per_trial
    owned = share_resources(workers, devices_per_trial, visible_devices(config.trainer.accelerator), usable_cores())
    study = Study.begin(folder, config)
    if len(study.metrics) > 1:
        log.info("two metrics, %s: the Pareto front is looked for, and no trial is pruned", " and ".join(study.metrics))
    crew = _Crew(study, trials, None if timeout is None else time.monotonic() + timeout)
    crew.work(owned)
    return study


class _Crew:
    """The workers of one command, each a thread that waits for its trials' processes."""

    def __init__(self, study: Study, limit: int | None, deadline: float | None) -> None:
        self.study, self.limit, self.deadline = study, limit, deadline
        self.stop, self.problem = StopRequest(), threading.Event()
        self.errors: list[BaseException] = []
        self.running: dict[int, Trial] = {}

    def work(self, owned: list[Resources]) -> None:
        self.stop.install()
        try:
            threads = [threading.Thread(target=self._worker, args=(share,)) for share in owned]
            for thread in threads:
                thread.start()
            refreshed = time.monotonic()
            while any(thread.is_alive() for thread in threads):
                threads[0].join(0.1) if threads[0].is_alive() else time.sleep(0.1)
                if time.monotonic() - refreshed > heartbeat.REFRESH_SECONDS:
                    refreshed = time.monotonic()
                    self._refresh()
        finally:
            self.stop.remove()
        if self.errors:
            raise self.errors[0]
        if self.stop.signal is not None:
            raise Stopped(f"stopped; give the same command again to go on with {self.study.folder}", self.stop.signal)

    def _refresh(self) -> None:
        for trial in list(self.running.values()):
            try:
                heartbeat.refresh(trial.run)
            except FileNotFoundError:
                pass  # it has just ended
            except OSError as error:
                log.warning("%s cannot be refreshed: %s", trial.run / heartbeat.NAME, error.strerror)

    def _stopping(self) -> bool:
        return self.stop.signal is not None or self.problem.is_set()

    def _worker(self, share: Resources) -> None:
        try:
            while not self._stopping() and (self.deadline is None or time.monotonic() < self.deadline):
                trial = self.study.claim(self.limit)
                if trial is None:
                    return
                self.running[trial.number] = trial
                self._train(trial, share)
                del self.running[trial.number]
        except BaseException as error:
            self.errors.append(error)
            self.problem.set()

    def _train(self, trial: Trial, share: Resources) -> None:
        begin = time.perf_counter()
        outcome = self._outcome(trial, share)
        values = self.study.end(trial, outcome)
        RunFolder(trial.run).drop_checkpoints()
        shown = "  ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
        seconds = time.perf_counter() - begin
        if values is not None:
            result = "  ".join(f"{m} {v:.4g}" for m, v in zip(self.study.metrics, values, strict=True))
            log.info("trial %d  %s: %s  (%.1f s)", trial.number, shown, result, seconds)
        else:
            reason = outcome.message or self.study.trials[trial.number].user_attrs.get("error", "")
            log.info("trial %d  %s: %s: %s  (%.1f s)", trial.number, shown, outcome.state, reason, seconds)
        if outcome.state == "unwritable":
            raise UnwritableError(f"{outcome.message}; the trial stays open, and the same command goes on with it")

    def _outcome(self, trial: Trial, share: Resources) -> ProcessResult:
        if (trial.run / "summary.json").exists():  # trained, but not written down
            return ProcessResult("finished")
        for attempt in range(1, ATTEMPTS + 1):
            outcome = run_apart(
                trial.run, train_folder, cores=share.cores, environment=share.environment, stopping=self._stopping
            )
            if outcome.state != "killed" or attempt == ATTEMPTS:
                break
            log.warning("trial %d: %s; it goes on from its last checkpoint", trial.number, outcome.message)
        return outcome


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
