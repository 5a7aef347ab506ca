"""Emulate how loss and scores depend on the number of windows that a fused engine trains on at a time.

    python scripts/benchmarks/in_flight.py [--in-flight 1 64 528 2048 8192] [--epochs 5] [--output benchmarks]
    python scripts/benchmarks/in_flight.py --layouts shared --in-flight 1 8 64 128 --epochs 1 \\
        --block-tokens 100000 --window 10 --subsample 0 --lr 0.05

The workers of a fused engine, programs on a GPU and threads on a CPU, each go through a stretch of their own, and none
sees what the others have under way. Here they go in step: every worker scores its next window by the output rows as
they were before the round, and the round's changes are added together, which is the worst that can happen. Layouts:

- resident (GPU): context rows are copied when they come within reach, and added to the table when they fall out of it.
- reloaded (GPU): context rows are read and added to in every window.
- shared (CPU): as resident, but equal words within reach share a copy, which goes back to the table and is read anew
  when the next of them comes within reach.

The steps of frequent rows are shortened as in the engines, or not. The text is the demo's, whose small vocabulary makes
words collide more than a large one would. `scripts/benchmarks/emulate_threads.py` has the CPU engine's own kernel.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import torch

from skiplight.config.validate import from_mapping
from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import Cursor
from skiplight.data.blocks import BlockSchedule
from skiplight.data.from_config import prepare_text
from skiplight.engines.fused_gpu import SHORTEST
from skiplight.engines.in_flight import MOST, in_flight_gradients
from skiplight.evaluation.suite import evaluate
from skiplight.objectives.base import Tables
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.sampling.windows_numba import _keep
from skiplight.vectors.word_vectors import WordVectors

LAYOUTS = ("resident", "reloaded", "shared")
RESIDENT, RELOADED, SHARED = range(3)
DIM, NEGATIVES = 100, 5
CUT = 4.0
"""The most that the figure shows of a loss."""


class Centres(NamedTuple):
    """The kept tokens of a block: words, half-widths cut at the ends of segments, negatives [n, K] (-1 for none)."""

    word: np.ndarray
    left: np.ndarray
    right: np.ndarray
    negatives: np.ndarray


def centres(sampler: WindowSampler, block: TokenBlock) -> Centres:
    """Return the tokens of a block that subsampling keeps."""
    tokens = len(block.ids)
    word, half = np.empty(tokens, np.int32), np.empty(tokens, np.int32)
    place, ends = np.empty(tokens, np.uint64), np.empty(len(block.start), np.int64)
    n = _keep(
        block.ids.numpy(), block.segments.numpy(), block.document.numpy(), block.start.numpy(),
        np.uint64(sampler.seed), np.uint64(block.epoch), sampler.window, sampler.keep, word, half, place, ends,
    )  # fmt: skip
    sizes = np.diff(ends, prepend=0)
    last, number = np.repeat(ends - 1, sizes), np.arange(n)
    left = np.minimum(half[:n], number - np.repeat(ends - sizes, sizes))
    right = np.minimum(half[:n], last - number)
    windows = sampler(block)
    negatives = np.full((n, sampler.negatives), -1)
    negatives[left + right > 0] = np.where(windows.mask.numpy(), windows.negatives.numpy(), -1)
    return Centres(word[:n], left, right, negatives)


@numba.njit(fastmath={"reassoc", "contract", "arcp"}, error_model="numpy", nogil=True)
def train(
    word, left, right, negatives, rate, inputs, outputs, window, workers, shortest, inputs_in_flight, outputs_in_flight,
    most, layout,
):  # fmt: skip
    """Train on centres by workers in step; return the summed loss. Tables: float32 [V, d]; rate: float32 [n]."""
    n, dim, scores = len(word), inputs.shape[1], negatives.shape[1] + 1
    share = max(-(-n // workers), shortest)
    workers, slots = -(-n // share), 2 * window + 1
    ring, change = np.zeros((workers, slots, dim), np.float32), np.zeros((workers, slots, dim), np.float32)
    moved, added = np.zeros((workers, slots, dim), np.float32), np.zeros((workers, scores, dim), np.float32)
    slot, used = np.zeros((workers, slots), np.int64), np.zeros((workers, slots), np.bool_)
    loss = 0.0
    for step in range(share):
        for p in range(workers):
            begin, end = p * share, min((p + 1) * share, n)
            c = begin + step
            if c >= end:
                continue
            if layout == RELOADED:
                for q in range(c - left[c], c + right[c] + 1):
                    slot[p, q % slots] = q % slots
                    ring[p, q % slots] = inputs[word[q]]
            else:
                gone = c - window - 1
                if gone >= max(begin - window, 0):
                    r, shared = slot[p, gone % slots], False
                    for q in range(gone + 1, min(gone + 2 * window + 1, n)):
                        shared |= slot[p, q % slots] == r
                    if not shared:
                        inputs[word[gone]] += change[p, r]
                        used[p, r] = False
                for q in range(max(begin - window, 0) if step == 0 else c + window, min(c + window + 1, n)):
                    r = -1
                    for earlier in range(max(q - 2 * window, begin - window, 0), q):
                        if layout == SHARED and word[earlier] == word[q]:
                            r = slot[p, earlier % slots]
                    if r < 0:
                        r = 0
                        while used[p, r]:
                            r += 1
                        used[p, r] = True
                    else:
                        inputs[word[q]] += change[p, r]
                    slot[p, q % slots] = r
                    ring[p, r] = inputs[word[q]]
                    change[p, r] = 0.0
            added[p] = 0.0
            for q in range(c - left[c], c + right[c] + 1):
                if q == c:
                    continue
                r = slot[p, q % slots]
                shorter = most / max(rate[c] * (workers - 1) * inputs_in_flight[word[q]], most)
                for k in range(scores):
                    o = word[c] if k == 0 else negatives[c, k - 1]
                    if o < 0:
                        continue
                    score = np.float32(0)
                    for d in range(dim):
                        score += ring[p, r, d] * outputs[o, d]
                    z = min(max(-score if k == 0 else score, -80.0), 80.0)
                    loss += np.log1p(np.exp(z))
                    g = np.float32(-rate[c] * (-1 if k == 0 else 1) / (1 + np.exp(-z)))
                    for d in range(dim):
                        moved[p, r, d] += np.float32(g * shorter) * outputs[o, d]
                        added[p, k, d] += g * ring[p, r, d]
        for p in range(workers):
            begin, end = p * share, min((p + 1) * share, n)
            c = begin + step
            if c >= end:
                continue
            for k in range(scores):
                o = word[c] if k == 0 else negatives[c, k - 1]
                if o >= 0:
                    shorter = np.float32(most / max(rate[c] * (workers - 1) * outputs_in_flight[o], most))
                    for d in range(dim):
                        outputs[o, d] += shorter * added[p, k, d]
            for q in range(c - left[c], c + right[c] + 1):
                r = slot[p, q % slots]
                if layout == RELOADED:
                    inputs[word[q]] += moved[p, r]
                else:
                    for d in range(dim):
                        ring[p, r, d] += moved[p, r, d]
                        change[p, r, d] += moved[p, r, d]
                moved[p, r] = 0.0
            if layout != RELOADED and c == end - 1:
                for q in range(max(c - window, begin - window, 0), min(c + window + 1, n)):
                    inputs[word[q]] += change[p, slot[p, q % slots]]
                    change[p, slot[p, q % slots]] = 0.0
    return loss


def run(text: TokenStore, workers: int, layout: str, shortened: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Train vectors; return the mean loss of each epoch, the loss of the tables at the end, and scores."""
    counts, window = text.vocabulary.counts, options.window
    sampler = WindowSampler(counts, window=window, negatives=NEGATIVES, subsample=options.subsample)
    tables = Tables(len(counts), DIM)
    inputs, outputs = tables.input.weight.detach().numpy(), tables.output.weight.detach().numpy()
    in_flight = in_flight_gradients(sampler, layout != "reloaded")
    total, most = text.train.tokens * options.epochs, MOST if shortened else 1e30
    losses = []
    for epoch in range(options.epochs + 1):
        loss, pairs, done = 0.0, 0, text.train.tokens * epoch
        for block in BlockSchedule(text, options.block_tokens, 0)(Cursor(epoch), 0, 1, 0, 1):
            found = centres(sampler, block)
            tokens = done + np.linspace(0, len(block.ids), len(found.word), endpoint=False)
            # The last epoch is not trained on.
            rate = np.maximum(1 - tokens / total, 1e-4) * (options.lr if epoch < options.epochs else 0.0)
            loss += train(
                *found, rate.astype(np.float32), inputs, outputs, window, workers, SHORTEST, *in_flight, most,
                LAYOUTS.index(layout),
            )  # fmt: skip
            pairs += int((found.left + found.right).sum())
            done += len(block.ids)
        losses.append(loss / pairs)
    row = {"in flight": workers, "layout": layout, "shortened": shortened}
    results = evaluate(WordVectors(text.vocabulary, tables.input.weight.detach()))
    scores = {name: result["score"] for name, result in results.items() if "score" in result}
    finite = bool(torch.isfinite(tables.input.weight).all())
    return row | {"losses": losses[:-1], "loss": losses[-1], "finite": finite, "scores": scores}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the loss of the last epoch against windows in flight."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for (layout, shortened), style in zip(
        itertools.product(LAYOUTS, (True, False)), ("o-", "o--", "s-", "s--", "^-", "^--"), strict=True
    ):
        own = [row for row in rows if (row["layout"], row["shortened"]) == (layout, shortened)]
        if not own:
            continue
        # Not a number, too, is out of the picture.
        points = [(row["in flight"], row["losses"][-1] if row["losses"][-1] < CUT else CUT) for row in own]
        label = f"{layout}, {'steps of frequent rows shortened' if shortened else 'plain'}"
        axes.plot(*zip(*points, strict=True), style, label=label)
    axes.set(xscale="log", xlabel="windows in flight", ylabel=f"loss a pair, last epoch ({CUT:g}: {CUT:g} or more)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64, 528, 2048, 8192])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["resident", "reloaded"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--block-tokens", type=int, default=1_000_000)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--subsample", type=float, default=1e-3)
    parser.add_argument("--lr", type=float, default=0.025)
    parser.add_argument("--output", type=Path, default=Path("benchmarks"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    text = prepare_text(from_mapping({"data": {"source": "vital"}}))
    rows = []
    for workers, layout, shortened in itertools.product(options.in_flight, options.layouts, (True, False)):
        rows.append(run(text, workers, layout, shortened, options))
        print(json.dumps(rows[-1]), flush=True)
        (options.output / "in_flight.json").write_text(json.dumps(rows, indent=1))
    plot(rows, options.output / "in_flight.png")


if __name__ == "__main__":
    main()
