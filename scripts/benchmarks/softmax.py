"""Compare full softmax with its three matrix products alone, and measure its memory.

    python scripts/benchmarks/softmax.py [--vocabulary 11800] [--dim 100] [--threads N] [--blocks 1000 10000 100000]

Text is synthetic, of Zipf's law. For each size of block:

- share: the rate of loss and backward pass against that of the products alone (logits, gradient of the inputs, gradient
  of the outputs; same shapes, same chunks, same threads, taking turns; medians), and with the optimiser's step.
- memory: peak above the process after imports and tables, windows included, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from skiplight.objectives.base import Tables
from skiplight.objectives.full_softmax import CHUNK, FullSoftmax
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler


def measure(vocabulary: int, dim: int, tokens: int, threads: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of each part for a block of a number of tokens, and peak memory in bytes."""
    torch.set_num_threads(threads)
    shares = 1 / np.arange(1, vocabulary + 1)
    counts = np.maximum(1, 1e6 * shares).astype(np.int64)
    objective, sampler = FullSoftmax(), WindowSampler(counts, negatives=0, subsample=1e-3)
    tables = Tables(vocabulary, dim, bias=objective.unigram_bias(counts))
    optimizer = torch.optim.SGD(tables.parameters(), lr=0.025)
    sampler(TokenBlock.of([[0, 1]]))  # compiles
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ids = np.random.default_rng(0).choice(vocabulary, tokens, p=shares / shares.sum())
    block = TokenBlock.of([part.tolist() for part in np.array_split(ids, -(-tokens // 1000))])

    def whole() -> None:
        optimizer.zero_grad()
        objective.loss(tables, sampler(block)).sum.backward()

    whole()
    optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - baseline

    windows = sampler(block)
    rows, chunk = len(windows.inputs.unique()), max(1, CHUNK // vocabulary)
    vectors, output = torch.randn(rows, dim), torch.randn(vocabulary, dim)

    def products() -> None:
        by_vectors, by_output = torch.empty_like(vectors), torch.zeros_like(output)
        for first in range(0, rows, chunk):
            part = vectors[first : first + chunk]
            logits = part @ output.T
            torch.mm(logits, output, out=by_vectors[first : first + chunk])
            by_output.addmm_(logits.T, part)

    def loss() -> None:
        optimizer.zero_grad()
        objective.loss(tables, windows).sum.backward()

    def step() -> None:
        loss()
        optimizer.step()

    seconds = in_turns([products, loss, step], repeats)
    return dict(zip(("products", "loss", "step"), seconds, strict=True)) | {"rows": rows, "peak": peak * 1024}


def in_turns(functions: list[Callable[[], None]], repeats: int) -> list[float]:
    """Return the median seconds of each function, in repeated turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            begin = time.perf_counter()
            function()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=11_800)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--blocks", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=10, help="about so long for each size of block")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = (options.vocabulary, options.dim)
    if options.one:
        once = measure(*shape, options.one, options.threads, 1)
        repeats = max(3, round(options.seconds / sum(once[name] for name in ("products", "loss", "step"))))
        print(json.dumps(measure(*shape, options.one, options.threads, repeats) | {"peak": once["peak"]}))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("tokens", "different inputs", "products ms", "loss ms", "share", "step ms", "share", "peak MB")
    for tokens in options.blocks:
        command = [sys.executable, __file__, "--one", str(tokens)]
        for name in ("vocabulary", "dim", "threads", "seconds"):
            command += [f"--{name}", str(getattr(options, name))]
        row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        products, loss, step = (row[name] * 1e3 for name in ("products", "loss", "step"))
        table.add_row(
            f"{tokens:,}", f"{row['rows']:,}", f"{products:.1f}", f"{loss:.1f}", f"{products / loss:.0%}",
            f"{step:.1f}", f"{products / step:.0%}", f"{row['peak'] / 1e6:.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
