"""What a script of a user's own makes of a small text: options, module and data module, and a Trainer that is quiet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from skiplight import SkipGramDataModule, SkipGramModule, compose


def small_options(folder: Path, *more: str) -> list[str]:
    """Options of a run of the texts in `folder`/texts, whose store lies in `folder` too; later ones override."""
    data = ["data=files", f"data.path='{folder / 'texts' / '*.txt'}'", f"data.store={folder / 'stores'}"]
    small = ["data.document=line", "data.heldout=0.1", "vocabulary.min_count=2", "trainer.threads=1"]
    return [*data, *small, "evaluation.similarity=[]", "logger=none", *more]


def make_components(
    options: Sequence[str], kind: type[SkipGramModule] = SkipGramModule, world: int = 1
) -> tuple[SkipGramModule, SkipGramDataModule]:
    """Return the module, of a class of one's own if given, and the data module of these options."""
    config = compose(*options)
    data = SkipGramDataModule.from_config(config, world=world)
    return kind.from_config(config, data, world=world), data


def make_trainer(callbacks: Sequence[lightning.Callback] = (), **options: Any) -> lightning.Trainer:
    """Return a Trainer on one CPU that shows and logs nothing, and saves nothing without a callback for it."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
    return lightning.Trainer(callbacks=list(callbacks), **(quiet | options))  # type: ignore[arg-type]
