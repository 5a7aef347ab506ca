"""Pipes, devices and links in place of a run's files: nothing hangs, and nothing is written outside of the folder."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiplight.cli import main
from tests.support.runs import train_arguments

FILES = ["config.yaml", "metrics.jsonl", "environment.json", "summary.json", "trial.json", "vectors/vocabulary.tsv",
         "vectors/vectors.safetensors", "vectors/README.md"]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strange")
    (folder / "a.txt").write_text("to be or not to be that is the question\n" * 200)
    options = ["trainer.max_epochs=1", "data.heldout=0", "checkpoint.every=1e-6", "noise.exclude=none"]
    assert main(train_arguments(folder / "a.txt", folder, folder / "run", *options)) == 0
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    """A read that would wait for ever ends by an error that nothing catches."""

    def stop(number: int, frame: object) -> None:
        raise SystemError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_not_a_regular_file_is_named_and_not_read(
    run: Path, name: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(run / name)
    elif what == "device":
        (run / name).symlink_to("/dev/zero")
    else:
        (run / name).mkdir()
    codes = {verb: main([verb, str(run), *more]) for verb, more in (("neighbors", ["be"]), ("report", []))}
    if name == "summary.json":
        shutil.rmtree(run / "vectors")
    codes["resume"] = main(["resume", str(run)])
    said = capsys.readouterr().err
    assert codes["resume"] == 2
    assert codes["neighbors"] == (2 if name.startswith("vectors/") else 0)
    assert "Traceback" not in said
    assert str(run) in said
