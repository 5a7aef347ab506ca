"""`skiplight compare`: train several objectives side by side."""

from __future__ import annotations

from pathlib import Path

from skiplight.cli.common import print_options, quiet_lightning


def compare(arguments: list[str]) -> int:
    """Train several objectives side by side: `skiplight compare experiment=softmax_vs_ns run_dir=comparison`."""
    if {"-h", "--help"} & set(arguments):
        print_options()
        return 0
    from skiplight.config.compose import compose
    from skiplight.training.run_folder import default_run_dir

    config = compose(arguments)
    folder = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    quiet_lightning()
    from skiplight import compare as compare_runs

    compare_runs(arguments, folder)
    print((folder / "findings.md").read_text(encoding="utf-8"))
    print(f"comparison: {folder}")
    return 0
