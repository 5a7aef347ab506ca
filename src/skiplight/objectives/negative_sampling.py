r"""Negative sampling (Mikolov et al. 2013, "Distributed representations of words and phrases...", equation 4).

For an observed pair of an input word i and an output word o, and K noise words k drawn from P_n,

    loss = -log σ(u_o·v_i) - Σ_k log σ(-u_k·v_i).

It is minimised where u_o·v_i = log p(o|i) - log(K·P_n(o)) (Levy and Goldberg 2014, "Neural word embedding as implicit
matrix factorization"), exactly if the noise may also draw the target. The likelihood of the model is therefore that of
softmax(u_o·v_i + log P_n(o)); without the correction it would be too low. Where the target is excluded from the noise,
the correction is approximate.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from skiplight.objectives.base import Loss, Tables, empty_loss
from skiplight.objectives.scores import ContrastiveObjective, score_candidates
from skiplight.objectives.scoring import Scoring, score_candidates_of
from skiplight.registry import register_objective
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import WindowSampler


@register_objective("negative_sampling")
class NegativeSampling(ContrastiveObjective):
    """Negative sampling as defined by Mikolov et al.

    Args:
        noise: the probabilities P_n of the noise distribution, float64 [V], which `logits` needs.

    >>> from skiplight.sampling.batches import TokenBlock
    >>> from skiplight.sampling.windows import WindowSampler
    >>> import numpy as np
    >>> sampler = WindowSampler(np.array([4, 3, 2]), window=2, subsample=0, negatives=5)
    >>> objective = NegativeSampling(sampler.noise.probabilities)
    >>> loss = objective.loss(Tables(vocabulary=3, dim=8), sampler(TokenBlock.of([[0, 1, 2, 0]])))
    >>> round(loss.sum.item() / loss.pairs, 4)  # outputs start at zero: (1 + 5) · log 2
    4.1589
    """

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        _, scores, counted = score_candidates(tables, windows)
        return Loss(logistic_loss(scores, counted), windows.pairs)

    def scoring(self, sampler: WindowSampler) -> Scoring:
        return score_candidates_of(sampler, 1 + sampler.negatives)

    def logits(self, tables: Tables, inputs: Tensor) -> Tensor:
        return super().logits(tables, inputs).add_(self.log_noise)


def logistic_loss(scores: Tensor, counted: Tensor) -> Tensor:
    """Return the sum of -log σ(s) over targets (slot 0) and -log σ(-s) over negatives, [..., 1 + K, C], where counted.

    The sum is float64, since a step may have millions of terms.
    """
    sign = scores.new_full((scores.shape[1], 1), -1.0)
    sign[0] = 1.0
    return -(F.logsigmoid(scores * sign) * counted).sum(dtype=torch.float64)
