r"""Full softmax: the exact likelihood over the whole vocabulary, p(o|i) = exp(s(i,o)) / Σ_w exp(s(i,w)), with scores
s(i,w) = u_w·v_i + b_w.

The loss of a step is -Σ log p(o|i) over its pairs. All n_i pairs of an input word i share one row of logits, so that

    loss = Σ_i n_i·logsumexp_w s(i,w) - Σ_pairs s(i,o),

one row per *distinct* input word of the step instead of one per pair. Rows are computed in chunks, and the gradient of
a chunk, n_i·p(w|i) minus the number of pairs (i,w), while its probabilities are in memory: three matrix products, and
memory for one chunk. No small gradient is dropped, since with probabilities near 1/V nearly all gradients are small.

On a GPU that may use its tensor cores (`trainer.precision=bf16-mixed`, or TF32 allowed in torch) logits are never
written to memory: `full_softmax_triton.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from skiplight.objectives.base import Bias, Gradients, Loss, Objective, Tables, empty_loss
from skiplight.objectives.dispatch import product_type, use_kernels
from skiplight.registry import option, register_objective
from skiplight.sampling.batches import Windows

CHUNK = 2**22
"""Default number of logits computed at a time: 16 MB."""

WIDEST = 256
"""The longest vectors whose sums over the vocabulary stay in a GPU's registers."""


@dataclass
class FullSoftmaxOptions:
    """Options of `objective=full_softmax`."""

    chunk: int | None = option(None, "rows of logits at a time; default: 4 million logits", low=1)


@register_objective("full_softmax", options=FullSoftmaxOptions)
class FullSoftmax(Objective):
    """Softmax over the vocabulary.

    Args:
        chunk: rows of logits computed at a time; by default about four million logits.
    """

    needs_noise: ClassVar[bool] = False
    default_bias: ClassVar[Bias] = "learned"
    dense: ClassVar[bool] = True

    def __init__(self, chunk: int | None = None) -> None:
        super().__init__()
        self.chunk = chunk

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        order = torch.argsort(windows.inputs)
        inputs, counts = torch.unique_consecutive(windows.inputs[order], return_counts=True)
        targets = windows.target[windows.window_of_pair()[order]].long()
        bias = None if tables.bias is None else tables.bias.weight
        chunk = self.chunk or max(1, CHUNK // len(tables.output.weight))
        loss = _SoftmaxLoss.apply(tables.input(inputs), tables.output.weight, bias, counts, targets, chunk)
        return Loss(loss, windows.pairs)

    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        inputs = torch.bincount(windows.inputs, minlength=len(tables.input.weight))
        sizes = windows.offsets.diff().double()
        # The curvature of an output row's loss is Σ p(o|i) over the pairs, about the number of pairs with target o.
        outputs = torch.bincount(windows.target, weights=sizes, minlength=len(tables.output.weight))
        return Gradients(4.0 * inputs, 4.0 * outputs)


class _SoftmaxLoss(torch.autograd.Function):
    """-Σ log p(o|i); forward also computes and keeps the gradient, [n, d] for the inputs and one output table."""

    @staticmethod
    def forward(
        context: Any,
        vectors: Tensor,
        output: Tensor,
        bias: Tensor | None,
        counts: Tensor,
        targets: Tensor,
        chunk: int,
    ) -> Tensor:
        """Return the summed loss, float64 [].

        Args:
            vectors: [n, d], the input words' vectors.
            output: [V, d].
            bias: [V, 1] or None.
            counts: int64 [n], the number of pairs of each input word.
            targets: int64 [pairs], the output words of the first input word, then of the second, and so on.
            chunk: rows of logits at a time.
        """
        # Products follow mixed precision, sums and exponentials the type of the tables.
        factor_type = product_type(output)
        train = any(context.needs_input_grad)
        if train and _on_chip(vectors, factor_type):
            from skiplight.objectives.full_softmax_triton import softmax_with_gradients

            row = None if bias is None else bias.squeeze(1).float()
            made = softmax_with_gradients(vectors.to(factor_type), output.to(factor_type), row, counts, targets)
            context.save_for_backward(made.by_vectors, made.by_output, None if bias is None else made.by_bias[:, None])
            return made.loss
        by_vectors, by_output, by_bias = torch.empty_like(vectors), torch.zeros_like(output), None
        if bias is not None:
            by_bias = torch.zeros_like(bias)
        columns, ends = output.to(factor_type), [0, *counts.cumsum(0).tolist()]
        loss = vectors.new_zeros((), dtype=torch.float64)
        with torch.autocast(vectors.device.type, enabled=False):
            for first in range(0, len(vectors), chunk):
                last = min(first + chunk, len(vectors))
                v, n = vectors[first:last], counts[first:last]
                logits = torch.mm(v.to(factor_type), columns.T).to(output.dtype)
                if bias is not None:
                    logits += bias.T
                row = torch.repeat_interleave(torch.arange(len(n), device=n.device), n)
                entry = row * len(output) + targets[ends[first] : ends[last]]
                loss -= logits.view(-1)[entry].sum(dtype=torch.float64)
                p = torch.softmax(logits, 1)
                # The largest probability of a row is exp(0) / Σ exp(s - largest s).
                loss += (n * (logits.amax(1) - p.amax(1).log())).sum(dtype=torch.float64)
                if not train:
                    continue
                # `p` becomes the gradient with respect to a row's logits, divided by n.
                scale = n[:, None].to(p.dtype)
                p.view(-1).scatter_add_(0, entry, -(1 / scale)[row, 0])
                by_vectors[first:last] = torch.mm(p.to(factor_type), columns) * scale
                by_output += torch.mm(p.to(factor_type).T, (v * scale).to(factor_type))
                if by_bias is not None:
                    by_bias += torch.mm(p.T, scale)
        context.save_for_backward(by_vectors, by_output, by_bias)
        return loss

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0]
        by_vectors, by_output, by_bias = (
            kept * scale.to(kept.dtype) if kept is not None and needed else None
            for kept, needed in zip(context.saved_tensors, context.needs_input_grad, strict=False)
        )
        return by_vectors, by_output, by_bias, None, None, None


def _on_chip(vectors: Tensor, factor_type: torch.dtype) -> bool:
    """Return whether kernels compute the products without writing logits."""
    allowed = factor_type == torch.bfloat16 or (factor_type == torch.float32 and torch.backends.cuda.matmul.allow_tf32)
    problems = {
        f"{factor_type} is multiplied without tensor cores": not allowed,
        f"vectors have {vectors.shape[1]} numbers, more than {WIDEST}": vectors.shape[1] > WIDEST,
    }
    return use_kernels("full softmax", vectors, problems)
