"""Users without a name or a home, closed or full streams, a folder that is gone, little memory: no traceback."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.runs import command, own_environment, train_arguments

NOBODY = 54321
"""A user without an entry among the users."""


AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
]  # fmt: skip
"""Reads everything, since the interpreter may be in the home folder of another user, and writes like that user."""


def run(
    arguments: list[str],
    setup: Callable[[], object] = lambda: None,
    stdout: int | None = subprocess.PIPE,
    prefix: Sequence[str] = (),
    **given: str,
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **given}
    done = subprocess.run(
        [*prefix, *command(*arguments)], stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=setup, check=False, timeout=200, cwd="/",
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode >= 0, done.stderr
    return done


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("to be or not to be that is the question\n" * 200)
    return tmp_path / "a.txt"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="becomes another user, which takes root")
@pytest.mark.parametrize("home", [{}, {"HOME": "/"}, {"HOME": "/nowhere"}])
def test_a_user_without_a_name_or_a_home_trains(home: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        place = Path(folder)
        os.chown(place, NOBODY, NOBODY)
        (place / "a.txt").write_text("to be or not to be that is the question\n" * 200)
        options = ["trainer.max_epochs=1", "data.heldout=0", "noise.exclude=none", "logger=wandb"]
        arguments = train_arguments(place / "a.txt", place, place / "run", *options)
        done = run(arguments, prefix=AS_NOBODY, TMPDIR=folder, **home)
        assert done.returncode == 0, done.stderr
        done = run(["neighbors", str(place / "run"), "be"], prefix=AS_NOBODY, TMPDIR=folder, **home)
        assert done.returncode == 0, done.stderr


def test_standard_streams_that_are_closed_or_full() -> None:
    environment = own_environment()
    script = "import os, sys; [os.close(n) for n in (0, 1, 2)]; os.execv(sys.executable, sys.argv[1:])"
    closed = [sys.executable, "-c", script, *command("--version")]
    assert subprocess.run(closed, env=environment, check=False).returncode == 0
    with open("/dev/full", "w") as full:
        done = run(["--version"], stdout=full.fileno())
    assert done.returncode == 2
    assert "the standard output cannot be written: No space left on device" in done.stderr


def test_a_working_directory_that_was_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()

    def go_there() -> None:
        os.chdir(tmp_path / "gone")
        os.rmdir(tmp_path / "gone")

    done = run(["train", "data=files", "data.path=a.txt"], go_there)
    assert done.returncode == 2
    assert "the working directory was removed" in done.stderr


def test_little_memory_is_named(text: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    done = run(train_arguments(text, tmp_path, tmp_path / "run"), limit, OMP_NUM_THREADS="1")
    assert done.returncode in (0, 2), done.stderr
    assert done.returncode == 0 or "memory" in done.stderr
