"""The pairs of the held-out text, drawn once for all runs.

They are those that a training would see there on average. Tokens are subsampled as in training. A window of random
half-width from 1 to W contains the neighbour at distance o with a probability of (W - |o| + 1) / W, so every pair
within W has that weight. Pairs do not depend on the seed of the run, so that perplexities are comparable if vocabulary,
subsampling and W are the same.

What is chosen by a score looks better by that score than it is. So a part of the held-out text, the validation part,
may be kept for choosing between runs (`evaluation.validation`), and the rest for reporting what was chosen. The text is
divided by passages of 100 tokens; a pair across the end of one belongs to its left word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from skiplight.errors import EvaluationError
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws import EVALUATION_EPOCH, Purpose, mix64, thresholds_below
from skiplight.sampling.draws_torch import draw_bits, draw_permutation
from skiplight.sampling.windows import WindowSampler

PASSAGE = 100
"""Tokens of a passage, which belongs to the validation part or to the rest."""

SEED = 0
"""Seed of the draws of the pairs, the same for every run."""


@dataclasses.dataclass
class HeldoutPairs:
    """Pairs of the held-out text.

    Attributes:
        inputs, outputs: int64 [pairs], sorted by input.
        weights: float64 [pairs], how often a training would see the pair, on average.
        validation: bool [pairs], whether it belongs to the validation part.
    """

    inputs: Tensor
    outputs: Tensor
    weights: Tensor
    validation: Tensor


def heldout_pairs(
    blocks: Iterable[TokenBlock], sampler: WindowSampler, limit: int, validation: float = 0.0
) -> HeldoutPairs:
    """Return at most `limit` pairs of held-out blocks; reads no more blocks than it needs.

    Args:
        blocks: the held-out text.
        sampler: of the run.
        limit: most pairs, of both parts together.
        validation: share of the passages in the validation part.

    Raises:
        EvaluationError: there is no held-out text, or it has no pairs, or none of one part.
    """
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    found = 0
    for block in blocks:
        parts.append(_pairs(block, sampler, validation))
        found += len(parts[-1][0])
        if found >= limit:
            break
    if found == 0:
        raise EvaluationError("there is no held-out text: raise `data.heldout`, or train on more documents")
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    if found > limit:
        chosen = draw_permutation(found, (SEED, EVALUATION_EPOCH))[:limit]
        columns = [column[chosen] for column in columns]
    order = torch.argsort(columns[0], stable=True)
    pairs = HeldoutPairs(*(column[order] for column in columns))
    if validation and (pairs.validation.all() or not pairs.validation.any()):
        raise EvaluationError(
            f"the held-out text is too short to be divided by `evaluation.validation={validation:g}`: raise"
            " `data.heldout` or `evaluation.heldout_pairs`"
        )
    return pairs


def _pairs(block: TokenBlock, sampler: WindowSampler, validation: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    segment_of = torch.repeat_interleave(torch.arange(len(block.start)), block.segments.diff())
    document = torch.from_numpy(mix64(block.document.numpy()).view(np.int64))[segment_of]
    offset = (block.start - block.segments[:-1])[segment_of] + torch.arange(len(block.ids))
    place = document + offset
    keep = torch.from_numpy(sampler.keep.astype(np.int64))[block.ids.long()]
    kept = draw_bits((SEED, EVALUATION_EPOCH), place, Purpose.TOKEN)[0] <= keep
    ids, segment_of = block.ids[kept].long(), segment_of[kept]
    draws = draw_bits((SEED, EVALUATION_EPOCH), (document + offset // PASSAGE)[kept], Purpose.SPLIT)[0]
    in_validation = draws < int(thresholds_below(np.array(validation)))
    inputs, outputs, weights, chooses = [], [], [], []
    for distance in range(1, sampler.window + 1):
        together = segment_of[distance:] == segment_of[:-distance]
        left, right = ids[:-distance][together], ids[distance:][together]
        inputs += [left, right]
        outputs += [right, left]
        weights.append(torch.full((2 * len(left),), (sampler.window - distance + 1) / sampler.window).double())
        chooses += [in_validation[:-distance][together]] * 2
    return torch.cat(inputs), torch.cat(outputs), torch.cat(weights), torch.cat(chooses)
