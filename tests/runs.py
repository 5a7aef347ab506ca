"""Real trainings in real processes, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from skiplight.vectors import WordVectors

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
    return [sys.executable, "-m", "skiplight.cli", *arguments]


def train_arguments(texts: Path, folder: Path, run: Path, *options: str) -> list[str]:
    data = ["data=files", f"data.path='{texts}'", f"data.store={folder / 'stores'}", f"run_dir={run}"]
    return ["train", *data, *SMALL, *options]


def train_command(texts: Path, folder: Path, run: Path, *options: str) -> list[str]:
    return command(*train_arguments(texts, folder, run, *options))


def own_environment() -> dict[str, str]:
    """The environment without the W&B service that this process may have started: a shell would not have it."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


def skiplight(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120, env=own_environment())


def kill_when(arguments: list[str], condition: Callable[[], bool], number: int = signal.SIGKILL) -> tuple[int, str]:
    """Starts a process, sends it a signal as soon as `condition` holds; its exit code and what it said."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own_environment()
    )
    deadline = time.monotonic() + 60
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the condition never held: {process.communicate()[0]}")
        time.sleep(0.002)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


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
    return tables, lines, {key: summary[key] for key in ("tokens", "loss", "epochs", "evaluation", "format")}
