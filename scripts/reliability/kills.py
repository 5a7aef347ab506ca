"""Kill trainings at random moments, resume them, and compare their results with those of undisturbed runs.

    python scripts/reliability/kills.py --kills 28 --output kills.md

Every objective is trained by every engine that takes it, from a stored and from a streamed text, with W&B offline.
Every training is killed twice (`kill -9`, the second time after its folder was moved) at any moment between its first
file and the end of the command, checkpoints, evaluations, vectors and page included, and resumed. With one thread its
tables, its metrics and its loss must be those of the undisturbed run, bit for bit. With several, threads update the
same tables without locks and no two runs are equal: then the same pairs must have been visited, and the held-out loss
must lie within 3 standard deviations of 5 undisturbed runs of other seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from skiplight.registry import OBJECTIVES
from skiplight.training.checkpoints import FolderCheckpointIO, list_checkpoints
from skiplight.vectors.word_vectors import WordVectors

SEEDS = 5


@dataclasses.dataclass(frozen=True)
class Case:
    """A kind of training."""

    objective: str
    engine: str
    streaming: bool
    threads: int = 1

    def __str__(self) -> str:
        stored = "streamed" if self.streaming else "stored"
        return f"{self.objective}, {self.engine}, {stored}, {self.threads} thread{'s' * (self.threads > 1)}"

    def options(self, folder: Path, seed: int = 0) -> list[str]:
        return [
            "data=files",
            f"data.path='{folder / 'texts' / '*.txt'}'",
            "data.document=line",
            "data.heldout=0.1",
            f"data.store={folder / 'stores'}",
            f"data.streaming={self.streaming}",
            f"data.block_tokens={1000 if self.engine == 'autograd' else 4000}",
            "vocabulary.min_count=2",
            "model.dim=32",
            f"objective={self.objective}",
            f"engine={self.engine}",
            f"trainer.threads={self.threads}",
            f"trainer.max_epochs={4 if self.engine == 'autograd' else 24}",
            "evaluation.similarity=[]",
            "evaluation.every=300000",
            "checkpoint.every=0.1",
            "logger=wandb",
            "logger.wandb.offline=true",
            f"seed={seed}",
        ]


def write_texts(folder: Path, files: int = 6, documents: int = 60, words: int = 700) -> None:
    """Write documents of words that follow Zipf's law, each document with its own topic."""
    rng = np.random.default_rng(0)
    vocabulary = np.array(["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(2000)])
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    folder.mkdir(parents=True)
    for number in range(files):
        lines = []
        for _ in range(documents):
            topical = weights * rng.choice([0.1, 3.0], len(vocabulary), p=[0.8, 0.2])
            lines.append(" ".join(rng.choice(vocabulary, rng.integers(0, 2 * words), p=topical / topical.sum())))
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n")


def skiplight(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "skiplight.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {said}")


def await_file(begun: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file appears, or the process has ended without it."""
    while not begun.exists() and process.poll() is None:
        time.sleep(0.005)


def killed(process: subprocess.Popen[str], begun: Path, seconds: float) -> bool:
    """Kill the process some seconds after the file `begun` appears; return False if it had ended before."""
    await_file(begun, process)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    alive = process.poll() is None
    process.kill()
    said, _ = process.communicate()
    if process.returncode not in (0, -9):
        raise RuntimeError(f"exit code {process.returncode}: {said}")
    return alive


def left(run: Path) -> tuple[list[torch.Tensor], list[dict], dict, int]:
    """Return the tables, the metrics that do not depend on the clock, the summary, and the number of pairs."""
    vectors = WordVectors.load(run)
    tables = [table for table in (vectors.input, vectors.output) if table is not None]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in line.items() if k not in ("seconds", "words_per_second")} for line in lines]
    state = FolderCheckpointIO().load_checkpoint(list_checkpoints(run / "checkpoints")[-1])
    return tables, lines, json.loads((run / "summary.json").read_text()), state["callbacks"]["Tracking"]["pairs"]


def compare(run: Path, whole: Path, case: Case, losses: list[float]) -> list[str]:
    """Return the differences from the undisturbed run; an empty list if there are none."""
    (tables, lines, summary, pairs), (expected, their_lines, theirs, their_pairs) = left(run), left(whole)
    problems = []
    steps, their_steps = ([(line["step"], sorted(line)) for line in found] for found in (lines, their_lines))
    if steps != their_steps:
        problems.append(f"metrics.jsonl: {len(steps)} lines, not {len(their_steps)}, or of other steps")
    if (summary["tokens"], pairs) != (theirs["tokens"], their_pairs):
        problems.append(f"{pairs:,} pairs of {summary['tokens']:,} tokens, not {their_pairs:,} of {theirs['tokens']:,}")
    if case.threads == 1:
        if not all(torch.equal(a, b) for a, b in zip(tables, expected, strict=True)):
            problems.append("the tables differ")
        if lines != their_lines or summary["loss"] != theirs["loss"]:
            problems.append("the metrics differ")
    else:
        loss, mean, deviation = heldout(summary), statistics.mean(losses), statistics.stdev(losses)
        if abs(loss - mean) > 3 * deviation:
            problems.append(f"held-out loss {loss:.4f}, undisturbed {mean:.4f} with deviation {deviation:.4f}")
    return problems


def heldout(summary: dict) -> float:
    return summary["evaluation"]["heldout"]["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=28, help="trainings to kill and resume (28)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--output", type=Path, help="file for the table, in Markdown")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="skiplight-kills-"))
    write_texts(folder / "texts")

    cases = [Case(*parts) for parts in itertools.product(OBJECTIVES, ("fused", "autograd"), (False, True))]
    cases += [Case("negative_sampling", "fused", streaming, threads=2) for streaming in (False, True)]
    undisturbed: dict[Case, tuple[Path, float, list[float]]] = {}
    for number, case in enumerate(cases):
        if len(undisturbed) == arguments.kills:
            break
        seeds = SEEDS if case.threads > 1 else 1
        losses: list[float] = []
        for seed in range(seeds):
            run = folder / f"whole-{number}-{seed}"
            try:
                process = skiplight("train", *case.options(folder, seed), f"run_dir={run}")
                await_file(run / "config.yaml", process)
                begin = time.monotonic()
                finish(process)
                seconds = time.monotonic() - begin
            except RuntimeError as error:
                if "cannot do" not in str(error):
                    raise
                break  # the engine does not take the objective
            losses.append(heldout(json.loads((run / "summary.json").read_text())))
        if losses:
            undisturbed[case] = folder / f"whole-{number}-0", seconds, losses
            print(f"{case}: {seconds:.1f} s undisturbed", flush=True)

    tally = {case: [0, 0] for case in undisturbed}
    for number, case in zip(range(arguments.kills), itertools.cycle(undisturbed), strict=False):
        whole, seconds, losses = undisturbed[case]
        run, moved = folder / f"killed-{number}", folder / f"moved-{number}"
        first, second = moments.uniform(0, seconds), moments.uniform(0, seconds)
        alive = killed(skiplight("train", *case.options(folder), f"run_dir={run}"), run / "config.yaml", first)
        problems = []
        try:
            shutil.move(run, moved)
            steps = [path.name for path in list_checkpoints(moved / "checkpoints")]
            if not (moved / "summary.json").exists():
                (moved / ".lock").unlink(missing_ok=True)
                alive = killed(skiplight("resume", str(moved)), moved / ".lock", second) or alive
            if not (moved / "summary.json").exists():
                finish(skiplight("resume", str(moved)))
            problems = compare(moved, whole, case, losses)
        except Exception as error:  # one bad end must not hide the others
            problems = [f"{type(error).__name__}: {error}"]
        tally[case][0] += 1
        tally[case][1] += not problems
        at = f"killed after {first:.2f} s ({steps[-1] if steps else 'no checkpoint'}) and {second:.2f} s"
        print(f"{number + 1:3} {case}: {at}: {'; '.join(problems) or 'as if undisturbed'}", flush=True)
        if not problems:
            shutil.rmtree(moved)

    rows = ["| objective, engine, text, threads | killed twice and resumed | as if undisturbed |", "|---|---|---|"]
    rows += [f"| {case} | {tried} | {well} |" for case, (tried, well) in tally.items()]
    tried, well = (sum(column) for column in zip(*tally.values(), strict=True))
    rows.append(f"| all | {tried} | {well} |")
    print("\n".join(rows))
    if arguments.output:
        arguments.output.write_text("\n".join(rows) + "\n")
    if well < tried:
        sys.exit(f"see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
