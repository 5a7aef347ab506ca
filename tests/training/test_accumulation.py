"""`accumulate_grad_batches=N`: steps of N blocks are those of one process that steps on the blocks put together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from skiplight.corpus.tokens import Cursor
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.distributed.gradient_exchange import GradientExchange
from skiplight.errors import ConfigError
from skiplight.training.callbacks.tracking import Tracking
from skiplight.training.checkpoints import Checkpointing, FolderCheckpointIO, list_checkpoints
from skiplight.training.module import SkipGramModule
from skiplight.training.signals import StopRequest
from tests.distributed.test_strategies import merged, step_on
from tests.support.own_script import make_trainer
from tests.support.program import Case, parts
from tests.support.runs import metrics
from tests.support.texts import write_texts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")

CASES = {
    "sgd": Case(epochs=2),
    "shortened": Case(lr=1.0),  # most of the frequent rows are
    "streamed": Case(streaming=True, epochs=2),
    "adagrad": Case(optimizer="adagrad"),
    "adam": Case(optimizer="adam", lr=0.001),
    "softmax": Case(objective="full_softmax"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accumulation")
    write_texts(folder / "texts", files=1, documents=32, words=400)
    return folder


class Witness(lightning.Callback):
    """Keeps the learning rate, the tokens and the block behind the cursor after every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int, Cursor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if not pl_module.is_accumulating:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.steps.append((lr, pl_module.tokens, trainer.datamodule.cursor))


def trainer_of(batches: int, *callbacks: lightning.Callback) -> lightning.Trainer:
    plugins = [FolderCheckpointIO()]
    return make_trainer(callbacks, max_epochs=-1, accumulate_grad_batches=batches, plugins=plugins)


def trained(folder: Path, case: Case, batches: int, *callbacks: lightning.Callback) -> SkipGramModule:
    module, data = parts(folder, case)
    trainer_of(batches, *callbacks).fit(module, data)
    return module


def reference(folder: Path, case: Case, batches: int) -> tuple[SkipGramModule, list[tuple[float, int, Cursor]], Any]:
    """One process that steps on the blocks of a step put together: its module, its steps and (loss, pairs)."""
    module, data = parts(folder, case)
    optimizer, steps, loss, pairs = module.configure_optimizers(), [], 0.0, 0
    for epoch in range(case.epochs):
        blocks = list(data.blocks(Cursor(epoch), 0, 1, 0, 1))
        assert case.streaming or len(blocks) % batches, "the last step of an epoch is a short one"
        for first in range(0, len(blocks), batches):
            result = step_on(module, data, optimizer, merged(blocks[first : first + batches]))
            loss, pairs = loss + float(result.loss_sum), pairs + result.pairs
            last = blocks[min(first + batches, len(blocks)) - 1]
            steps.append((optimizer.param_groups[0]["lr"], module.tokens, last.after))
    return module, steps, (loss, pairs)


def assert_same(ours: SkipGramModule, expected: SkipGramModule, atol: float = 1e-6) -> None:
    for table, other in zip(ours.tables.parameters(), expected.tables.parameters(), strict=True):
        torch.testing.assert_close(table.detach(), other.detach(), rtol=1e-4, atol=atol)


@pytest.mark.parametrize("batches", [3, 4])
@pytest.mark.parametrize("name", list(CASES))
def test_steps_of_n_blocks_are_those_of_the_blocks_put_together(folder: Path, name: str, batches: int) -> None:
    case, witness = CASES[name], Witness()
    module = trained(folder, case, batches, witness)
    expected, steps, (loss, pairs) = reference(folder, case, batches)
    # Where Adam's first steps divide by the gradient itself, rounding decides the sign of one that is almost zero.
    assert_same(module, expected, atol=1e-4 if "adam" in name else 1e-6)
    assert [(tokens, dataclasses.astuple(cursor)) for _, tokens, cursor in witness.steps] == [
        (tokens, dataclasses.astuple(cursor)) for _, tokens, cursor in steps
    ]
    assert [lr for lr, *_ in witness.steps] == pytest.approx([lr for lr, *_ in steps], rel=1e-12)
    assert module.take_loss() == pytest.approx((loss, pairs), rel=1e-6)
    shares = [found.engine.shortening.shares()["input"]["share"] for found in (module, expected)]
    assert shares[0] == pytest.approx(shares[1], rel=1e-6)
    assert (shares[0] > 0) == (case.optimizer == "sgd")


def test_metrics_have_the_tokens_and_losses_of_complete_steps(folder: Path, tmp_path: Path) -> None:
    trained(folder, CASES["sgd"], 3, Tracking(tmp_path / "metrics.jsonl"))
    _, steps, (_, pairs) = reference(folder, CASES["sgd"], 3)
    lines = metrics(tmp_path)
    assert [(line["step"], line["tokens"]) for line in lines] == [
        (number, tokens) for number, (_, tokens, _) in enumerate(steps, 1)
    ]
    assert lines[-1]["pairs"] == pairs
    assert all(0 < line["train/loss"] < 4 for line in lines)


class Ended(Exception):
    """Ends a training."""


