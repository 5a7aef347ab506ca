"""`Trainer(strategy="skiplight", devices=2)`: the strategy of the module's engine, for one's own Trainer.

Lightning makes a strategy before it knows the module. So the object that it makes here becomes one of the engine's kind
when the Trainer connects the module, before ranks meet.
"""

from __future__ import annotations

from typing import Any, ClassVar

import lightning
import torch
from lightning.pytorch.strategies import StrategyRegistry

from skiplight.distributed.gradient_exchange import GradientExchange
from skiplight.distributed.in_place import InPlaceTables
from skiplight.distributed.reconciliation import Reconciler
from skiplight.distributed.strategy import RankStrategy
from skiplight.errors import RankError

NAME = "skiplight"


class EngineStrategy(RankStrategy):
    """The strategy of the engine of the module that is trained."""

    name: ClassVar[str] = NAME

    def connect(self, model: lightning.LightningModule) -> None:
        super().connect(model)
        wanted = getattr(model, "strategy_name", None)
        if wanted == GradientExchange.name:
            self.__class__ = GradientExchange  # type: ignore[assignment]
        elif wanted == InPlaceTables.name:
            self.__class__ = InPlaceTables  # type: ignore[assignment]
            InPlaceTables.begin(self, _refuse_replicas)  # type: ignore[arg-type]
        else:
            raise RankError(f"the strategy {NAME} trains a SkipGramModule, not {type(model).__name__}")


def _refuse_replicas(replicas: int, device: torch.device) -> Reconciler:
    raise RankError(
        f"the strategy {NAME} shares the tables of the fused engine on the CPU of one machine; {replicas} replicas are"
        " reconciled by `skiplight train` only: use that, or the autograd engine"
    )


def register(**options: Any) -> None:
    """Register the strategy with Lightning under its name, once."""
    if NAME not in StrategyRegistry.available_strategies():
        StrategyRegistry.register(NAME, EngineStrategy, "the strategy of a SkipGramModule's engine", **options)
