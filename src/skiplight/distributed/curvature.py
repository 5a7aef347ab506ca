"""The mean curvature H of the loss in the rows of a table, by which `reconciliation` combines changes.

A logistic score s = u·v has the curvature σ'(s)·u·uᵀ in v, so H = E[σ'(s)·u·uᵀ] over the gradients of a row. It is
measured before every exchange, on pairs and noise of the text and on the mean of all replicas' tables, which contains
everything that was added since the last one. At the beginning of training vectors are short, so H is small and changes
are summed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from skiplight.errors import DataError
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler

DIRECTIONS = 16
"""Directions with measured curvatures; all others get the least of these curvatures."""

SAMPLE = 1024
"""Scores on which curvature and loss are measured; the relative error of a curvature is then about 1/30."""

ITERATIONS = 3
"""Steps of subspace iteration of a measurement."""

SAMPLE_TOKENS = 50_000
"""Tokens from which those scores are chosen."""

FLOOR = 0.05
"""ε, the least curvature of any direction as a share of the greatest: a curvature measured on `SAMPLE` scores has an
error of about 1/30, and rows differ. 32 replicas of a text of 200 words need it; for large vocabularies it
costs little (16.7 M words, 16 replicas, 2 epochs: the mean of four scores is .402 with it, .405 without, .395 at .15).
"""


class Sample(NamedTuple):
    """Pairs of a text and their negatives, on which curvature and loss are measured.

    Attributes:
        inputs: int64 [pairs], rows of the input table.
        outputs: int64 [pairs], rows of the output table.
        signs: float32 [pairs], 1 for an observed output word, -1 for a negative.
    """

    inputs: Tensor
    outputs: Tensor
    signs: Tensor

    @classmethod
    def draw(cls, sampler: WindowSampler, blocks: Iterable[TokenBlock]) -> Sample:
        """Return `SAMPLE` scores of training, evenly chosen from the first `SAMPLE_TOKENS` tokens of blocks.

        Raises:
            DataError: no token of the blocks has a neighbour.
        """
        columns: list[tuple[Tensor, Tensor, Tensor]] = []
        tokens = 0
        for block in blocks:
            block = block.first_tokens(SAMPLE_TOKENS - tokens)
            columns.append(cls._scores(sampler(block)))
            tokens += len(block.ids)
            if tokens >= SAMPLE_TOKENS:
                break
        joined = [torch.cat(column) for column in zip(*columns, strict=True)]
        if not joined or not len(joined[0]):
            raise DataError("not one token of the text has a neighbour: documents of one word do not train")
        chosen = torch.linspace(0, len(joined[0]) - 1, min(SAMPLE, len(joined[0]))).long()
        return cls(*(column[chosen] for column in joined))

    @staticmethod
    def _scores(windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        """Return input row, output row and sign of every counted score of windows."""
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
    """The greatest eigenvalues of E[σ'(u·v)·u·uᵀ], the curvature of the loss in rows v, and their directions.

    Each measurement runs some steps of subspace iteration from the last directions, which follows moving tables.

    Attributes:
        values: float32 [k], descending.
        directions: float32 [dim, k], orthonormal.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        k = min(DIRECTIONS, dim)
        self._start = torch.linalg.qr(torch.randn(dim, k, generator=torch.Generator().manual_seed(0)))[0].to(device)
        self.directions, self.values = self._start, torch.zeros(k, device=device)

    def restart(self) -> None:
        """Reset the directions to their initial values."""
        self.directions = self._start

    @torch.no_grad()
    def measure(self, u: Tensor, scores: Tensor) -> None:
        """Measure on the partners u of gradients, float32 [pairs, dim], and their scores, float32 [pairs]."""
        sigmoid = torch.sigmoid(scores)
        u = u * (sigmoid * (1 - sigmoid) / len(u)).sqrt()[:, None]
        if not u.isfinite().all():
            return  # the tables have diverged, which the check of the loss reports
        basis = self.directions
        for _ in range(ITERATIONS):
            # The last term keeps the directions while vectors are zero, as initially.
            basis = torch.linalg.qr(u.T @ (u @ basis) + 1e-12 * basis)[0]
        projected = u @ basis
        values, rotation = torch.linalg.eigh(projected.T @ projected)
        values = values.flip(0)
        self.values, self.directions = values.clamp(min=FLOOR * float(values[0])), basis @ rotation.flip(1)
