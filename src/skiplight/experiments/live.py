"""What a terminal shows while trials train: a table of those that train now, the best so far, and the time left.

Elsewhere nothing is shown, and the log has a line for each trial that has ended.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple, TextIO

from skiplight.errors import RunError
from skiplight.experiments.queue import ClaimedTrial, QueueProgress, TrialQueue
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_SECONDS = 1


class Training(NamedTuple):
    """A trial that a worker of this command trains, and when it began, by `time.monotonic`."""

    trial: ClaimedTrial
    begin: float


@contextlib.contextmanager
def live_table(queue: TrialQueue) -> Iterator[Callable[[Collection[Training]], None]]:
    """Show a table on the standard error, if that is a terminal, until the context ends.

    Yields:
        A function that is called with the trials in training, several times a second.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda training: None
        return
    table = _Table(queue)
    before = sys.stderr
    with Live(console=console, auto_refresh=False, transient=True) as live, _logging_above(before):

        def show(training: Collection[Training]) -> None:
            if table.is_due():
                live.update(table.render(training), refresh=True)

        yield show


@contextlib.contextmanager
def _logging_above(stderr: TextIO) -> Iterator[None]:
    """Let the handlers of a program that log to `stderr` write to what has taken its place, above the table."""
    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler and h.stream is stderr]
    for handler in handlers:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(stderr)


class _Table:
    """The table of a queue."""

    def __init__(self, queue: TrialQueue) -> None:
        self.queue, self.begin = queue, time.monotonic()
        self.share_before = queue.progress().share
        self._shown = -float("inf")

    def is_due(self) -> bool:
        """Return whether it is time to show the table again, and if so, take it as shown."""
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS:
            return False
        self._shown = now
        return True

    def render(self, training: Collection[Training]) -> RenderableType:
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        table = Table("training", "options", box=None, pad_edge=False, expand=True)
        table.columns[0].no_wrap = True
        table.columns[1].ratio = 1
        with_rungs = any(trial.rung for trial, _ in training)
        for title in ["rung"] * with_rungs + [self.queue.metric, "time"]:
            table.add_column(escape(title), justify="right", no_wrap=True)
        for trial, begin in training:
            cells = [trial.name, trial.detail] + [trial.rung] * with_rungs
            table.add_row(*map(escape, cells), self._score(trial), format_duration(time.monotonic() - begin))
        return Group(table, Text(self._describe(self.queue.progress()), style="bold"))

    def _score(self, trial: ClaimedTrial) -> str:
        """Return the score of the last evaluation of a trial, empty if there was none."""
        run, metric = RunFolder(trial.run), self.queue.metric
        try:
            found = [line[metric] for line in [*run.read_forks(), *run.read_metrics()] if metric in line]
        except RunError:  # its own process says what is wrong
            found = []
        return f"{found[-1]:.4g}" if found else ""

    def _describe(self, progress: QueueProgress) -> str:
        parts = [progress.text] + [f"best: {progress.best}"] * bool(progress.best)
        if progress.share is not None and self.share_before is not None:
            done = progress.share - self.share_before  # by this command and by others
            if done > 0:
                left = (time.monotonic() - self.begin) / done * (1 - progress.share)
                parts.append(f"about {format_duration(left)} left")
        return "\n".join(parts)


def format_duration(seconds: float) -> str:
    """Return seconds as text.

    >>> [format_duration(seconds) for seconds in (0.4, 89, 91, 4000)]
    ['1 s', '89 s', '2 min', '67 min']
    """
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"
