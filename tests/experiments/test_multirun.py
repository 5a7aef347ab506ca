"""Hydra's multirun: every trial has a folder and a W&B run of its own, under all launchers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from skiplight.cli import main
from tests.support.runs import apart, command, skiplight, train_arguments
from tests.support.texts import write_texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("multirun")


@pytest.fixture(scope="module")
def texts(folder: Path) -> Path:
    return write_texts(folder / "texts", files=2, documents=30, words=300)


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_trials_have_folders_and_wandb_runs_of_their_own_and_one_that_fails_leaves_the_others(
    folder: Path, texts: Path, launcher: str
) -> None:
    parent = folder / f"runs-{launcher}"
    arguments = ["-m", "optim.lr=0.01,1e38,0.02", f"hydra/launcher={launcher}"]
    options = [*train_arguments(texts, folder, parent, "trainer.max_epochs=1", "logger=wandb"), *arguments]
    options = [option for option in options if option != "logger=none"]
    done = skiplight(options) if launcher == "basic" else apart(command(*options))
    assert done.returncode == 2, done.stderr
    assert "not finished: 1;" in done.stderr
    configs = [yaml.safe_load((parent / str(number) / "config.yaml").read_text()) for number in range(3)]
    assert [config["optim"]["lr"] for config in configs] == [0.01, 1e38, 0.02]
    assert {config["logger"]["wandb"]["group"] for config in configs} == {parent.name}
    assert [(parent / str(number) / "summary.json").exists() for number in range(3)] == [True, False, True]
    assert "is too high" in json.loads((parent / "1" / "result.json").read_text())["message"]
    for number in range(3):
        (run,) = (parent / str(number) / "wandb").glob("offline-run-*")
        assert run.name.endswith(json.loads((parent / str(number) / "environment.json").read_text())["id"])
    if launcher == "basic":
        again = skiplight(options)
        assert "trial 0 is finished already" in again.stderr + again.stdout
        assert not list(parent.rglob("report.html")), "no trial has waited for its page"
        said = skiplight(["report", str(parent), "--metric", "heldout/perplexity"])
        assert said.returncode == 0, said.stderr
        assert "trial 1: failed" in said.stdout
        assert len((parent / "trials.csv").read_text().splitlines()) == 4
        pages = {page.parent.name for page in parent.rglob("report.html")}
        assert pages == {parent.name, "0", "1", "2"}, "a page for every trial, also for the one that failed"


def test_workers_train_several_at_once_and_the_same_command_continues(folder: Path, texts: Path) -> None:
    parent = folder / "workers"
    options = train_arguments(texts, folder, parent, "trainer.max_epochs=1", "-m", "seed=0,1", "--workers", "2")
    done = skiplight(options)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trials are finished" in done.stdout
    (parent / "1" / "summary.json").unlink()
    done = skiplight(options)
    assert done.returncode == 0, done.stderr
    assert "trial 0 is finished already" in done.stderr
    assert "trial 1  seed=1: " in done.stderr
    done = skiplight([option.replace("seed=0,1", "seed=0,2") for option in options])
    assert done.returncode == 2
    assert "is a run with other options: choose another `run_dir`" in done.stderr
    done = skiplight([*options, "hydra/launcher=basic"])
    assert done.returncode == 2
    assert "are for the executor" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["noise.negatives=5,0"], "`noise.negatives=0` is out of range"),
        (["noise.negativ=5,15"], "did you mean `noise.negatives`"),
        (["data=vital,vitl"], "vitl"),
        (["noise.exponent=interval(0,1)"], "is searched by `skiplight sweep`"),
        (["model.dim=range(5,5)"], "is an empty range"),
    ],
)
def test_bad_input_begins_no_trial(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-m", f"run_dir={tmp_path / 'runs'}", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
