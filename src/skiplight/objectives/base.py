"""The interface of objectives, and the tables that they score with."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from skiplight.objectives.scoring import Scoring
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import Exclude, WindowSampler

Bias = Literal["none", "unigram", "learned"]


class Tables(nn.Module):
    """Input vectors v_w and output vectors u_w, one row per word, and an optional bias per output vector.

    Inputs start uniform in ±0.5/dim and outputs at zero, as in word2vec.c; if both were zero, all gradients would be.

    Args:
        vocabulary: V, rows of `input`.
        dim: d, columns of both.
        output_rows: rows of `output` (V but for hierarchical softmax).
        sparse: whether the tables get sparse gradients, of the touched rows only.
        seed: of the initial input vectors.
        bias: float [output_rows], the initial output bias; None for no bias.
        train_bias: whether the bias is trained.
        initialise: whether to initialise the tables; False leaves their memory untouched, to be replaced later.

    Attributes:
        bias: an embedding of [output_rows, 1], or None.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        output_rows: int | None = None,
        sparse: bool = True,
        seed: int = 0,
        bias: Tensor | None = None,
        train_bias: bool = True,
        initialise: bool = True,
    ) -> None:
        super().__init__()
        self.sparse = sparse
        self.input = nn.Embedding(vocabulary, dim, sparse=sparse, _weight=torch.empty(vocabulary, dim))
        rows = vocabulary if output_rows is None else output_rows
        self.output = nn.Embedding(rows, dim, sparse=sparse, _weight=torch.empty(rows, dim))
        self.bias: nn.Embedding | None = None
        if bias is not None:
            self.bias = nn.Embedding(rows, 1, sparse=sparse, _weight=bias.detach().float().reshape(rows, 1).clone())
            self.bias.weight.requires_grad_(train_bias)
        if initialise:
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                self.input.weight.uniform_(-0.5 / dim, 0.5 / dim, generator=generator)
                self.output.weight.zero_()

    def make_dense(self) -> None:
        """Give the tables dense gradients from now on, for an optimiser that takes no sparse ones."""
        self.sparse = False
        for table in (self.input, self.output, self.bias):
            if table is not None:
                table.sparse = False

    def scores(self, inputs: Tensor) -> Tensor:
        """Return u_o·v_i + b_o of every output row o, [n, output_rows], for n input words, int64 [n]."""
        scores = self.input(inputs) @ self.output.weight.T
        return scores if self.bias is None else scores + self.bias.weight.squeeze(1)


class Loss(NamedTuple):
    """A summed loss, float64 [], and its number of pairs."""

    sum: Tensor
    pairs: int


class Gradients(NamedTuple):
    """The numbers of gradients that a step sums in each row of the input table, [V], and output table, [output_rows].

    The unit is the gradient of one logistic score, whose curvature is at most a quarter of the squared length of the
    vector on the other side; a softmax over many words may be four times as curved.
    """

    inputs: Tensor
    outputs: Tensor


class Objective(nn.Module, abc.ABC):
    """A scoring rule for windows, independent of engine and optimiser.

    It is a module because its constants are buffers, which move to the device of the tables; it has no parameters.
    """

    needs_noise: ClassVar[bool]
    """Whether windows must have negatives."""
    default_bias: ClassVar[Bias] = "none"
    """The output bias that makes a comparison with the other objectives fair."""
    default_exclude: ClassVar[Exclude] = "target"
    """The default of the words that are excluded as negatives."""
    corrects_noise: ClassVar[bool] = False
    """Whether the loss has a term log P_n, which is right only where noise leaves out at most the target."""
    couples_windows: ClassVar[bool] = False
    """Whether the loss of a window depends on the other windows of its block."""
    dense: ClassVar[bool] = False
    """Whether every step moves every output vector, so that their gradient is dense even for sparse tables."""

    @classmethod
    def build(cls, counts: np.ndarray, sampler: WindowSampler, **options: Any) -> Self:
        """Return the objective for a vocabulary and its sampler, from its own options.

        Args:
            counts: int64 [V], how often each word occurs.
            sampler: has the noise distribution of negatives.
            options: keyword arguments of the constructor.
        """
        return cls(**options)

    def set_noise(self, probabilities: np.ndarray) -> None:
        """Use another noise distribution from now on, where the noise changes during a training.

        Args:
            probabilities: P_n, float64 [V].
        """

    def output_rows(self, vocabulary: int) -> int:
        """Return the number of output vectors for a vocabulary size."""
        return vocabulary

    def unigram_bias(self, counts: np.ndarray) -> Tensor:
        """Return the bias, float32 [output_rows], with which zero vectors predict p(o) = counts / counts.sum()."""
        return torch.from_numpy(np.log(counts / counts.sum())).float()

    def scores_per_pair(self, sampler: WindowSampler) -> float:
        """Return how many scores u·v the loss of a pair is a function of, the mean over the pairs of a training.

        It is the cost by definition, on which objectives can be compared whatever the engine; an engine may compute a
        score once for several pairs.
        """
        return 1.0 + sampler.negatives if self.needs_noise else float(len(sampler.frequency))

    @abc.abstractmethod
    def loss(self, tables: Tables, windows: Windows) -> Loss:
        """Return the loss summed over all pairs of the windows, and their number."""

    @abc.abstractmethod
    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        """Return the number of gradients that `loss` sums in each row of the tables."""

    @classmethod
    def has_scoring(cls) -> bool:
        """Return whether the class itself defines `scoring`; a subclass may score otherwise than its base."""
        return "scoring" in vars(cls)

    def scoring(self, sampler: WindowSampler) -> Scoring:
        """Return the description of `loss` from which a fused kernel trains; optional.

        Args:
            sampler: draws the windows and their negatives.
        """
        raise NotImplementedError(f"{type(self).__name__} has no description for fused kernels")

    def logits(self, tables: Tables, inputs: Tensor) -> Tensor:
        """Return scores whose softmax is p(o | i), float32 [n, V], for n input words, int64 [n]."""
        return at_least_float32(tables.scores(inputs))

    def _replace(self, name: str, values: np.ndarray) -> None:
        """Replace the values of a buffer that `_constant` registered."""
        getattr(self, name).copy_(torch.from_numpy(values))

    def _constant(self, name: str, values: np.ndarray) -> None:
        """Register an array as a buffer that is not saved in checkpoints; floating point numbers become float32."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        self.register_buffer(name, tensor.float() if tensor.is_floating_point() else tensor, persistent=False)


def empty_loss(tables: Tables) -> Loss:
    """Return the loss of no windows."""
    return Loss(tables.input.weight.new_zeros((), dtype=torch.float64), 0)


def at_least_float32(scores: Tensor) -> Tensor:
    """Convert float16 and bfloat16 scores to float32: a logarithm with an 8-bit mantissa is too coarse to report."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
