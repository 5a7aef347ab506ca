"""Trainings that are killed, signalled, or lose their disk or folder, in real processes: nothing is lost."""

from __future__ import annotations

import multiprocessing
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

from skiplight.cli import main
from skiplight.errors import DivergedError
from skiplight.objectives import make_objective
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.registry import OBJECTIVES
from skiplight.sampling.windows import WindowSampler
from skiplight.training.checkpoints import list_checkpoints, verify_checkpoint
from skiplight.training.module import SkipGramModule
from skiplight.training.signals import StopRequest
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


def test_killed_between_the_last_step_of_an_epoch_and_its_end_it_has_the_loss_of_its_last_epoch(folder: Path) -> None:
    """So it is while it writes its vectors, too."""
    whole, often = folder / "epochs-whole", folder / "epochs-often"
    for path, options in ((whole, []), (often, ["checkpoint.every=1e-6", "checkpoint.keep=1000"])):
        assert main(started(folder, path, "trainer.max_epochs=2", "data.heldout=0.1", *options)) == 0
    steps = len(list_checkpoints(often / "checkpoints"))
    for step in (steps // 2, steps // 2 + 1, steps):
        run = Path(shutil.copytree(often, folder / f"epochs-{step}"))
        (run / "summary.json").unlink()
        shutil.rmtree(run / "vectors")
        for checkpoint in list_checkpoints(run / "checkpoints")[step:]:
            shutil.rmtree(checkpoint)
        assert main(["resume", str(run)]) == 0
        assert left(run) == left(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


def received(*steps: int | str) -> int:
    """The exit code of a process that gets signals, and saves where a step is `save`; 0 if it comes to its end."""

    def receive() -> None:
        stop = StopRequest(saves=True)
        with stop.installed():
            for step in steps:
                if isinstance(step, int):
                    os.kill(os.getpid(), step)
                else:
                    stop.report_saved()
        os._exit(0 if stop.signal == steps[0] else 1)

    process = multiprocessing.get_context("fork").Process(target=receive)
    process.start()
    process.join()
    return process.exitcode or 0


@pytest.mark.parametrize("number", [1, 2, 3, 10, 15, 24])
def test_every_signal_that_ends_a_process_asks_it_to_save(number: int) -> None:
    assert received(number, "save") == 0


def test_a_second_signal_waits_for_the_save_and_a_third_does_not() -> None:
    interrupt, terminate, limit = signal.SIGINT, signal.SIGTERM, signal.SIGXCPU
    assert received(interrupt, interrupt) == 0
    assert received(interrupt, terminate, "save", limit) == 128 + terminate
    assert received(interrupt, interrupt, terminate) == 128 + terminate
    assert received(interrupt, "save", interrupt) == 128 + interrupt
    assert received(limit, limit, limit, "save", limit) == 0, "the limit of CPU time is told every second"


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopRequest().installed():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


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
