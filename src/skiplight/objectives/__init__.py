"""Scoring rules, which define the loss of a window: one interface, one file each."""

from __future__ import annotations

import numpy as np

from skiplight.errors import ConfigError
from skiplight.objectives.base import Objective
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.objectives.hierarchical_softmax import HierarchicalSoftmax
from skiplight.objectives.nce import NCE
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.objectives.sampled_softmax import SampledSoftmax
from skiplight.sampling.windows import WindowSampler

OBJECTIVES: dict[str, type[Objective]] = {
    "negative_sampling": NegativeSampling,
    "nce": NCE,
    "sampled_softmax": SampledSoftmax,
    "full_softmax": FullSoftmax,
    "hierarchical_softmax": HierarchicalSoftmax,
}


def make_objective(name: str, counts: np.ndarray, sampler: WindowSampler, chunk: int | None = None) -> Objective:
    """Return the objective called `name` for the windows of `sampler`.

    Args:
        name: a key of `OBJECTIVES`.
        counts: int64 [V], how often each word occurs.
        sampler: provides the noise distribution of negatives.
        chunk: rows of logits computed at a time by full softmax.

    Raises:
        ConfigError: there is no such objective.
    """
    noise = sampler.noise.probabilities
    if name == "negative_sampling":
        return NegativeSampling(noise)
    if name == "nce":
        return NCE(noise)
    if name == "sampled_softmax":
        return SampledSoftmax(noise, accidental_hits=sampler.exclude == "none")
    if name == "full_softmax":
        return FullSoftmax(chunk)
    if name == "hierarchical_softmax":
        return HierarchicalSoftmax(counts)
    raise ConfigError(f"`objective={name}` is none of {', '.join(OBJECTIVES)}")
