"""Measure what ranks of one machine gain on its CPU: speed against the machine's limit, and quality.

    python scripts/benchmarks/ranks.py TEXT speed [--dim 100] [--times 5]   # in turns, with two separate trainings
    python scripts/benchmarks/ranks.py TEXT quality [--seeds 3]             # 2 ranks x 1 thread against 1 x 2
    python scripts/benchmarks/ranks.py TEXT reach                           # machines that a text is worth sharing over

TEXT is what `data.path` takes, or `vital` (the demo text). Two entirely separate trainings at the same time are what
two cores can do at most, since they share memory and caches but nothing else; their sum is what two ranks are held to.
Runs are processes of their own and take turns, so that a busy machine troubles all alike. `--output FOLDER` keeps what
is there, so that a run is not repeated, and gets ranks.json. Machines are emulated by `emulate_ranks.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from skiplight.config.schema import DistributedConfig
from skiplight.distributed.curvature import Sample
from skiplight.distributed.reconciliation import Reconciler
from skiplight.distributed.schedule import bytes_per_row
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler

LAYOUTS = {"1 x 1": (1, 1), "2 x 1": (2, 1), "1 x 2": (1, 2)}
"""Ranks and threads of each."""

SETS = ["wordsim353", "simlex999", "google"]


class Runs:
    """Trains runs in a folder, and reads those that exist."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder

    def start(self, run: Path, ranks: int, threads: int, *options: str, seed: int = 0) -> subprocess.Popen[bytes]:
        """Start a training."""
        text = self.given.text
        data = ["data=vital"] if text == "vital" else ["data=files", f"data.path='{text}'", "data.heldout=0"]
        return subprocess.Popen(
            [
                sys.executable, "-m", "skiplight.cli", "train", *data, f"data.store={self.folder / 'stores'}",
                "logger=none", "trainer.accelerator=cpu", f"trainer.devices={ranks}", f"trainer.threads={threads}",
                f"trainer.max_epochs={self.given.epochs}", f"model.dim={self.given.dim}", f"run_dir={run}",
                f"seed={seed}", "checkpoint.every=100000", *options,
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def together(
        self, names: list[str], ranks: int, threads: int, *options: str, seed: int = 0
    ) -> list[dict[str, Any]]:
        """Return the summaries of runs that train at the same time."""
        runs = [self.folder / name.replace(" ", "") for name in names]
        if not all((run / "summary.json").exists() for run in runs):
            processes = [self.start(run, ranks, threads, *options, seed=seed) for run in runs]
            codes = [process.wait() for process in processes]
            if any(codes):
                raise SystemExit(f"{', '.join(names)}: a run has failed; start it by hand to see why")
        summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
        for name, summary in zip(names, summaries, strict=True):
            print(f"{name}, seed {seed}: {summary['words_per_second']:,} words/s, {scores(summary)}", flush=True)
        return summaries


def scores(summary: dict[str, Any]) -> dict[str, float]:
    """Return the scores of the sets that could be evaluated."""
    found = {name: summary["evaluation"].get(name, {}) for name in SETS}
    return {name: round(result["score"], 4) for name, result in found.items() if "score" in result}


def speed(runs: Runs, times: int) -> dict[str, Any]:
    """Return words/s of every turn, their medians, and the medians of each turn's ratios."""
    found: dict[str, list[float]] = {name: [] for name in (*LAYOUTS, "2 separate")}
    for turn in range(times):
        for name, (ranks, threads) in LAYOUTS.items():
            [summary] = runs.together([f"speed-{turn}-{name}"], ranks, threads, "evaluation=none")
            found[name].append(summary["words_per_second"])
        both = runs.together([f"speed-{turn}-separate-{number}" for number in "ab"], 1, 1, "evaluation=none")
        found["2 separate"].append(sum(summary["words_per_second"] for summary in both))
    result: dict[str, Any] = {"turns": found}
    result["medians"] = {name: statistics.median(values) for name, values in found.items()}
    for other in ("1 x 1", "1 x 2", "2 separate"):
        ratios = [ours / theirs for ours, theirs in zip(found["2 x 1"], found[other], strict=True)]
        result[f"2 x 1 over {other}"] = statistics.median(ratios)
    return result


def quality(runs: Runs, seeds: int) -> dict[str, dict[str, list[float]]]:
    """Return scores and seconds of training of 1 x 1, 1 x 2 and 2 x 1, a number for each seed."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in LAYOUTS}
    for seed in range(seeds):
        for name, layout in LAYOUTS.items():
            [summary] = runs.together([f"quality-{seed}-{name}"], *layout, "evaluation=full", seed=seed)
            for measure, score in (scores(summary) | {"seconds": summary["seconds"]["train"]}).items():
                found[name].setdefault(measure, []).append(score)
    for measure in found["2 x 1"]:
        ours, theirs = (found[name][measure] for name in ("2 x 1", "1 x 1"))
        error = (statistics.variance(ours) / seeds + statistics.variance(theirs) / seeds) ** 0.5 if seeds > 1 else 0
        difference = statistics.mean(ours) - statistics.mean(theirs)
        print(f"{measure}: 2 x 1 {statistics.mean(ours):.4f}, 1 x 1 {statistics.mean(theirs):.4f},"
              f" difference {difference:+.4f} (standard error {error:.4f})")  # fmt: skip
    return found


def reach(dim: int) -> list[dict[str, float]]:
    """Return how often rows are exchanged by the default of `distributed.bytes_per_token`, by size of text and R.

    A word needs many exchanges over a run to be one word rather than R of them; where all rows together take part in
    fewer than about five, a text is not worth sharing over so many machines.
    """
    found = []
    budget = DistributedConfig().bytes_per_token
    print("| words of text | vocabulary | machines | tokens per machine and step | a row after gradients |"
          " exchanges of the rarest word | GB sent by each |")  # fmt: skip
    for tokens, vocabulary in ((17e6, 68_000), (1e9, 400_000), (100e9, 2_000_000)):
        counts = np.maximum(tokens / np.log(vocabulary) / np.arange(1, vocabulary + 1), 5).astype(np.int64)
        sampler = WindowSampler(counts, subsample=1e-4)
        sample = Sample.draw(sampler, [TokenBlock.of([np.random.default_rng(0).integers(0, 1000, 5000).tolist()])])
        for ranks in (2, 16, 64):
            block = int(min(400_000, 5 * tokens / 200 / ranks))
            reconciler = Reconciler(
                sampler, sample, dim=dim, replicas=ranks, step_tokens=block * ranks, bytes_per_token=budget
            )  # fmt: skip
            rarest = 5 * tokens / (reconciler.full * block * ranks)
            found.append({"tokens": tokens, "ranks": ranks, "after": reconciler.after, "rarest": rarest})
            print(f"| {tokens:,.0f} | {vocabulary:,} | {ranks} | {block:,} | {reconciler.after:,.0f} | {rarest:,.0f} |"
                  f" {5 * tokens * budget / 1e9:,.0f} |")  # fmt: skip
    print(f"a row of d {dim} takes {bytes_per_row(dim, 64):,.0f} bytes")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("part", nargs="+", choices=["speed", "quality", "reach"])
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="of `quality`")
    parser.add_argument("--times", type=int, default=5, help="turns of `speed`")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        runs, file = Runs(given, folder), folder / "ranks.json"
        result = json.loads(file.read_text()) if file.exists() else {}
        if "speed" in given.part:
            result["speed"] = speed(runs, given.times)
            print(json.dumps(result["speed"]))
        if "quality" in given.part:
            result["quality"] = quality(runs, given.seeds)
        if "reach" in given.part:
            result["reach"] = reach(given.dim)
        file.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
