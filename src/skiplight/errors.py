"""Errors that a user can cause; their messages name the option, the value and the remedy."""

from __future__ import annotations

import errno
import os
import shlex


class SkiplightError(Exception):
    """Base of all errors that the input causes, not the code; the command line prints them without a traceback."""


class ConfigError(SkiplightError):
    """An option is unknown, out of range, or cannot be combined with another."""


class DataError(SkiplightError):
    """A text, vocabulary or token store cannot be read, or has nothing to train on."""


class RunError(SkiplightError):
    """A run folder already exists, is missing, or is damaged."""


class BusyError(RunError):
    """Another process trains in a run folder."""


class UnwritableError(RunError):
    """A folder cannot be written to; with enough space and permission, the run can be resumed."""


class EvaluationError(SkiplightError):
    """An evaluation set cannot be read, or has nothing in common with the vocabulary."""


class DivergedError(SkiplightError):
    """The loss is NaN or infinite, or stays above that of vectors that have not been trained."""


class RankError(SkiplightError):
    """A rank of a training has ended early, or the other ranks cannot reach it."""


class PrunedError(SkiplightError):
    """A study has stopped a trial that is worse than others; its metrics up to then are kept."""


class PausedError(SkiplightError):
    """A trial has reached a rung and saved its state there; its study decides whether it goes on."""


class Stopped(SkiplightError):
    """A signal has stopped the training, after it saved its state.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


_REMEDIES = {
    errno.EACCES: "give this user access to it",
    errno.EPERM: "give this user access to it",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOENT: "it was removed, or its name is wrong",
    errno.ENOTDIR: "a part of its path is a file",
    errno.EISDIR: "put a file in its place",
    errno.EINVAL: "put a regular file in its place",
    errno.ELOOP: "put a file in place of the link",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "allow more open files (`ulimit -n`)",
    errno.ENOMEM: "free memory, or allow more",
}


def describe_os_error(error: OSError) -> str:
    """Return an error of the operating system in words, with the path and the remedy.

    >>> describe_os_error(PermissionError(errno.EACCES, "Permission denied", "runs/a"))
    'runs/a: Permission denied; give this user access to it'
    """
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
    remedy = _REMEDIES.get(error.errno or 0)
    reason = error.strerror or str(error) or type(error).__name__
    return (f"{' and '.join(paths)}: " if paths else "") + reason + (f"; {remedy}" if remedy else "")


def command(verb: str, folder: str | os.PathLike[str]) -> str:
    """Return a skiplight command on a folder, quoted for a shell.

    >>> print(command("resume", "runs/it's mine"))
    skiplight resume 'runs/it'"'"'s mine'
    """
    return f"skiplight {verb} {shlex.quote(os.fspath(folder))}"
