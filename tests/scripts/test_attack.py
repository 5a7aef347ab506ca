"""A few cases of every kind of `scripts/reliability/attack.py`: none hangs, ends in a traceback or changes a result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "reliability" / "attack.py"


@pytest.mark.slow
def test_attacks_of_every_kind_fail() -> None:
    command = [sys.executable, str(SCRIPT), "--cases", "48", "--minutes", "4", "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "| all | " in done.stdout
