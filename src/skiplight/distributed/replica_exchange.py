"""Exchange of the changes that replicas have made to their tables since the last exchange."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from skiplight.distributed.reconciliation import Reconciler

CHUNK = 1 << 19
"""Numbers in one part of an exchange; the ranks of a machine take turns with the parts."""


class _Part(NamedTuple):
    """A pending exchange of some rows of a table."""

    table: int
    rows: slice
    added: Tensor
    """The change of this replica."""
    summed: Tensor
    """The sum of all replicas' changes when `work` is done; may be `added` itself."""
    travel: Tensor
    """lr·n of each row (`Reconciler.travel`)."""
    work: dist.Work


class ReplicaExchange:
    """Exchange rows of this replica's tables with the other replicas, and combine the changes by `reconciliation`.

    Args:
        reconciler: measures curvatures and combines changes.
        tables: the tables that this replica moves.
        base: their values after the last exchange; shared by the ranks of a machine if the tables are.
        peers: the process group of the ranks that exchange the same rows, one per replica.
        turn: index of this rank among those that share its tables, and their number.
        wait_for_machine: waits until no rank of this machine moves or reads the tables.

    Attributes:
        bytes_sent: bytes that this rank has sent so far, counted as for a ring.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        tables: Sequence[torch.nn.Parameter],
        base: list[Tensor],
        peers: Any,
        turn: tuple[int, int],
        wait_for_machine: Callable[[], None],
    ) -> None:
        self.reconciler, self.base, self.bytes_sent = reconciler, base, 0
        self._parameters, self._peers, self._turn = tables, peers, turn
        self._wait_for_machine = wait_for_machine
        self._pending: collections.deque[_Part] = collections.deque()

    def exchange(self, rows: tuple[int, int], in_turns: bool) -> None:
        """Exchange the first rows of both tables.

        Args:
            rows: the number of rows of each table.
            in_turns: whether to finish the exchange now; otherwise the next call applies it to the tables.
        """
        self._finish()
        self._begin(rows, in_turns)
        if in_turns:
            self._finish()
        # After the last part, since an exchange of all rows resets the measurements.
        self.reconciler.exchanged(rows)
        if in_turns:
            self._wait_for_machine()

    @torch.no_grad()
    def _begin(self, rows: tuple[int, int], in_turns: bool) -> None:
        """Begin to exchange the first rows of both tables; with `in_turns`, at most two parts at once."""
        self._wait_for_machine()
        tables = self._tables()
        self._measure(tables, rows)
        self._wait_for_machine()  # until all have measured
        for number, (table, base, count) in enumerate(zip(tables, self.base, rows, strict=True)):
            for part in _parts(count, table.shape[1], *self._turn):
                added = table[part] - base[part]
                summed = added if in_turns else added.clone()
                work = self._sum(summed)
                self._pending.append(_Part(number, part, added, summed, self.reconciler.travel(number, part), work))
                if in_turns and len(self._pending) > 1:
                    self._finish(1)

    def _sum(self, added: Tensor) -> dist.Work:
        """Begin to sum the replicas' changes, in place."""
        work = dist.all_reduce(added, group=self._peers, async_op=True)
        assert work is not None
        replicas = self.reconciler.replicas
        self.bytes_sent += 2 * (replicas - 1) * added.nbytes // replicas
        return work

    def _measure(self, tables: list[Tensor], due: tuple[int, int]) -> None:
        """Measure the curvatures, with the same result on all replicas."""
        chosen = self.reconciler.rows
        bases = [base[rows] for base, rows in zip(self.base, chosen, strict=True)]
        summed = torch.cat([table[rows] for table, rows in zip(tables, chosen, strict=True)]) - torch.cat(bases)
        self._sum(summed).wait()
        self.reconciler.measure(bases, summed.split([len(base) for base in bases]), due)
        # The measurements are equal up to rounding, which may differ between processors.
        for curvature in self.reconciler.curvatures:
            both = torch.cat([curvature.values[None], curvature.directions])
            dist.broadcast(both, dist.get_global_rank(self._peers, 0), group=self._peers)
            curvature.values, curvature.directions = both[0], both[1:]
        caution = torch.tensor(self.reconciler.caution, device=summed.device)
        dist.broadcast(caution, dist.get_global_rank(self._peers, 0), group=self._peers)
        self.reconciler.caution = float(caution)

    @torch.no_grad()
    def _finish(self, count: int | None = None) -> None:
        """Apply the exchanges of the first `count` parts, or of all, to the tables."""
        tables = self._tables()
        for _ in range(len(self._pending) if count is None else count):
            part = self._pending.popleft()
            part.work.wait()
            change = self.reconciler.combine(part.table, part.summed, part.travel)
            table, base = (rows[part.table][part.rows] for rows in (tables, self.base))
            base.add_(change)
            if part.summed is part.added:  # the table has not moved: the same bits on all replicas
                table.copy_(base)
            else:
                table.add_(change.sub_(part.added))

    @torch.no_grad()
    def combined_copies(self) -> list[Tensor]:
        """Return copies of both tables as after an exchange of all rows."""
        copies = [base.clone() for base in self.base]
        moved = [table - base for table, base in zip(self._tables(), self.base, strict=True)]
        for part in self._pending:  # not yet applied to the tables
            part.work.wait()
            copies[part.table][part.rows] += self.reconciler.combine(part.table, part.summed, part.travel)
            moved[part.table][part.rows] -= part.added
        for number, (table, added) in enumerate(zip(copies, moved, strict=True)):
            for rows in _parts(len(table), table.shape[1], 0, 1):
                self._sum(added[rows]).wait()
                table[rows] += self.reconciler.combine(number, added[rows], self.reconciler.travel(number, rows))
        return copies

    def _tables(self) -> list[Tensor]:
        return [table.detach() for table in self._parameters]


def _parts(rows: int, dim: int, turn: int, turns: int) -> Iterator[slice]:
    """Yield the parts of the first `rows` rows that rank `turn` of `turns` always exchanges."""
    length = max(1, CHUNK // dim)
    for first in range(turn * length, rows, turns * length):
        yield slice(first, min(rows, first + length))
