"""Reconciles tables that every rank moves by itself: what each has added to a row since they last agreed is put
together.

Between two exchanges a rank trains on blocks of its own. Then, row by row, the new value on all ranks is the old one
plus s times the sum of what the ranks have added to it, which is as little as it needs to be of the two obvious
choices:

- The sum (s = 1) is right for a row that few updates have touched: they are small steps, and steps add up. A row that
  one rank alone has touched keeps all it has learned. But rows that all ranks have moved to the same optimum would be
  thrown as many times too far.
- The mean (s = 1/R of R ranks) is right for those, and shrinks what is rare.

A row whose n updates since the last exchange each go a share a of the way to its optimum has gone 1 - (1-a)^n of it,
and would have gone 1 - (1-a)^(R·n) had it had all ranks' updates one after the other. So s is the ratio of the two,
over R: between 1 for small a·n and 1/R for large. n is what the vocabulary's counts let expect, which all ranks know.

Frequent rows change more between two exchanges, and are few: a row is exchanged after about as many updates as any
other. Words are sorted by their counts, so that is the first rows of the tables at every step, twice as many at every
second, and so on, up to all of them every `every` steps (Ji et al. 2016, "Parallelizing Word2Vec in Shared and
Distributed Memory", exchange by frequency too).
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from skiplight.distributed.strategy import RankStrategy

UPDATES = 1000
"""A row is exchanged when so many of its gradients are to be expected, at the earliest after a step. Fewer cost bytes,
more cost quality: after two epochs of 17 M words with a `SHARE` of .02, 500 gave WordSim-353 .595 and Google .239,
2,000 gave .582 and .223 (one seed)."""

SHARE = 0.003
"""Of the learning rate: a, how far of the way to its optimum one gradient takes a row. The logistic loss's curvature,
σ(1-σ)·|u|², bounds it by about 1, but most gradients are of noise words long told apart, with σ(1-σ) near 0: of .003 to
.25, tried on 17 M words, the least gave the best scores. With none at all, the sum of what the ranks have added, the
loss rose."""

CHUNK = 1 << 22
"""So many numbers are exchanged at a time."""


class _Exchange(NamedTuple):
    """What is under way for some rows of a table."""

    table: Tensor
    base: Tensor
    added: Tensor
    """What this rank has added to its rows."""
    summed: Tensor
    """The sum of what all have, when it has come; may be `added` itself."""
    scale: Tensor
    work: dist.Work


class TableAveraging(RankStrategy):
    """For engines that move the tables in place.

    Over NCCL, all but the exchanges of all rows go on while the next step computes, and reach the tables behind it.

    Args:
        every: steps between two exchanges of all rows.
        gradients: float64 [rows of either table], how many gradients a row sums for each token that a rank consumes.
        block_tokens: tokens of a step of one rank.
        overlap: whether exchanges and steps go on at the same time; by default where the backend has its own stream.
        options: as for every strategy of ranks.
    """

    name: ClassVar[str] = "table_averaging"

    def __init__(
        self,
        every: int,
        gradients: np.ndarray,
        block_tokens: int,
        *,
        overlap: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.every, self.overlap = every, overlap
        self._gradients = torch.from_numpy(np.asarray(gradients, np.float64))
        self._due = first_rows(gradients * block_tokens, every)
        # How many tokens a rank has consumed since each row was last exchanged.
        self._since = torch.zeros(len(gradients), dtype=torch.float64)
        self._base: list[Tensor] = []  # the tables as all ranks last agreed on them
        self._pending: collections.deque[_Exchange] = collections.deque()
        self._alike = True

    def setup_distributed(self) -> None:
        super().setup_distributed()
        if self.overlap is None:
            self.overlap = dist.get_backend() == "nccl"

    def optimizer_step(self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        if not self._base:
            self._base = [table.detach().clone() for table in self.skipgram.tables.parameters()]
        result = super().optimizer_step(optimizer, closure, model, **kwargs)
        self._since += self.skipgram.batch_tokens / self.world_size
        self._alike = False
        rows = self._due(self.skipgram.trainer.global_step + 1)
        if rows == len(self._since):
            self.settle()
        elif rows:
            self._finish()
            self._begin(rows, in_turns=not self.overlap)
            if not self.overlap:
                self._finish()
        return result

    def alike(self) -> bool:
        return self._alike

    def settle(self) -> None:
        if not self._alike:
            self._finish()
            self._begin(len(self._since), in_turns=True)
            self._finish()
            self._alike = True

    @torch.no_grad()
    def _begin(self, rows: int, in_turns: bool) -> None:
        """Begins to exchange the first rows of both tables; `in_turns`, two parts at most are under way at once."""
        x = self.skipgram.lr_at(self.skipgram.tokens) * SHARE * self._gradients[:rows] * self._since[:rows]
        scale = sum_scale(x, self.world_size).float().to(self.root_device)[:, None]
        self._since[:rows] = 0
        for table, base in zip(self.skipgram.tables.parameters(), self._base, strict=True):
            length = max(1, CHUNK // table.shape[1])
            for first in range(0, rows, length):
                part = slice(first, min(rows, first + length))
                added = table[part] - base[part]
                summed = added if in_turns else added.clone()
                work = dist.all_reduce(summed, async_op=True)
                assert work is not None
                self.bytes_sent += 2 * (self.world_size - 1) * added.nbytes // self.world_size
                self._pending.append(_Exchange(table[part], base[part], added, summed, scale[part], work))
                if in_turns and len(self._pending) > 1:
                    self._finish(1)

    @torch.no_grad()
    def _finish(self, count: int | None = None) -> None:
        """Puts what has been exchanged into the tables: of the first `count` parts, or of all."""
        for _ in range(len(self._pending) if count is None else count):
            exchange = self._pending.popleft()
            exchange.work.wait()
            change = exchange.summed.mul_(exchange.scale)
            exchange.base.add_(change)
            if exchange.summed is exchange.added:  # the table has not moved meanwhile: the same bits on all ranks
                exchange.table.copy_(exchange.base)
            else:
                exchange.table.add_(change.sub_(exchange.added))


def sum_scale(x: Tensor, ranks: int) -> Tensor:
    """What the sum of what the ranks have added to a row is multiplied by, as x = a·n is of the row.

    >>> sum_scale(torch.tensor([1e-9, 1e9], dtype=torch.float64), 4).round(decimals=4).tolist()
    [1.0, 0.25]
    """
    x = x.clamp(min=1e-6)
    return (1 - torch.exp(-ranks * x)) / (ranks * (1 - torch.exp(-x)))


def first_rows(gradients: np.ndarray, every: int) -> Callable[[int], int]:
    """How many of the first rows are exchanged after step 1, 2, ...

    Args:
        gradients: float64 [rows], how many gradients a row sums in a step.
        every: steps between two exchanges of all rows.
    """
    steps = np.clip(UPDATES / np.maximum(gradients, 1e-12), 1, every)
    level = np.floor(np.log2(steps)).astype(int)  # a row is exchanged every 2^level steps
    ends = [int(np.flatnonzero(level <= n)[-1]) + 1 if (level <= n).any() else 0 for n in range(level.max() + 1)]

    def rows(step: int) -> int:
        if step % every == 0:
            return len(gradients)
        return max((end for n, end in enumerate(ends) if step % 2**n == 0), default=0)

    return rows
