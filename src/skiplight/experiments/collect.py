"""Read the trials of a study or a multirun from its folder into a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skiplight.config.schema import Config
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError, RunError
from skiplight.experiments import heartbeat
from skiplight.experiments.folder import ExperimentFolder, find_experiment, flat_options
from skiplight.experiments.metrics import (
    HELDOUT_PARTS,
    Direction,
    available_metrics,
    incomparable_options,
    is_available,
    is_maximised,
    read_metrics,
)
from skiplight.experiments.queue import read_result
from skiplight.experiments.sweeps.conditions import NOT_APPLICABLE
from skiplight.experiments.sweeps.points import CONFIRMS, is_paused
from skiplight.experiments.sweeps.study import Study
from skiplight.experiments.trials import TrialRow, TrialTable
from skiplight.training.run_folder import RunFolder


def collect_trials(folder: Path, metric: str | None = None) -> TrialTable:
    """Return the trials of a study or a multirun.

    Args:
        folder: the folder of the study or the multirun.
        metric: metric to rank by; default: that of the study, or the first evaluation.

    Raises:
        RunError: the folder has no trials.
        ConfigError: the runs do not have the metric.
    """
    experiment, logarithmic = ExperimentFolder.find(folder), list[str]()
    runs = dict(sorted(_find_runs(folder))) if experiment else {}
    if experiment is not None and experiment.kind == "study":
        study = Study.load(folder)
        config, rows, swept = study.config, _study_rows(study, runs), list(study.space)
        targets, directions = study.targets, study.directions
        logarithmic = [name for name, found in study.space.items() if getattr(found, "log", False)]
    elif experiment is not None and runs:
        configs = {number: run.config() for number, run in runs.items()}
        config, swept = next(iter(configs.values())), _find_swept(list(configs.values()))
        rows = [_run_row(number, runs[number], config, swept) for number, config in configs.items()]
        names = available_metrics(config)
        targets = [next((name for name in names if any(name in row.metrics for row in rows)), names[0])]
        directions = [_direction(targets[0])]
    else:
        raise RunError(f"{folder} is neither a study nor a multirun with trials: give the folder of one")
    if metric is not None:
        if not is_available(metric, config):
            names = available_metrics(config)
            raise ConfigError(f"--metric {metric} is not a metric of these runs: they have {', '.join(names)}")
        targets, directions = [metric], [_direction(metric)]
    if incomparable_options(swept):
        rows = [dataclasses.replace(row, metrics=_without_heldout(row.metrics)) for row in rows]
    return TrialTable(folder, rows, swept, targets, directions, logarithmic)


def _find_runs(folder: Path) -> list[tuple[int, RunFolder]]:
    """Return the runs that belong to the experiment in a folder, each with its number."""
    found = []
    # A name with a dot is that of a folder which another process is making.
    for run in (RunFolder(path) for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        experiment, number = find_experiment(run) or (None, 0)
        if experiment is not None and experiment.path.resolve() == folder.resolve():
            found.append((number, run))
    return found


def _direction(metric: str) -> Direction:
    return "maximize" if is_maximised(metric) else "minimize"


def _without_heldout(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not name.startswith(HELDOUT_PARTS)}


def _study_rows(study: Study, runs: dict[int, RunFolder]) -> list[TrialRow]:
    rows = []
    for trial in study.trials:
        run, state = runs.get(trial.number, RunFolder(study.run(trial.number))), trial.state.name.lower()
        state, error = {"fail": "failed"}.get(state, state), trial.user_attrs.get("error", "")
        if is_paused(trial):
            state = "paused"
        elif state == "complete" and CONFIRMS in trial.user_attrs:
            state = "confirmation"
        elif state == "running":
            state, error = _state_of(run)
        seed = run.config().seed if run.config_file.exists() else study.config.seed
        metrics, seconds = _latest_metrics(run)
        if trial.state.name == "COMPLETE" and trial.values is not None and run.summary.exists():
            _check_values(run, study, trial.values, metrics)
        params = {name: trial.params.get(name, NOT_APPLICABLE) for name in study.space}
        rows.append(TrialRow(trial.number, state, seed, params, metrics, seconds, run.path.name, error))
    return rows


def _state_of(run: RunFolder) -> tuple[str, str]:
    """Return the state of a run that no journal has as ended, and why it failed.

    A process that was killed may not have recorded how the run ended.
    """
    if run.summary.exists():
        return "complete", ""
    if heartbeat.find_holder(run.path):
        return "running", ""
    result = read_result(run.path)
    if result is not None and result.state in ("failed", "diverged", "killed", "pruned"):
        return ("pruned", "") if result.state == "pruned" else ("failed", result.message)
    return "unfinished", ""


def _check_values(run: RunFolder, study: Study, values: Sequence[float], metrics: dict[str, float]) -> None:
    """Check that a summary has the values that the study has recorded of it.

    Raises:
        RunError: a value differs.
    """
    for target, value in zip(study.targets, values, strict=True):
        if metrics.get(target) != value:
            raise RunError(
                f"{run.summary} has {target} {metrics.get(target)}, and the study has recorded {value}: one of the two"
                " is damaged; restore it from a backup"
            )


def _run_row(number: int, run: RunFolder, config: Config, swept: Sequence[str]) -> TrialRow:
    state, error = _state_of(run)
    flat = flat_options(run_options(config))
    return TrialRow(
        number,
        state,
        config.seed,
        {name: flat.get(name, NOT_APPLICABLE) for name in swept},
        *_latest_metrics(run),
        run.path.name,
        error,
    )


def _latest_metrics(run: RunFolder) -> tuple[dict[str, float], float | None]:
    """Return the latest value of each metric of a run, and the seconds that it has trained."""
    if run.summary.exists():
        summary = run.read_summary()
        return read_metrics(summary), summary["seconds"]["train"]
    found: dict[str, Any] = {}
    for line in run.read_metrics():
        found |= line
    for fork in run.read_forks()[-1:]:
        found |= {name: value for name, value in fork.items() if "/" in name}
    names = [name for name in found if name.startswith(("evaluation/", *HELDOUT_PARTS))]
    return {name: found[name] for name in names}, found.get("seconds")


def _find_swept(configs: list[Config]) -> list[str]:
    options = [flat_options(run_options(config)) for config in configs]
    names = dict.fromkeys(name for own in options for name in own if name != "run_dir")
    return [name for name in names if len({repr(own.get(name)) for own in options}) > 1]
