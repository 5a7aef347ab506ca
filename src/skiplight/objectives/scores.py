"""Scores of windows against a few output vectors, for all objectives but full softmax.

One small matrix product per window scores its output rows with all its context words, so a row is read once per window
instead of once per pair. A pair with rows of its own counts as a window of one context word.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skiplight.objectives.base import Gradients, Loss, Objective, Tables, at_least_float32, empty_loss
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import WindowSampler


def score_rows(tables: Tables, windows: Windows, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores u·v + b of output rows with the context words of their windows, in float32 or better.

    Shorter contexts are padded with the pairs that follow, rows that the step reads anyway. The caller masks their
    scores, so their gradient is zero.

    Args:
        rows: int [windows, R], or [pairs, R] where each pair has its own.

    Returns:
        Scores, [windows, R, C] or [pairs, R, 1], and bool [windows, 1, C] or [pairs, 1, 1], False for padding.
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
    scores = at_least_float32(multiply_rows(tables.output(rows), tables.input(inputs)))
    return scores if tables.bias is None else scores + tables.bias(rows), used[:, None]


def multiply_rows(u: Tensor, v: Tensor) -> Tensor:
    """Return the products u·v of all pairs of rows, [n, R, d] and [n, C, d]: [n, R, C]."""
    return _Products.apply(u, v)


class _Products(torch.autograd.Function):
    """u·v of all pairs of rows, [n, R, d] and [n, C, d]: [n, R, C].

    The backward pass of torch.bmm returns the gradient of a transposed factor transposed, which would cost a copy.
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


def gather_candidates(windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the target (slot 0) and negatives (slots 1 to K) of each window, or of each pair with its own negatives.

    Returns:
        Words, int32 [windows, 1 + K] or [pairs, 1 + K], and bool of the same shape, which of them count.
    """
    target = windows.target if windows.shared else windows.target[windows.window_of_pair()]
    there = torch.cat([torch.ones_like(windows.mask[:, :1]), windows.mask], dim=1)
    return torch.cat([target[:, None], windows.negatives], dim=1), there


def score_candidates(tables: Tables, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores of each pair's target and negatives.

    Returns:
        Words, int64 [windows, 1 + K] or [pairs, 1 + K]; their scores, [windows, 1 + K, C] or [pairs, 1 + K, 1]; and
        bool of the same shape, which of them count.
    """
    words, there = gather_candidates(windows)
    scores, used = score_rows(tables, windows, words)
    return words.long(), scores, there[:, :, None] & used


def count_candidate_gradients(tables: Tables, windows: Windows, per_pair: int) -> Gradients:
    """Count one gradient for each pair's target and negatives, and `per_pair` for its input word."""
    inputs = torch.bincount(windows.inputs, minlength=len(tables.input.weight)) * per_pair
    sizes = windows.offsets.diff().float()
    rows = len(tables.output.weight)
    if windows.shared:
        words, there = gather_candidates(windows)
        weights = there * sizes[:, None]
        return Gradients(inputs, torch.bincount(words.flatten(), weights=weights.flatten(), minlength=rows))
    outputs = torch.bincount(windows.target, weights=sizes, minlength=rows)
    outputs += torch.bincount(windows.negatives.flatten(), weights=windows.mask.flatten().float(), minlength=rows)
    return Gradients(inputs, outputs)


class ContrastiveObjective(Objective):
    """Base of objectives with one logistic loss for each pair's target and each of its negatives.

    Args:
        noise: the probabilities P_n of the noise distribution, float64 [V].
    """

    needs_noise: ClassVar[bool] = True

    log_noise: Tensor

    def __init__(self, noise: np.ndarray) -> None:
        super().__init__()
        self._constant("log_noise", np.log(noise))

    @classmethod
    def build(cls, counts: np.ndarray, sampler: WindowSampler, **options: Any) -> Self:
        return cls(sampler.noise.probabilities, **options)

    def set_noise(self, probabilities: np.ndarray) -> None:
        self._replace("log_noise", np.log(probabilities))

    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        return count_candidate_gradients(tables, windows, 1 + windows.negatives.shape[1])


class ScoreObjective(ContrastiveObjective):
    """Base of objectives that are one function from scores to a loss; see `score_loss`.

    >>> class Margin(ScoreObjective):
    ...     def score_loss(self, scores, counted):
    ...         return ((1 - scores[:, :1] + scores[:, 1:]).clamp(min=0) * counted[:, 1:]).sum()
    """

    @abc.abstractmethod
    def score_loss(self, scores: Tensor, counted: Tensor) -> Tensor:
        """Return the loss summed over pairs, float [].

        Args:
            scores: u·v + b, float32 [rows, 1 + K, C]: of the target, slot 0, and the negatives of each window with each
                of its C context words (or of each pair, with C = 1).
            counted: bool of the same shape, False for padding and for negatives that are left out.
        """

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        _, scores, counted = score_candidates(tables, windows)
        return Loss(self.score_loss(scores, counted), windows.pairs)
