"""Scores of windows against output vectors, as all objectives that look at a few of them need them.

The output rows that a window is scored with meet all its context words in one small matrix product, so that a row is
read once a window and not once a pair. Where each pair has rows of its own, it is a window of one context word.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from skiplight.objectives.base import Gradients, Objective, Tables, at_least_float32
from skiplight.sampling.batches import Windows


def score(tables: Tables, windows: Windows, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scores u·v + b of output rows with the context words of their windows, in float32 or better.

    Contexts are padded to the longest by the pairs that follow: rows that the step touches anyway, whose scores the
    caller masks, so that their gradient is zero.

    Args:
        rows: int [windows, R], or [pairs, R] where each pair has its own.

    Returns:
        Scores, [windows, R, C] or [pairs, R, 1], and bool [windows, 1, C] or [pairs, 1, 1]: whether a pair is there.
    """
    if len(rows) == len(windows.target):
        sizes = windows.offsets.diff()
        slot = torch.arange(int(sizes.max()), device=sizes.device)
        used = slot < sizes[:, None]
        pair = (windows.offsets[:-1, None] + slot).clamp_(max=windows.pairs - 1)
        inputs = windows.inputs[pair]
    else:
        inputs = windows.inputs[:, None]
        used = torch.ones_like(inputs, dtype=torch.bool)
    scores = at_least_float32(_Products.apply(tables.output(rows), tables.input(inputs)))
    return scores if tables.bias is None else scores + tables.bias(rows), used[:, None]


class _Products(torch.autograd.Function):
    """u·v of all pairs of rows, [n, R, d] and [n, C, d]: [n, R, C].

    torch.bmm's own backward pass gives the gradient of a transposed factor transposed, which then has to be copied.
    """

    @staticmethod
    def forward(context: Any, u: Tensor, v: Tensor) -> Tensor:
        context.save_for_backward(u, v)
        return torch.bmm(u, v.transpose(1, 2))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        u, v = context.saved_tensors
        by_score = gradients[0].to(u.dtype)
        return torch.bmm(by_score, v), torch.bmm(by_score.transpose(1, 2), u)


def candidates(windows: Windows) -> tuple[Tensor, Tensor]:
    """The target (slot 0) and negatives (slots 1 to K) of each window, or pair where each pair has its own.

    Returns:
        Words, int32 [windows, 1 + K] or [pairs, 1 + K]; and bool alike, which of them count.
    """
    target = windows.target if windows.shared else windows.target[windows.window_of_pair()]
    there = torch.cat([torch.ones_like(windows.mask[:, :1]), windows.mask], dim=1)
    return torch.cat([target[:, None], windows.negatives], dim=1), there


def contrast(tables: Tables, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of each pair's target and negatives.

    Returns:
        Words, int64 [windows, 1 + K] or [pairs, 1 + K]; their scores, [windows, 1 + K, C] or [pairs, 1 + K, 1]; and
        bool like the scores: which of them count.
    """
    words, there = candidates(windows)
    scores, used = score(tables, windows, words)
    return words.long(), scores, there[:, :, None] & used


def contrast_gradients(tables: Tables, windows: Windows, per_pair: int) -> Gradients:
    """Gradients where each pair's target and negatives get one each, and its input word `per_pair`."""
    inputs = torch.bincount(windows.inputs, minlength=len(tables.input.weight)) * per_pair
    sizes = windows.offsets.diff().float()
    rows = len(tables.output.weight)
    if windows.shared:
        words, there = candidates(windows)
        weights = there * sizes[:, None]
        return Gradients(inputs, torch.bincount(words.flatten(), weights=weights.flatten(), minlength=rows))
    outputs = torch.bincount(windows.target, weights=sizes, minlength=rows)
    outputs += torch.bincount(windows.negatives.flatten(), weights=windows.mask.flatten().float(), minlength=rows)
    return Gradients(inputs, outputs)


class ContrastiveObjective(Objective):
    """What objectives have in common that tell each pair's target from its negatives by one logistic loss for each.

    Args:
        noise: the probabilities P_n that negatives are drawn with, float64 [V].
    """

    needs_noise: ClassVar[bool] = True

    log_noise: Tensor

    def __init__(self, noise: np.ndarray) -> None:
        super().__init__()
        self._constant("log_noise", np.log(noise))

    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        return contrast_gradients(tables, windows, 1 + windows.negatives.shape[1])
