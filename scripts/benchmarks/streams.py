"""Measure how fast a text streams: by one process, by several ranks that share it out, and against another version.

    python scripts/benchmarks/streams.py TEXT [--ranks 2] [--workers 0] [--times 5] [--against SRC] [--block-tokens N]

TEXT is any value of `data.path`; its vocabulary is counted first. All is measured in turns, each process with a thread:

- one process that reads all of the text (and with `--against`, the same by the package in the folder SRC);
- R ranks that share it, exchanging what they have to over gloo: tokens of all of them per second of the slowest;
- R processes that each read an R-th of the units and exchange nothing: the most that this machine can do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def read(options: argparse.Namespace) -> dict[str, Any]:
    """Return what one process measures."""
    from skiplight.corpus import open_source, prepare

    source = open_source("files", path=options.text, document=options.document, cache=Path(options.stores))
    arguments: dict[str, Any] = {"normalise": "text8", "min_count": 5, "streaming": True, "threads": 1}
    stream = prepare(source, stores=Path(options.stores), **arguments)
    if options.measure == "prepare":
        return {}
    begin = time.perf_counter()
    blocks = _blocks(stream, options)
    tokens = sum(len(block.ids) for block in blocks)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"tokens": tokens, "seconds": seconds, "peak": max(peak, _peak_of_workers()) * 1024}


def _peak_of_workers() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def _blocks(stream: Any, options: argparse.Namespace) -> Any:
    try:
        from skiplight.data.streams import StreamSchedule
    except ImportError:  # before streams were shared out
        from skiplight.data.blocks import BlockSchedule, Cursor

        return BlockSchedule(stream, options.block_tokens, 0, stream.tokens)(Cursor(), 0, 1, 0, 1)
    from skiplight.corpus.tokens import Cursor

    schedule = StreamSchedule(stream, options.block_tokens, 0, stream.tokens)
    rank, world = options.rank, options.ranks
    if options.measure == "one":
        return schedule(Cursor(), 0, 1, 0, 1)
    if options.measure == "apart":
        return schedule.read(Cursor(), rank, world, 0, 1)
    import torch
    import torch.distributed as dist
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    dist.init_process_group("gloo", init_method=f"file://{options.meeting}", rank=rank, world_size=world)

    def gather(own: list[int]) -> Any:
        told = [torch.empty(len(own), dtype=torch.int64) for _ in range(world)]
        dist.all_gather(told, torch.tensor(own))
        return torch.stack(told).numpy()

    workers = max(options.workers, 1)

    class Own(IterableDataset):
        def __iter__(self) -> Any:
            info = get_worker_info()
            return schedule.read(Cursor(), rank, world, info.id if info else 0, workers)

    loader = DataLoader(Own(), batch_size=None, num_workers=options.workers)
    schedule.plan(0)
    dist.barrier()
    return schedule.agree(iter(loader), Cursor(), rank, world, workers, gather)


def start(options: argparse.Namespace, measure: str, rank: int = 0, src: str = "", meeting: str = "") -> Any:
    """Start one process of a measurement."""
    command = [
        sys.executable,
        __file__,
        options.text,
        "--measure",
        measure,
        "--rank",
        str(rank),
        "--stores",
        options.stores,
    ]
    command += ["--ranks", str(options.ranks), "--workers", str(options.workers), "--meeting", meeting]
    command += ["--block-tokens", str(options.block_tokens), "--document", options.document]
    path = src or os.environ.get("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def finish(processes: list[Any]) -> tuple[float, int]:
    """Return the tokens of all processes per second of the slowest, and the largest memory."""
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    rate = sum(result["tokens"] for result in found) / max(result["seconds"] for result in found)
    return rate, max(result["peak"] for result in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--against", help="the folder src of another version")
    parser.add_argument("--block-tokens", type=int, default=100_000)
    parser.add_argument("--document", default="line")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--stores", help=argparse.SUPPRESS)
    parser.add_argument("--meeting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(read(options)))
        return
    rates: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        options.stores = folder
        for src in filter(None, ["", options.against]) if options.against else [""]:
            start(options, "prepare", src=src).wait()
        start(options, "prepare").wait()
        for turn in range(options.times):
            ranks = range(options.ranks)
            measures = {"one process": [("one", 0, "")]}
            if options.against:
                measures["one process, the other version"] = [("one", 0, options.against)]
            measures[f"{options.ranks} ranks"] = [("ranks", rank, "") for rank in ranks]
            measures[f"{options.ranks} separate processes"] = [("apart", rank, "") for rank in ranks]
            for name, parts in measures.items():
                meeting = f"{folder}/meeting-{turn}-{len(rates)}-{name.replace(' ', '-')}"
                rate, peak = finish([start(options, what, rank, src, meeting) for what, rank, src in parts])
                rates.setdefault(name, []).append(rate)
                peaks[name] = max(peaks.get(name, 0), peak)
    first = rates["one process"]
    print(f"{options.text}, medians of {options.times} turns; ratios are turn by turn\n")
    for name, found in rates.items():
        ratio = statistics.median(b / a for a, b in zip(first, found, strict=True))
        print(f"{name:34} {statistics.median(found) / 1e6:6.2f} M tokens/s, {ratio:.3f} of one process, "
              f"{peaks[name] / 1e6:.0f} MB a process")  # fmt: skip
    shared, apart = rates[f"{options.ranks} ranks"], rates[f"{options.ranks} separate processes"]
    print(f"ranks over separate processes: {statistics.median(a / b for a, b in zip(shared, apart, strict=True)):.3f}")


if __name__ == "__main__":
    main()
