"""Optuna's samplers and pruners by name, and that what they keep survives a kill."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from skiplight.config.compose import compose
from skiplight.errors import ConfigError
from skiplight.experiments.sweeps.pruners import make_pruner
from skiplight.experiments.sweeps.study import Study

SPACE = "study.space={noise.exponent: {low: -1, high: 1}, optim.lr: {low: 0.01, high: 0.1, log: true}}"
NEEDS_CMAES = pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="the package cmaes is not installed")


def create_study(folder: Path, *options: str, limit: int | None = None) -> Study:
    return Study.create_or_load(folder, compose([SPACE, *options]), limit)


def run_study(folder: Path, *options: str, trials: int, reopen: bool) -> list[tuple[float, float]]:
    """Run a study whose optimum is at .3 and .02, and return its points; `reopen`: as if killed before every trial."""
    study = create_study(folder, *options, limit=trials)
    while (trial := study.claim()) is not None:
        if reopen:
            (trial.run / "heartbeat.json").unlink()
            study = create_study(folder, *options, limit=trials)
            assert study.claim() == trial
        exponent, rate = trial.params["noise.exponent"], trial.params["optim.lr"]
        value = -((exponent - 0.3) ** 2) - (100 * rate - 2) ** 2 / 50
        study.storage.set_trial_state_values(study.trials[trial.number]._trial_id, TrialState.COMPLETE, [value])
    return [(t.params["noise.exponent"], t.params["optim.lr"]) for t in study.trials]


SAMPLERS = [
    pytest.param("cmaes", "{n_startup_trials: 2}", marks=NEEDS_CMAES),
    ("gp", "{n_startup_trials: 4, deterministic_objective: true}"),
    ("nsgaii", "{population_size: 4}"),
    ("qmc", "{qmc_type: halton}"),
    ("tpe", "{multivariate: true, n_startup_trials: 4}"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "arguments"), SAMPLERS)
def test_what_a_sampler_keeps_is_in_the_journal(tmp_path: Path, sampler: str, arguments: str) -> None:
    options = [f"study.sampler={sampler}", f"study.sampler_args={arguments}"]
    expected = run_study(tmp_path / "undisturbed", *options, trials=12, reopen=False)
    assert run_study(tmp_path / "killed", *options, trials=12, reopen=True) == expected
    assert len(set(expected)) == 12
    assert run_study(tmp_path / "seed", *options, "seed=1", trials=4, reopen=False) != expected[:4]


@pytest.mark.slow
def test_a_low_discrepancy_sequence_covers_the_space(tmp_path: Path) -> None:
    points = run_study(tmp_path, "study.sampler=qmc", trials=17, reopen=True)[1:]  # the first is drawn at random
    assert sorted(int((exponent + 1) * 8) for exponent, _ in points) == list(range(16)), "one in each of 16 parts"


def test_generations_go_on(tmp_path: Path) -> None:
    options = ["study.sampler=nsgaii", "study.sampler_args={population_size: 4}"]
    run_study(tmp_path, *options, trials=12, reopen=True)
    trials = create_study(tmp_path, *options).trials
    assert [trial.system_attrs["NSGAIISampler:generation"] for trial in trials] == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["study.sampler_args={multivariat: true}"], "give arguments of Optuna's TPESampler"),
        (["study.sampler=hyperband"], "study.sampler"),
        (["study.pruner=percentile", "evaluation.every=9", "study.pruner_args={percentile: 101}"], "PercentilePruner"),
        (["study.pruner=halving", "evaluation.every=9", "study.pruner_args={a: 1}"], "halving takes none"),
    ],
)
def test_arguments_that_optuna_does_not_take_begin_no_study(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_study(tmp_path / "study", *options)
    assert not (tmp_path / "study").exists()


def test_cmaes_without_its_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: None if name == "cmaes" else find(name, *args))
    with pytest.raises(ConfigError, match="pip install cmaes"):
        create_study(tmp_path / "study", "study.sampler=cmaes")


@pytest.mark.parametrize("pruner", ["median", "percentile", "wilcoxon"])
def test_pruners_take_their_arguments_and_the_warm_up(pruner: str) -> None:
    options = [f"study.pruner={pruner}", "evaluation.every=10"]
    args = {"percentile": "{percentile: 10, interval_steps: 20}", "wilcoxon": "{p_threshold: 0.2}"}.get(pruner, "null")
    made = make_pruner(compose([*options, f"study.pruner_args={args}", "study.warmup=3"]))
    expected = {
        "median": {"_n_warmup_steps": 31, "_n_startup_trials": 0},
        "percentile": {"_percentile": 10, "_interval_steps": 20},
        "wilcoxon": {"_p_threshold": 0.2, "_n_startup_steps": 4},
    }[pruner]
    assert {name: getattr(made, name) for name in expected} == expected


def test_a_study_in_a_database_is_the_one_in_a_journal(tmp_path: Path) -> None:
    url = f"study.storage=sqlite:///{tmp_path / 'studies.db'}"
    options = ["study.sampler=tpe", "study.sampler_args={n_startup_trials: 3}"]
    expected = run_study(tmp_path / "journal", *options, trials=6, reopen=False)
    assert run_study(tmp_path / "first", *options, url, trials=6, reopen=True) == expected
    assert run_study(tmp_path / "second", *options, url, trials=6, reopen=True) == expected, "a study of its own"
    assert not (tmp_path / "first" / "journal.log").exists()
    assert len(optuna.get_all_study_names(url.partition("=")[2])) == 2
    (tmp_path / "first").rename(tmp_path / "moved")
    assert [tuple(trial.params.values()) for trial in Study.load(tmp_path / "moved").trials] == expected
    for wrong in ("nosql://me:secret@host/db", "sqlite:////nowhere/at/all.db"):
        with pytest.raises(ConfigError, match=r"study.storage=.* cannot be opened|needs a package") as error:
            create_study(tmp_path / "wrong", f"study.storage='{wrong}'")
        assert "secret" not in str(error.value)
    assert not (tmp_path / "wrong").exists()
