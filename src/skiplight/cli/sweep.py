"""`skiplight sweep`: search options by a study."""

from __future__ import annotations

import argparse


def sweep(arguments: list[str]) -> int:
    """Search options by a study: `skiplight sweep noise.exponent=interval(-1,1) --trials 30 run_dir=runs/study`."""
    parser = argparse.ArgumentParser(
        "skiplight sweep",
        description=sweep.__doc__ + " The same command again goes on with the study.",  # type: ignore[operator]
    )
    parser.add_argument("override", nargs="*", help="options as for `skiplight train`; several values are searched")
    parser.add_argument("--trials", type=int, help="how many trials the study is to have (all points of a grid)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after so long")
    parser.add_argument("--workers", type=int, default=1, help="trials at once, each with its share of the cores (1)")
    parser.add_argument("--devices-per-trial", type=int, help="GPUs that each worker owns; default: trainer.devices")
    given = parser.parse_intermixed_args(arguments)
    from skiplight import sweep as search

    search(
        given.override,
        trials=given.trials,
        timeout=given.timeout,
        workers=given.workers,
        devices_per_trial=given.devices_per_trial,
    )
    return 0
