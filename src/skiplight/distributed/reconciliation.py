r"""How tables that several replicas have moved apart become one again, and which rows are due for it when.

A *replica* is a pair of tables that nobody else writes to: that of a machine, whose ranks share it, or of a GPU.
Between two exchanges each replica trains on blocks of its own. Then the changes δ_1, ..., δ_R of a row on R replicas
become one.

**The rule.** Near its optimum v* a row moves by `v -= lr·H·(v - v*)` with every gradient, where H is the mean curvature
of the loss in that row. So n gradients take it I - exp(-lr·n·H) of the way, and the R·n gradients of all replicas, one
after the other, would have taken it I - exp(-lr·R·n·H) of the way. The change that ends where those would have is

    S(X) · Σ δ_r,    X = lr·n·H,    S(x) = (1 - exp(-R·x)) / (R·(1 - exp(-x))).

It is the sum of the changes (S = 1) in directions in which the row has hardly begun to move, and their mean (S = 1/R)
in directions in which every replica has reached the optimum by itself. One number for all directions cannot be both:
the vectors of skip-gram tables share a direction that is several times as curved as any other, which would hold back
all.

**Its stability.** Where the true curvature of a direction is h and the estimate is h', an exchange takes the row
f = S(x')·R·(1 - exp(-x)) of the way to its optimum, with x = lr·n·h and x' = lr·n·h'. For h' >= h that is at most
1 - exp(-R·x) <= 1, whatever lr, n and R are: nothing overshoots. In general f <= max(1, h/h'), and the error shrinks as
long as f < 2, so the estimate may be wrong by a factor of 2. (The mean is stable too, f = 1 - exp(-x), and far too
slow.) Directions are estimates as well: a share ε of what a row moves in the most curved direction, of curvature h_1,
is taken for a move in others, where R of them may be summed. With no h' below ε·h_1 the sum is at most 1/(ε·x) of
them, so that they are no more than 1/x of the move, and nothing overshoots either.

**The curvature.** A logistic score s = u·v has the curvature σ'(s)·u·uᵀ in v. So H = E[σ'(s)·u·uᵀ] over the gradients
of a row. `Reconciler.measure` finds it before every exchange, on pairs and noise of the text itself and on the mean of
all replicas' tables, hence with all that this round has added. At the beginning of training vectors are short, and
changes are summed, as they should be.

**A safeguard.** Should the loss of those pairs after an exchange exceed that of the mean by a tenth, all that was
derived does not hold (tables whose scores are saturated seem not to be curved at all). Curvatures are then taken to be
4 times as great, and so on up to the mean itself.

**When.** A row is exchanged after a number of gradients of all replicas together that grows as the learning rate falls,
so that lr·n stays the same. Words are sorted by their counts, so the first rows of a table are due after every step,
more of them after every second, and so on. (Exchange by frequency: Ji et al. 2016, "Parallelizing Word2Vec in Shared
and Distributed Memory". Other combinations of changes: Gill et al. 2019, "Distributed training of embeddings using
graph analytics"; Maleki et al. 2020, "Scaling distributed training with adaptive summation".)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skiplight.engines.in_flight import gradients_per_token
from skiplight.errors import DataError
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler

FULL_SHARE = 0.1
"""Share of the bytes that exchanges of all rows may take. Only after one of them can a checkpoint be written."""

DIRECTIONS = 16
"""Directions with a curvature of their own; all others count as curved as the least of these."""

SAMPLE = 1024
"""Scores that curvature and loss are measured on, which makes the relative error of a curvature about 1/30."""

TOLERANCE = 1.1
"""How many times the loss of the replicas' mean an exchange may leave. A mean has less noise than any one replica,
hence a lower loss for the moment; the rule leaves a hundredth or two more while the learning rate is high."""

ITERATIONS = 3
"""Steps of subspace iteration of a measurement."""

SAMPLE_TOKENS = 50_000
"""Tokens that those scores are chosen from."""

FLOOR = 0.05
"""ε, the least curvature of any direction as a share of the greatest: the error of a curvature that is measured on
`SAMPLE` scores is about 1/30, and rows differ. 32 replicas of a text of 200 words need it; for large vocabularies it
costs little (16.7 M words, 16 replicas, 2 epochs: the mean of four scores is .402 with it, .405 without, .395 at .15).
"""

CAUTIONS = (1.0, 4.0, 16.0, 64.0, 256.0, 1e12)
"""Factors of the curvature, tried in turn; by the last one, changes are averaged."""


def sum_scale(x: Tensor, replicas: int) -> Tensor:
    """Return S(x), the factor for the sum of changes that each of `replicas` has made.

    Args:
        x: lr·n·h, of any shape: each replica went 1 - exp(-x) of the way to the optimum.
        replicas: R.

    >>> sum_scale(torch.tensor([1e-9, 1e9], dtype=torch.float64), 4).round(decimals=4).tolist()
    [1.0, 0.25]
    """
    x = x.clamp(min=1e-6)
    return torch.expm1(-replicas * x) / (replicas * torch.expm1(-x))


class Sample(NamedTuple):
    """Pairs of a text with their noise, on which curvature and loss are measured.

    Attributes:
        inputs: int64 [pairs], rows of the input table.
        outputs: int64 [pairs], rows of the output table.
        signs: float32 [pairs], 1 where the output word was observed, -1 where it is noise.
    """

    inputs: Tensor
    outputs: Tensor
    signs: Tensor

    @classmethod
    def of(cls, sampler: WindowSampler, blocks: Iterable[TokenBlock]) -> Sample:
        """Return `SAMPLE` scores as training meets them, evenly chosen from the first `SAMPLE_TOKENS` tokens of blocks.

        Raises:
            DataError: not one token of the blocks has a neighbour.
        """
        columns: list[tuple[Tensor, Tensor, Tensor]] = []
        tokens = 0
        for block in blocks:
            block = block.first_tokens(SAMPLE_TOKENS - tokens)
            columns.append(cls._scores(sampler(block)))
            tokens += len(block.ids)
            if tokens >= SAMPLE_TOKENS:
                break
        found = [torch.cat(column) for column in zip(*columns, strict=True)]
        if not found or not len(found[0]):
            raise DataError("not one token of the text has a neighbour: documents of one word do not train")
        chosen = torch.linspace(0, len(found[0]) - 1, min(SAMPLE, len(found[0]))).long()
        return cls(*(column[chosen] for column in found))

    @staticmethod
    def _scores(windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        """Return input row, output row and sign of every score of windows that counts."""
        window_of = windows.window_of_pair()
        pairs = len(window_of)
        rows = window_of if windows.shared else torch.arange(pairs, device=window_of.device)
        inputs = windows.inputs.long()[:, None].expand(-1, 1 + windows.negatives.shape[1])
        outputs = torch.cat([windows.target[window_of][:, None], windows.negatives[rows]], 1).long()
        signs = torch.full(outputs.shape, -1.0, device=outputs.device)
        signs[:, 0] = 1.0
        counted = torch.cat([torch.ones_like(outputs[:, :1], dtype=torch.bool), windows.mask[rows]], 1)
        return inputs[counted], outputs[counted], signs[counted]


class Curvature:
    """Track the greatest eigenvalues of E[σ'(u·v)·u·uᵀ], the curvature that rows v meet, and their directions.

    Each measurement is some steps of subspace iteration, which follows the directions as the tables move.

    Args:
        dim: numbers of a row.
        device: where the tables are.

    Attributes:
        values: float32 [k], descending.
        directions: float32 [dim, k], orthonormal.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        k = min(DIRECTIONS, dim)
        self._start = torch.linalg.qr(torch.randn(dim, k, generator=torch.Generator().manual_seed(0)))[0].to(device)
        self.directions, self.values = self._start, torch.zeros(k, device=device)

    def restart(self) -> None:
        """Forget the directions that were found."""
        self.directions = self._start

    @torch.no_grad()
    def measure(self, u: Tensor, scores: Tensor) -> None:
        """Measure on the partners u of gradients, float32 [pairs, dim], and their scores, float32 [pairs]."""
        sigmoid = torch.sigmoid(scores)
        u = u * (sigmoid * (1 - sigmoid) / len(u)).sqrt()[:, None]
        if not u.isfinite().all():
            return  # the tables have diverged, which the training notices by its loss
        basis = self.directions
        for _ in range(ITERATIONS):
            # Where vectors are zero, as at first, the directions stay as they are.
            basis = torch.linalg.qr(u.T @ (u @ basis) + 1e-12 * basis)[0]
        projected = u @ basis
        values, rotation = torch.linalg.eigh(projected.T @ projected)
        values = values.flip(0)
        self.values, self.directions = values.clamp(min=FLOOR * float(values[0])), basis @ rotation.flip(1)


def combined(summed: Tensor, travel: Tensor, curvature: Curvature, replicas: int) -> Tensor:
    """Return the change of rows that the changes of all replicas become, S(X) · Σ δ, float32 [rows, dim].

    Args:
        summed: Σ δ, float32 [rows, dim].
        travel: lr·n, float32 [rows]: the learning rate summed over the gradients that one replica has made in each row.
        curvature: that of the rows.
        replicas: R.
    """
    scale = sum_scale(travel[:, None] * curvature.values, replicas)
    rest = scale[:, -1:]
    within = (summed @ curvature.directions).mul_(scale - rest)
    return torch.addmm(summed * rest, within, curvature.directions.T)


class ExchangeSchedule:
    """How many of the first rows of a table are exchanged after each step.

    Args:
        gradients: float64 [rows], how many gradients each row is expected to get per token of the run.
        step_tokens: tokens of a step on all replicas together.
        after: gradients of a row between two exchanges, at the learning rate of the beginning.
        full: steps between two exchanges of all rows, a power of two.
    """

    def __init__(self, gradients: np.ndarray, step_tokens: float, after: float, full: int) -> None:
        # The most of a row and all rows behind it never grows, so the last row above a bound is found by bisection.
        self._most = np.maximum.accumulate(gradients[::-1])
        self.rows, self.step_tokens, self.after, self.full = len(gradients), step_tokens, after, full

    def due(self, step: int, lr_share: float) -> int:
        """Return the number of rows exchanged after step 1, 2, ..., at a learning rate `lr_share` of the first one."""
        return self._due(step & -step, lr_share)

    def _due(self, turn: int, lr_share: float) -> int:
        """Return how many rows are due before `2 * turn` steps have passed, `turn` being a power of two."""
        if turn >= self.full:
            return self.rows
        bound = self.after / (max(lr_share, 1e-12) * self.step_tokens * 2 * turn)
        return self.rows - int(np.searchsorted(self._most, bound, side="right"))

    def rows_per_token(self) -> float:
        """Return the rows exchanged per token of the run, the mean over a learning rate that falls to nothing."""
        found, turn = self.rows / self.full, 1
        while turn < self.full:
            found += float(np.mean([self._due(turn, (i + 0.5) / 20) for i in range(20)])) / (2 * turn)
            turn *= 2
        return found / self.step_tokens


def bytes_per_row(dim: int, replicas: int) -> float:
    """Return the bytes that each replica sends in a ring all-reduce of one float32 row."""
    return 2 * (replicas - 1) / replicas * 4 * dim


class Reconciler:
    """Decide for both tables which rows are exchanged after a step, and what their changes become.

    Args:
        sampler: makes the windows.
        sample: pairs of the text.
        dim: numbers of a row.
        replicas: R, at least 2.
        step_tokens: tokens of a step on all replicas together.
        bytes_per_token: bytes that a replica sends per token of the run (those of all replicas), as a ring all-reduce
            sends them, on average over the run.
        device: where the tables are.

    Attributes:
        schedules: of the input and the output table.
        curvatures: of the rows of the input and the output table.
        rows: the rows of either table that are measured on, int64 [rows] each.
        caution: by what factor curvatures are taken to be greater than measured at this exchange (`TOLERANCE`).
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
        device: torch.device | str = "cpu",
    ) -> None:
        self.replicas = replicas
        gradients = gradients_per_token(sampler)
        row_bytes = bytes_per_row(dim, replicas)
        full = 2 * len(gradients[0]) * row_bytes / (FULL_SHARE * bytes_per_token * step_tokens)
        full = 1 << max(0, math.ceil(math.log2(full)))
        low, high = -4.0, 40.0  # logarithms to the base 2: from all rows after every step to none but in full exchanges
        for _ in range(40):
            middle = (low + high) / 2
            made = [ExchangeSchedule(table, step_tokens, 2**middle, full) for table in gradients]
            if sum(schedule.rows_per_token() for schedule in made) * row_bytes > bytes_per_token:
                low = middle
            else:
                high = middle
        self.schedules = tuple(ExchangeSchedule(table, step_tokens, 2**high, full) for table in gradients)
        self._gradients = [torch.from_numpy(table / replicas).to(device) for table in gradients]
        self.curvatures = (Curvature(dim, device), Curvature(dim, device))
        self.caution = 1.0
        found = [rows.to(device).unique(return_inverse=True) for rows in (sample.inputs, sample.outputs)]
        self.rows, self._places = (tuple(column) for column in zip(*found, strict=True))
        self._signs = sample.signs.to(device)
        # The learning rate summed over tokens: now, and when each row was last exchanged.
        self._travelled = 0.0
        self._exchanged = [torch.zeros_like(table) for table in self._gradients]

    @property
    def after(self) -> float:
        """Gradients of a row between two exchanges, at the learning rate of the beginning."""
        return self.schedules[0].after

    @property
    def full(self) -> int:
        """Steps between two exchanges of all rows."""
        return self.schedules[0].full

    def consumed(self, tokens: int, lr: float) -> None:
        """Note that all replicas together have trained on so many tokens at a mean learning rate."""
        self._travelled += tokens * lr

    def due(self, step: int, lr_share: float) -> tuple[int, int]:
        """Return how many of the first rows of either table are exchanged after step 1, 2, ...

        Args:
            step: of the run.
            lr_share: the learning rate now over that of the beginning.
        """
        inputs, outputs = (schedule.due(step, lr_share) for schedule in self.schedules)
        return inputs, outputs

    @torch.no_grad()
    def measure(self, bases: Sequence[Tensor], summed: Sequence[Tensor], due: tuple[int, int]) -> None:
        """Measure the curvatures that rows are combined with, and how far to trust them, before rows are combined.

        Args:
            bases: the rows `rows` of both tables as they were last agreed on, float32 [rows, dim] each.
            summed: the sums of the replicas' changes since then, float32 [rows, dim] each.
            due: how many of the first rows of either table are to be combined.
        """
        means = [base + change / self.replicas for base, change in zip(bases, summed, strict=True)]
        inputs, outputs, scores = self._scored(means)
        self.curvatures[0].measure(outputs, scores)
        self.curvatures[1].measure(inputs, scores)
        most = TOLERANCE * float(self._loss(scores))
        travels = [self.travel(table, rows) for table, rows in enumerate(self.rows)]
        for self.caution in CAUTIONS:
            states = [
                torch.where((rows < count)[:, None], base + self.combined(table, change, travel), mean)
                for table, (rows, count, base, change, travel, mean) in enumerate(
                    zip(self.rows, due, bases, summed, travels, means, strict=True)
                )
            ]
            if float(self._loss(self._scored(states)[2])) <= most:
                return

    def _scored(self, states: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input and output vectors of the sample's pairs and their scores, given the rows `rows`."""
        inputs, outputs = (rows[places] for rows, places in zip(states, self._places, strict=True))
        return inputs, outputs, (inputs * outputs).sum(1)

    def _loss(self, scores: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-self._signs * scores).mean()

    def travel(self, table: int, rows: slice | Tensor) -> Tensor:
        """Return lr·n of rows, float32 [rows]: the rate summed over a replica's gradients since their last exchange.

        Args:
            table: 0 for the input table, 1 for the output table.
            rows: which.
        """
        return (self._gradients[table][rows] * (self._travelled - self._exchanged[table][rows])).float()

    def combined(self, table: int, summed: Tensor, travel: Tensor) -> Tensor:
        """Return what the summed changes of rows become, float32 [rows, dim].

        Args:
            table: 0 for the input table, 1 for the output table.
            summed: the sum of the replicas' changes since these rows were last exchanged, float32 [rows, dim].
            travel: of these rows, as it was when they were summed.
        """
        return combined(summed, self.caution * travel, self.curvatures[table], self.replicas)

    def exchanged(self, rows: tuple[int, int]) -> None:
        """Note that so many of the first rows of either table are now the same on all replicas."""
        for last, count in zip(self._exchanged, rows, strict=True):
            last[:count] = self._travelled
        if min(rows) == len(
            self._exchanged[0]
        ):  # where checkpoints are made: a run that goes on from one knows no more
            self._travelled = 0.0
            for last, curvature in zip(self._exchanged, self.curvatures, strict=True):
                last.zero_()
                curvature.restart()
