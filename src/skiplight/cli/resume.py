"""`skiplight resume`: continue a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from skiplight.cli.common import parse_positive, print_summary


def resume(arguments: list[str]) -> int:
    """Continue a run that was stopped or killed: `skiplight resume RUN`."""
    parser = argparse.ArgumentParser("skiplight resume", description=resume.__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--devices", type=parse_positive, help="devices per machine from now on; default: as before")
    parser.add_argument("--num-nodes", type=parse_positive, help="machines from now on; default: as before")
    parser.add_argument(
        "--max-epochs", type=parse_positive, help="train a finished run with optim.schedule=wsd or constant for longer"
    )
    parser.add_argument("--verify", action="store_true", help="check the checksums of all files first")
    given = parser.parse_args(arguments)
    from skiplight.report.run import show_finished_run
    from skiplight.training import fit

    options = {
        "verify": given.verify,
        "devices": given.devices,
        "num_nodes": given.num_nodes,
        "max_epochs": given.max_epochs,
    }
    summary = fit.resume(given.run, show=show_finished_run, **options)
    print_summary(summary, given.run)
    return 0
