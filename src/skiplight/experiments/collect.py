"""Reads the trials of a study or a multirun from its folder into a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skiplight.config.schema import Config
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError, RunError
from skiplight.experiments import heartbeat
from skiplight.experiments.folder import ExperimentFolder, experiment_of, flat_options
from skiplight.experiments.metrics import Direction, available, incomparable, maximised, read_metrics
from skiplight.experiments.queue import read_result
from skiplight.experiments.sweeps.study import Study
from skiplight.experiments.trials import TrialRow, TrialTable
from skiplight.training.run_folder import RunFolder


def collect_trials(folder: Path, metric: str | None = None) -> TrialTable:
    """Return the trials of a study or a multirun.

    Args:
        folder: where they lie.
        metric: to judge by, instead of the study's or the first evaluation.

    Raises:
        RunError: there are none.
        ConfigError: they have no such metric.
    """
    experiment = ExperimentFolder.find(folder)
    runs = dict(sorted(_runs(folder))) if experiment else {}
    if experiment is not None and experiment.kind == "study":
        study = Study.load(folder)
        config, rows, swept = study.config, _of_study(study, runs), list(study.space)
        targets, directions = study.targets, study.directions
    elif experiment is not None and runs:
        configs = {number: run.config() for number, run in runs.items()}
        config, swept = next(iter(configs.values())), _differing(list(configs.values()))
        rows = [_of_run(number, runs[number], config, swept) for number, config in configs.items()]
        targets = available(config)[:1]
        directions = [_direction(targets[0])]
    else:
        raise RunError(f"{folder} is neither a study nor a multirun with a trial: give the folder of one")
    if metric is not None:
        if metric not in available(config):
            raise ConfigError(f"--metric {metric} is no metric of these runs: they have {', '.join(available(config))}")
        targets, directions = [metric], [_direction(metric)]
    if incomparable(swept):
        rows = [dataclasses.replace(row, metrics=_without_heldout(row.metrics)) for row in rows]
    return TrialTable(folder, rows, swept, targets, directions)


def _runs(folder: Path) -> list[tuple[int, RunFolder]]:
    """The runs that belong to the experiment in a folder, each with its number."""
    found = []
    for run in (RunFolder(path) for path in folder.iterdir() if path.is_dir()):
        if (part := experiment_of(run)) is not None and part[0].path.resolve() == folder.resolve():
            found.append((part[1], run))
    return found


def _direction(metric: str) -> Direction:
    return "maximize" if maximised(metric) else "minimize"


def _without_heldout(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not name.startswith("heldout/")}


def _of_study(study: Study, runs: dict[int, RunFolder]) -> list[TrialRow]:
    rows = []
    for trial in study.trials:
        run, state = runs.get(trial.number, RunFolder(study.run(trial.number))), trial.state.name.lower()
        state, error = {"fail": "failed"}.get(state, state), trial.user_attrs.get("error", "")
        if state == "running":
            state, error = _state_of(run)
        seed = run.config().seed if run.config_file.exists() else study.config.seed
        measured, seconds = _measured(run)
        if state == "complete" and trial.values is not None and run.summary.exists():
            _compare(run, study, trial.values, measured)
        rows.append(TrialRow(trial.number, state, seed, trial.params, measured, seconds, run.path.name, error))
    return rows


def _state_of(run: RunFolder) -> tuple[str, str]:
    """The state of a run that no journal has as over, and why it failed: a killed process may not have recorded it."""
    if run.summary.exists():
        return "complete", ""
    if heartbeat.holder(run.path):
        return "running", ""
    result = read_result(run.path)
    if result is not None and result.state in ("failed", "diverged", "killed", "pruned"):
        return ("pruned", "") if result.state == "pruned" else ("failed", result.message)
    return "unfinished", ""


def _compare(run: RunFolder, study: Study, values: Sequence[float], measured: dict[str, float]) -> None:
    """Raise a `RunError` if a summary does not have the values that the study has recorded of it."""
    for target, value in zip(study.targets, values, strict=True):
        if measured.get(target) != value:
            raise RunError(
                f"{run.summary} has {target} {measured.get(target)}, and the study has recorded {value}: one of the two"
                " is damaged; take it back from a copy"
            )


def _of_run(number: int, run: RunFolder, config: Config, swept: Sequence[str]) -> TrialRow:
    state, error = _state_of(run)
    flat = flat_options(run_options(config))
    return TrialRow(
        number, state, config.seed, {name: flat[name] for name in swept}, *_measured(run), run.path.name, error
    )


def _measured(run: RunFolder) -> tuple[dict[str, float], float | None]:
    """What a run has measured until now, and its seconds of training."""
    if run.summary.exists():
        summary = run.read_summary()
        return read_metrics(summary), summary["seconds"]["train"]
    found: dict[str, Any] = {}
    for line in run.read_metrics():
        found |= line
    names = [name for name in found if name.startswith(("evaluation/", "heldout/"))]
    return {name: found[name] for name in names}, found.get("seconds")


def _differing(configs: list[Config]) -> list[str]:
    first, *others = (flat_options(run_options(config)) for config in configs)
    return [name for name in first if name != "run_dir" and any(other[name] != first[name] for other in others)]
