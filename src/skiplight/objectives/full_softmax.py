r"""Full softmax: the exact likelihood over the whole vocabulary, p(o|i) = exp(s(i,o)) / Σ_w exp(s(i,w)), with scores
s(i,w) = u_w·v_i + b_w.

The loss of a step is -Σ log p(o|i) over its pairs. All n_i pairs of an input word i share one row of logits, so that

    loss = Σ_i n_i·logsumexp_w s(i,w) - Σ_pairs s(i,o),

a row for each *different* input word of the step instead of one for each pair. Rows are computed in chunks, and each
chunk's gradient at once, n_i·p(w|i) less the number of pairs (i,w), while its probabilities are still there: three
matrix products in all, and memory for one chunk whatever the step. Every gradient counts, however small: where
probabilities are near 1/V, the small ones are nearly all there is.

On a GPU that may use its tensor cores (`trainer.precision=bf16-mixed`, or TF32 allowed in torch) logits are not even
written: `full_softmax_triton.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from skiplight.objectives.base import Bias, Gradients, Loss, Objective, Tables, empty_loss
from skiplight.objectives.dispatch import kernels_take, product_type
from skiplight.sampling.batches import Windows

CHUNK = 2**22
"""Logits at a time, where the user does not say how many rows: 16 MB."""

WIDEST = 256
"""Numbers in a vector, up to which a GPU's sums over the vocabulary stay in registers."""


class FullSoftmax(Objective):
    """Softmax over the vocabulary.

    Args:
        chunk: rows of logits computed at a time; by default so many that they are about four million logits.
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
        # Σ p(o|i) over the pairs, which is what bends an output row's loss, is about how often o is their target.
        outputs = torch.bincount(windows.target, weights=sizes, minlength=len(tables.output.weight))
        return Gradients(4.0 * inputs, 4.0 * outputs)


class _SoftmaxLoss(torch.autograd.Function):
    """-Σ log p(o|i), whose gradient is computed with it and kept: [n, d] for the inputs and one output table."""

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
        """The summed loss, float64 [].

        Args:
            vectors: [n, d], of the input words.
            output: [V, d].
            bias: [V, 1] or None.
            counts: int64 [n], how many pairs each input word has.
            targets: int64 [pairs], the output words of the first input word, then of the second, and so on.
            chunk: rows of logits at a time.
        """
        # Products are made as mixed precision wants them, sums and exponentials in the tables' own type.
        kind = product_type(output)
        train = any(context.needs_input_grad)
        if train and _on_chip(vectors, kind):
            from skiplight.objectives.full_softmax_triton import softmax

            row = None if bias is None else bias.squeeze(1).float()
            made = softmax(vectors.to(kind), output.to(kind), row, counts, targets)
            context.save_for_backward(made.by_vectors, made.by_output, None if bias is None else made.by_bias[:, None])
            return made.loss
        by_vectors, by_output, by_bias = torch.empty_like(vectors), torch.zeros_like(output), None
        if bias is not None:
            by_bias = torch.zeros_like(bias)
        columns, ends = output.to(kind), [0, *counts.cumsum(0).tolist()]
        loss = vectors.new_zeros((), dtype=torch.float64)
        with torch.autocast(vectors.device.type, enabled=False):
            for first in range(0, len(vectors), chunk):
                last = min(first + chunk, len(vectors))
                v, n = vectors[first:last], counts[first:last]
                logits = torch.mm(v.to(kind), columns.T).to(output.dtype)
                if bias is not None:
                    logits += bias.T
                row = torch.repeat_interleave(torch.arange(len(n), device=n.device), n)
                place = row * len(output) + targets[ends[first] : ends[last]]
                loss -= logits.view(-1)[place].sum(dtype=torch.float64)
                p = torch.softmax(logits, 1)
                # The largest probability of a row is exp(0) / Σ exp(s - largest s).
                loss += (n * (logits.amax(1) - p.amax(1).log())).sum(dtype=torch.float64)
                if not train:
                    continue
                # The gradient by a row's logits is n times what `p` holds now.
                scale = n[:, None].to(p.dtype)
                p.view(-1).scatter_add_(0, place, -(1 / scale)[row, 0])
                by_vectors[first:last] = torch.mm(p.to(kind), columns) * scale
                by_output += torch.mm(p.to(kind).T, (v * scale).to(kind))
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


def _on_chip(vectors: Tensor, kind: torch.dtype) -> bool:
    """Whether the kernels that write no logits make the products."""
    allowed = kind == torch.bfloat16 or (kind == torch.float32 and torch.backends.cuda.matmul.allow_tf32)
    problems = {
        f"{kind} is multiplied without tensor cores": not allowed,
        f"vectors have {vectors.shape[1]} numbers, more than {WIDEST}": vectors.shape[1] > WIDEST,
    }
    return kernels_take("full softmax", vectors, problems)
