"""Options that no run of a command reads are refused, and those that one of its runs reads are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

import skiplight
from skiplight.cli import main
from skiplight.config.compose import compose
from skiplight.config.unread import check_read
from skiplight.errors import ConfigError
from skiplight.experiments.sweeps.space import check_values
from skiplight.experiments.sweeps.sweep import compose_study

UNREAD = [
    (["objective=full_softmax", "noise.negatives=3"], "noise.negatives=3", "objective=full_softmax"),
    (["objective.name=hierarchical_softmax", "noise=uniform"], "noise=uniform", "draws no noise"),
    (["vocabulary.path=v.tsv", "vocabulary.min_count=2"], "vocabulary.min_count=2", "vocabulary.path=v.tsv"),
    (["vocabulary.path=v.tsv", "vocabulary.grow=true", "vocabulary.max_size=9"], "max_size=9", "vocabulary.grow"),
    (["data=files", "data.path=x", "data.tokens=9"], "data.tokens=9", "data.streaming=true"),
    (["data=sequences", "data.path=x", "data.normalise=unicode"], "data.normalise=unicode", "data=files"),
    (["study.seeds=3"], "study.seeds", "skiplight sweep"),
    (["compare.seeds=3"], "compare.seeds", "skiplight compare"),
]

READ = [
    ["objective=nce", "noise.negatives=3"],
    ["vocabulary.path=v.tsv", "vocabulary.grow=true", "vocabulary.min_count=2"],
    ["vocabulary.path=null", "vocabulary.min_count=2"],
    ["data=files", "data.path=x", "data.streaming=true", "data.tokens=9"],
    ["data=sequences", "data.path=x", "data.normalise=none"],
    ["experiment=softmax_vs_ns", "objective=full_softmax"],  # the preset has options of noise
    ["data.tokens=null"],
]


@pytest.mark.parametrize(("overrides", "option", "reason"), UNREAD)
def test_what_a_run_does_not_read_is_refused(
    overrides: list[str], option: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        skiplight.compose(*overrides)
    assert option in str(refused.value)
    assert reason in str(refused.value)
    assert main(["train", *overrides, f"run_dir={tmp_path / 'run'}"]) == 2
    assert str(refused.value) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overrides", READ)
def test_what_a_run_reads_is_taken(overrides: list[str]) -> None:
    assert skiplight.compose(*overrides) == compose(overrides)


def test_one_run_of_several_that_reads_an_option_is_enough() -> None:
    config = compose(["objective=full_softmax"])
    names = ["noise.negatives=3"]
    check_read(names, [config, compose([])], "train")
    with pytest.raises(ConfigError, match=r"noise\.negatives"):
        check_read(names, [config, compose(["objective=hierarchical_softmax"])], "train")


def compose_checked(overrides: list[str]) -> None:
    """Check fixed and searched options, as a study does before its first trial."""
    config, _ = compose_study(overrides)
    check_values(config.study.space, config)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["objective=full_softmax", "noise.exponent=0,1"], "noise.exponent"),
        (["objective=full_softmax,hierarchical_softmax", "noise.negatives=3"], r"noise\.negatives=3"),
        (["model.dim=10,20", "study.rungs=2"], "asha or hyperband"),
        (["model.dim=10,20", "study.warmup=2", "study.pruner=asha"], "median"),
        (["model.dim=10,20", "compare.points=2"], "skiplight compare"),
        (["vocabulary.path=v.tsv", "vocabulary.min_count=1,2"], r"vocabulary\.path=v\.tsv"),
    ],
)
def test_a_study_none_of_whose_trials_reads_an_option_is_refused(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        compose_checked(overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=full_softmax,nce", "noise.negatives=3"],
        ["model.dim=10,20", "study.pruner=hyperband", "study.rungs=2"],
        ["vocabulary.path=v.tsv,null", "vocabulary.min_count=1,2"],
    ],
)
def test_a_study_one_of_whose_trials_reads_an_option_is_not(overrides: list[str]) -> None:
    compose_checked(overrides)


def test_overrides_in_a_list_are_refused() -> None:
    with pytest.raises(TypeError, match=r"'model\.dim=10', 'seed=1'"):
        skiplight.compose(["model.dim=10", "seed=1"])  # type: ignore[arg-type]
