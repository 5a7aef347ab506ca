"""A text is counted in parts by several processes; a killed preparation goes on; the store is that of one process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from skiplight.corpus import Source, TokenStore, TokenStream, open_source, prepare
from skiplight.corpus.sources.units import Unit
from skiplight.corpus.store.parts import divide_units
from skiplight.files import digest

BUILD = """
import logging, sys, time
from pathlib import Path
from skiplight.corpus import open_source, prepare
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
folder = Path(sys.argv[1])
source = open_source("files", path=folder / "texts", document="line", cache=folder)
def progress(stage, done):
    time.sleep(float(sys.argv[2]) if stage == "vocabulary" else 0)
store = prepare(source, normalise="text8", min_count=2, heldout=0.1, stores=folder / "stores", threads=1,
                progress=progress, streaming=len(sys.argv) > 3)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "texts").mkdir()
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(2000)])
    for number in range(3):
        lines = [" ".join(rng.choice(words, 300)) for _ in range(1500)]  # 2.7 MB
        (folder / "texts" / f"{number}.txt").write_text("\n".join(lines))
    return folder


def source_of(folder: Path) -> Source:
    return open_source("files", path=folder / "texts", document="line", cache=folder)


def build(folder: Path, stores: Path, **options) -> TokenStore | TokenStream:
    return prepare(source_of(folder), normalise="text8", min_count=2, heldout=0.1, stores=stores, **options)


@pytest.fixture(scope="module")
def alone(texts: Path) -> dict[str, str]:
    """The files of a store that one process makes."""
    store = build(texts, texts / "alone")
    assert isinstance(store, TokenStore)
    assert len(divide_units(source_of(texts).units.sizes)) > 4
    return contents(store)


def contents(store: TokenStore) -> dict[str, str]:
    return {path.name: digest(path) for path in store.path.iterdir() if path.name != "manifest.json"}


def start(folder: Path, pause: float, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(folder), str(pause), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def moved(texts: Path, folder: Path) -> Path:
    (folder / "texts").symlink_to(texts / "texts")
    return folder


def done(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("stores/*.parts/[0-9]*/part.json"))


def test_several_processes_make_the_store_of_one(texts: Path, tmp_path: Path, alone: dict[str, str]) -> None:
    folder = moved(texts, tmp_path)
    processes = [start(folder, 0.1) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert all(output.splitlines()[-1] == "done" for output in outputs)
    assert (
        sum("preparing /" in output or "preparing 3 files" in output for output in outputs) > 1
    )  # more than one took part
    store = build(folder, folder / "stores")
    assert isinstance(store, TokenStore)
    assert contents(store) == alone
    assert [entry.name for entry in (folder / "stores").iterdir()] == [store.path.name]


def test_a_killed_preparation_goes_on_with_the_parts_that_are_done(
    texts: Path, tmp_path: Path, alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = moved(texts, tmp_path)
    process = start(folder, 0.3)
    deadline = time.monotonic() + 60
    while len(done(folder)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [int(name) for name in done(folder)]
    source, read = source_of(folder), list[Unit]()
    original = source.read
    source.read = lambda unit: read.append(unit) or original(unit)  # type: ignore[method-assign]
    store = prepare(source, normalise="text8", min_count=2, heldout=0.1, stores=folder / "stores")
    parts = divide_units(source.units.sizes)
    assert {(unit.shard, unit.begin) for unit in read} == {
        source.units[number][:2]
        for part, (first, stop) in enumerate(parts)
        if part not in kept
        for number in range(first, stop)
    }
    assert isinstance(store, TokenStore)
    assert contents(store) == alone
    assert [entry.name for entry in (folder / "stores").iterdir()] == [store.path.name]


def test_the_units_of_a_stream_are_listed_once(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(texts, tmp_path, streaming=True)
    again = source_of(texts)
    monkeypatch.setattr(type(again.loader), "list_units", lambda *arguments: pytest.fail("listed again"))
    second = prepare(again, normalise="text8", min_count=2, heldout=0.1, stores=tmp_path, streaming=True)
    assert isinstance(first, TokenStream)
    assert isinstance(second, TokenStream)
    assert (first.units.table == second.units.table).all()
    assert first.units.files == second.units.files
    assert second.vocabulary.words == first.vocabulary.words


def test_every_unit_is_in_one_part() -> None:
    for sizes in ([], [5], [1] * 7, [10**6] * 100, [1 << 22] * 30_000, [10**9, 1, 1, 10**9]):
        parts = divide_units(np.array(sizes, np.int64))
        assert [unit for first, stop in parts for unit in range(first, stop)] == list(range(len(sizes)))
    assert len(divide_units(np.full(10**6, 4 << 20))) == 3907
