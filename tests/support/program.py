"""A user's script with a Trainer of their own on several ranks; what each rank saw and ends with goes to a folder.

python program.py FOLDER WORLD PORT [NODES]: FOLDER has the texts and stores; for every case, rank r leaves
CASE-WORLD-r.pt there. With NODES, the ranks are those of so many machines, of which this process is the first of number
$NODE_RANK, and the cases are those of machines.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import lightning
import torch

from skiplight.corpus.tokens import Cursor
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.distributed.curvature import Sample
from skiplight.distributed.gradient_exchange import GradientExchange
from skiplight.distributed.in_place import InPlaceTables
from skiplight.distributed.reconciliation import Reconciler
from skiplight.distributed.strategy import RankStrategy
from skiplight.engines.autograd import AutogradEngine
from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.engines.optimizers import takes_sparse
from skiplight.objectives import make_objective
from skiplight.objectives.base import Tables
from skiplight.process import run_program
from skiplight.sampling.windows import WindowSampler
from skiplight.training.module import SkipGramModule
from tests.support.own_script import make_trainer
from tests.support.texts import prepared

BLOCK_TOKENS = 700


class Case(NamedTuple):
    objective: str = "negative_sampling"
    optimizer: str = "sgd"
    engine: str = "autograd"
    streaming: bool = False
    lr: float = 0.05
    epochs: int = 1
    overlap: bool = False


CASES = {
    "sgd": Case(),
    "streamed": Case(streaming=True, epochs=2),
    "adagrad": Case(optimizer="adagrad"),
    "adam": Case(optimizer="adam", lr=0.001),
    "sparse-adam": Case(optimizer="sparse_adam", lr=0.001),
    "softmax": Case(objective="full_softmax", optimizer="adagrad"),
    "fused": Case(engine="fused", epochs=2),
}
MACHINES = {
    "machines": Case(engine="fused", epochs=2),
    "machines-overlapped": Case(engine="fused", epochs=2, overlap=True),
}


def parts(folder: Path, case: Case) -> tuple[SkipGramModule, SkipGramDataModule]:
    """Module and data of a case; the text is one file, hence one shard."""
    text = prepared(folder / "texts" / "*.txt", folder, streaming=case.streaming)
    counts = text.vocabulary.counts
    sampler = WindowSampler(counts, seed=1, subsample=1e-2, negatives=3)
    objective = make_objective(case.objective, counts, sampler)
    data = SkipGramDataModule(text, sampler, block_tokens=BLOCK_TOKENS, takes_blocks=case.engine == "fused")
    tables = Tables(len(counts), 8, sparse=takes_sparse(case.optimizer), seed=1)
    maker = (
        functools.partial(FusedCpuEngine, sampler=sampler, own_workers=1) if case.engine == "fused" else AutogradEngine
    )
    total = data.tokens * case.epochs
    module = SkipGramModule(
        tables, objective, optimizer=case.optimizer, lr=case.lr, total_tokens=total, engine=maker
    )  # fmt: skip
    return module, data


class Witness(lightning.Callback):
    """Keeps what this rank was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int, int]] = []
        self.steps = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        block = getattr(batch, "block", batch)
        self.steps += 1
        lengths = block.segments.diff().tolist()
        for document, start, length in zip(block.document.tolist(), block.start.tolist(), lengths, strict=True):
            self.seen.append((block.epoch, document, start, length))

    def on_train_end(self, trainer, pl_module) -> None:
        trainer.strategy.synchronize()


def strategy(case: Case, data: SkipGramDataModule, world: int) -> RankStrategy:
    def reconciler(replicas: int, device: torch.device) -> Reconciler:
        return Reconciler(
            data.sampler,
            Sample.draw(data.sampler, data.blocks(Cursor(), 0, 1, 0, 1)),
            dim=8,
            replicas=replicas,
            step_tokens=BLOCK_TOKENS * world,
            bytes_per_token=3,
            device=device,
        )

    return InPlaceTables(reconciler, overlap=case.overlap) if case.engine == "fused" else GradientExchange()


def main() -> int:
    folder, world, port, *more = Path(sys.argv[1]), *map(int, sys.argv[2:])
    nodes, cases = (more[0], MACHINES) if more else (1, CASES)
    warnings.simplefilter("ignore")
    for number, (name, case) in enumerate(cases.items()):
        os.environ["MASTER_PORT"] = str(port + number)  # the next training's ranks must not meet the last one's
        module, data = parts(folder, case)
        witness, ranks = Witness(), strategy(case, data, world)
        trainer = make_trainer([witness], devices=world // nodes, num_nodes=nodes, strategy=ranks, max_epochs=-1)
        trainer.fit(module, data)
        tables = [table.detach() for table in module.tables.parameters()]
        found = {"seen": witness.seen, "steps": witness.steps, "tables": tables, "tokens": module.tokens}
        torch.save(found | {"bytes": ranks.bytes_sent}, folder / f"{name}-{world}-{trainer.global_rank}.pt")
    return 0


if __name__ == "__main__":
    run_program(main)
