"""What is written through `replacing` appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from skiplight.files import replacing


def write_half(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    raise RuntimeError("the disk is full")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(TypeError), replacing(path) as temporary, temporary.open("w") as file:
        file.writelines(["half of the n", None])
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_folder_appears_whole_and_never_replaces_a_full_one(tmp_path):
    folder = tmp_path / "folder"
    with pytest.raises(RuntimeError), replacing(folder) as temporary:
        write_half(temporary)
    assert not list(tmp_path.iterdir())
    folder.mkdir()  # an empty one may be replaced
    with replacing(folder) as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "a.txt").write_text("a")
    assert (folder / "inner" / "a.txt").read_text() == "a"
    with pytest.raises(OSError, match="not empty"), replacing(folder) as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
