"""A plug-in for skiplight: one noise distribution and two objectives, registered when it is imported.

pip install scripts/examples/plugin
skiplight sweep data=files data.path=text.txt noise.name=power,clipped study.sampler=grid run_dir=runs/noise
skiplight train data=files data.path=text.txt objective=info_nce objective.temperature=0.5 optim.name=adagrad
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import skiplight
from skiplight.registry import option


@dataclass
class ClippedOptions:
    """Options of `noise=clipped`, with ranges and help."""

    quantile: float = option(0.9, "counts above this quantile are drawn as often as those at it", low=0, high=1)


@skiplight.register_noise("clipped", options=ClippedOptions)
def clipped(counts: np.ndarray, quantile: float) -> np.ndarray:
    """Return the counts, none above a quantile of them: the most frequent words are not drawn all the time."""
    return np.minimum(counts, np.quantile(counts, quantile))


@skiplight.register_objective("info_nce")
class InfoNCE(skiplight.ScoreObjective):
    """InfoNCE: the softmax over a pair's target and negatives (van den Oord et al. 2018, "Representation learning with
    contrastive predictive coding").

    Args:
        noise: float64 [V], the noise distribution.
        temperature: divides the scores.
    """

    def __init__(self, noise: np.ndarray, *, temperature: float = 1.0) -> None:
        super().__init__(noise)
        if temperature <= 0 or not math.isfinite(temperature):
            raise ValueError(f"`objective.temperature={temperature}` must be above 0")
        self.temperature = temperature

    def score_loss(self, scores: Tensor, counted: Tensor) -> Tensor:
        """Return -Σ log softmax of the target."""
        scores = torch.where(counted, scores / self.temperature, -torch.inf)
        pair = counted[:, 0]  # the target counts in every pair
        return (torch.logsumexp(scores, 1)[pair] - scores[:, 0][pair]).sum(dtype=torch.float64)


@skiplight.register_objective("margin")
class Margin(skiplight.ScoreObjective):
    """A ranking loss: each negative should score lower than the target by a margin (Weston et al. 2011, "WSABIE").

    Args:
        noise: float64 [V], the noise distribution.
        margin: the margin.
    """

    def __init__(self, noise: np.ndarray, *, margin: float = 1.0) -> None:
        super().__init__(noise)
        self.margin = margin

    def score_loss(self, scores: Tensor, counted: Tensor) -> Tensor:
        """Return Σ max(0, margin - target + negative)."""
        short = (self.margin - scores[:, :1] + scores[:, 1:]).clamp(min=0)
        return (short * counted[:, 1:]).sum(dtype=torch.float64)
