"""Search spaces: how they are read, and that errors in them are found before any training."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from skiplight.config.compose import compose
from skiplight.config.schema import Config
from skiplight.errors import ConfigError
from skiplight.experiments.metrics import study_targets
from skiplight.experiments.resources import share_resources
from skiplight.experiments.sweeps.space import (
    apply_parameters,
    build_distributions,
    check_values,
    grid_points,
    split_overrides,
)


def test_a_space_of_every_kind() -> None:
    space = {
        "noise.negatives": [5, 15],
        "noise.exponent": {"low": -1, "high": 1},
        "model.dim": {"low": 50, "high": 320, "step": 50},
        "optim.lr": {"low": 0.01, "high": 0.1, "log": True},
        "seed": {"low": 0, "high": 3},
        "optim.name": ["sgd", "adagrad"],
    }
    assert build_distributions(space, Config()) == {
        "noise.negatives": CategoricalDistribution([5, 15]),
        "noise.exponent": FloatDistribution(-1, 1),
        "model.dim": IntDistribution(50, 300, step=50),
        "optim.lr": FloatDistribution(0.01, 0.1, log=True),
        "seed": IntDistribution(0, 3),
        "optim.name": CategoricalDistribution(["sgd", "adagrad"]),
    }


def test_a_space_is_read_from_the_overrides_of_a_multirun() -> None:
    plain, space = split_overrides(
        ["data=vital", "noise.negatives=5,15", "model.dim=range(50,151,50)", "optim.lr=tag(log, interval(0.01, 0.1))"]
    )
    assert plain == ["data=vital"]
    assert space["noise.negatives"] == [5, 15]
    assert space["model.dim"] == [50, 100, 150]
    assert space["optim.lr"] == {"low": 0.01, "high": 0.1, "log": True}


def test_registered_names_are_searched_by_their_group_as_in_hydra() -> None:
    plain, space = split_overrides(["objective=nce,full_softmax", "noise=power,uniform", "optim/schedule=linear,wsd"])
    assert plain == []
    assert space == {
        "objective.name": ["nce", "full_softmax"],
        "noise.name": ["power", "uniform"],
        "optim.schedule.name": ["linear", "wsd"],
    }
    config = compose([])
    check_values(space, config)
    for name in ("nce", "full_softmax"):
        expected = compose([f"objective={name}"]).objective
        assert apply_parameters(config, {"objective.name": name}).objective == expected
    with pytest.raises(ConfigError, match="did you mean full_softmax"):
        check_values({"objective.name": ["nce", "full_softmx"]}, config)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "is empty"),
        ([1], "must map names"),
        ({"noise.exponnt": [1]}, "did you mean `noise.exponent`"),
        ({"noise.exponent": []}, "the list is empty"),
        ({"noise.exponent": {"low": 1, "high": -1}}, "the range is empty"),
        ({"noise.exponent": {"low": 1}}, "high is missing"),
        ({"noise.exponent": {"low": 0, "high": 1, "stp": 1}}, "not stp"),
        ({"noise.exponent": {"low": 0, "high": "x"}}, "'x' is not a number"),
        ({"noise.exponent": {"low": 0, "high": 11}}, "`noise.exponent=11.0` is out of range"),
        ({"noise.negatives": {"low": 0.5, "high": 3}}, "is not an integer"),
        ({"noise.negatives": [5, 0]}, "`noise.negatives=0` is out of range"),
        ({"noise.negatives": [5, 5]}, "twice"),
        ({"noise.negatives": 5}, "must be a list"),
        ({"optim.lr": {"low": 0, "high": 1, "log": True}}, "low must be above 0"),
        ({"optim.name": {"low": 0, "high": 1}}, "the option is not a number"),
        ({"objective": ["negative_sampling"]}, "give `objective.name`"),
        ({"run_dir": ["a"]}, "not a single option of a run"),
        ({"study.sampler": ["grid"]}, "not a single option of a run"),
    ],
)
def test_a_wrong_space_is_an_error_with_a_remedy(space: Any, message: str) -> None:
    def check() -> None:
        build_distributions(space, Config())
        check_values(space, Config())

    with pytest.raises(ConfigError) as error:
        check()
    assert message in str(error.value)


def test_a_grid_has_every_point_in_order() -> None:
    found = build_distributions({"noise.exponent": {"low": 0, "high": 1, "step": 0.5}, "model.dim": [8, 16]}, Config())
    assert [tuple(point.values()) for point in grid_points(found, Config())] == [
        (0, 8), (0, 16), (0.5, 8), (0.5, 16), (1, 8), (1, 16),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="is not a grid"):
        grid_points(build_distributions({"noise.exponent": {"low": 0, "high": 1}}, Config()), Config())


def test_parameters_replace_options() -> None:
    config = apply_parameters(Config(), {"noise.exponent": -0.5, "seed": 3})
    assert (config.noise.exponent, config.seed, config.model.dim) == (-0.5, 3, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["study.metric=evaluation/men"], "they have evaluation/wordsim353"),
        (["study.metric=[loss,loss]"], "a list of two"),
        (["study.direction=up"], "must be maximize or minimize"),
        (["study.pruner=median"], "give `evaluation.every=TOKENS`"),
        (["study.pruner=median", "evaluation.every=1000", "study.metric=loss"], "which loss is not"),
        (
            ["study.pruner=halving", "evaluation.every=1000", "study.metric=[evaluation/wordsim353,seconds/train]"],
            "with two metrics no trial is pruned",
        ),
        (["study.metric=heldout/loss", "study.space={sampling.window: [2, 5]}"], "cannot be compared over"),
    ],
)
def test_metrics_that_a_study_cannot_optimise(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        study_targets(compose(options))
    assert message in str(error.value)


def test_workers_share_a_machine_of_eight_devices() -> None:
    devices, cores = [str(index) for index in range(8)], list(range(16))
    eight = share_resources(8, 1, devices, cores)
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in eight] == devices
    assert sorted(core for share in eight for core in share.cores) == cores
    four = share_resources(4, 2, devices, cores)
    assert [share.devices for share in four] == [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")]
    assert share_resources(1, 1, [], cores)[0].cores == ()
    assert [share.cores for share in share_resources(3, 1, [], [0, 1])] == [(0,), (0,), (1,)]
    with pytest.raises(ConfigError, match="needs 10 devices, and there are 8"):
        share_resources(5, 2, devices, cores)
