"""`SkipGramModule` under a Trainer and a loader of one's own."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from skiplight.corpus.tokens import Cursor
from tests.support.own_script import make_trainer
from tests.support.program import Case, parts
from tests.support.texts import write_texts


def trainer_of(max_steps: int = -1) -> lightning.Trainer:
    return make_trainer(max_epochs=2, max_steps=max_steps)


@pytest.mark.parametrize("engine", ["autograd", "fused"])
def test_a_plain_loader_trains_for_several_epochs(tmp_path: Path, engine: str) -> None:
    write_texts(tmp_path / "texts", files=1, documents=20)
    module, data = parts(tmp_path, Case(engine=engine, epochs=2))
    blocks = list(data.blocks(Cursor(), 0, 1, 0, 1))
    batches = blocks if engine == "fused" else [data.windows(block) for block in blocks]
    trainer = trainer_of()
    before = module.tables.input.weight.detach().clone()
    trainer.fit(module, DataLoader(batches, batch_size=None))
    assert trainer.current_epoch == 2
    assert trainer.global_step == 2 * len(batches)
    assert module.tokens == 2 * sum(len(block.ids) for block in blocks)
    assert not torch.equal(module.tables.input.weight, before)


def test_a_plain_loader_goes_on_from_a_checkpoint_of_other_ranks_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_texts(tmp_path / "texts", files=1, documents=20)
    module, data = parts(tmp_path, Case(epochs=2))
    batches = [data.windows(block) for block in data.blocks(Cursor(), 0, 1, 0, 1)]
    trainer = trainer_of(max_steps=len(batches))
    trainer.fit(module, DataLoader(batches, batch_size=None))
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    checkpoint = torch.load(tmp_path / "saved.ckpt", weights_only=False)
    checkpoint["skiplight"]["world_size"] = 2
    torch.save(checkpoint, tmp_path / "saved.ckpt")

    again, _ = parts(tmp_path, Case(epochs=2))
    trainer_of().fit(again, DataLoader(batches, batch_size=None), ckpt_path=tmp_path / "saved.ckpt", weights_only=False)
    assert "another number of ranks" in caplog.text
    assert again.tokens == 2 * module.tokens
