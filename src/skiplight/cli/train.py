"""`skiplight train`: train a new run, or several with -m."""

from __future__ import annotations

import argparse
from pathlib import Path

from skiplight.cli.common import add_workers, print_options, print_summary, quiet_lightning


def train(arguments: list[str]) -> int:
    """Train a new run: `skiplight train data=files data.path=text.txt model.dim=100`."""
    if {"-h", "--help"} & set(arguments):
        from skiplight.config.compose import named_plugins
        from skiplight.registry import load_plugins

        load_plugins(named_plugins(arguments))
        print_options()
        return 0
    if {"-m", "--multirun"} & set(arguments):
        return _train_many(arguments)
    from skiplight.config.compose import compose
    from skiplight.training.run_folder import default_run_dir

    config = compose([argument for argument in arguments if argument != "--verify"])
    run_dir = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    from skiplight.report.run import show_finished_run
    from skiplight.training import fit

    quiet_lightning()
    print_summary(fit.train(config, run_dir, show=show_finished_run, verify="--verify" in arguments), run_dir)
    return 0


def _train_many(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("skiplight train", description="Train every combination of options.")
    parser.add_argument("-m", "--multirun", action="store_true")
    add_workers(parser)
    parser.set_defaults(workers=None)
    given = parser.parse_intermixed_args(arguments)
    from skiplight.experiments.multirun import multirun

    multirun(given.override, workers=given.workers, devices_per_trial=given.devices_per_trial)
    return 0
