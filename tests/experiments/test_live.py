"""What a terminal shows while trials train."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path

import pytest

from skiplight.cli import main
from tests.support.runs import train_arguments
from tests.support.texts import write_texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    write_texts(folder / "texts", files=2, documents=60, words=400)
    return folder


def run_in_terminal(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command whose standard error is a terminal of 100 columns, and return what is written to it as text."""
    master, slave = os.openpty()
    written, end = bytearray(), b"THE END"

    def read() -> None:
        while end not in written:
            written.extend(os.read(master, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as patch, open(slave, "w") as terminal:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "100")
        patch.setattr(sys, "stderr", terminal)
        try:
            assert main(arguments) == 0
        finally:  # not the end of the file, since processes of Python's own keep the terminal open
            os.write(slave, end)
            reader.join()
            os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()).replace("\r", "")


def test_a_terminal_shows_the_trials_in_training_with_scores_the_best_and_the_time_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["optim.lr=0.01,0.02", "data.heldout=0.1", "evaluation.every=20000", "trainer.max_epochs=25", "-m"]
    arguments = train_arguments(folder / "texts" / "*.txt", folder, folder / "runs", *options)
    shown = run_in_terminal(arguments, monkeypatch)
    titles, row = re.search(r"(training +options .*)\n(trial 0 .*)\n", shown).groups()  # type: ignore[union-attr]
    assert titles.split() == ["training", "options", "heldout/perplexity", "time"]
    assert "optim.lr=0.01" in row
    assert re.search(r"trial \d +optim.lr=0.0\d +[\d.]+ +\d+ s\n", shown), "the score so far"
    assert re.search(r"1 of 2 trials are finished\nbest: trial 0, heldout/perplexity [\d.]+\nabout \d+ s left", shown)


def test_without_a_terminal_there_is_a_line_for_each_trial(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    options = ["optim.lr=0.01,0.02", "trainer.max_epochs=1", "-m"]
    assert main(train_arguments(folder / "texts" / "*.txt", folder, folder / "plain", *options)) == 0
    assert [re.match(r"trial \d  optim.lr=0.0\d: ", line) is not None for line in caplog.messages].count(True) == 2
    assert "\x1b" not in capfd.readouterr().err
