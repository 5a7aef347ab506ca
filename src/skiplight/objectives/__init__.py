"""Scoring rules, which define the loss of a window: one interface, one file each.

In come windows and tables; out go losses, their gradients by autograd, and held-out log-probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skiplight.objectives.base import Objective
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.objectives.hierarchical_softmax import HierarchicalSoftmax
from skiplight.objectives.in_batch_softmax import InBatchSoftmax
from skiplight.objectives.nce import NCE
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.objectives.sampled_softmax import SampledSoftmax
from skiplight.objectives.scores import ContrastiveObjective, ScoreObjective
from skiplight.registry import OBJECTIVES
from skiplight.sampling.windows import WindowSampler

__all__ = [
    "NCE",
    "ContrastiveObjective",
    "FullSoftmax",
    "HierarchicalSoftmax",
    "InBatchSoftmax",
    "NegativeSampling",
    "Objective",
    "SampledSoftmax",
    "ScoreObjective",
    "make_objective",
]


def make_objective(name: str, counts: np.ndarray, sampler: WindowSampler, **options: Any) -> Objective:
    """Return the objective registered as `name` for the windows of `sampler`.

    Args:
        name: a name of `skiplight.registry.OBJECTIVES`.
        counts: int64 [V], how often each word occurs.
        sampler: provides the noise distribution of negatives.
        options: the objective's own.

    Raises:
        ConfigError: there is no such objective.
    """
    return OBJECTIVES[name].target.build(counts, sampler, **options)
