"""Real trainings in real processes, for tests."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from skiplight.process import run_program
from skiplight.vectors.word_vectors import WordVectors

SMALL = [
    "vocabulary.min_count=2",
    "data.document=line",
    "model.dim=16",
    "sampling.subsample=1e-2",
    "data.block_tokens=1000",
    "trainer.threads=1",
    "evaluation.similarity=[]",
    "evaluation.heldout_pairs=1000",
    "logger=none",
]
"""Options that make a training of a small text quick and exact."""


def command(*arguments: str) -> list[str]:
    """For a process of its own from its first import on."""
    return [sys.executable, "-m", "skiplight.cli", *arguments]


def _arguments(verb: str, texts: Path, folder: Path, run: Path, *options: str) -> list[str]:
    data = ["data=files", f"data.path='{texts}'", f"data.store={folder / 'stores'}", f"run_dir={run}"]
    # A vocabulary that is given is taken unchanged, and reads no `vocabulary.min_count`.
    given = any(option.startswith("vocabulary.path=") for option in options) and "vocabulary.grow=true" not in options
    small = [option for option in SMALL if not (given and option.startswith("vocabulary."))]
    return [verb, *data, *small, *options]


def train_arguments(texts: Path, folder: Path, run: Path, *options: str) -> list[str]:
    return _arguments("train", texts, folder, run, *options)


def sweep_arguments(texts: Path, folder: Path, study: Path, *options: str) -> list[str]:
    return _arguments("sweep", texts, folder, study, "data.heldout=0.1", *options)


def train_command(texts: Path, folder: Path, run: Path, *options: str) -> list[str]:
    return command(*train_arguments(texts, folder, run, *options))


def apart(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a `command` to its end."""
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=240, env=own_environment())


def own_environment() -> dict[str, str]:
    """The environment without the W&B service that this process may have started: a shell would not have it."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


class Running:
    """A command in a process of its own, which is forked from one that has imported everything: imports take seconds.

    Args:
        arguments: of `skiplight`.
        session: whether it begins a session, whose process group can be killed as a whole.
    """

    def __init__(self, arguments: list[str], *, session: bool = False) -> None:
        self.arguments = arguments
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.support.preloaded"])
        self._process = context.Process(target=_run, args=(arguments, self._said, own_environment(), session))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Kills it, if it still runs."""
        self._process.kill()

    def wait(self, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Waits for its end, and kills it where that does not come."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise AssertionError(f"{self.arguments} runs on and on: {self._said[1].read_text()}")
        said = [path.read_text() if path.exists() else "" for path in self._said]
        return subprocess.CompletedProcess(self.arguments, self._process.exitcode, *said)


def _run(arguments: list[str], said: list[Path], environment: dict[str, str], session: bool) -> None:
    if session:
        os.setsid()
    for descriptor, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    # Loaders are started as in any process, not by another server, which would import everything again.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    from skiplight.cli import main

    run_program(lambda: main(arguments))


def skiplight(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return Running(arguments).wait()


def kill_when(arguments: list[str], condition: Callable[[], bool], number: int = signal.SIGKILL) -> tuple[int, str]:
    """Starts a command, sends it a signal as soon as `condition` holds; its exit code and what it said."""
    process = Running(arguments)
    deadline = time.monotonic() + 120
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the condition never held: {process.wait().stderr}")
        time.sleep(0.002)
    os.kill(process.pid, number)
    done = process.wait()
    return done.returncode, done.stdout + done.stderr


def newest_step(run: Path) -> int:
    """The step of a run's newest checkpoint, -1 without one."""
    return max((int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*")), default=-1)


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def left(run: Path) -> tuple[list[list[float]], list[dict], dict]:
    """The tables, and the metrics and the summary without what depends on the clock."""
    vectors = WordVectors.load(run, verify=True)
    tables = [table.tolist() for table in (vectors.input, vectors.output) if table is not None]
    lines = [{k: v for k, v in line.items() if k not in ("seconds", "words_per_second")} for line in metrics(run)]
    summary = json.loads((run / "summary.json").read_text())
    return (
        tables,
        lines,
        {key: summary[key] for key in ("tokens", "loss", "epochs", "evaluation", "format", "shortened")},
    )
