"""The reference engine: the loss of an objective in plain PyTorch, its gradient by autograd, and any optimiser.

A step is one update by the sum of the gradients of all windows. A frequent word, or any word of a small vocabulary,
occurs in many windows of a block, and the sum of its n gradients can be too long a step: it is stable only while
lr·n·σ(1-σ)·λ < 2, where λ is the squared length of the vectors on the other side. Therefore, with SGD, the sum of a row
is scaled down to at most 4/lr gradients, which bounds lr·n·σ(1-σ) by 1 for any block; momentum does not lower the
bound of stability, which is 2·(1 + momentum). Adaptive optimisers scale their steps themselves. The gradients of the
tables are sparse (touched rows only) if the optimiser takes sparse ones.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from skiplight.engines.base import Engine, GradientCounts, Request, StepResult
from skiplight.engines.optimizers import keeps_sparse
from skiplight.engines.sparse_rows import summed_by_row
from skiplight.sampling.batches import TokenBlock, Windows


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
                request.clipping and keeps_sparse(request.optimizer, request.arguments)
            ),
        }
        return [problem for problem, present in problems.items() if present]

    def step(self, batch: TokenBlock | Windows, lr_begin: float, lr_end: float) -> StepResult:
        if not isinstance(batch, Windows):
            raise TypeError(f"the autograd engine takes Windows, not {type(batch).__name__}")
        self.set_rate((lr_begin + lr_end) / 2)
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
        rates = {table: group["lr"] for group in self.optimizer.param_groups for table in group["params"]}
        names = {self.tables.input.weight: "input", self.tables.output.weight: "output"}
        for table, summed in counts.items():
            gradient = table.grad
            if gradient is None or not rates.get(table):
                continue
            most = 4 / rates[table]
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
