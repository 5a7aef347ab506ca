"""Texts on web servers that stall, break off, change or answer with something else: errors in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from skiplight.corpus import TokenStore, open_source, prepare
from skiplight.corpus.sources import remote
from skiplight.errors import DataError
from tests.support.servers import FAULTS, WORDS, serving

SIZE = 400_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.1, 0.2))


def tokens(address: str, folder: Path, **options: object) -> int:
    """The number of tokens in a store of the text at an address."""
    source = open_source("files", path=address, cache=folder, timeout=0.5, **options)  # type: ignore[arg-type]
    store = prepare(source, normalise="text8", min_count=1, heldout=0, stores=folder / "stores", threads=1)
    assert isinstance(store, TokenStore)
    return store.train.tokens


MESSAGES = {
    "changes": "its content has changed",
    "grows": "its content has changed",
    "resets": "cannot be read",
    "short": "cannot be read|sent 200,000 of 400,000 bytes",
    "wrong-range": "cannot be read|bytes",
    "stalls": r"sent nothing for 0\.5 seconds \(data\.timeout\)",
    "stalls-at-once": r"sent nothing for 0\.5 seconds \(data\.timeout\)",
    "web-page": r"web page \(text/html\)",
    "no-version": "does not say which version",
    "error": "503",
    "drops": "cannot be read",
}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault in MESSAGES])
def test_a_server_that_misbehaves_is_an_error_in_time(tmp_path: Path, fault: str) -> None:
    begin = time.monotonic()
    with serving(fault, SIZE) as address, pytest.raises(DataError, match=MESSAGES[fault]) as error:
        tokens(address, tmp_path)
    assert address in str(error.value)
    assert time.monotonic() - begin < 15
    assert not [path for path in (tmp_path / "stores").rglob("*") if path.is_file()]


def test_a_connection_that_is_lost_goes_on_where_it_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving("none", SIZE) as address:
        whole = tokens(address, tmp_path / "whole")
    assert whole == pytest.approx(SIZE / len(WORDS) * 10, abs=2)
    with serving("resets-once", SIZE) as address:
        assert tokens(address, tmp_path / "lost") == whole
    assert "trying again" in caplog.text


def test_a_text_that_changes_unseen_is_not_read_twice(tmp_path: Path) -> None:
    """The server always gives the same ETag."""
    with serving("changes-quietly", SIZE) as address:
        source = open_source("files", path=address, cache=tmp_path)
        prepare(source, normalise="unicode", min_count=1, heldout=0, stores=tmp_path / "stores", threads=1)
        with pytest.raises(DataError, match="its content has changed"):
            prepare(source, normalise="none", min_count=1, heldout=0, stores=tmp_path / "stores", threads=1)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "pipe"])
def test_pipes_and_devices_are_no_text(tmp_path: Path, path: str) -> None:
    import os

    if path == "pipe":
        path = str(tmp_path / "pipe")
        os.mkfifo(path)
    with pytest.raises(DataError, match=rf"data\.path={path} is no regular file"):
        open_source("files", path=path, cache=tmp_path)
