"""A sweep that W&B directs: what it is told, and the command that its agent makes of it, as far as offline goes."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from skiplight.config import conf_dir
from skiplight.config.compose import compose
from skiplight.config.validate import check_names
from skiplight.experiments.metrics import available_metrics
from tests.support.runs import skiplight, train_arguments
from tests.support.texts import write_texts


def agents_arguments(values: dict[str, object]) -> list[str]:
    """The arguments behind `skiplight` of the command that an agent starts for a trial."""
    sweep = yaml.safe_load((conf_dir() / "wandb_sweep.yaml").read_text())
    made = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    parts = [made["args_no_hyphens"] if part == "${args_no_hyphens}" else [part] for part in sweep["command"]]
    flat = [part for group in parts for part in group]
    assert flat[:2] == ["${env}", "skiplight"]
    return flat[2:]


def test_its_parameters_are_options_and_its_metric_is_logged() -> None:
    sweep = yaml.safe_load((conf_dir() / "wandb_sweep.yaml").read_text())
    check_names(list(sweep["parameters"]))
    arguments = agents_arguments({"noise.exponent": -0.37, "noise.negatives": 15, "model.dim": 200})
    config = compose(arguments[1:])
    assert (config.noise.exponent, config.noise.negatives, config.model.dim) == (-0.37, 15, 200)
    assert not config.logger["wandb"]["offline"]
    assert sweep["metric"]["name"] in available_metrics(config)
    assert sweep["early_terminate"]["min_iter"] * config.evaluation.every < 10 * 700_000


def test_the_agents_command_trains(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", files=1, documents=20, words=200)
    small = train_arguments(texts, tmp_path, tmp_path / "run", "logger=wandb")[1:]
    asked = [
        a for a in agents_arguments({"noise.exponent": 0.5}) if not a.startswith(("data=", "logger.wandb.offline"))
    ]
    done = skiplight([*asked, *(option for option in small if option != "logger=none"), "evaluation.every=1000"])
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 10
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
