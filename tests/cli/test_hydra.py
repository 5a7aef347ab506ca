"""Hydra's own command line: what `hydra.main` shows, and completion in a shell."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra._internal.utils import get_args_parser

from skiplight.cli import main
from skiplight.cli.train import parse_train
from skiplight.config.compose import compose


def test_train_has_every_option_of_hydras_command_line() -> None:
    """Read from Hydra's own parser, so that an option of a later version is noticed."""
    for action in get_args_parser()._actions:
        for flag in action.option_strings:
            if flag in ("--help", "-h", "--version"):
                continue
            value = [] if action.nargs == 0 else [action.choices[0] if action.choices else "value"]
            given = parse_train([flag, *value, "model.dim=3"])
            assert vars(given)[action.dest] == (value[0] if value else True), flag
            assert given.override == ["model.dim=3"]


def test_cfg_shows_what_would_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "optim=adam", "callbacks={t: {_target_: a.B}}"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["optim"] == {"name": "adam", "lr": 0.001, "args": None, "schedule": {"name": "linear"}}
    assert shown["callbacks"] == {"t": {"_target_": "a.B"}}
    assert main(["train", "trainer=slurm", "-c", "job", "--resolve", "-p", "trainer"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["num_nodes"] == compose(["trainer=slurm"]).trainer.num_nodes == 1
    assert main(["train", "--cfg", "hydra"]) == 0
    assert "hydra:" in capsys.readouterr().out


def test_a_program_keeps_its_logging(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    for shown in (["--cfg", "job"], ["--info", "defaults"]):
        assert main(["train", *shown]) == 0
        assert (root.handlers, root.level) == before
    assert capsys.readouterr().out


def test_info_shows_the_defaults_of_a_users_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "mine.yaml").write_text("name: uniform\n")
    assert main(["train", "--info", "defaults", "--config-dir", str(tmp_path), "noise=mine"]) == 0
    assert "noise/mine" in capsys.readouterr().out
    assert main(["train", "--info", "searchpath", f"--config-dir={tmp_path}"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert main(["train", "--hydra-help"]) == 0
    assert "hydra/launcher" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", "job", "model.dim=0"], "`model.dim=0` is out of range"),
        (["--cfg", "jobs"], "invalid choice"),
        (["-m", "hydra/launcher=submitit_local", "model.dim=4,8"], "pip install 'skiplight[launchers]'"),
        (["--resolve"], "belong to --cfg"),
        (["--cfg", "job", "callbacks=3"], "`callbacks=3`: give one of "),
        (["--cfg", "job", "callbacks.timer.duration=3"], "options of `callbacks=timer` only: give `callbacks=timer`"),
        (["--cfg", "job", "callbacks=timer", "callbacks.timer.time=3"], "`callbacks.timer` has no option `time`"),
        (["--experimental-rerun", "config.pickle"], "reads a pickle"),
        (["--config-name"], "expected one argument"),
        (["-cn", "nothing"], "nothing"),
        (["-sc", "install=tcsh"], "give install=bash"),
        (["-m", "--devices-per-trial", "2", "trainer.devices=1", "seed=0,1"], "contradict each other"),
    ],
)
def test_a_wrong_use_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("skiplight: error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("skiplight tr", {"train"}),
        ("skiplight report runs/a", set()),
        ("skiplight train optim=a", {"optim=adagrad", "optim=adam"}),
        ("skiplight sweep trainer.max_t", {"trainer.max_tokens=", "trainer.max_time="}),
        ("skiplight train -m debug=f", {"debug=fast"}),
        ("skiplight train --config-dir {} noise=mi", {"noise=mine"}),
    ],
)
def test_what_hydra_completes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    expected: set[str],
) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "mine.yaml").write_text("name: uniform\n")
    monkeypatch.setenv("COMP_LINE", line.format(tmp_path))
    assert main(["-sc", "query=bash"]) == 0
    found = set(capsys.readouterr().out.split())
    typed = line.split()[-1]
    assert {word for word in found if word.startswith(typed)} == expected


@pytest.mark.slow
def test_bash_completes_after_the_installation(tmp_path: Path) -> None:
    program = tmp_path / "skiplight"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m skiplight.cli "$@"\n')
    program.chmod(0o755)
    script = 'eval "$(skiplight -sc install=bash)"; COMP_LINE="skiplight train debug=pro"; COMP_CWORD=2; '
    done = subprocess.run(
        ["bash", "-c", script + 'hydra_bash_completion; echo "${COMPREPLY[@]}"'],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "debug=profile"
