"""Held-out likelihood: how well a model predicts text that it was not trained on, exact over the vocabulary.

The pairs of the held-out text are those that a training would see there on average. Tokens are subsampled as in
training. A window of random half-width from 1 to W contains the neighbour at distance o with a probability of
(W - |o| + 1) / W, so every pair within W has that weight. Pairs are drawn once and do not depend on the seed of the
run, so that perplexities are comparable if vocabulary, subsampling and W are the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from skiplight.errors import EvaluationError
from skiplight.objectives.base import Objective, Tables
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws import EVALUATION_EPOCH, Purpose, mix64
from skiplight.sampling.draws_torch import draw_bits, draw_permutation
from skiplight.sampling.windows import WindowSampler

SEED = 0
"""Seed of the draws of the pairs, the same for every run."""

CHUNK = 2**20
"""Logits computed at a time on a CPU: 4 MB, since more would not fit its cache and would be allocated anew each time.
An accelerator computes sixteen times as many, because every chunk needs some kernel launches."""


@dataclasses.dataclass
class HeldoutPairs:
    """Pairs of the held-out text.

    Attributes:
        inputs, outputs: int64 [pairs], sorted by input.
        weights: float64 [pairs], how often a training would see the pair, on average.
    """

    inputs: Tensor
    outputs: Tensor
    weights: Tensor


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


def heldout_pairs(blocks: Iterable[TokenBlock], sampler: WindowSampler, limit: int) -> HeldoutPairs:
    """Return at most `limit` pairs of held-out blocks; reads no more blocks than it needs.

    Raises:
        EvaluationError: there is no held-out text, or it has no pairs.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    found = 0
    for block in blocks:
        parts.append(_pairs(block, sampler))
        found += len(parts[-1][0])
        if found >= limit:
            break
    if found == 0:
        raise EvaluationError("there is no held-out text: raise `data.heldout`, or train on more documents")
    inputs, outputs, weights = (torch.cat(column) for column in zip(*parts, strict=True))
    if found > limit:
        chosen = draw_permutation(found, (SEED, EVALUATION_EPOCH))[:limit]
        inputs, outputs, weights = inputs[chosen], outputs[chosen], weights[chosen]
    order = torch.argsort(inputs, stable=True)
    return HeldoutPairs(inputs[order], outputs[order], weights[order])


def _pairs(block: TokenBlock, sampler: WindowSampler) -> tuple[Tensor, Tensor, Tensor]:
    segment_of = torch.repeat_interleave(torch.arange(len(block.start)), block.segments.diff())
    begin = torch.from_numpy(mix64(block.document.numpy()).view(np.int64)) + block.start - block.segments[:-1]
    place = begin[segment_of] + torch.arange(len(block.ids))
    keep = torch.from_numpy(sampler.keep.astype(np.int64))[block.ids.long()]
    kept = draw_bits((SEED, EVALUATION_EPOCH), place, Purpose.TOKEN)[0] <= keep
    ids, segment_of = block.ids[kept].long(), segment_of[kept]
    inputs, outputs, weights = [], [], []
    for distance in range(1, sampler.window + 1):
        together = segment_of[distance:] == segment_of[:-distance]
        left, right = ids[:-distance][together], ids[distance:][together]
        inputs += [left, right]
        outputs += [right, left]
        weights.append(torch.full((2 * len(left),), (sampler.window - distance + 1) / sampler.window).double())
    return torch.cat(inputs), torch.cat(outputs), torch.cat(weights)


@torch.no_grad()
def heldout(objective: Objective, tables: Tables, pairs: HeldoutPairs) -> HeldoutResult:
    """Return the weighted mean of -log p(o|i) over the pairs; one row of scores serves all pairs of an input word.

    Raises:
        EvaluationError: the loss is NaN, or too large for a finite perplexity.
    """
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
    loss = float(total / pairs.weights.sum())
    perplexity = _exp(loss)
    if not math.isfinite(perplexity):
        raise EvaluationError(
            f"the loss of held-out text is {loss:,.1f} nats per pair, without a finite perplexity:"
            " the model has diverged"
        )
    return HeldoutResult(loss, perplexity, len(pairs.inputs))


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
