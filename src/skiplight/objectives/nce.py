r"""Noise-contrastive estimation (Gutmann and Hyvärinen 2010; for words Mnih and Teh 2012, "A fast and simple algorithm
for training neural probabilistic language models").

The model is log p(o|i) = s(i, o) = u_o·v_i + b_o, without a normalising sum. The loss of a classifier that separates an
observed output word from K noise words drawn from P_n,

    loss = -log σ(s(i,o) - log(K·P_n(o))) - Σ_k log σ(log(K·P_n(k)) - s(i,k)),

is minimised exactly where s = log p(o|i), for every K. The probabilities sum to 1 only in the limit, so evaluation
normalises them. The correction log(K·P_n) is the only difference from negative sampling, and the reason why NCE
estimates probabilities. It is exact where the noise may draw the target (`noise.exclude=none`); with the target
excluded, P_n(o) is wrong by a factor near 1.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from skiplight.objectives.base import Bias, Loss, Tables, empty_loss
from skiplight.objectives.negative_sampling import logistic_loss
from skiplight.objectives.scores import ContrastiveObjective, score_candidates
from skiplight.objectives.scoring import Scoring, score_candidates_of
from skiplight.registry import register_objective
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import Exclude, WindowSampler


@register_objective("nce")
class NCE(ContrastiveObjective):
    """Noise-contrastive estimation.

    Args:
        noise: the probabilities P_n of the noise distribution, float64 [V].
    """

    default_bias: ClassVar[Bias] = "learned"
    default_exclude: ClassVar[Exclude] = "none"
    corrects_noise: ClassVar[bool] = True

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        words, scores, counted = score_candidates(tables, windows)
        expected = self.log_noise[words] + math.log(windows.negatives.shape[1])
        return Loss(logistic_loss(scores - expected[:, :, None], counted), windows.pairs)

    def scoring(self, sampler: WindowSampler) -> Scoring:
        expected = self.log_noise.cpu().numpy() + np.float32(math.log(sampler.negatives))
        return dataclasses.replace(score_candidates_of(sampler, 1 + sampler.negatives), shift=-expected)
