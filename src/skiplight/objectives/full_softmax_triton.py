"""Full softmax on a GPU without writing logits to memory, by kernels like flash attention (Dao et al. 2022).

`_by_inputs` iterates over the output table for a tile of input vectors and sums exponentials of scores, and output
vectors weighted by them: logsumexp and Σ_w p(w|i) u_w, two matrix products in one pass. `_by_outputs` iterates over the
input vectors for a tile of output vectors, recomputes the scores, and sums Σ_i n_i p(w|i) v_i. This takes four products
on tensor cores instead of three with stored logits. Exponentials and sums are float32. The observed pairs are sums of
rows, which `_add_rows` adds in a fixed order.

Exponentials are of a score minus a shift that is known beforehand, so that no running maximum is kept and no sum is
rescaled: the largest score of a row lies between its mean score and |v| times the length of the longest output vector,
and there is room for both in the 252 powers of two of float32 and bfloat16. `_by_inputs_apart` keeps a running maximum,
for the tiles where they are too far apart.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E, LN_2 = tl.constexpr(math.log2(math.e)), tl.constexpr(math.log(2))
"""Exponentials and logarithms are of base 2, which the hardware has."""


class Tiles(NamedTuple):
    """Rows of a program, rows of the other table in a step, warps, and steps in flight."""

    own: int
    other: int
    warps: int
    stages: int


BY_INPUTS, BY_OUTPUTS, LONG, FLOAT32 = (
    Tiles(64, 128, 4, 3),
    Tiles(64, 64, 4, 3),
    Tiles(64, 64, 4, 2),
    Tiles(128, 64, 8, 3),
)
"""The fastest on an H100: of the two kernels up to 128 numbers a row, of longer rows, and of float32."""

SHARED = 232_448
"""Bytes of shared memory of a program on an H100 or H200, for machines without a GPU."""

ABOVE, BELOW = 90.0, 100.0
"""Powers of two that the largest score may be above the shift (a sum of 2^31 of them is still finite) and below it."""

PIECE, GROUP = 64, 8
"""Rows that a program adds, since longer sums are sums of such sums; rows that it reads at a time."""


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
        counts: int64 [n], the number of pairs of each input word, at least one.
        targets: int64 [pairs], the output words of the first input word, then of the second, and so on.
    """
    (n, dim), words, device = vectors.shape, len(output), vectors.device
    low, high = _bounds(vectors.float(), output.float(), bias)
    shift, apart = torch.maximum(low, high - ABOVE), (high - low > ABOVE + BELOW).int()
    if vectors.dtype == torch.float16:  # it has too few powers of two
        apart = torch.ones_like(apart)

    # Whole rows are read without masks.
    width = _width(dim)
    padded = [torch.nn.functional.pad(table, (0, width - dim)) if width > dim else table for table in (vectors, output)]
    log_sum, by_vectors = torch.empty(n, device=device), torch.empty((n, dim), device=device)
    own = log_sum if bias is None else bias
    constants = (n, words, dim, width, bias is not None)
    for kernel in (_by_inputs, _by_inputs_apart):
        grid, tiles = _launch(BY_INPUTS, n, output)
        kernel[grid](*padded, own, shift, apart, log_sum, by_vectors, *constants, **tiles)
    # Rows that the last tile is short of have no share.
    grid, tiles = _launch(BY_OUTPUTS, words, vectors)
    lift = torch.nn.functional.pad(counts.log2() - log_sum * LOG2_E.value, (0, -n % tiles["TILE"]), value=-math.inf)
    by_output, by_bias = torch.empty((words, dim), device=device), torch.zeros(words, device=device)
    _by_outputs[grid](*padded, own, lift, by_output, by_bias, *constants, **tiles)

    # The observed pairs: sums of output vectors for each input word, and of input vectors for each output word.
    observed = _sums(output, targets, counts.cumsum(0))
    loss = (counts * log_sum).sum(dtype=torch.float64) - (vectors.float() * observed).sum(dtype=torch.float64)
    by_vectors.mul_(counts[:, None]).sub_(observed)
    row = torch.repeat_interleave(torch.arange(n, device=device), counts, output_size=len(targets))
    sorted_targets, order = torch.sort(targets.int())
    ends = torch.searchsorted(sorted_targets, torch.arange(words, device=device, dtype=torch.int32), right=True)
    by_output -= _sums(vectors, row[order], ends)
    if bias is not None:
        seen = torch.diff(ends, prepend=ends.new_zeros(1))
        by_bias -= seen
        loss -= (bias.double() * seen).sum()
    return Softmax(loss, by_vectors, by_output, by_bias)


def _launch(tiles: Tiles, rows: int, table: Tensor) -> tuple[tuple[int], dict[str, int]]:
    """Return the grid and the options of a kernel over so many rows, whose vectors are like those of a table."""
    fitting = fit(tiles, _width(table.shape[1]), table.element_size(), _shared_memory(table.device))
    return (triton.cdiv(rows, fitting.own),), {
        "OWN": fitting.own, "TILE": fitting.other, "num_warps": fitting.warps, "num_stages": fitting.stages,
    }  # fmt: skip


