"""Stop requests: the first SIGINT or SIGTERM makes the training save and stop, a second one ends it immediately.

A terminal's Ctrl-C and a scheduler's SIGTERM reach every process of a training. Processes that load blocks must run
until the training has stopped, so they install the same handler and ignore its flag.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class StopRequest:
    """A handler of SIGINT and SIGTERM; `signal` is the number of the first one received, or None.

    The handler only sets a flag. Training reads it between two steps, where the tables and all counters agree.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handler, or install it again after another handler has replaced it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before.setdefault(number, signal.signal(number, self._handle))

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Install the handler for the duration of a block."""
        self.install()
        try:
            yield
        finally:
            self.remove()

    def remove(self) -> None:
        """Restore the original handlers."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number


def ignore_first_signal(worker: int) -> None:
    """Install the handler in a worker process that loads blocks, which the training then ends itself."""
    StopRequest().install()
