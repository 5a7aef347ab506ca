"""What an experiment gives to the executor, trial by trial, and result.json: how the last process of a trial ended."""

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

RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run that this process has claimed.

    Attributes:
        number: in its experiment.
        run: its folder.
        name: what messages call it.
        detail: what it tries.
    """

    number: int
    run: Path
    name: str
    detail: str


class TrialQueue(Protocol):
    """What gives out trials; called from several threads."""

    folder: Path

    def claim(self) -> Any:
        """Claim the next trial, with its folder made and its heartbeat begun; None where there is none to claim now."""

    def is_waiting(self) -> bool:
        """Return whether more trials may come, once those that are trained elsewhere have ended."""

    def finish(self, trial: Any, result: ProcessResult) -> str:
        """Record how a trial ended, and return what is to be logged of it.

        Raises:
            RunError: the experiment cannot go on without it.
        """


def write_result(run: Path, result: ProcessResult) -> None:
    """Write result.json into the folder of a trial; what keeps it from being written is only logged."""
    try:
        with writing(run / RESULT), replacing(run / RESULT, parents=False) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(result)) + "\n", encoding="utf-8")
    except UnwritableError as error:
        log.warning("%s", error)


def read_result(run: Path) -> ProcessResult | None:
    """Return how the last process of a trial ended; None where none has, or the file cannot be read."""
    try:
        about = read_json(run / RESULT)
        return ProcessResult(about["state"], about["message"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
