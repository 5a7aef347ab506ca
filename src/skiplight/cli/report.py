"""`skiplight report`: make the page of a run, of several runs, of a comparison or of a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from skiplight.errors import ConfigError


def report(arguments: list[str]) -> int:
    """Make the page of a run, a comparison, or a study, or overlay the curves of runs: `skiplight report RUN ...`."""
    parser = argparse.ArgumentParser("skiplight report", description=report.__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="+", help="folder of a run, a comparison, a study or a multirun; or of several runs"
    )
    parser.add_argument("--metric", help="study: metric to rank by; default: its own, or the first evaluation")
    parser.add_argument("--output", type=Path, help="several runs: file of the page; default: runs.html")
    given = parser.parse_args(arguments)
    if len(given.folder) > 1:
        report_runs(given)
    else:
        if given.output:
            raise ConfigError(f"--output {given.output} is for several runs: the page of one folder is inside it")
        report_folder(given.folder[0], given.metric)
    return 0


def report_runs(given: argparse.Namespace) -> None:
    """Overlay the curves of several runs on a page."""
    if given.metric:
        raise ConfigError(f"--metric {given.metric} is for a study or a multirun: leave it out, or give one folder")
    from skiplight.report.curves import write_runs_page

    print(f"page: {write_runs_page(given.folder, given.output or Path('runs.html'))}")


def report_folder(folder: Path, metric: str | None) -> None:
    """Make the page of a run or an experiment."""
    from skiplight.experiments.folder import ExperimentFolder
    from skiplight.training.run_folder import RunFolder

    run, experiment = RunFolder(folder).config_file.exists(), ExperimentFolder.find(folder)
    comparison = experiment is not None and experiment.kind == "comparison"
    if metric and (run or comparison):
        raise ConfigError(f"--metric {metric} is for a study or a multirun, and {folder} is neither")
    if run:
        from skiplight.report.run import write_run_page

        print(f"page: {write_run_page(folder)}")
    elif comparison:
        from skiplight.report.comparison import write_comparison_page

        print(f"page: {write_comparison_page(folder)}")
    else:
        from skiplight.report.study import report_study

        report_study(folder, metric, trial_pages=True)
