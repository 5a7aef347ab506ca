"""The scripts on the page of extensions run as they stand, and are short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from skiplight.files import cache_folder
from tests.support.runs import own_environment
from tests.support.texts import write_texts

PAGE = Path(__file__).parents[1] / ".github" / "EXTENDING.md"
SCRIPTS = dict(re.findall(r"^## (.*?)$.*?^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S))


def test_there_is_a_script_for_each_kind() -> None:
    kinds = ("noise distribution", "objective", "schedule", "callback", "Trainer")
    assert list(SCRIPTS) == [f"Your own {kind}" for kind in kinds]
    for script in SCRIPTS.values():
        assert len([line for line in script.splitlines() if line.strip()]) < 15


@pytest.mark.parametrize("title", SCRIPTS)
def test_a_script_runs(tmp_path: Path, title: str) -> None:
    write_texts(tmp_path / "texts", files=1, documents=100)
    (tmp_path / "texts" / "0.txt").rename(tmp_path / "text.txt")
    (tmp_path / "script.py").write_text(SCRIPTS[title], encoding="utf-8")
    (tmp_path / "cache").mkdir()  # stores of its own, and the kernels that are compiled already
    (tmp_path / "cache" / "kernels").symlink_to(cache_folder() / "kernels")
    environment = own_environment() | {"SKIPLIGHT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
