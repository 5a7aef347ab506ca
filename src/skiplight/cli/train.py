"""`skiplight train`: train a new run, or several with -m; show the config with --cfg and --info."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from skiplight.cli.common import add_workers, check_devices, print_summary
from skiplight.cli.help import print_help
from skiplight.config.flags import ErrorParser, add_show_flags, shown_arguments, source_of


def train(arguments: list[str]) -> int:
    """Train a new run: `skiplight train data=files data.path=text.txt model.dim=100`."""
    if {"-h", "--help"} & set(arguments):
        print_help(arguments)
        return 0
    given = parse_train(arguments)
    check_devices(given)
    overrides = [*source_of(given).flags, *given.override]
    if given.shell_completion:
        from skiplight.cli.completion import complete

        return complete(given.override)
    if shown := shown_arguments(given):
        return show(shown, overrides)
    if given.multirun:
        from skiplight.experiments.multirun import multirun

        multirun(overrides, workers=given.workers, devices_per_trial=given.devices_per_trial)
        return 0
    from skiplight.config.compose import compose
    from skiplight.config.unread import check_read
    from skiplight.training.run_folder import default_run_dir

    config = compose(overrides)
    check_read(overrides, [config], "train")
    run_dir = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    from skiplight.report.run import show_finished_run
    from skiplight.training import fit

    print_summary(fit.train(config, run_dir, show=show_finished_run, verify=given.verify), run_dir)
    return 0


def parse_train(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of `skiplight train`, which are also those of Hydra's command line.

    Raises:
        ConfigError: an argument that begins with - is unknown, or lacks its value.
    """
    parser = ErrorParser("skiplight train", add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--verify", action="store_true")
    add_workers(parser)
    add_show_flags(parser)
    parser.set_defaults(workers=None)
    given, unknown = parser.parse_known_intermixed_args(list(arguments))
    given.override += unknown  # checked with the overrides, since a value may begin with - too
    return given


def show(shown: list[str], overrides: list[str]) -> int:
    """Show a config by `hydra.main`, after skiplight's own checks, whose errors name the remedy."""
    from skiplight.config.compose import choose_groups, compose, run_hydra

    if shown != ["--hydra-help"]:
        compose(overrides)
    return run_hydra([*shown, *choose_groups(overrides)], lambda _: None)
