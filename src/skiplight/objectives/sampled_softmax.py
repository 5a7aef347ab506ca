r"""Sampled softmax with the logQ correction (Bengio and Senécal 2008; Jean et al. 2015, "On using very large target
vocabulary for neural machine translation").

The softmax over the vocabulary is replaced by one over the target and K candidates drawn from a proposal Q, each score
s = u·v_i + b less the logarithm of how often its word is expected among the candidates:

    loss = -log( exp(c_o) / (exp(c_o) + Σ_k exp(c_k)) ).

What that correction is depends on whether a draw may be the target ("accidental hits"):

- Hits kept (`noise.exclude=none`): c = s - log Q for target and candidates alike. The optimum is s = log p(o|i) up to
  a constant of each input word, for every K: the loss is exactly that of telling which of K + 1 words was observed
  (Ma and Collins 2018, "Noise contrastive estimation and negative sampling for conditional models", the ranking form).
- Hits removed (`noise.exclude=target`): the target is there for certain and keeps its score, c_o = s; a candidate has
  c_k = s - log(K·Q(k) / (1 - Q(o))). The denominator is then an unbiased estimate of the softmax's own, and the
  gradient tends to the full softmax's as K grows; for small K it is biased.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skiplight.objectives.base import Bias, Gradients, Loss, Objective, Tables, empty_loss
from skiplight.objectives.dispatch import kernels_take, product_type
from skiplight.objectives.scores import candidates, contrast, contrast_gradients
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import Exclude

LARGEST = 2**13
"""Numbers of the context vectors of a window, up to which a GPU's kernels keep them and their gradient in registers."""


def longest_row(windows: Windows) -> int:
    """The most context words that are scored with the same candidates."""
    return int(windows.offsets.diff().max()) if windows.shared else 1


def round_up(size: int) -> int:
    """The size of a tile that is a power of two, and at least what tensor cores multiply."""
    return max(16, 1 << (size - 1).bit_length())


class SampledSoftmax(Objective):
    """Softmax over the target and K sampled words.

    Args:
        proposal: the probabilities Q that candidates are drawn with, float64 [V].
        hits: whether a candidate may be the target.
    """

    needs_noise: ClassVar[bool] = True
    default_bias: ClassVar[Bias] = "learned"
    default_exclude: ClassVar[Exclude] = "none"

    log_proposal: Tensor
    log_others: Tensor

    def __init__(self, proposal: np.ndarray, hits: bool = True) -> None:
        super().__init__()
        self.hits = hits
        self._constant("log_proposal", np.log(proposal))
        self._constant("log_others", np.log1p(-np.minimum(proposal, 1 - 1e-12)))  # log of all the rest's share

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        return (self.loss_on_chip if self._on_chip(tables, windows) else self.loss_by_tensors)(tables, windows)

    def loss_by_tensors(self, tables: Tables, windows: Windows) -> Loss:
        """The loss of some windows in plain PyTorch."""
        words, scores, counted = contrast(tables, windows)
        corrected = scores - self._log_expected(words, windows.mask)[:, :, None]
        corrected = torch.where(counted, corrected, -torch.inf)
        pair = counted[:, 0]  # the target counts wherever there is a pair
        losses = torch.logsumexp(corrected, dim=1)[pair] - corrected[:, 0][pair]
        return Loss(losses.sum(dtype=torch.float64), windows.pairs)

    def loss_on_chip(self, tables: Tables, windows: Windows) -> Loss:
        """The same by a GPU's kernels, which write no scores."""
        from skiplight.objectives.sampled_softmax_triton import CandidatesLoss

        words, there = candidates(windows)
        added = -self._log_expected(words.long(), windows.mask)
        if tables.bias is not None:
            added = added + tables.bias(words).squeeze(2)
        added = added.masked_fill(~there, -torch.inf)
        ends = windows.offsets if windows.shared else torch.arange(windows.pairs + 1, device=added.device)
        input, output = tables.input.weight, tables.output.weight
        room = round_up(longest_row(windows))
        loss = CandidatesLoss.apply(
            input, output, added, windows.inputs, ends, words, room, product_type(input), tables.sparse
        )
        return Loss(loss, windows.pairs)

    @staticmethod
    def _on_chip(tables: Tables, windows: Windows) -> bool:
        if tables.input.weight.device.type != "cuda":
            return False
        longest, dim = longest_row(windows), tables.input.weight.shape[1]
        room = round_up(longest) * round_up(dim) <= LARGEST
        return kernels_take(
            "sampled softmax", tables.input.weight, {f"{longest} context vectors of {dim} numbers are many": not room}
        )

    def _log_expected(self, words: Tensor, mask: Tensor) -> Tensor:
        """log of how often each of `words`, [rows, 1 + K], is expected among the candidates, up to a constant."""
        log_q = self.log_proposal[words]
        if self.hits:
            return log_q
        drawn = mask.sum(1, keepdim=True).clamp(min=1).log()
        log_q = log_q + drawn - self.log_others[words[:, :1]]
        log_q[:, 0] = 0.0
        return log_q

    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        return contrast_gradients(tables, windows, min(4, 1 + windows.negatives.shape[1]))
