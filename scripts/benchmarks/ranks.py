"""What several ranks gain and cost on one machine's CPU: speed, quality, and quality against the exchange interval.

    python scripts/benchmarks/ranks.py PATH speed     # 1 rank x 1 thread, 2 x 1 and 1 x 2, in turns
    python scripts/benchmarks/ranks.py PATH quality   # 2 x 1 against 1 x 2, several seeds
    python scripts/benchmarks/ranks.py PATH interval  # 2 x 1 at several `distributed.every`: scores, bytes, words/s
    python scripts/benchmarks/ranks.py PATH bytes     # bytes a token by arithmetic, against those that a run counts

PATH is what `data.path` takes. Runs are processes of their own and take turns, so that a busy machine troubles all.
`--output FOLDER` keeps what is there, so that a run is not repeated; it gets ranks.json, and ranks.png for `interval`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.distributed.table_averaging import first_rows
from skiplight.sampling.windows import WindowSampler
from skiplight.stability import gradients_per_token

LAYOUTS = {"1 x 1": (1, 1), "2 x 1": (2, 1), "1 x 2": (1, 2)}
"""Ranks and threads of each."""

INTERVALS = [1, 4, 16, 64, 256]
SETS = ["wordsim353", "simlex999", "google"]


class Runs:
    """Trains runs in a folder, and reads those that are there."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder

    def __call__(self, name: str, ranks: int, threads: int, *options: str, seed: int = 0) -> dict[str, Any]:
        """The summary of a run."""
        run = self.folder / name.replace(" ", "")
        if not (run / "summary.json").exists():
            subprocess.run(
                [
                    sys.executable, "-m", "skiplight.cli", "train", "data=files", f"data.path='{self.given.path}'",
                    "data.heldout=0", f"data.store={self.folder / 'stores'}", "logger=none", "trainer.accelerator=cpu",
                    f"trainer.devices={ranks}", f"trainer.threads={threads}", f"trainer.max_epochs={self.given.epochs}",
                    f"model.dim={self.given.dim}", f"run_dir={run}", f"seed={seed}", "checkpoint.every=100000",
                    *options,
                ],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        summary = json.loads((run / "summary.json").read_text())
        print(f"{name}, seed {seed}: {summary['words_per_second']:,} words/s, {scores(summary)}", flush=True)
        return summary


def scores(summary: dict[str, Any]) -> dict[str, float]:
    """What the sets gave, of those that were asked for."""
    return {name: round(summary["evaluation"][name]["score"], 4) for name in SETS if name in summary["evaluation"]}


def speed(runs: Runs, times: int) -> dict[str, float]:
    """Medians of words/s, and of each turn's ratios."""
    found: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for turn in range(times):
        for name, (ranks, threads) in LAYOUTS.items():
            found[name].append(runs(f"speed-{turn}-{name}", ranks, threads, "evaluation=none")["words_per_second"])
    result = {name: statistics.median(values) for name, values in found.items()}
    for other in ("1 x 1", "1 x 2"):
        ratios = [ours / theirs for ours, theirs in zip(found["2 x 1"], found[other], strict=True)]
        result[f"2 x 1 over {other}"] = statistics.median(ratios)
    return result


def quality(runs: Runs, seeds: int) -> dict[str, dict[str, list[float]]]:
    """Scores of each layout, a number a seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        for name in ("1 x 2", "2 x 1"):
            for measure, score in scores(
                runs(f"quality-{seed}-{name}", *LAYOUTS[name], "evaluation=full", seed=seed)
            ).items():
                found.setdefault(name, {}).setdefault(measure, []).append(score)
    for measure in SETS:
        ours, theirs = (found[name][measure] for name in ("2 x 1", "1 x 2"))
        error = (statistics.variance(ours) / seeds + statistics.variance(theirs) / seeds) ** 0.5 if seeds > 1 else 0
        difference = statistics.mean(ours) - statistics.mean(theirs)
        print(f"{measure}: 2 x 1 {statistics.mean(ours):.4f}, 1 x 2 {statistics.mean(theirs):.4f},"
              f" difference {difference:+.4f} (standard error {error:.4f})")  # fmt: skip
    return found


def interval(runs: Runs, seeds: int) -> dict[str, dict[str, Any]]:
    """Scores, bytes that a rank sends for each token that it consumes, and words/s, by `distributed.every`."""
    found: dict[str, dict[str, Any]] = {}
    for every in INTERVALS:
        summaries = [runs(f"every-{every}-{seed}", 2, 1, "evaluation=full", f"distributed.every={every}", seed=seed)
                     for seed in range(seeds)]  # fmt: skip
        found[str(every)] = {
            "scores": [scores(summary) for summary in summaries],
            "bytes_per_token": summaries[0]["distributed"]["bytes_sent"] / (summaries[0]["tokens"] / 2),
            "words_per_second": statistics.median(summary["words_per_second"] for summary in summaries),
        }
    return found


def bytes_per_token(counts: np.ndarray, dim: int, block_tokens: float, every: int, ranks: int) -> float:
    """What a rank sends for each token that it consumes, with the default window, negatives and subsampling."""
    sampler = WindowSampler(counts)
    rows = first_rows(gradients_per_token(sampler, counts) * block_tokens, every)
    exchanged = sum(rows(step) for step in range(1, every + 1))
    return 2 * (ranks - 1) / ranks * 2 * 4 * dim * exchanged / (every * block_tokens)


def arithmetic(runs: Runs) -> dict[str, dict[str, float]]:
    """Bytes a token by arithmetic and as runs have counted them; then what larger tables need of a link."""
    found = {}
    for every in INTERVALS:
        summary = runs(f"every-{every}-0", 2, 1, "evaluation=full", f"distributed.every={every}")
        vocabulary = Vocabulary.load(runs.folder / f"every-{every}-0" / "vectors" / "vocabulary.tsv")
        tokens, steps = summary["tokens"], newest_step(runs.folder / f"every-{every}-0")
        expected = bytes_per_token(vocabulary.counts, runs.given.dim, tokens / 2 / steps, every, 2)
        counted = summary["distributed"]["bytes_sent"] / (tokens / 2)
        found[str(every)] = {"expected": expected, "counted": counted}
        print(f"every {every}: {expected:.1f} bytes a token expected, {counted:.1f} counted")
    print("| words | d | tokens a step | every | bytes a token | GB/s at 10 M words/s a rank | at 100 M |")
    for words, dim, block, every in itertools.product((100_000, 1_000_000), (100, 300), (400_000, 1_000_000), (16, 64)):
        zipf = (1e9 / np.log(words) / np.arange(1, words + 1)).astype(np.int64) + 1
        needed = bytes_per_token(zipf, dim, block, every, 8)
        print(f"| {words:,} | {dim} | {block:,} | {every} | {needed:.0f} | {needed / 100:.2f} | {needed / 10:.1f} |")
    return found


def newest_step(run: Path) -> int:
    return max(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


def draw(found: dict[str, dict[str, Any]], single: dict[str, list[float]] | None, path: Path) -> None:
    """Scores and bytes against the interval; one rank's scores as lines, where they were measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    intervals = [int(every) for every in found]
    for number, measure in enumerate(SETS):
        values = [[scores[measure] for scores in found[str(every)]["scores"]] for every in intervals]
        means = [statistics.mean(v) for v in values]
        spread = [statistics.stdev(v) if len(v) > 1 else 0 for v in values]
        axes[0].errorbar(intervals, means, spread, marker="o", capsize=3, color=f"C{number}", label=measure)
        if single is not None:
            axes[0].axhline(statistics.mean(single[measure]), color=f"C{number}", linestyle=":", linewidth=1)
    axes[0].set(xscale="log", xlabel="distributed.every (steps)", ylabel="score (dotted: one rank)")
    axes[0].legend()
    axes[1].plot(intervals, [found[str(every)]["bytes_per_token"] for every in intervals], marker="o")
    axes[1].set(xscale="log", yscale="log", xlabel="distributed.every (steps)", ylabel="bytes sent for each token")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("part", nargs="+", choices=["speed", "quality", "interval", "bytes"])
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="of `quality`; `interval` takes one")
    parser.add_argument("--times", type=int, default=3, help="turns of `speed`")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        runs = Runs(given, folder)
        file = folder / "ranks.json"
        result = json.loads(file.read_text()) if file.exists() else {}
        if "speed" in given.part:
            result["speed"] = speed(runs, given.times)
            print(result["speed"])
        if "quality" in given.part:
            result["quality"] = quality(runs, given.seeds)
        if "interval" in given.part:
            result["interval"] = interval(runs, 1)
            draw(result["interval"], result.get("quality", {}).get("1 x 2"), folder / "ranks.png")
        if "bytes" in given.part:
            result["bytes"] = arithmetic(runs)
        file.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
