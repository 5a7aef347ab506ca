"""Studies on Slurm: what is submitted, and what the script of a job does when its time is nearly over."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skiplight.cli import main
from skiplight.experiments.sweeps.study import Study

OPTIONS = ["noise.exponent=interval(-1,1)", "model.dim=8", "logger=none"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that stand first on the path: an sbatch and an scontrol that write down their arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "scontrol"):
        program = programs / name
        program.write_text(
            f"#!{sys.executable}\n"
            "import json, sys\n"
            f"open({str(tmp_path / name)!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
            "if '--qos=none' in sys.argv:\n"
            "    sys.exit('sbatch: error: Invalid qos specification')\n"
            "print('Submitted batch job 17')\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path


def sweep(folder: Path, *arguments: str) -> int:
    return main(["sweep", *OPTIONS, f"run_dir={folder}", *arguments])


def test_a_line_break_does_not_become_a_command(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *OPTIONS, f"run_dir='{cluster}/a\ntouch b'", "--trials=2", "--slurm=1"]) == 2
    assert "choose a folder without line breaks" in capsys.readouterr().err
    assert not (cluster / "sbatch").exists()


def test_an_array_of_workers_on_one_study_is_submitted(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = cluster / "my 100% study"
    arguments = ["--trials", "7", "--slurm", "4", "--workers", "2", "--sbatch=--time=08:00:00", "--sbatch=-pgpu"]
    assert main(["sweep", *OPTIONS, f"run_dir='{study}'", *arguments]) == 0
    said = capsys.readouterr().out
    assert "Submitted batch job 17" in said
    assert shlex.quote(str(study)) in said
    script = study / "slurm" / "workers.sbatch"
    assert json.loads((cluster / "sbatch").read_text()) == ["--time=08:00:00", "-pgpu", str(script)]
    lines = script.read_text().splitlines()
    assert "#SBATCH --array=0-3" in lines
    assert "#SBATCH --requeue" in lines
    assert f"#SBATCH --output='{cluster}/my 100%% study/slurm/%A_%a.log'" in lines
    (command,) = [line.removesuffix(" &") for line in lines if line.endswith(" &")]
    python, *rest = shlex.split(command)
    assert python == sys.executable
    assert rest == [
        "-m", "skiplight.cli", "sweep", *OPTIONS, f"run_dir='{study}'", "--trials", "7", "--workers", "2",
    ]  # fmt: skip
    found = Study.load(study)
    assert found.trials == []
    assert list(found.space) == ["noise.exponent"]
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert main(["sweep", *OPTIONS, f"run_dir='{study}'", "--trials", "9", "--slurm", "1"]) == 0, "more workers"
    assert "--array=0-0" in script.read_text()


JOB = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"}


def start(script: Path, worker: str) -> subprocess.Popen[str]:
    """Start the script of a job whose worker is another program, and wait until that runs."""
    text = re.sub(
        r"^.* &$", f"{shlex.quote(sys.executable)} -c {shlex.quote(worker)} &", script.read_text(), flags=re.M
    )
    job = subprocess.Popen(["bash", "-c", text], stdout=subprocess.PIPE, text=True, env=os.environ | JOB)
    assert job.stdout is not None
    assert job.stdout.readline() == "trains\n"
    return job


WORKER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
print("trains", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("code", "again"), [(143, True), (2, False)])
def test_a_job_whose_time_is_nearly_over_is_put_into_the_queue_again(cluster: Path, code: int, again: bool) -> None:
    assert sweep(cluster / "study", "--trials", "2", "--slurm", "1") == 0
    job = start(cluster / "study" / "slurm" / "workers.sbatch", WORKER.format(code=code))
    time.sleep(0.1)  # the shell waits for its worker
    job.send_signal(signal.SIGUSR1)
    assert job.wait(20) == code
    assert (cluster / "scontrol").exists() == again
    if again:
        assert json.loads((cluster / "scontrol").read_text()) == ["requeue", "17_2"]


def test_a_job_that_ends_by_itself_is_not(cluster: Path) -> None:
    assert sweep(cluster / "study", "--trials", "2", "--slurm", "1") == 0
    job = start(cluster / "study" / "slurm" / "workers.sbatch", "print('trains', flush=True); raise SystemExit(3)")
    assert job.wait(20) == 3
    assert not (cluster / "scontrol").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slurm", "2"], "give --trials N, or --timeout SECONDS"),
        (["--slurm", "0", "--trials", "2"], "--slurm 0 must be at least 1"),
        (["--sbatch=--time=5", "--trials", "2"], "give --slurm N as well"),
        (["--slurm", "1", "--sbatch=time", "--trials", "2"], "--sbatch time is no option of sbatch"),
        (["--slurm", "1", "--trials", "2", "noise.exponnt=0,1"], "did you mean `noise.exponent`"),
    ],
)
def test_what_cannot_be_submitted_begins_no_study(
    cluster: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(cluster / "study", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (cluster / "study").exists()
    assert not (cluster / "sbatch").exists()


def test_what_slurm_refuses_is_said(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(cluster / "study", "--trials", "2", "--slurm", "1", "--sbatch=--qos=none") == 2
    assert "Invalid qos specification; give other options by --sbatch" in capsys.readouterr().err


def test_without_slurm_the_command_says_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep(tmp_path / "study", "--trials", "2", "--slurm", "1") == 2
    assert "give the command on a login node" in capsys.readouterr().err
