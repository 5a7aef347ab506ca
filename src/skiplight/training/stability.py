"""Warnings, before and after a training, of a learning rate too high for the gradients summed in one update.

An update moves a row by lr times the sum of n gradients. By the curvature of the logistic loss it is stable only if
lr·n·σ(1-σ)·λ < 2, with σ(1-σ) at most 1/4 and λ the squared length of the vectors on the other side, about 4 for
frequent words of trained tables: if lr·n < 2. The unit of update determines n:

- a window (the fused engine): each of its words adds to the centre's row, so n is up to twice the half-width;
- a block (the autograd engine, plain SGD): all pairs of the word in the block. The engine limits the sum of a row to
  the weight of 4/lr gradients, which keeps any block stable but leaves out the rest of a frequent word's gradients.
  Word counts predict this share before a training; the engine counts it during the training.
"""

from __future__ import annotations

import numpy as np
import torch

from skiplight.objectives.base import Objective, Tables
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler

LEFT_OUT = 0.05
"""The share of a table's gradients left out by shortened steps above which the user is warned."""

LEARNED = 0.005
"""The share of the loss of untrained vectors by which it must fall for something to have been learned."""

SMALLEST = 100
"""The smallest `data.block_tokens` that is recommended; smaller steps would take too long."""

DRAWN = 20_000
"""The most tokens on which the gradients of a step are counted before a training."""


def learning_rate_warning(
    sampler: WindowSampler,
    counts: np.ndarray,
    objective: Objective,
    tables: Tables,
    *,
    optimizer: str,
    lr: float,
    block_tokens: int,
    ranks: int = 1,
    per_window: bool,
) -> str | None:
    """Return the warning to give before a training, or None.

    Args:
        sampler: makes the windows.
        counts: word counts, int64 [V].
        objective: counts the gradients that it sums in each row.
        tables: the initial tables; only their sizes matter.
        optimizer: name of the optimiser; all but plain SGD scale their steps themselves.
        lr: initial learning rate.
        block_tokens: tokens a step consumes on each rank.
        ranks: number of ranks that sum their gradients in a step.
        per_window: whether the tables move with every window instead of once per step.
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
    summed = expected_gradients(sampler, counts, objective, tables, block_tokens * ranks)
    shares = {name: share_left_out(rows, 4 / lr) for name, rows in summed.items()}
    table = max(shares, key=lambda name: shares[name])
    if shares[table] <= LEFT_OUT:
        return None
    tokens = block_tokens
    while tokens > 1 and any(
        share_left_out(rows * (tokens / block_tokens), 4 / lr) > LEFT_OUT for rows in summed.values()
    ):
        tokens //= 2
    return (
        f"steps of {block_tokens * ranks:,} tokens sum so many gradients for frequent words that `optim.lr={lr:g}` will"
        f" leave out about {shares[table]:.0%} of those of the {table} vectors, which will be poorer for it:"
        f" give {_remedy(f'`data.block_tokens={tokens}`' if tokens >= SMALLEST else None)}"
    )


def untrained_warning(loss: float, untrained: float, kept: float) -> str | None:
    """Return the warning to give after a training that has learned next to nothing, or None.

    Args:
        loss: of the last epoch, per pair.
        untrained: the loss of untrained vectors, (1 + K) log 2 in negative sampling.
        kept: the share of the tokens that subsampling keeps.
    """
    if loss < (1 - LEARNED) * untrained:
        return None
    subsampled = f", or `sampling.subsample=0`, as subsampling keeps {kept:.0%} of the tokens" if kept < 0.5 else ""
    return (
        f"the loss of {loss:.4f} is still that of untrained vectors, {untrained:.4f}: next to nothing was learned;"
        f" give more `trainer.max_epochs`, a higher `optim.lr`{subsampled}"
    )


def shortened_warning(shares: dict[str, dict[str, float | int]], per_window: bool) -> str | None:
    """Return the warning to give after a training, or None.

    Args:
        shares: the result of the engine's `Shortening.shares`.
        per_window: as in `learning_rate_warning`.
    """
    table = max(shares, key=lambda name: shares[name]["share"])
    if shares[table]["share"] <= LEFT_OUT:
        return None
    remedy = (
        "give fewer `trainer.threads` or fewer ranks (`trainer.devices`, `trainer.num_nodes`), or a lower `optim.lr`"
        if per_window
        else f"give {_remedy('smaller `data.block_tokens`')}"
    )
    return (
        f"shortened steps left out {shares[table]['share']:.0%} of the gradients of the {table} vectors, those of"
        f" frequent words, in up to {shares[table]['rows']:,} rows a step; the vectors are poorer for it: {remedy}"
    )


def _remedy(smaller: str | None) -> str:
    steps = f"{smaller}, " if smaller else ""
    return f"{steps}a lower `optim.lr`, or an adaptive optimiser such as `optim.name=adagrad`"


def expected_gradients(
    sampler: WindowSampler, counts: np.ndarray, objective: Objective, tables: Tables, tokens: int
) -> dict[str, np.ndarray]:
    """Return the gradients that a step of `tokens` tokens sums in each row of the tables, float64 [rows] by table.

    The objective counts them on at most `DRAWN` tokens drawn independently by word count, and the result is scaled.
    """
    drawn = min(tokens, DRAWN)
    p = counts / counts.sum()
    text = np.random.default_rng(0).choice(len(counts), drawn, p=p).tolist()
    windows = sampler(TokenBlock.of([text]))
    if windows.pairs == 0:
        return {"input": np.zeros(1), "output": np.zeros(1)}
    with torch.no_grad():
        found = objective.gradients(tables, windows)
    return {
        name: rows.double().cpu().numpy() * (tokens / drawn)
        for name, rows in (("input", found.inputs), ("output", found.outputs))
    }


def share_left_out(gradients: np.ndarray, most: float) -> float:
    """Return the share of the gradients that is left out if each row counts at most `most` of its own.

    >>> share_left_out(np.array([30.0, 60.0, 10.0]), most=40)
    0.2
    """
    total = float(gradients.sum())
    return float(np.maximum(gradients - most, 0).sum()) / total if total else 0.0
