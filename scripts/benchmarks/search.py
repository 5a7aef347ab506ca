"""Compare searches that promote or prune trials with the whole grid, by the tokens that they train and what they find.

    python scripts/benchmarks/search.py [--seeds 10] [--trials 15,30] [--only asha-2] [--output FOLDER] [data.wheel=...]

The grid is that of FINDINGS.md: 30 points of noise exponent, negatives and dimension with three seeds each. Each search
samples the same points, by TPE, with seeds of its own, and is looked at after several numbers of trials. What it has
found is the best of its complete trials, judged by the mean perplexity of that point in the grid: above the grid's best
point, in percent. Tokens are those of all trials and forks, as a share of the grid's, and do not depend on the machine.
With --output, an interrupted measurement continues.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from skiplight.experiments.sweeps.study import Study

SPACE = {"noise.exponent": "-0.5,0,0.5,0.75,1", "noise.negatives": "2,5,15", "model.dim": "50,100"}
METRIC = "heldout/perplexity"
EPOCHS, EPOCH = 3, 765_882
"""Epochs of a run, and tokens of an epoch of the demo text with its default vocabulary."""

SEARCHES = {
    "halving": ["study.pruner=halving", f"evaluation.every={EPOCHS * EPOCH // 27}"],
    "asha-1": ["study.pruner=asha", "study.rungs=1"],
    "asha-2": ["study.pruner=asha", "study.rungs=2"],
    "asha-3": ["study.pruner=asha", "study.rungs=3"],
    "asha-2-forks": ["study.pruner=asha", "study.rungs=2", "optim.schedule=wsd"],
    "asha-3-forks": ["study.pruner=asha", "study.rungs=3", "optim.schedule=wsd"],
    "hyperband": ["study.pruner=hyperband", "study.rungs=2"],
}


def sweep(folder: Path, options: list[str]) -> Study:
    """Run a study, or continue it, and return it."""
    command = [
        *(f"{name}={values}" for name, values in SPACE.items()), f"study.metric={METRIC}",
        f"trainer.max_epochs={EPOCHS}", "trainer.threads=1", "evaluation.similarity=[]", "logger=none",
        f"run_dir={folder}", f"data.store={folder.parent / 'stores'}", *options,
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "skiplight.cli", "sweep", *command], check=True, capture_output=True)
    return Study.load(folder)


def complete(study: Study) -> list[tuple[tuple, float]]:
    """Return the point and the perplexity of each trial that was trained to its end."""
    ended = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return [(tuple(trial.params[name] for name in SPACE), trial.values[0]) for trial in ended]


def tokens(study: Study) -> int:
    """Return the tokens that all trials and their forks have trained on."""
    trained = 0
    for path in study.folder.glob("*/metrics.jsonl"):
        trained += max((json.loads(line)["tokens"] for line in path.read_text().splitlines()), default=0)
    for path in study.folder.glob("*/forks.jsonl"):
        forks = map(json.loads, path.read_text().splitlines())
        trained += sum(fork["fork_tokens"] - fork["tokens"] for fork in forks)
    return trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", nargs="*", help="options of all runs")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=lambda text: sorted(map(int, text.split(","))), default=[15, 30])
    parser.add_argument("--workers", type=int, default=2, help="of the grid; a search has one, as its order matters")
    parser.add_argument("--only", choices=SEARCHES, help="one of the searches")
    parser.add_argument("--output", type=Path, help="keep the studies in this folder")
    given = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.output or Path(temporary)
        options = ["study.sampler=grid", "study.seeds=3", "--workers", str(given.workers), *given.options]
        grid = sweep(folder / "grid", options)
        scores: dict[tuple, list[float]] = {}
        for point, perplexity in complete(grid):
            scores.setdefault(point, []).append(perplexity)
        means = {point: statistics.fmean(found) for point, found in scores.items()}
        best = min(means, key=means.__getitem__)
        print(f"grid: {len(means)} points, {tokens(grid):,} tokens, best {means[best]:.1f} at {best}", flush=True)
        for name in [given.only] if given.only else SEARCHES:
            found: dict[int, list[tuple[float, float]]] = {trials: [] for trials in given.trials}
            for seed in range(given.seeds):
                for trials in given.trials:
                    own = [*SEARCHES[name], f"seed={seed}", "--trials", str(trials), *given.options]
                    study = sweep(folder / f"{name}-{seed}", own)
                    point, _ = min(complete(study), key=lambda ended: ended[1])
                    found[trials].append((tokens(study) / tokens(grid), 100 * (means[point] / means[best] - 1)))
            for trials, of in found.items():
                shares, above = zip(*of, strict=True)
                print(
                    f"{name}, {trials} trials: {100 * statistics.fmean(shares):.1f} % of the grid's tokens"
                    f" ({100 * max(shares):.1f} at most); {statistics.fmean(above):.2f} % above its best perplexity"
                    f" ({max(above):.2f} at most, within 1 % in {sum(percent <= 1 for percent in above)} of {len(of)})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
