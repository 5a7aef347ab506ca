"""What the fused engines are held against: the autograd engine, a window at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from skiplight.engines.autograd import AutogradEngine
from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.objectives.scoring import Scoring
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


def last_digit(scoring: Scoring) -> float:
    """Return how far float32 lets a score stray: the last digit of one as large as these tests' become."""
    shifts = [0.0 if shift is None else np.abs(shift).max() for shift in (scoring.shift, scoring.target_shift)]
    return float(np.finfo(np.float32).eps * (2.5 + max(shifts)))


def adagrad_slack(optimizer: torch.optim.Optimizer, lr: float, digit: float) -> dict[Tensor, Tensor]:
    """Return how far float32 lets an entry of each parameter stray, which grows with every later step of Adagrad.

    Adagrad divides a gradient by its size, and with it the last digit of what the gradient was summed from.
    """
    parameters = [table for group in optimizer.param_groups for table in group["params"]]
    sums = {table: optimizer.state[table]["sum"].clone() for table in parameters}
    slack = {table: torch.zeros_like(table) for table in parameters}

    def after_step(*_: object) -> None:
        for table, before in sums.items():
            now = optimizer.state[table]["sum"]
            slack[table] += torch.where(now > before, lr * digit / now.sqrt(), 0.0)
            before.copy_(now)

    optimizer.register_step_post_hook(after_step)
    return slack


def log_prob_of(objective: Objective, tables: Tables, inputs: Tensor) -> Tensor:
    """Return log p(o | i) of every output word o, [n, V], for n input words, int64 [n]."""
    return torch.log_softmax(objective.logits(tables, inputs), dim=-1)
