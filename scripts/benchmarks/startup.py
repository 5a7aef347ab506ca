"""What a run of a second costs before its first step: from the command to the first step, and which imports take it.

    python scripts/benchmarks/startup.py [--turns N] [data.wheel=...]

Kernels are compiled and the demo text is prepared beforehand. Prints the median seconds, over turns, of the command and
of its time until the first step, and the seconds of imports.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST_STEP = re.compile("in steps of about")
"""The message before the first step."""

NAMED = ["lightning", "torch", "torchmetrics", "torch._dynamo", "scipy.signal", "numba", "datasets", "wandb", "optuna"]
"""Packages whose imports are shown, if a run imports them."""


def command(folder: Path, options: list[str]) -> list[str]:
    """Return the arguments of a run of 1,000 tokens."""
    return ["-m", "skiplight.cli", "train", f"run_dir={folder}", "trainer.max_tokens=1000", "logger=none", *options]


def time_run(folder: Path, options: list[str]) -> tuple[float, float]:
    """Return the seconds until the first step and of the whole command."""
    begin, first = time.perf_counter(), None
    with subprocess.Popen(
        [sys.executable, *command(folder, options)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if first is None and FIRST_STEP.search(line):
                first = time.perf_counter() - begin
    if process.returncode or first is None:
        sys.exit(f"the run ended with {process.returncode} before its first step")
    return first, time.perf_counter() - begin


def time_imports(folder: Path, options: list[str]) -> dict[str, float]:
    """Return the seconds of the imports of packages, with all that they import first, from `python -X importtime`."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command(folder, options)], capture_output=True, text=True, check=True
    )
    found = re.findall(r"^import time:\s+(\d+) \|\s+(\d+) \| +(\S+)$", done.stderr, re.MULTILINE)
    whole = {module: int(cumulative) / 1e6 for _, cumulative, module in found}
    return {"all": sum(int(own) for own, _, _ in found) / 1e6} | {name: whole[name] for name in NAMED if name in whole}


def main() -> None:
    """Time the command in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", nargs="*", help="options of all runs")
    parser.add_argument("--turns", type=int, default=5, help="turns (5)")
    given = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        time_run(folder / "warm-up", given.options)
        turns = [time_run(folder / str(turn), given.options) for turn in range(given.turns)]
        imports = time_imports(folder / "imports", given.options)
    first, whole = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    print(f"until the first step {first:.2f} s, the whole command {whole:.2f} s (medians of {given.turns} turns)")
    print("imports by `python -X importtime`, which slows them, with what they import first:")
    for name, seconds in imports.items():
        print(f"  {name:14} {seconds:5.2f} s")


if __name__ == "__main__":
    main()
