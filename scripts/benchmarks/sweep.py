"""Measure what sweeps cost, and that they survive kills, on the demo text; for an otherwise idle machine.

    python scripts/benchmarks/sweep.py            # all parts, one after the other
    python scripts/benchmarks/sweep.py overhead   # 30 trials of an epoch with W&B offline: what a trial costs besides
    python scripts/benchmarks/sweep.py study      # 30 trials of 5 epochs, pruned by the median, with their report
    python scripts/benchmarks/sweep.py kills      # kill -9 three times at random moments against an undisturbed study
    python scripts/benchmarks/sweep.py multirun   # 6 trials: seconds of the command against seconds of training

`--trials`, `--epochs` and `data.wheel=` for all commands make it smaller, or independent of the network.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from skiplight.experiments.sweeps.study import Study

TOKENS = 765_882
"""An epoch of the demo text, with its default vocabulary."""


PARTS = "overhead", "study", "kills", "multirun"
common: list[str] = []
"""Options of all commands."""


def skiplight(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "skiplight.cli", *arguments, *common]


def run(*arguments: str) -> float:
    """Run a command to its end, and return its seconds."""
    begin = time.perf_counter()
    subprocess.run(skiplight(*arguments), check=True)
    return time.perf_counter() - begin


def study_arguments(folder: Path, trials: int, epochs: int) -> list[str]:
    return [
        "sweep", "noise.exponent=interval(-1,1)", "noise.negatives=5,15", "optim.lr=tag(log,interval(0.01,0.1))",
        f"trainer.max_epochs={epochs}", f"evaluation.every={TOKENS}", "study.pruner=median", "trainer.threads=1",
        "data.store=" + str(folder.parent / "stores"), f"run_dir={folder}", "--trials", str(trials),
    ]  # fmt: skip


def overhead(folder: Path, trials: int) -> None:
    """Measure what a trial costs besides its training and evaluation, with one worker and with two, W&B offline on."""
    options = ["logger=wandb", "logger.wandb.offline=true", "study.sampler=random", "study.pruner=none"]
    for workers in (1, 2):
        study = folder / f"workers-{workers}"
        seconds = run(*study_arguments(study, trials, 1), *options, "--workers", str(workers))
        spent = [json.loads(path.read_text())["seconds"] for path in study.glob("*/summary.json")]
        work = {part: sum(of[part] for of in spent) / workers for part in ("train", "evaluate")}
        besides = (seconds - sum(work.values())) * workers / trials
        print(
            f"overhead, {workers} workers: {len(spent)} trials in {seconds:.1f} s; each worker trains"
            f" {work['train']:.1f} s and evaluates {work['evaluate']:.1f} s: {seconds / sum(work.values()):.2f} times"
            f" that, {besides:.2f} s a trial besides"
        )


def study(folder: Path, trials: int, epochs: int) -> None:
    """Time a pruned study of several workers, with its report."""
    seconds = run(*study_arguments(folder, trials, epochs), "--workers", str(len(os.sched_getaffinity(0))))
    states = [trial.state.name.lower() for trial in Study.load(folder).trials]
    counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    print(f"study: {len(states)} trials ({counted}) with their report in {seconds:.0f} s")


def kills(folder: Path, trials: int, epochs: int, times: int = 3) -> None:
    """Compare a study that is killed several times with an undisturbed one, trial by trial.

    Each kill is at a random moment of a random trial, drawn from a different part of the study.
    """
    times = min(times, trials)
    whole, killed, chance = folder / "undisturbed", folder / "killed", random.Random()
    quick = ["checkpoint.every=1", "logger=none"]
    seconds = run(*study_arguments(whole, trials, epochs), *quick)
    for number in range(times):
        victim = chance.randrange(number * trials // times, (number + 1) * trials // times)
        process = subprocess.Popen(skiplight(*study_arguments(killed, trials, epochs), *quick), start_new_session=True)
        while not (killed / str(victim)).exists():
            if process.poll() is not None:
                raise SystemExit(f"kills: the study ended with {process.returncode} before trial {victim}")
            time.sleep(0.01)
        time.sleep(delay := chance.uniform(0, seconds / trials))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        state = Study.load(killed).trials[-1].state.name.lower()
        begun = len(list(killed.glob("[0-9]*")))
        print(f"kill {number + 1} of {times}: {delay:.2f} s into trial {victim}, {begun} begun, the last {state}")
    run(*study_arguments(killed, trials, epochs), *quick)
    ours, expected = (
        [(t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in Study.load(path).trials]
        for path in (killed, whole)
    )
    for one, other in zip(ours, expected, strict=True):
        if one != other:
            print(f"kills: a trial differs: {one}, undisturbed {other}")
    there = sorted(int(path.name) for path in killed.glob("[0-9]*"))
    print(f"kills: every trial once: {there == list(range(trials))}; equal to the undisturbed: {ours == expected}")


def multirun(folder: Path, epochs: int) -> None:
    """Measure what a multirun costs besides its training."""
    seconds = run(
        "train", "-m", "noise.exponent=0,0.5,0.75", "noise.negatives=5,15", f"trainer.max_epochs={epochs}",
        f"run_dir={folder}",
    )  # fmt: skip
    trained = [json.loads(path.read_text())["seconds"]["train"] for path in sorted(folder.glob("*/summary.json"))]
    shortest, total = min(trained), sum(trained)
    print(
        f"multirun: {len(trained)} trials in {seconds:.0f} s, {total:.0f} s of it training (none under "
        f"{shortest:.0f} s): {seconds / total:.2f} times the training"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", default=[], help=f"{', '.join(PARTS)}, or an option of all commands")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--multirun-epochs", type=int, default=60, help="enough for 20 s of training a trial")
    parser.add_argument("--warm", action="store_true", help="compile the kernels first")
    parser.add_argument("--output", type=Path, help="keep the runs in this new folder")
    given = parser.parse_intermixed_args()
    common.extend(part for part in given.part if "=" in part)
    chosen = [part for part in given.part if "=" not in part] or PARTS
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.output or Path(temporary)
        if given.warm:
            brief = ["trainer.max_tokens=1000", "logger=none", f"run_dir={folder / 'warm'}"]
            run("train", "-m", "noise.negatives=5,15", *brief)
        if "overhead" in chosen:
            overhead(folder / "overhead", given.trials)
        if "study" in chosen:
            study(folder / "study", given.trials, given.epochs)
        if "kills" in chosen:
            kills(folder / "kills", given.trials, given.epochs)
        if "multirun" in chosen:
            multirun(folder / "multirun", given.multirun_epochs)


if __name__ == "__main__":
    main()
