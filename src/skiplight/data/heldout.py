"""The pairs of the held-out text, drawn once for all runs.

They are those that a training would see there on average. Tokens are subsampled as in training. A window of random
half-width from 1 to W contains the neighbour at distance o with a probability of (W - |o| + 1) / W, so every pair
within W has that weight. Pairs do not depend on the seed of the run, so that perplexities are comparable if vocabulary,
subsampling and W are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from skiplight.errors import EvaluationError
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws import EVALUATION_EPOCH, Purpose, mix64
from skiplight.sampling.draws_torch import draw_bits, draw_permutation
from skiplight.sampling.windows import WindowSampler

SEED = 0
"""Seed of the draws of the pairs, the same for every run."""


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
