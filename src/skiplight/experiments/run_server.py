"""A process that forks another one for each run: it has imported everything, so a run begins at once.

A program that does nothing else is forked itself, so that nothing is imported twice. Elsewhere, for example in a
notebook, the server is a fresh process, since one with threads, or with a GPU in use, cannot be forked safely.

A fresh server does not run the program's script again, as `multiprocessing` does, since that would train again where
the script has no `if __name__ == "__main__"`. A script that registers something is run up to its first command.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

from skiplight.process import is_program
from skiplight.registry import has_registered, import_file

PRELOADED_MODULES = [
    "skiplight.training.fit",
    "skiplight.engines.fused_cpu",
    "skiplight.evaluation.suite",
    "skiplight.experiments.worker",
    "skiplight.experiments.sweeps.pruning",
    "optuna",
    "pandas",
    "pyarrow.pandas_compat",
    "requests",
    "wandb",
    "wandb.sdk.launch",
]
"""Modules that a run needs. None may start Python threads or use a GPU on import, which break after a fork.

`wandb.init` imports its `launch`, which takes half a second.
"""

GROUP_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""What a terminal or a scheduler sends to all processes: trainings save their state, and the server waits for them."""


class Ended(NamedTuple):
    """How the process of a run ended.

    Attributes:
        result: what its function returned, None if it did not return.
        code: exit code, or the negative number of the signal that ended the process.
    """

    result: Any
    code: int


class RunServer:
    """Starts processes; its methods may be called from several threads.

    Args:
        fork: fork this process; otherwise the server is a fresh one.

    Attributes:
        pid: number of the server's process.
    """

    def __init__(self, fork: bool) -> None:
        self._connection, other = multiprocessing.Pipe()
        make = multiprocessing.get_context("fork").Process if fork else multiprocessing.get_context("spawn").Process
        process = make(target=_serve, args=(other, self._connection if fork else None, None if fork else _own_script()))
        with contextlib.nullcontext() if fork else _without_script():
            process.start()
        other.close()
        assert process.pid is not None
        self.pid: int = process.pid
        self._owner, self._lock, self._numbers = os.getpid(), threading.Lock(), itertools.count()
        self._running: dict[int, Future[Ended]] = {}
        self._closed = False
        threading.Thread(target=self._receive, daemon=True).start()
        Finalize(None, self._close, exitpriority=1)  # before `multiprocessing` waits for its processes

    @property
    def is_usable(self) -> bool:
        """Whether it is this process's own, and runs."""
        return self._owner == os.getpid() and not self._closed

    def start(self, function: Callable[..., Any], *arguments: Any) -> tuple[int, Future[Ended]]:
        """Call a function, which is pickled by its name, in a process of its own.

        Returns:
            The number of the process, for `terminate`, and how it ends.
        """
        number, ended = next(self._numbers), Future[Ended]()
        with self._lock:
            try:
                self._connection.send((number, function, arguments))
                self._running[number] = ended
            except OSError:  # the server was killed
                ended.set_result(Ended(None, -signal.SIGKILL))
        return number, ended

    def terminate(self, number: int) -> None:
        """Send SIGTERM to a process, if it still runs."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.send((number, None, ()))

    def _receive(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, ended = self._connection.recv()
                self._running.pop(number).set_result(ended)
        with self._lock:
            self._closed = True
            for future in self._running.values():  # the server was killed, and its processes end with it
                future.set_result(Ended(None, -signal.SIGKILL))

    def _close(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(None)


_server: RunServer | None = None
_starting = threading.Lock()


def run_server() -> RunServer:
    """Return the server of this process; start it if there is none.

    A command calls this before its own work: that is when it can be forked, and when a fresh server has time to import.
    """
    global _server
    with _starting:
        if _server is None or not _server.is_usable:
            fork = sys.platform == "linux" and is_program() and threading.active_count() == 1 and not _uses_gpu()
            if fork:
                preload()
            _server = RunServer(fork)
        return _server


def _uses_gpu() -> bool:
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()


def preload() -> None:
    """Import what a run needs, and load the kernels of the fused engine that nearly all runs use."""
    for name in PRELOADED_MODULES:
        with contextlib.suppress(ImportError):  # which the run raises where it is recorded
            importlib.import_module(name)
    from skiplight.engines.fused_cpu import compile_kernel

    compile_kernel(plain=True)


class _ScriptEndedError(BaseException):
    """Ends a script at its first command, where it is run for what it registers."""


_is_registering = False


def end_script() -> None:
    """End the script that calls a command, if a server runs it for what it registers."""
    if _is_registering:
        raise _ScriptEndedError


def _own_script() -> str | None:
    """Return the path of the program's script if it has registered something."""
    return getattr(sys.modules["__main__"], "__file__", None) if has_registered("__main__") else None


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Hide the program's script from `multiprocessing`, which would run it in a fresh process."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _register_again(script: str) -> None:
    """Import a script up to its first command, by the name that it has in processes of `multiprocessing`."""
    global _is_registering
    _is_registering = True
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(_ScriptEndedError):
            import_file("__mp_main__", script)
    except Exception:  # the runs then say what is not registered
        traceback.print_exc()
    finally:
        _is_registering = False
        sys.modules["__main__"] = sys.modules["__mp_main__"]


def _serve(requests: Connection, parents_end: Connection | None, script: str | None) -> None:
    if parents_end is not None:
        parents_end.close()  # so that the end of the parent closes the connection
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in GROUP_SIGNALS}
    preload()
    if script is not None:
        _register_again(script)
    gc.freeze()  # the forked processes need not search all that was imported for garbage
    context = multiprocessing.get_context("fork")
    running: dict[int, tuple[BaseProcess, Connection]] = {}
    while True:
        ready = wait([requests, *(process.sentinel for process, _ in running.values())])
        for number, (process, receiver) in list(running.items()):
            if process.sentinel in ready:
                del running[number]
                requests.send((number, _ended(process, receiver)))
        if requests in ready:
            try:
                request = requests.recv()
            except EOFError:  # the parent was killed
                request = None
            if request is None:
                os._exit(0)  # ends the processes that still run, see `_end_with_parent`
            number, function, arguments = request
            if function is not None:
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_call, args=(function, arguments, sender, handlers))
                process.start()
                sender.close()
                running[number] = process, receiver
            elif number in running:
                running[number][0].terminate()


def _ended(process: BaseProcess, receiver: Connection) -> Ended:
    process.join()
    try:
        result = receiver.recv() if receiver.poll() else None
    except EOFError:
        result = None
    receiver.close()
    return Ended(result, process.exitcode or 0)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], sender: Connection, handlers: dict) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(function(*arguments))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(128 + signal.SIGKILL)
