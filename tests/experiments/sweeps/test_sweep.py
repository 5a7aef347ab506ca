"""Studies of real trainings in real processes: killed and continued, with several workers, with trials that fail."""

from __future__ import annotations

import csv
import os
import random
import re
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial

from skiplight.cli.train import parse_train
from skiplight.config.compose import compose
from skiplight.config.validate import run_options
from skiplight.experiments.folder import find_experiment
from skiplight.experiments.sweeps.pruning import trial_callback_factory
from skiplight.experiments.sweeps.study import Study
from skiplight.experiments.sweeps.summary import train_command
from skiplight.training.run_folder import RunFolder
from tests.support.runs import Running, skiplight, sweep_arguments
from tests.support.texts import write_texts

STUDY = [
    "noise.exponent=interval(-1,1)",
    "optim.lr=0.01,0.025",
    "study.metric=heldout/perplexity",
    "study.pruner=halving",
    "study.warmup_trials=0",
    "evaluation.every=40000",
    "trainer.max_epochs=4",
    "checkpoint.every=0.05",
]
TRIALS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def texts(folder: Path) -> Path:
    return write_texts(folder / "texts", files=2, documents=60, words=400)


@pytest.fixture(scope="module")
def undisturbed(folder: Path, texts: Path) -> Path:
    study, begin = folder / "undisturbed", time.monotonic()
    done = skiplight(sweep_arguments(texts, folder, study, *STUDY, "--trials", str(TRIALS)))
    assert done.returncode == 0, done.stderr
    (study / "took").write_text(str(time.monotonic() - begin))
    return study


def trial_record(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values


def test_the_printed_command_trains_the_best_in_any_folder(undisturbed: Path, tmp_path: Path) -> None:
    (printed,) = re.findall("^Train with these options: `(.*)`$", (undisturbed / "report.md").read_text(), re.M)
    moved = tmp_path / 'it\'s "mine", $HOME'
    shutil.copytree(undisturbed / "experiment", moved / "experiment")
    best = compose(["experiment=best", f"--config-dir={undisturbed}"])
    for command in (printed, train_command(moved, moved / "experiment" / "best.yaml")):
        program, verb, *arguments = shlex.split(command)
        assert (program, verb) == ("skiplight", "train")
        given = parse_train(arguments)
        assert run_options(compose([f"--config-dir={given.config_dir}", *given.override])) == run_options(best)


def folders(study: Path) -> list[int]:
    return sorted(int(path.name) for path in study.glob("*") if path.name.isdecimal())


def test_a_study_leaves_its_trials_a_table_and_the_best_as_an_experiment(undisturbed: Path) -> None:
    rows = list(csv.DictReader((undisturbed / "trials.csv").open()))
    assert [int(row["number"]) for row in rows] == folders(undisturbed) == list(range(TRIALS))
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    for row in rows:
        assert (row["state"] == "complete") == (undisturbed / row["run"] / "summary.json").exists()
        assert (row["state"] == "complete") == (not (undisturbed / row["run"] / "checkpoints").exists())
        assert -1 <= float(row["noise.exponent"]) <= 1
    best = min((r for r in rows if r["state"] == "complete"), key=lambda row: float(row["heldout/perplexity"]))
    composed = compose([f"hydra.searchpath=['file://{undisturbed}']", "experiment=best"])
    assert composed.noise.exponent == float(best["noise.exponent"])
    assert "lr: " in (undisturbed / "experiment" / "best.yaml").read_text()  # searched, if the default in the end
    assert [page.parent for page in undisturbed.rglob("report.html")] == [undisturbed]
    saved = Study.load(undisturbed).config
    assert {**run_options(composed), "noise": 0, "logger": 0, "checkpoint": 0, "run_dir": 0} == {
        **run_options(saved), "noise": 0, "logger": 0, "checkpoint": 0, "run_dir": 0,
    }  # fmt: skip
    assert (undisturbed / "plots" / "options.png").stat().st_size > 1000


def kill_in(trial: Path, arguments: list[str], within: float, chance: random.Random) -> None:
    """Start the study, and kill it or all of its processes some time after a trial has started."""
    process = Running(arguments, session=True)
    while not trial.exists():
        assert process.poll() is None, process.wait().stderr
        time.sleep(0.01)
    time.sleep(chance.uniform(0, within))
    if chance.random() < 0.5:
        os.kill(process.pid, signal.SIGKILL)  # its children must notice on their own
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_killed(folder: Path, texts: Path, undisturbed: Path, name: str, kills: int) -> None:
    study, chance = folder / name, random.Random(name)
    arguments = sweep_arguments(texts, folder, study, *STUDY, "--trials", str(TRIALS))
    within = float((undisturbed / "took").read_text()) / TRIALS / 2
    for number in range(kills):  # each at random in its own part of the study
        victim = chance.randrange(number * TRIALS // kills, (number + 1) * TRIALS // kills)
        kill_in(study / str(victim), arguments, within, chance)
    done = skiplight(arguments)
    assert done.returncode == 0, done.stderr
    assert folders(study) == list(range(TRIALS))
    ours, expected = ([trial_record(trial) for trial in Study.load(path).trials] for path in (study, undisturbed))
    assert ours == expected


def test_killed_once_a_study_equals_the_undisturbed_one(folder: Path, texts: Path, undisturbed: Path) -> None:
    check_killed(folder, texts, undisturbed, "killed", 1)


@pytest.mark.slow
def test_a_study_that_is_moved_continues_and_a_trial_that_is_moved_out_is_a_run_of_its_own(
    folder: Path, texts: Path
) -> None:
    options = [option for option in STUDY if not option.startswith("trainer.max_epochs")]
    old, new = folder / "old", folder / "new" / "place"
    done = skiplight(sweep_arguments(texts, folder, old, *options, "trainer.max_epochs=1", "--trials", "1"))
    assert done.returncode == 0, done.stderr
    new.parent.mkdir()
    old.rename(new)
    done = skiplight(sweep_arguments(texts, folder, new, *options, "trainer.max_epochs=1", "--trials", "2"))
    assert done.returncode == 0, done.stderr
    assert folders(new) == [0, 1]
    assert not old.exists()
    for run in (new / "0", new / "1"):
        found = find_experiment(RunFolder(run))
        assert found is not None
        assert (found[0].path.resolve(), found[1]) == (new, int(run.name))
    # Another study's folder is not that of a trial which was put there.
    other = folder / "other"
    other.mkdir()
    (new / "1").rename(other / "1")
    (other / "study.yaml").write_text((new / "study.yaml").read_text().replace("id: ", "id: another"))
    assert find_experiment(RunFolder(other / "1")) is None
    assert trial_callback_factory(other / "1") is None
    assert trial_callback_factory(new / "0") is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "second", "third", "fourth"])
