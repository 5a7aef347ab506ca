"""Sum of gradients over the ranks before every step: of touched rows only, or of all rows if that sends less.

NCCL has no sparse all-reduce, so every rank gathers rows with their ids and adds them up in the order of ranks: all get
the same bits. Losses and gradients are sums over pairs, so n ranks take the steps that one process would take with all
their blocks.

For a table of V rows of length d, of which no rank touched more than r, a rank receives (n - 1)·r·(d + 2) numbers; a
ring all-reduce of all rows passes 2·(n - 1)/n·V·(d + 1) through each rank.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from skiplight.distributed.strategy import RankStrategy
from skiplight.engines.sparse_rows import summed_by_row

_DENSE = -1


class GradientExchange(RankStrategy):
    """The strategy for engines whose tables move in the optimiser's step."""

    name: ClassVar[str] = "gradient_exchange"

    def post_backward(self, closure_loss: Tensor) -> None:
        super().post_backward(closure_loss)
        module = self.skipgram
        tables = [table for table in module.tables.parameters() if table.requires_grad]
        touched = [_touched(table) for table in tables]
        sizes = self.gather_counts([_DENSE if rows is None else len(rows) for rows in touched])
        for table, rows, size in zip(tables, touched, sizes.T.tolist(), strict=True):
            counts = module.gradient_counts.get(table)
            most, (height, width) = max(size), table.shape
            if rows is None or min(size) == _DENSE or self.world_size * most * (width + 2) >= 2 * height * (width + 1):
                self._sum_all(table, counts, sparse=min(size) != _DENSE and module.tables.sparse)
            else:
                self._sum_rows(table, rows, counts, size)

    def _sum_all(self, table: Tensor, counts: Tensor | None, sparse: bool) -> None:
        gradient = torch.zeros_like(table) if table.grad is None else table.grad
        gradient = gradient.to_dense() if gradient.is_sparse else gradient
        for summed in (gradient, counts):
            if summed is not None:
                dist.all_reduce(summed)
                self.bytes_sent += 2 * (self.world_size - 1) * summed.nbytes // self.world_size
        table.grad = gradient.to_sparse(1) if sparse else gradient

    def _sum_rows(self, table: Tensor, rows: Tensor, counts: Tensor | None, sizes: list[int]) -> None:
        """Sum the gradients of touched rows.

        Args:
            table: float [V, d].
            rows: int64, the rows that this rank has touched, ascending.
            counts: float32 [V], the number of gradients summed in each row; None if no engine needs it.
            sizes: the number of rows that each rank has touched.
        """
        most, width = max(sizes), table.shape[1]
        ids = rows.new_zeros(most, dtype=torch.int32)
        values = table.new_zeros(most, width + (counts is not None))
        if len(rows):
            assert table.grad is not None
            ids[: len(rows)] = rows
            values[: len(rows), :width] = table.grad._values() if table.grad.is_sparse else table.grad[rows]
            if counts is not None:
                values[: len(rows), width] = counts[rows]
        # Backends gather parts of equal size, so parts are padded. The padding is removed afterwards, since a zero
        # gradient for row 0 would make momentum move that row.
        all_ids, all_values = self._gathered(ids, sizes), self._gathered(values, sizes)
        summed = summed_by_row(torch.sparse_coo_tensor(all_ids.long()[None], all_values, (len(table), values.shape[1])))
        indices, values = summed.indices(), summed.values()
        if counts is not None:
            counts.zero_()[indices[0]] = values[:, width]
        gradient = torch.sparse_coo_tensor(indices, values[:, :width], table.shape, is_coalesced=True)
        table.grad = gradient if self.skipgram.tables.sparse else gradient.to_dense()

    def _gathered(self, own: Tensor, sizes: list[int]) -> Tensor:
        """Return the first `sizes[rank]` rows of every rank's `own`, one rank after the other."""
        gathered = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(gathered, own)
        self.bytes_sent += (self.world_size - 1) * own.nbytes
        return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])


def _touched(table: Tensor) -> Tensor | None:
    """Return the rows of a table that have a gradient, ascending; None for a dense gradient of many rows."""
    if table.grad is None:  # this rank had no block
        return torch.zeros(0, dtype=torch.int64, device=table.device)
    if table.grad.is_sparse:
        table.grad = summed_by_row(table.grad)
        return table.grad.indices()[0]
    rows = table.grad.ne(0).any(1).nonzero().squeeze(1)
    return rows if len(rows) < len(table) // 2 else None
