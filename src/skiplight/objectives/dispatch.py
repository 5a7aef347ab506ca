"""Choice between Triton kernels and tensor operations for an objective's sums on a GPU, which is logged."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def product_type(table: Tensor) -> torch.dtype:
    """Return the type of a product's factors: that of mixed precision where it is on, else the table's own."""
    device = table.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else table.dtype


def use_kernels(objective: str, table: Tensor, problems: Mapping[str, bool]) -> bool:
    """Return whether kernels compute an objective's sums, and log the choice once.

    Args:
        objective: its name for the log.
        table: on the device of the computation.
        problems: each reason against the kernels, and whether it holds.
    """
    if table.device.type != "cuda":
        return False
    return _log_choice(objective, tuple(problem for problem, holds in problems.items() if holds))


@functools.cache
def _log_choice(objective: str, problems: tuple[str, ...]) -> bool:
    if find_spec("triton") is None:
        problems += ("the package `triton` is not installed",)
    how = f"by tensor operations, since {' and '.join(problems)}" if problems else "in kernels that write no scores"
    log.info("%s %s", objective, how)
    return not problems
