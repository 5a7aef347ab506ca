"""Full softmax on a GPU without writing logits to memory, by two kernels like flash attention (Dao et al. 2022).

`_by_inputs` iterates over the output table for a tile of input vectors and keeps, for each, the running maximum score,
the sum of exponentials, and their sum weighted by the output vectors: logsumexp and Σ_w p(w|i) u_w, two matrix products
in one pass. `_by_outputs` iterates over the input vectors for a tile of output vectors, recomputes the scores, and sums
Σ_i n_i p(w|i) v_i. This takes four products on tensor cores instead of three with stored logits. Exponentials and sums
are float32. The observed pairs are sums of rows that plain tensor operations add.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

OWN, TILE, WARPS, STAGES = 64, 64, 4, 3
"""Rows of a program, rows of the other table in a step, warps up to d 128 (beyond, twice as many), steps in flight."""


class Softmax(NamedTuple):
    """-Σ log p(o|i), float64 [], and its gradients with respect to input vectors, output vectors and bias."""

    loss: Tensor
    by_vectors: Tensor
    by_output: Tensor
    by_bias: Tensor


def softmax_with_gradients(
    vectors: Tensor, output: Tensor, bias: Tensor | None, counts: Tensor, targets: Tensor
) -> Softmax:
    """Return loss and gradients of all pairs.

    Args:
        vectors: [n, d], d at most 256, in the type of the products: bfloat16, or float32 for TF32.
        output: [V, d], in the same type.
        bias: float32 [V], or None.
        counts: int64 [n], the number of pairs of each input word.
        targets: int64 [pairs], the output words of the first input word, then of the second, and so on.
    """
    (n, dim), words, device = vectors.shape, len(output), vectors.device
    width = max(16, triton.next_power_of_2(dim))
    log_sum, by_vectors = torch.empty(n, device=device), torch.empty((n, dim), device=device)
    one = log_sum if bias is None else bias
    options = {"num_warps": WARPS * (2 if width > 128 else 1), "num_stages": STAGES}
    constants = (dim, width, OWN, TILE, bias is not None)
    _by_inputs[(triton.cdiv(n, OWN),)](vectors, output, one, log_sum, by_vectors, n, words, *constants, **options)
    by_output, by_bias = torch.empty((words, dim), device=device), torch.empty(words, device=device)
    _by_outputs[(triton.cdiv(words, OWN),)](
        vectors, output, one, log_sum, counts.float(), by_output, by_bias, n, words, *constants, **options
    )
    by_vectors *= counts[:, None]
    # The observed pairs: sums of output vectors for each input word, and of input vectors for each output word.
    row = torch.repeat_interleave(torch.arange(n, device=device), counts, output_size=len(targets))
    seen, order = torch.bincount(targets, minlength=words), torch.argsort(targets)
    observed = _sums(output.float(), targets, counts)
    loss = (counts * log_sum).sum(dtype=torch.float64) - (vectors.float() * observed).sum(dtype=torch.float64)
    by_vectors -= observed
    by_output -= _sums(vectors.float(), row[order], seen)
    by_bias -= seen
    if bias is not None:
        loss -= (bias.double() * seen).sum()
    return Softmax(loss, by_vectors, by_output, by_bias)


def _sums(table: Tensor, rows: Tensor, lengths: Tensor) -> Tensor:
    """Return the sums of consecutive runs of rows of a table, float32 [runs, d], in a fixed order.

    Args:
        rows: int64 [n], numbers of rows.
        lengths: int64 [runs], how many belong to each run.
    """
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    return torch.nn.functional.embedding_bag(rows, table, ends, mode="sum", include_last_offset=True)


@triton.jit(do_not_specialize=["n", "words"])
def _by_inputs(
    vectors, output, bias, log_sum, expected, n, words,
    DIM: tl.constexpr, WIDTH: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * OWN + tl.arange(0, OWN), tl.arange(0, WIDTH)
    mine = (row < n)[:, None] & (column < DIM)[None, :]
    v = tl.load(vectors + row.to(tl.int64)[:, None] * DIM + column[None, :], mask=mine, other=0.0)
    largest, total = tl.full([OWN], -float("inf"), tl.float32), tl.zeros([OWN], tl.float32)
    weighted = tl.zeros([OWN, WIDTH], tl.float32)
    for first in range(0, words, TILE):
        word = first + tl.arange(0, TILE)
        there = (word < words)[:, None] & (column < DIM)[None, :]
        u = tl.load(output + word.to(tl.int64)[:, None] * DIM + column[None, :], mask=there, other=0.0)
        scores = tl.dot(v, tl.trans(u))
        if BIAS:
            scores += tl.load(bias + word, mask=word < words, other=0.0)[None, :]
        scores = tl.where((word < words)[None, :], scores, -float("inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        p, shrink = tl.exp(scores - larger[:, None]), tl.exp(largest - larger)
        total = total * shrink + tl.sum(p, 1)
        weighted = tl.dot(p.to(u.dtype), u, weighted * shrink[:, None])
        largest = larger
    tl.store(log_sum + row, largest + tl.log(total), mask=row < n)
    tl.store(expected + row.to(tl.int64)[:, None] * DIM + column[None, :], weighted / total[:, None], mask=mine)


@triton.jit(do_not_specialize=["n", "words"])
def _by_outputs(
    vectors, output, bias, log_sum, counts, by_output, by_bias, n, words,
    DIM: tl.constexpr, WIDTH: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    word, column = tl.program_id(0) * OWN + tl.arange(0, OWN), tl.arange(0, WIDTH)
    mine = (word < words)[:, None] & (column < DIM)[None, :]
    u = tl.load(output + word.to(tl.int64)[:, None] * DIM + column[None, :], mask=mine, other=0.0)
    own = tl.zeros([OWN], tl.float32)
    if BIAS:
        own = tl.load(bias + word, mask=word < words, other=0.0)
    total, weighted = tl.zeros([OWN], tl.float32), tl.zeros([OWN, WIDTH], tl.float32)
    for first in range(0, n, TILE):
        row = first + tl.arange(0, TILE)
        there = (row < n)[:, None] & (column < DIM)[None, :]
        v = tl.load(vectors + row.to(tl.int64)[:, None] * DIM + column[None, :], mask=there, other=0.0)
        count = tl.load(counts + row, mask=row < n, other=0.0)
        scores = tl.dot(u, tl.trans(v)) + own[:, None]
        p = tl.exp(scores - tl.load(log_sum + row, mask=row < n, other=0.0)[None, :])
        p = tl.where((count > 0)[None, :], p * count[None, :], 0.0)
        total += tl.sum(p, 1)
        weighted = tl.dot(p.to(v.dtype), v, weighted)
    tl.store(by_output + word.to(tl.int64)[:, None] * DIM + column[None, :], weighted, mask=mine)
    tl.store(by_bias + word, total, mask=word < words)
