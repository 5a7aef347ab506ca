"""The reference engine: the objective's loss in plain PyTorch, its gradient by autograd, any optimiser.

A step is one update from the summed gradient of all its windows. That sum is what limits the block: a row is stable
while lr·n·σ(1-σ)·λ < 2 for n summed gradients, so a block holds some thousand tokens, not more. Gradients of the
tables are sparse (touched rows only) where the optimiser takes them.
"""

from __future__ import annotations

import inspect
from typing import ClassVar

import torch

from skiplight.engines.base import Engine, StepResult
from skiplight.errors import ConfigError
from skiplight.sampling.windows import Block, Windows

SPARSE = {"SGD", "Adagrad", "SparseAdam"}
"""The optimisers of torch.optim that take sparse gradients."""


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """The class of torch.optim called `name`, whatever its case and underscores.

    Raises:
        ConfigError: there is none, or it needs several passes over a step's loss.

    >>> optimizer_class("sparse_adam").__name__
    'SparseAdam'
    """
    classes = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    found = classes.get(name.replace("_", "").lower())
    if found is None:
        raise ConfigError(f"`optim.name={name}` is no optimiser of torch.optim: it has {', '.join(sorted(classes))}")
    if found is torch.optim.LBFGS:
        raise ConfigError("`optim.name=lbfgs` needs the loss of a step more than once: choose a first-order optimiser")
    return found


def takes_sparse(name: str) -> bool:
    """Whether the optimiser called `name` takes sparse gradients."""
    return optimizer_class(name).__name__ in SPARSE


class AutogradEngine(Engine):
    """The objective's loss with a graph; the tables move in the optimiser's step."""

    name: ClassVar[str] = "autograd"
    takes_blocks: ClassVar[bool] = False
    block_tokens: ClassVar[int] = 1000

    def step(self, batch: Block | Windows, lr_begin: float, lr_end: float) -> StepResult:
        if not isinstance(batch, Windows):
            raise TypeError(f"the autograd engine takes windows, not {type(batch).__name__}")
        for group in self.optimizer.param_groups:
            group["lr"] = (lr_begin + lr_end) / 2
        loss = self.objective.loss(self.tables, batch)
        return StepResult(loss.sum.detach(), loss.pairs, loss.sum)
