"""`skiplight compare`: train several objectives side by side."""

from __future__ import annotations

import argparse

from skiplight.cli.common import add_workers, check_devices
from skiplight.config.flags import source_of


def compare(arguments: list[str]) -> int:
    """Train several objectives side by side: `skiplight compare experiment=softmax_vs_ns run_dir=comparison`."""
    parser = argparse.ArgumentParser(
        "skiplight compare",
        description=compare.__doc__ + " The same command again continues it.",  # type: ignore[operator]
    )
    add_workers(parser)
    given = parser.parse_intermixed_args(arguments)
    check_devices(given)
    from skiplight import compare as compare_runs

    table = compare_runs(
        *source_of(given).flags, *given.override, workers=given.workers, devices_per_trial=given.devices_per_trial
    )
    print((table.folder / "findings.md").read_text(encoding="utf-8"))
    print(f"comparison: {table.folder}")
    return 0
