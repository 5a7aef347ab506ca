"""Emulate many threads of the fused CPU engine on one core, and measure their effect on the loss.

    python scripts/benchmarks/emulate_threads.py TEXT [--threads 1 2 8 16 64 128] [--lr 0.05] [--window 10]
                                                      [--subsample 0] [--epochs 1] [--plain] [--json PATH]

TEXT is any value of `data.path`, or `vital` for the demo text. The engine and its kernel are those of the package, with
one addition: between the scores of a window and its updates, a thread yields the core to the next one (`sched_yield`).
So threads take turns, a window each, as if each had its own core. The scores of a window lack one window of updates by
each other thread, and copies of context rows lack one for every window that they have been within reach.

`--plain` trains as if every thread were alone: with full steps, and with copies that live as long as equal words follow
each other within reach. That diverges.

The output has a row for each number of threads:

- `epoch losses`: the mean loss per pair of each epoch, while the tables are trained. One thread alone fits the tables
  to the document at hand, which lowers this number and not the next.
- `loss`: that of the tables at the end, over the whole text with other draws.
- `input left out`, `output left out`: the shares of both tables' gradients that shortened steps leave out.
- `turns`: the median number of turns of other threads between two turns of one thread. If it is not threads - 1, the
  scheduler of the system does not run the threads in turns, and the row is not valid.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba.core import types

from skiplight.config.validate import from_mapping
from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import Cursor
from skiplight.data.blocks import BlockSchedule
from skiplight.data.from_config import prepare_text
from skiplight.engines import fused_cpu_numba
from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.windows import WindowSampler

yield_core = types.ExternalFunction("sched_yield", types.int32())
BLOCK = 100_000
"""Tokens in a step. The learning rate follows the position in the text: threads that shared a long step would end at
different rates."""

update_rows = fused_cpu_numba.call_update


@numba.njit(inline="always")
def call_update(function, contexts, old, count, gradient, outputs, rows, context_scales, output_scales):
    """Update rows after all other threads have had a turn."""
    yield_core()
    update_rows(function, contexts, old, count, gradient, outputs, rows, context_scales, output_scales)


def take_turns() -> None:
    """Make kernels that are compiled from now on yield to other threads on one core, and do not cache them."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    fused_cpu_numba.call_update = call_update
    fused_cpu_numba.kernel = lambda: numba.njit(nogil=True)


@numba.njit(nogil=True)
def _log_turns(thread, log, count, turns):
    for _ in range(turns):
        log[count[0]] = thread
        count[0] += 1
        yield_core()


def turns_of_others(threads: int, turns: int = 1000) -> float:
    """Return the median number of turns of other threads between two turns of one thread."""
    log, count = np.empty(threads * turns, np.int32), np.zeros(1, np.int64)
    _log_turns(0, log, count, 0)
    crew = [threading.Thread(target=_log_turns, args=(i, log, count, turns)) for i in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    # Before the middle all threads have begun; after it some have ended.
    middle = log[threads * turns // 4 : threads * turns // 2]
    return float(np.median(np.concatenate([np.diff(np.flatnonzero(middle == i)) for i in range(threads)]))) - 1


def train(engine: FusedCpuEngine, text: TokenStore, epoch: int, rate: Callable[[int], float]) -> float:
    """Train for one epoch and return the mean loss per pair; `rate` maps a number of tokens to a learning rate."""
    loss, pairs, done = 0.0, 0, text.train.tokens * epoch
    for block in BlockSchedule(text, BLOCK, 0)(Cursor(epoch), 0, 1, 0, 1):
        result = engine.step(block, rate(done), rate(done + len(block.ids)))
        loss, pairs, done = loss + float(result.loss_sum), pairs + int(result.pairs), done + len(block.ids)
    return loss / pairs


def run(text: TokenStore, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train by a number of threads; return the mean loss per pair of each epoch and the share left out."""
    counts = text.vocabulary.counts
    sampler = WindowSampler(
        counts, window=options.window, negatives=options.negatives, subsample=options.subsample, shared=options.shared
    )
    tables = Tables(len(counts), options.dim)
    objective = NegativeSampling(sampler.noise.probabilities)
    engine = FusedCpuEngine(objective, tables, torch.optim.SGD(tables.parameters(), lr=1), sampler, threads)
    if options.plain:
        engine.scales.other_workers = 0
    total = text.train.tokens * options.epochs
    losses = [
        train(engine, text, epoch, lambda tokens: options.lr * max(1 - tokens / total, 1e-4))
        for epoch in range(options.epochs)
    ]
    shares = engine.shortening.shares()
    final = train(engine, text, options.epochs, lambda tokens: 0.0)
    left_out = {f"{table} left out": round(shares[table]["share"], 4) for table in ("input", "output")}
    turns = turns_of_others(threads)
    return {"threads": threads, "epoch losses": losses, "loss": final} | left_out | {"turns": turns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 8, 16, 64, 128])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--subsample", type=float, default=0.0)
    parser.add_argument("--negatives", type=int, default=5)
    parser.add_argument("--shared", choices=["window", "pair"], default="window")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--json", type=Path, help="where rows are kept as well")
    options = parser.parse_args()
    data = {"source": "vital"} if options.text == "vital" else {"source": "files", "path": options.text}
    text = prepare_text(from_mapping({"data": data}))
    take_turns()
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "threads")}
    rows = []
    for threads in options.threads:
        rows.append(settings | run(text, threads, options))
        print(json.dumps(rows[-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
