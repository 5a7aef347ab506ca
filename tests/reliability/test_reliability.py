"""Trainings that are killed, signalled, or lose their disk or folder, in real processes: nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from skiplight.errors import DivergedError
from skiplight.objectives import make_objective
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.registry import OBJECTIVES
from skiplight.sampling.windows import WindowSampler
from skiplight.training.checkpoints import list_checkpoints, verify_checkpoint
from skiplight.training.module import SkipGramModule
from skiplight.training.stability import learning_rate_warning
from tests.support.runs import Running, kill_when, left, newest_step, skiplight, train_arguments
from tests.support.texts import write_texts

CASES = [
    ("negative_sampling", "fused", True),
    ("full_softmax", "autograd", False),
    *(
        pytest.param(objective, engine, streaming, marks=pytest.mark.slow)
        for objective in OBJECTIVES
        for engine in ("fused", "autograd")
        for streaming in (False, True)
        if engine == "autograd" or OBJECTIVES[objective].target.has_scoring()
    ),
]
"""Objective, engine, whether the text is streamed: whatever is added here must be resumed exactly."""

OFTEN = "checkpoint.every=0.02"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reliability")
    write_texts(folder / "texts", files=3, documents=60, words=400)
    return folder


def started(folder: Path, run: Path, *options: str) -> list[str]:
    return train_arguments(folder / "texts" / "*.txt", folder, run, *options)


@pytest.mark.parametrize(("objective", "engine", "streaming"), CASES)
def test_killed_and_moved_it_leaves_the_same_to_the_last_bit(
    folder: Path, objective: str, engine: str, streaming: bool
) -> None:
    name = f"{objective}-{engine}-{streaming}"
    options = [f"objective={objective}", f"engine={engine}", f"data.streaming={streaming}", "data.heldout=0.1"]
    options += ["evaluation.every=20000", "trainer.max_epochs=3"]
    whole, run, moved = (folder / f"{name}-{part}" for part in ("whole", "killed", "moved"))
    assert skiplight(started(folder, whole, *options)).returncode == 0
    kill_when(started(folder, run, *options, OFTEN), lambda: newest_step(run) > 20)
    shutil.move(run, moved)
    done = skiplight(["resume", str(moved)])
    assert done.returncode == 0, done.stderr
    assert left(moved) == left(whole)
    assert not list(moved.rglob(".tmp-*"))
    assert not (moved / ".lock").exists()


def test_killed_behind_its_last_line_it_does_not_write_it_again(folder: Path) -> None:
    whole, run = folder / "lines-whole", folder / "lines"
    for path in (whole, run):
        assert skiplight(started(folder, path, "trainer.max_epochs=1", "data.heldout=0.1")).returncode == 0
    (run / "summary.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99')
    assert skiplight(["resume", str(run), "--verify"]).returncode == 0
    assert left(run)[1:] == left(whole)[1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_stops_the_training_and_not_its_loaders(folder: Path, number: int) -> None:
    run = folder / f"group-{number}"
    options = ["data.workers=2", "engine=autograd", "trainer.max_epochs=200", "checkpoint.every=1000"]
    process = Running(started(folder, run, *options), session=True)
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    done = process.wait()
    said = done.stdout + done.stderr
    assert done.returncode == 128 + number, said
    assert f"skiplight resume {run}" in said
    assert "Traceback" not in said
    verify_checkpoint(list_checkpoints(run / "checkpoints")[-1])


def trained_while(folder: Path, run: Path, disturb: Callable[[], object], *options: str) -> str:
    """Starts a long training, disturbs it behind its first checkpoint; what it said when it failed."""
    process = Running(started(folder, run, "trainer.max_epochs=300", OFTEN, "engine=autograd", *options))
    while newest_step(run) < 1 and process.poll() is None:
        time.sleep(0.005)
    disturb()
    done = process.wait()
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "Traceback" not in said
    return said


def test_a_folder_that_is_removed_is_named_and_stays_away(folder: Path) -> None:
    run = folder / "removed"
    said = trained_while(folder, run, lambda: os.rename(run, folder / "elsewhere"))
    assert str(run) in said
    assert "its folder was removed" in said
    assert not run.exists()
    verify_checkpoint(list_checkpoints(folder / "elsewhere" / "checkpoints")[-1])


def test_a_table_that_is_not_finite_is_found_though_the_loss_is() -> None:
    module = SkipGramModule(Tables(3, 2, sparse=False, seed=0), NegativeSampling(np.full(3, 1 / 3)), total_tokens=9)
    module.check_tables_finite()
    with torch.no_grad():
        module.tables.output.weight[1, 1] = float("inf")
    module.check_finite()
    with pytest.raises(DivergedError, match=r"not finite at block .*optim\.lr"):
        module.check_tables_finite()
    with torch.no_grad():  # too large for a sum, but finite
        module.tables.output.weight[:] = 3e38
    module.check_tables_finite()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    ("per_window", "lr", "block", "told"),
    [
        (False, 0.025, 1000, None),
        (False, 0.025, 100_000, r"leave out about \d\d% of .*optim\.lr"),
        (False, 5.0, 1000, r"optim\.lr"),
        (True, 0.05, 400_000, None),
        (True, 1.0, 400_000, "below 0.2 it is safe"),
    ],
)
def test_a_learning_rate_too_high_for_what_is_summed_is_told(
    name: str, per_window: bool, lr: float, block: int, told: str | None
) -> None:
    counts = (1e6 / np.arange(1, 20_001)).astype(np.int64)
    sampler = WindowSampler(counts)
    objective, tables = make_objective(name, counts, sampler), Tables(len(counts), 1)
    options = {"lr": lr, "block_tokens": block, "per_window": per_window}
    found = learning_rate_warning(sampler, counts, objective, tables, optimizer="sgd", **options)
    if name == "hierarchical_softmax" and not per_window:
        told = told or "of the output vectors"  # every pair is in the row of the tree's root
    assert (found is None) == (told is None), found
    if told is not None and found is not None:
        assert re.search(told, found)
    assert learning_rate_warning(sampler, counts, objective, tables, optimizer="adagrad", **options) is None
