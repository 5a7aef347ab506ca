"""The queue of trials that an experiment offers to the executor, and result.json: how a trial's last process ended."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, Protocol

from skiplight.errors import UnwritableError
from skiplight.experiments.processes import ProcessResult
from skiplight.files import read_json, replacing, writing

log = logging.getLogger(__name__)

RESULT_FILE = "result.json"


@dataclasses.dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process has claimed, and may train.

    Attributes:
        number: number of the trial in its experiment.
        run: folder of its run.
        name: name of the trial in messages.
        detail: the options that it tries, for messages.
        rung: the rung that it trains to, for messages; empty if it trains to the end in one go.
    """

    number: int
    run: Path
    name: str
    detail: str
    rung: str = dataclasses.field(default="", kw_only=True)


@dataclasses.dataclass(frozen=True)
class QueueProgress:
    """How far the trials of an experiment are, of all commands that work on it.

    Attributes:
        text: numbers of trials, for messages.
        share: share of all training that is done; None if the experiment has no end, or the text has the time left.
        best: the best trial so far with its score, for messages; empty if none has ended.
    """

    text: str
    share: float | None
    best: str


class TrialQueue(Protocol):
    """A source of trials; its methods are called from several threads."""

    folder: Path
    metric: str
    """Name of the metric that ranks the trials."""

    def claim(self) -> Any:
        """Claim the next trial, create its folder, and write its heartbeat; return None if no trial is free now."""

    def is_waiting(self) -> bool:
        """Return whether there may be more trials once those that are training elsewhere have ended."""

    def finish(self, trial: Any, result: ProcessResult) -> str:
        """Record how a trial ended, and return a message to log.

        Raises:
            RunError: the experiment cannot continue without this trial.
        """

    def progress(self) -> QueueProgress:
        """Return how far the trials are."""


def write_result(run: Path, result: ProcessResult) -> None:
    """Write result.json into the folder of a trial; if this fails, only log why."""
    try:
        with writing(run / RESULT_FILE), replacing(run / RESULT_FILE, parents=False) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(result)) + "\n", encoding="utf-8")
    except UnwritableError as error:
        log.warning("%s", error)


def read_result(run: Path) -> ProcessResult | None:
    """Return how the last process of a trial ended, or None if none has ended or result.json cannot be read."""
    try:
        about = read_json(run / RESULT_FILE)
        return ProcessResult(about["state"], about["message"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
