"""Stopping on request: the first signal asks the training to save and stop, a second one ends it at once."""

from __future__ import annotations

import os
import signal
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
        """Takes the two signals over."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def remove(self) -> None:
        """Gives them back."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
