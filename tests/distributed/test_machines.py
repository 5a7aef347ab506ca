"""Trainings on several machines, and on many ranks of one, in real processes: killed, gone on with, evaluated."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.launches import (
    TWO,
    arguments_on_two,
    free_port,
    leftovers,
    ranks_of,
    start,
    tables,
    wait_for,
)
from tests.support.runs import command, metrics, newest_step, skiplight, train_arguments, train_command
from tests.support.texts import write_texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machines")
    write_texts(folder / "texts", files=3, documents=60, words=400)
    return folder


def machines(folder: Path, run: Path, *options: str) -> list[subprocess.Popen]:
    """Start a training on two machines, both of them this one: the same command on each, as a scheduler would."""
    port = str(free_port())
    arguments = [*TWO[1:], "trainer.num_nodes=2", *options]
    command_ = train_command(folder / "texts" / "*.txt", folder, run, *arguments)
    return [
        start(command_, MASTER_ADDR="127.0.0.1", MASTER_PORT=port, NODE_RANK=str(node), LOCAL_RANK="0")
        for node in range(2)
    ]


def ended(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said


@pytest.fixture(scope="module")
def undisturbed_machines(folder: Path) -> Path:
    run = folder / "machines"
    ended(machines(folder, run, "trainer.max_epochs=12", "checkpoint.every=1000", "distributed.bytes_per_token=2"))
    return run


@pytest.mark.slow
def test_machines_go_on_to_the_same_tables_when_one_was_killed(folder: Path, undisturbed_machines: Path) -> None:
    run = folder / "machine-killed"
    options = ["trainer.max_epochs=12", "checkpoint.every=0.02", "distributed.bytes_per_token=2"]
    processes = machines(folder, run, *options)
    wait_for(lambda: newest_step(run) > 8 and len(ranks_of(run)) == 2, processes[0])
    processes[1].kill()
    said, _ = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 2, said
    assert "the connection to another rank is lost" in said
    port = str(free_port())
    ended(
        [
            start(command("resume", str(run)), MASTER_ADDR="127.0.0.1", MASTER_PORT=port, NODE_RANK=str(node))
            for node in range(2)
        ]
    )
    assert tables(run) == tables(undisturbed_machines)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["distributed"]["replicas"] == 2
    assert summary["distributed"]["bytes_sent"] > 0


@pytest.mark.slow
def test_evaluations_change_nothing(folder: Path, undisturbed_machines: Path) -> None:
    run = folder / "machines-evaluated"
    options = ["trainer.max_epochs=12", "checkpoint.every=1000", "distributed.bytes_per_token=2"]
    ended(machines(folder, run, *options, "evaluation.every=30000"))
    assert tables(run) == tables(undisturbed_machines)
    evaluated = [line["heldout/perplexity"] for line in metrics(run) if "heldout/perplexity" in line]
    assert len(evaluated) > 5
    assert evaluated[-1] == metrics(undisturbed_machines)[-1]["heldout/perplexity"]


@pytest.mark.parametrize("ranks", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_ranks_of_one_machine_train_what_one_does(folder: Path, ranks: int) -> None:
    run, one = folder / f"ranks-{ranks}", folder / f"instead-of-{ranks}"
    options = ["trainer.max_epochs=12", "checkpoint.every=1000"]
    alone = skiplight(train_arguments(folder / "texts" / "*.txt", folder, one, *TWO[1:], *options))
    assert alone.returncode == 0, alone.stderr
    done = skiplight(arguments_on_two(folder, run, *options, f"trainer.devices={ranks}"))
    assert done.returncode == 0, done.stderr
    ours, expected = (json.loads((path / "summary.json").read_text()) for path in (run, one))
    assert ours["distributed"] == {"ranks": ranks, "strategy": "in_place", "replicas": 1, "bytes_sent": 0}
    assert ours["tokens"] == expected["tokens"]
    assert metrics(run)[-1]["pairs"] == metrics(one)[-1]["pairs"]
    assert ours["loss"] == pytest.approx(expected["loss"], rel=0.02)
    assert not leftovers(run)