class EndsAt(lightning.Callback):
    """Does something behind a batch, between those of a step, and ends the training there."""

    def __init__(self, batch: int, do: Any = lambda trainer: None) -> None:
        self.batch, self.do = batch, do

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.processed == self.batch:
            assert pl_module.is_accumulating
            self.do(trainer)
            raise Ended


def resumed(folder: Path, path: Path) -> tuple[SkipGramModule, SkipGramDataModule]:
    module, data = parts(folder, CASES["sgd"])
    trainer_of(3).fit(module, data, ckpt_path=path, weights_only=True)
    return module, data


@pytest.mark.parametrize("batch", [5, 25])  # in the first epoch and in the second
def test_it_goes_on_from_a_checkpoint_which_none_is_made_of_between_the_batches_of_a_step(
    folder: Path, tmp_path: Path, batch: int
) -> None:
    whole = trained(folder, CASES["sgd"], 3)
    saving = Checkpointing(tmp_path, every=0.0, keep=1000, stop=StopRequest())
    with pytest.raises(Ended):
        trained(folder, CASES["sgd"], 3, saving, EndsAt(batch))
    _, steps, _ = reference(folder, CASES["sgd"], 3)
    saved = [FolderCheckpointIO().load_checkpoint(path)["skiplight"]["tokens"] for path in list_checkpoints(tmp_path)]
    assert saved == [tokens for _, tokens, _ in steps[: len(saved)]]
    module, _ = resumed(folder, list_checkpoints(tmp_path)[-1])
    assert module.tokens == whole.tokens
    assert all(torch.equal(a, b) for a, b in zip(module.tables.parameters(), whole.tables.parameters(), strict=True))
    assert module.engine.shortening.shares() == whole.engine.shortening.shares()


@pytest.mark.parametrize("batch", [5, 25])
def test_what_a_users_callback_saves_between_the_batches_of_a_step_is_the_state_before_it(
    folder: Path, tmp_path: Path, batch: int
) -> None:
    whole = trained(folder, CASES["sgd"], 3)
    with pytest.raises(Ended):
        trained(folder, CASES["sgd"], 3, EndsAt(batch, lambda trainer: trainer.save_checkpoint(tmp_path / "saved")))
    module, _ = resumed(folder, tmp_path / "saved")
    assert module.tokens == whole.tokens
    assert all(torch.equal(a, b) for a, b in zip(module.tables.parameters(), whole.tables.parameters(), strict=True))


def test_a_request_to_stop_waits_for_the_last_batch_of_its_step(folder: Path, tmp_path: Path) -> None:
    stop = StopRequest()

    class Asks(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if pl_module.is_accumulating:
                stop.signal = 15

    module = trained(folder, CASES["sgd"], 3, Asks(), Checkpointing(tmp_path, every=1e9, keep=2, stop=stop))
    _, steps, _ = reference(folder, CASES["sgd"], 3)
    assert module.tokens == steps[0][1]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000000001"]
    whole = trained(folder, CASES["sgd"], 3)
    module, _ = resumed(folder, list_checkpoints(tmp_path)[0])
    assert all(torch.equal(a, b) for a, b in zip(module.tables.parameters(), whole.tables.parameters(), strict=True))


def test_a_stream_ends_with_a_complete_step_before_its_announced_end(folder: Path) -> None:
    module, data = parts(folder, CASES["streamed"])
    blocks = len(list(data.blocks(Cursor(), 0, 1, 0, 1)))
    assert blocks < data.steps
    witness = Witness()
    trainer_of(3, witness).fit(module, data)
    ends = [tokens for _, tokens, cursor in witness.steps if cursor.epoch == 1]
    assert ends[0] == data.text.tokens  # nothing is left out
    assert len([cursor for _, _, cursor in witness.steps if cursor.epoch == 0]) == -(-blocks // 3) - 1


@pytest.mark.parametrize("scheduled", [False, True])
def test_the_fused_engine_refuses_it(folder: Path, scheduled: bool) -> None:
    module, data = parts(folder, Case(engine="fused"))
    trainer = trainer_of(1, GradientAccumulationScheduler({0: 2})) if scheduled else trainer_of(2)
    with pytest.raises(ConfigError, match=r"cannot do accumulate_grad_batches=2, .* `engine=autograd` can"):
        trainer.fit(module, data)


def test_ranks_refuse_it(folder: Path) -> None:
    module, data = parts(folder, Case())
    trainer = make_trainer(strategy=GradientExchange(), max_epochs=-1, accumulate_grad_batches=2)
    with pytest.raises(ConfigError, match="cannot do accumulate_grad_batches=2 on several devices"):
        trainer.fit(module, data)


def test_where_a_users_callback_stops_between_the_batches_of_a_step_it_goes_on_from_before_it(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stops(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            trainer.should_stop = trainer.fit_loop.epoch_loop.batch_progress.total.processed == 5

    module = trained(folder, CASES["sgd"], 3, Stops(), Checkpointing(tmp_path, every=1e9, keep=2, stop=StopRequest()))
    assert module.is_accumulating
    assert "left out" not in caplog.text
    whole = trained(folder, CASES["sgd"], 3)
    module, _ = resumed(folder, list_checkpoints(tmp_path)[0])
    assert module.tokens == whole.tokens
    assert all(torch.equal(a, b) for a, b in zip(module.tables.parameters(), whole.tables.parameters(), strict=True))
