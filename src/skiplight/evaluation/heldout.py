"""Held-out likelihood: how well a model predicts text that it was not trained on, exact over the vocabulary.

Its pairs are those of `skiplight.data.heldout`, the same for every run.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skiplight.data.heldout import HeldoutPairs
from skiplight.errors import EvaluationError
from skiplight.evaluation.metrics import SummedMetric
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
        validation: those of the validation part, which the others leave out; None without one.
    """

    loss: float
    perplexity: float
    pairs: int
    validation: HeldoutResult | None = None

    def metrics(self) -> dict[str, float]:
        """Return the loss and the perplexity of each part by their names in metrics.jsonl."""
        found = {"heldout/loss": self.loss, "heldout/perplexity": self.perplexity}
        if self.validation is None:
            return found
        chosen = self.validation
        return found | {"validation/loss": chosen.loss, "validation/perplexity": chosen.perplexity}


def heldout(objective: Objective, tables: Tables, pairs: HeldoutPairs) -> HeldoutResult:
    """Return the weighted mean of -log p(o|i) over the pairs.

    Raises:
        EvaluationError: the loss is NaN, or too large for a finite perplexity.
    """
    metric = HeldoutLoss(sync_on_compute=False)  # other ranks need not take part
    metric.update(objective, tables, pairs)
    result: HeldoutResult = metric.result()
    return result


class HeldoutLoss(SummedMetric):
    """The weighted mean of -log p(o|i) in nats over held-out pairs, summed over updates and ranks in float64.

    Each state has the sum over the pairs that are reported, and that over the validation part.

    Args:
        options: of `torchmetrics.Metric`.
    """

    higher_is_better = False

    loss_sum: Tensor
    weights: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__({"loss_sum": (2,), "weights": (2,), "pairs": (2,)}, **options)

    @torch.no_grad()
    def update(
        self, objective: Objective, tables: Tables, pairs: HeldoutPairs, *, rank: int = 0, world: int = 1
    ) -> None:
        """Add share number `rank` of `world` of the pairs, which are on the CPU.

        One row of scores serves all pairs of an input word and takes nearly all the time, so input words are shared.
        """
        device = tables.input.weight.device
        words, counts = torch.unique_consecutive(pairs.inputs, return_counts=True)
        begin, end = (len(words) * part // world for part in (rank, rank + 1))
        part, total = pairs.validation.long(), torch.zeros(2, dtype=torch.float64)
        chunk_size = CHUNK if device.type == "cpu" else 16 * CHUNK
        rows = max(1, chunk_size // len(tables.input.weight))
        before = first = int(counts[:begin].sum())
        for start in range(begin, end, rows):
            chunk, sizes = words[start : min(start + rows, end)], counts[start : min(start + rows, end)]
            stop = first + int(sizes.sum())
            logits = objective.logits(tables, chunk.to(device))
            row = torch.repeat_interleave(torch.arange(len(chunk)), sizes).to(device)
            scores = logits[row, pairs.outputs[first:stop].to(device)].double()
            log_prob = (scores - _logsumexp(logits).double()[row]).cpu()
            total -= torch.bincount(part[first:stop], log_prob * pairs.weights[first:stop], minlength=2)
            first = stop
        part = part[before:first]
        weights = torch.bincount(part, pairs.weights[before:first], minlength=2)
        self.add(loss_sum=total, weights=weights, pairs=torch.bincount(part, minlength=2))

    def compute(self) -> Tensor:
        """Return the mean over the pairs that are reported, float64 []."""
        return (self.loss_sum / self.weights)[0]

    def _result(self, loss_sum: Tensor, weights: Tensor, pairs: Tensor) -> HeldoutResult:  # type: ignore[override]
        """Return the mean of each part with its perplexity.

        Raises:
            EvaluationError: a loss is NaN, or too large for a finite perplexity.
        """
        parts = [(float(loss_sum[part] / weights[part]), int(pairs[part])) for part in (0, 1) if pairs[part]]
        reported, *validation = [HeldoutResult(loss, _finite_perplexity(loss), number) for loss, number in parts]
        reported.validation = validation[0] if validation else None
        return reported


def _finite_perplexity(loss: float) -> float:
    perplexity = _exp(loss)
    if not math.isfinite(perplexity):
        raise EvaluationError(
            f"the loss of held-out text is {loss:,.1f} nats per pair, without a finite perplexity:"
            " the model has diverged"
        )
    return perplexity


def _logsumexp(logits: Tensor) -> Tensor:
    """Return log Σ exp of each row of [n, V] by a softmax, whose largest probability is exp(0) / Σ exp(s - max)."""
    return logits.amax(1) - torch.softmax(logits, 1).amax(1).log()


def unigram(pairs: HeldoutPairs, frequencies: np.ndarray) -> HeldoutResult:
    """Return the result of the model that predicts words by their frequencies, float64 [V], as a baseline.

    It is that of the pairs that are reported, and infinite if an output word of the pairs has frequency zero.
    """
    log_prob = torch.from_numpy(np.log(frequencies / frequencies.sum()))
    reported = ~pairs.validation
    outputs, weights = pairs.outputs[reported], pairs.weights[reported]
    loss = -(log_prob[outputs] * weights).sum() / weights.sum()
    return HeldoutResult(float(loss), _exp(float(loss)), len(outputs))


def _exp(loss: float) -> float:
    """Return exp(loss), or infinity if it exceeds float64."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
