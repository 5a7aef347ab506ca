"""Two ranks that train by SparseAdam on windows given in a file; what each ends with goes beside it.

python rows.py FOLDER PORT: FOLDER/words.pt has the words of `[rank][step]`; rank r leaves rows-r.pt.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from skiplight.distributed.gradient_exchange import GradientExchange
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.training.module import SkipGramModule
from tests.support.own_script import make_trainer

WORDS, DIM, TOKENS = 500, 4, 10


def windows_of(words: list[int]) -> Windows:
    """A pair a word, of the word with itself, and the word behind it as the only negative."""
    target = torch.tensor(words, dtype=torch.int32)
    block = TokenBlock.of([words])
    block.tokens = TOKENS
    negatives = target[:, None] + 1
    mask = torch.ones_like(negatives, dtype=torch.bool)
    return Windows(target, torch.arange(len(words) + 1), target, negatives, mask, block)


class Witness(lightning.Callback):
    """Keeps row 0 of both tables, and the optimiser's state for it, as they are after every step."""

    def __init__(self) -> None:
        self.after: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        state = {}
        for name, table in pl_module.tables.named_parameters():
            state[name] = table[0].detach().clone()
            for key, value in trainer.optimizers[0].state[table].items():
                if isinstance(value, torch.Tensor) and value.shape == table.shape:
                    state[f"{name} {key}"] = value[0].clone()
        self.after.append(state)


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["MASTER_PORT"] = sys.argv[2]
    warnings.simplefilter("ignore")
    steps = torch.load(folder / "words.pt", weights_only=True)
    torch.manual_seed(0)
    module = SkipGramModule(
        Tables(WORDS, DIM, seed=0), NegativeSampling(np.full(WORDS, 1 / WORDS)), optimizer="sparse_adam", lr=0.1,
        total_tokens=TOKENS * len(steps[0]),
    )  # fmt: skip
    with torch.no_grad():
        module.tables.output.weight.normal_()
    witness = Witness()
    trainer = make_trainer(
        [witness], devices=2, strategy=GradientExchange(), max_epochs=1, use_distributed_sampler=False
    )
    own = steps[int(os.environ.get("LOCAL_RANK", "0"))]
    trainer.fit(module, DataLoader([windows_of(words) for words in own], batch_size=None))
    tables = [table.detach() for table in module.tables.parameters()]
    torch.save({"after": witness.after, "tables": tables}, folder / f"rows-{trainer.global_rank}.pt")


if __name__ == "__main__":
    main()
