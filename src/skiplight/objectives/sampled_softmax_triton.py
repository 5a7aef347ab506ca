"""Sampled softmax on a GPU without writing scores to memory: one kernel for the loss, one for its gradient.

A row of candidates (the target and K negatives of a window or a pair) is multiplied with the context vectors that it
scores (all of a window's, or one) in small matrix products. `_losses` stores only the log denominator of each pair;
`_gradients` recomputes the scores and writes the rows of the tables' sparse gradients, one per candidate and context
word. Both read the tables directly, while `scores.py` copies the rows of a step.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 16
"""Candidates per step of a kernel, the smallest tile of tensor cores."""


def count_warps(contexts: int, width: int) -> int:
    """Return the warps of a program for a tile of context vectors."""
    return min(max(contexts * width // 1024, 1), 8)


class CandidatesLoss(torch.autograd.Function):
    """-Σ log softmax(scores of a row's candidates) at the first candidate, over all pairs."""

    @staticmethod
    def forward(
        context: Any,
        input: Tensor,
        output: Tensor,
        added: Tensor,
        inputs: Tensor,
        ends: Tensor,
        words: Tensor,
        contexts: int,
        factor_type: torch.dtype,
        sparse: bool,
    ) -> Tensor:
        """Return the summed loss, float64 [].

        Args:
            input, output: float32 [V, d], the tables.
            added: float32 [rows, S], added to a candidate's scores; -inf where it does not count.
            inputs: int32 [pairs], the context words of the first row, then of the second, and so on.
            ends: int64 [rows + 1], the index of each row's first context word, and the number of pairs.
            words: int32 [rows, S], the candidates; the first is the target.
            contexts: at least the largest number of context words of a row; a power of two of at least 16.
            factor_type: the type of the products' factors: float32 (TF32 where torch allows it), float16 or bfloat16.
            sparse: whether the tables get sparse gradients.
        """
        (rows, slots), dim = words.shape, input.shape[1]
        width = max(16, triton.next_power_of_2(dim))
        log_sum, losses = torch.empty(len(inputs), device=input.device), torch.empty(rows, device=input.device)
        how = {
            "DIM": dim, "WIDTH": width, "SLOTS": slots, "CONTEXTS": contexts, "TILE": TILE,
            "KIND": {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}.get(factor_type, tl.float32),
            "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            "num_warps": count_warps(contexts, width),
        }  # fmt: skip
        _losses[(rows,)](input, output, added, inputs, ends, words, log_sum, losses, **how)
        context.save_for_backward(input, output, added, inputs, ends, words, log_sum)
        context.how, context.sparse = how, sparse
        return losses.sum(dtype=torch.float64)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, output, added, inputs, ends, words, log_sum = context.saved_tensors
        scale = gradients[0].float().reshape(1)
        by_context = torch.empty((len(inputs), input.shape[1]), device=input.device)
        by_word = torch.empty((*words.shape, input.shape[1]), device=input.device)
        by_added = torch.empty_like(added)
        _gradients[(len(words),)](
            input, output, added, inputs, ends, words, log_sum, scale, by_context, by_word, by_added, **context.how
        )
        by_word = by_word.flatten(0, 1)
        return (
            _table_gradient(inputs, by_context, input, context.sparse),
            _table_gradient(words.flatten(), by_word, output, context.sparse),
            by_added, None, None, None, None, None, None,
        )  # fmt: skip


def _table_gradient(rows: Tensor, gradient: Tensor, table: Tensor, sparse: bool) -> Tensor:
    """Return a table's gradient from the gradients of some rows, which may repeat."""
    if sparse:
        return torch.sparse_coo_tensor(rows.long()[None], gradient, table.shape, check_invariants=False)
    return torch.zeros_like(table).index_add_(0, rows, gradient)


@triton.jit
def _vectors(table, word, there, column, DIM: tl.constexpr):
    """Load rows of a table, [words, columns], zero where there is no word."""
    at = table + word.to(tl.int64)[:, None] * DIM + column[None, :]
    return tl.load(at, mask=there[:, None] & (column < DIM)[None, :], other=0.0)


@triton.jit
def _contexts(input, inputs, ends, row, column, DIM: tl.constexpr, CONTEXTS: tl.constexpr):
    """Return the pairs of a row, a mask of the existing ones, and their context vectors [CONTEXTS, columns]."""
    pair = tl.load(ends + row) + tl.arange(0, CONTEXTS)
    there = pair < tl.load(ends + row + 1)
    return pair, there, _vectors(input, tl.load(inputs + pair, mask=there, other=0), there, column, DIM)


@triton.jit
def _scored(v, output, added, words, at, known, column, DIM: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """Return the vectors of the candidates `at`, and their scores with context vectors, -inf where not `known`."""
    u = _vectors(output, tl.load(words + at, mask=known, other=0), known, column, DIM).to(KIND)
    plus = tl.load(added + at, mask=known, other=-float("inf"))
    return u, tl.dot(v.to(KIND), tl.trans(u), input_precision=PRECISION) + plus[None, :]


@triton.jit
def _losses(
    input, output, added, inputs, ends, words, log_sum, losses,
    DIM: tl.constexpr, WIDTH: tl.constexpr, SLOTS: tl.constexpr, CONTEXTS: tl.constexpr, TILE: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    row, lane, column = tl.program_id(0).to(tl.int64), tl.arange(0, TILE), tl.arange(0, WIDTH)
    pair, there, v = _contexts(input, inputs, ends, row, column, DIM, CONTEXTS)
    largest, total = tl.full([CONTEXTS], -float("inf"), tl.float32), tl.zeros([CONTEXTS], tl.float32)
    target = tl.zeros([CONTEXTS], tl.float32)
    for begin in range(0, SLOTS, TILE):
        slot = begin + lane
        _, scores = _scored(v, output, added, words, row * SLOTS + slot, slot < SLOTS, column, DIM, KIND, PRECISION)
        target += tl.sum(tl.where((slot == 0)[None, :], scores, 0.0), 1)
        larger = tl.maximum(largest, tl.max(scores, 1))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(scores - larger[:, None]), 1)
        largest = larger
    log_total = largest + tl.log(total)
    tl.store(log_sum + pair, log_total, mask=there)
    tl.store(losses + row, tl.sum(tl.where(there, log_total - target, 0.0)))


@triton.jit
def _gradients(
    input, output, added, inputs, ends, words, log_sum, scale, by_context, by_word, by_added,
    DIM: tl.constexpr, WIDTH: tl.constexpr, SLOTS: tl.constexpr, CONTEXTS: tl.constexpr, TILE: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    row, lane, column = tl.program_id(0).to(tl.int64), tl.arange(0, TILE), tl.arange(0, WIDTH)
    pair, there, v = _contexts(input, inputs, ends, row, column, DIM, CONTEXTS)
    log_total, times = tl.load(log_sum + pair, mask=there, other=0.0), tl.load(scale)
    moved = tl.zeros([CONTEXTS, WIDTH], tl.float32)
    for begin in range(0, SLOTS, TILE):
        slot = begin + lane
        known, candidate = slot < SLOTS, row * SLOTS + slot
        u, scores = _scored(v, output, added, words, candidate, known, column, DIM, KIND, PRECISION)
        p = tl.exp(scores - log_total[:, None])
        by_score = tl.where(there[:, None], p - tl.where(slot == 0, 1.0, 0.0)[None, :], 0.0)
        tl.store(by_added + candidate, times * tl.sum(by_score, 0), mask=known)
        by_score = by_score.to(KIND)
        moved = tl.dot(by_score, u, moved, input_precision=PRECISION)
        own = times * tl.dot(tl.trans(by_score), v.to(KIND), input_precision=PRECISION)
        at = by_word + candidate[:, None] * DIM + column[None, :]
        tl.store(at, own, mask=known[:, None] & (column < DIM)[None, :])
    at = by_context + pair[:, None] * DIM + column[None, :]
    tl.store(at, times * moved, mask=there[:, None] & (column < DIM)[None, :])
