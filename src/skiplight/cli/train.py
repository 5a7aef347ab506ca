"""`skiplight train`: train a new run, or several with -m."""

from __future__ import annotations

from pathlib import Path

from skiplight.cli.common import print_options, print_summary, quiet_lightning


def train(arguments: list[str]) -> int:
    """Train a new run: `skiplight train data=files data.path=text.txt model.dim=100`."""
    if {"-h", "--help"} & set(arguments):
        print_options()
        return 0
    if {"-m", "--multirun"} & set(arguments):
        from skiplight.experiments.multirun import multirun

        return multirun([argument for argument in arguments if argument not in ("-m", "--multirun")])
    from skiplight.config.compose import compose
    from skiplight.training.run_folder import default_run_dir

    config = compose([argument for argument in arguments if argument != "--verify"])
    run_dir = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    from skiplight import train as train_run

    quiet_lightning()
    print_summary(train_run(config, run_dir, verify="--verify" in arguments), run_dir)
    return 0
