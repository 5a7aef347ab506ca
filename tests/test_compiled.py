"""Compiled kernels of other sources go when nobody has used them for long."""

from __future__ import annotations

import os
from pathlib import Path

from skiplight.compiled import remove_unused


def test_folders_that_were_not_used_for_long_are_removed(tmp_path: Path) -> None:
    for name, used in (("old", 1000), ("new", 3000)):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "kernel.nbi").write_text("x")
        os.utime(tmp_path / name, (used, used))
    remove_unused(tmp_path, since=2000)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
