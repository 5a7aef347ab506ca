"""Tells before a training starts that its learning rate is too high for the gradients that one update sums up.

A row moves by lr times the sum of n gradients at once. By the logistic loss's curvature that is stable only while
lr·n·σ(1-σ)·λ < 2, with σ(1-σ) at most 1/4 and λ the squared length of the vectors on the other side, some 4 for
frequent words of trained tables: so while lr·n < 2. What n is depends on the unit of update:

- a window (the fused engine): each of its words adds to the centre's row, so n is up to twice the half-width;
- a block (the autograd engine, plain SGD): every pair that a word of the block is in. There the engine counts a row's
  sum for at most 4/lr gradients, which keeps any block stable, but most of what a frequent word is told is lost.
"""

from __future__ import annotations

import numpy as np

from skiplight.sampling.windows import WindowSampler

SHORTENED = 10
"""A share of 1 in so many gradients is still no loss to speak of: frequent words have more than they need."""


def gradients_per_token(sampler: WindowSampler, counts: np.ndarray) -> np.ndarray:
    """How many scores of a consumed token each word is in, float64 [V], the more of its input and its output row."""
    kept = sampler.keep / 2**32 * counts / counts.sum()
    # W + 1 pairs a window on average, with the words that subsampling leaves; K + 1 scores a pair.
    pairs = kept * (sampler.window + 1)
    drawn = pairs.sum() * sampler.negatives * sampler.noise.probabilities
    return np.maximum(pairs * (sampler.negatives + 1), pairs + drawn)


def warning(
    sampler: WindowSampler, counts: np.ndarray, *, optimizer: str, lr: float, block_tokens: int, per_window: bool
) -> str | None:
    """What to say about a learning rate that is too high, None where there is nothing to say.

    Args:
        sampler: makes the windows.
        counts: of the words, int64 [V].
        optimizer: name of the optimiser; all but plain SGD choose the length of their steps themselves.
        lr: learning rate at the beginning.
        block_tokens: tokens a step consumes.
        per_window: whether the tables move with every window, rather than once a step.
    """
    if optimizer.lower() != "sgd":
        return None
    if per_window:
        words = 2 * sampler.window
        if lr * words < 2:
            return None
        return (
            f"`optim.lr={lr:g}` is high for windows of {words} words, whose gradients are summed: training may diverge;"
            f" below {2 / words:.2g} it is safe"
        )
    n = float(gradients_per_token(sampler, counts).max()) * block_tokens
    if lr * n < 4 * SHORTENED:
        return None
    most = max(1, int(block_tokens * 4 * SHORTENED / (lr * n)))
    return (
        f"a step of {block_tokens:,} tokens sums some {n:,.0f} gradients for the most frequent word, of which"
        f" `optim.lr={lr:g}` leaves {4 / lr:,.0f}: the vectors will be poor; give `data.block_tokens={most}`, a lower"
        " `optim.lr`, or an optimiser such as `optim.name=adagrad`"
    )
