"""The scripts on the page of extensions run as they stand, and are short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from skiplight.files import cache_folder
from tests.support.runs import own_environment
from tests.support.texts import write_texts

PAGE = Path(__file__).parents[1] / ".github" / "EXTENDING.md"
SCRIPTS = dict(re.findall(r"^## (.*?)$.*?^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S))


def test_there_is_a_script_for_each_kind() -> None:
    kinds = [
        "noise distribution",
        "source of text, and your own normaliser",
        "objective",
        "evaluation",
        "metric",
        "schedule",
        "callback",
        "Trainer",
    ]
    assert list(SCRIPTS) == [f"Your own {kind}" for kind in kinds]
    for script in SCRIPTS.values():
        assert len([line for line in script.splitlines() if line.strip()]) < 15


def test_the_scripts_run(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", files=1, documents=100)
    (tmp_path / "texts" / "0.txt").rename(tmp_path / "text.txt")
    for number, script in enumerate(SCRIPTS.values()):
        (tmp_path / f"{number}.py").write_text(script, encoding="utf-8")
    (tmp_path / "cache").mkdir()  # stores of its own, and the kernels that are compiled already
    (tmp_path / "cache" / "kernels").symlink_to(cache_folder() / "kernels")
    environment = own_environment() | {"SKIPLIGHT_CACHE": str(tmp_path / "cache")}
    # One process for all, since imports take longer than these trainings.
    run = "import runpy, sys\nfor script in sys.argv[1:]:\n    runpy.run_path(script, run_name='__main__')"
    scripts = [f"{number}.py" for number in range(len(SCRIPTS))]
    done = subprocess.run(
        [sys.executable, "-c", run, *scripts],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
