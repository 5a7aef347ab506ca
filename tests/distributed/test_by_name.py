"""`Trainer(strategy="skiplight")` trains on ranks of one's own Trainer, with the strategy that the engine needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from skiplight import SkipGramModule
from skiplight.errors import RankError
from tests.support.own_script import make_components, make_trainer
from tests.support.runs import own_environment
from tests.support.texts import write_texts

SCRIPT = """
import sys
import torch
from tests.distributed.test_by_name import trained

result = trained(sys.argv[1], 2, strategy="skiplight")
if result is not None:
    torch.save(result, "two.pt")
"""


def trained(engine: str, devices: int, **options: Any) -> dict[str, Any] | None:
    """Train on the texts in the working directory, as a script of one's own does; the first rank returns the tables."""
    data = ["data=files", "data.path=texts/*.txt", "data.document=line", "data.heldout=0.1", "data.store=stores"]
    small = ["vocabulary.min_count=2", "model.dim=16", "trainer.threads=1", f"data.block_tokens={1000 // devices}"]
    given = [*data, *small, f"engine={engine}", "optim.lr=0.01", "trainer.max_epochs=2"]
    module, blocks = make_components(given, world=devices)
    trainer = make_trainer(devices=devices, max_epochs=2, **options)
    trainer.fit(module, blocks)
    if not trainer.is_global_zero:
        return None
    return {
        "tables": [table.detach().clone() for table in module.tables.parameters()],
        "tokens": module.tokens,
        "epoch": blocks.tokens,
        "loss": float(trainer.callback_metrics["heldout/loss"]),
        "kind": type(trainer.strategy).__name__,
    }


@pytest.mark.parametrize(
    ("engine", "kind"),
    [("fused", "InPlaceTables"), pytest.param("autograd", "GradientExchange", marks=pytest.mark.slow)],
)
def test_two_ranks_of_ones_own_trainer_train_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, kind: str
) -> None:
    write_texts(tmp_path / "texts", files=1, documents=100, words=60)
    monkeypatch.chdir(tmp_path)
    one = trained(engine, 1)
    assert one is not None
    Path("script.py").write_text(SCRIPT)
    arguments = [sys.executable, "script.py", engine]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=150, env=own_environment() | {"PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr
    two = torch.load("two.pt", weights_only=True)
    assert two["kind"] == kind
    assert one["tokens"] == two["tokens"] == 2 * one["epoch"] > 10_000
    assert two["loss"] == pytest.approx(one["loss"], rel=0.02)
    for table, other in zip(one["tables"], two["tables"], strict=True):
        assert float(other.norm()) == pytest.approx(float(table.norm()), rel=0.1)


def test_another_module_is_refused_by_name() -> None:
    assert SkipGramModule  # its import registers the strategy
    trainer = make_trainer(devices=2, strategy="skiplight")
    with pytest.raises(RankError, match="trains a SkipGramModule, not LightningModule"):
        trainer.strategy.connect(lightning.LightningModule())
