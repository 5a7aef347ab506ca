"""Stopping on request: the first signal asks the training to save and stop, a second one ends it at once.

A terminal's Ctrl-C and a scheduler's SIGTERM reach every process of a training. Those that load its blocks must go on
until the training itself has stopped, so they handle signals in the same way and never look whether one came.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class StopRequest:
    """Handles SIGINT and SIGTERM while it is installed; `signal` is the number of the first that came, or None.

    The handler only sets a flag, which training reads between two steps, where the tables and all counters agree.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Takes the two signals over; again, where another handler has come in between."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before.setdefault(number, signal.signal(number, self._handle))

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Takes the two signals over, and gives them back in the end."""
        self.install()
        try:
            yield
        finally:
            self.remove()

    def remove(self) -> None:
        """Gives them back to who had them first."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number


def ignore_first_signal(worker: int) -> None:
    """Handle signals in a process that loads blocks as the training does, which ends it."""
    StopRequest().install()
