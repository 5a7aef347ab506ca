"""All trials of a study or a multirun in one table, and trials.csv."""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skiplight.config.schema import Config
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError, RunError
from skiplight.experiments import heartbeat
from skiplight.experiments.multirun import OUTCOME
from skiplight.experiments.sweeps.metrics import Direction, available, incomparable, maximised, read_metrics
from skiplight.experiments.sweeps.study import FILE, Study
from skiplight.files import replacing, writing
from skiplight.training.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Row:
    """A trial.

    Attributes:
        number: its number, which is the name of its folder.
        state: complete, pruned, failed, running, or unfinished (the same command goes on with it).
        params: the swept options.
        figures: what was measured; at the last evaluation, where it is not complete.
        seconds: of training.
        error: why it failed.
    """

    number: int
    state: str
    seed: int
    params: dict[str, Any]
    figures: dict[str, float]
    seconds: float | None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Mean:
    """The trials that differ in their seed only, one for each seed: the mean and deviation of each figure."""

    params: dict[str, Any]
    rows: list[Row]
    mean: dict[str, float]
    deviation: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Table:
    """The trials of a folder, what was swept, and what they are judged by."""

    folder: Path
    rows: list[Row]
    swept: list[str]
    metrics: list[str]
    directions: list[Direction]

    @property
    def complete(self) -> list[Row]:
        return [row for row in self.rows if row.state == "complete" and all(m in row.figures for m in self.metrics)]

    def means(self) -> list[Mean]:
        """The complete trials, those that differ in their seed only together; the best first."""
        groups: dict[str, dict[int, Row]] = {}
        for row in self.complete:
            groups.setdefault(repr(_but_seed(row.params)), {}).setdefault(row.seed, row)
        means = []
        for group in groups.values():
            rows = list(group.values())
            shared = [name for name in rows[0].figures if all(name in row.figures for row in rows)]
            values = {name: [row.figures[name] for row in rows] for name in shared}
            deviation = {name: statistics.stdev(found) for name, found in values.items() if len(found) > 1}
            mean = {name: statistics.fmean(found) for name, found in values.items()}
            means.append(Mean(_but_seed(rows[0].params), rows, mean, deviation))
        sign = -1 if self.directions[0] == "maximize" else 1
        return sorted(means, key=lambda mean: sign * mean.mean[self.metrics[0]])


def _but_seed(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "seed"}


def collect(folder: Path, metric: str | None = None) -> Table:
    """The trials of a study's folder, or a multirun's.

    Args:
        folder: where they lie.
        metric: to judge by, instead of the study's or the first evaluation.

    Raises:
        RunError: there are none.
        ConfigError: they have no such metric.
    """
    runs = sorted((RunFolder(p) for p in folder.glob("*") if p.name.isdecimal()), key=lambda run: int(run.path.name))
    configs = {int(run.path.name): run.config() for run in runs if run.config_file.exists()}
    if (folder / FILE).exists():
        study = Study.load(folder)
        rows = _of_study(study, configs)
        swept, metrics, directions = list(study.space), study.metrics, study.directions
        config = study.config
    elif configs:
        swept = _differing(list(configs.values()))
        rows = [_of_run(folder, number, config, swept) for number, config in configs.items()]
        config = next(iter(configs.values()))
        metrics = available(config)[:1]
        directions = ["maximize" if maximised(metrics[0]) else "minimize"]
    else:
        raise RunError(f"{folder} is neither a study nor a multirun: it has no {FILE}, and no trial")
    if metric is not None:
        if metric not in available(config):
            raise ConfigError(f"--metric {metric} is no figure of these runs: they have {', '.join(available(config))}")
        metrics, directions = [metric], ["maximize" if maximised(metric) else "minimize"]
    if incomparable(swept):
        rows = [dataclasses.replace(row, figures=_without_heldout(row.figures)) for row in rows]
    return Table(folder, rows, swept, metrics, directions)


def _without_heldout(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not name.startswith("heldout/")}


def _of_study(study: Study, configs: dict[int, Config]) -> list[Row]:
    rows = []
    for trial in study.trials:
        run, state = study.run(trial.number), trial.state.name.lower()
        if state == "running":
            state = "running" if heartbeat.holder(run) else "unfinished"
        found, seconds = _measured(RunFolder(run))
        seed = configs[trial.number].seed if trial.number in configs else study.config.seed
        state = {"fail": "failed"}.get(state, state)
        rows.append(Row(trial.number, state, seed, trial.params, found, seconds, trial.user_attrs.get("error", "")))
    return rows


def _of_run(folder: Path, number: int, config: Config, swept: Sequence[str]) -> Row:
    run, error = RunFolder(folder / str(number)), ""
    state = "complete" if run.summary.exists() else "unfinished"
    if state == "unfinished" and (run.path / OUTCOME).exists():
        outcome = json.loads((run.path / OUTCOME).read_text(encoding="utf-8"))
        if outcome["state"] in ("failed", "killed"):
            state, error = "failed", outcome["message"]
    found, seconds = _measured(run)
    flat = _flat(config)
    return Row(number, state, config.seed, {name: flat[name] for name in swept}, found, seconds, error)


def _measured(run: RunFolder) -> tuple[dict[str, float], float | None]:
    """What a run has measured until now, and its seconds of training."""
    if run.summary.exists():
        summary = json.loads(run.summary.read_text(encoding="utf-8"))
        return read_metrics(summary), summary["seconds"]["train"]
    found: dict[str, float] = {}
    seconds = None
    for line in run.metrics.read_text(encoding="utf-8").splitlines() if run.metrics.exists() else []:
        try:
            about = json.loads(line)
        except ValueError:  # a last line that a killed process left
            continue
        seconds = about["seconds"]
        found |= {name: value for name, value in about.items() if name.startswith(("evaluation/", "heldout/"))}
    return found, seconds


def _flat(config: Config) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in run_options(config).items():
        flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _differing(configs: list[Config]) -> list[str]:
    first, *others = map(_flat, configs)
    return [name for name in first if name != "run_dir" and any(other[name] != first[name] for other in others)]


def write_csv(table: Table) -> Path:
    """Writes trials.csv: number, state, seed, every swept option, every figure, seconds, run."""
    names = list(dict.fromkeys(name for row in table.rows for name in row.figures))
    swept = [name for name in table.swept if name != "seed"]
    path = table.folder / "trials.csv"
    with writing(path), replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["number", "state", "seed", *swept, *names, "seconds", "run"])
        for row in table.rows:
            values = [row.params.get(name) for name in swept] + [row.figures.get(name) for name in names]
            out.writerow([row.number, row.state, row.seed, *values, row.seconds, row.number])
    return path
