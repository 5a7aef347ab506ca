"""Dispatch a command line to its verb, and turn errors into one line and an exit code."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Callable, Sequence

from skiplight import __version__
from skiplight.cli.analogy import analogy
from skiplight.cli.cache import cache
from skiplight.cli.compare import compare
from skiplight.cli.completion import complete
from skiplight.cli.evaluate import evaluate
from skiplight.cli.export import export
from skiplight.cli.neighbors import neighbors
from skiplight.cli.report import report
from skiplight.cli.resume import resume
from skiplight.cli.runs import runs
from skiplight.cli.sweep import sweep
from skiplight.cli.train import train
from skiplight.errors import ConfigError, SkiplightError, Stopped, describe_os_error
from skiplight.process import check_process, log_to_stderr, provide_home, provide_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return 0 on success, 2 for an error in the input, 1 if the output pipe was closed (`| head`)."""
    provide_streams()
    provide_home()
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        if not _unread():
            raise
        # Discard the rest of the buffer, which would cause a traceback when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk: what is left in the buffer is discarded as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _tell(f"skiplight: error: the standard output cannot be written: {describe_os_error(error)}")
        return 2
    return code


def _unread() -> bool:
    """Return whether the standard output is a closed pipe."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"skiplight {__version__}")
        return 0
    if arguments[0] in ("-sc", "--shell-completion"):
        arguments = ["-sc", *arguments[1:]]
    verb = VERBS.get(arguments[0])
    log_to_stderr()
    try:
        if arguments[0] == "-sc":
            return complete(arguments[1:], VERBS)
        check_process()
        if verb is None:
            raise ConfigError(f"unknown verb `{arguments[0]}`: the verbs are {', '.join(VERBS)}")
        return verb(_take_plugins(arguments[1:]) if arguments[0] in READING else arguments[1:]) or 0
    except Stopped as stopped:
        _tell(f"skiplight: {stopped}")
        return 128 + stopped.signal
    except SkiplightError as error:
        _tell(f"skiplight: error: {error}")
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        _tell(f"skiplight: error: {describe_os_error(error)}")
        return 2
    except (MemoryError, ImportError, RuntimeError) as error:
        # A library that cannot be mapped is an ImportError, a tensor or thread that has no room a RuntimeError.
        if not (isinstance(error, MemoryError) or re.search("memory|map segment|start new thread", str(error))):
            raise
        _tell(f"skiplight: error: out of memory ({str(error).partition(os.linesep)[0]}): allow more")
        return 2
    except KeyboardInterrupt:  # training handles signals between two steps instead
        _tell("skiplight: interrupted")
        return 130


def _tell(message: str) -> None:
    """Print to the standard error, whatever characters a path in the message has."""
    print(message.encode(errors="backslashreplace").decode(), file=sys.stderr)


def _take_plugins(arguments: list[str]) -> list[str]:
    """Load the plug-ins that an argument `plugins=[...]` names, and return the other arguments."""
    named = [argument for argument in arguments if argument.startswith("plugins=")]
    if named:
        from skiplight.config.compose import named_plugins
        from skiplight.registry import load_plugins

        load_plugins(named_plugins(named))
    return [argument for argument in arguments if argument not in named]


def _usage() -> str:
    lines = [
        f"skiplight {__version__}: skip-gram embeddings with negative sampling",
        "",
        "usage: skiplight VERB ...",
        "",
    ]
    lines += [f"  {name:10} {(verb.__doc__ or '').splitlines()[0]}" for name, verb in VERBS.items()]
    return "\n".join([*lines, "", "`skiplight VERB --help` lists the arguments of a verb."])


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "resume": resume,
    "compare": compare,
    "sweep": sweep,
    "report": report,
    "runs": runs,
    "cache": cache,
    "neighbors": neighbors,
    "analogy": analogy,
    "evaluate": evaluate,
    "export": export,
}

READING = frozenset(VERBS) - {"train", "compare", "sweep", "runs", "cache"}
"""Verbs that take a folder instead of options: the plug-ins that it was made with are named again."""
