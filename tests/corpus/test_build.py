"""A store is built once, whole or not at all: killed, raced, damaged and out of space."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skiplight.corpus import TokenStore, open_source, prepare
from skiplight.corpus.store.segments import SEGMENT_TOKENS
from skiplight.corpus.store.token_store import CHECKSUM_BYTES
from skiplight.errors import DataError

BUILD = """
import logging, sys, time
from pathlib import Path
from skiplight.corpus import open_source, prepare
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
folder = Path(sys.argv[1])
def progress(stage, done):
    print(stage, flush=True)
    if stage == sys.argv[2]:
        time.sleep(float(sys.argv[3]))
source = open_source("files", path=folder / "text.txt", cache=folder)
prepare(source, normalise="text8", min_count=1, stores=folder / "stores", progress=progress)
print("done", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 5_000)
    return tmp_path


def start(folder: Path, stage: str, pause: float) -> subprocess.Popen[str]:
    """Builds in a process that pauses after each batch of a stage."""
    command = [sys.executable, "-c", BUILD, str(folder), stage, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def build(folder: Path) -> TokenStore:
    source = open_source("files", path=folder / "text.txt", cache=folder)
    store = prepare(source, normalise="text8", min_count=1, heldout=0.01, stores=folder / "stores")
    assert isinstance(store, TokenStore)
    return store


def folders(folder: Path) -> list[str]:
    return [entry.name for entry in (folder / "stores").iterdir() if entry.is_dir()]


@pytest.mark.parametrize("stage", ["vocabulary", "encode"])
def test_a_killed_build_is_repaired_by_the_next(folder: Path, stage: str) -> None:
    process = start(folder, stage, 60)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == stage:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = {name.partition(".")[2] for name in folders(folder)}
    assert left == ({"parts"} if stage == "vocabulary" else {"parts", "building"})
    store = build(folder)
    store.verify()
    assert store.train.tokens + store.heldout.tokens == 45_000
    assert folders(folder) == [store.path.name]


def test_two_processes_build_once(folder: Path) -> None:
    processes = [start(folder, "vocabulary", 0.5) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [output.split()[-1] for output in outputs] == ["done", "done"]
    lines = [line for output in outputs for line in output.splitlines()]
    assert sum(line.startswith("preparing ") for line in lines) == 1
    build(folder).verify()


def test_a_full_disk_is_said_and_leaves_nothing(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    open_source("files", path=folder / "text.txt", cache=folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"data\.store=.*stores: cannot be written \(File too large\)"):
            build(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folders(folder) == []
    build(folder).verify()


def test_a_folder_that_cannot_be_made_is_said(folder: Path) -> None:
    (folder / "stores").write_text("a file")
    with pytest.raises(DataError, match=r"data\.store"):
        build(folder)


@pytest.mark.parametrize(
    "name", ["tokens.arrow", "segments.arrow", "heldout-tokens.arrow", "vocabulary.tsv", "heldout-segments.arrow"]
)
def test_a_truncated_or_missing_file_is_named(folder: Path, name: str) -> None:
    path = build(folder).path / name
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(DataError, match=f"{name} has .* bytes, not .*: delete"):
        build(folder)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing: delete"):
        build(folder)


def flip(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["tokens.arrow", "segments.arrow", "vocabulary.tsv"])
def test_a_flipped_bit_is_found_by_verify_and_where_it_is_read(folder: Path, name: str) -> None:
    store = build(folder)
    store.verify()
    flip(store.path / name, (store.path / name).stat().st_size // 2)
    with pytest.raises(DataError, match=f"{name} is damaged.* delete"):
        store.verify()
    with pytest.raises(DataError, match=f"{name} is damaged.* delete"):
        assert build(folder).vocabulary


def test_tokens_are_checked_in_chunks_when_they_are_first_read(tmp_path: Path) -> None:
    tokens = 1_000_000
    (tmp_path / "text.txt").write_text("to be or not to be " * (tokens // 6))
    path = build(tmp_path).path / "tokens.arrow"
    assert path.stat().st_size > 3 * CHECKSUM_BYTES
    flip(path, 2 * CHECKSUM_BYTES + 5)
    store = build(tmp_path)
    segments = CHECKSUM_BYTES // 4 // SEGMENT_TOKENS
    assert len(store.train.select(0, segments).ids) == segments * SEGMENT_TOKENS
    damaged = store.train.select(segments, 3 * segments)
    assert damaged.tokens == 2 * segments * SEGMENT_TOKENS
    for _ in range(2):
        with pytest.raises(DataError, match=rf"tokens\.arrow is damaged near byte {2 * CHECKSUM_BYTES:,}"):
            _ = damaged.ids


def test_no_lock_stays_and_several_processes_build_once(folder: Path) -> None:
    processes = [start(folder, "none", 0) for _ in range(3)]
    for process in processes:
        assert process.wait() == 0
    assert [entry.name for entry in (folder / "stores").iterdir()] == folders(folder)
    assert len(folders(folder)) == 1


def test_a_damaged_header_is_named(folder: Path) -> None:
    path = build(folder).path / "tokens.arrow"
    data = path.read_bytes()
    path.write_bytes(data[:-100] + bytes(100))
    with pytest.raises(DataError, match=r"tokens\.arrow is damaged"):
        build(folder)


def test_a_newer_format_is_refused(folder: Path) -> None:
    path = build(folder).path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(DataError, match=r"newer skiplight \(format 99"):
        build(folder)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        build(folder)
    path.unlink()
    with pytest.raises(DataError, match="not a token store"):
        build(folder)


def test_opening_takes_no_time(folder: Path) -> None:
    path = build(folder).path
    begin = time.perf_counter()
    TokenStore(path)
    assert time.perf_counter() - begin < 0.2


@pytest.mark.parametrize(("text", "documents"), [("a\nb\n", 2), ("a\nb", 2), ("a\n\nb\n", 3), ("a", 1)])
def test_a_newline_at_the_end_begins_no_document(tmp_path: Path, text: str, documents: int) -> None:
    (tmp_path / "text.txt").write_text(text + " a b" * (documents == 1))
    source = open_source("files", path=tmp_path / "text.txt", document="line", cache=tmp_path)
    store = prepare(source, normalise="text8", min_count=1, heldout=0, stores=tmp_path / "stores")
    assert isinstance(store, TokenStore)
    assert store.manifest["documents"] == documents


def test_text_in_another_script_names_the_normaliser(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "text.txt").write_text("привет мир " * 1000)
    source = open_source("files", path=tmp_path / "text.txt", cache=tmp_path)
    with pytest.raises(DataError, match=r"data\.normalise=unicode"):
        prepare(source, normalise="text8", min_count=1, stores=tmp_path / "stores")
    (tmp_path / "text.txt").write_text("привет мир " * 1000 + "one two")
    source = open_source("files", path=tmp_path / "text.txt", cache=tmp_path)
    prepare(source, normalise="text8", min_count=1, heldout=0, stores=tmp_path / "stores")
    assert "data.normalise=unicode" in caplog.text
