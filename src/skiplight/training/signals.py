"""Stop requests: the first signal makes the training save and stop, a second one ends it as soon as it has saved.

A terminal's Ctrl-C and a scheduler's SIGTERM reach every process of a training. Processes that load blocks must run
until the training has stopped, so they install the same handler and ignore its flag.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (
    signal.SIGINT,  # Ctrl-C
    signal.SIGTERM,  # kill, and schedulers
    signal.SIGHUP,  # a terminal that is closed, a connection that is lost
    signal.SIGQUIT,  # Ctrl-\
    signal.SIGUSR1,  # Slurm's --signal
    signal.SIGXCPU,  # the soft limit of CPU time
)


class StopRequest:
    """A handler of `SIGNALS`; `signal` is the number of the first one received, or None.

    A callback sets `pause` to a message to make the training save its state and end, as upon a signal.

    The handler only sets a flag. Training reads it between two steps, where the tables and all counters agree. A signal
    that is ignored already, such as SIGHUP under nohup, stays ignored.

    Args:
        saves: whether a state is saved upon the first signal. A second one then ends the process when `report_saved` is
            called, and a third one, or a second one after that, ends it at once.
    """

    def __init__(self, *, saves: bool = False) -> None:
        self.signal: int | None = None
        self.pause: str | None = None
        self._insisted: int | None = None
        self._saving = saves
        self._before: dict[int, Any] = {}

    @property
    def is_requested(self) -> bool:
        """Whether the training is to save its state and end."""
        return self.signal is not None or self.pause is not None

    def install(self) -> None:
        """Install the handler, or install it again after another handler has replaced it."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
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

    def report_saved(self) -> None:
        """End the process if a second signal came before the state that the first one asked for was saved."""
        if self.signal is None:
            return
        self._saving = False
        if self._insisted is not None:
            os._exit(128 + self._insisted)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        if self.signal is None:
            self.signal = number
        elif number == signal.SIGXCPU:
            pass  # it comes again every second
        elif self._saving and self._insisted is None:
            self._insisted = number
        else:
            os._exit(128 + number)


def _leave_terminal() -> None:
    """Point what is written to a terminal that is gone to nowhere, where it does not fail."""
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            try:
                os.ttyname(descriptor)
            except OSError as error:
                if error.errno != errno.EIO:  # it is no terminal, nor one that has hung up
                    continue
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def ignore_first_signal(worker: int) -> None:
    """Install the handler in a worker process that loads blocks, which the training then ends itself."""
    StopRequest(saves=True).install()
