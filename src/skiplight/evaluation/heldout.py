"""Held-out likelihood: how well a model predicts text that it was not trained on, exact over the vocabulary.

Its pairs are those of `skiplight.data.heldout`, the same for every run.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor

from skiplight.data.heldout import HeldoutPairs
from skiplight.errors import EvaluationError
from skiplight.objectives.base import Objective, Tables

CHUNK = 2**20
"""Logits computed at a time on a CPU: 4 MB, since more would not fit its cache and would be allocated anew each time.
An accelerator computes sixteen times as many, because every chunk needs some kernel launches."""


@dataclasses.dataclass
class HeldoutResult:
    """Weighted means over pairs.

    Attributes:
        loss: -log p(o|i) in nats.
        perplexity: exp(loss).
        pairs: number of pairs.
    """

    loss: float
    perplexity: float
    pairs: int


def heldout(objective: Objective, tables: Tables, pairs: HeldoutPairs) -> HeldoutResult:
    """Return the weighted mean of -log p(o|i) over the pairs.

    Raises:
        EvaluationError: the loss is NaN, or too large for a finite perplexity.
    """
    metric = HeldoutLoss(sync_on_compute=False)  # other ranks need not take part
    metric.update(objective, tables, pairs)
    return metric.result()


class HeldoutLoss(torchmetrics.Metric):
    """The weighted mean of -log p(o|i) in nats over held-out pairs, summed over updates and ranks in float64."""

    higher_is_better = False
    full_state_update = False

    loss_sum: Tensor
    weights: Tensor
    pairs: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("loss_sum", "weights", "pairs"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, objective: Objective, tables: Tables, pairs: HeldoutPairs) -> None:
        """Add pairs, which are on the CPU; one row of scores serves all pairs of an input word."""
        device = tables.input.weight.device
        words, counts = torch.unique_consecutive(pairs.inputs, return_counts=True)
        total = torch.zeros((), dtype=torch.float64)
        chunk_size = CHUNK if device.type == "cpu" else 16 * CHUNK
        rows, first = max(1, chunk_size // len(tables.input.weight)), 0
        for start in range(0, len(words), rows):
            chunk, sizes = words[start : start + rows], counts[start : start + rows]
            stop = first + int(sizes.sum())
            logits = objective.logits(tables, chunk.to(device))
            row = torch.repeat_interleave(torch.arange(len(chunk)), sizes).to(device)
            scores = logits[row, pairs.outputs[first:stop].to(device)].double()
            log_prob = (scores - _logsumexp(logits).double()[row]).cpu()
            total -= (log_prob * pairs.weights[first:stop]).sum()
            first = stop
        self.loss_sum += total
        self.weights += pairs.weights.sum()
        self.pairs += len(pairs.inputs)

    def compute(self) -> Tensor:
        """Return the mean, float64 []."""
        return self.loss_sum / self.weights

    def result(self) -> HeldoutResult:
        """Return the mean with its perplexity.

        Raises:
            EvaluationError: the loss is NaN, or too large for a finite perplexity.
        """
        loss = float(self.compute())
        perplexity = _exp(loss)
        if not math.isfinite(perplexity):
            raise EvaluationError(
                f"the loss of held-out text is {loss:,.1f} nats per pair, without a finite perplexity:"
                " the model has diverged"
            )
        return HeldoutResult(loss, perplexity, int(self.pairs))


def _logsumexp(logits: Tensor) -> Tensor:
    """Return log Σ exp of each row of [n, V] by a softmax, whose largest probability is exp(0) / Σ exp(s - max)."""
    return logits.amax(1) - torch.softmax(logits, 1).amax(1).log()


def unigram(pairs: HeldoutPairs, frequencies: np.ndarray) -> HeldoutResult:
    """Return the result of the model that predicts words by their frequencies, float64 [V], as a baseline.

    It is infinite if an output word of the pairs has frequency zero.
    """
    log_prob = torch.from_numpy(np.log(frequencies / frequencies.sum()))
    loss = -(log_prob[pairs.outputs] * pairs.weights).sum() / pairs.weights.sum()
    return HeldoutResult(float(loss), _exp(float(loss)), len(pairs.inputs))


def _exp(loss: float) -> float:
    """Return exp(loss), or infinity if it exceeds float64."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
