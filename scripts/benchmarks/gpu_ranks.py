"""Train on two replicas that share one GPU and exchange by gloo, and on one replica by NCCL, beside plain training.

    python scripts/benchmarks/gpu_ranks.py [--text wiki17.npz] [--output FOLDER]      # options as for gpu.py

Each replica is a process with tables of its own, which uses the product's own exchange (`ReplicaExchange`). The loss of
two replicas should be about that of plain training on the same tokens, and NCCL should start and sum. Two replicas on
one card say nothing about speed. The results are written to FOLDER/gpu_ranks.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BYTES_PER_TOKEN = 100.0


def train(rank: int, world: int, backend: str, options: argparse.Namespace) -> None:
    """Train one replica; the first one writes the results."""
    import torch
    import torch.distributed as dist
    from gpu import Bench

    from skiplight.distributed.curvature import Sample
    from skiplight.distributed.reconciliation import Reconciler
    from skiplight.distributed.replica_exchange import ReplicaExchange

    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{options.port}", rank=rank, world_size=world)
    bench = Bench(options)
    if bench.tiny:  # its few tokens are one segment, which no two replicas could share
        text, few = bench.text, np.arange(1, 5)
        text.end, text.document, text.start = few * len(text.ids) // 4, few, np.zeros(4, np.int64)
    dim, tokens, epochs = (16, 10, 1) if bench.tiny else (128, 250_000, 2)
    engine, sampler = bench.engine(bench.layouts[0], dim), bench.sampler()
    exchange, sent = None, 0
    if world > 1:
        reconciler = Reconciler(
            sampler, Sample.draw(sampler, bench.text.blocks(tokens)), dim=dim, replicas=world,
            step_tokens=tokens * world, bytes_per_token=BYTES_PER_TOKEN, device=bench.device,
        )  # fmt: skip
        parameters = list(engine.tables.parameters())
        base = [table.detach().clone() for table in parameters]
        exchange = ReplicaExchange(reconciler, parameters, base, dist.group.WORLD, (0, 1), lambda: None)
    total, done, step, begin, results = epochs * len(bench.text.ids), 0, 0, time.perf_counter(), []
    for epoch in range(epochs):
        results, blocks = [], list(bench.text.blocks(tokens, epoch))
        for first in range(0, len(blocks) - world + 1, world):
            taken = sum(len(block.ids) for block in blocks[first : first + world])
            rates = [0.025 * max(1 - at / total, 1e-4) for at in (done, done + taken)]
            results.append(engine.step(blocks[first + rank].to(bench.device), *rates))
            done, step = done + taken, step + 1
            if exchange is not None:
                exchange.reconciler.consumed(taken, sum(rates) / 2)
                rows = exchange.reconciler.due(step, rates[1] / 0.025)
                if any(rows):
                    exchange.exchange(rows, in_turns=True)
    if exchange is not None:
        exchange.exchange((len(bench.text.counts),) * 2, in_turns=True)
        sent = exchange.bytes_sent
    sums = torch.tensor(
        [sum(float(result.loss_sum) for result in results), float(sum(int(result.pairs) for result in results))],
        dtype=torch.float64, device=bench.device if backend == "nccl" else "cpu",
    )  # fmt: skip
    dist.all_reduce(sums)
    table = engine.tables.input.weight.detach()
    copies = [torch.zeros_like(table) for _ in range(world)]
    dist.all_gather(copies, table)
    if rank == 0:
        found = {
            "replicas": world, "backend": backend, "device": bench.name(), "loss": float(sums[0] / sums[1]),
            "steps": step, "bytes a token": sent / max(done, 1), "seconds": time.perf_counter() - begin,
            "replicas are equal": all(torch.equal(copies[0], other) for other in copies),
        }  # fmt: skip
        add(options.output / "gpu_ranks.json", found)
    dist.destroy_process_group()


def add(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a file of rows, and print it."""
    rows = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*rows, row], indent=1))
    print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--output", type=Path, default=Path("benchmarks"))
    parser.add_argument("--port", type=int, default=29_400)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--interpret", action="store_true")
    parser.set_defaults(parts=None)
    options = parser.parse_args()
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "gpu_ranks.json").unlink(missing_ok=True)
    import torch

    # The first row is plain training, the second what two replicas make of it.
    settings = [(1, "gloo"), (2, "gloo"), *([(1, "nccl")] if torch.cuda.is_available() else [])]
    for number, (world, backend) in enumerate(settings):
        options.port += number
        torch.multiprocessing.spawn(train, (world, backend, options), nprocs=world)


sys.path.insert(0, str(Path(__file__).parent))  # also in the processes of the replicas
if __name__ == "__main__":
    main()
