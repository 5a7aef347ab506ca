"""Disks that are full and folders that turn read-only: an error names the path, and nothing that was good is lost."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from skiplight.cli import main
from skiplight.corpus.store.token_store import TokenStore
from skiplight.training.checkpoints import list_checkpoints, verify_checkpoint
from tests.support.disks import enlarge, read_only, small_disk
from tests.support.runs import left, newest_step, train_arguments
from tests.support.texts import write_texts

STEPS = ["checkpoint.every=1e-6", "checkpoint.keep=1000", "trainer.max_epochs=8", "data.heldout=0.1"]
"""A checkpoint at every step, which all stay."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disks")
    write_texts(folder / "texts", files=2, documents=30)
    assert main(train_arguments(folder / "texts" / "*.txt", folder, folder / "whole", *STEPS)) == 0
    return folder


def train(folder: Path, run: Path, *options: str) -> int:
    return main(train_arguments(folder / "texts" / "*.txt", folder, run, *STEPS, *options))


def test_a_training_on_a_full_disk_ends_and_goes_on_when_there_is_room(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(folder / "full", "1m") as disk:
        run = disk / "run"
        assert train(folder, run) == 2
        said = capsys.readouterr().err
        assert f"error: {run}" in said
        assert "No space left on device" in said
        assert "skiplight resume" in said
        saved = list_checkpoints(run / "checkpoints")
        assert 1 < len(saved) < len(list_checkpoints(folder / "whole" / "checkpoints"))
        for checkpoint in saved:
            verify_checkpoint(checkpoint)
        assert not list(run.rglob(".tmp-*"))
        assert main(["resume", str(run)]) == 2  # still full
        assert list_checkpoints(run / "checkpoints") == saved
        enlarge(disk, "64m")
        assert main(["resume", str(run)]) == 0
        assert left(run) == left(folder / "whole")


def test_a_store_on_a_full_disk_is_not_there_until_there_is_room(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(folder / "stores-full", "64k") as disk:
        run = folder / "stored"
        assert train(folder, run, f"data.store={disk / 'stores'}") == 2
        said = capsys.readouterr().err
        assert f"{disk / 'stores'}" in said
        assert "No space left on device" in said
        assert not run.exists()
        assert not [path for path in (disk / "stores").rglob("*") if path.is_file()]
        enlarge(disk, "64m")
        assert train(folder, run, f"data.store={disk / 'stores'}") == 0
        assert left(run) == left(folder / "whole")
        (store,) = (path for path in (disk / "stores").iterdir() if path.is_dir())
        TokenStore(store)


def test_a_folder_that_turns_read_only_keeps_what_it_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "sealed" / "run"
    with contextlib.ExitStack() as mounts:

        def seal() -> None:
            deadline = time.monotonic() + 60
            while newest_step(run) < 1 and time.monotonic() < deadline:
                time.sleep(0.001)
            mounts.enter_context(read_only(run.parent))

        run.parent.mkdir()
        with read_only(run.parent):
            pass  # where that cannot be done, the test is left out
        sealing = threading.Thread(target=seal)
        sealing.start()
        assert train(folder, run) == 2
        sealing.join()
        said = capsys.readouterr().err
        assert f"error: {run}" in said
        assert "Read-only file system" in said
        assert main(["resume", str(run)]) == 2
        assert f"{run}" in capsys.readouterr().err
    verify_checkpoint(list_checkpoints(run / "checkpoints")[-1])
    assert main(["resume", str(run)]) == 0
    assert left(run) == left(folder / "whole")
