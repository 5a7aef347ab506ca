"""Which rows are exchanged after which step, by how often a row gets a gradient.

A row is exchanged after a number n of gradients on all replicas together that grows as the learning rate falls, which
keeps lr·n constant. Words are sorted by count, so the first rows of a table are due after every step, more of them
after every second step, and so on. Exchange by frequency: Ji et al. 2016, "Parallelizing Word2Vec in Shared and
Distributed Memory".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LINEAR = [(part + 0.5) / 20 for part in range(20)]
"""The learning rates of a run in which it falls linearly to zero, divided by the initial one."""


class ExchangeSchedule:
    """The number of first rows of a table that are exchanged after each step.

    Args:
        gradients: float64 [rows], the expected gradients of each row per token of the run.
        step_tokens: tokens of a step over all replicas.
        after: gradients of a row between two exchanges at the initial learning rate.
        full: steps between two exchanges of all rows, a power of two.
    """

    def __init__(self, gradients: np.ndarray, step_tokens: float, after: float, full: int) -> None:
        # The maximum over a row and all later rows never grows, so bisection finds the last row above a bound.
        self._most = np.maximum.accumulate(gradients[::-1])
        self.rows, self.step_tokens, self.after, self.full = len(gradients), step_tokens, after, full

    def due(self, step: int, lr_share: float) -> int:
        """Return the number of rows exchanged after step 1, 2, ..., at `lr_share` times the initial learning rate."""
        return self._due(step & -step, lr_share)

    def _due(self, turn: int, lr_share: float) -> int:
        """Return the number of rows that are due before `2 * turn` steps have passed, `turn` a power of two."""
        if turn >= self.full:
            return self.rows
        bound = self.after / (max(lr_share, 1e-12) * self.step_tokens * 2 * turn)
        return self.rows - int(np.searchsorted(self._most, bound, side="right"))

    def rows_per_token(self, lr_shares: Sequence[float] = LINEAR) -> float:
        """Return the mean rows exchanged per token of a run.

        Args:
            lr_shares: learning rates in equal parts of the run, divided by the initial one.
        """
        rows, turn = self.rows / self.full, 1
        while turn < self.full:
            rows += float(np.mean([self._due(turn, share) for share in lr_shares])) / (2 * turn)
            turn *= 2
        return rows / self.step_tokens


def bytes_per_row(dim: int, replicas: int) -> float:
    """Return the bytes that each replica sends in a ring all-reduce of one float32 row."""
    return 2 * (replicas - 1) / replicas * 4 * dim
