"""`skiplight sweep`: search options by a study."""

from __future__ import annotations

import argparse

from skiplight.cli.common import add_workers, check_devices
from skiplight.config.flags import source_of


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
    given = parser.parse_intermixed_args(arguments)
    check_devices(given)
    from skiplight import sweep as search

    search(
        *source_of(given).flags,
        *given.override,
        trials=given.trials,
        timeout=given.timeout,
        workers=given.workers,
        devices_per_trial=given.devices_per_trial,
    )
    return 0
