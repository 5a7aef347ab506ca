r"""The rule by which the changes that R replicas made to a row become one change.

A *replica* is a pair of tables with one owner: a machine, whose ranks share it, or a GPU. Between two exchanges each
replica trains on its own blocks. An exchange combines the changes δ_1, ..., δ_R of a row. `curvature.py` measures H
below, and `schedule.py` decides which rows are exchanged when.

**The rule.** Near its optimum v* a row moves by `v -= lr·H·(v - v*)` with every gradient, where H is the mean curvature
of the loss in that row. So n gradients take it I - exp(-lr·n·H) of the way, and the R·n gradients of all replicas in
sequence would take it I - exp(-lr·R·n·H) of the way. The change that ends at the same point is

    S(X) · Σ δ_r,    X = lr·n·H,    S(x) = (1 - exp(-R·x)) / (R·(1 - exp(-x))).

It is the sum of the changes (S = 1) in directions in which the row has hardly begun to move, and their mean (S = 1/R)
in directions in which every replica has reached the optimum by itself. A single number for all directions would be too
small for most: skip-gram vectors share one direction that is several times as curved as any other.

**Its stability.** Where the true curvature of a direction is h and the estimate is h', an exchange takes the row
f = S(x')·R·(1 - exp(-x)) of the way to its optimum, with x = lr·n·h and x' = lr·n·h'. For h' >= h that is at most
1 - exp(-R·x) <= 1, whatever lr, n and R are: nothing overshoots. In general f <= max(1, h/h'), and the error shrinks as
long as f < 2, so the estimate may be wrong by a factor of 2. (The mean is also stable, f = 1 - exp(-x), but far too
slow.) Directions are estimates as well: a share ε of a row's move in the most curved direction, of curvature h_1, is
attributed to others, where R such shares may be summed. With no h' below ε·h_1 the sum is at most 1/(ε·x) of them,
which is at most 1/x of the move, and does not overshoot either.

**A safeguard.** If the loss of the measured pairs after an exchange exceeds that of the mean by a tenth, the derivation
does not hold (saturated scores show no curvature). The curvatures are then multiplied by 4, repeatedly if needed, and
finally the changes are averaged.

Other combinations of changes: Gill et al. 2019, "Distributed training of embeddings using graph analytics"; Maleki et
al. 2020, "Scaling distributed training with adaptive summation".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from skiplight.distributed.curvature import Curvature, Sample
from skiplight.distributed.schedule import LINEAR, ExchangeSchedule, bytes_per_row
from skiplight.engines.in_flight import gradients_per_token
from skiplight.sampling.windows import WindowSampler

FULL_SHARE = 0.1
"""The share of all bytes for exchanges of all rows. A checkpoint can be written only after one of them."""

TOLERANCE = 1.1
"""The largest loss after an exchange, as a multiple of the loss of the replicas' mean. A mean has less noise than any
replica and a lower loss for the moment; the rule gives 1 or 2% more while the learning rate is high."""

CAUTIONS = (1.0, 4.0, 16.0, 64.0, 256.0, 1e12)
"""Factors of the curvature, tried in turn; the last one averages the changes."""


def sum_scale(x: Tensor, replicas: int) -> Tensor:
    """Return S(x), the factor of the sum of the replicas' changes.

    Args:
        x: lr·n·h, of any shape; each replica moved 1 - exp(-x) of the way to the optimum.
        replicas: R.

    >>> sum_scale(torch.tensor([1e-9, 1e9], dtype=torch.float64), 4).round(decimals=4).tolist()
    [1.0, 0.25]
    """
    x = x.clamp(min=1e-6)
    return torch.expm1(-replicas * x) / (replicas * torch.expm1(-x))


def combine_changes(summed: Tensor, travel: Tensor, curvature: Curvature, replicas: int) -> Tensor:
    """Return the combined change of rows, S(X) · Σ δ, float32 [rows, dim].

    Args:
        summed: Σ δ, float32 [rows, dim].
        travel: lr·n, float32 [rows], the learning rate summed over the gradients of one replica in each row.
        curvature: the curvature of the loss in the rows.
        replicas: R.
    """
    scale = sum_scale(travel[:, None] * curvature.values, replicas)
    rest = scale[:, -1:]
    within = (summed @ curvature.directions).mul_(scale - rest)
    return torch.addmm(summed * rest, within, curvature.directions.T)


class Reconciler:
    """Decide which rows of both tables are exchanged after a step, and combine their changes.

    Args:
        sampler: makes the windows.
        sample: pairs of the text.
        dim: length of a row.
        replicas: R, at least 2.
        step_tokens: tokens of a step over all replicas.
        bytes_per_token: mean bytes that a replica sends by ring all-reduce per token of the run (over all replicas).
        lr_shares: learning rates in equal parts of the run, divided by the initial one.
        device: device of the tables.

    Attributes:
        schedules: of the input and the output table.
        curvatures: of the rows of the input and the output table.
        rows: the measured rows of each table, int64 [rows] each.
        caution: the factor of the curvatures at this exchange (`CAUTIONS`).
    """

    def __init__(
        self,
        sampler: WindowSampler,
        sample: Sample,
        *,
        dim: int,
        replicas: int,
        step_tokens: float,
        bytes_per_token: float,
        lr_shares: Sequence[float] = LINEAR,
        device: torch.device | str = "cpu",
    ) -> None:
        self.replicas = replicas
        gradients = gradients_per_token(sampler)
        row_bytes = bytes_per_row(dim, replicas)
        full = 2 * len(gradients[0]) * row_bytes / (FULL_SHARE * bytes_per_token * step_tokens)
        full = 1 << max(0, math.ceil(math.log2(full)))
        low, high = -4.0, 40.0  # base 2 logarithms, from all rows after every step to full exchanges only
        for _ in range(40):
            middle = (low + high) / 2
            made = [ExchangeSchedule(table, step_tokens, 2**middle, full) for table in gradients]
            if sum(schedule.rows_per_token(lr_shares) for schedule in made) * row_bytes > bytes_per_token:
                low = middle
            else:
                high = middle
        self.schedules = tuple(ExchangeSchedule(table, step_tokens, 2**high, full) for table in gradients)
        self._gradients = [torch.from_numpy(table / replicas).to(device) for table in gradients]
        self.curvatures = (Curvature(dim, device), Curvature(dim, device))
        self.caution = 1.0
        unique = [rows.to(device).unique(return_inverse=True) for rows in (sample.inputs, sample.outputs)]
        self.rows, self._row_of_pair = (tuple(column) for column in zip(*unique, strict=True))
        self._signs = sample.signs.to(device)
        # The learning rate summed over tokens, up to now and up to the last exchange of each row.
        self._travelled = 0.0
        self._exchanged = [torch.zeros_like(table) for table in self._gradients]

    @property
    def after(self) -> float:
        """Gradients of a row between two exchanges at the initial learning rate."""
        return self.schedules[0].after

    @property
    def full(self) -> int:
        """Steps between two exchanges of all rows."""
        return self.schedules[0].full

    def consumed(self, tokens: int, lr: float) -> None:
        """Record that all replicas together have trained on `tokens` tokens at a mean learning rate of `lr`."""
        self._travelled += tokens * lr

    def due(self, step: int, lr_share: float) -> tuple[int, int]:
        """Return the number of first rows of each table that are exchanged after a step.

        Args:
            step: number of the step, from 1.
            lr_share: the current learning rate divided by the initial one.
        """
        inputs, outputs = (schedule.due(step, lr_share) for schedule in self.schedules)
        return inputs, outputs

    @torch.no_grad()
    def measure(self, bases: Sequence[Tensor], summed: Sequence[Tensor], due: tuple[int, int]) -> None:
        """Measure the curvatures and choose `caution`, before rows are combined.

        Args:
            bases: the rows `rows` of both tables after the last exchange, float32 [rows, dim] each.
            summed: the sums of the replicas' changes since then, float32 [rows, dim] each.
            due: the number of first rows of each table that will be combined.
        """
        means = [base + change / self.replicas for base, change in zip(bases, summed, strict=True)]
        inputs, outputs, scores = self._scored(means)
        self.curvatures[0].measure(outputs, scores)
        self.curvatures[1].measure(inputs, scores)
        most = TOLERANCE * float(self._loss(scores))
        travels = [self.travel(table, rows) for table, rows in enumerate(self.rows)]
        for self.caution in CAUTIONS:
            states = [
                torch.where((rows < count)[:, None], base + self.combine(table, change, travel), mean)
                for table, (rows, count, base, change, travel, mean) in enumerate(
                    zip(self.rows, due, bases, summed, travels, means, strict=True)
                )
            ]
            if float(self._loss(self._scored(states)[2])) <= most:
                return

    def _scored(self, states: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input and output vectors of the sample's pairs and their scores, given the rows `rows`."""
        inputs, outputs = (rows[index] for rows, index in zip(states, self._row_of_pair, strict=True))
        return inputs, outputs, (inputs * outputs).sum(1)

    def _loss(self, scores: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-self._signs * scores).mean()

    def travel(self, table: int, rows: slice | Tensor) -> Tensor:
        """Return lr·n, float32 [rows]: the learning rate summed over a replica's gradients since a row's last exchange.

        Args:
            table: 0 for the input table, 1 for the output table.
            rows: indices of the rows.
        """
        return (self._gradients[table][rows] * (self._travelled - self._exchanged[table][rows])).float()

    def combine(self, table: int, summed: Tensor, travel: Tensor) -> Tensor:
        """Return the combined change of rows, float32 [rows, dim].

        Args:
            table: 0 for the input table, 1 for the output table.
            summed: the sum of the replicas' changes since these rows were last exchanged, float32 [rows, dim].
            travel: of these rows at the time of the sum.
        """
        return combine_changes(summed, self.caution * travel, self.curvatures[table], self.replicas)

    def exchanged(self, rows: tuple[int, int]) -> None:
        """Record that the given numbers of first rows of each table are now the same on all replicas."""
        for last, count in zip(self._exchanged, rows, strict=True):
            last[:count] = self._travelled
        if min(rows) == len(self._exchanged[0]):
            # A checkpoint may follow, and a run that resumes from it has no measurements.
            self._travelled = 0.0
            for last, curvature in zip(self._exchanged, self.curvatures, strict=True):
                last.zero_()
                curvature.restart()
