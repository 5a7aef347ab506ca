"""Tables that processes share: all see the same, there is room or an error that says so, and nothing stays behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from skiplight.distributed import shared_memory
from skiplight.distributed.shared_memory import PREFIX, map_tensors, remove_leftovers, shared_file, tensor_bytes
from skiplight.errors import RankError
from tests.support.disks import small_disk

SHAPES = [(1000, 10), (7, 10), (5, 1)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which memory may be shared."""
    monkeypatch.setattr(shared_memory, "memory_folders", lambda: [tmp_path])
    return tmp_path


def _add(path: str, value: float) -> None:
    for table in map_tensors(Path(path), SHAPES):
        table += value


def test_processes_that_map_a_file_see_what_the_others_write(here: Path) -> None:
    with shared_file("run", tensor_bytes(SHAPES)) as path:
        tables = map_tensors(path, SHAPES)
        assert [tuple(table.shape) for table in tables] == SHAPES
        assert all(table.data_ptr() % 64 == 0 for table in tables)
        context = multiprocessing.get_context("spawn")
        for value in (1.0, 2.0):
            process = context.Process(target=_add, args=(str(path), value))
            process.start()
            process.join(60)
            assert process.exitcode == 0
    assert not list(here.iterdir())  # it has lost its name
    assert all(torch.equal(table, torch.full_like(table, 3.0)) for table in tables)
    tables[0] += 1  # and is still there


def test_trainings_that_begin_at_the_same_time_leave_each_others_files_alone(here: Path) -> None:
    with multiprocessing.get_context("fork").Pool(2) as others:
        removing = others.map_async(_remove_for, [2.0] * 2)
        while not removing.ready():
            with shared_file("run", tensor_bytes(SHAPES)) as path:
                assert path.stat().st_size == tensor_bytes(SHAPES)
        removing.get()


def _remove_for(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        remove_leftovers()


def test_without_room_the_error_says_what_there_is_and_what_to_do(here: Path) -> None:
    with pytest.raises(RankError, match=r"MB free.*--shm-size.*trainer\.devices=1"), shared_file("run", 1 << 60):
        pass
    assert not list(here.iterdir())


def test_a_small_file_system_in_memory_is_passed_over_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "shm", "64k") as small:
        other = tmp_path / "tmp"
        other.mkdir()
        monkeypatch.setattr(shared_memory, "memory_folders", lambda: [small, other])
        with shared_file("run", 1 << 20) as path:
            assert path.parent == other
        assert "docker run --shm-size" in caplog.text
        assert not list(small.iterdir())


def _hold(folder: str) -> None:
    shared_memory.memory_folders = lambda: [Path(folder)]  # type: ignore[assignment]
    with shared_file("killed", 4096):
        time.sleep(120)


def test_what_killed_processes_have_left_is_removed_and_what_others_use_is_not(here: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(here),))
    process.start()
    deadline = time.monotonic() + 60
    while not list(here.glob(f"{PREFIX}*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)  # until it is locked, too
    remove_leftovers()
    assert list(here.glob(f"{PREFIX}killed-*"))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with shared_file("next", 4096) as path:
        assert list(here.iterdir()) == [path]
