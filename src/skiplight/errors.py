"""The errors that a user can cause, each with a message that names the option, the value and the remedy."""

from __future__ import annotations

import os
import shlex


class SkiplightError(Exception):
    """Base of all errors that are the input's fault, not the code's; the command line prints no traceback."""


class ConfigError(SkiplightError):
    """An option is unknown, out of range, or cannot be combined with another."""


class DataError(SkiplightError):
    """A text, vocabulary or token store cannot be read, or holds nothing to train on."""


class RunError(SkiplightError):
    """A run folder exists already, is missing, or is damaged."""


class UnwritableError(RunError):
    """A folder cannot be written to now; with room and permission, what was left off can go on."""


class EvaluationError(SkiplightError):
    """An evaluation set cannot be read, or has nothing in common with the vocabulary."""


class DivergedError(SkiplightError):
    """The loss is no longer a number, or stays above that of vectors that know nothing."""


class RankError(SkiplightError):
    """A rank of a training has died, or the others cannot reach it."""


class PrunedError(SkiplightError):
    """A study has stopped a trial that promises less than others; what it measured until then is kept."""


class Stopped(SkiplightError):
    """A signal asked the training to stop, and it has saved its state.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def command(verb: str, folder: str | os.PathLike[str]) -> str:
    """Return the command to give next, as it can be pasted into a shell whatever the folder is called.

    >>> print(command("resume", "runs/it's mine"))
    skiplight resume 'runs/it'"'"'s mine'
    """
    return f"skiplight {verb} {shlex.quote(os.fspath(folder))}"
