"""Scores at rungs under `optim.schedule=wsd`: of a short fork whose rate falls, and the trial goes on as if without."""

from __future__ import annotations

from pathlib import Path

import pytest

from skiplight.cli import main
from skiplight.config.compose import compose
from skiplight.experiments.sweeps.points import RUNG, score_key
from skiplight.experiments.sweeps.study import Study
from skiplight.experiments.worker import train_folder
from skiplight.training import fit
from skiplight.training.fork import can_fork, fork_tokens
from skiplight.training.run_folder import RunFolder
from skiplight.training.schedules import make_schedule
from tests.support.runs import left, sweep_arguments
from tests.support.texts import write_texts

STUDY = [
    "noise.exponent=0.2,0.5,0.8", "study.metric=heldout/perplexity", "study.pruner=asha", "study.rungs=2",
    "study.sampler=grid", "trainer.max_epochs=3", "checkpoint.every=0.05", "optim.schedule=wsd", "optim.lr=0.05",
    "optim.schedule.warmup=2000", "optim.schedule.decay=0.3",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forks")
    write_texts(folder / "texts", files=2, documents=60, words=400)
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    texts = folder / "texts" / "*.txt"
    assert main(sweep_arguments(texts, folder, folder / "study", *STUDY)) == 0
    return Study.load(folder / "study")


def test_the_score_at_a_rung_is_that_of_the_run_which_ends_there(folder: Path, study: Study) -> None:
    for trial in study.trials:
        run = RunFolder(study.run(trial.number))
        forks = run.read_forks()
        assert [fork["rung"] for fork in forks] == list(range(min(trial.user_attrs[RUNG], 1) + 1))
        assert [trial.user_attrs[score_key(fork["rung"])] for fork in forks] == [f["heldout/perplexity"] for f in forks]
        assert not (run.path / "fork").exists()
    run = RunFolder(study.run(0))
    fork = run.read_forks()[0]
    config = run.config()
    config.trainer.max_tokens = fork_tokens(config.optim.schedule, fork["tokens"])
    assert fork["tokens"] < config.trainer.max_tokens < 1.5 * fork["tokens"]
    shorter = RunFolder(folder / "shorter")
    config.run_dir = str(shorter.path)
    summary = fit.train(config, shorter.path)
    assert summary["tokens"] == fork["fork_tokens"]
    assert summary["evaluation"]["heldout"]["perplexity"] == fork["heldout/perplexity"]
    assert summary["loss"] == pytest.approx(fork["loss"], rel=1e-12)


def test_a_trial_goes_on_as_if_there_had_been_no_fork(folder: Path, study: Study) -> None:
    (number,) = [trial.number for trial in study.trials if trial.state.name == "COMPLETE"]
    run, plain = RunFolder(study.run(number)), RunFolder(folder / "plain")
    assert [fork["rung"] for fork in run.read_forks()] == [0, 1]
    config = run.config()
    config.run_dir = str(plain.path)
    fit.train(config, plain.path)
    ours, expected = left(run.path), left(plain.path)
    assert ours[:2] == expected[:2]
    assert ours[2]["evaluation"] == expected[2]["evaluation"]


def test_a_fork_that_was_killed_is_trained_again(study: Study) -> None:
    (number, *_) = [trial.number for trial in study.trials if trial.state.name == "RUNNING"]
    run = RunFolder(study.run(number))
    (before,), lines = run.read_forks(), run.metrics.read_text()
    run.forks.unlink()
    (run.path / "fork" / "checkpoints").mkdir(parents=True)
    assert train_folder(run.path).state == "paused"
    (after,) = run.read_forks()
    assert {name for name in before if before[name] != after[name]} <= {n for n in before if "second" in n}
    assert not (run.path / "fork").exists()
    assert run.metrics.read_text() == lines
    assert train_folder(run.path).state == "paused"
    assert len(run.read_forks()) == 1, "and not once more"


@pytest.mark.parametrize(
    ("options", "forks"),
    [
        (["optim.schedule=wsd"], True),
        (["optim.schedule=wsd", "optim.schedule.decay=500"], True),
        (["optim.schedule=wsd", "optim.schedule.decay=950"], False),
        (["optim.schedule=wsd", "optim.schedule.decay=0"], False),
        (["optim.schedule=wsd", "optim.schedule.warmup=0.1"], False),
        (["optim.schedule=constant"], False),
        (["optim.schedule=linear"], False),
        (["optim.schedule=wsd", "noise=annealed_power"], False),
    ],
)
def test_what_can_fork_at_a_ninth_of_its_tokens(options: list[str], forks: bool) -> None:
    config = compose(options)
    assert can_fork(config, 111, 1000) == forks
    if forks:
        total = fork_tokens(config.optim.schedule, 111)
        schedule, whole = (make_schedule(config.optim.schedule, tokens) for tokens in (total, 1000))
        assert [schedule(tokens / total) for tokens in range(112)] == [whole(tokens / 1000) for tokens in range(112)]
        assert schedule(1.0) == pytest.approx(1e-4)
        assert schedule(114 / total) < 1
