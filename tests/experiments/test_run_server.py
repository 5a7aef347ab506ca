"""The server that forks a process for each run says how each ended, and no process outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiplight.experiments.run_server import RunServer
from tests.support.runs import SMALL, own_environment
from tests.support.texts import write_texts


@pytest.fixture
def server() -> Iterator[RunServer]:
    server = RunServer(fork=True)
    yield server
    server._close()


def write_pid(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)


def wait_for(path: Path) -> int:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_several_processes_end_each_in_its_way(server: RunServer, tmp_path: Path) -> None:
    number, terminated = server.start(write_pid, tmp_path / "pid")
    _, returned = server.start(os.getpid)
    _, failed = server.start(os._exit, 3)
    _, raised = server.start(divmod, 1, 0)
    assert returned.result(30).result not in (None, os.getpid())
    assert returned.result().code == 0
    assert failed.result(30) == (None, 3)
    assert raised.result(30) == (None, 1)
    wait_for(tmp_path / "pid")
    assert not terminated.done()
    server.terminate(number)
    assert terminated.result(30) == (None, -signal.SIGTERM)
    server.terminate(number)  # which has ended
    assert server.start(max, 1, 2)[1].result(30) == (2, 0)


def test_a_killed_server_takes_its_processes_with_it(server: RunServer, tmp_path: Path) -> None:
    _, killed = server.start(write_pid, tmp_path / "pid")
    pid = wait_for(tmp_path / "pid")
    os.kill(server.pid, signal.SIGKILL)
    assert killed.result(30) == (None, -signal.SIGKILL)
    assert not server.is_usable
    assert server.start(max, 1, 2)[1].result(30) == (None, -signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_signals_to_all_are_left_to_the_processes(server: RunServer, tmp_path: Path) -> None:
    _, waiting = server.start(write_pid, tmp_path / "pid")
    wait_for(tmp_path / "pid")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(server.pid, number)
    assert server.start(max, 1, 2)[1].result(30) == (2, 0)
    assert not waiting.done()


SCRIPT = """
from pathlib import Path
import skiplight

with open("begun", "a") as file:
    file.write("begun ")

@skiplight.register_noise("rooted")
def rooted(counts, *, root: int = 2):
    return counts ** (1 / root)

table = skiplight.sweep(*Path("options").read_text().splitlines(), "noise=rooted", "noise.root=2,3", run_dir="study")
Path("states").write_text(" ".join(table.frame["state"]))
"""


def test_a_script_is_run_again_no_further_than_its_first_command(tmp_path: Path) -> None:
    """Otherwise one without `if __name__ == "__main__"` would begin its study again in the processes of its trials."""
    texts = write_texts(tmp_path / "texts", files=1, documents=10)
    study = ["study.sampler=grid", "study.metric=heldout/perplexity", "trainer.max_epochs=1"]
    data = ["data=files", f"data.path='{texts}'", f"data.store={tmp_path / 'stores'}", "data.heldout=0.2"]
    (tmp_path / "options").write_text("\n".join([*data, *SMALL, *study]))
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=own_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "begun").read_text() == "begun begun ", "once for what it does, once for what it registers"
    assert (tmp_path / "states").read_text() == "complete complete"
