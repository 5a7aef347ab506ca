"""`skiplight sweep`: search options by a study."""

from __future__ import annotations

import argparse

from skiplight.cli.common import add_workers, check_devices
from skiplight.config.flags import source_of
from skiplight.errors import ConfigError, command


def sweep(arguments: list[str]) -> int:
    """Search options by a study: `skiplight sweep noise.exponent=interval(-1,1) --trials 30 run_dir=runs/study`."""
    parser = argparse.ArgumentParser(
        "skiplight sweep",
        description=sweep.__doc__ + " The same command again continues the study.",  # type: ignore[operator]
    )
    add_workers(parser)
    parser.add_argument(
        "--trials", type=int, help="total number of trials (with study.seeds: of points); default: all points of a grid"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="start no trial after so many seconds")
    parser.add_argument(
        "--slurm", type=int, metavar="N", help="submit an array of N Slurm jobs, each a worker of the study, and end"
    )
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="of sbatch, as in --sbatch=--time=08:00:00"
    )
    given = parser.parse_intermixed_args(arguments)
    check_devices(given)
    overrides = [*source_of(given).flags, *given.override]
    if given.slurm is not None:
        submit(given, overrides)
        return 0
    if given.sbatch:
        raise ConfigError(f"--sbatch {given.sbatch[0]} is for jobs of Slurm: give --slurm N as well")
    from skiplight import sweep as search

    search(
        *overrides,
        trials=given.trials,
        timeout=given.timeout,
        workers=given.workers,
        devices_per_trial=given.devices_per_trial,
    )
    return 0


def submit(given: argparse.Namespace, overrides: list[str]) -> None:
    """Submit workers to Slurm, each with the arguments of this command."""
    from skiplight.experiments.sweeps.slurm import submit_workers

    names = ("trials", "timeout", "workers", "devices_per_trial")
    values = {f"--{name.replace('_', '-')}": getattr(given, name) for name in names}
    arguments = [text for name, value in values.items() if value is not None for text in (name, str(value))]
    folder, answer = submit_workers(overrides, arguments, given.slurm, given.sbatch, given.trials, given.timeout)
    print(f"{answer}\nstudy: {folder}\nwhat it has found so far: {command('report', folder)}")
