"""What the fused engines are held against: the autograd engine, a window at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from skiplight.engines.autograd import AutogradEngine
from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.batches import Windows

Scales = Callable[[float], tuple[Tensor, Tensor]]
"""Gives the factors of the steps of both tables' rows, [V], at a learning rate."""


def one_window_a_step(
    tables: Tables,
    windows: Windows,
    lrs: list[float],
    scales: Scales | None = None,
    objective: Objective | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    turn: Callable[[Windows], Windows] = lambda windows: windows,
) -> tuple[float, int]:
    """Train by the reference engine, by default with negative sampling and plain SGD; return loss and pairs.

    Args:
        turn: is applied to each window.
    """
    optimizer = optimizer or torch.optim.SGD(tables.parameters(), lr=1)
    objective = objective or NegativeSampling(np.ones(len(tables.input.weight)))
    engine = AutogradEngine(objective, tables, optimizer)
    loss, pairs = 0.0, 0
    for i, lr in enumerate(lrs):
        first, last = windows.offsets[i : i + 2].tolist()
        rows = slice(i, i + 1) if windows.shared else slice(first, last)
        one = Windows(
            windows.inputs[first:last], windows.offsets.new_tensor([0, last - first]), windows.target[i : i + 1],
            windows.negatives[rows], windows.mask[rows], windows.block,
        )  # fmt: skip
        optimizer.zero_grad()
        result = engine.step(turn(one), lr, lr)
        assert result.loss is not None
        result.loss.backward()
        before = [table.detach().clone() for table in tables.parameters()] if scales else []
        optimizer.step()
        if scales:
            with torch.no_grad():
                for table, old, scale in zip(tables.parameters(), before, scales(lr), strict=True):
                    table.copy_(old + (table - old) * scale[:, None])
        loss, pairs = loss + float(result.loss_sum), pairs + int(result.pairs)
    return loss, pairs


def log_prob_of(objective: Objective, tables: Tables, inputs: Tensor) -> Tensor:
    """Return log p(o | i) of every output word o, [n, V], for n input words, int64 [n]."""
    return torch.log_softmax(objective.logits(tables, inputs), dim=-1)
