"""`skiplight cache` lists prepared texts and kernels, and removes those that are not used."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from skiplight.cli import main
from skiplight.corpus import TokenStore, open_source, prepare
from skiplight.files import locked

DAY = 24 * 3600


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKIPLIGHT_CACHE", str(tmp_path))
    return tmp_path


def build(folder: Path, name: str) -> TokenStore:
    path = folder / f"{name}.txt"
    path.write_text(f"the quick {name} fox jumps over the lazy dog\n" * 50)
    store = prepare(
        open_source("files", path=path, cache=folder), normalise="text8", min_count=2, stores=folder / "stores"
    )
    assert isinstance(store, TokenStore)
    return store


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict]:
    assert main(["cache", "--json", *arguments]) == 0
    return {Path(entry["path"]).name: entry for entry in json.loads(capsys.readouterr().out)}


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY,) * 2)


def test_texts_and_kernels_are_listed_with_size_and_last_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = build(folder, "brown")
    (folder / "kernels" / "0123456789abcdef").mkdir(parents=True)
    (folder / "kernels" / "0123456789abcdef" / "kernel.npz").write_bytes(bytes(2000))
    (folder / "stores" / "of somebody").mkdir()
    found = listed(capsys)
    assert found.keys() == {store.path.name, "0123456789abcdef"}
    assert found["0123456789abcdef"]["bytes"] == 2000
    assert "brown.txt" in found[store.path.name]["what"]
    assert "450 tokens" in found[store.path.name]["what"]
    assert main(["cache"]) == 0
    assert "in all" in capsys.readouterr().out


def test_what_is_not_used_is_removed_and_made_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, used = build(folder, "brown"), build(folder, "red")
    for store in (old, used):
        age(store.path, 31)
    build(folder, "red")  # opens the same store, which is a use
    assert listed(capsys, "--prune").keys() == {old.path.name}
    assert listed(capsys).keys() == {used.path.name}
    assert int(old.train.read_ids(0, old.train.tokens).max()) == 7  # whoever has opened it reads on
    assert build(folder, "brown").fingerprint == old.fingerprint
    assert listed(capsys, "--prune", "0").keys() == {old.path.name, used.path.name}
    assert not listed(capsys)
    assert main(["cache", "--prune"]) == 0
    assert capsys.readouterr().out == "removed 0 B\n"


def test_a_killed_preparation_is_removed_and_one_that_goes_on_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, building = folder / "stores" / "ab.parts", folder / "stores" / "cd.building"
    for path in (parts, building):
        path.mkdir(parents=True)
        age(path, 31)
    with locked(parts / "00001.lock"):
        age(parts, 31)
        assert not listed(capsys, "--prune", "30")["cd.building"]["bytes"]
        assert parts.exists()
    for file in (parts, *parts.iterdir()):
        age(file, 31)
    assert listed(capsys, "--prune", "30").keys() == {"ab.parts"}


def test_another_folder_of_stores_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = build(folder, "brown").path.name
    (folder / "stores").rename(folder / "elsewhere")
    assert not listed(capsys)
    assert listed(capsys, "--store", str(folder / "elsewhere")).keys() == {name}


@pytest.mark.parametrize("days", ["-1", "x"])
def test_days_that_are_none_are_refused(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cache", "--prune", days])
    assert days in capsys.readouterr().err
