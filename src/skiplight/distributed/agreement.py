"""What the ranks of a training agree on between two steps; with one rank, there is nothing to ask."""

from __future__ import annotations

import lightning
import torch

from skiplight.distributed.strategy import RankStrategy


def any_rank(trainer: lightning.Trainer, flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    strategy = trainer.strategy
    return strategy.reduce_boolean_decision(flag, all=False) if isinstance(strategy, RankStrategy) else flag


def greatest(trainer: lightning.Trainer, number: int) -> int:
    """The greatest of the ranks' numbers."""
    strategy = trainer.strategy
    return int(strategy.gather_counts([number]).max()) if isinstance(strategy, RankStrategy) else number


def summed(trainer: lightning.Trainer, loss: float, pairs: int) -> tuple[float, int]:
    """A loss and a number of pairs, summed over the ranks."""
    if not isinstance(trainer.strategy, RankStrategy):
        return loss, pairs
    both = torch.tensor([loss, pairs], dtype=torch.float64)
    total, count = trainer.strategy.reduce(both, reduce_op="sum").tolist()
    return total, int(count)


def alike(trainer: lightning.Trainer) -> bool:
    """Whether the tables are the same on all ranks, so that they may be saved without moving any."""
    return not isinstance(trainer.strategy, RankStrategy) or trainer.strategy.alike()


def settle(trainer: lightning.Trainer) -> None:
    """Makes the tables the same on all ranks."""
    if isinstance(trainer.strategy, RankStrategy):
        trainer.strategy.settle()
