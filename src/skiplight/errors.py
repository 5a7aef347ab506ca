"""Errors that a user can cause; each message names the option, the value and the remedy."""

from __future__ import annotations

import os
import shlex


class SkiplightError(Exception):
    """Base of all errors caused by the input; the command line prints them without a traceback."""


class ConfigError(SkiplightError):
    """An option is unknown, out of range, or cannot be combined with another."""


class DataError(SkiplightError):
    """A text, vocabulary or token store cannot be read, or holds nothing to train on."""


class RunError(SkiplightError):
    """A run folder exists already, is missing, or is damaged."""


class UnwritableError(RunError):
    """A folder cannot be written to; with room and permission, the run can continue."""


class EvaluationError(SkiplightError):
    """An evaluation set cannot be read, or has nothing in common with the vocabulary."""


class DivergedError(SkiplightError):
    """The loss is not finite, or stays above that of untrained vectors."""


class RankError(SkiplightError):
    """A rank of a training has died or cannot be reached."""


class PrunedError(SkiplightError):
    """A study has pruned a trial, whose measurements are kept."""


class Stopped(SkiplightError):
    """A signal asked the training to stop, and it has saved its state.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def command(verb: str, folder: str | os.PathLike[str]) -> str:
    """Return a command for a shell, with the folder quoted.

    >>> print(command("resume", "runs/it's mine"))
    skiplight resume 'runs/it'"'"'s mine'
    """
    return f"skiplight {verb} {shlex.quote(os.fspath(folder))}"
