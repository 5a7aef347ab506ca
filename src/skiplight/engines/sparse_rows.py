"""The sum of a sparse gradient's rows, of which there is one per use of a word; faster than `Tensor.coalesce`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def summed_by_row(gradient: Tensor) -> Tensor:
    """Return the coalesced form of a sparse gradient [V, d]: each touched row once, in ascending order.

    On a CPU, sorts the row indices and sums the values by torch's embedding bag, which uses several threads.
    """
    if gradient.is_coalesced() or gradient.device.type != "cpu":
        return gradient.coalesce()
    ids, order = gradient._indices()[0].sort(stable=True)
    rows, uses = torch.unique_consecutive(ids, return_counts=True)
    values = functional.embedding_bag(order, gradient._values(), uses.cumsum(0) - uses, mode="sum")
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, is_coalesced=True, check_invariants=False)
