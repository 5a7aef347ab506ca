"""Emulate training on R replicas (machines, or GPUs) in one process: scores, loss and bytes per token.

    python scripts/benchmarks/emulate_ranks.py TEXT --ranks R [--epochs 2] [--lr 0.025] [--json PATH] ...
    python scripts/benchmarks/emulate_ranks.py TEXT --grid FOLDER     # R = 1 to 64 over settings, resumed if run again

TEXT is what `data.path` takes, or `vital` (the demo text) or `synthetic_sessions` (of items, by hit rate). R
fused engines of one thread train on tables of their own, each on the blocks that a run gives its rank. Which rows are
exchanged after a step, and what the replicas' changes become, is decided by the code that real machines run
(`skiplight.distributed.reconciliation`); only the sum over machines is a loop here. A replica of several threads or
ranks is emulated by one thread, since what threads of one machine do to each other is another question
(`emulate_threads.py`).

The JSON has `scores` (by set), `mean` of them, `loss` (per pair, of the last epoch, as each replica saw it),
`final_loss` (of the tables at the end, on up to 500,000 tokens), `bytes_per_token` (sent by a replica, per token of
all), `steps`, `diverged`, and every setting.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from skiplight.config.schema import DistributedConfig
from skiplight.config.validate import from_mapping
from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import Cursor
from skiplight.data.blocks import BlockSchedule
from skiplight.data.from_config import STEPS, prepare_text
from skiplight.distributed.curvature import Sample
from skiplight.distributed.reconciliation import Reconciler
from skiplight.distributed.schedule import bytes_per_row
from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.evaluation.suite import evaluate
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.windows import WindowSampler
from skiplight.training.module import learning_rate
from skiplight.vectors.word_vectors import WordVectors

FINAL_TOKENS = 500_000
"""Tokens that the loss of the tables at the end is measured on."""

SETTINGS: dict[str, Any] = {
    "epochs": 2, "lr": 0.025, "subsample": 1e-4, "negatives": 5, "window": 5, "exponent": 0.75, "dim": 100, "seed": 0,
    "block_tokens": None, "bytes_per_token": DistributedConfig().bytes_per_token,
}  # fmt: skip


class Replica:
    """A pair of tables and the engine that moves them."""

    def __init__(self, vocabulary: int, dim: int, sampler: WindowSampler, seed: int) -> None:
        tables = Tables(vocabulary, dim, seed=seed)
        objective = NegativeSampling(sampler.noise.probabilities)
        self.engine = FusedCpuEngine(objective, tables, torch.optim.SGD(tables.parameters(), lr=1), sampler, 1)
        self.tables = (tables.input.weight.detach(), tables.output.weight.detach())


def exchange(replicas: list[Replica], bases: list[torch.Tensor], reconciler: Reconciler, rows: tuple[int, int]) -> None:
    """Make the first rows of both tables the same on all replicas, as `InPlaceTables` does between machines."""
    bases_ = [base[chosen] for base, chosen in zip(bases, reconciler.rows, strict=True)]
    moved = [
        torch.stack([replica.tables[table][chosen] - bases_[table] for replica in replicas]).sum(0)
        for table, chosen in enumerate(reconciler.rows)
    ]
    reconciler.measure(bases_, moved, rows)
    for table, count in enumerate(rows):
        if count == 0:
            continue
        base, part = bases[table], slice(0, count)
        summed = torch.zeros_like(base[part])
        for replica in replicas:
            summed += replica.tables[table][part] - base[part]
        base[part] += reconciler.combine(table, summed, reconciler.travel(table, part))
        for replica in replicas:
            replica.tables[table][part] = base[part]
    reconciler.exchanged(rows)


def emulate(
    text: TokenStore, ranks: int, score: Callable[[WordVectors], dict[str, float]], **given: Any
) -> dict[str, Any]:
    """Train on `ranks` replicas; return what the JSON holds.

    Args:
        text: a prepared text.
        ranks: replicas.
        score: the scores of vectors, by set.
        given: other `SETTINGS`.
    """
    begin, settings = time.perf_counter(), SETTINGS | given
    counts, dim, lr = text.vocabulary.counts, settings["dim"], settings["lr"]
    sampler = WindowSampler(
        counts, seed=settings["seed"], window=settings["window"], subsample=settings["subsample"],
        negatives=settings["negatives"], exponent=settings["exponent"],
    )  # fmt: skip
    replicas = [Replica(len(counts), dim, sampler, settings["seed"]) for _ in range(ranks)]
    bases = [table.clone() for table in replicas[0].tables]
    total = text.train.tokens * settings["epochs"]
    # As `data.block_tokens=auto` chooses it.
    block = settings["block_tokens"] or max(1, min(FusedCpuEngine.block_tokens, total // (STEPS * ranks)))
    reconciler, sent = None, 0.0
    if ranks > 1:
        blocks = BlockSchedule(text, block, settings["seed"])
        reconciler = Reconciler(
            sampler, Sample.draw(sampler, blocks(Cursor(), 0, 1, 0, 1)),
            dim=dim, replicas=ranks, step_tokens=block * ranks, bytes_per_token=settings["bytes_per_token"],
        )  # fmt: skip
    tokens, steps, loss, pairs = 0, 0, math.nan, 0
    with ThreadPoolExecutor(2) as pool:
        for epoch in range(settings["epochs"]):
            loss, pairs = 0.0, 0
            blocks = BlockSchedule(text, block, settings["seed"])
            for step in zip(*(blocks(Cursor(epoch), rank, ranks, 0, 1) for rank in range(ranks)), strict=True):
                after = tokens + step[0].tokens
                rates = learning_rate(lr, tokens, total), learning_rate(lr, after, total)
                results = pool.map(
                    lambda pair, rates=rates: pair[0].engine.step(pair[1], *rates), zip(replicas, step, strict=True)
                )
                for result in results:
                    loss, pairs = loss + float(result.loss_sum), pairs + int(result.pairs)
                steps, tokens = steps + 1, after
                if reconciler is not None:
                    reconciler.consumed(step[0].tokens, sum(rates) / 2)
                    rows = reconciler.due(steps, rates[1] / lr)
                    if any(rows):
                        exchange(replicas, bases, reconciler, rows)
                        measured_on = sum(map(len, reconciler.rows))
                        sent += (sum(rows) + measured_on) * bytes_per_row(dim, ranks)
            if not math.isfinite(loss):
                break
    if reconciler is not None:
        exchange(replicas, bases, reconciler, (len(counts), len(counts)))
        sent += 2 * len(counts) * bytes_per_row(dim, ranks)
    final, final_pairs = 0.0, 0
    for block_ in itertools.islice(
        BlockSchedule(text, FINAL_TOKENS // 5, 0)(Cursor(settings["epochs"]), 0, 1, 0, 1), 5
    ):
        result = replicas[0].engine.step(block_, 0.0, 0.0)
        final, final_pairs = final + float(result.loss_sum), final_pairs + int(result.pairs)
    final /= max(final_pairs, 1)
    start = (1 + settings["negatives"]) * math.log(2)
    scores = score(WordVectors(text.vocabulary, replicas[0].tables[0])) if math.isfinite(final) else {}
    return {
        "ranks": ranks, **settings, "block_tokens": block, "scores": scores,
        "mean": sum(scores.values()) / len(scores) if scores else None,
        "loss": loss / max(pairs, 1), "final_loss": final, "diverged": not max(final, loss / max(pairs, 1)) < start,
        "bytes_per_token": sent / tokens, "steps": steps,
        "after": reconciler.after if reconciler else None, "full": reconciler.full if reconciler else None,
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def scorer(similarity: list[str], analogy: list[str], hit_rate: list[str]) -> Callable[[WordVectors], dict[str, float]]:
    """Return a function from vectors to the scores of these sets."""

    def score(vectors: WordVectors) -> dict[str, float]:
        sets = {"similarity": similarity, "analogy": analogy, "hit_rate": hit_rate}
        results = evaluate(vectors, **sets, restrict_vocabulary=30_000)
        return {name: result["score"] for name, result in results.items() if "score" in result}

    return score


def open_text(name: str) -> TokenStore:
    """Return the token store of a text, without held-out documents."""
    data = {"source": name} if name in ("vital", "synthetic_sessions") else {"source": "files", "path": name}
    extra = {"document": "line"} if name == "synthetic_sessions" else {}
    text = prepare_text(from_mapping({"data": {**data, **extra, "heldout": 0.0}}))
    assert isinstance(text, TokenStore)
    return text


def grid(name: str) -> list[dict[str, Any]]:
    """Return the settings that a text is tried at: each option by itself, and all of the hard ones together."""
    if name == "synthetic_sessions":
        return [{"subsample": 0.0, "exponent": exponent, "lr": lr} for exponent in (-0.5, 0.75) for lr in (0.025, 0.05)]
    found: list[dict[str, Any]] = [{"lr": lr, "subsample": t} for lr in (0.025, 0.05) for t in (1e-4, 1e-3)]
    return [*found, {"negatives": 15}, {"window": 10}, {"lr": 0.05, "subsample": 1e-3, "negatives": 15, "window": 10}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64])
    for option, default in SETTINGS.items():
        kind = int if option == "block_tokens" else type(default)
        parser.add_argument(f"--{option.replace('_', '-')}", type=kind, default=default)
    parser.add_argument("--similarity", nargs="*", default=["wordsim353", "simlex999"])
    parser.add_argument("--analogy", nargs="*", default=["google"])
    parser.add_argument("--json", type=Path, help="where the results are written: a list, one for each R")
    parser.add_argument("--grid", type=Path, help="folder of results: all settings of the grid at every R")
    given = parser.parse_args()
    torch.set_num_threads(2)
    sessions = given.text == "synthetic_sessions"
    score = scorer([], [], ["synthetic_sessions"]) if sessions else scorer(given.similarity, given.analogy, [])
    text, found = open_text(given.text), []
    chosen = {name: getattr(given, name) for name in SETTINGS}
    for extra, ranks in itertools.product(grid(given.text) if given.grid else [{}], given.ranks):
        path = None
        if given.grid:
            given.grid.mkdir(parents=True, exist_ok=True)
            label = "-".join(f"{name}={value:g}" for name, value in extra.items())
            path = given.grid / f"{Path(given.text).parent.name or given.text}-{ranks}-{label}.json"
        if path is not None and path.exists():
            result = json.loads(path.read_text())
        else:
            result = emulate(text, ranks, score, **chosen | extra)
        found.append(result)
        print(line(result, extra), flush=True)
        if path is not None:
            path.write_text(json.dumps(result, indent=1))
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1))


def line(result: dict[str, Any], extra: dict[str, Any]) -> str:
    """Return a result as a line of a table."""
    scores = " ".join(f"{score:.3f}" for score in result["scores"].values())
    mean = math.nan if result["mean"] is None else result["mean"]
    return (
        f"R {result['ranks']:>2} {extra or ''}: {scores} mean {mean:.4f} loss {result['loss']:.3f} final"
        f" {result['final_loss']:.3f} bytes {result['bytes_per_token']:.1f} steps {result['steps']}"
        f" {'DIVERGED ' if result['diverged'] else ''}({result['seconds']:.0f} s)"
    )


if __name__ == "__main__":
    main()
