"""A training that gets worse than knowing nothing ends with an error; one that does not, never does."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.cli import main
from skiplight.errors import DivergedError
from skiplight.objectives import make_objective
from skiplight.objectives.base import Tables
from skiplight.registry import OBJECTIVES
from skiplight.sampling.windows import WindowSampler
from skiplight.training.callbacks.divergence import FAR, LINES, STEPS, DivergenceCheck, _measure
from skiplight.training.checkpoints import FolderCheckpointIO, list_checkpoints
from skiplight.training.module import SkipGramModule
from tests.support.runs import metrics, train_arguments
from tests.support.texts import write_texts

COUNTS = np.array([400, 200, 100, 50, 30, 20, 10])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("divergence")
    write_texts(folder / "texts", files=1, documents=60, words=400)
    write_texts(folder / "tiny", files=1, documents=6, words=60)
    return folder


def train(folder: Path, run: str, *options: str, texts: str = "texts") -> int:
    return main(train_arguments(folder / texts / "*.txt", folder, folder / run, "data.heldout=0.05", *options))


def module_of(name: str, bias: bool = False, sampler: WindowSampler | None = None) -> SkipGramModule:
    objective = make_objective(name, COUNTS, sampler or WindowSampler(COUNTS))
    rows = objective.output_rows(len(COUNTS))
    start = objective.unigram_bias(COUNTS) if bias else None
    module = SkipGramModule(Tables(len(COUNTS), 3, rows, bias=start), objective, total_tokens=9)
    module.configure_optimizers()
    return module


DIVERGING = {
    "fused": ["engine=fused", "optim.lr=0.4"],
    "softmax": ["engine=autograd", "objective=full_softmax", "optim.name=adam", "optim.lr=30"],
    "adagrad": ["engine=autograd", "objective=sampled_softmax", "optim.name=adagrad", "optim.lr=5"],
}


@pytest.mark.parametrize("name", DIVERGING)
def test_a_loss_above_that_of_knowing_nothing_ends_the_run(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, name, *DIVERGING[name], "trainer.max_epochs=3") == 2
    said = capsys.readouterr().err
    assert "per pair, above the" in said
    assert "lower `optim.lr` or `data.block_tokens`" in said
    assert "`trainer.devices`" not in said
    assert "DivergedError" in (folder / name / "errors" / "0.txt").read_text()
    assert not (folder / name / "summary.json").exists()
    assert not (folder / name / "vectors").exists()
    assert math.isfinite(metrics(folder / name)[-1]["train/loss"])  # the line that shows it is there


def test_the_last_good_checkpoint_stays(folder: Path) -> None:
    # Good at first, with the bias alone; then ever longer steps.
    run = folder / "good"
    options = ["objective=full_softmax", "optim.name=adam", "optim.lr=30", "checkpoint.every=1e-6", "checkpoint.keep=1"]
    assert train(folder, "good", *options, "trainer.max_epochs=3", "data.block_tokens=200") == 2
    (saved,) = list_checkpoints(run / "checkpoints")
    losses = {line["step"]: line["train/loss"] for line in metrics(run) if "train/loss" in line}
    step = FolderCheckpointIO().load_checkpoint(saved)["global_step"]
    state = FolderCheckpointIO().load_checkpoint(saved)["callbacks"]["DivergenceCheck"]
    assert state["above"] == 0
    assert losses[step] < 7 < max(losses.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_learns_nothing_or_little_does_not(folder: Path, name: str) -> None:
    # Blocks of a few dozen tokens, so that a line's loss is much of it chance.
    frozen = [f"objective={name}", "optim.lr=1e-9", "data.block_tokens=60", "trainer.max_epochs=1", "engine=autograd"]
    assert train(folder, f"{name}-frozen", *frozen) == 0
    assert train(folder, f"{name}-unbiased", *frozen, "model.bias=none") == 0
    tiny = [f"objective={name}", "vocabulary.min_count=1", "trainer.max_epochs=5", "data.block_tokens=auto"]
    assert train(folder, f"{name}-tiny", *tiny, texts="tiny") == 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_first_steps_of_adagrad_may_go_too_far(folder: Path, name: str) -> None:
    options = [f"objective={name}", "optim.name=adagrad", "optim.lr=0.4", "data.block_tokens=auto", "model.dim=64"]
    assert train(folder, f"{name}-adagrad", *options, "engine=autograd", "trainer.max_epochs=3") == 0


def test_another_runs_vectors_may_know_worse_than_nothing(folder: Path) -> None:
    assert train(folder, "first", "trainer.max_epochs=3", "optim.lr=0.1") == 0
    options = [f"model.init_from={folder / 'first'}", "noise.negatives=20", "optim.lr=1e-9", "trainer.max_epochs=1"]
    assert train(folder, "second", *options, texts="tiny") == 0


def test_a_resumed_run_has_the_bound_that_it_began_with(folder: Path) -> None:
    run = folder / "resumed"
    options = ["objective=full_softmax", "checkpoint.every=1e-6", "checkpoint.keep=1000", "optim.lr=0.1"]
    assert train(folder, "resumed", *options, "trainer.max_epochs=2") == 0
    whole = (run / "summary.json").read_text()
    (run / "summary.json").unlink()
    shutil.rmtree(run / "vectors")
    for path in list_checkpoints(run / "checkpoints")[20:]:
        shutil.rmtree(path)
    assert main(["resume", str(run)]) == 0
    found = [FolderCheckpointIO().load_checkpoint(path) for path in list_checkpoints(run / "checkpoints")]
    bounds = [checkpoint["callbacks"]["DivergenceCheck"]["blanks"] for checkpoint in found]
    assert len(bounds) > 30
    assert all(bound == bounds[0] for bound in bounds)
    assert not torch.equal(found[0]["state_dict"]["tables.bias.weight"], found[-1]["state_dict"]["tables.bias.weight"])
    assert json.loads((run / "summary.json").read_text())["loss"] == json.loads(whole)["loss"]


def test_the_bound_is_the_loss_of_vectors_of_zero() -> None:
    sampler = WindowSampler(COUNTS, negatives=4, subsample=0)
    (sampling,) = _measure(module_of("negative_sampling", sampler=sampler), sampler)
    assert sampling.mean == pytest.approx(5 * math.log(2), rel=1e-6)
    assert sampling.deviation < 1e-5
    p = COUNTS / COUNTS.sum()
    flat, unigram = _measure(module_of("full_softmax", bias=True, sampler=sampler), sampler)
    assert flat.mean == pytest.approx(math.log(len(COUNTS)), rel=1e-6)
    assert unigram.mean == pytest.approx(-(p * np.log(p)).sum(), rel=0.05)
    spread = math.sqrt((p * np.log(p) ** 2).sum() - (p * np.log(p)).sum() ** 2)
    assert unigram.deviation == pytest.approx(spread, rel=0.5)
    assert flat.loss_bound(10**9) == pytest.approx(1.01 * math.log(len(COUNTS)), rel=1e-5)
    assert (
        unigram.loss_bound(1)
        > unigram.loss_bound(100)
        > unigram.loss_bound(500)
        == unigram.loss_bound(5000)
        > unigram.mean
    )


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 60))
def test_only_a_loss_that_stays_above_the_bound_ends_a_run_before_its_end(above: list[bool], steps: int) -> None:
    sampler = WindowSampler(COUNTS)
    module, check = module_of("negative_sampling"), DivergenceCheck(sampler)
    check.blanks = _measure(module, sampler)
    bound = check.loss_bound(1000)
    expected = next(
        (
            n
            for n in range(len(above))
            for row in range(LINES, n + 2)
            if all(above[n + 1 - row : n + 1]) and (row - 1) * steps >= STEPS
        ),
        None,
    )
    for n, is_above in enumerate(above):
        resumed = DivergenceCheck(sampler)  # at every line
        resumed.load_state_dict(check.state_dict())
        check = resumed
        if n == expected:
            with pytest.raises(DivergedError, match=r"optim\.lr.*data\.block_tokens"):
                check.judge(module, 1.02 * bound, 1000, step=steps * (n + 1), last=False)
            return
        check.judge(module, (1.02 if is_above else 0.99) * bound, 1000, step=steps * (n + 1), last=False)
        assert check.is_above is is_above
    for loss, last in ((1.02 * bound, True), (1.02 * FAR * bound, False), (math.inf, False)):
        with pytest.raises(DivergedError):
            check.judge(module, loss, 1000, step=steps * (len(above) + 1), last=last)
    check.judge(module, bound, 1000, step=10**6, last=True)
