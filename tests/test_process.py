"""A program's end is that of any Python program; its messages go to the standard error of the moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from skiplight.process import usable_cores

PROGRAM = """
import atexit, sys
from skiplight.process import run_program

def main():
    atexit.register(print, "at exit")
    print("printed without a newline", end="")
    %s

run_program(main)
"""


@pytest.mark.parametrize(
    ("end", "code", "error"),
    [
        ("return 0", 0, ""),
        ("return 5", 5, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('a message')", 1, "a message"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_a_program_ends_as_any_other(end: str, code: int, error: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM % end], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout == "printed without a newlineat exit\n"
    assert error in done.stderr
    assert bool(done.stderr) == bool(error)


LOGS = """
import io, logging, sys
from skiplight.cli.verbs import main

sys.stderr = io.StringIO()
main(["no-such-verb"])
sys.stderr.close()
second = sys.stderr = io.StringIO()
logging.getLogger("skiplight").info("what is logged")
main(["no-such-verb"])
print(second.getvalue())
"""


def test_messages_are_logged_to_the_standard_error_of_the_moment() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True)
    first, second, *_ = done.stdout.splitlines()
    assert first == "what is logged"
    assert "no-such-verb" in second
    assert not done.stderr


def test_windows_is_refused_with_the_remedy() -> None:
    program = "import sys; sys.platform = 'win32'; import skiplight"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: skiplight runs on Linux and macOS: on Windows")


def test_a_system_that_lists_no_cores_has_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert usable_cores() == list(range(os.cpu_count() or 1))
