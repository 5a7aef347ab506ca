r"""Softmax over the targets of other windows, with the logQ correction (Yi et al. 2019, "Sampling-bias-corrected neural
modeling for large corpus item recommendations"; importance sampling as in Bengio and Senécal 2008, "Adaptive importance
sampling to accelerate training of a neural probabilistic language model").

Nothing is drawn: the windows of a block are divided into groups, and the targets of a group are the candidates of all
its pairs. A word is a candidate as often as it is a target, so the proposal Q is its share of the kept tokens, and
frequent words would be pushed away too often. With s = u·v_i + b, and m candidates that are not the pair's target o,

    loss = -log( exp(s_o) / (exp(s_o) + Σ_k exp(c_k)) ),    c_k = s_k - log(m·Q(k) / (1 - Q(o))).

Candidates that equal the target, accidental hits, are left out. The denominator is then an unbiased estimate of the
softmax's, and the gradient converges to the full softmax's as groups grow; for small groups it is biased. (Yi et al.
correct the score of the target as well. Once the hits are left out, that would not converge to the softmax: the target
is always a candidate, so its expected count is 1.)

Neighbouring windows have related targets, which are no random words. So a group takes windows at equal distances over
the whole block: of n groups, window w belongs to group w mod n. The candidates depend on the block, and so on
`data.block_tokens` and on the number of ranks, unlike drawn negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skiplight.objectives.base import Bias, Gradients, Loss, Objective, Tables, at_least_float32, empty_loss
from skiplight.objectives.sampled_softmax import log_others
from skiplight.objectives.scores import multiply_rows
from skiplight.registry import option, register_objective
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import WindowSampler


@dataclass
class InBatchOptions:
    """Options of `objective=in_batch_softmax`."""

    group: int = option(128, "windows whose targets are each other's negatives", low=2, high=1024)


@register_objective("in_batch_softmax", options=InBatchOptions)
class InBatchSoftmax(Objective):
    """Softmax over the targets of a group of windows.

    Args:
        proposal: the share Q of each word among the targets, float64 [V].
        group: the most windows of a group.
    """

    needs_noise: ClassVar[bool] = False
    default_bias: ClassVar[Bias] = "learned"
    couples_windows: ClassVar[bool] = True

    log_proposal: Tensor
    log_others: Tensor

    def __init__(self, proposal: np.ndarray, group: int = 128) -> None:
        super().__init__()
        self.group = group
        self._constant("log_proposal", np.log(proposal))
        self._constant("log_others", log_others(proposal))

    @classmethod
    def build(cls, counts: np.ndarray, sampler: WindowSampler, **options: Any) -> Self:
        return cls(sampler.frequency, **options)

    def scores_per_pair(self, sampler: WindowSampler) -> float:
        return float(self.group)

    def groups(self, windows: int, device: torch.device) -> Tensor:
        """Return the numbers of the windows of each group, int64 [groups, slots]; too large ones for empty slots."""
        groups = -(-windows // self.group)
        slots = -(-windows // groups)
        return torch.arange(groups * slots, device=device).view(slots, groups).T

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        window = self.groups(len(windows.target), windows.target.device)
        there = window < len(windows.target)
        window = window.clamp(max=len(windows.target) - 1)
        words = windows.target[window].long()  # [groups, slots]

        sizes = windows.offsets.diff()[window]
        slot = torch.arange(int(sizes.max()), device=sizes.device)
        used = (slot < sizes[:, :, None]) & there[:, :, None]
        pair = (windows.offsets[window][:, :, None] + slot).clamp_(max=windows.pairs - 1)
        inputs = windows.inputs[pair]  # [groups, slots, C]

        scores = at_least_float32(multiply_rows(tables.output(words), tables.input(inputs.flatten(1))))
        if tables.bias is not None:
            scores = scores + tables.bias(words)
        scores = scores.view(*words.shape, *inputs.shape[1:])  # [groups, candidates, windows, C]
        corrected = scores + self._added(words, there)[:, :, :, None]
        losses = torch.logsumexp(corrected, dim=1) - scores.diagonal(dim1=1, dim2=2).transpose(1, 2)
        return Loss(losses[used].sum(dtype=torch.float64), windows.pairs)

    def _added(self, words: Tensor, there: Tensor) -> Tensor:
        """Return what is added to the score of each candidate in each window, [groups, candidates, windows].

        Args:
            words: int64 [groups, slots], the target of each window.
            there: bool [groups, slots], whether there is a window.
        """
        others = there[:, :, None] & (words[:, :, None] != words[:, None, :])
        number = others.sum(1, keepdim=True).clamp(min=1).log()
        added = self.log_others[words][:, None, :] - number - self.log_proposal[words][:, :, None]
        own = torch.eye(words.shape[1], dtype=torch.bool, device=words.device)
        return added.masked_fill(~others, -torch.inf).masked_fill(own, 0.0)

    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        inputs = torch.bincount(windows.inputs, minlength=len(tables.input.weight))
        # Each pair has one probability to distribute, which a target gets on average as often as it has pairs.
        sizes = windows.offsets.diff().double()
        outputs = torch.bincount(windows.target, weights=sizes, minlength=len(tables.output.weight))
        return Gradients(4.0 * inputs, 4.0 * outputs)
