"""Whether a GPU makes an objective's sums in its kernels or by tensor operations, and in what type; the log says it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def product_type(table: Tensor) -> torch.dtype:
    """The type of a product's factors: what mixed precision wants, or the table's own."""
    device = table.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else table.dtype


def kernels_take(what: str, table: Tensor, problems: Mapping[str, bool]) -> bool:
    """Whether kernels make the sums of `what`.

    Args:
        what: for the log.
        table: on whose device it is to be done.
        problems: what would be in the way, and whether it is.
    """
    if table.device.type != "cuda":
        return False
    return _say(what, tuple(problem for problem, there in problems.items() if there))


@functools.cache
def _say(what: str, problems: tuple[str, ...]) -> bool:
    if find_spec("triton") is None:
        problems += ("the package `triton` is not there",)
    how = f"by tensor operations, since {' and '.join(problems)}" if problems else "in kernels that write no scores"
    log.info("%s %s", what, how)
    return not problems
