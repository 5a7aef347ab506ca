"""Text from servers: read by ranges, again where a request fails, and never of two versions."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skiplight.corpus import Source, open_source
from skiplight.corpus.sources import remote
from skiplight.errors import DataError
from tests.support.range_server import RangeServer, serving

LINES = [f"word{number} " * (number % 40) for number in range(12_000)]


def parquet() -> bytes:
    file = BytesIO()
    pq.write_table(pa.table({"n": range(len(LINES)), "text": LINES}), file, row_group_size=250, compression="none")
    return file.getvalue()


FILES = {
    "a.txt": "\n".join(LINES).encode(),
    "a.jsonl": b"".join(json.dumps({"n": 1, "text": line}).encode() + b"\n" for line in LINES),
    "a.parquet": parquet(),
    "a.txt.gz": gzip.compress("\n".join(LINES).encode()),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setattr(remote, "PAUSES", (0.01,) * 6)
    monkeypatch.setattr(remote, "TIMEOUT", 0.5)
    with serving(dict(FILES)) as server:
        yield server


def source_of(server: RangeServer, reader: str, name: str, folder: Path) -> Source:
    return open_source("files", path=server.url(reader, name), document="line", cache=folder)


def read(source: Source, units: object = None) -> list[str]:
    found: dict[int, str] = {}
    for unit in units or source.units:
        for part in source.read(unit):
            for key, text in zip(part.keys.tolist(), part.texts.to_pylist(), strict=True):
                found[key] = found.get(key, "") + text.removesuffix("\n")
    return list(found.values())


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_each_rank_asks_for_its_share_of_the_bytes(server: RangeServer, tmp_path: Path, name: str, ranks: int) -> None:
    found = []
    for rank in range(ranks):
        source = source_of(server, f"rank{rank}", name, tmp_path)
        units = list(source.units)
        found += read(source, units[rank::ranks])
    assert sorted(found) == sorted(LINES)
    # Of Parquet, the column of the text.
    size = len(FILES[name]) if name != "a.parquet" else sum(len(line) + 4 for line in LINES)
    assert max(server.sent.values()) <= 1.15 / ranks * size


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("fault", ["stall", "reset", "short", "503"])
def test_what_a_server_does_not_answer_is_asked_again(
    server: RangeServer, tmp_path: Path, name: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read(source_of(server, "calm", name, tmp_path))
    source = source_of(server, "fails", name, tmp_path)
    units = list(source.units)[:3]
    asked = {"fails": 0}

    def failing(reader: str) -> str | None:
        asked[reader] += 1
        return fault if asked[reader] in (1, 4) else None

    server.fault = failing
    assert read(source, units) == expected[: len(read(source, units))]
    assert "trying again" in caplog.text


def test_a_server_that_stays_away_is_named(
    server: RangeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(server, "rank", "a.txt", tmp_path)
    units = list(source.units)
    server.fault = lambda reader: "503"
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(
            DataError, match=r"data\.path=http.*/rank/a\.txt: cannot be read, after 7 attempts \(the server answers 503"
        ),
    ):
        read(source, units[:1])
    server.fault = lambda reader: "reset"
    with pytest.raises(DataError, match="after 7 attempts"):
        read(source_of(server, "rank", "a.txt.gz", tmp_path))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet", "a.txt.gz"])
def test_a_file_that_changes_between_requests_is_refused(server: RangeServer, tmp_path: Path, name: str) -> None:
    source = source_of(server, "rank", name, tmp_path)
    units = list(source.units)
    read(source, units[:1])
    server.files[name] = FILES[name].replace(b"word", b"wort") if name != "a.txt.gz" else gzip.compress(b"other\n" * 99)
    with pytest.raises(DataError, match="its content has changed since the text was prepared"):
        read(source, units[-1:])


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_server_without_ranges_gives_a_unit_a_file(server: RangeServer, tmp_path: Path, name: str) -> None:
    server.ranges = False
    source = source_of(server, "rank", name, tmp_path)
    assert len(source.units) == 1
    assert read(source) == LINES
    asked = []
    server.fault = lambda reader: asked.append(reader) or ("short" if len(asked) == 1 else None)
    assert read(source) == LINES  # begun anew, and what was read already passed over


def test_files_of_another_protocol_of_fsspec(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        memory.pipe_file(f"/streams/{name}", data)
        other = remote.RemoteFile(f"memory://streams/{name}", remote.RemoteVersion(len(data) + 1, None, True))
        with pytest.raises(DataError, match="changed"):
            other.read(1)
        file = remote.RemoteFile(f"memory://streams/{name}")
        assert file.read() == data
        file.seek(1000)
        assert (file.read(10), file.tell()) == (data[1000:1010], 1010)
