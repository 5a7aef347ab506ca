"""`skiplight report`: make the page of a run, a comparison or a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from skiplight.errors import ConfigError


def report(arguments: list[str]) -> int:
    """Make the page of a run, a comparison, or a study with its table and plots: `skiplight report RUN`."""
    parser = argparse.ArgumentParser("skiplight report", description=report.__doc__)
    parser.add_argument("folder", type=Path, help="folder of a run, a comparison, a study or a multirun")
    parser.add_argument("--metric", help="study: metric to rank by; default: its own, or the first evaluation")
    given = parser.parse_args(arguments)
    from skiplight.experiments.folder import ExperimentFolder
    from skiplight.training.run_folder import RunFolder

    run, experiment = RunFolder(given.folder).config_file.exists(), ExperimentFolder.find(given.folder)
    comparison = experiment is not None and experiment.kind == "comparison"
    if given.metric and (run or comparison):
        raise ConfigError(f"--metric {given.metric} is for a study or a multirun, and {given.folder} is neither")
    if run:
        from skiplight.report.run import write_run_page

        print(f"page: {write_run_page(given.folder)}")
    elif comparison:
        from skiplight.report.comparison import write_comparison_page

        print(f"page: {write_comparison_page(given.folder)}")
    else:
        from skiplight.report.study import report_study

        report_study(given.folder, given.metric)
    return 0
