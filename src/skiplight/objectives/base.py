"""What every objective can do, and the two tables that it scores with."""

from __future__ import annotations

import abc
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skiplight.sampling.batches import Windows


class Tables(nn.Module):
    """Input vectors v_w and output vectors u_w, one row a word.

    Inputs start uniform in ±0.5/dim and outputs at zero, as in word2vec.c; were both zero, no gradient would ever flow.

    Args:
        vocabulary: V, rows of `input`.
        dim: d, columns of both.
        output_rows: rows of `output` (V but for hierarchical softmax).
        sparse: whether the tables get sparse gradients, which hold the touched rows only.
        seed: of the initial input vectors.
    """

    def __init__(
        self, vocabulary: int, dim: int, output_rows: int | None = None, sparse: bool = True, seed: int = 0
    ) -> None:
        super().__init__()
        self.input = nn.Embedding(vocabulary, dim, sparse=sparse, _weight=torch.empty(vocabulary, dim))
        rows = vocabulary if output_rows is None else output_rows
        self.output = nn.Embedding(rows, dim, sparse=sparse, _weight=torch.zeros(rows, dim))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.input.weight.uniform_(-0.5 / dim, 0.5 / dim, generator=generator)


class Loss(NamedTuple):
    """A summed loss, float64 [], and the number of pairs that it is the sum over."""

    sum: Tensor
    pairs: int


class Objective(abc.ABC):
    """A scoring rule for windows; knows tables, but neither an engine nor an optimiser."""

    needs_noise: bool
    """Whether windows must come with negatives."""

    def output_rows(self, vocabulary: int) -> int:
        """How many output vectors a vocabulary of that size needs."""
        return vocabulary

    @abc.abstractmethod
    def loss(self, tables: Tables, windows: Windows) -> Loss:
        """The loss summed over all pairs of the windows, and their number."""

    @abc.abstractmethod
    def log_prob(self, tables: Tables, inputs: Tensor) -> Tensor:
        """log p(o | i) of every output word o, float32 [n, V], for n input words, int64 [n]; rows sum to 1."""


def at_least_float32(scores: Tensor) -> Tensor:
    """Scores in float32 where mixed precision made them shorter: a logarithm of 8 bits would be no loss to report."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
