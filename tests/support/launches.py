"""Starts trainings on several ranks as users do, in real processes, for tests; and looks at what they leave."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from skiplight.distributed.shared_memory import PREFIX, memory_folders
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import command, own_environment, train_arguments

TWO = ["trainer.devices=2", "trainer.accelerator=cpu", "data.heldout=0.1", "engine=fused"]


def arguments_on_two(folder: Path, run: Path, *options: str) -> list[str]:
    return train_arguments(folder / "texts" / "*.txt", folder, run, *TWO, *options)


def on_two(folder: Path, run: Path, *options: str) -> list[str]:
    return command(*arguments_on_two(folder, run, *options))


def tables(run: Path) -> list[list[float]]:
    vectors = WordVectors.load(run, verify=True)
    return [table.tolist() for table in (vectors.input, vectors.output) if table is not None]


def ranks_of(run: Path) -> list[dict]:
    return json.loads((run / "environment.json").read_text()).get("ranks", [])


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(arguments: list[str], **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own_environment() | environment
    )


def leftovers(run: Path) -> list[Path]:
    return [path for place in memory_folders() for path in place.glob(f"{PREFIX}{run.name}-*")]


def free_port(ports: int = 1) -> int:
    """Return a port of this machine that nothing listens on, nor on the `ports` - 1 behind it.

    Not one of those that the system gives to connections: until it is used, a connection of another test may get it.
    """
    while True:
        first = 20_000 + secrets.randbelow(12_000 - ports)
        with contextlib.ExitStack() as bound, contextlib.suppress(OSError):
            for port in range(first, first + ports):
                bound.enter_context(socket.socket()).bind(("", port))
            return first
