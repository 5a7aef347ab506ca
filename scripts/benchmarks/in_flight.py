"""How many windows at a time a GPU may work on: loss and scores against windows in flight, on a CPU that imitates it.

    python scripts/benchmarks/in_flight.py [--in-flight 1 64 528 2048 8192] [--epochs 5] [--output benchmarks]

The fused GPU engine's programs each go through a stretch of their own, and none sees what the others have under way.
Here they go in step: every program scores its next window by the output rows as they were before the round, and the
round's changes are added together, which is the worst that can happen on a GPU. Context rows are resident, held back
until they fall out of reach, or reloaded with every window; the steps of frequent rows are shortened as in the engine,
or not. The text is the demo's, whose small vocabulary makes words collide more than a large one would.
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

from skiplight.assembly import prepare_text
from skiplight.blocks import Cursor, StoredBlocks
from skiplight.corpus.store import TokenStore
from skiplight.engines.fused_gpu import MOST, SHORTEST, crowds
from skiplight.evaluation.suite import evaluate
from skiplight.objectives.base import Tables
from skiplight.options import from_mapping
from skiplight.sampling.batches import Block
from skiplight.sampling.windows import WindowSampler
from skiplight.sampling.windows_numba import _keep
from skiplight.vectors import WordVectors

DIM, WINDOW, NEGATIVES, SUBSAMPLE, RATE = 100, 5, 5, 1e-3, 0.025
BLOCK = 1_000_000
CUT = 4.0
"""The most that the figure shows of a loss."""


class Centres(NamedTuple):
    """The kept tokens of a block: words, half-widths cut at the ends of segments, negatives [n, K] (-1: none)."""

    word: np.ndarray
    left: np.ndarray
    right: np.ndarray
    negatives: np.ndarray


def centres(sampler: WindowSampler, block: Block) -> Centres:
    """What subsampling leaves of a block."""
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
    word, left, right, negatives, rate, inputs, outputs, window, programs, shortest, crowd_in, crowd_out, most, resident
):
    """Trains on centres by `programs` programs in step; the summed loss. Rows are float32 [V, d]; rate: float32 [n]."""
    n, dim, scores = len(word), inputs.shape[1], negatives.shape[1] + 1
    share = max(-(-n // programs), shortest)
    programs, slots = -(-n // share), 2 * window + 1
    ring, change = np.zeros((programs, slots, dim), np.float32), np.zeros((programs, slots, dim), np.float32)
    moved, added = np.zeros((programs, slots, dim), np.float32), np.zeros((programs, scores, dim), np.float32)
    loss = 0.0
    for step in range(share):
        for p in range(programs):
            begin, end = p * share, min((p + 1) * share, n)
            c = begin + step
            if c >= end:
                continue
            if resident:
                if c - window - 1 >= max(begin - window, 0):
                    inputs[word[c - window - 1]] += change[p, (c - window - 1) % slots]
                for q in range(max(begin - window, 0) if step == 0 else c + window, min(c + window + 1, n)):
                    ring[p, q % slots] = inputs[word[q]]
                    change[p, q % slots] = 0.0
            else:
                for q in range(c - left[c], c + right[c] + 1):
                    ring[p, q % slots] = inputs[word[q]]
            added[p] = 0.0
            for q in range(c - left[c], c + right[c] + 1):
                r = q % slots
                moved[p, r] = 0.0
                if q == c:
                    continue
                shorter = most / max(rate[c] * (programs - 1) * crowd_in[word[q]], most)
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
        for p in range(programs):
            begin, end = p * share, min((p + 1) * share, n)
            c = begin + step
            if c >= end:
                continue
            for k in range(scores):
                o = word[c] if k == 0 else negatives[c, k - 1]
                if o >= 0:
                    shorter = np.float32(most / max(rate[c] * (programs - 1) * crowd_out[o], most))
                    for d in range(dim):
                        outputs[o, d] += shorter * added[p, k, d]
            for q in range(c - left[c], c + right[c] + 1):
                r = q % slots
                if resident:
                    for d in range(dim):
                        ring[p, r, d] += moved[p, r, d]
                        change[p, r, d] += moved[p, r, d]
                else:
                    inputs[word[q]] += moved[p, r]
            if resident and c == end - 1:
                for q in range(max(c - window, begin - window, 0), min(c + window + 1, n)):
                    inputs[word[q]] += change[p, q % slots]
    return loss


def run(text: TokenStore, programs: int, resident: bool, shortened: bool, epochs: int) -> dict[str, Any]:
    """Trains vectors; the mean loss of each epoch, and scores."""
    counts = text.vocabulary.counts
    sampler = WindowSampler(counts, window=WINDOW, negatives=NEGATIVES, subsample=SUBSAMPLE)
    tables = Tables(len(counts), DIM)
    inputs, outputs = tables.input.weight.detach().numpy(), tables.output.weight.detach().numpy()
    crowd = crowds(sampler, resident)
    total, done, losses = text.train.tokens * epochs, 0, []
    for epoch in range(epochs):
        loss, pairs = 0.0, 0
        for block in StoredBlocks(text.train, BLOCK, 0)(Cursor(epoch), 0, 1, 0, 1):
            found = centres(sampler, block)
            tokens = done + np.linspace(0, len(block.ids), len(found.word), endpoint=False)
            rate = (RATE * np.maximum(1 - tokens / total, 1e-4)).astype(np.float32)
            most = MOST if shortened else 1e30
            loss += train(*found, rate, inputs, outputs, WINDOW, programs, SHORTEST, *crowd, most, resident)
            pairs += int((found.left + found.right).sum())
            done += len(block.ids)
        losses.append(loss / pairs)
    row = {"in flight": programs, "layout": "resident" if resident else "reloaded", "shortened": shortened}
    results = evaluate(WordVectors(text.vocabulary, tables.input.weight.detach()))
    scores = {name: result["score"] for name, result in results.items() if "score" in result}
    return row | {"losses": losses, "finite": bool(torch.isfinite(tables.input.weight).all()), "scores": scores}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """The last epoch's loss against windows in flight."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for (layout, shortened), style in zip(
        itertools.product(("resident", "reloaded"), (True, False)), ("o-", "o--", "s-", "s--"), strict=True
    ):
        own = [row for row in rows if (row["layout"], row["shortened"]) == (layout, shortened)]
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
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    text = prepare_text(from_mapping({"data": {"source": "vital"}}))
    rows = []
    for programs, resident, shortened in itertools.product(options.in_flight, (True, False), (True, False)):
        rows.append(run(text, programs, resident, shortened, options.epochs))  # type: ignore[arg-type]
        print(json.dumps(rows[-1]), flush=True)
        (options.output / "in_flight.json").write_text(json.dumps(rows, indent=1))
    plot(rows, options.output / "in_flight.png")


if __name__ == "__main__":
    main()
