"""Options that only some objectives read: tried only where they are read, and in the tables as not applicable."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiplight.cli import main
from skiplight.config.compose import compose
from skiplight.config.schema import Config
from skiplight.errors import ConfigError
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.sweeps.conditions import KEYS, is_applicable, order_options
from skiplight.experiments.sweeps.space import build_distributions, check_values, grid_points
from skiplight.experiments.sweeps.study import Study
from skiplight.objectives import OBJECTIVES
from skiplight.training.run_folder import RunFolder

SPACE = "study.space={noise.negatives: [5, 10], objective.name: [full_softmax, nce]}"


def run_study(folder: Path, space: str, *options: str, limit: int | None = None) -> Study:
    """Run a study whose trials end at once, with a score of their own each."""
    study = Study.create_or_load(folder, compose([space, *options]), limit)
    while (trial := study.claim()) is not None:
        summary: dict[str, Any] = dict.fromkeys(("loss", "words_per_second", "effective_words_per_second"), 1)
        summary |= {"pairs_per_second": 1, "seconds": dict.fromkeys(("train", "evaluate", "total"), 1.0)}
        score = 0.1 + 0.01 * trial.number + (0.2 if trial.params["objective.name"] == "full_softmax" else 0)
        RunFolder(trial.run).write_summary({"evaluation": {"wordsim353": {"score": score}}, **summary})
        study.finish(trial, ProcessResult("finished"))
    return study


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "gp", "nsgaii", "qmc"])
def test_no_trial_is_spent_on_values_that_are_not_read(tmp_path: Path, sampler: str) -> None:
    study = run_study(tmp_path, SPACE, f"study.sampler={sampler}", limit=3)
    points = sorted((t.params["objective.name"], t.params.get("noise.negatives")) for t in study.trials)
    assert points == [("full_softmax", None), ("nce", 5), ("nce", 10)]
    for trial in study.trials:
        config = RunFolder(study.run(trial.number)).config()
        assert config.objective.name == trial.params["objective.name"]
        assert config.noise.negatives == trial.params.get("noise.negatives", Config().noise.negatives)


def test_tables_have_them_as_not_applicable_and_reports_are_written(tmp_path: Path) -> None:
    space = (
        "study.space={objective.name: [nce, full_softmax, hierarchical_softmax], noise.negatives: [5, 10, 20],"
        " noise.exponent: {low: 0, high: 1, step: 0.5}, optim.lr: {low: 0.01, high: 0.1, log: true}}"
    )
    study = run_study(tmp_path / "study", space, limit=16)
    assert main(["report", str(study.folder)]) == 0
    text = pandas.read_csv(study.folder / "trials.csv", keep_default_na=False, dtype=str)
    numbers = pandas.read_csv(study.folder / "trials.csv")
    for name in ("noise.negatives", "noise.exponent"):
        assert [value == "n/a" for value in text[name]] == [name != "nce" for name in text["objective.name"]]
        assert numbers[name].dtype == float, "pandas reads them as missing numbers"
    assert "n/a" not in set(text["optim.lr"])
    best = compose([f"hydra.searchpath=['file://{study.folder}']", "experiment=best"])
    row = numbers.loc[numbers["evaluation/wordsim353"].idxmax()]
    assert best.objective.name == row["objective.name"] == "full_softmax"
    assert "negatives" not in (study.folder / "experiment" / "best.yaml").read_text()


def test_an_option_of_one_objective_is_searched_with_that_one(tmp_path: Path) -> None:
    space = "study.space={objective.chunk: [512, 1024], objective.name: [nce, full_softmax]}"
    study = run_study(tmp_path, space, "study.sampler=grid")
    points = [(t.params["objective.name"], t.params.get("objective.chunk")) for t in study.trials]
    assert points == [("nce", None), ("full_softmax", 512), ("full_softmax", 1024)]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"noise.negatives": [5, 10]}, "`noise.negatives` is not read: `objective=full_softmax` draws no noise"),
        ({"noise.exponent": [0, 1], "noise.name": ["uniform"], "objective.name": ["nce"]}, r"and `noise.name=\['unif"),
        ({"noise.exponent": {"low": 0, "high": 1}, "objective.name": ["hierarchical_softmax"]}, "is read by no trial"),
    ],
)
def test_an_option_that_no_trial_reads_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_values(space, compose(["objective=full_softmax"]))


@given(objective=st.sampled_from(sorted(OBJECTIVES)), negatives=st.sets(st.integers(1, 50), min_size=1, max_size=4))
def test_a_grid_has_each_point_once_with_all_that_it_reads(objective: str, negatives: set[int]) -> None:
    config = Config()
    space = {"noise.negatives": sorted(negatives), "objective.name": ["nce", *({objective} - {"nce"})]}
    points = grid_points(build_distributions(space, config), config)
    assert len({repr(point) for point in points}) == len(points)
    for point in points:
        assert ("noise.negatives" in point) == OBJECTIVES[point["objective.name"]].target.needs_noise
        assert all(is_applicable(name, point, config) for name in point)
    assert {p["noise.negatives"] for p in points if p["objective.name"] == "nce"} == negatives


def test_names_come_before_what_depends_on_them() -> None:
    names = ["noise.negatives", "noise.name", "seed", "objective.name", "objective.chunk"]
    assert order_options(names) == ["objective.name", "noise.name", "noise.negatives", "seed", "objective.chunk"]
    assert KEYS["objective"] == "objective.name"


def test_an_integer_is_searched_in_an_interval() -> None:
    found = {"model.dim": {"low": 16.0, "high": 128.0, "log": True}}  # as Hydra parses interval(16,128)
    check_values(found, Config())
    with pytest.raises(ConfigError, match="out of range"):
        check_values({"model.dim": {"low": -3.0, "high": 128.0}}, Config())


@pytest.mark.skipif(importlib.util.find_spec("optunahub") is not None, reason="optunahub is installed")
def test_auto_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'optunahub'\): install it with `pip install 'skiplight\[auto\]'"):
        Study.create_or_load(tmp_path, compose([SPACE, "study.sampler=auto"]), 3)
    assert not list(tmp_path.iterdir())
