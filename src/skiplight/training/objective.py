"""The objective of a run, which is tried on a few windows where a plug-in brings it."""

from __future__ import annotations

import numpy as np
import torch

from skiplight.config.schema import Config
from skiplight.errors import ConfigError
from skiplight.objectives import make_objective
from skiplight.objectives.base import Objective, Tables
from skiplight.registry import OBJECTIVES, own_options
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.noise import STAGES
from skiplight.sampling.windows import WindowSampler


def build_objective(config: Config, counts: np.ndarray, sampler: WindowSampler) -> Objective:
    """Return the objective of a run, which was tried on a few windows if a plug-in brings it.

    Raises:
        ConfigError: it cannot be made, or its loss is no scalar or has no gradient.
    """
    entry = OBJECTIVES[config.objective.name]
    where = f"`objective={entry.name}` ({entry.plugin})"
    if entry.target.corrects_noise and not _has_every_word(sampler):
        raise ConfigError(f"`noise={config.noise.name}` has words of weight 0, and {where} needs log P_n of every word")
    if sampler.annealed is not None and entry.target.corrects_noise and entry.target.set_noise is Objective.set_noise:
        raise ConfigError(
            f"`noise={config.noise.name}` changes during the training, and {where} has no method `set_noise` to follow"
            " its log P_n: write one, or choose another `noise`"
        )
    try:
        objective = make_objective(entry.name, counts, sampler, **own_options("objective", config.objective))
        if not entry.is_built_in:
            _try_objective(objective, counts, sampler)
    except Exception as error:
        if entry.is_built_in:
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ConfigError(f"{where}: {kind}{error}") from error
    return objective


def _has_every_word(sampler: WindowSampler) -> bool:
    """Return whether the noise gives every word a probability above 0, in every stage of one that changes."""
    if sampler.annealed is None:
        return bool(sampler.noise.probabilities.all())
    return all(sampler.annealed.probabilities(stage).all() for stage in range(STAGES))


def _try_objective(objective: Objective, counts: np.ndarray, sampler: WindowSampler) -> None:
    """Compute the loss of a few windows and its gradient.

    Raises:
        ValueError: the loss is no finite scalar, or has no gradient; or the objective has parameters of its own.
    """
    if "_parameters" not in vars(objective):
        raise ValueError("its `__init__` must call `super().__init__(noise)` first")
    if own := [name for name, _ in objective.named_parameters()]:
        raise ValueError(f"it has parameters of its own, {', '.join(own)}, which nothing trains: make them options")
    rows = objective.output_rows(len(counts))
    tables = Tables(len(counts), 2, rows, sparse=False, bias=torch.zeros(rows))
    torch.nn.init.uniform_(tables.output.weight, generator=torch.Generator().manual_seed(0))
    # Subsampling may drop frequent words, so many words are offered.
    windows = sampler(TokenBlock.of([list(range(min(len(counts), 1000)))]))
    loss = objective.loss(tables, windows)
    if not isinstance(loss.sum, torch.Tensor) or loss.sum.ndim != 0:
        shape = tuple(loss.sum.shape) if isinstance(loss.sum, torch.Tensor) else type(loss.sum).__name__
        raise ValueError(f"its loss must be one number, the sum over pairs, not of shape {shape}")
    if not loss.sum.isfinite():
        raise ValueError(f"its loss of a few windows is {loss.sum.item()}")
    if not loss.sum.requires_grad:
        raise ValueError("its loss has no gradient: compute it from the scores by operations of torch")
    loss.sum.backward()
    if tables.output.weight.grad is None or not tables.output.weight.grad.isfinite().all():
        raise ValueError("the gradient of its loss is missing or not finite")
