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
from skiplight.objectives.scores import contrast, contrast_gradients
from skiplight.sampling.batches import Windows


class SampledSoftmax(Objective):
    """Softmax over the target and K sampled words.

    Args:
        proposal: the probabilities Q that candidates are drawn with, float64 [V].
        hits: whether a candidate may be the target.
    """

    needs_noise: ClassVar[bool] = True
    default_bias: ClassVar[Bias] = "learned"

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
        words, scores, counted = contrast(tables, windows)
        corrected = scores - self._log_expected(words, windows.mask)[:, :, None]
        corrected = torch.where(counted, corrected, -torch.inf)
        pair = counted[:, 0]  # the target counts wherever there is a pair
        losses = torch.logsumexp(corrected, dim=1)[pair] - corrected[:, 0][pair]
        return Loss(losses.sum(dtype=torch.float64), windows.pairs)

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
