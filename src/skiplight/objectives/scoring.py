"""How a fused kernel scores a window under an objective: the part of an objective that is data rather than code.

A kernel adds a number to the score u·v + b of each output row, and applies one of two rules to the result s. With the
target (slot 0) and the other rows k of a pair:

- "logistic": one logistic loss per row, log(1 + e^(-s)) for an observed row and log(1 + e^s) for noise.
- "softmax": log Σ_k e^(s_k) - s_0, where the sum includes the target.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from skiplight.sampling.windows import WindowSampler


@dataclasses.dataclass(frozen=True)
class Paths:
    """The output rows of each word, where they are not the word and its negatives.

    Attributes:
        lengths: int32 [V], the number of rows.
        nodes: int32 [V, longest], the rows; not read beyond the length.
        turns: int8 [V, longest], 1 for an observed row, -1 for noise.
    """

    lengths: np.ndarray
    nodes: np.ndarray
    turns: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scoring:
    """The description of an objective's scores.

    Attributes:
        input_gradients: mean number of gradients per pair that the row of the input word sums, in the unit of
            `objectives.base.Gradients`.
        output_gradients: mean number of gradients per pair that each output row sums, float64 [output_rows].
        rule: from scores to losses.
        shift: what is added to the score of a word, float32 [V]; None for nothing.
        target_shift: what is added to the target's score instead, float32 [V]; None for `shift`.
        counts_drawn: whether the logarithm of the number of counted negatives is added to the target's score.
        paths: the output rows of each word; None for the word and its negatives.
    """

    input_gradients: float
    output_gradients: np.ndarray
    rule: Literal["logistic", "softmax"] = "logistic"
    shift: np.ndarray | None = None
    target_shift: np.ndarray | None = None
    counts_drawn: bool = False
    paths: Paths | None = None


def score_candidates_of(sampler: WindowSampler, input_gradients: float) -> Scoring:
    """Return the scoring of a word and its negatives by logistic losses without a shift.

    Args:
        sampler: draws the negatives.
        input_gradients: as for `Scoring`.
    """
    return Scoring(input_gradients, sampler.frequency + sampler.negatives * sampler.noise.probabilities)
