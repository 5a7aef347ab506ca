"""The reference engine: the loss of an objective in plain PyTorch, its gradient by autograd, and any optimiser.

A step is one update by the sum of the gradients of all windows. A frequent word, or any word of a small vocabulary,
occurs in many windows of a block, and the sum of its n gradients can be too long a step: it is stable only while
lr·n·σ(1-σ)·λ < 2, where λ is the squared length of the vectors on the other side. Therefore, with plain SGD, the sum of
a row is scaled down to at most 4/lr gradients, which bounds lr·n·σ(1-σ) by 1 for any block. Adaptive optimisers scale
their steps themselves. The gradients of the tables are sparse (touched rows only) if the optimiser takes sparse ones.
"""

from __future__ import annotations

import inspect
from typing import ClassVar

import torch

from skiplight.engines.base import Engine, GradientCounts, Request, StepResult
from skiplight.engines.sparse_rows import summed_by_row
from skiplight.errors import ConfigError
from skiplight.sampling.batches import TokenBlock, Windows

SPARSE = {"SGD", "Adagrad", "SparseAdam"}
"""Optimisers of torch.optim that take sparse gradients."""


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return the optimiser class of torch.optim called `name`, in any case and with or without underscores.

    Raises:
        ConfigError: there is no such class, or it computes the loss of a step more than once.

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
    """Return whether the optimiser called `name` takes sparse gradients."""
    return optimizer_class(name).__name__ in SPARSE


class AutogradEngine(Engine):
    """Computes the loss with its autograd graph; the optimiser's step moves the tables."""

    name: ClassVar[str] = "autograd"
    takes_blocks: ClassVar[bool] = False
    block_tokens: ClassVar[int] = 2000
    strategy: ClassVar[str] = "gradient_exchange"

    @classmethod
    def unsupported(cls, request: Request) -> list[str]:
        optimizer = request.optimizer.__name__
        problems = {
            f"{optimizer} with {request.objective.__name__}, whose gradients are dense: another `optim.name` can": (
                request.objective.dense and request.optimizer is torch.optim.SparseAdam
            ),
            f"the strategy {request.strategy}, which does not sum gradients of rows": (
                request.strategy not in ("single", cls.strategy)
            ),
            f"accumulate_grad_batches={request.accumulate} on several devices": (
                request.accumulate > 1 and request.strategy != "single"
            ),
            f"gradient clipping with {optimizer}, whose gradients are sparse (those of Adam are dense)": (
                request.clipping and optimizer in SPARSE
            ),
        }
        return [problem for problem, present in problems.items() if present]

    def step(self, batch: TokenBlock | Windows, lr_begin: float, lr_end: float) -> StepResult:
        if not isinstance(batch, Windows):
            raise TypeError(f"the autograd engine takes Windows, not {type(batch).__name__}")
        for group in self.optimizer.param_groups:
            group["lr"] = (lr_begin + lr_end) / 2
        loss = self.objective.loss(self.tables, batch)
        return StepResult(loss.sum.detach(), loss.pairs, loss.sum)

    def gradient_counts(self, batch: TokenBlock | Windows) -> GradientCounts:
        if not isinstance(self.optimizer, torch.optim.SGD) or not isinstance(batch, Windows):
            return {}
        inputs, outputs = (counts.float() for counts in self.objective.gradients(self.tables, batch))
        counts = {self.tables.input.weight: inputs, self.tables.output.weight: outputs}
        if self.tables.bias is not None:
            counts[self.tables.bias.weight] = outputs.clone()
        return counts

    def prepare_step(self, counts: GradientCounts) -> None:
        if isinstance(self.optimizer, torch.optim.SGD):
            self._shorten(counts)
            return
        # Adaptive optimisers square the gradient of a row, so they need the sum; SGD adds part after part.
        for table in self.tables.parameters():
            if table.grad is not None and table.grad.is_sparse:
                table.grad = summed_by_row(table.grad)

    def _shorten(self, counts: GradientCounts) -> None:
        most = 4 / self.optimizer.param_groups[0]["lr"]
        names = {self.tables.input.weight: "input", self.tables.output.weight: "output"}
        for table, summed in counts.items():
            gradient = table.grad
            if gradient is None:
                continue
            # One transfer for both numbers, since each waits for the GPU.
            total, largest = torch.stack([summed.sum(), summed.amax()]).tolist()
            if largest <= most:
                if table in names:
                    self.shortening.add(names[table], total, 0.0, 0)
                continue
            if table in names:
                over = (summed - most).relu_()  # over all rows, which is faster than to select the long ones
                left_out, number = torch.stack([over.sum(), over.sign_().sum()]).tolist()
                self.shortening.add(names[table], total, left_out, int(number))
            if gradient.is_sparse:
                rows, values = gradient._indices()[0], gradient._values()
                long = (summed[rows] > most).nonzero().squeeze(1)  # few rows; the others do not change
                values[long] *= (most / summed[rows[long]])[:, None].to(values.dtype)
            else:
                gradient.mul_((most / summed).clamp(max=1.0)[:, None].to(gradient.dtype))