@functools.cache
def _shared_memory(device: torch.device) -> int:
    """Return the bytes of shared memory that a program can have."""
    if device.type != "cuda":
        return SHARED
    return int(torch.cuda.get_device_properties(device).shared_memory_per_block_optin)  # type: ignore[attr-defined]


def fit(tiles: Tiles, width: int, element: int, shared: int) -> Tiles:
    """Return the tiles for vectors of a length and type, as many rows at a time as the shared memory takes.

    Args:
        tiles: those of a kernel, for short vectors.
        width: numbers of a row, padded.
        element: bytes of a number.
        shared: bytes of shared memory.
    """
    tiles = FLOAT32 if element == 4 else LONG if width > 128 else tiles
    other = tiles.other
    while other > 16 and (tiles.own + tiles.stages * other) * width * element > 0.95 * shared:
        other //= 2
    return tiles._replace(other=other)


def _width(dim: int) -> int:
    return max(16, triton.next_power_of_2(dim))


def _bounds(vectors: Tensor, output: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what the largest score of each row is at least and at most, times log2(e), float32 [n] each."""
    low = vectors @ (output.T @ output.new_full((len(output),), 1 / len(output)))  # the mean score
    high = torch.linalg.vector_norm(vectors, dim=1) * torch.linalg.vector_norm(output, dim=1).amax()
    if bias is not None:
        low, high = low + bias.mean(), high + bias.amax()
    return low * LOG2_E.value, high * LOG2_E.value


def _sums(table: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    """Return the sums of consecutive runs of rows of a table, float32 [runs, d].

    Runs differ in length by orders of magnitude, so they are cut into pieces that are added at the same time.

    Args:
        rows: int64 [n], numbers of rows.
        ends: int64 [runs], where each run ends.
    """
    begins = torch.nn.functional.pad(ends[:-1], (1, 0))
    pieces = (ends - begins + PIECE - 1) // PIECE
    last_piece = pieces.cumsum(0)
    # As many pieces as there can be, so that the host need not wait for their number; the last ones are empty.
    piece = torch.arange(len(rows) // PIECE + len(ends), device=rows.device)
    run = torch.searchsorted(last_piece, piece, right=True).clamp(max=len(ends) - 1)
    first = begins[run] + (piece - last_piece[run] + pieces[run]) * PIECE
    sums = _added(table, rows, first, torch.minimum(first + PIECE, ends[run]))
    return _added(sums, None, last_piece - pieces, last_piece)


def _added(table: Tensor, rows: Tensor | None, begins: Tensor, ends: Tensor) -> Tensor:
    """Return sums of rows of a table, float32 [sums, d], each of the rows in a range of `rows` or of the table."""
    dim = table.shape[1]
    sums = torch.empty((len(begins), dim), device=table.device)
    width = triton.next_power_of_2(dim)
    _add_rows[(len(begins),)](
        table, begins if rows is None else rows, begins, ends, sums, dim, width, GROUP, rows is not None, num_warps=1
    )  # fmt: skip
    return sums


@triton.jit
def _add_rows(
    table, rows, begins, ends, sums,
    DIM: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    begin, end = tl.load(begins + tl.program_id(0)), tl.load(ends + tl.program_id(0))
    column, total = tl.arange(0, WIDTH), tl.zeros([WIDTH], tl.float32)
    for first in range(begin, end, GROUP):
        row = first + tl.arange(0, GROUP)
        there = (row < end)[:, None] & (column < DIM)[None, :]
        if LISTED:
            row = tl.load(rows + row, mask=row < end, other=0)
        total += tl.sum(tl.load(table + row[:, None] * DIM + column[None, :], mask=there, other=0.0).to(tl.float32), 0)
    tl.store(sums + tl.program_id(0).to(tl.int64) * DIM + column, total, mask=column < DIM)


@triton.jit
def _add_tile(
    v, output, bias, shift, first, words, total, weighted,
    WIDTH: tl.constexpr, TILE: tl.constexpr, BIAS: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """Add a tile of output vectors to the sums of `_by_inputs`; only the last one may reach beyond the table."""
    word, column = first + tl.arange(0, TILE), tl.arange(0, WIDTH)
    place = output + word.to(tl.int64)[:, None] * WIDTH + column[None, :]
    if LAST:
        u = tl.load(place, mask=(word < words)[:, None], other=0.0)
    else:
        u = tl.load(place)
    scores = tl.dot(v, tl.trans(u))
    if BIAS:
        if LAST:
            scores += tl.load(bias + word, mask=word < words, other=0.0)[None, :]
        else:
            scores += tl.load(bias + word)[None, :]
    p = tl.exp2(scores * LOG2_E - shift[:, None])
    if LAST:
        p = tl.where((word < words)[None, :], p, 0.0)
    return total + tl.sum(p, 1), tl.dot(p.to(u.dtype), u, weighted)


@triton.jit(do_not_specialize=["n", "words"])
def _by_inputs(
    vectors, output, bias, shift, apart, log_sum, expected, n, words,
    DIM: tl.constexpr, WIDTH: tl.constexpr, BIAS: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * OWN + tl.arange(0, OWN), tl.arange(0, WIDTH)
    works = tl.max(tl.load(apart + row, mask=row < n, other=0), 0) == 0
    there = row < tl.where(works, n, 0)
    mine = there[:, None] & (column < DIM)[None, :]
    v = tl.load(vectors + row.to(tl.int64)[:, None] * WIDTH + column[None, :], mask=there[:, None], other=0.0)
    own = tl.load(shift + row, mask=row < n, other=0.0)
    total, weighted = tl.zeros([OWN], tl.float32), tl.zeros([OWN, WIDTH], tl.float32)
    stop = tl.where(works, words // TILE * TILE, 0)
    for first in range(0, stop, TILE):
        total, weighted = _add_tile(v, output, bias, own, first, words, total, weighted, WIDTH, TILE, BIAS, False)
    total, weighted = _add_tile(v, output, bias, own, stop, words, total, weighted, WIDTH, TILE, BIAS, True)
    tl.store(log_sum + row, (own + tl.log2(total)) * LN_2, mask=there)
    tl.store(expected + row.to(tl.int64)[:, None] * DIM + column[None, :], weighted / total[:, None], mask=mine)


@triton.jit(do_not_specialize=["n", "words"])
def _by_inputs_apart(
    vectors, output, bias, shift, apart, log_sum, expected, n, words,
    DIM: tl.constexpr, WIDTH: tl.constexpr, BIAS: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * OWN + tl.arange(0, OWN), tl.arange(0, WIDTH)
    works = tl.max(tl.load(apart + row, mask=row < n, other=0), 0) > 0
    there = row < tl.where(works, n, 0)
    mine = there[:, None] & (column < DIM)[None, :]
    v = tl.load(vectors + row.to(tl.int64)[:, None] * WIDTH + column[None, :], mask=there[:, None], other=0.0)
    largest, total = tl.full([OWN], -float("inf"), tl.float32), tl.zeros([OWN], tl.float32)
    weighted = tl.zeros([OWN, WIDTH], tl.float32)
    for first in range(0, tl.where(works, words, 0), TILE):
        word = first + tl.arange(0, TILE)
        place = output + word.to(tl.int64)[:, None] * WIDTH + column[None, :]
        u = tl.load(place, mask=(word < words)[:, None], other=0.0)
        scores = tl.dot(v, tl.trans(u))
        if BIAS:
            scores += tl.load(bias + word, mask=word < words, other=0.0)[None, :]
        scores = tl.where((word < words)[None, :], scores, -float("inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        p, shrink = tl.exp(scores - larger[:, None]), tl.exp(largest - larger)
        total = total * shrink + tl.sum(p, 1)
        weighted = tl.dot(p.to(u.dtype), u, weighted * shrink[:, None])
        largest = larger
    tl.store(log_sum + row, largest + tl.log(total), mask=there)
    tl.store(expected + row.to(tl.int64)[:, None] * DIM + column[None, :], weighted / total[:, None], mask=mine)


@triton.jit(do_not_specialize=["n", "words"])
def _by_outputs(
    vectors, output, bias, lift, by_output, by_bias, n, words,
    DIM: tl.constexpr, WIDTH: tl.constexpr, BIAS: tl.constexpr, OWN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    word, column = tl.program_id(0) * OWN + tl.arange(0, OWN), tl.arange(0, WIDTH)
    mine = (word < words)[:, None] & (column < DIM)[None, :]
    place = output + word.to(tl.int64)[:, None] * WIDTH + column[None, :]
    u = tl.load(place, mask=(word < words)[:, None], other=0.0)
    total, weighted = tl.zeros([OWN], tl.float32), tl.zeros([OWN, WIDTH], tl.float32)
    own = tl.zeros([OWN], tl.float32)
    if BIAS:
        own = tl.load(bias + word, mask=word < words, other=0.0)
    for first in range(0, n, TILE):
        row = first + tl.arange(0, TILE)
        v = tl.load(vectors + tl.minimum(row, n - 1).to(tl.int64)[:, None] * WIDTH + column[None, :])
        scores = tl.dot(u, tl.trans(v))
        if BIAS:
            scores += own[:, None]
        p = tl.exp2(scores * LOG2_E + tl.load(lift + row)[None, :])
        if BIAS:
            total += tl.sum(p, 1)
        weighted = tl.dot(p.to(v.dtype), v, weighted)
    tl.store(by_output + word.to(tl.int64)[:, None] * DIM + column[None, :], weighted, mask=mine)
    if BIAS:
        tl.store(by_bias + word, total, mask=word < words)