def test_killed_three_times_a_study_equals_the_undisturbed_one(
    folder: Path, texts: Path, undisturbed: Path, name: str
) -> None:
    check_killed(folder, texts, undisturbed, name, 3)


def test_workers_share_a_store_and_a_failing_or_killed_trial_takes_no_other_with_it(folder: Path, texts: Path) -> None:
    study = folder / "workers"
    options = [
        "optim.lr=0.01,1e38,0.02", "study.sampler=grid", "study.metric=heldout/perplexity", "trainer.max_epochs=20",
        "checkpoint.every=0.05", f"data.store={folder / 'fresh'}", "--workers", "2",
    ]  # fmt: skip
    process = Running(sweep_arguments(texts, folder, study, *options))
    while not list((study / "2" / "checkpoints").glob("step-*")):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(int((study / "2" / ".lock").read_text()), signal.SIGKILL)
    done = process.wait()
    said = done.stderr
    assert done.returncode == 0, said
    assert "trial 2: the process was killed by SIGKILL, most likely because memory ran out; it resumes" in said
    assert "`optim.lr=1e+38` is too high" in said
    states = [row["state"] for row in csv.DictReader((study / "trials.csv").open())]
    assert states == ["complete", "failed", "complete"]
    assert "DivergedError" in (study / "1" / "errors" / "0.txt").read_text()
    assert len([path for path in (folder / "fresh").iterdir() if path.is_dir()]) == 1
    logs = [(study / str(number) / "output.log").read_text() for number in range(3)]
    assert sum(text.count(", vocabulary of ") for text in logs) == 1
    assert "going on from" in logs[2]


@pytest.mark.slow
def test_a_signal_stops_a_study_and_the_same_command_continues(folder: Path, texts: Path, undisturbed: Path) -> None:
    study = folder / "stopped"
    arguments = sweep_arguments(texts, folder, study, *STUDY, "--trials", str(TRIALS))
    process = Running(arguments)
    while not (study / "1" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    done = process.wait()
    assert done.returncode == 143, done.stderr
    assert "give the same command again" in done.stderr
    done = skiplight(arguments)
    assert done.returncode == 0, done.stderr
    ours, expected = ([trial_record(trial) for trial in Study.load(path).trials] for path in (study, undisturbed))
    assert ours == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["noise.exponnt=0,1", "--trials", "2"], "did you mean `noise.exponent`"),
        (["noise.exponent=0,1"], "give --trials N, or --timeout SECONDS"),
        (["noise.exponent=range(1,1)", "--trials", "2"], "the list is empty"),
        (["noise.exponent=0,1", "--trials", "2"], "they have heldout/perplexity"),
        (["study.metric=heldout/loss", "--trials", "2"], "`study.space` is empty"),
        (
            ["noise.exponent=0,1", "--trials", "2", "trainer.devices=2", "--devices-per-trial", "4"],
            "`trainer.devices=2` and --devices-per-trial 4 contradict each other",
        ),
    ],
)
def test_bad_input_begins_no_study(
    folder: Path, texts: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from skiplight.cli import main

    study = folder / "bad"
    assert main(sweep_arguments(texts, folder, study, *options)) == 2
    assert message in capsys.readouterr().err
    assert not study.exists()
