"""The limits of a GPU, measured for `gpu.py`: copies, reads and atomic additions of random rows, and matrix products.

Rates are medians over several runs. Rows are float32 and as long as those of a table; which rows is drawn uniformly, by
Zipf's law as words are, or always the same one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import triton
import triton.language as tl

ROWS = 32
"""Rows that a program reads or adds to."""


@triton.jit
def _read(table, index, out, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    row = tl.load(index + tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, WIDTH)
    values = tl.load(table + row[:, None] * DIM + column[None, :], mask=(column < DIM)[None, :], cache_modifier=".cg")
    tl.store(out + tl.program_id(0) * WIDTH + column, tl.sum(values, 0))


@triton.jit
def _add(table, index, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    row = tl.load(index + tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, WIDTH)
    values = tl.zeros([ROWS, WIDTH], tl.float32) + 1e-9
    tl.atomic_add(
        table + row[:, None] * DIM + column[None, :], values, mask=(column < DIM)[None, :], sem="relaxed"
    )  # fmt: skip


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of `work` after a first run, which may compile and only counts if `repeats` is 0."""
    taken = []
    for _ in range(repeats + 1):
        wait(device)
        begin = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:] or taken)


def wait(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceilings(device: torch.device, frequency: torch.Tensor, dim: int, tiny: bool) -> dict[str, float]:
    """Return the rates per second of this device.

    Args:
        frequency: float64 [V], how often words come.
        dim: numbers in a row.
        tiny: so little work that the figures mean nothing.

    Returns:
        `copy`: bytes read and written; `read_*`: bytes of random rows read; `add_*`: float32 additions; `bf16` and
        `tf32`: FLOP of a product of matrices.
    """
    words, count, repeats = len(frequency), 2 * ROWS if tiny else 2**20, 0 if tiny else 5
    width = triton.next_power_of_2(dim)
    memory = torch.empty(2**10 if tiny else 2**28, device=device)
    other = torch.empty_like(memory)
    rates = {"copy": 8 * memory.numel() / seconds(lambda: other.copy_(memory), device, repeats)}
    table = torch.zeros((words, dim), device=device)
    out = torch.empty((count // ROWS, width), device=device)
    generator = torch.Generator().manual_seed(0)
    picks = {
        "uniform": torch.randint(words, (count,), generator=generator),
        "zipf": torch.multinomial(frequency, count, replacement=True, generator=generator),
        "one": torch.zeros(count, dtype=torch.int64),
    }
    for name, pick in picks.items():
        index, grid = pick.int().to(device), (count // ROWS,)
        read = seconds(lambda i=index, g=grid: _read[g](table, i, out, dim, width, ROWS), device, repeats)  # type: ignore[misc]
        add = seconds(lambda i=index, g=grid: _add[g](table, i, dim, width, ROWS), device, repeats)  # type: ignore[misc]
        rates |= {f"read_{name}": 4 * dim * count / read, f"add_{name}": dim * count / add}
    size = 32 if tiny else 8192
    allowed, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    for name, dtype in (("bf16", torch.bfloat16), ("tf32", torch.float32)):
        a = torch.randn((size, size), device=device, dtype=dtype)
        rates[name] = 2 * size**3 / seconds(lambda a=a: a @ a, device, repeats)  # type: ignore[misc]
    torch.backends.cuda.matmul.allow_tf32 = allowed
    return rates
