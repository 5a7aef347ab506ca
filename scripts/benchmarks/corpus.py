"""Measure how fast text becomes tokens, on one core and on all, stored and streamed, and how long a second start takes.

    python scripts/benchmarks/corpus.py PATH [--normalise text8|unicode|none] [--column text] [--min-count 5]

PATH is any value of `data.path`: a file, folder, glob pattern or URL. Every row is measured in its own process, since
peak memory is that of a process. All rates include reading the data set; none includes importing `datasets` and listing
the files. Rates count raw tokens, before the vocabulary drops any. The rate per core is by the CPU time of all threads,
so it also holds on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MEASURES = ("build", "open", "stream")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the results of one measurement in this process."""
    started = time.perf_counter()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    from skiplight.corpus import TokenStore, TokenStream, open_source, prepare

    stores = Path(options.stores)
    source = open_source("files", path=options.path, column=options.column, cache=stores)
    if options.measure != "open":
        _ = source.units
    arguments: dict[str, Any] = {"normalise": options.normalise, "min_count": options.min_count}
    begin, busy = time.perf_counter(), time.process_time()
    made = prepare(source, **arguments, stores=stores, streaming=options.measure == "stream")
    result: dict[str, Any] = {"tokens": made.tokens, "seconds": time.perf_counter() - begin}
    result["busy"] = time.process_time() - busy
    if isinstance(made, TokenStream):
        begin, busy = time.perf_counter(), time.process_time()
        read = sum(part.tokens for part in made.segments(range(len(made.units))))
        result = {"tokens": read, "seconds": time.perf_counter() - begin}
        result["busy"] = time.process_time() - busy
    elif options.measure == "open":
        assert isinstance(made, TokenStore)
        _ = made.vocabulary.words, made.train.select(0, 100).ids.sum()
        result["seconds"] = time.perf_counter() - started
    if isinstance(made, TokenStore):
        result["raw"] = made.manifest["raw_tokens"]
        result["vocabulary"] = len(made.vocabulary)
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def run(options: argparse.Namespace, name: str, cores: int, stores: str) -> dict[str, Any]:
    """Return the results of one measurement in its own process."""
    command = [sys.executable, __file__, options.path, "--measure", name, "--cores", str(cores)]
    command += ["--stores", stores, "--normalise", options.normalise, "--column", options.column]
    command += ["--min-count", str(options.min_count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--normalise", default="text8")
    parser.add_argument("--column", default="text")
    parser.add_argument("--min-count", type=int, default=5)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--stores", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options)))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("", "cores", "seconds", "M raw words/s", "CPU seconds", "M words/s a core", "peak MB")
    cores = len(os.sched_getaffinity(0))
    raw = 0
    for count in sorted({1, cores}):
        with tempfile.TemporaryDirectory() as stores:
            for name, label in (
                ("build", "normalise, count, encode, store"),
                ("open", "second start, imports included"),
                ("stream", "encode as it comes"),
            ):
                result = run(options, name, count, stores)
                raw = result.get("raw", raw)
                rates = [raw / result[clock] / 1e6 for clock in ("seconds", "busy")]
                cells = [f"{rates[0]:.2f}", f"{result['busy']:.2f}", f"{rates[1]:.2f}"]
                cells = ["", "", ""] if name == "open" else cells
                peak = f"{result['peak'] / 1e6:.0f}"
                table.add_row(label, str(count), f"{result['seconds']:.2f}", *cells, peak)
    console = Console(width=120)
    console.print(f"{options.path}: {raw:,} raw words, normalise={options.normalise}")
    console.print(table)


if __name__ == "__main__":
    main()
